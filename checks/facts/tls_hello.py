"""Whether a server would speak a protocol version that is out of date: one ClientHello of that version, and its answer.

The bytes are our own because a verdict must not hang on what this machine's TLS library still knows: many builds of
OpenSSL speak neither TLS 1.0 nor the cipher suites that go with it, and would call a server that does so clean.
Formats: RFC 5246 (sections 6.2.1, 7.2, 7.4.1), RFC 6066 (server name), RFC 8422 (curves).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

OLD_VERSIONS: Mapping[str, int] = {"SSL 3.0": 0x0300, "TLS 1.0": 0x0301, "TLS 1.1": 0x0302}
_VERSION_NAMES = {number: name for name, number in OLD_VERSIONS.items()} | {0x0303: "TLS 1.2"}

_SUITES: Sequence[int] = (
    *(0xC009, 0xC00A, 0xC013, 0xC014),  # AES with ECDHE
    *(0x002F, 0x0035, 0x0033, 0x0039, 0x0032, 0x0038, 0x0030, 0x0031, 0x0036, 0x0037),  # AES with RSA, DHE and DH
    *(0xC004, 0xC005, 0xC00E, 0xC00F),  # AES with fixed ECDH
    *(0x0041, 0x0045, 0x0044, 0x0084, 0x0088, 0x0087),  # Camellia
    *(0x0096, 0x009A, 0x0099),  # SEED
    *(0x000A, 0x0016, 0x0013, 0xC008, 0xC012, 0xC003, 0xC00D),  # triple DES
    *(0x0005, 0x0004, 0xC007, 0xC011, 0xC002, 0xC00C),  # RC4
    *(0x0009, 0x0015, 0x0012),  # DES
    0x00FF,  # says that secure renegotiation is understood
)
_CURVES = (0x001D, 0x0017, 0x0018, 0x0019)

_HANDSHAKE, _ALERT, _SERVER_HELLO, _WARNING, _CLOSE_NOTIFY = 22, 21, 2, 1, 0
_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    40: "handshake_failure",
    47: "illegal_parameter",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    112: "unrecognized_name",
}
_MISREAD = frozenset({10, 47, 50, 51})
"""Alerts that complain of the question instead of answering it."""


class Outcome(StrEnum):
    """What came of asking for one version. `CLOSED`: the connection ended without a word; `AWAY`: there was none."""

    OFFERED = "offered"
    REFUSED = "refused"
    CLOSED = "closed"
    AWAY = "away"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Attempt:
    """One version that was asked for; `said` is the server's answer in words."""

    outcome: Outcome
    said: str


def hello(version: int, host: str, random: bytes) -> bytes:
    """A ClientHello record that offers `version` and nothing newer. `random` has 32 bytes."""
    body = version.to_bytes(2, "big") + random + b"\0" + _sized(2, _numbers(_SUITES)) + b"\x01\0"
    if version > OLD_VERSIONS["SSL 3.0"]:
        body += _sized(2, b"".join(_extensions(host)))
    return b"\x16" + min(version, 0x0301).to_bytes(2, "big") + _sized(2, b"\x01" + _sized(3, body))


def _extensions(host: str) -> list[bytes]:
    found = [_extension(0x000A, _sized(2, _numbers(_CURVES))), _extension(0x000B, b"\x01\0")]
    if not _is_address(host):
        found.append(_extension(0x0000, _sized(2, b"\0" + _sized(2, host.encode("idna")))))
    return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _extension(number: int, content: bytes) -> bytes:
    return number.to_bytes(2, "big") + _sized(2, content)


def _numbers(values: Sequence[int]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def _sized(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


def answer(data: bytes, version: int) -> Attempt | None:
    """What the bytes received so far say about `version`; None when more are needed. Never raises."""
    while len(data) >= 5:
        kind, major, length = data[0], data[1], int.from_bytes(data[3:5], "big")
        if kind not in (_HANDSHAKE, _ALERT) or major != 3:
            break
        content, data = data[5 : 5 + length], data[5 + length :]
        needed = 6 if kind == _HANDSHAKE else 2
        if length < needed:
            return Attempt(Outcome.UNCLEAR, f"it answered with a record of {length} bytes, which is none of TLS")
        if len(content) < needed:
            return None
        if kind == _HANDSHAKE:
            return _of_handshake(content, version)
        level, alert = content[0], content[1]
        if level != _WARNING or alert == _CLOSE_NOTIFY:
            return _of_alert(alert)
    if data[:1] and (data[0] not in (_HANDSHAKE, _ALERT) or data[1:2] not in (b"", b"\x03")):
        return Attempt(Outcome.UNCLEAR, f"it answered with bytes that are not TLS: {data[:16]!r}")
    return None


def _of_handshake(content: bytes, version: int) -> Attempt:
    if content[0] != _SERVER_HELLO:
        return Attempt(Outcome.UNCLEAR, f"it answered with handshake message {content[0]} before any ServerHello")
    chosen = int.from_bytes(content[4:6], "big")
    name = _VERSION_NAMES.get(chosen, f"version {chosen:#06x}")
    if chosen == version:
        return Attempt(Outcome.OFFERED, f"it answered with a ServerHello of {name}")
    return Attempt(Outcome.REFUSED, f"it answered with a ServerHello of {name} instead")


def _of_alert(alert: int) -> Attempt:
    said = f"it answered with the alert {_ALERTS.get(alert, alert)}"
    return Attempt(Outcome.UNCLEAR if alert in _MISREAD else Outcome.REFUSED, said)
