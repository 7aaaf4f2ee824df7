"""Requests that no browser sends: right ones changed a little or a lot, correctly signed or not, as bytes on a wire."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hypothesis import strategies as st

from gateways import ikhokha_wire as wire
from tests.sandbox.gateway_rig import APP_ID, SECRET

_LONG_S = 30
"""A server that says nothing for so long never will."""
_TYPES = (
    "application/json",
    "application/json; charset=utf-8",
    "application/json; charset=utf-16",
    "application/json; charset=nonsense",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "text/plain",
    "/",
    "",
    "a/b; c=\u00e9",
)
_NAMES = ("Cookie", "Range", "If-None-Match", "If-Modified-Since", "X-Forwarded-For", "Forwarded", "Accept", "Origin")
_NAMES += ("Accept-Encoding", "Content-Encoding", "Host", "Expect", "X-Original-Uri", "X-Tollgate-Proof", "IK-APPID")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "X")


@dataclass(frozen=True)
class Route:
    """Where requests go, and the body of a right one (None: it has none)."""

    method: str
    path: str
    body: dict[str, Any] | None = None


@dataclass(frozen=True)
class Message:
    """One request. `signed` puts a signature that fits this path and body on it."""

    method: str
    target: bytes
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    signed: bool

    def as_bytes(self) -> bytes:
        """Framed rightly, so that the server has nothing to wait for, and the last of its connection."""
        lines = [f"{self.method} ".encode() + self.target + b" HTTP/1.1"]
        headers = list(self.headers)
        if not any(name == "Host" for name, _ in headers):
            headers.insert(0, ("Host", b"127.0.0.1"))
        if self.signed:
            headers += [(wire.HEADER_APP, APP_ID.encode()), (wire.HEADER_SIGN, self._signature())]
        headers += [("Content-Length", str(len(self.body)).encode()), ("Connection", b"close")]
        lines += [name.encode() + b": " + value for name, value in headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def _signature(self) -> bytes:
        path = self.target.partition(b"?")[0].decode("utf-8", "surrogateescape")
        body = wire.canonical(self.body) if self.body else b""
        text = (self.body if body is None else body).decode("utf-8", "surrogateescape")
        return wire.sign(SECRET, path, text).encode()


async def answered(base: str, trust: ssl.SSLContext, message: Message, source: str) -> int:
    """The status of the answer, 0 where the connection was closed without one. `source` is one of our addresses."""
    parts = urlsplit(base)
    async with asyncio.timeout(_LONG_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=trust, local_addr=(source, 0))
        try:
            writer.write(message.as_bytes())
            while True:
                line = await reader.readline()
                status = int(line.split()[1]) if line else 0
                if not 100 <= status < 200:
                    return status
                while (await reader.readline()).strip():
                    pass
        except ConnectionError:
            return 0
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


def sources(number: int) -> str:
    """Another address of this machine for each number: no rate limit stands before what is to be tried."""
    return f"127.{1 + number // 62500 % 250}.{1 + number // 250 % 250}.{1 + number % 250}"


_text = st.text(max_size=12) | st.sampled_from(["\x00", "\ud83d\ude00", "\u2028", "../..", "'\"<\\", "%00", "a" * 300])
_numbers = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 2**53, 2**63, 2**64])
_leaves = st.none() | st.booleans() | _numbers | _text
_values = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3))


def _changed(right: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """The right body with some members changed, added or left out; sometimes with bytes changed after that."""
    members = st.dictionaries(st.sampled_from(sorted(right)) | _text, _values, max_size=3)
    left_out = st.sets(st.sampled_from(sorted(right)), max_size=1)

    def put(changes: dict[str, Any], without: set[str], ascii_only: bool) -> bytes:
        found = {name: value for name, value in (right | changes).items() if name not in without}
        return json.dumps(found, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    whole = st.builds(put, members, left_out, st.booleans())
    return whole | st.builds(_spoilt, whole, st.lists(st.tuples(st.integers(0), st.binary(max_size=3)), max_size=3))


def _spoilt(body: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    for place, piece in edits:
        at = place % (len(body) + 1)
        body = body[:at] + piece + body[at + 1 :]
    return body


_ODD_BODIES = st.binary(max_size=200) | st.sampled_from(
    [b"", b"null", b"[]", b'""', b"\xef\xbb\xbf{}", b"[" * 9000, b'{"a":' * 3000, b"1" * 9000, b"1e999", b"x" * 100_000]
)
_FORMS = st.sampled_from([b"card=4242&expiry=1&cvc=1&action=pay", b"a=%ff&b", b"&&==", b"card=%00"])
_ascii = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.encode)
_printable = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b > 32 and b != 127))


def _targets(path: str) -> st.SearchStrategy[bytes]:
    known = st.just(path.encode())
    tail = st.sampled_from([b"", b"/", b"?", b"?a=%zz", b"//", b"/%2e%2e", b"#x", b"%", b";a", b"%00"]) | _printable
    start = st.sampled_from([b"", b"", b"/", b"http://x", b"*", b"/."])
    return _mostly(known, st.builds(lambda s, k, t: s + k + t, start, known, tail))


def messages(routes: tuple[Route, ...]) -> st.SearchStrategy[Message]:
    """Requests to these routes. Each part is mostly right, so that the others are looked at."""
    return st.sampled_from(routes).flatmap(_to)


def _to(route: Route) -> st.SearchStrategy[Message]:
    odd = st.tuples(st.sampled_from(_NAMES), (_ascii | st.binary(max_size=20)).map(_one_line))
    typed = _mostly(st.just(b"application/json"), st.sampled_from(_TYPES).map(str.encode))
    kind = typed.map(lambda value: (("Content-Type", value),))
    headers = st.builds(lambda first, more: (*first, *more), kind, _mostly(st.just([]), st.lists(odd, max_size=2)))
    usual = st.just(b"") if route.body is None else _changed(route.body)
    bodies = _mostly(usual, _ODD_BODIES | _FORMS)
    methods = _mostly(st.just(route.method), st.sampled_from(_METHODS))
    signed = _mostly(st.just(True), st.just(False))
    return st.builds(Message, methods, _targets(route.path), headers, bodies, signed)


def _mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 4).flatmap(lambda n: usual if n else odd)


def _one_line(raw: bytes) -> bytes:
    return bytes(b for b in raw if b not in b"\r\n\x00")
