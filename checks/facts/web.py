"""Asking for pages and files as a stranger's browser would: no cookie is kept, no redirect followed, all is bounded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

from checks.facts.html import absolute, origin
from pipeline.contracts import World

if TYPE_CHECKING:
    import httpx

LIMIT_S = 10.0
"""For one whole exchange."""

_AT_ONCE = 4
_MOVES = (301, 302, 303, 307, 308)
_MOST_MOVES = 3
_GZIP = 31
"""For zlib. No other coding is asked for: the readers of some bound no output."""


class _Unread(Exception):
    """A body that nobody can read; the message says why."""


@dataclass(frozen=True)
class Served:
    """One answer. `headers` are as sent, names in lower case, values as Latin-1. `cut`: the body was longer.

    Where there was no answer, `status` is 0 and `problem` says why. `took_ms` is the whole exchange.
    """

    method: str
    url: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: bool = False
    problem: str = ""
    took_ms: int = 0

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value.strip() for header, value in self.headers if header == name)

    @property
    def media_type(self) -> str:
        return next(iter(self.all("content-type")), "").partition(";")[0].strip().lower()

    @property
    def target(self) -> str:
        """Where a redirect leads; '' when the answer is none."""
        moves = self.status in _MOVES
        return absolute(self.url, next(iter(self.all("location")), "")) if moves else ""

    def __str__(self) -> str:
        told = f"answered {self.status}" if self.status else f"no answer ({self.problem})"
        return f"{self.method} {self.url}: {told} after {self.took_ms} ms"


class Visitor:
    """Asks the service and whoever its pages name. Whatever an answer holds, `ask` raises nothing."""

    def __init__(self, world: World, client: httpx.AsyncClient) -> None:
        from pipeline.service import PROOF_HEADER

        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._client = client
        self._clock = world.clock
        self._home = origin(world.addresses.service)
        # While the door is closed for a run, the run's own proofs may pass; nobody else ever sees the token.
        self._proof = {PROOF_HEADER: world.run.proof_token.reveal()}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def is_home(self, url: str) -> bool:
        """Whether the service itself answers there."""
        return origin(url) == self._home

    async def ask(
        self,
        url: str,
        *,
        largest: int,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Served:
        """`largest` bounds the body that is kept, in bytes after decompression."""
        async with self._turn:
            begun = self._clock.monotonic()
            served = await self._answer(method, url, largest, headers or {}, content)
            return replace(served, took_ms=round((self._clock.monotonic() - begun) * 1000))

    async def _answer(
        self, method: str, url: str, largest: int, headers: Mapping[str, str], content: bytes | None
    ) -> Served:
        import httpx

        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._asked(method, url, largest, headers, content)
        except TimeoutError:
            return Served(method, url, 0, problem=f"not within {LIMIT_S:g} s")
        except _Unread as unread:
            return Served(method, url, 0, problem=str(unread))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Served(method, url, 0, problem=f"{type(error).__name__}: {error}"[:200])

    async def _asked(
        self, method: str, url: str, largest: int, headers: Mapping[str, str], content: bytes | None
    ) -> Served:
        proof = self._proof if self.is_home(url) else {}
        sent = {"Accept-Encoding": "gzip", **proof, **headers}
        async with self._client.stream(
            method, url, headers=sent, content=content, timeout=LIMIT_S, follow_redirects=False
        ) as response:
            body = _Body(response.headers.get("content-encoding", ""), largest)
            async for chunk in response.aiter_raw():
                if body.take(chunk):
                    break
        raw = tuple((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in response.headers.raw)
        return Served(method, url, response.status_code, raw, body.whole(), body.cut)

    async def follow(self, url: str, *, largest: int) -> tuple[Served, ...]:
        """Asks as a browser does for a file: redirects are followed, wherever they lead. The last answer is last."""
        answers = [await self.ask(url, largest=largest)]
        while len(answers) <= _MOST_MOVES and (target := answers[-1].target):
            answers.append(await self.ask(target, largest=largest))
        return tuple(answers)


class _Body:
    """A body as it comes in, never more of it than `largest` bytes, however small it was packed."""

    def __init__(self, coding: str, largest: int) -> None:
        """Raises _Unread for a coding that was not asked for."""
        coding = coding.strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            raise _Unread(f"its body is packed as {coding[:40]!a}, gzip or none was asked for")
        self._unpack = zlib.decompressobj(_GZIP) if coding not in ("", "identity") else None
        self._largest = largest
        self._kept = bytearray()
        self._begun = False
        self.cut = False

    def take(self, chunk: bytes) -> bool:
        """True when there is more than is kept. Raises _Unread."""
        room = self._largest + 1 - len(self._kept)
        self._begun |= bool(chunk)
        try:
            self._kept += self._unpack.decompress(chunk, room) if self._unpack else chunk[:room]
        except zlib.error as error:
            raise _Unread(f"its body cannot be unpacked ({error})") from error
        self.cut = len(self._kept) > self._largest
        return self.cut

    def whole(self) -> bytes:
        """Raises _Unread for a packed body that breaks off or goes on beyond its end: browsers differ in those."""
        if self._unpack and self._begun and not self.cut and (not self._unpack.eof or self._unpack.unused_data):
            raise _Unread("its packed body has no end, or something behind it")
        return bytes(self._kept[: self._largest])


@asynccontextmanager
async def visiting(world: World) -> AsyncIterator[Visitor]:
    async with world.http() as client:
        yield Visitor(world, client)
