"""The verb rollback: what it goes back to and why, then the same way back that a failed deploy takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.acts import mark
from pipeline.checkpoints import described, in_order, unasked
from pipeline.contracts import (
    Captured,
    Checkpoint,
    Clock,
    ReleaseId,
    ReleaseRecord,
    ReleaseState,
    RestoreContext,
    Target,
    kind_of,
)
from pipeline.doors import test_mode_on
from pipeline.errors import Exit, LeaseHeld, NothingToRestore, PersonNeeded, Refused, TollgateError
from pipeline.events import Entry, Kind
from pipeline.interrupts import Interrupts
from pipeline.lease import GivesWay, Lease, Owner
from pipeline.plan import Plan
from pipeline.run_record import (
    Outcome,
    ending_on_record,
    finish,
    keeping,
    last_verified,
    record_breaks,
    record_failure,
    start,
    supersede,
    take,
    take_back,
)
from pipeline.session import Session
from pipeline.standing import LEFT_OPEN, Open, open_runs
from pipeline.takeover import Asker
from pipeline.wayback import Armed, Way

_WHY = "rollback asked for"


_SHUT = ("payments", "maintenance")
"""The doors that every way back closes; test mode is what somebody asked for."""


class NoGoal(NothingToRestore):
    """What was asked for cannot be gone back to; `releases` are all there are, newest first."""

    def __init__(self, message: str, remedy: str, releases: Sequence[ReleaseRecord]) -> None:
        super().__init__(message, remedy)
        self.releases = tuple(releases)


@dataclass(frozen=True)
class Look:
    """What is read to decide where a rollback leads. Nothing of it changes anything.

    `comes_up`: what serves as soon as the service is started, where nothing carries it now; a rollback starts it first.
    `at_work`: the run that is stopped or waited for first, or was; '' for none.
    """

    environment: str
    target: Target
    clock: Clock
    who: str
    checkpoints: Mapping[str, Checkpoint]
    entries: Sequence[Entry]
    tell: Callable[[str], None]
    comes_up: ReleaseId | None = None
    at_work: str = ""
    broken: str = ""
    """What is wrong with the record, '' for a whole one; `entries` are then what may still be acted on."""

    @classmethod
    def of(cls, session: Session, at_work: str = "") -> Look:
        record = session.on_record()
        return cls(
            session.environment,
            session.world.target,
            session.world.clock,
            session.who,
            session.catalogue.checkpoints,
            record.entries,
            lambda line: session.recorder.show("rollback", "look", line),
            at_work=at_work,
            broken=record.told,
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
    at_work: str = ""
    """The deploy that is stopped or waited for first, or was; '' for none."""
    test_mode: bool = False
    """It opens with test mode on: asked for now, or of the rollback that this one goes on with."""


async def choose(look: Look, to: str | None, *, test_mode: bool = False) -> Choice:
    """Decides what a rollback goes back to; changes nothing. Raises NoGoal with what is allowed."""
    choice = await _chosen(look, to)
    return replace(choice, test_mode=test_mode or any(one.test_mode for one in choice.unfinished))


async def _chosen(look: Look, to: str | None) -> Choice:
    if look.broken:
        look.tell(f"{look.broken}; what is gone back to is decided by what the target says of its releases")
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
    before = _before_it(look, releases) if look.at_work else None
    good = live in verified or not verified  # else to set a run aside would end with 0 and mend nothing
    if changed is None and to is None and good and (unfinished or (before and before.ended_unchanged)):
        why = before.why if before else f"run {unfinished[0].run} was left unfinished and had changed nothing"
        return Choice(live, live, why, (), unfinished, None, look.clock.now(), True, look.at_work)
    if changed is not None:
        goal = ReleaseId(to) if to else changed.armed_release
        found = (
            "run {} was going back to it" if changed.verb == "rollback" else "it was live and verified before run {}"
        )
        why = "--to names it" if to else found.format(changed.run)
        bad = changed.release if changed.release != goal else None
        armed = await _aimed(look, goal, changed.armed, changed.run) if to else changed.armed
        return Choice(live, goal, why, armed, unfinished, bad, changed.started, False, look.at_work)
    stopped_for = before.live if before else None
    goal = ReleaseId(to) if to else stopped_for or _verified_before(releases, live)
    if goal is None:
        raise NoGoal(
            f"{look.environment} has no verified release but the live one ({live or 'none'})",
            f"A deploy makes one: `./inv deploy --env {look.environment}`.",
            releases,
        )
    why = "--to names it" if to else "the last verified release but the live one"
    if stopped_for and not to:
        why = f"it was live and verified before run {look.at_work}"
    armed = await _aimed(look, goal, ())
    bad = live if live != goal else None
    return Choice(live, goal, why, armed, unfinished, bad, _live_since(releases, live, look), False, look.at_work)


@dataclass(frozen=True)
class _Before:
    """How a deploy stands that was at work when the rollback came. `live`: what it replaced and can be gone back to."""

    why: str
    ended_unchanged: bool
    live: ReleaseId | None


def _before_it(look: Look, releases: Sequence[ReleaseRecord]) -> _Before | None:
    """None for a run that deploys nothing: then the way back is what it would be without it."""
    entries = [entry for entry in look.entries if entry.run == look.at_work]
    began = next((entry.data for entry in reversed(entries) if entry.kind is Kind.RUN_STARTED), None)
    ended = next((entry.data for entry in reversed(entries) if entry.kind is Kind.RUN_FINISHED), None)
    if began is None:
        return _Before(f"run {look.at_work} had not begun to change anything", True, None)
    if began["verb"] != "deploy":
        return None
    if ended is None or ended["outcome"] in LEFT_OPEN:
        return _Before(f"run {look.at_work} had changed nothing yet", True, None)
    if ended["outcome"] == "done":
        known = {one.id for one in releases if one.state is ReleaseState.VERIFIED}
        previous = began["previous"]
        return _Before("", False, ReleaseId(previous) if previous in known else None)
    back = ended["outcome"] == "restored"
    did = "had already gone back by itself" if back else "ended by itself and had changed nothing"
    return _Before(f"run {look.at_work} {did}", True, None)


async def rollback(
    session: Session,
    plan: Plan,
    owner: Owner,
    *,
    to: str | None,
    reason: str,
    agreed: Choice | None = None,
    at_work: str = "",
    test_mode: bool = False,
) -> Outcome:
    """Goes back to a verified release: what an unfinished run had armed, the one named, or the last before the live.

    A deploy that is at work is stopped first, one that goes back by itself is waited for. `agreed`: what a person said
    yes to; nothing else is done. `at_work`: the deploy that was, when it was looked. Raises LeaseHeld,
    NothingToRestore, Refused or Interrupted before anything is on record, PersonNeeded when a run was stopped and what
    follows is not what was agreed to.
    """
    with Interrupts(lambda line: session.recorder.show("way back", "signal", line)) as interrupts:
        asker = Asker.of(session, owner, reason or _WHY)
        if asker.met() is not None:
            await choose(Look.of(session), to)  # nobody is stopped for a rollback that leads nowhere
        only = agreed.at_work if agreed is not None else None
        async with _holding(session, asker, only, interrupts) as (lease, met):
            look = Look.of(session, met or at_work)
            choice = await choose(look, to, test_mode=test_mode)
            if agreed is not None and not _same(choice, agreed):
                raise _not_agreed(session, choice, met)
            begun = session.world.clock.monotonic()
            interrupts.no_return()
            async with ending_on_record(session):
                start(session, plan, session.phase(release=choice.release), lease, reason=reason)
                if look.broken:
                    record_breaks(session)
                try:
                    return await _roll_back(session, plan, choice, reason, begun)
                except TollgateError as error:
                    message, remedy = record_failure(session, error)
                    return finish(session, Exit.PERSON_NEEDED, message, remedy, begun)


@asynccontextmanager
async def _holding(
    session: Session, asker: Asker, only: str | None, interrupts: Interrupts
) -> AsyncIterator[tuple[Lease, str]]:
    """Holds the lease once whoever was at work is stopped or has ended; with the run that was, '' for none."""
    at_work, lease = "", None
    try:
        while lease is None:
            met = await asker.until_free(only=only, before_stopping=interrupts.no_return, still=interrupts.stop_here)
            at_work = met or at_work
            try:
                lease = await take(session, asker.owner, "rollback", GivesWay.NEVER)
            except LeaseHeld:
                interrupts.stop_here()
                await asker.again()  # another run came in between: it is met in its turn
    finally:
        if lease is None:
            asker.withdraw()
    async with keeping(session, lease):
        yield lease, at_work


def _not_agreed(session: Session, choice: Choice, stopped: str) -> TollgateError:
    stands = (
        f"{choice.live or 'nothing'} is live, and a rollback leads to {choice.release or 'a closed service'} "
        f"({choice.why_that})"
    )
    if any(one.run == stopped for one in choice.unfinished):
        return PersonNeeded(
            f"{session.environment} changed while you were asked: {stands}; run {stopped} was stopped and is left "
            "unfinished, nothing else was changed",
            f"`./inv rollback --env {session.environment}` shows anew what would be done; until then no deploy begins.",
        )
    return Refused(
        f"{session.environment} changed while you were asked: {stands}; nothing was changed",
        "Look again, and start again if it is still needed.",
    )


def _same(one: Choice, other: Choice) -> bool:
    """Whether both lead to the same end. How far a deploy is that is stopped on the way there may differ."""
    if one.at_work and one.at_work == other.at_work:
        return (one.release, one.test_mode) == (other.release, other.test_mode)
    return (one.live, one.release, one.bad, one.settles_only, one.test_mode) == (
        other.live,
        other.release,
        other.bad,
        other.settles_only,
        other.test_mode,
    )


async def _roll_back(session: Session, plan: Plan, choice: Choice, reason: str, begun: float) -> Outcome:
    if choice.settles_only:
        for one in choice.unfinished:
            if one.release is not None:
                await _discard_left(session, one.release, choice.why_that)
        if choice.test_mode:
            await test_mode_on(session, reason or _WHY, proof="", serves=choice.live is not None)
        supersede(session, choice.unfinished)
        live, tests = choice.live or "nothing", ", with test mode on" if choice.test_mode else ""
        return finish(session, Exit.DONE, f"{choice.why_that}; {live} is live as before{tests}", "", begun)
    way = Way(
        why=reason or _WHY,
        release=choice.release,
        armed=choice.armed,
        of_run=next((one.run for one in choice.unfinished if one.changed), session.world.run.id),
        bad=choice.bad,
        since=choice.since,
        test_mode=choice.test_mode,
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


async def _aimed(look: Look, goal: ReleaseId | None, kept: Sequence[Armed], of_run: str = "") -> tuple[Armed, ...]:
    """Checkpoints that lead to `goal`. The doors are put back as `kept` has them, or as they stand now.

    What pipeline.yaml describes (a database, a command) is put back as `kept` has it, or stays as it is: a schema that
    a verified release migrated was proven with the release before.
    """
    context = RestoreContext(look.target, look.clock, look.who, "rollback", goal, of_run=of_run)
    table = look.checkpoints
    captured = {one.name: one.captured for one in kept if _stays(table, one.name)}
    for name in [*unasked(table), *(one.name for one in kept)]:
        if name not in captured:
            captured[name] = await table[kind_of(name)].capture(context)
            if look.broken and name in _SHUT:
                captured[name] = _opened(captured[name])
    return tuple(Armed(name, captured[name]) for name in in_order(table, captured))


def _opened(captured: Captured) -> Captured:
    """A door that a run closed of which nothing is left on record: that run would have opened it itself at its end."""
    switch = captured.get("switch")
    return {**captured, "switch": None} if isinstance(switch, Mapping) and switch.get("run") else captured


def _stays(table: Mapping[str, Checkpoint], name: str) -> bool:
    """Whether a checkpoint of an unfinished run is put back as that run captured it, wherever a rollback leads."""
    kind = table.get(kind_of(name))
    return kind is None or kind.reopens or described(table, name)


def _live_since(releases: Sequence[ReleaseRecord], live: ReleaseId | None, look: Look) -> datetime:
    """Since when the live release may have taken payments; a day ago where nothing tells, or only a clock ahead."""
    told = [one.since for one in releases if one.id == live]
    served = serving_since(look.entries, live)
    told += [served] if served else []
    now = look.clock.now()
    return min((one for one in told if one <= now), default=now - timedelta(days=1))


def serving_since(entries: Sequence[Entry], release: ReleaseId | None) -> datetime | None:
    """When `release` was last switched in, or opened again by a way back; None where that is not on record."""
    for entry in reversed(entries):
        opened = entry.kind is Kind.REOPENED
        switched = entry.kind is Kind.RELEASE_MARKED and entry.data["state"] == ReleaseState.LIVE.value
        if release is not None and (opened or switched) and entry.data["release"] == release:
            return entry.at
    return None
