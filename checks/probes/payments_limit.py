"""payment.rate-limit: more payment requests than the service says it takes are answered 429, and only for a while.

The requests are empty, so none of them can make anything. It comes last: what follows would be limited with it.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from checks.facts.bursts import LIMITED, Burst, Met, Send, burst, one, reached
from checks.judging import Unjudged
from checks.probes.probe import CLOSED, Probe, Reply, Severity, Shown, Turn
from pipeline.contracts import World
from pipeline.spec import RateLimits
from pipeline.verdict import inconclusive

if TYPE_CHECKING:
    import httpx

    from checks.probes.scene import Scene

_NOTHING = json.dumps({"probe": "payment.rate-limit"}).encode()
_CONCURRENCY = 10
_REFUSALS = (400, 422)
_TOLERANCE = 1.2
"""How much more than its limit a service may let through: limits are counted in many ways."""
_LONGEST_S = 15.0
"""A burst takes no longer; meanwhile a limit goes on giving."""
_LETS_GO_WITHIN_S = 20.0
_PAUSE_S = 0.5


async def _play(scene: Scene) -> Shown:
    world, limits = scene.world, scene.world.spec.contract.limits
    send = _empty(world)
    met = await burst(world, send, most(limits), _CONCURRENCY)
    sent = Reply(_told(met), _status(met), float(met.took_ms), b"", met.lost)
    if met.limited is None and not _only_refused(met):
        return Shown("", (sent,))
    if met.limited is None:
        if not reached(met, limits):
            raise Unjudged(
                inconclusive(
                    f"{met.sent} payment requests in {met.took_ms} ms are no burst: the limit recovers as fast",
                    "See why the service answers so slowly, or ask from a machine that is nearer; then run again.",
                )
            )
        return Shown("", (sent,), wrong=f"no 429 within {met.sent} requests in {met.took_ms} ms")
    after, waited_ms, took_ms = await _let_go(world, send, met.limited)
    again = Reply(f"one more {waited_ms / 1000:.1f} s later", after.status, took_ms, b"", after.lost)
    if after.status == LIMITED:
        return Shown("", (sent,), wrong=f"still 429 {waited_ms / 1000:.1f} s after the burst")
    return Shown("", (sent, again), wrong=_flaws(met, limits))


def most(limits: RateLimits) -> int:
    """The most requests a burst may need before a limit must show. Pure."""
    return math.ceil(_TOLERANCE * (limits.burst + limits.per_second * _LONGEST_S))


def _flaws(met: Burst, limits: RateLimits) -> str:
    allowed = math.ceil(_TOLERANCE * (limits.burst + limits.per_second * met.took_ms / 1000)) + _CONCURRENCY
    if met.let_through > allowed:
        return f"{met.let_through} requests were let through before the first 429; {allowed} are expected at most"
    if met.limited is not None and met.limited.retry_after.flaw:
        return f"limited {met.limited.retry_after.flaw}"
    return ""


def _only_refused(met: Burst) -> bool:
    return not met.lost and all(status in _REFUSALS for status in met.statuses)


def _told(met: Burst) -> str:
    if met.limited is None:
        return f"a burst of {met.sent} empty payment requests"
    return f"a burst of {met.sent} empty payment requests (429 after {met.let_through})"


def _status(met: Burst) -> int:
    """The one status that says most of the burst: what is no refusal, else a refusal; the 429 at its end is due."""
    if met.limited is None and met.lost:
        return CLOSED
    others = [status for status in met.statuses if status not in (LIMITED, CLOSED)]
    return max(others, key=lambda status: (status not in _REFUSALS, status), default=_REFUSALS[0])


def _empty(world: World) -> Send:
    from pipeline.service import PROOF_HEADER  # brings httpx along

    headers = {"Content-Type": "application/json", PROOF_HEADER: world.run.proof_token.reveal()}

    async def send(client: httpx.AsyncClient) -> httpx.Response:
        url = world.service.base + world.spec.contract.create
        return await client.post(url, content=_NOTHING, headers=headers)

    return send


async def _let_go(world: World, send: Send, limited: Met) -> tuple[Met, int, float]:
    """What one more request meets as soon as the limit lets it through, or when patience has run out.

    With the ms until it was sent, and those it took.
    """
    begun = world.clock.monotonic()
    pause = min(max(limited.retry_after.seconds or 0.0, _PAUSE_S), _LETS_GO_WITHIN_S)
    while True:
        await world.clock.sleep(pause)
        sent = world.clock.monotonic()
        after = await one(world, send)
        if after.status != LIMITED or world.clock.monotonic() - begun >= _LETS_GO_WITHIN_S:
            took_ms = round((world.clock.monotonic() - sent) * 1000, 1)
            return after, round((sent - begun) * 1000), took_ms
        pause = _PAUSE_S


RATE_LIMIT = Probe(
    name="payment.rate-limit",
    sends="a burst of empty payment requests, a fifth more than contract.limits allows, and one when that is over",
    answers=_REFUSALS,
    effect=None,
    severity=Severity.HIGH,
    fix="Limit payment requests by source address and answer 429 with Retry-After in whole seconds; set "
    "contract.limits to what you allow.",
    play=_play,
    turn=Turn.LAST,
)
