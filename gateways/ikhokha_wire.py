"""iKhokha's wire format: paths, header names, the signature and the canonical form it is made over.

Standard library only and nothing of this project: a merchant may copy this file as it is.

A signature is HMAC-SHA256, in lower-case hex, over `escape(path + body)`: the path without host and query, the
body as `JSON.stringify(JSON.parse(body))` would print it. So `canonical` prints JSON as JavaScript does. Neither
it nor the `verify` functions ever raise, whatever bytes arrive.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

API = "/public-api/v1/api"
PAYMENT_PATH = f"{API}/payment"
STATUS_PATH = f"{API}/getStatus"
"""Followed by `/` and the paylinkID."""
STATUS_EXTERNAL_PATH = f"{API}/getStatus/external"
HISTORY_PATH = f"{API}/payments/history"

HEADER_APP = "IK-APPID"
HEADER_SIGN = "IK-SIGN"

OK = "00"
"""The only `responseCode` that is a success."""
BAD_SIGNATURE = "IK-001"
PAID = "PAID"
"""Paid, in the words of a status answer."""
SUCCESS = "SUCCESS"
"""Paid, in the words of a webhook."""
FAILURE = "FAILURE"
FAILURE_CODE = "05"
"""`responseCode` of a FAILURE webhook. Assumption: the real values are not public."""

MAX_DEPTH = 64
"""Arrays and objects nested deeper than this have no canonical form here."""

_GRAMMAR = re.compile(rb"[0-9a-f]{64}")
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_MAX_ARRAY_INDEX = 2**32 - 2
_MAX_SAFE_INTEGER = 2**53 - 1
_SIMPLE_NAME = r'"[A-Za-z_][A-Za-z0-9_]*"'
_SIMPLE_VALUE = r'(?:"[ !#-\[\]-\U0010ffff]*"|0|-?[1-9][0-9]{0,14}|true|false|null)'
_SIMPLE = re.compile(rf"\{{{_SIMPLE_NAME}:{_SIMPLE_VALUE}(?:,{_SIMPLE_NAME}:{_SIMPLE_VALUE})*\}}")
"""A flat object that prints as it stands, unless a name is there twice. The webhooks of a careful sender are such."""
_SIMPLE_MEMBER = re.compile(rf"({_SIMPLE_NAME}):{_SIMPLE_VALUE}")
_IN_STRING = re.compile('[\x00-\x1f"\\\\\ud800-\udfff]')
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class Verified:
    """What verification found. `body` is the text that was verified, b'' when refused: act on it, not on the raw bytes.

    `raw_differs`: the bytes that arrived are not the ones that were signed, only their canonical form is.
    """

    accepted: bool
    reason: str
    body: bytes = b""
    raw_differs: bool = False


def escape(text: str) -> str:
    """Puts a backslash before each backslash, double and single quote, in one pass."""
    return _escaped(_utf8(text)).decode("utf-8", "surrogatepass")


def sign(secret: str, path: str, body: str | bytes = "") -> str:
    """The signature of a request or webhook: 64 lower-case hex characters. Raises ValueError on an empty secret.

    `path` is the URL's path without query; `body` is the exact JSON text sent, empty for GET.
    """
    key = secret.strip()
    if not key:
        raise ValueError("an empty secret signs nothing")
    message = _escaped(_utf8(path) + (_utf8(body) if isinstance(body, str) else body))
    return hmac.digest(_utf8(key), message, "sha256").hex()


def verify(secret: str, path: str, body: bytes, signature: str | bytes | None) -> Verified:
    """Judges a webhook that arrived at `path`. A member `text` is left out of what was signed, as iKhokha does."""
    return _verify(secret, path, body, signature, without="text", may_be_empty=False)


def verify_request(secret: str, path: str, body: bytes, signature: str | bytes | None) -> Verified:
    """Judges a request to the API, as the gateway does. An empty body is a GET's."""
    return _verify(secret, path, body, signature, without=None, may_be_empty=True)


def canonical(body: bytes) -> bytes | None:
    """`JSON.stringify(JSON.parse(body))` as UTF-8, or None where there is none.

    None: not UTF-8, a byte order mark, not JSON (NaN and Infinity are not), nested deeper than MAX_DEPTH.
    """
    return _canonical(body, without=None)


def serialise(value: Mapping[str, object]) -> str:
    """The JSON text of a request, canonical as it stands. Raises ValueError for what JSON or JavaScript cannot hold."""
    return _text(dict(value), 0)


def webhook_text(link_id: str, reference: str, status: str) -> str:
    """The body of a webhook. `status` is SUCCESS or FAILURE."""
    code = OK if status == SUCCESS else FAILURE_CODE
    return serialise({"paylinkID": link_id, "status": status, "externalTransactionID": reference, "responseCode": code})


def _verify(
    secret: str, path: str, body: bytes, signature: str | bytes | None, *, without: str | None, may_be_empty: bool
) -> Verified:
    if not secret.strip():
        return Verified(False, "no secret to verify with")
    if signature is None:
        return Verified(False, "no signature")
    given = _utf8(signature) if isinstance(signature, str) else signature
    if not _GRAMMAR.fullmatch(given):
        return Verified(False, "the signature is not 64 lower-case hex characters")
    signed = b"" if may_be_empty and not body else _canonical(body, without=without)
    if signed is None:
        return Verified(False, "the body is not JSON")
    wanted = sign(secret, path, signed).encode()
    if not hmac.compare_digest(wanted, given):
        return Verified(False, "the signature does not fit path, body and secret")
    return Verified(True, "the signature fits", signed, raw_differs=signed != body)


def _canonical(body: bytes, *, without: str | None) -> bytes | None:
    body = bytes(body)
    if _prints_as_it_stands(body, without):
        return body
    try:
        # Every number becomes a double, as in JavaScript; a duplicate member keeps its first place and last value.
        value = json.loads(body.decode("utf-8"), parse_int=float, parse_constant=_not_json)
        if without is not None and isinstance(value, dict):
            value.pop(without, None)
        return _text(value, 0).encode("utf-8")
    except (ValueError, RecursionError):
        return None


def _prints_as_it_stands(body: bytes, without: str | None) -> bool:
    """True where the form is seen to be canonical at a glance, several times sooner than by printing it."""
    try:
        text = body.decode("utf-8")
    except ValueError:
        return False
    if not _SIMPLE.fullmatch(text):
        return False
    names = _SIMPLE_MEMBER.findall(text)
    return len(set(names)) == len(names) and f'"{without}"' not in names


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _text(value: object, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int():
            if abs(value) > _MAX_SAFE_INTEGER:
                raise ValueError("an integer that JavaScript cannot hold")
            return str(value)
        case float():
            return _number(value)
        case list():
            return "[" + ",".join(_text(item, depth + 1) for item in value) + "]"
        case dict():
            return "{" + ",".join(f"{_string(k)}:{_text(value[k], depth + 1)}" for k in _members(value)) + "}"
        case _:
            raise ValueError(f"{type(value).__name__} is no JSON value")


def _members(value: dict[str, object]) -> list[str]:
    """Array indices first, in ascending order, then the rest as they came."""
    indices = [k for k in value if _ARRAY_INDEX.fullmatch(k) and int(k) <= _MAX_ARRAY_INDEX]
    if not indices:
        return list(value)
    first = set(indices)
    return sorted(indices, key=int) + [k for k in value if k not in first]


def _string(value: str) -> str:
    return '"' + _IN_STRING.sub(lambda m: _SHORT.get(m[0]) or f"\\u{ord(m[0]):04x}", value) + '"'


def _number(value: float) -> str:
    """A double as ECMAScript's Number::toString prints it; what is infinite becomes null, as in JSON.stringify."""
    if not math.isfinite(value):
        return "null"
    if value == 0:
        return "0"
    sign_text = "-" if value < 0 else ""
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or "0") - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign_text + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign_text}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign_text}0.{'0' * -point}{digits}"
    exponent = point - 1
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign_text}{digits[0]}{rest}e{'+' if exponent > 0 else '-'}{abs(exponent)}"


def _escaped(message: bytes) -> bytes:
    # The backslash first: then what the others add is not escaped again, and it is one pass.
    return message.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"'", b"\\'")


def _utf8(text: str) -> bytes:
    # Lone surrogates can reach us from a server's path or headers; they must not raise.
    return text.encode("utf-8", "surrogatepass")
