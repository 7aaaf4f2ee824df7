"""Changed, odd and oversized bodies."""

from __future__ import annotations

import gzip
import json

from checks.probes.forging import (
    Right,
    Sent,
    changed,
    forged,
    odd,
    reordered,
    signed_or_as,
    spaced,
    with_member,
)
from checks.probes.probe import CLOSED, INVALID, TAKEN, Effect, Probe, Severity, Turn
from checks.probes.scene import Scene

LARGE = 10_000_000
"""Bytes of the large body."""
DIGITS = 5000
"""Digits of the longest number; some languages refuse to read so many."""
DEEP = 3000
"""Levels of the deep one."""

_ALL_BYTES = "Sign and verify all of the body; let no byte of it be left out."
_CANONICAL = (
    "Verify over the canonical form, as JSON.stringify(JSON.parse(body)) prints it: white space and escapes do not "
    "change it, the order of members does. Act on what was verified."
)
_NO_5XX = "Catch what cannot be parsed, whatever it is, and answer 400; see the service's log for what broke."
_JSON_ONLY = "Take `application/json` in UTF-8 without content encoding, and answer 415 to anything else."


def _byte_changed(right: Right) -> list[Sent]:
    reference = right.order.reference
    other = reference[:-1] + ("0" if reference[-1] != "0" else "1")
    like = changed(right.success.body, reference, other)
    return [
        right.of("with one byte changed after it was signed", right.success.body, like=like),
        right.of("with a member added after it was signed", with_member(right.success.body, '"amount":1')),
    ]


def _key_order(right: Right) -> list[Sent]:
    return [right.of("with its members in another order than was signed", reordered(right.success.body))]


def _white_space(scene: Scene, plain: bytes) -> list[Sent]:
    return [Sent("with white space between its members", spaced(plain), scene.signed(plain).headers)]


def _unicode_escapes(scene: Scene, plain: bytes) -> list[Sent]:
    escaped = changed(plain, '"FAILURE"', r'"\u0046AILURE"')
    return [Sent(r"with a letter written as \u0046", escaped, scene.signed(plain).headers)]


def _duplicate_keys(right: Right) -> list[Sent]:
    plain = right.success.body
    doubled = changed(plain, '"status":"SUCCESS"', '"status":"FAILURE","status":"SUCCESS"')
    return [signed_or_as(right.scene, "whose status comes twice, FAILURE first", doubled, plain)]


def _number_forms(scene: Scene, plain: bytes) -> list[Sent]:
    sent = with_member(plain, '"n":[1.0,1e2,-0,1E400,12345678901234567890,0.1e-7]')
    canonical = with_member(plain, '"n":[1,100,0,null,12345678901234567000,1e-8]')
    long = with_member(plain, f'"n":{"9" * DIGITS}')
    return [
        Sent(f"with a number of {DIGITS} digits", long, scene.signed(long).headers),
        signed_or_as(scene, "with numbers in odd forms", sent, canonical),
        Sent("with numbers in odd forms, signed as they stand", sent, scene.signed(sent).headers),
    ]


def _bom(scene: Scene, plain: bytes) -> list[Sent]:
    return [signed_or_as(scene, "with a byte order mark before it", b"\xef\xbb\xbf" + plain, plain)]


def _not_json(scene: Scene, plain: bytes) -> list[Sent]:
    texts = (b"paid", plain[:-1], plain + b"}", b"{'status':'SUCCESS'}", b'{"n":NaN}')
    broken = Sent("that is not UTF-8", plain[:-2] + b'\xff\xfe"}', scene.signed(plain).headers)
    return [*(Sent("whose body is no JSON", text, scene.signed(text).headers) for text in texts), broken]


def _empty(scene: Scene, _plain: bytes) -> list[Sent]:
    return [Sent("with an empty body", b"", scene.signed(b"").headers)]


def _odd_shapes(scene: Scene, plain: bytes) -> list[Sent]:
    members = json.loads(plain)
    shapes: tuple[tuple[str, object], ...] = (
        ("in an array", [members]),
        ("that is the word null", None),
        ("that is a text", "SUCCESS"),
        ("whose members are arrays", {name: [value] for name, value in members.items()}),
        ("whose members are numbers", dict.fromkeys(members, 1)),
        ("whose members end with half a surrogate pair", {name: f"{value}\ud800" for name, value in members.items()}),
        ("whose members end with a NUL", {name: f"{value}\0" for name, value in members.items()}),
        ("without any member", {}),
    )
    texts = [(how, json.dumps(shape, separators=(",", ":")).encode()) for how, shape in shapes]
    return [Sent(how, text, scene.signed(text).headers) for how, text in texts]


def _deep(scene: Scene, plain: bytes) -> list[Sent]:
    body = with_member(plain, '"n":' + "[" * DEEP + "]" * DEEP)
    return [Sent(f"with a member nested {DEEP} deep", body, scene.signed(body).headers)]


def _large(right: Right) -> list[Sent]:
    plain = right.success.body
    body = plain[:1] + b" " * LARGE + plain[1:]
    whole = signed_or_as(right.scene, f"with {LARGE // 1_000_000} MB of white space in it", body, plain)
    headers = {**whole.headers, "Transfer-Encoding": "chunked"}
    return [whole, Sent(f"{whole.how}, in chunks without Content-Length", body, headers)]


def _content_types(right: Right) -> list[Sent]:
    kinds = ("text/plain", "application/x-www-form-urlencoded", "application/xml")
    headers = right.success.headers
    return [Sent(f"as {kind}", right.success.body, {**headers, "Content-Type": kind}) for kind in kinds]


def _charset(right: Right) -> list[Sent]:
    headers = {**right.success.headers, "Content-Type": "application/json; charset=utf-16"}
    return [Sent("in UTF-16, as its Content-Type says", right.success.body.decode().encode("utf-16"), headers)]


def _compressed(right: Right) -> list[Sent]:
    headers = {**right.success.headers, "Content-Encoding": "gzip"}
    return [Sent("compressed with gzip", gzip.compress(right.success.body, mtime=0), headers)]


ROWS: tuple[Probe, ...] = (
    forged(
        "webhook.body-byte-changed",
        "SUCCESS with one byte changed, or a member added, after it was signed",
        _byte_changed,
        fix=_ALL_BYTES,
    ),
    odd(
        "webhook.body-white-space",
        "a signed FAILURE of a payment nobody made, with white space put in: right where the canonical form is signed",
        _white_space,
        fix=_CANONICAL,
        answers=(*TAKEN, 400, 401, 403, 404),
        as_scheme_says=True,
    ),
    forged(
        "webhook.body-key-order",
        "SUCCESS with its members in another order than was signed",
        _key_order,
        fix=_CANONICAL,
        severity=Severity.MEDIUM,
    ),
    forged(
        "webhook.body-duplicate-keys",
        "SUCCESS for an unpaid order whose status comes twice, FAILURE first",
        _duplicate_keys,
        fix="Refuse duplicate members, or let the last one win in verification and effect alike.",
        severity=Severity.HIGH,
        answers=(*TAKEN, *INVALID),
        effect=Effect.NOT_FAILED,
        turn=Turn.ASKING,
        trusts_scheme=False,
    ),
    odd("webhook.body-number-forms", "correctly signed webhooks with numbers in odd forms", _number_forms, fix=_NO_5XX),
    odd(
        "webhook.body-unicode-escapes",
        r"a signed FAILURE of a payment nobody made, a letter as \u0046: right where the canonical form is signed",
        _unicode_escapes,
        fix=_CANONICAL,
        answers=(*TAKEN, 400, 401, 403, 404),
        as_scheme_says=True,
    ),
    odd("webhook.body-bom", "a webhook with a byte order mark before its body", _bom, fix=_NO_5XX),
    odd(
        "webhook.body-not-json",
        "signed bodies that are no JSON, and one that is not UTF-8",
        _not_json,
        fix=_NO_5XX,
        answers=INVALID,
        turn=Turn.FORGED,
    ),
    odd(
        "webhook.body-empty",
        "a signed webhook with an empty body",
        _empty,
        fix=_NO_5XX,
        answers=INVALID,
        turn=Turn.FORGED,
    ),
    odd(
        "webhook.body-array",
        "correctly signed JSON of other shapes: an array, null, a text, members of other types or not to be stored",
        _odd_shapes,
        fix="Judge the type of the whole and of each member after verifying, and answer 400 to other shapes.",
    ),
    odd(
        "webhook.body-nested-deep",
        f"a signed webhook with a member nested {DEEP} deep",
        _deep,
        fix="Limit the size of a body before it is parsed, and catch what a parser raises for deep nesting.",
    ),
    forged(
        "webhook.body-large",
        "a signed SUCCESS for an unpaid order with 10 MB of white space in it, with its length told and in chunks",
        _large,
        fix="Count while you read, stop beyond a few kilobytes, and answer 413 or close the connection.",
        severity=Severity.HIGH,
        answers=(*INVALID, CLOSED),
        trusts_scheme=False,
    ),
    forged(
        "webhook.content-type-other",
        "a signed SUCCESS for an unpaid order as text, form data and XML",
        _content_types,
        fix=_JSON_ONLY,
        severity=Severity.MEDIUM,
        answers=INVALID,
        trusts_scheme=False,
    ),
    forged(
        "webhook.charset-other",
        "a signed SUCCESS for an unpaid order in UTF-16",
        _charset,
        fix=_JSON_ONLY,
        severity=Severity.MEDIUM,
        answers=INVALID,
        trusts_scheme=False,
    ),
    forged(
        "webhook.body-compressed",
        "a signed SUCCESS for an unpaid order, compressed with gzip",
        _compressed,
        fix=_JSON_ONLY + " A small body unpacked can fill the memory.",
        severity=Severity.MEDIUM,
        answers=INVALID,
        trusts_scheme=False,
    ),
)
