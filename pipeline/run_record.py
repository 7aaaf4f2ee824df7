"""How a run begins and ends on record, and what every verb needs around it: the lease, the first error, the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState, World
from pipeline.errors import Exit, LeaseLost, PersonNeeded, TollgateError, disk_error
from pipeline.events import Kind
from pipeline.lease import Claim, GivesWay, Lease, Owner
from pipeline.plan import Plan
from pipeline.recovery import classify
from pipeline.session import Session
from pipeline.stages import StepFailed, traceback_file, write_traceback
from pipeline.standing import Open
from pipeline.wayback import End, Way, close_unrecorded, go_back

_OUTCOMES = {
    Exit.DONE: "done",
    Exit.REFUSED: "refused",
    Exit.RESTORED: "restored",
    Exit.PERSON_NEEDED: "person needed",
    Exit.LEASE_HELD: "taken over",
    Exit.BUG: "bug",
    Exit.INTERRUPTED: "interrupted",
}
_QUIET_S = 1.0
"""A change of an earlier run that ends sooner is not worth a word."""

_BREAKS_MOST = 20


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `summary` is one sentence for a person."""

    run: str
    exit: Exit
    summary: str
    remedy: str = ""


async def take(session: Session, owner: Owner, verb: str, gives_way: GivesWay) -> Lease:
    """The environment's lease, for `keeping`. Raises LeaseHeld."""
    session.lease_file.parent.mkdir(parents=True, exist_ok=True)
    claim, beyond = Claim(verb, gives_way, session.record), await session.world.target.fencing.highest()
    return Lease.take(session.lease_file, owner=owner, clock=session.world.clock, claim=claim, beyond=beyond)


@asynccontextmanager
async def keeping(session: Session, lease: Lease) -> AsyncIterator[Lease]:
    """Keeps a lease with its heartbeat for as long as the body runs, fenced at the target, and gives it back."""
    session.slot.lease = lease
    try:
        async with lease.heartbeats():
            await _fenced(session, lease)
            yield lease
    finally:
        lease.release()


@asynccontextmanager
async def holding(
    session: Session, owner: Owner, verb: str, gives_way: GivesWay = GivesWay.LATER
) -> AsyncIterator[Lease]:
    """Holds the environment's lease for as long as the body runs. Raises LeaseHeld.

    `gives_way`: what a rollback does that comes meanwhile.
    """
    async with keeping(session, await take(session, owner, verb, gives_way)) as lease:
        yield lease


async def _fenced(session: Session, lease: Lease) -> None:
    """From here on no earlier run changes anything. Raises LeaseHeld when a change of one does not end."""
    advancing = asyncio.ensure_future(session.world.target.fencing.advance(lease.token))
    try:
        done, _ = await asyncio.wait({advancing}, timeout=_QUIET_S)
        if not done:
            session.recorder.show("", "lease", "waiting for a change that an earlier run had begun")
        await advancing
    finally:
        advancing.cancel()


@asynccontextmanager
async def ending_on_record(session: Session, first: BaseException | None = None) -> AsyncIterator[None]:
    """A run that cannot record how it ends needs a person; what it changed is closed. `first` is the error before."""
    try:
        yield
    except LeaseLost:
        raise
    except TollgateError as error:
        stands = await close_unrecorded(session, str(error)) if session.recorder.changed else "nothing was changed"
        raise PersonNeeded(
            f"{first}; then {error}; {stands}" if first else f"{error}; {stands}",
            f"{error.remedy} Then `./inv rollback --env {session.environment}`; `./inv status` shows how it stands.",
        ) from error


def start(session: Session, plan: Plan, world: World, lease: Lease | None, *, reason: str, resumes: str = "") -> None:
    """The first entries of a run: what it will do, for whom, and by which lease."""
    session.recorder.record(
        Kind.RUN_STARTED,
        verb=plan.verb,
        environment=session.environment,
        service=session.spec.service,
        release=world.run.release,
        previous=world.run.previous,
        who=session.who,
        machine=session.machine,
        reason=reason,
        spec_digest=session.spec_digest,
        questionnaire=session.spec.questionnaire,
        plan_digest=plan.digest(),
        plan=plan.as_data(),
        resumes=resumes,
    )
    if lease is not None:
        session.recorder.record(
            Kind.LEASE_TAKEN,
            token=lease.token,
            owner=str(lease.owner),
            from_dead_owner=str(lease.taken_from.owner) if lease.taken_from else None,
        )


def record_breaks(session: Session) -> None:
    """A run that goes on with a broken record says so in it: who reads it later must not take it for whole."""
    record = session.on_record()
    if record.breaks:
        told = [str(one) for one in record.breaks[:_BREAKS_MOST]]
        session.recorder.record(
            Kind.RECORD_BROKEN, count=len(record.breaks), breaks=told, kept_as=record.kept_as, told=record.told
        )


def finish(session: Session, exit_code: Exit, summary: str, remedy: str, begun: float) -> Outcome:
    session.recorder.record(
        Kind.RUN_FINISHED,
        outcome=_OUTCOMES[exit_code],
        exit_code=int(exit_code),
        summary=summary,
        took_s=round(session.world.clock.monotonic() - begun, 3),
    )
    return Outcome(session.world.run.id, exit_code, summary, remedy)


def record_failure(session: Session, failure: BaseException) -> tuple[str, str]:
    """Puts the first error on record; returns it with its remedy."""
    stage = step = ""
    failure = disk_error(failure) or failure
    if isinstance(failure, StepFailed):
        stage, step = failure.step.stage, failure.step.name
    if isinstance(failure, TollgateError):
        message, remedy = str(failure), failure.remedy
    else:
        write_traceback(session, failure)
        message = f"a bug of Tollgate: {type(failure).__name__}: {failure}"
        remedy = f"Report it with {traceback_file(session)}."
    message, remedy = session.redactor.text(message), session.redactor.text(remedy)  # they go on to the target's files
    kind = classify(failure).name
    session.recorder.record(Kind.RUN_FAILED, stage=stage, step=step, error=message, remedy=remedy, error_class=kind)
    return message, remedy


def exit_unchanged(failure: BaseException) -> Exit:
    """The exit code of a failure before the first change."""
    match failure:
        case StepFailed():
            return Exit.REFUSED
        case TollgateError():
            return failure.exit_code
        case _:
            return Exit.BUG if disk_error(failure) is None else Exit.REFUSED


def last_verified(releases: Sequence[ReleaseRecord], *, but: ReleaseId | None) -> ReleaseId | None:
    return next((one.id for one in releases if one.state is ReleaseState.VERIFIED and one.id != but), None)


async def take_back(
    session: Session, plan: Plan, way: Way, begun: float, restored: Outcome, supersedes: Sequence[Open] = ()
) -> Outcome:
    """The way back on record: `restored` when it is confirmed, else a person is needed."""
    goal = way.release or "closed, as before"
    try:
        end = await go_back(session, plan, way)
    except LeaseLost as lost:
        return finish(session, lost.exit_code, f"{restored.summary}; {lost}", lost.remedy, begun)
    if end is End.REOPENED:
        supersede(session, supersedes)
        summary = f"{restored.summary}; restored and confirmed: {goal}"
        return finish(session, restored.exit, summary, restored.remedy, begun)
    is_closed = "is closed" if end is End.CLOSED else "IS NOT CLOSED AND MUST BE, BY HAND"
    summary = f"{restored.summary}; {session.environment} {is_closed}: the way back to {goal} could not be confirmed"
    return finish(session, Exit.PERSON_NEEDED, summary, restored.remedy, begun)


def supersede(session: Session, unfinished: Sequence[Open]) -> None:
    """Unfinished runs that this one has put right, or that had changed nothing."""
    for one in unfinished:
        session.recorder.record(Kind.RUN_SUPERSEDED, of_run=one.run, by_run=session.world.run.id)
