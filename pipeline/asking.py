"""The service asked many small questions: over kept connections, some side by side, none of them twice."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from pipeline.service import Answer, Service, since_ms

if TYPE_CHECKING:
    import aiohttp
    import httpx

    from pipeline.spec import Contract

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16
"""Questions asked of the service side by side, and connections kept for them."""


class TrustingService(Service):
    """A service of which it is known what its certificate is verified with, so that `reading` may keep connections."""

    def __init__(
        self, base: str, contract: Contract, client: Callable[[], httpx.AsyncClient], tls: ssl.SSLContext
    ) -> None:
        super().__init__(base, contract, client)
        self.tls = tls


class _Kept(Service):
    """The same questions over kept connections, by aiohttp: one costs it a tenth of what it costs httpx."""

    def __init__(self, service: Service, session: aiohttp.ClientSession) -> None:
        super().__init__(service.base, service.contract, service._client)
        self._session = session

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        import aiohttp
        from yarl import URL

        begun = time.perf_counter()
        try:
            async with self._session.request(
                method,
                URL(self.base + path, encoded=True),
                data=content,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise self.unreachable(method, path, begun, error) from error
        return Answer(method, path, response.status, dict(response.headers), body, since_ms(begun))


@asynccontextmanager
async def reading(service: Service) -> AsyncIterator[Service]:
    """The service for questions that change nothing: over kept connections where its TLS is known, else as it is.

    A kept connection may lead to a release that is being replaced, which answers from the same data.
    """
    if not isinstance(service, TrustingService):
        yield service
        return
    import aiohttp

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=service.tls, limit=AT_ONCE),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )
    async with session:
        yield _Kept(service, session)


async def each(things: Iterable[T], ask: Callable[[T], Awaitable[R]]) -> dict[T, R]:
    """What `ask` answers of each thing, `AT_ONCE` side by side. The first error ends all of it and is raised."""
    waiting, answers = iter(things), dict[T, R]()

    async def ask_on() -> None:
        for thing in waiting:
            answers[thing] = await ask(thing)

    asking = [asyncio.create_task(ask_on()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return answers
