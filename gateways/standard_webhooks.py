"""Standard Webhooks: signing and verifying messages that carry a time stamp.

Standard library only and nothing of this project: a merchant may copy this file as it is.

    webhook-id: msg_1
    webhook-timestamp: 1700000000                 (s since 1970, UTC)
    webhook-signature: v1,BASE64 v1,BASE64        (HMAC-SHA256 over `id.timestamp.body`, the bytes as they arrive)

The path is not signed. `verify` compares in constant time and is total: whatever arrives, it says accepted or refused
and never raises. Act on a message once: its ID is the same when it is sent again, its time stamp is not.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

HEADER_ID = "webhook-id"
HEADER_TIME = "webhook-timestamp"
HEADER_SIGNATURE = "webhook-signature"

TOLERANCE_S = 300.0
SECRET_PREFIX = "whsec_"
MOST_SIGNATURES = 32
"""In one message; a sender gives as many as it has secrets."""

# A full stop parts ID, time and body in what is signed: an ID with one could be read in two ways.
_ID = re.compile(r"[!-+\-/-~]{1,256}")
_TIME = re.compile(r"[1-9][0-9]{0,10}")
_V1 = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
_OTHER_VERSION = re.compile(r"v[0-9]{1,3}[a-z]{0,8},[!-~]{1,512}")


@dataclass(frozen=True)
class Verified:
    """What verification found. `id` and `sent_at` (s since 1970) are '' and 0 when it was refused."""

    accepted: bool
    reason: str
    id: str = ""
    sent_at: int = 0


def keys(secrets: str) -> tuple[bytes, ...]:
    """The keys of secrets that are parted by white space, the one to sign with first.

    `whsec_` and base64 (padded or not) is the key of these bytes; any other text is a key as it stands, in UTF-8.
    Raises ValueError, without the secret, when there is none or one of them signs nothing.
    """
    found = tuple(_key(secret) for secret in secrets.split())
    if not found:
        raise ValueError("there is no secret")
    return found


def sign(keys: Sequence[bytes], message_id: str, sent_at: int, body: bytes) -> dict[str, str]:
    """The three headers of a message, signed with the first key. `sent_at` in s since 1970.

    Raises ValueError for an ID or time that could not be verified, and without a key.
    """
    if not keys or not _signs(keys[0]):
        raise ValueError("there is no secret to sign with")
    if not _ID.fullmatch(message_id):
        raise ValueError("an ID is 1 to 256 visible ASCII characters without full stop and comma")
    time = str(sent_at)
    if not _TIME.fullmatch(time):
        raise ValueError("a time is whole seconds since 1970")
    return {
        HEADER_ID: message_id,
        HEADER_TIME: time,
        HEADER_SIGNATURE: _signature(keys[0], message_id, time, body).decode("ascii"),
    }


def verify(
    keys: Sequence[bytes],
    body: bytes,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    *,
    now: float,
    tolerance_s: float = TOLERANCE_S,
    ahead_s: float | None = None,
) -> Verified:
    """Judges a message against every key. Pairs may name a header twice, which is refused; a mapping hides that.

    `now` in s since 1970; a message may be `tolerance_s` old and `ahead_s` (as much, unless given) ahead of `now`.
    """
    values, refusal = _three(headers)
    if refusal:
        return Verified(False, refusal)
    message_id, time, signatures = values
    if not keys or not all(map(_signs, keys)):
        return Verified(False, "no secret to verify with")
    if not _ID.fullmatch(message_id):
        return Verified(False, "the ID is not 1 to 256 visible ASCII characters without full stop and comma")
    if not _TIME.fullmatch(time):
        return Verified(False, "the time stamp is not whole seconds since 1970")
    given, refusal = _given(signatures)
    if refusal:
        return Verified(False, refusal)
    age = now - int(time)
    # Written so that a `now` or tolerance that is no number refuses.
    if not age <= tolerance_s:
        return Verified(False, "the time stamp is too old")
    if not -age <= (tolerance_s if ahead_s is None else ahead_s):
        return Verified(False, "the time stamp is in the future")
    fits = False
    for key in keys:
        wanted = _signature(key, message_id, time, body)
        for signature in given:
            fits |= hmac.compare_digest(wanted, signature)
    if not fits:
        return Verified(False, "no signature fits ID, time stamp, body and secret")
    return Verified(True, "the signature fits", message_id, int(time))


def _key(secret: str) -> bytes:
    if secret.startswith(SECRET_PREFIX):
        text = secret.removeprefix(SECRET_PREFIX)
        bare = text.rstrip("=")
        padded = bare + "=" * (-len(bare) % 4)
        try:
            key = binascii.a2b_base64(padded.encode("ascii"), strict_mode=True)
        except ValueError:
            raise ValueError(f"what follows {SECRET_PREFIX} is not base64") from None
        if text not in (bare, padded) or base64.b64encode(key).decode("ascii") != padded:
            raise ValueError(f"what follows {SECRET_PREFIX} is not base64")
    else:
        key = secret.encode("utf-8", "surrogatepass")
    if not _signs(key):
        raise ValueError("an empty secret signs nothing")
    return key


def _signs(key: bytes) -> bool:
    # HMAC fills a short key up with zeros: one of zeros alone is the empty key, which everybody has.
    return bool(key.strip(b"\0"))


def _signature(key: bytes, message_id: str, time: str, body: bytes) -> bytes:
    message = b"%b.%b.%b" % (message_id.encode("ascii"), time.encode("ascii"), body)
    return b"v1," + base64.b64encode(hmac.digest(key, message, "sha256"))


def _three(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str, str], str]:
    """ID, time and signatures, or why they cannot be had."""
    found: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        lower = name.lower()
        if lower in (HEADER_ID, HEADER_TIME, HEADER_SIGNATURE):
            if lower in found:
                return ("", "", ""), f"{lower} is there twice"
            found[lower] = value
    for name in (HEADER_ID, HEADER_TIME, HEADER_SIGNATURE):
        if not found.get(name):
            return ("", "", ""), f"no {name}"
    return (found[HEADER_ID], found[HEADER_TIME], found[HEADER_SIGNATURE]), ""


def _given(text: str) -> tuple[list[bytes], str]:
    """The signatures of version 1, or why the header is refused. Well-formed ones of other versions are left out."""
    given = []
    # What is more than the most stays in one part, with a space in it: no signature.
    for part in text.split(" ", MOST_SIGNATURES - 1):
        if _V1.fullmatch(part):
            given.append(part.encode("ascii"))
        elif part.startswith("v1,") or not _OTHER_VERSION.fullmatch(part):
            return [], "the signature is not `v1,` and base64 of 32 bytes"
    if not given:
        return [], "no signature of version 1"
    return given, ""
