"""What can be wrong with a release on purpose. A drill or a test builds one in; a normal build has none.

This is the table; how each one breaks the shop is in `faulty/`. The build reads it by itself, so it imports nothing of
the shop.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """`caught_by`: every probe that finds it. Empty where no probe can: the pipeline meets it before or after."""

    promise: str
    caught_by: tuple[str, ...] = ()


_SIGNED = (
    "webhook.unsigned",
    "webhook.signature-empty",
    "webhook.signature-made-up",
    "webhook.signature-of-wrong-secret",
    "webhook.signature-of-other-bytes",
    "webhook.signature-truncated",
    "webhook.signature-doubled",
    "webhook.signature-upper-case",
    "webhook.signature-base64",
    "webhook.signature-prefixed",
    "webhook.signature-of-body-alone",
    "webhook.signature-of-other-path",
    "webhook.signature-with-query",
    "webhook.signature-header-twice",
    "webhook.sender-unknown",
    "webhook.body-byte-changed",
    "webhook.body-key-order",
    "webhook.path-encoded",
)

_OUTSIDE = {
    "secret-in-bundle": Fault("The script every visitor downloads contains the gateway's API secret."),
    "webhook-500": Fault("Every webhook is answered with 500 and has no effect."),
    "slow-initialisation": Fault("Each payment takes six seconds longer to initialise."),
    "error-rate-30": Fault("Three in ten ordinary payments fail with 500; smoke payments do not."),
    "rate-limit-shuts-out-gateway": Fault(
        "Webhooks are limited whatever their signature says, the gateway's among them."
    ),
    "never-ready": Fault("The release starts and never says that it is ready."),
    "crash-on-start": Fault("The release ends with an error while it starts."),
}

_WEBHOOKS = {
    "accepts-unsigned-webhook": Fault("A webhook is accepted whatever its signature says.", _SIGNED),
    "accepts-empty-signature": Fault("An empty signature is taken for a good one.", ("webhook.signature-empty",)),
    "accepts-any-signature": Fault(
        "Anything that looks like a signature is taken for one.",
        (
            "webhook.signature-made-up",
            "webhook.signature-of-wrong-secret",
            "webhook.signature-of-other-bytes",
            "webhook.signature-of-body-alone",
            "webhook.signature-of-other-path",
            "webhook.signature-with-query",
            "webhook.body-byte-changed",
            "webhook.body-key-order",
        ),
    ),
    "signs-nothing-of-the-body": Fault(
        "A signature is good for any status and for neighbouring references.",
        ("webhook.signature-of-other-bytes", "webhook.body-byte-changed", "webhook.body-key-order"),
    ),
    "compares-what-was-given": Fault(
        "Only as many characters are compared as the sender gave.", ("webhook.signature-truncated",)
    ),
    "compares-the-beginning": Fault(
        "A right signature is accepted with more behind it.", ("webhook.signature-doubled",)
    ),
    "ignores-case-of-signature": Fault("Upper and lower case are the same.", ("webhook.signature-upper-case",)),
    "takes-base64-signature": Fault("A signature may be written in base64 too.", ("webhook.signature-base64",)),
    "takes-prefixed-signature": Fault("The name of the hash may stand before it.", ("webhook.signature-prefixed",)),
    "leaves-path-out": Fault(
        "A signature over the body alone is accepted as well.", ("webhook.signature-of-body-alone",)
    ),
    "takes-any-path": Fault(
        "The path that was signed is the one a header of the sender names.", ("webhook.signature-of-other-path",)
    ),
    "signs-the-query": Fault(
        "A signature over the path with its query is accepted as well.", ("webhook.signature-with-query",)
    ),
    "takes-either-header": Fault(
        "Of two signatures it is enough that one is right.", ("webhook.signature-header-twice",)
    ),
    "ignores-sender": Fault("Nobody looks whose application a webhook names.", ("webhook.sender-unknown",)),
    "verifies-raw-bytes": Fault(
        "The bytes as they arrived are verified, and not what they mean.",
        ("webhook.body-white-space", "webhook.body-unicode-escapes"),
    ),
    "sorts-keys": Fault(
        "The members are put in the usual order before the signature is verified.", ("webhook.body-key-order",)
    ),
    "first-duplicate-wins": Fault(
        "The last of two members is verified and the first is acted on.", ("webhook.body-duplicate-keys",)
    ),
    "breaks-on-odd-numbers": Fault("A number that is not whole breaks the webhook.", ("webhook.body-number-forms",)),
    "breaks-on-odd-bytes": Fault(
        "Bytes that are not JSON break the webhook.",
        ("webhook.body-bom", "webhook.body-not-json", "webhook.body-empty"),
    ),
    "breaks-on-odd-shapes": Fault(
        "JSON that is no flat object breaks the webhook.", ("webhook.body-array", "webhook.body-nested-deep")
    ),
    "reads-any-size": Fault("A body of any size is read to its end.", ("webhook.body-large", "payment.body-large")),
    "takes-any-content-type": Fault(
        "Nobody looks at the type of a body, and any charset is decoded.",
        ("webhook.content-type-other", "webhook.charset-other"),
    ),
    "unpacks-bodies": Fault("A compressed body is unpacked.", ("webhook.body-compressed",)),
    "takes-any-method": Fault("The webhook may come by any method.", ("webhook.method-other",)),
    "serves-plain-http": Fault("The port answers without TLS too.", ("webhook.plain-http",)),
    "guards-one-path-only": Fault(
        "Other spellings of the path reach the webhook, and nobody verifies there.",
        ("webhook.path-trailing-slash", "webhook.path-encoded", "webhook.path-other-case"),
    ),
    "takes-unknown-status": Fault("Any status but FAILURE activates the enrolment.", ("webhook.status-unknown",)),
    "enrols-unknown": Fault(
        "A webhook about a reference nobody made makes an active enrolment.", ("webhook.success-for-unknown",)
    ),
    "activates-without-payment": Fault(
        "A webhook that says SUCCESS activates the enrolment, and the gateway is not asked.",
        (
            "webhook.success-for-unpaid",
            "webhook.success-for-failed",
            "webhook.success-denied",
            "webhook.amount-lower",
            "webhook.body-duplicate-keys",
        ),
    ),
    "ignores-the-link": Fault(
        "The gateway is asked about the link of the webhook, whosever it is.", ("webhook.success-of-other-link",)
    ),
    "ignores-amount": Fault(
        "Any amount is accepted for a course, and what was paid is never compared.",
        ("webhook.amount-lower", "payment.amount-not-the-price"),
    ),
    "late-failure-undoes": Fault("A FAILURE undoes an enrolment that was paid.", ("webhook.failure-after-success",)),
    "webhook-not-idempotent": Fault(
        "Each delivery of a paid webhook activates the enrolment once more.",
        ("webhook.success-twice", "webhook.success-fifty-at-once", "webhook.replayed-later"),
    ),
    "activation-races": Fault(
        "Webhooks that arrive together all find the enrolment inactive.", ("webhook.success-fifty-at-once",)
    ),
    "forgets-after-an-hour": Fault(
        "What was done is remembered for an hour and then done again.", ("webhook.replayed-later",)
    ),
    "waits-for-ever": Fault("A body may take as long as it likes.", ("webhook.body-slow",)),
    "acts-on-half-a-body": Fault(
        "What had arrived when the connection was lost is taken for the whole.", ("webhook.connection-dropped",)
    ),
    "ignores-stamp": Fault(
        "A good signature counts however old it is.", ("webhook.stamp-stale", "webhook.stamp-future")
    ),
    "ignores-missing-stamp": Fault("A webhook without a time stamp is believed to be new.", ("webhook.stamp-missing",)),
    "breaks-on-odd-stamps": Fault("A time stamp that is no number breaks it.", ("webhook.stamp-not-a-number",)),
    "ignores-sources": Fault(
        "The list of source addresses is not applied.", ("webhook.source-unlisted", "webhook.source-claimed")
    ),
    "trusts-forwarded-for": Fault("A source is whatever address its own headers claim.", ("webhook.source-claimed",)),
}

_PAYMENTS = {
    "takes-any-whole-amount": Fault(
        "Any whole number is an amount.",
        ("payment.amount-zero", "payment.amount-negative", "payment.amount-not-the-price"),
    ),
    "takes-fractions": Fault("A fraction of a cent is rounded.", ("payment.amount-fraction",)),
    "takes-text-amounts": Fault(
        "Text and truth values are turned into amounts.", ("payment.amount-text", "payment.amount-true")
    ),
    "breaks-on-huge-amounts": Fault("A number without end breaks the payment.", ("payment.amount-huge",)),
    "ignores-currency": Fault("Any currency is taken for rand.", ("payment.currency-other",)),
    "sells-anything": Fault("A course that does not exist costs what is offered.", ("payment.course-unknown",)),
    "makes-up-references": Fault("A payment without a reference gets one.", ("payment.reference-missing",)),
    "repeats-creation": Fault(
        "A used reference gets a new payment in place of its first.",
        ("payment.reference-used", "payment.reference-of-another"),
    ),
    "takes-any-reference": Fault(
        "A reference may be any text.",
        ("payment.reference-long", "payment.reference-markup", "payment.reference-quotes", "payment.reference-nul"),
    ),
    "breaks-on-nul": Fault("A NUL in a reference breaks the payment.", ("payment.reference-nul",)),
    "takes-callers-urls": Fault(
        "The gateway is told the addresses that the request names.",
        ("payment.success-url-injected", "payment.callback-url-injected"),
    ),
    "breaks-on-odd-payment-bodies": Fault(
        "What is not JSON breaks the payment.", ("payment.body-not-json", "payment.amount-huge")
    ),
    "first-duplicate-pays": Fault(
        "The last of two amounts is judged and the first is charged.", ("payment.body-duplicate-keys",)
    ),
    "no-rate-limit": Fault("Nothing is limited, however many requests come from one source.", ("payment.rate-limit",)),
    "waits-for-gateway": Fault("A customer waits as long as the gateway takes.", ("payment.gateway-slow",)),
    "tells-internals": Fault(
        "What the gateway did wrong is told to the customer in full.",
        ("payment.gateway-down", "payment.gateway-nonsense", "payment.gateway-refuses"),
    ),
    "takes-refusal-for-success": Fault(
        "The code in the gateway's answer is not looked at.", ("payment.gateway-refuses",)
    ),
}

FAULTS: Mapping[str, Fault] = {**_OUTSIDE, **_WEBHOOKS, **_PAYMENTS}


def unknown(names: Iterable[str]) -> list[str]:
    """The names that are not in the table."""
    return sorted(set(names) - set(FAULTS))


def read(path: Path) -> tuple[str, ...]:
    """The faults a release carries. Raises ValueError for a file the build did not write."""
    names = json.loads(path.read_text("utf-8"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or unknown(names):
        raise ValueError(f"{path.name}: a list of known faults is expected")
    return tuple(names)
