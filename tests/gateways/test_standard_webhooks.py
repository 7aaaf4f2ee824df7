"""Standard Webhooks, held against plain HMAC and against the scheme's own published library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways import standard_webhooks as standard

KEY = bytes(range(1, 33))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER = "another-made-up-secret"
NOW = 1_700_000_000
BODY = b'{"paylinkID":"2zh1zj6y8xpb0g3","status":"SUCCESS"}'


def by_hand(key: bytes, message_id: str, at: int, body: bytes) -> str:
    """The signature as the scheme's page describes it."""
    signed = message_id.encode() + b"." + str(at).encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def message(secrets: str = SECRET, at: int = NOW, body: bytes = BODY) -> dict[str, str]:
    return standard.sign(standard.keys(secrets), "msg_1", at, body)


def verdict(headers: Any, secrets: str = SECRET, body: bytes = BODY, **more: float) -> standard.Verified:
    return standard.verify(standard.keys(secrets), body, headers, **({"now": NOW} | more))


@given(st.binary(), st.integers(1, 99_999_999_999), st.binary(min_size=1).filter(lambda key: key.strip(b"\0")))
def test_a_message_is_signed_as_the_scheme_says(body: bytes, at: int, key: bytes) -> None:
    """The signature is HMAC-SHA256 over `id.timestamp.body`, and what is signed is accepted."""
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = message(secret, at, body)
    assert headers == {
        "webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": by_hand(key, "msg_1", at, body)
    }  # fmt: skip
    found = verdict(headers, secret, body, now=at)
    assert (found.accepted, found.id, found.sent_at) == (True, "msg_1", at)
    assert verdict(headers, secret.rstrip("="), body, now=at).accepted


def _library() -> Callable[[str], Any]:
    """The scheme's own library where it is installed, else its description in a few lines."""
    if importlib.util.find_spec("standardwebhooks"):
        found: Callable[[str], Any] = importlib.import_module("standardwebhooks").Webhook
        return found

    class Described:
        def __init__(self, secret: str) -> None:
            self._key = base64.b64decode(secret.removeprefix("whsec_"))

        def verify(self, data: bytes, headers: dict[str, str]) -> None:
            wanted = by_hand(self._key, headers["webhook-id"], int(headers["webhook-timestamp"]), data)
            if wanted not in headers["webhook-signature"].split(" "):
                raise ValueError("No matching signature found")

    return Described


def test_the_schemes_own_library_and_we_agree() -> None:
    """The library takes what we sign and refuses what we refuse, also from a sender with several secrets."""
    at = int(time.time())
    other = "whsec_" + base64.b64encode(KEY[::-1]).decode()
    peer = _library()(SECRET)
    good = message(at=at)
    both = good | {"webhook-signature": f"{message(other, at)['webhook-signature']} {good['webhook-signature']}"}
    for headers in (good, both):
        peer.verify(BODY, headers)
        assert verdict(headers, now=at).accepted
    with pytest.raises(Exception, match="No matching signature"):
        peer.verify(BODY, message(other, at))
    assert not verdict(message(other, at), now=at).accepted


def test_secrets_are_rotated_without_a_gap() -> None:
    """Any of several secrets verifies, and the first one signs."""
    old, new = SECRET, OTHER
    assert message(f"{new} {old}") == message(new) != message(old)
    for secrets in (f"{new} {old}", f"{old}\n\t{new}"):
        assert verdict(message(old), secrets).accepted
        assert verdict(message(new), secrets).accepted
    assert not verdict(message(old), new).accepted


GOOD = message()
SIGNATURE = GOOD["webhook-signature"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        GOOD | {"webhook-signature": ""},
        *({k: v for k, v in GOOD.items() if k != missing} for missing in GOOD),
        *([*GOOD.items(), (name.upper(), value)] for name, value in GOOD.items()),
        *([*GOOD.items(), (name, "x")] for name in GOOD),
        GOOD | {"Webhook-Id": "msg_1"},
        *(
            GOOD | {"webhook-timestamp": stamp}
            for stamp in (
                f"{NOW}.0", f" {NOW}", f"{NOW} ", f"{NOW}\n", f"+{NOW}", f"-{NOW}", f"0{NOW}", "1e9", "0", "", "nan",
                "infinity", f"{NOW}_0", f"{NOW}, {NOW}", hex(NOW), "9" * 12, "9" * 5000,
                "".join(chr(0x0660 + int(digit)) for digit in str(NOW)), "\ud800",
            )
        ),
        *(GOOD | {"webhook-id": text} for text in ("", "msg_2", "msg_1 ", "msg.1", "msg_1,msg_1", "\u00e9", "x" * 257)),
        *(
            GOOD | {"webhook-signature": text}
            for text in (
                SIGNATURE[:-1], SIGNATURE + "=", SIGNATURE + "x", SIGNATURE[:20] + "\n" + SIGNATURE[20:],
                SIGNATURE[:10] + "*" + SIGNATURE[10:], f"{SIGNATURE} ", f" {SIGNATURE}", f"{SIGNATURE}  {SIGNATURE}",
                f"{SIGNATURE}, {SIGNATURE}", f"{SIGNATURE},{SIGNATURE}", SIGNATURE.replace("v1", "v2"),
                SIGNATURE.replace("v1,", "V1,"), SIGNATURE.replace("v1,", ""), SIGNATURE.replace("v1,", "v1="),
                SIGNATURE.replace("v1,", "v01,"), f"v1, {SIGNATURE[3:]}", "v1,", "v1", ",", " ", "v1,\ud800",
                SIGNATURE.lower(), SIGNATURE.swapcase(), " ".join([SIGNATURE] * 33), f"{SIGNATURE} junk",
                "v1," + base64.urlsafe_b64encode(b"\xff" * 32).decode(), "v1," + hashlib.sha256(BODY).hexdigest(),
                f"v1,{'A' * 43}= {SIGNATURE[:-1]}",
            )
        ),
    ],
)  # fmt: skip
def test_nothing_but_one_good_set_of_headers_is_accepted(headers: Any) -> None:
    """Missing, doubled, padded, signed, fractional and foreign forms of a right message are refused."""
    found = verdict(headers)
    assert (found.accepted, found.id, found.sent_at) == (False, "", 0)
    assert found.reason


@pytest.mark.parametrize(
    "headers",
    [
        GOOD,
        {name.title(): value for name, value in GOOD.items()},
        [*GOOD.items(), ("x", "1"), ("x", "2")],
        GOOD | {"webhook-signature": f"v1a,{'A' * 86}== v2,x {SIGNATURE} v1,{'A' * 43}="},
        GOOD | {"webhook-signature": " ".join([f"v1,{'A' * 43}="] * 31 + [SIGNATURE])},
    ],
)
def test_what_the_scheme_allows_is_accepted(headers: Any) -> None:
    """Header names in any case, other headers, and signatures of other secrets and versions do not disturb."""
    assert verdict(headers).accepted


def test_the_last_bits_of_base64_cannot_be_played_with() -> None:
    """A spelling that decodes to the same bytes is not the same signature."""
    last = SIGNATURE[-2]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = SIGNATURE[:-2] + alphabet[alphabet.index(last) + 1] + "="
    assert base64.b64decode(twin[3:]) == base64.b64decode(SIGNATURE[3:])
    assert not verdict(GOOD | {"webhook-signature": twin}).accepted


def test_an_id_with_a_full_stop_could_be_read_in_two_ways() -> None:
    """A signed message cannot be cut anew into another ID, time and body."""
    body = b"%d.{}" % (NOW + 1)
    headers = message(body=body)
    cut_anew = headers | {"webhook-id": f"msg_1.{NOW}", "webhook-timestamp": str(NOW + 1)}
    assert by_hand(KEY, f"msg_1.{NOW}", NOW + 1, b"{}") == headers["webhook-signature"]
    assert verdict(headers, body=body).accepted
    assert not verdict(cut_anew, body=b"{}", now=NOW + 1).accepted
    with pytest.raises(ValueError, match="full stop"):
        standard.sign(standard.keys(SECRET), "msg.1", NOW, BODY)


@pytest.mark.parametrize(
    ("now", "more", "accepted"),
    [
        (NOW + 300, {}, True),
        (NOW + 301, {}, False),
        (NOW - 300, {}, True),
        (NOW - 301, {}, False),
        (NOW + 11, {"tolerance_s": 10}, False),
        (NOW - 11, {"tolerance_s": 10}, False),
        (NOW - 11, {"tolerance_s": 10, "ahead_s": 11}, True),
        (NOW + 11, {"tolerance_s": 11, "ahead_s": 0}, True),
        (NOW - 1, {"tolerance_s": 11, "ahead_s": 0}, False),
        (NOW, {"tolerance_s": 0}, True),
        (NOW, {"tolerance_s": -1}, False),
        (math.nan, {}, False),
        (math.inf, {}, False),
        (-math.inf, {}, False),
        (NOW, {"tolerance_s": math.nan}, False),
        (NOW, {"ahead_s": math.nan}, False),
        (NOW, {"tolerance_s": math.nan, "ahead_s": 300}, False),
    ],
)
def test_a_time_stamp_is_good_for_its_tolerance_and_no_longer(
    now: float, more: dict[str, float], accepted: bool
) -> None:
    """Too old and too far ahead are refused, each by its own tolerance, and so is a clock that shows no number."""
    assert verdict(GOOD, now=now, **more).accepted is accepted


@pytest.mark.parametrize(
    "secrets",
    ["", " \n", "whsec_", "whsec_====", "whsec_AAAA", "\0\0", "whsec_QUJ*", "whsec_QU JD", "whsec_A", "whsec_QUJD===",
     "whsec_QQ=Q", "whsec_QR==", "whsec_\u00e9", f"{SECRET} whsec_"],
)  # fmt: skip
def test_a_secret_that_is_none_is_said_to_be(secrets: str) -> None:
    """Empty secrets, zeros alone and what is not base64 are errors that do not repeat the secret."""
    with pytest.raises(ValueError, match=r"secret|base64") as failed:
        standard.keys(secrets)
    assert not any(part in str(failed.value) for part in secrets.replace("whsec_", " ").split() if len(part) > 1)


@pytest.mark.parametrize("keys", [(), (b"",), (b"\0" * 64,), (KEY, b"")])
def test_without_a_secret_nothing_is_accepted(keys: tuple[bytes, ...]) -> None:
    """Not even what was signed with the empty key, which everybody has."""
    for key in (b"", KEY):
        headers = GOOD | {"webhook-signature": by_hand(key, "msg_1", NOW, BODY)}
        assert not standard.verify(keys, BODY, headers, now=NOW).accepted
    if KEY not in keys:
        with pytest.raises(ValueError, match="no secret"):
            standard.sign(keys, "msg_1", NOW, BODY)


@pytest.mark.parametrize("at", [0, -1, 10**11])
def test_a_time_that_cannot_be_verified_is_not_signed(at: int) -> None:
    """What is signed can be verified: times before 1970 or of twelve digits are an error."""
    with pytest.raises(ValueError, match="seconds since 1970"):
        message(at=at)


anything = st.text(st.characters(categories=None), max_size=30)
names = st.sampled_from([*GOOD, *(name.upper() for name in GOOD)]) | anything


@given(
    st.lists(st.tuples(names, anything | st.sampled_from([*GOOD.values(), f"{SIGNATURE} x"])), max_size=6),
    st.binary(),
    st.floats() | st.integers(),
)
def test_verification_is_total(headers: list[tuple[str, str]], body: bytes, now: float) -> None:
    """Nothing that arrives makes verification raise, and only the one right message is accepted."""
    right = {name.lower(): value for name, value in headers if name.lower() in GOOD} == GOOD and body == BODY
    for given_as in (headers, dict(headers)):
        assert not verdict(given_as, body=body, now=now).accepted or right
