"""The verb close: a person shuts a door at once, without the lease, and the service is asked whether it is shut.

Closing is always safe, so it waits for nobody: not for a run at work, not for a journal that cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.contracts import Switches, SwitchName, SwitchOn
from pipeline.doors import MEANS, Asked, as_data, by_person, webhooks_answer, who_is_let_in
from pipeline.errors import Exit, PersonNeeded, TollgateError
from pipeline.events import Kind
from pipeline.interrupts import Interrupts
from pipeline.plan import Plan, PlannedStage, PlannedStep
from pipeline.run_record import Outcome, exit_unchanged, finish, record_failure, start
from pipeline.session import Session
from pipeline.spec import Spec

CLOSE, OPEN, ASK = "close", "open", "ask"
_LIMIT_S = 60.0
OPENS_AGAIN = "`./inv open --env {env}` takes the files away again."


@dataclass
class Done:
    """What came of it: the doors that were written, how each stands, what the service was asked."""

    changed: list[SwitchName] = field(default_factory=list)
    stand: dict[SwitchName, SwitchOn | None] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)


def planned(spec: Spec, environment: str, verb: str, doors: Sequence[SwitchName]) -> Plan:
    """What the verbs close and open do, as a value."""
    steps = [PlannedStep(verb, door.value, "act", f"{verb} {door.value}", _LIMIT_S, MEANS[door]) for door in doors]
    asks = PlannedStep(verb, ASK, "act", "ask the service", _LIMIT_S, "changes nothing", network=True)
    return Plan(verb, environment, spec.service, (PlannedStage(verb, (*steps, asks)),))


@contextmanager
def as_stage(session: Session, record: Callable[..., object], verb: str) -> Iterator[None]:
    """The one stage of these verbs, on record."""
    with _ended(session, record, Kind.STAGE_FINISHED, stage=verb):
        record(Kind.STAGE_STARTED, stage=verb)
        yield


@contextmanager
def as_step(session: Session, record: Callable[..., object], verb: str, step: str) -> Iterator[None]:
    with _ended(session, record, Kind.STEP_FINISHED, stage=verb, step=step):
        does = "ask the service" if step == ASK else f"{verb} {step}"
        record(Kind.STEP_STARTED, stage=verb, step=step, does=does, limit_s=_LIMIT_S, attempt=1)
        yield


@contextmanager
def _ended(session: Session, record: Callable[..., object], kind: Kind, **where: str) -> Iterator[None]:
    """Records how it ended: done, failed with its error, or cancelled by a signal."""
    clock, outcome, error, remedy = session.world.clock, "cancelled", "", ""
    begun = clock.monotonic()
    try:
        yield
        outcome = "done"
    except Exception as failure:
        outcome, error, remedy = "failed", str(failure), getattr(failure, "remedy", "")
        raise
    finally:
        told = {"error": error, "remedy": remedy} if kind is Kind.STEP_FINISHED else {}
        record(kind, **where, outcome=outcome, **told, took_s=round(clock.monotonic() - begun, 3))


async def close(
    session: Session, switches: Switches, plan: Plan, doors: Sequence[SwitchName], *, reason: str, done: Done
) -> Outcome:
    """Closes `doors` and asks the service. `switches` writes without a lease: a run at work respects a person's door.

    Raises PersonNeeded where it is closed and cannot be put on record.
    """
    begun, unrecorded = session.world.clock.monotonic(), list[TollgateError]()

    def record(kind: Kind, **data: Any) -> None:
        """On record before it is done; what cannot be is done all the same."""
        try:
            session.recorder.record(kind, **data)
        except TollgateError as error:
            unrecorded.append(error)

    try:
        start(session, plan, session.phase(), None, reason=reason)
    except TollgateError as error:
        unrecorded.append(error)

    async def work() -> None:
        with as_stage(session, record, CLOSE):
            for door in doors:
                with as_step(session, record, CLOSE, door.value):
                    await _shut(session, switches, door, reason, done, record)
            with as_step(session, record, CLOSE, ASK):
                await _asked(session, doors, done)

    with Interrupts(lambda line: session.recorder.show(CLOSE, "signal", line)) as interrupts:
        failure = await interrupts.until(work())
    shut = "; ".join(f"{door.value} is on: {MEANS[door]}" for door in doors)
    if unrecorded:
        stands = str(failure) if failure else shut
        raise PersonNeeded(
            f"{session.environment}: {stands}; it is not on record: {unrecorded[0]}", unrecorded[0].remedy
        )
    if failure is None:
        return finish(session, Exit.DONE, f"{session.environment}: {shut}", "", begun)
    message, remedy = record_failure(session, failure)
    code = Exit.PERSON_NEEDED if done.changed else exit_unchanged(failure)
    return finish(session, code, message, remedy, begun)


async def _shut(
    session: Session,
    switches: Switches,
    door: SwitchName,
    reason: str,
    done: Done,
    record: Callable[..., object],
) -> None:
    """A door that a person closed before keeps its who and why; one that a run closed becomes a person's."""
    found = await switches.read(door)
    done.stand[door] = found
    if found is not None and not found.run:
        session.recorder.show(CLOSE, door.value, f"{door.value} is closed already, since {found.since} by {found.who}")
        return
    value = by_person(session, reason, proof=await _proof(switches))
    record(Kind.DOOR_CLOSED, **as_data(door, value))
    done.changed.append(door)
    await switches.write(door, value)
    done.stand[door] = replace(value)


async def _proof(switches: Switches) -> str:
    """What passes the doors that a run has closed now passes this one too, so that its proofs can be asked."""
    standing = [await switches.read(door) for door in SwitchName]
    return next((one.proof for one in standing if one is not None and one.run), "")


async def _asked(session: Session, doors: Sequence[SwitchName], done: Done) -> None:
    """Raises PersonNeeded where the service does not do what the files say, or nobody can tell."""
    for door in doors:
        done.asked += await who_is_let_in(session, door, shut=True)
    if await _serves(session):
        done.asked.append(await webhooks_answer(session))
    wrong = [str(one) for one in done.asked if not one.ok]
    if wrong:
        raise PersonNeeded(
            f"the file is written, and {session.environment} does not do what it says: {'; '.join(wrong)}",
            "Close it in the proxy in front of it now, without the webhook path. docs/service.md says how a service "
            f"reads the files. {OPENS_AGAIN.format(env=session.environment)}",
        )


async def _serves(session: Session) -> bool:
    """Whether a release serves: without one the target answers 503 to everything, and webhooks come again later."""
    try:
        return await session.world.target.traffic.live() is not None
    except TollgateError:
        return True
