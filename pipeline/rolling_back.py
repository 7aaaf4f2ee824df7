"""The verb rollback: what it goes back to and why, then the same way back that a failed deploy takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.acts import mark
from pipeline.contracts import Checkpoint, Clock, ReleaseId, ReleaseRecord, ReleaseState, RestoreContext, Target
from pipeline.errors import Exit, NothingToRestore, Refused, TollgateError
from pipeline.events import Entry, Kind
from pipeline.interrupts import Interrupts
from pipeline.lease import Owner
from pipeline.plan import Plan
from pipeline.run_record import (
    Outcome,
    ending_on_record,
    finish,
    holding,
    last_verified,
    record_failure,
    start,
    supersede,
    take_back,
)
from pipeline.session import Session
from pipeline.standing import Open, open_runs
from pipeline.wayback import Armed, Way


class NoGoal(NothingToRestore):
    """What was asked for cannot be gone back to; `releases` are all there are, newest first."""

    def __init__(self, message: str, remedy: str, releases: Sequence[ReleaseRecord]) -> None:
        super().__init__(message, remedy)
        self.releases = tuple(releases)


@dataclass(frozen=True)
class Look:
    """What is read to decide where a rollback leads. Nothing of it changes anything.

    `comes_up`: what serves as soon as the service is started, where nothing carries it now; a rollback starts it first.
    """

    environment: str
    target: Target
    clock: Clock
    who: str
    checkpoints: Mapping[str, Checkpoint]
    entries: Sequence[Entry]
    tell: Callable[[str], None]
    comes_up: ReleaseId | None = None

    @classmethod
    def of(cls, session: Session) -> Look:
        return cls(
            session.environment,
            session.world.target,
            session.world.clock,
            session.who,
            session.catalogue.checkpoints,
            session.journal.entries(),
            lambda line: session.recorder.show("rollback", "look", line),
        )


@dataclass(frozen=True)
class Choice:
    """What a rollback would do: `release` None with `settles_only`: the unfinished run had changed nothing."""

    live: ReleaseId | None
    release: ReleaseId | None
    why_that: str
    armed: tuple[Armed, ...]
    unfinished: tuple[Open, ...]
    bad: ReleaseId | None
    since: datetime
    settles_only: bool = False


async def choose(look: Look, to: str | None) -> Choice:
    """Decides what a rollback goes back to; changes nothing. Raises NoGoal with what is allowed."""
    releases = await look.target.releases.all()
    unfinished = tuple(open_runs(look.entries))
    live = await _live_or_unclear(look)
    verified = [one.id for one in releases if one.state is ReleaseState.VERIFIED]
    if to is not None and to not in verified:
        raise NoGoal(
            f"{to} is not a verified release of {look.environment}",
            "Name a verified one of these." if verified else "None is verified: `./inv status` shows all there are.",
            releases,
        )
    changed = next((one for one in unfinished if one.changed), None)
    if changed is None and unfinished and to is None:
        why = f"run {unfinished[0].run} was left unfinished and had changed nothing"
        return Choice(live, live, why, (), unfinished, None, look.clock.now(), settles_only=True)
    if changed is not None:
        goal = ReleaseId(to) if to else changed.armed_release
        found = (
            "run {} was going back to it" if changed.verb == "rollback" else "it was live and verified before run {}"
        )
        why = "--to names it" if to else found.format(changed.run)
        bad = changed.release if changed.release != goal else None
        armed = await _aimed(look, goal, changed.armed) if to else changed.armed
        return Choice(live, goal, why, armed, unfinished, bad, changed.started)
    goal = ReleaseId(to) if to else _verified_before(releases, live)
    if goal is None:
        raise NoGoal(
            f"{look.environment} has no verified release but the live one ({live or 'none'})",
            f"A deploy makes one: `./inv deploy --env {look.environment}`.",
            releases,
        )
    why = "--to names it" if to else "the last verified release but the live one"
    armed = await _aimed(look, goal, ())
    bad = live if live != goal else None
    return Choice(live, goal, why, armed, unfinished, bad, _live_since(releases, live, look))


async def rollback(
    session: Session, plan: Plan, owner: Owner, *, to: str | None, reason: str, agreed: Choice | None = None
) -> Outcome:
    """Goes back to a verified release: what an unfinished run had armed, the one named, or the last before the live.

    `agreed`: what a person said yes to; nothing else is done. Raises LeaseHeld, NothingToRestore, Refused or
    Interrupted before anything is on record.
    """
    with Interrupts(lambda line: session.recorder.show("way back", "signal", line)) as interrupts:
        async with holding(session, owner) as lease:
            choice = await choose(Look.of(session), to)
            if agreed is not None and not _same(choice, agreed):
                raise Refused(
                    f"{session.environment} changed while you were asked: {choice.live or 'nothing'} is live, and a "
                    f"rollback leads to {choice.release or 'a closed service'}; nothing was changed",
                    "Look again, and start again if it is still needed.",
                )
            begun = session.world.clock.monotonic()
            interrupts.no_return()
            async with ending_on_record(session):
                start(session, plan, session.phase(release=choice.release), lease, reason=reason)
                try:
                    return await _roll_back(session, plan, choice, reason, begun)
                except TollgateError as error:
                    message, remedy = record_failure(session, error)
                    return finish(session, Exit.PERSON_NEEDED, message, remedy, begun)


def _same(one: Choice, other: Choice) -> bool:
    return (one.live, one.release, one.bad, one.settles_only) == (
        other.live,
        other.release,
        other.bad,
        other.settles_only,
    )


async def _roll_back(session: Session, plan: Plan, choice: Choice, reason: str, begun: float) -> Outcome:
    if choice.settles_only:
        for one in choice.unfinished:
            if one.release is not None:
                await _discard_left(session, one.release, choice.why_that)
        supersede(session, choice.unfinished)
        live = choice.live or "nothing"
        return finish(session, Exit.DONE, f"{choice.why_that}; {live} is live as before", "", begun)
    way = Way(
        why=reason or "rollback asked for",
        release=choice.release,
        armed=choice.armed,
        of_run=next((one.run for one in choice.unfinished if one.changed), session.world.run.id),
        bad=choice.bad,
        since=choice.since,
    )
    restored = Outcome(session.world.run.id, Exit.DONE, way.why)
    return await take_back(session, plan, way, begun, restored, choice.unfinished)


async def _discard_left(session: Session, release: ReleaseId, why: str) -> None:
    known = {one.id: one.state for one in await session.world.target.releases.all()}
    if known.get(release) in (ReleaseState.BUILDING, ReleaseState.STAGED):
        await mark(session.world, session.recorder.record, release, ReleaseState.BAD, why)


def _verified_before(releases: Sequence[ReleaseRecord], live: ReleaseId | None) -> ReleaseId | None:
    """The last verified release before the live one, else the last of all others. `releases` are newest first."""
    at = next((index for index, one in enumerate(releases) if one.id == live), -1)
    return last_verified(releases[at + 1 :], but=live) or last_verified(releases, but=live)


async def _live_or_unclear(look: Look) -> ReleaseId | None:
    """The live release; None where the target is closed or half, which a rollback is there to mend."""
    if look.comes_up is not None:
        return look.comes_up
    try:
        return await look.target.traffic.live()
    except TollgateError as error:
        look.tell(f"what is live is unclear: {error}")
        return None


async def _aimed(look: Look, goal: ReleaseId | None, kept: Sequence[Armed]) -> tuple[Armed, ...]:
    """Checkpoints that lead to `goal`. The doors are put back as `kept` has them, or as they stand now."""
    context = RestoreContext(look.target, look.clock, look.who, "rollback", goal)
    captured = {one.name: one.captured for one in kept if look.checkpoints[one.name].reopens}
    for name, checkpoint in look.checkpoints.items():
        if name not in captured:
            captured[name] = await checkpoint.capture(context)
    return tuple(Armed(name, captured[name]) for name in look.checkpoints)


def _live_since(releases: Sequence[ReleaseRecord], live: ReleaseId | None, look: Look) -> datetime:
    """Since when the live release may have taken payments; a day ago where nothing tells."""
    told = [one.since for one in releases if one.id == live]
    served = serving_since(look.entries, live)
    told += [served] if served else []
    return min(told, default=look.clock.now() - timedelta(days=1))


def serving_since(entries: Sequence[Entry], release: ReleaseId | None) -> datetime | None:
    """When `release` was last switched in, or opened again by a way back; None where that is not on record."""
    for entry in reversed(entries):
        opened = entry.kind is Kind.REOPENED
        switched = entry.kind is Kind.RELEASE_MARKED and entry.data["state"] == ReleaseState.LIVE.value
        if release is not None and (opened or switched) and entry.data["release"] == release:
            return entry.at
    return None
