"""Asking for pages and files as a stranger's browser would: no cookie is kept, no redirect followed, all is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

from checks.facts.html import origin
from pipeline.contracts import World

if TYPE_CHECKING:
    import httpx

LIMIT_S = 10.0
"""For one whole exchange."""

_AT_ONCE = 4


@dataclass(frozen=True)
class Served:
    """One answer. `headers` are as sent, names in lower case, values as Latin-1. `cut`: the body was longer.

    Where there was no answer, `status` is 0 and `problem` says why.
    """

    method: str
    url: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: bool = False
    problem: str = ""

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value.strip() for header, value in self.headers if header == name)

    @property
    def media_type(self) -> str:
        return next(iter(self.all("content-type")), "").partition(";")[0].strip().lower()

    def __str__(self) -> str:
        told = f"answered {self.status}" if self.status else f"no answer ({self.problem})"
        return f"{self.method} {self.url}: {told}"


class Visitor:
    """Asks the service and whoever its pages name. Whatever an answer holds, `ask` raises nothing."""

    def __init__(self, world: World, client: httpx.AsyncClient) -> None:
        from pipeline.service import PROOF_HEADER

        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._client = client
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
        import httpx

        try:
            async with self._turn, asyncio.timeout(LIMIT_S):
                return await self._asked(method, url, largest, headers or {}, content)
        except TimeoutError:
            return Served(method, url, 0, problem=f"not within {LIMIT_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Served(method, url, 0, problem=f"{type(error).__name__}: {error}"[:200])

    async def _asked(
        self, method: str, url: str, largest: int, headers: Mapping[str, str], content: bytes | None
    ) -> Served:
        proof = self._proof if self.is_home(url) else {}
        async with self._client.stream(
            method, url, headers={**proof, **headers}, content=content, timeout=LIMIT_S, follow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > largest:
                    break
        raw = tuple((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in response.headers.raw)
        return Served(method, url, response.status_code, raw, bytes(body[:largest]), len(body) > largest)


@asynccontextmanager
async def visiting(world: World) -> AsyncIterator[Visitor]:
    async with world.http() as client:
        yield Visitor(world, client)
