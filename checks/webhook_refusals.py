"""webhook.refuses_unsigned, webhook.refuses_wrong_signature, webhook.refuses_tampered: three rows of one table.

Each has a smoke payment of its own that is never paid. A correctly signed FAILURE for it is sent first and last and
must be accepted: without that a refusal proves nothing. The forged ones say SUCCESS, and the effect is read, too.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from checks.facts.payments import Standing, read_standing, unpaid
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, SecurityEvent, SignedWebhook, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict, failed, inconclusive, passed

SETTLE_S = 0.5
"""How long the effect of a forged webhook may take to show."""

REFUSED = (400, 401, 403)


@dataclass(frozen=True)
class Signed:
    """What the gateway itself would send about one payment: two messages that differ in their status alone."""

    failure: SignedWebhook
    success: SignedWebhook

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The headers that depend on the body: they carry the signature, whatever the scheme calls them."""
        return tuple(name for name, value in self.success.headers.items() if self.failure.headers.get(name) != value)


@dataclass(frozen=True)
class Forged:
    """A webhook the gateway never sent. `label` says what is wrong with it."""

    label: str
    body: bytes
    headers: Mapping[str, str]


def unsigned(signed: Signed, _random: Random) -> Sequence[Forged]:
    emptied = dict.fromkeys(signed.signature_headers, "")
    return (
        Forged("without any header of the gateway", signed.success.body, {}),
        Forged("with an empty signature", signed.success.body, {**signed.success.headers, **emptied}),
    )


def wrongly_signed(signed: Signed, random: Random) -> Sequence[Forged]:
    headers = signed.success.headers
    names = signed.signature_headers
    return (
        Forged(
            "with a made-up signature",
            signed.success.body,
            {**headers, **{n: _made_up(headers[n], random) for n in names}},
        ),
        Forged(
            "with one character changed", signed.success.body, {**headers, **{n: _one_off(headers[n]) for n in names}}
        ),
    )


def tampered(signed: Signed, _random: Random) -> Sequence[Forged]:
    padded = signed.success.body.rstrip().removesuffix(b"}") + b',"tampered":true}'
    return (
        Forged("FAILURE turned into SUCCESS", signed.success.body, signed.failure.headers),
        Forged("with a member added", padded, signed.success.headers),
    )


def _made_up(signature: str, random: Random) -> str:
    """As long as the real one and of the same kind of characters."""
    alphabet = "0123456789abcdef" if set(signature) <= set("0123456789abcdef") else string.ascii_letters + string.digits
    made_up = "".join(random.choice(alphabet) if c.isalnum() else c for c in signature)
    return made_up if made_up != signature else _one_off(signature)


def _one_off(signature: str) -> str:
    """The real one with a character in its middle changed: the last of a base64 text may carry no information."""
    for at in range(len(signature) // 2, len(signature)):
        if signature[at].isalnum():
            return signature[:at] + ("0" if signature[at] != "0" else "1") + signature[at + 1 :]
    return signature + "0"


@dataclass(frozen=True)
class Answered:
    label: str
    status: int
    took_ms: float

    def __str__(self) -> str:
        return f"{self.label}: {self.status} in {self.took_ms:g} ms"


@dataclass(frozen=True)
class Refusals:
    """`first` and `last` answer the correctly signed control; `before` and `after` frame the forged ones."""

    reference: str
    first: Answered
    before: Standing
    forged: tuple[Answered, ...]
    after: Standing
    last: Answered


async def _observe(world: World, purpose: str, forge: Callable[[Signed, Random], Sequence[Forged]]) -> Refusals:
    created, link = await unpaid(world, purpose)
    path, reference = world.spec.contract.webhook, created.reference
    signed = Signed(
        world.gateway.webhook(path, link.id, reference, "FAILURE"),
        world.gateway.webhook(path, link.id, reference, "SUCCESS"),
    )
    control = Forged("correctly signed", signed.failure.body, signed.failure.headers)
    first = await _post(world, control)
    before = await read_standing(world, reference)
    forged = []
    for one in forge(signed, world.random):
        world.security(SecurityEvent(world.clock.now(), "probe.sent", purpose, f"a webhook {one.label}", reference))
        forged.append(await _post(world, one))
    await world.clock.sleep(SETTLE_S)
    after = await read_standing(world, reference)
    return Refusals(reference, first, before, tuple(forged), after, await _post(world, control))


async def _post(world: World, one: Forged) -> Answered:
    answer = await world.service.post_webhook(one.body, one.headers)
    return Answered(one.label, answer.status, answer.took_ms)


@unless_finding
def judge(fact: Refusals, _params: NoParams) -> Finding:
    measured = {
        "reference": fact.reference,
        "control": [fact.first.status, fact.last.status],
        "answers": [{"sent": a.label, "status": a.status, "took_ms": a.took_ms} for a in fact.forged],
        "before": dict(fact.before.as_data()),
        "after": dict(fact.after.as_data()),
    }
    if not fact.forged:
        return inconclusive(
            "no forged webhook was sent, so none was refused", "This is a bug in the check.", **measured
        )
    if _changed(fact):
        return failed(
            f"forged webhooks for {fact.reference} had an effect ({_told(fact)}): before: {fact.before}; "
            f"after: {fact.after}; expected no change",
            "Verify the signature before anything else is done with a webhook, and ask the gateway before activating.",
            **measured,
        )
    not_refused = [finding for answer in fact.forged if (finding := _accepted(answer, measured)) is not None]
    # What was let in is a failure whatever the control says; a refusal is worth what the control is worth.
    got_in = next((finding for finding in not_refused if finding.verdict is Verdict.FAIL), None)
    finding = got_in or _control(fact, measured) or next(iter(not_refused), None)
    if finding is not None:
        return finding
    return passed(
        f"forged webhooks for {fact.reference} were refused without effect ({_told(fact)}); correctly signed ones are "
        f"accepted ({fact.first.status} in {fact.first.took_ms:g} ms before, {fact.last.status} in "
        f"{fact.last.took_ms:g} ms after)",
        **measured,
    )


def _told(fact: Refusals) -> str:
    return ", ".join(str(answer) for answer in fact.forged)


def _control(fact: Refusals, measured: Mapping[str, object]) -> Finding | None:
    """The finding when refusals prove nothing."""
    for control, when in ((fact.first, "before"), (fact.last, "after")):
        if not 200 <= control.status < 300:
            return inconclusive(
                f"a correctly signed webhook for {measured['reference']}, sent {when} the forged ones, was answered "
                f"{control.status} in {control.took_ms:g} ms, expected 2xx; so no refusal proves anything",
                "Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application "
                "Secret; a 5xx is in the service's log; after a 429 wait a minute.",
                **measured,
            )
    return None


def _changed(fact: Refusals) -> bool:
    """The forged ones say SUCCESS: their effect is an activation or `paid`. Among the other states a payment may move
    by itself, or late by our signed FAILURE."""
    activated = (fact.before.active, fact.before.activations) != (fact.after.active, fact.after.activations)
    return activated or (fact.after.status == "paid" != fact.before.status)


def _accepted(answer: Answered, measured: Mapping[str, object]) -> Finding | None:
    """The finding for a forged webhook that was not refused; None when it was."""
    about = f"a webhook {answer.label} for {measured['reference']}"
    told = f"{about} was answered {answer.status} in {answer.took_ms:g} ms; expected 401"
    if answer.status in REFUSED:
        return None
    if answer.status == 429:
        return inconclusive(
            f"{told}: the rate limit answered, which is no refusal",
            "Wait a minute, or lower the traffic from this address, then run again.",
            **measured,
        )
    if answer.status >= 500:
        return failed(
            f"{told}: no bytes of a stranger may break the service",
            "Catch malformed and missing signatures where they are verified and answer 401; see the service's log.",
            **measured,
        )
    return failed(
        told,
        "Verify HMAC-SHA256 over path and body with the webhook secret, in constant time, and answer 401 "
        "before anything else is done.",
        **measured,
    )


def _row(name: str, promise: str, why: str, sends: str, forge: Callable[[Signed, Random], Sequence[Forged]]) -> Check:
    @or_finding
    async def gather(world: World, _params: NoParams) -> Refusals:
        return await _observe(world, name, forge)

    return Check(
        name=name,
        promise=promise,
        rows=("G3", "G9", "G11", "G14", "T6"),
        gather=gather,
        judge=judge,
        params=NoParams,
        network=True,
        when=When.LIVE,
        why=why,
        pci=("6.5.1",),
        acceptable=False,
        looks_at=(
            f"The answers to {sends}, for a smoke payment that nobody pays, and what the service says of that payment "
            "before and after. A correctly signed webhook is sent first and last and must be accepted."
        ),
        fix=(
            "Verify HMAC-SHA256 over path and body with the webhook secret, in constant time, and answer 401 before "
            "anything else is done. Where the correctly signed one was refused: webhook signature mismatch, compare "
            "`VITE_IKHOKHA_WEBHOOK_SECRET` with the gateway's Application Secret."
        ),
        see_it_fail="`./inv drill --fault accepts-unsigned-webhook` deploys a shop that verifies no signature.",
        says=("Webhook signature mismatch",),
    )


UNSIGNED = _row(
    "webhook.refuses_unsigned",
    "A webhook without a signature is refused and changes nothing.",
    "Anybody can post to a public address.",
    "webhooks without the gateway's headers and with an empty signature",
    unsigned,
)
WRONG_SIGNATURE = _row(
    "webhook.refuses_wrong_signature",
    "A webhook with a signature that is not the gateway's is refused and changes nothing.",
    "A signature that is only looked for, not verified, is no signature.",
    "webhooks with a made-up signature and with the right one changed in one character",
    wrongly_signed,
)
TAMPERED = _row(
    "webhook.refuses_tampered",
    "A webhook that was changed after it was signed is refused and changes nothing.",
    "A failed attempt turned into a success would be a free course.",
    "webhooks whose body was changed after it was signed",
    tampered,
)
