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

from pipeline.contracts import (
    Captured,
    Checkpoint,
    Confirmation,
    ReleaseId,
    ReleaseState,
    RestoreContext,
    SwitchName,
    SwitchOn,
    World,
)
from pipeline.errors import LeaseLost, ServiceError, TollgateError
from pipeline.events import Kind
from pipeline.plan import Plan, PlannedStep
from pipeline.reconcile import reconcile
from pipeline.session import Session
from pipeline.stages import judge, record_finding

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


async def go_back(session: Session, plan: Plan, way: Way) -> bool:
    """True: restored, confirmed, proven, reopened. False: closed, and what a person must do is on record.

    Raises LeaseLost when another run owns the environment; then nothing more is changed here.
    """
    record, clock = session.recorder.record, session.world.clock
    begun = clock.monotonic()
    record(
        Kind.WAYBACK_STARTED,
        why=way.why,
        release=way.release,
        checkpoints=[{"name": one.name, "captured": dict(one.captured)} for one in way.armed],
        of_run=way.of_run,
        bad=way.bad,
        since=way.since.isoformat(),
    )
    context = RestoreContext(session.world.target, clock, session.who, way.why)
    problems: list[str] = []
    await _tried(problems, "closing payments", _close_payments(session, way))
    if way.bad is not None and way.bad != way.release:
        await _tried(problems, f"marking {way.bad} bad", _mark_bad(session, way.bad, way.why))
    shut, doors = _split(session.catalogue.checkpoints, way.armed)
    for armed in reversed(shut):
        problems += await _restore(session, context, armed)
    if not problems and way.release is not None:
        problems += await _prove_and_reconcile(session, plan, way, way.release)
    if not problems:
        for armed in reversed(doors):
            problems += await _restore(session, context, armed)
    if problems:
        await _stay_closed(session, way, problems)
        return False
    record(Kind.REOPENED, release=way.release, took_s=round(clock.monotonic() - begun, 3))
    return True


def _split(table: Mapping[str, Checkpoint], armed: Sequence[Armed]) -> tuple[tuple[Armed, ...], tuple[Armed, ...]]:
    """What is restored first, and the doors that are opened last."""
    shut = tuple(one for one in armed if not table[one.name].reopens)
    return shut, tuple(one for one in armed if table[one.name].reopens)


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
    await session.world.target.switches.write(SwitchName.PAYMENTS_OFF, closed_by(session, way.why))
    await let_proofs_pass(session)


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
        why=why,
        since=session.world.clock.now().isoformat(timespec="seconds"),
        proof=hashlib.sha256(token.encode()).hexdigest(),
    )


async def _mark_bad(session: Session, release: ReleaseId, why: str) -> None:
    known = {one.id: one.state for one in await session.world.target.releases.all()}
    if known.get(release, ReleaseState.BAD) is ReleaseState.BAD:
        return
    session.recorder.record(Kind.RELEASE_MARKED, release=release, state=ReleaseState.BAD.value, why=why)
    await session.world.target.releases.mark(release, ReleaseState.BAD, why)


async def _restore(session: Session, context: RestoreContext, armed: Armed) -> list[str]:
    """Restores one checkpoint and reads the world again. Returns what went wrong."""
    record, clock = session.recorder.record, session.world.clock
    checkpoint = session.catalogue.checkpoints[armed.name]
    begun = clock.monotonic()
    record(Kind.CHECKPOINT_RESTORING, name=armed.name)
    confirmation, error = Confirmation(False, "not confirmed", "as captured"), ""
    try:
        async with asyncio.timeout(RESTORE_LIMIT):
            await session.slot.guard()
            await checkpoint.restore(context, armed.captured)
            confirmation = await checkpoint.confirm(context, armed.captured)
    except LeaseLost:
        raise
    except TimeoutError:
        error = f"not restored within {RESTORE_LIMIT:g} s"
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
    problems = await _prove(session, world, plan)
    problems += await _reconcile(session, world, way)
    await world.facts.stop()
    return problems


async def _prove(session: Session, world: World, plan: Plan) -> list[str]:
    """The same proofs that guard a deploy, asked of the release that was put back."""
    steps = [step for step in plan.stage("prove").steps if step.kind == "check"]
    if not steps:
        return ["no proof is planned, so nothing shows that the service works"]
    findings = await asyncio.gather(*(_proof(session, world, step) for step in steps))
    return [problem for problem in findings if problem]


async def _proof(session: Session, world: World, step: PlannedStep) -> str:
    try:
        async with asyncio.timeout(step.limit):
            finding = await judge(session, world, step)
    except TimeoutError:
        return f"{step.name}: not done within its limit of {step.limit:g} s"
    record_finding(session, step, finding)
    return "" if finding.verdict.promotes else f"{step.name}: {finding.verdict}: {finding.reason}"


async def _reconcile(session: Session, world: World, way: Way) -> list[str]:
    try:
        result = await reconcile(world.gateway, world.service, world.clock, since=way.since, settle=SETTLE, repair=True)
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
        mismatches=[
            {"reference": one.reference, "found": one.found, "expected": one.expected} for one in result.mismatches
        ],
        error="",
    )
    return [f"payment {one.reference}: {one.found}, expected {one.expected}" for one in result.mismatches]


async def _stay_closed(session: Session, way: Way, problems: Sequence[str]) -> None:
    """Maintenance on; if the service does not honour it, the target itself answers. A person is told what to do."""
    why = "; ".join(problems)
    manual = _manual(session, way, problems)
    session.recorder.record(Kind.CLOSED, why=why, how="maintenance switch", manual=manual)
    failures: list[str] = []
    switch = session.world.target.switches.write(SwitchName.MAINTENANCE, closed_by(session, why))
    await _tried(failures, "maintenance switch", switch)
    if failures or not await _answers_closed(session):
        session.recorder.record(Kind.CLOSED, why=why, how="the target answers 503 itself", manual=manual)
        await _tried(failures, "closing the target", session.world.target.traffic.close())
    for failure in failures:
        session.recorder.show("way back", "close", f"NOT CLOSED: {failure}")


async def _answers_closed(session: Session) -> bool:
    """Whether visitors see 503 for a page."""
    for _ in range(10):
        try:
            if (await session.world.service.request("GET", "/", timeout=5.0)).status == 503:
                return True
        except ServiceError:
            return False
        await session.world.clock.sleep(0.2)
    return False


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
    if isinstance(error, TollgateError):
        return f"{error} {error.remedy}".strip()
    return f"{type(error).__name__}: {error}"
