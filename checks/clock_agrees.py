"""clock.agrees: this machine's clock tells the time that others tell."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from checks.facts.callbacks import shown
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.retry_after import http_date
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, advice, failed, inconclusive, passed

_ANSWER_S = 8.0
_FIX = "Switch time synchronisation on (`timedatectl set-ntp true`, or chrony), wait until it is in step, run again."


class Skew(Frozen):
    """How far apart the clocks may be."""

    fail_over: Duration = 30.0
    advise_over: Duration = 5.0


@dataclass(frozen=True)
class Told:
    """What one other machine says. `ahead_s`: how far our clock is ahead of its, give or take `within_s`.

    `why` says why nothing is known, and is '' when something is.
    """

    who: str
    address: str
    ahead_s: float = 0.0
    within_s: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Clocks:
    """The gateway is another machine; the service may share this machine's clock, so it can only speak against it."""

    gateway: Told
    service: Told


@or_finding
async def gather(world: World, _params: Skew) -> Clocks:
    gateway, service = await asyncio.gather(
        _told(world, "gateway", world.addresses.gateway), _told(world, "service", world.addresses.service)
    )
    return Clocks(*(replace(told, address=shown(told.address)) for told in (gateway, service)))


async def _told(world: World, who: str, address: str) -> Told:
    """Asks for nothing but the head of an answer, whatever its status; a cache adds the age of what it kept."""
    import httpx

    try:
        _ = urlsplit(address).port  # a ValueError here is an ExceptionGroup in the depths of the client
        async with asyncio.timeout(_ANSWER_S), world.http() as client:
            before, begun = world.clock.now(), world.clock.monotonic()
            async with client.stream("GET", address, headers={"Cache-Control": "no-cache"}) as answer:
                took = world.clock.monotonic() - begun
                date, age = answer.headers.get("date", ""), answer.headers.get("age", "0")
    except TimeoutError:
        return Told(who, address, why=f"no answer within {_ANSWER_S:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Told(who, address, why=f"no answer ({type(error).__name__})")
    theirs = http_date(date.strip(" \t"), world.clock.now())
    if theirs is None:
        return Told(who, address, why=f"its header Date is {date[:40]!r}, a date in GMT is expected")
    ahead, within = compare(before, took, theirs, seconds(age))
    return Told(who, address, ahead, within)


def seconds(age: str) -> float:
    """The header Age; 0 for what is no number of seconds."""
    return float(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0.0


def compare(before: datetime, took_s: float, date: datetime, age_s: float) -> tuple[float, float]:
    """How far our clock is ahead of the one that said `date`, and how exact that is, both in s. Pure.

    The header was written at some moment of the round trip, and cuts off the fraction of its second.
    """
    ours = before.timestamp() + took_s / 2
    theirs = date.timestamp() + age_s + 0.5
    return ours - theirs, took_s / 2 + 0.5


@unless_finding
def judge(clocks: Clocks, params: Skew) -> Finding:
    answered = [told for told in (clocks.gateway, clocks.service) if not told.why]
    said = "; ".join(map(_sentence, (clocks.gateway, clocks.service)))
    evidence = {
        told.who: {"ahead_ms": round(told.ahead_s * 1000), "give_or_take_ms": round(told.within_s * 1000)}
        for told in answered
    }
    apart = max((abs(told.ahead_s) - told.within_s for told in answered), default=0.0)
    allowed = f"{params.fail_over:g} s apart are allowed, {params.advise_over:g} s are healthy"
    if apart > params.fail_over:
        return failed(f"this machine's clock is wrong, or the other one is: {said}; {allowed}", _FIX, **evidence)
    if clocks.gateway.why:
        return inconclusive(
            f"nothing is known of this machine's clock: {said}",
            f"Make {clocks.gateway.address or 'the gateway'} reachable from here, then run again.",
            **evidence,
        )
    if clocks.gateway.within_s > params.advise_over:
        return inconclusive(
            f"the gateway answered too slowly to tell its clock from ours: {said}",
            "Run again when the line is quicker.",
            **evidence,
        )
    if apart > params.advise_over:
        return advice(f"this machine's clock drifts: {said}; {allowed}", _FIX, **evidence)
    return passed(f"this machine's clock agrees: {said}", **evidence)


def _sentence(told: Told) -> str:
    if told.why:
        return f"the {told.who} ({told.address or 'no address'}) gave no time: {told.why}"
    way = "ahead of" if told.ahead_s > 0 else "behind"
    return f"{abs(told.ahead_s):.1f} s {way} the {told.who}, give or take {told.within_s:.1f} s"


CHECK = Check(
    name="clock.agrees",
    promise="The clock of the deploying machine agrees with the gateway's to within seconds.",
    rows=("G14", "G20", "T6", "T9"),
    gather=gather,
    judge=judge,
    params=Skew,
    network=True,
    why="Certificates, leases, signatures with a time stamp and the record itself are only as true as the clock.",
    pci=("10.6.1",),
    looks_at=(
        "The header Date of one unauthenticated GET each to the gateway and the service, whatever their status, less "
        "the round trip and the age a cache states. The service may share this machine's clock, so its word alone is "
        "no pass."
    ),
    fix=_FIX,
    see_it_fail="Set the clock of a test machine a minute ahead (`date -s '+1 min'`) and run `./inv validate` there.",
)
