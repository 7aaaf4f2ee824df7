"""The verb rollback: what it goes back to and why, then the same way back that a failed deploy takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.acts import mark
from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState, RestoreContext
from pipeline.errors import Exit, NothingToRestore, TollgateError
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


async def choose(session: Session, to: str | None) -> Choice:
    """Decides what a rollback goes back to; changes nothing. Raises NothingToRestore with what is allowed."""
    releases = await session.world.target.releases.all()
    unfinished = tuple(open_runs(session.journal.entries()))
    live = await _live_or_unclear(session)
    verified = [one.id for one in releases if one.state is ReleaseState.VERIFIED]
    if to is not None and to not in verified:
        raise NothingToRestore(
            f"{to} is not a verified release of {session.environment}",
            f"Verified: {', '.join(verified) or 'none'}.",
        )
    changed = next((one for one in unfinished if one.changed), None)
    if changed is None and unfinished and to is None:
        why = f"run {unfinished[0].run} was left unfinished and had changed nothing"
        return Choice(live, live, why, (), unfinished, None, session.world.clock.now(), settles_only=True)
    if changed is not None:
        goal = ReleaseId(to) if to else changed.armed_release
        why = "--to names it" if to else f"run {changed.run} was left unfinished; it was live and verified before"
        bad = changed.release if changed.release != goal else None
        armed = await _aimed(session, goal, changed.armed) if to else changed.armed
        return Choice(live, goal, why, armed, unfinished, bad, changed.started)
    goal = ReleaseId(to) if to else _verified_before(releases, live)
    if goal is None:
        raise NothingToRestore(
            f"{session.environment} has no verified release but the live one ({live or 'none'})",
            "`./inv status` shows all releases; a first `./inv deploy` makes one.",
        )
    why = "--to names it" if to else "the last verified release but the live one"
    armed = await _aimed(session, goal, ())
    return Choice(
        live, goal, why, armed, unfinished, live if live != goal else None, _live_since(releases, live, session)
    )


async def rollback(session: Session, plan: Plan, owner: Owner, *, to: str | None, reason: str) -> Outcome:
    """Goes back to a verified release: what an unfinished run had armed, the one named, or the last before the live.

    Raises LeaseHeld, NothingToRestore or Interrupted before anything is on record.
    """
    with Interrupts(lambda line: session.recorder.show("way back", "signal", line)) as interrupts:
        async with holding(session, owner) as lease:
            choice = await choose(session, to)
            begun = session.world.clock.monotonic()
            interrupts.no_return()
            async with ending_on_record(session):
                start(session, plan, session.phase(release=choice.release), lease, reason=reason)
                try:
                    return await _roll_back(session, plan, choice, reason, begun)
                except TollgateError as error:
                    message, remedy = record_failure(session, error)
                    return finish(session, Exit.PERSON_NEEDED, message, remedy, begun)


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


async def _live_or_unclear(session: Session) -> ReleaseId | None:
    """The live release; None where the target is closed or half, which a rollback is there to mend."""
    try:
        return await session.world.target.traffic.live()
    except TollgateError as error:
        session.recorder.show("rollback", "look", f"what is live is unclear: {error}")
        return None


async def _aimed(session: Session, goal: ReleaseId | None, kept: Sequence[Armed]) -> tuple[Armed, ...]:
    """Checkpoints that lead to `goal`. The doors are put back as `kept` has them, or as they stand now."""
    context = RestoreContext(session.world.target, session.world.clock, session.who, "rollback", goal)
    captured = {one.name: one.captured for one in kept if session.catalogue.checkpoints[one.name].reopens}
    for name, checkpoint in session.catalogue.checkpoints.items():
        if name not in captured:
            captured[name] = await checkpoint.capture(context)
    return tuple(Armed(name, captured[name]) for name in session.catalogue.checkpoints)


def _live_since(releases: Sequence[ReleaseRecord], live: ReleaseId | None, session: Session) -> datetime:
    day = session.world.clock.now() - timedelta(days=1)
    return next((one.since for one in releases if one.id == live), day)
