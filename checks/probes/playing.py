"""Plays probes: a harmless control first and last, what is forged beside what is disturbed, then the rest in turn.

The control is a correctly signed webhook that must be accepted: without it no refusal proves anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from checks.facts.harmless import harmless_webhook
from checks.facts.smoke import on_loopback
from checks.judging import Unjudged
from checks.probes.effects import effect_broken
from checks.probes.orders import SETTLE_S
from checks.probes.paying import NoPayment
from checks.probes.probe import CLOSED, SILENT, TAKEN, Moot, Need, Probe, Reply, Shown, Turn
from checks.probes.scene import Scene
from pipeline.contracts import SecurityEvent, World
from pipeline.errors import TollgateError

AT_ONCE = 8
"""So many probes side by side, each with an order of its own."""
_WITHIN_S = 60.0
"""A probe that is not done by then is given up."""
_ORDERS_AHEAD = 6


@dataclass(frozen=True)
class Settings:
    """How probes are played. `cap`: the most that all smoke payments of the run may cost, in cents.

    `patience_s`: how long a service may wait for a body that does not come. `lag_s`: how long an effect may take to
    show where no paid order shows how quick the service is; the end waits for it.
    """

    mode: Literal["initialise", "card"] = "initialise"
    cap: int = 1000
    patience_s: float = 15.0
    lag_s: float = 0.0


@dataclass(frozen=True)
class Played:
    """What became of one probe: exactly one of `shown`, `skipped`, `unshown` and `crashed` is there.

    `unshown`: it could not be played to its end, and `fix` says what to do. `alive`: the service still lived after a
    doubtful answer.
    """

    probe: Probe
    shown: Shown | None = None
    skipped: str = ""
    unshown: str = ""
    crashed: str = ""
    fix: str = ""
    alive: bool = True


@dataclass(frozen=True)
class Late:
    """An order that changed only after the probes that had used it had looked."""

    reference: str
    found: str
    probes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """All of it. `reference` and `paylink` are a payment that was paid, '' for none; `took_ms` in milliseconds."""

    first: Reply
    last: Reply
    played: tuple[Played, ...]
    late: tuple[Late, ...] = ()
    reference: str = ""
    paylink: str = ""
    took_ms: int = 0
    alive: bool = True
    unread: str = ""
    """Why not every order could be read again at the end: then nothing is known of late effects."""


async def play(world: World, probes: Sequence[Probe], settings: Settings) -> Run:
    """Sends what the probes send, in their turns."""
    scene = Scene(world, mode=settings.mode, cap=settings.cap, patience_s=settings.patience_s)
    try:
        return await _play(scene, probes, settings.lag_s)
    finally:
        await scene.close()


async def _play(scene: Scene, probes: Sequence[Probe], lag_s: float) -> Run:
    world, begun = scene.world, scene.world.clock.monotonic()
    first = await control(scene, "first")
    if first.status <= 0 and not await scene.alive():
        gone = tuple(Played(probe, unshown="the service does not answer at all") for probe in probes)
        return Run(first, first, gone, alive=False)
    played = await _in_turns(scene, probes)
    late, unread = await _late(scene, list(played.values()), lag_s)
    last = await control(scene, "last")
    paid = scene.paid_orders[0] if scene.paid_orders else None
    return Run(
        first,
        last,
        tuple(played[probe.name] for probe in probes),
        late,
        paid.reference if paid else "",
        paid.link.id if paid else "",
        round((world.clock.monotonic() - begun) * 1000),
        await scene.alive(),
        unread,
    )


async def control(scene: Scene, when: str) -> Reply:
    """A correctly signed FAILURE of a payment that nobody made."""
    signed = harmless_webhook(scene.world)
    path = scene.world.spec.contract.webhook
    return await scene.post(path, signed.body, signed.headers, sent=f"the control, {when}: a correctly signed webhook")


async def _in_turns(scene: Scene, probes: Sequence[Probe]) -> dict[str, Played]:
    of = {turn: [probe for probe in probes if probe.turn is turn] for turn in Turn}
    of[Turn.FORGED].sort(key=lambda probe: -probe.within_s)  # the slowest first, so that nothing waits for it
    if of[Turn.DISTURBED]:
        lending = sum(probe.name.startswith("webhook.") for probe in of[Turn.FORGED])
        await scene.prepare(min(lending, _ORDERS_AHEAD))
    done = await asyncio.gather(_side_by_side(scene, of[Turn.FORGED]), _one_by_one(scene, of[Turn.DISTURBED]))
    asked = await _side_by_side(scene, of[Turn.ASKING])
    last = await _one_by_one(scene, of[Turn.LAST])
    return {one.probe.name: one for group in (*done, asked, last) for one in group}


async def _side_by_side(scene: Scene, probes: Iterable[Probe]) -> list[Played]:
    """Those that need a paid order begin at once: they wait for payments and for one another."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(probe: Probe) -> Played:
        async with nullcontext() if Need.PAID in probe.needs else room:
            return await played(scene, probe)

    return list(await asyncio.gather(*(one(probe) for probe in sorted(probes, key=lambda p: Need.PAID not in p.needs))))


async def _one_by_one(scene: Scene, probes: Iterable[Probe]) -> list[Played]:
    return [await played(scene, probe) for probe in probes]


async def played(scene: Scene, probe: Probe) -> Played:
    """Plays one probe. Raises nothing: a probe that crashes takes no other along."""
    missing = lacking(scene.world, scene.mode, probe.needs)
    if missing:
        return Played(probe, skipped=missing)
    shown: Shown | None = None
    try:
        async with asyncio.timeout(_WITHIN_S):
            shown = await probe.play(scene)
    except Moot as moot:
        return Played(probe, skipped=str(moot))
    except Unjudged as unjudged:
        return Played(probe, unshown=unjudged.finding.reason, fix=unjudged.finding.remedy)
    except (NoPayment, TollgateError) as error:
        return Played(probe, unshown=str(error) or type(error).__name__, fix=error.remedy)
    except TimeoutError:
        return Played(probe, crashed=f"it was not done within {_WITHIN_S:g} s")
    except Exception as error:
        return Played(probe, crashed=f"{type(error).__name__}: {error}"[:200])
    finally:
        _on_record(scene.world, probe, shown.reference if shown else "")
    doubtful = any(reply.status in (CLOSED, SILENT, 502, 503, 504) for reply in shown.replies)
    return Played(probe, shown, alive=await scene.alive() if doubtful else True)


def lacking(world: World, mode: str, needs: Iterable[Need]) -> str:
    """Why a probe with these needs cannot be played, '' when it can."""
    scheme = world.gateway.scheme.headers
    there = {
        Need.CONTROL: world.control is not None,
        Need.PAID: mode == "card",
        Need.STAMP: bool(scheme.time),
        Need.SENDER: bool(scheme.sender),
        Need.SOURCES: bool(world.spec.contract.webhook_sources) and on_loopback(_origin(world.service.base)),
    }
    without = [need for need in sorted(needs) if not there[need]]
    return f"it needs {' and '.join(need.value for need in without)}" if without else ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _on_record(world: World, probe: Probe, reference: str) -> None:
    source = f"{probe.name.partition('.')[0]}.withstands_probes"
    world.security(SecurityEvent(world.clock.now(), "probe.sent", source, probe.name, reference))


async def _late(scene: Scene, played: Sequence[Played], lag_s: float) -> tuple[tuple[Late, ...], str]:
    """What moved after its probe had looked, for a service may enrol from a queue; and why it could not be seen."""
    accepted = [one for one in played if one.probe.name.startswith("webhook.") and one.shown and _taken(one.shown)]
    if accepted:
        within_s = scene.world.spec.contract.enrolment_within
        await scene.world.clock.sleep(min(within_s, scene.lag_s + SETTLE_S if scene.paid_orders else lag_s))
    unread = ""
    try:
        await scene.look_again()
    except TollgateError as error:
        unread = str(error)
    moved = [Late(one.reference, str(one.standing), tuple(one.used_by)) for one in scene.moved_late]
    used = Counter(one.shown.reference for one in played if one.shown)
    for one in accepted:  # of an order that was lent to several, each that came after has looked already
        if one.shown is not None and used[one.shown.reference] == 1 and one.probe.turn is not Turn.DISTURBED:
            try:
                found = await _moved(scene, one.probe, one.shown)
            except TollgateError as error:
                found, unread = "", unread or str(error)
            if found and all(late.reference != one.shown.reference for late in moved):
                moved.append(Late(one.shown.reference, found, (one.probe.name,)))
    return tuple(moved), unread


def _taken(shown: Shown) -> bool:
    return any(reply.status in TAKEN for reply in shown.replies)


async def _moved(scene: Scene, probe: Probe, shown: Shown) -> str:
    """How an order is now that was as it must be when its probe looked, '' for one that still is."""
    if effect_broken(probe, shown):
        return ""
    now = await scene.standing(shown.reference)
    return str(now) if effect_broken(probe, replace(shown, after=now)) else ""
