"""Forged signatures: each message says SUCCESS for an unpaid order, and none is from the gateway."""

from __future__ import annotations

import base64
import binascii

from checks.probes.forging import HEX, Right, Sent, forged, made_up
from checks.probes.probe import REFUSED, Effect, Moot, Need, Probe, Severity, Shown, Turn
from checks.probes.scene import Scene

_VERIFY = (
    "Verify HMAC-SHA256 over path and body with the webhook secret, in constant time, before anything else is done, "
    "and answer 401."
)
_STRICT = "Take exactly the signature's documented form and compare all of it; answer 401 to anything else."
_OWN_PATH = "Verify over the path your webhook is served at, never over one that a message names, and without query."


_SECRETS_OF_NONE = (
    ("an empty secret", "\0"),  # to HMAC a zero byte is the same as nothing
    ("the word undefined for a secret", "undefined"),
    ("the word null for a secret", "null"),
    ("the word None for a secret", "None"),
)
"""What the secret of a service without one, or without a former one, may be."""


def _unsigned(right: Right) -> list[Sent]:
    return [Sent("without any header of the gateway", right.success.body)]


def _empty(right: Right) -> list[Sent]:
    return [right.signed_as("with an empty signature", "")]


def _made_up(right: Right) -> list[Sent]:
    return [
        right.signed_as("with a made-up signature of the right form", made_up(right.signature, right.random)),
        right.signed_as("with a made-up signature of letters no signature has", "z" * len(right.signature)),
        right.signed_as("with a made-up signature that is not ASCII", "\u00e9" * len(right.signature)),
        right.signed_as("with a made-up signature of 4 kB", "a" * 4096),
    ]


def _wrong_secret(right: Right) -> list[Sent]:
    world = right.scene.world
    scheme, messages = world.gateway.scheme, []
    for how, secret in (("another secret", f"{right.random.getrandbits(256):064x}"), *_SECRETS_OF_NONE):
        try:
            signed = scheme.with_secret(secret).sign(right.path, right.success.body, at=world.clock.now())
        except ValueError:
            continue  # the scheme has no such secret
        messages.append(right.signed_by(f"signed with {how}", signed))
    return messages


def _other_bytes(right: Right) -> list[Sent]:
    failure = right.scene.webhook(right.order.link.id, right.order.reference, "FAILURE")
    return [right.signed_by("with the signature of a FAILURE", failure)]


def _truncated(right: Right) -> list[Sent]:
    whole, half = right.signature, len(right.signature) // 2
    made = made_up(whole, right.random)
    return [
        right.signed_as("with the first half of the right signature", whole[:half]),
        right.signed_as("with the right signature but its last character", whole[:-1]),
        right.signed_as("with the first half right and the rest made up", whole[:half] + made[half:]),
        right.signed_as("with the last half right and the rest made up", made[:half] + whole[half:]),
    ]


def _doubled(right: Right) -> list[Sent]:
    return [
        right.signed_as("with the right signature twice in one", right.signature * 2),
        right.signed_as("with the right signature and one character more", right.signature + "0"),
    ]


def _upper_case(right: Right) -> list[Sent]:
    return [right.signed_as("with the right signature in upper case", right.signature.upper())]


def _base64(right: Right) -> list[Sent]:
    """Base64 in place of hex, or the other way round."""
    text = right.signature
    if set(text) <= HEX and len(text) % 2 == 0:
        other = base64.b64encode(bytes.fromhex(text)).decode()
        return [right.signed_as("with the right signature as base64 in place of hex", other)]
    head, comma, tail = text.rpartition(",")
    try:
        other = base64.b64decode(tail, validate=True).hex()
    except (ValueError, binascii.Error):
        raise Moot("the signature is neither hex nor base64") from None
    return [right.signed_as("with the right signature as hex in place of base64", head + comma + other)]


def _prefixed(right: Right) -> list[Sent]:
    return [right.signed_as("with `sha256=` before the right signature", f"sha256={right.signature}")]


def _body_alone(right: Right) -> list[Sent]:
    return [
        right.signed_by("with a signature that leaves the path out", right.scene.signed(right.success.body, path=""))
    ]


def _other_path(right: Right) -> list[Sent]:
    elsewhere = right.path.rsplit("/", 1)[0] + "/elsewhere"
    signed = right.scene.signed(right.success.body, path=elsewhere)
    plain = right.signed_by("with a signature for another path", signed)
    named = {**plain.headers, "X-Original-URI": elsewhere, "X-Rewrite-URL": elsewhere}
    return [plain, Sent("with a signature for another path, which its headers name", plain.body, named)]


def _with_query(right: Right) -> list[Sent]:
    # The path's text is signed before the body's, so both may stand in the body's place.
    asked = f"{right.path}?x=1"
    signed = right.scene.signed(asked.encode() + right.success.body, path="")
    made = right.signed_by("to the path with a query, which the signature covers", signed)
    return [Sent(made.how, made.body, made.headers, path=asked)]


def _sender_unknown(right: Right) -> list[Sent]:
    name = right.scene.world.gateway.scheme.headers.sender
    others = (
        ("an unknown sender", f"IK{right.random.getrandbits(64):016X}"),
        ("one that is not ASCII", "IK\u00e9\u00e9"),
    )
    headers = right.success.headers
    return [Sent(f"in the name of {who}", right.success.body, {**headers, name: other}) for who, other in others]


async def _header_twice(scene: Scene) -> Shown:
    name = scene.world.gateway.scheme.headers.signature
    async with scene.lent(by="webhook.signature-header-twice") as order:
        before = order.standing
        right = Right(scene, order, scene.webhook(order.link.id, order.reference, "SUCCESS"))
        wrong = made_up(right.signature, right.random)
        others = [(n, v) for n, v in right.success.headers.items() if n != name] + [
            ("Content-Type", "application/json")
        ]
        about = "SUCCESS for an unpaid order with two signature headers,"
        replies = []
        for how, values in (
            ("the first one right", (right.signature, wrong)),
            ("the last one right", (wrong, right.signature)),
        ):
            joined = {**right.success.headers, name: ", ".join(values)}
            verified = scene.world.gateway.scheme.verify(
                right.path, right.success.body, joined, at=scene.world.clock.now()
            )
            if verified.accepted:
                raise Moot("the signing scheme allows several signatures in its header")
            headers = [*others, *((name, value) for value in values)]
            replies.append(await scene.send(right.success.body, headers, sent=f"{about} {how}"))
        return Shown(order.reference, tuple(replies), before, await scene.seen_after(order))


ROWS: tuple[Probe, ...] = (
    forged("webhook.unsigned", "SUCCESS for an unpaid order without signature", _unsigned, fix=_VERIFY),
    forged("webhook.signature-empty", "SUCCESS for an unpaid order with an empty signature", _empty, fix=_STRICT),
    forged(
        "webhook.signature-made-up",
        "SUCCESS for an unpaid order with made-up signatures: of the right form, of other letters, not ASCII, of 4 kB",
        _made_up,
        fix=_VERIFY,
    ),
    forged(
        "webhook.signature-of-wrong-secret",
        "SUCCESS for an unpaid order signed with another secret, with an empty one, and with undefined, null and None",
        _wrong_secret,
        fix=_VERIFY,
    ),
    forged(
        "webhook.signature-of-other-bytes",
        "SUCCESS for an unpaid order with the right signature of another message",
        _other_bytes,
        fix=_VERIFY,
    ),
    forged(
        "webhook.signature-truncated",
        "SUCCESS for an unpaid order with a part of the right signature, alone and filled up with made-up characters",
        _truncated,
        fix=_STRICT,
    ),
    forged(
        "webhook.signature-doubled",
        "SUCCESS for an unpaid order with the right signature followed by more",
        _doubled,
        fix=_STRICT,
        severity=Severity.HIGH,
    ),
    forged(
        "webhook.signature-upper-case",
        "SUCCESS for an unpaid order with the right signature in upper case",
        _upper_case,
        fix=_STRICT,
        severity=Severity.MEDIUM,
    ),
    forged(
        "webhook.signature-base64",
        "SUCCESS for an unpaid order with the right signature in another encoding",
        _base64,
        fix=_STRICT,
        severity=Severity.MEDIUM,
    ),
    forged(
        "webhook.signature-prefixed",
        "SUCCESS for an unpaid order with `sha256=` before the right signature",
        _prefixed,
        fix=_STRICT,
        severity=Severity.MEDIUM,
    ),
    forged(
        "webhook.signature-of-body-alone",
        "SUCCESS for an unpaid order with a signature over the body without the path",
        _body_alone,
        fix=_OWN_PATH,
        severity=Severity.HIGH,
    ),
    forged(
        "webhook.signature-of-other-path",
        "SUCCESS for an unpaid order with a signature for another path, which its headers name",
        _other_path,
        fix=_OWN_PATH,
        severity=Severity.HIGH,
    ),
    forged(
        "webhook.signature-with-query",
        "SUCCESS for an unpaid order to the path with a query, signed over both",
        _with_query,
        fix=_OWN_PATH,
        severity=Severity.MEDIUM,
        trusts_scheme=False,
    ),
    Probe(
        "webhook.signature-header-twice",
        "SUCCESS for an unpaid order with two signature headers, one of them right",
        REFUSED,
        Effect.UNCHANGED,
        Severity.HIGH,
        "Refuse a message whose signature header comes twice: proxies and frameworks do not agree on which one counts.",
        _header_twice,
        Turn.FORGED,
    ),
    forged(
        "webhook.sender-unknown",
        "SUCCESS for an unpaid order, signed rightly, in the name of an unknown sender",
        _sender_unknown,
        fix="Compare the sender the message names with your own account's, and answer 401 to any other.",
        severity=Severity.MEDIUM,
        needs=frozenset({Need.SENDER}),
    ),
)
