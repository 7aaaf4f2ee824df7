"""A bounded burst of harmless requests on one path, until it is limited.

It ends with the first 429; with the first answer that is no refusal, for then the requests are not harmless; and with
the first 5xx or lost connection, for a service in trouble is not pushed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.contracts import World
from pipeline.retry_after import NOT_SAID, RetryAfter, http_date, parse
from pipeline.spec import RateLimits

if TYPE_CHECKING:
    import httpx

LIMITED = 429
_ANSWER_WITHIN_S = 10.0
_WITHIN_S = 15.0
"""A burst that takes longer is none; it ends there, with what was sent until then."""

Send = Callable[["httpx.AsyncClient"], Awaitable["httpx.Response"]]


@dataclass(frozen=True)
class Met:
    """One answer; status 0 when there was none, and `lost` says why. `retry_after` belongs to a 429."""

    status: int
    retry_after: RetryAfter = NOT_SAID
    lost: str = ""
    took_ms: int = 0


@dataclass(frozen=True)
class Burst:
    """What `sent` requests met: how often each status (0: no answer), and what the first 429 said."""

    sent: int
    statuses: Mapping[int, int]
    limited: Met | None
    lost: str
    took_ms: int

    @property
    def let_through(self) -> int:
        """How many requests were answered by the service before the limit took over."""
        return sum(count for status, count in self.statuses.items() if status not in (0, LIMITED))


def reached(met: Burst, limits: RateLimits) -> bool:
    """Whether more was let through than a service with these limits allows in that time: too slow a burst never meets
    a limit, for it recovers meanwhile. Pure.
    """
    return met.let_through > limits.burst + limits.per_second * met.took_ms / 1000


async def burst(world: World, send: Send, most: int, concurrency: int) -> Burst:
    """Sends one request, then up to `concurrency` at a time, at most `most` in all. Raises nothing for what it meets.

    The connections are new and kept: no release that drains gets any of them, and no handshake slows the burst.
    """
    begun = world.clock.monotonic()
    seen: list[Met] = []
    async with world.http() as client:
        while (
            len(seen) < most
            and all(_goes_on(met) for met in seen[-concurrency:])
            and world.clock.monotonic() - begun < _WITHIN_S
        ):
            wave = min(concurrency, most - len(seen)) if seen else 1
            seen += await asyncio.gather(*(_one(world, client, send) for _ in range(wave)))
    return Burst(
        len(seen),
        dict(sorted(Counter(met.status for met in seen).items())),
        next((met for met in seen if met.status == LIMITED), None),
        next((met.lost for met in seen if met.lost), ""),
        round((world.clock.monotonic() - begun) * 1000),
    )


async def one(world: World, send: Send) -> Met:
    """A single such request, on a connection of its own."""
    async with world.http() as client:
        return await _one(world, client, send)


async def _one(world: World, client: httpx.AsyncClient, send: Send) -> Met:
    begun = world.clock.monotonic()
    met = await _met(world, client, send)
    return replace(met, took_ms=round((world.clock.monotonic() - begun) * 1000))


async def _met(world: World, client: httpx.AsyncClient, send: Send) -> Met:
    import httpx

    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            answer = await send(client)
    except (httpx.HTTPError, TimeoutError) as error:
        return Met(0, lost=f"{type(error).__name__}: {error}".rstrip(": ")[:200])
    if answer.status_code != LIMITED:
        return Met(answer.status_code)
    now = world.clock.now()
    said = http_date(answer.headers.get("Date", ""), now) or now
    return Met(LIMITED, parse(answer.headers.get("Retry-After"), said))


def _goes_on(met: Met) -> bool:
    return 400 <= met.status < 500 and met.status not in (404, 405, LIMITED)
