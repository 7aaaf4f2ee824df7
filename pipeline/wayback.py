"""The way back: close, restore in reverse, confirm, prove, reconcile, reopen. Or stay closed and tell a person.

Used by a deploy that failed, by `rollback`, and after a crash; it starts from the journal alone and may be repeated.
Every checkpoint is tried even when another fails, and what failed first is never hidden by what fails here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from pipeline.acts import mark
from pipeline.checkpoints import in_order
from pipeline.contracts import (
    Captured,
    Checkpoint,
    Confirmation,
    OnlyWhereNamed,
    ReleaseId,
    ReleaseState,
    RestoreContext,
    SwitchName,
    SwitchOn,
    World,
    kind_of,
)
from pipeline.doors import keep_closed, page_is, test_mode_on
from pipeline.errors import LeaseLost, TollgateError, disk_error
from pipeline.events import Kind
from pipeline.plan import Plan, PlannedStep
from pipeline.reconcile import reconcile
from pipeline.session import Session
from pipeline.stages import ask_all, judge, record_finding, write_traceback
from pipeline.verdict import Finding, Verdict
from pipeline.vouched import asked_when_verified

RESTORE_LIMIT = 90.0
"""Seconds a single checkpoint may take to be restored and confirmed."""

_MANUAL_MOST = 4
"""A person at 3 a.m. reads the first problems; the report has all."""

SETTLE = 20.0
"""Seconds payments made meanwhile may take to settle before the books must agree."""


@dataclass(frozen=True)
class Armed:
    """One checkpoint as a run captured it."""

    name: str
    captured: Captured


@dataclass(frozen=True)
class Way:
    """Where the way back leads. `release` None: nothing was live, the environment stays closed."""

    why: str
    release: ReleaseId | None
    armed: tuple[Armed, ...]
    of_run: str
    bad: ReleaseId | None
    since: datetime
    """Payments made since then are reconciled."""
    test_mode: bool = False
    """A person asked that the shop opens with test mode on."""


class End(Enum):
    """How a way back ended: restored, confirmed, proven and open again; closed for a person; or not even closed."""

    REOPENED = "reopened"
    CLOSED = "closed"
    NOT_CLOSED = "not closed"


async def go_back(session: Session, plan: Plan, way: Way) -> End:
    """Puts back what was captured; where that cannot be confirmed, closes and records what a person must do.

    Raises LeaseLost when another run owns the environment, TollgateError when the journal cannot be written: then
    nothing more is changed here.
    """
    record, clock = session.recorder.record, session.world.clock
    begun = clock.monotonic()
    context = RestoreContext(session.world.target, clock, session.who, way.why, here=session.here, of_run=way.of_run)
    way = replace(way, armed=await _with_every_door(session, context, way.armed))
    record(
        Kind.WAYBACK_STARTED,
        why=way.why,
        release=way.release,
        checkpoints=[{"name": one.name, "captured": dict(one.captured)} for one in way.armed],
        of_run=way.of_run,
        bad=way.bad,
        since=way.since.isoformat(),
        test_mode=way.test_mode,
    )
    problems: list[str] = []
    await _tried(problems, "closing payments", _close_payments(session, way))
    if way.bad is not None and way.bad != way.release:
        await _tried(problems, f"marking {way.bad} bad", _mark_bad(session, way.bad, way.why))
    try:
        problems += await _put_back(session, plan, way, context, sound=not problems)
    except LeaseLost:
        raise
    except TollgateError as error:
        problems.append(_told(error))  # a record that still cannot be written says so again when this is closed
    except Exception as bug:
        write_traceback(session, bug)
        problems.append(f"a bug of Tollgate: {_told(bug)}")
    if problems:
        return await _stay_closed(session, way, problems)
    record(Kind.REOPENED, release=way.release, took_s=round(clock.monotonic() - begun, 3), test_mode=way.test_mode)
    return End.REOPENED


async def _put_back(session: Session, plan: Plan, way: Way, context: RestoreContext, *, sound: bool) -> list[str]:
    """Tries every checkpoint that keeps the door shut, then proves, then opens. Returns what went wrong.

    `sound`: nothing went wrong before; else everything is tried and nothing is opened.
    """
    shut, doors, problems = _split(session.catalogue.checkpoints, way.armed)
    problems += await _restore_each(session, context, shut)
    if way.test_mode:
        proof, serves = closed_by(session, "").proof, way.release is not None and not problems
        await _tried(problems, "test mode", test_mode_on(session, way.why, proof=proof, serves=serves))
        asked = {SwitchName.TEST_MODE.value: session.catalogue.checkpoints[SwitchName.TEST_MODE.value]}
        doors = [Armed(one.name, await asked[one.name].capture(context)) if one.name in asked else one for one in doors]
    if sound and not problems and way.release is not None:
        problems += await _prove_and_reconcile(session, plan, way, way.release)
    if way.release is None:
        await _tell_paid(session, way)
    if sound and not problems:
        for armed in doors:
            problems += await _restore(session, context, armed)
        await _tried(problems, "doors that a person closed meanwhile", keep_closed(session))
    return problems


async def _with_every_door(session: Session, context: RestoreContext, armed: Sequence[Armed]) -> tuple[Armed, ...]:
    """What a run that ended while it armed missed is captured as it stands: it closed a door only to end closed."""
    known = {one.name for one in armed}
    missing = [
        Armed(name, await checkpoint.capture(context))
        for name, checkpoint in session.catalogue.checkpoints.items()
        if checkpoint.reopens and name not in known
    ]
    return (*armed, *missing)


def _split(table: Mapping[str, Checkpoint], armed: Sequence[Armed]) -> tuple[list[Armed], list[Armed], list[str]]:
    """What is restored first, the doors that are opened last, and what this Tollgate cannot restore."""
    shut, doors = in_turn(table, armed)
    unknown = [one.name for one in armed if kind_of(one.name) not in table]
    return shut, doors, [f"checkpoint {name}: this Tollgate has no such kind" for name in unknown]


def in_turn(table: Mapping[str, Checkpoint], armed: Sequence[Armed]) -> tuple[list[Armed], list[Armed]]:
    """What is restored before the proofs and after them, in that order: the reverse of the table's. Pure."""
    by_name = {one.name: one for one in armed if kind_of(one.name) in table}
    known = [by_name[name] for name in reversed(in_order(table, by_name))]
    doors = [one for one in known if table[kind_of(one.name)].reopens]
    return [one for one in known if one not in doors], doors


async def _restore_each(session: Session, context: RestoreContext, shut: Sequence[Armed]) -> list[str]:
    """Every one, although another fails. Returns what went wrong.

    Where one failed and something that follows the release was put back after it, all are tried once more: an old
    release that does not start on a migrated schema does on its own.
    """
    table = session.catalogue.checkpoints
    found = [await _restore(session, context, armed) for armed in shut]
    failed = next((number for number, problems in enumerate(found) if problems), len(found))
    followed = [
        one
        for one, problems in zip(shut[failed:], found[failed:], strict=True)
        if not problems and isinstance(table[kind_of(one.name)], OnlyWhereNamed)
    ]
    if followed:
        found = [await _restore(session, context, armed) for armed in shut]
    return [problem for problems in found for problem in problems]


async def _tried(problems: list[str], what: str, work: object) -> None:
    """Does `work` within the limit; what goes wrong becomes a problem, except that a lost lease ends everything."""
    try:
        async with asyncio.timeout(RESTORE_LIMIT):
            await work  # type: ignore[misc]
    except LeaseLost:
        raise
    except TimeoutError:
        problems.append(f"{what}: not done within {RESTORE_LIMIT:g} s")
    except Exception as error:
        problems.append(f"{what}: {_told(error)}")


async def _close_payments(session: Session, way: Way) -> None:
    """New payments stop; webhooks stay open, because the gateway may never repeat one."""
    session.recorder.record(Kind.PAYMENTS_CLOSED, why=way.why)
    await session.slot.guard()
    await _close_door(session, SwitchName.PAYMENTS_OFF, way.why)
    await let_proofs_pass(session)


async def _close_door(session: Session, name: SwitchName, why: str) -> None:
    """Closes a door, unless a person has: theirs keeps its who and why, and is not opened by the next way back."""
    found = await session.world.target.switches.read(name)
    if found is None or found.run:
        await session.world.target.switches.write(name, closed_by(session, why))


async def let_proofs_pass(session: Session) -> None:
    """A door that somebody closed stays closed, with its who, why and since; only this run's proofs may pass it."""
    switches = session.world.target.switches
    ours = closed_by(session, "").proof
    for name in SwitchName:
        value = await switches.read(name)
        if value is not None and value.proof != ours:
            await switches.write(name, replace(value, proof=ours))


def closed_by(session: Session, why: str) -> SwitchOn:
    """A switch that only this run's proofs may pass."""
    token = session.world.run.proof_token.reveal()
    return SwitchOn(
        who=f"{session.who}, run {session.world.run.id}",
        why=session.redactor.text(why),  # it lies at the target, and visitors may be shown it
        since=session.world.clock.now().isoformat(timespec="seconds"),
        proof=hashlib.sha256(token.encode()).hexdigest(),
        run=session.world.run.id,
    )


async def _mark_bad(session: Session, release: ReleaseId, why: str) -> None:
    known = {one.id: one.state for one in await session.world.target.releases.all()}
    if known.get(release, ReleaseState.BAD) is ReleaseState.BAD:
        return
    await mark(session.world, session.recorder.record, release, ReleaseState.BAD, session.redactor.text(why))


def limit_of(armed: Armed) -> float:
    """Seconds that a checkpoint may take to be restored and confirmed: more where it captured that it needs more."""
    return max(RESTORE_LIMIT, float(armed.captured.get("limit_s", 0)))


async def _restore(session: Session, context: RestoreContext, armed: Armed) -> list[str]:
    """Restores one checkpoint and reads the world again. Returns what went wrong."""
    record, clock = session.recorder.record, session.world.clock
    checkpoint = session.catalogue.checkpoints[kind_of(armed.name)]
    limit = limit_of(armed)
    begun = clock.monotonic()
    record(Kind.CHECKPOINT_RESTORING, name=armed.name)
    confirmation, error = Confirmation(False, "not confirmed", "as captured"), ""
    try:
        async with asyncio.timeout(limit):
            await session.slot.guard()
            await checkpoint.restore(context, armed.captured)
            confirmation = await checkpoint.confirm(context, armed.captured)
    except LeaseLost:
        raise
    except TimeoutError:
        error = f"not restored within {limit:g} s"
    except Exception as failure:
        error = _told(failure)
    record(
        Kind.CHECKPOINT_CONFIRMED,
        name=armed.name,
        ok=confirmation.ok,
        found=confirmation.found,
        expected=confirmation.expected,
        error=error,
        took_s=round(clock.monotonic() - begun, 3),
    )
    if confirmation.ok:
        return []
    return [f"checkpoint {armed.name}: {error or f'found {confirmation.found}, expected {confirmation.expected}'}"]


async def _prove_and_reconcile(session: Session, plan: Plan, way: Way, release: ReleaseId) -> list[str]:
    try:
        world = await session.of_release(release)
    except TollgateError as error:
        return [f"the settings of {release}: {_told(error)}"]
    try:
        return [*await _prove(session, world, plan), *await _reconcile(session, world, way)]
    finally:
        await world.facts.stop()


async def _prove(session: Session, world: World, plan: Plan) -> list[str]:
    """The same proofs that guard a deploy, asked of the release that was put back."""
    steps = [step for step in plan.stage("prove").steps if step.kind == "check"]
    if not steps:
        return ["no proof is planned, so nothing shows that the service works"]
    vouching = asked_when_verified(session.on_record().entries, world.run.release) if world.run.release else None

    async def proof(step: PlannedStep) -> str:
        return await _proof(session, world, step, _only_tells(session, step, vouching))

    return [problem for problem in await ask_all(steps, proof) if problem]


def _only_tells(session: Session, step: PlannedStep, vouching: frozenset[str] | None) -> str:
    """Why a proof does not decide: it is newer than the release, which was known good without it. '' when it does.

    What nobody may accept decides always, and so does everything where it is not on record what vouched.
    """
    asked = vouching is None or step.plugin in vouching
    decides = asked or not session.catalogue.checks[step.plugin].acceptable
    return "" if decides else "the release was verified before this was asked of it"


async def _proof(session: Session, world: World, step: PlannedStep, only_tells: str) -> str:
    try:
        async with asyncio.timeout(step.limit):
            finding = await judge(session, world, step, only_tells=only_tells)
    except TimeoutError:
        late = f"not done within its limit of {step.limit:g} s"
        if not only_tells:
            return f"{step.name}: {late}"
        told = Finding(Verdict.ADVICE, f"{only_tells}, so this does not decide: {late}", "Look at the service's log.")
        finding = record_finding(session, step, told, None)
    return "" if finding.verdict.promotes else f"{step.name}: {finding.verdict}: {finding.reason}"


async def _reconcile(session: Session, world: World, way: Way) -> list[str]:
    try:
        async with asyncio.timeout(RESTORE_LIMIT):
            result = await reconcile(
                world.gateway, world.service, world.clock, since=way.since, settle=SETTLE, repair=True
            )
    except Exception as failure:
        error = _told(failure)
        session.recorder.record(Kind.RECONCILED, ok=False, paid=0, activated=0, repaired=[], mismatches=[], error=error)
        return [f"reconciling payments: {error}"]
    session.recorder.record(
        Kind.RECONCILED,
        ok=result.ok,
        paid=result.paid,
        activated=result.activated,
        repaired=list(result.repaired),
        mismatches=[one.as_data() for one in result.mismatches],
        cents={one.reference: one.amount for one in result.again},
        error="",
    )
    return [f"payment {one.reference}: {one.found}, expected {one.expected}" for one in result.mismatches]


async def _tell_paid(session: Session, way: Way) -> None:
    """No release serves that could activate what was paid meanwhile: it is told, for the next release to settle."""
    world, error, paid = session.world, "", dict[str, int]()
    try:
        async with asyncio.timeout(SETTLE):
            made = await world.gateway.history(way.since, world.clock.now())
        paid = {payment.reference: payment.amount for payment in made if payment.paid}
    except Exception as failure:
        error = _told(failure)
    found, expected = "paid, and no release serves", "1 activation by the next release"
    waiting = [
        {"reference": reference, "found": found, "expected": expected, "cents": paid[reference]}
        for reference in sorted(paid)
    ]
    session.recorder.record(
        Kind.RECONCILED,
        ok=not waiting and not error,
        paid=len(paid),
        activated=0,
        repaired=[],
        mismatches=waiting,
        error=error,
    )


async def _stay_closed(session: Session, way: Way, problems: Sequence[str]) -> End:
    """Maintenance on; if the service does not honour it, the target itself answers. A person is told what to do."""
    why = "; ".join(problems)
    manual = _manual(session, way, problems)
    session.recorder.record(Kind.CLOSED, why=why, how="maintenance switch", manual=manual)
    failures: list[str] = []
    await _tried(failures, "maintenance switch", _close_door(session, SwitchName.MAINTENANCE, why))
    if failures or not await _answers_closed(session):
        session.recorder.record(Kind.CLOSED, why=why, how="the target answers 503 itself", manual=manual)
        closing: list[str] = []
        await _tried(closing, "closing the target", session.world.target.traffic.close())
        if closing:
            at_once = f"{session.environment} is NOT closed. Close it by hand at once, in the proxy in front of it."
            how = f"not closed: {'; '.join([*failures, *closing])}"
            session.recorder.record(Kind.CLOSED, why=why, how=how, manual=[at_once, *manual[1:]])
            return End.NOT_CLOSED
    return End.CLOSED


async def close_unrecorded(session: Session, why: str) -> str:
    """Closes an environment whose journal cannot be written: open and unproven would be worse than unrecorded.

    Opens nothing and restores nothing. Returns how it stands, in words; raises LeaseLost where another run owns it.
    """
    failures: list[str] = []
    await _tried(failures, "maintenance switch", _close_door(session, SwitchName.MAINTENANCE, why))
    if failures or not await _answers_closed(session):
        failures = []
        await _tried(failures, "closing the target", session.world.target.traffic.close())
    env = session.environment
    return f"{env} IS NOT CLOSED AND MUST BE, BY HAND: {'; '.join(failures)}" if failures else f"{env} is closed"


async def _answers_closed(session: Session) -> bool:
    """Whether visitors see 503 for a page."""
    try:
        return (await page_is(session, shut=True)).ok
    except Exception:
        return False  # whatever visitors see, it is not known to be a closed door


def _manual(session: Session, way: Way, problems: Sequence[str]) -> list[str]:
    env = session.environment
    goal = f"release {way.release}" if way.release else "no release live"
    return [
        f"The service in {env} is closed for new payments and must stay so until this is done.",
        *(f"Mend: {problem}" for problem in problems[:_MANUAL_MOST]),
        *([f"{len(problems) - _MANUAL_MOST} more stand in the report."] if len(problems) > _MANUAL_MOST else []),
        f"`./inv status --env {env}` shows what runs; the goal is {goal} with its own settings.",
        f"Then `./inv rollback --env {env}` restores, confirms, proves and reopens; it is safe to repeat.",
    ]


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"not done in time {error}".strip()
    if isinstance(error, TollgateError):
        return f"{error} {error.remedy}".strip()
    if (disk := disk_error(error)) is not None:
        return f"{disk} {disk.remedy}"
    return f"{type(error).__name__}: {error}"
