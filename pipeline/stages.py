"""Runs the stages of a plan: in order, the steps of one side by side unless they say `needs`, within their limits."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

from pipeline import checkpoints, command
from pipeline.accepting import Acceptance, accept, entry_for
from pipeline.acts import ACTS
from pipeline.contracts import RestoreContext, Tell, World, kind_of
from pipeline.errors import CommandFailed, LeaseLost, Refused, TollgateError, disk_error
from pipeline.events import Kind
from pipeline.facts import Facts
from pipeline.plan import PlannedStage, PlannedStep
from pipeline.recovery import classify
from pipeline.session import Session
from pipeline.telling import Manner
from pipeline.verdict import Finding, Verdict

T = TypeVar("T")


class StepFailed(TollgateError):
    """The first step of a stage that did not promote; what the run reports as its first error.

    `error_class`: as the finding says; '' where it is that of the error it was raised from.
    """

    def __init__(self, step: PlannedStep, message: str, remedy: str, *, error_class: str = "") -> None:
        super().__init__(message, remedy)
        self.step = step
        self.error_class = error_class


@dataclass(frozen=True)
class Done:
    """What of a plan is finished already: a resumed run does not do it again."""

    steps: frozenset[tuple[str, str]] = frozenset()


async def run_stage(
    session: Session, world: World, stage: PlannedStage, done: Done, *, to_the_end: bool = False
) -> list[tuple[PlannedStep, Finding]]:
    """Runs a stage; returns the findings of its checks. Raises StepFailed for the first step that failed.

    `to_the_end`: a failure does not cancel the other steps, so that every mistake is told at once.
    """
    record = session.recorder.record
    begun = world.clock.monotonic()
    record(Kind.STAGE_STARTED, stage=stage.name)
    findings: list[tuple[PlannedStep, Finding]] = []
    outcome = "failed"
    try:
        failures = await _run_steps(session, world, stage, done, findings, to_the_end)
        if not failures:
            outcome = "done"
            return findings
        raise failures[0]
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        record(Kind.STAGE_FINISHED, stage=stage.name, outcome=outcome, took_s=_since(world, begun))


async def _run_steps(
    session: Session,
    world: World,
    stage: PlannedStage,
    done: Done,
    findings: list[tuple[PlannedStep, Finding]],
    to_the_end: bool,
) -> list[Exception]:
    """Returns the failures, bugs of ours among them, in the order they happened."""
    failures: list[Exception] = []
    running: dict[str, asyncio.Task[bool]] = {}

    async def one(step: PlannedStep) -> bool:
        if step.needs and not all(await asyncio.gather(*(asyncio.shield(running[name]) for name in step.needs))):
            return False
        if (step.stage, step.name) in done.steps:
            return True
        try:
            finding = await _attempts(session, world, step)
        except Exception as error:
            failures.append(error)
            if not to_the_end and len(failures) == 1:
                _cancel_others(running, step)
            return False
        if finding is not None:
            findings.append((step, finding))
        return True

    for step in _needed_first(stage.steps):
        running[step.name] = asyncio.create_task(one(step), name=f"{stage.name} {step.name}")
    await asyncio.gather(*running.values(), return_exceptions=True)  # cancelled, it cancels them and waits for them
    return failures


def _needed_first(steps: tuple[PlannedStep, ...]) -> list[PlannedStep]:
    """Steps ordered so that what a step needs stands before it; the loader refused cycles."""
    placed: list[PlannedStep] = []
    waiting = list(steps)
    while waiting:
        names = {step.name for step in placed}
        ready = [step for step in waiting if set(step.needs) <= names]
        if not ready:
            raise RuntimeError(f"steps need each other in a circle: {[step.name for step in waiting]}")
        placed += ready
        waiting = [step for step in waiting if step not in ready]
    return placed


def _cancel_others(running: dict[str, asyncio.Task[bool]], step: PlannedStep) -> None:
    for name, task in running.items():
        if name != step.name:
            task.cancel()


async def _attempts(session: Session, world: World, step: PlannedStep) -> Finding | None:
    """Tries a step as often as it declares, after a failure with facts of its own. Returns the finding of a check."""
    for attempt in range(1, step.retries + 2):
        seen = world if attempt == 1 else replace(world, facts=Facts())
        try:
            return await _attempt(session, seen, step, attempt)
        except StepFailed:
            if attempt > step.retries:
                raise
        finally:
            if attempt > 1:
                await seen.facts.stop()
    raise RuntimeError("a step without an attempt")


async def _attempt(session: Session, world: World, step: PlannedStep, attempt: int) -> Finding | None:
    record = session.recorder.record
    begun = world.clock.monotonic()
    record(Kind.STEP_STARTED, stage=step.stage, step=step.name, does=step.does, limit_s=step.limit, attempt=attempt)
    outcome, error, remedy = "failed", "", ""
    try:
        async with asyncio.timeout(step.limit) as limit:
            finding = await _perform(session, world, step)
        outcome = _outcome(step, finding)
        return finding
    except TimeoutError as late:
        outcome, error = "timed out", f"not done within its limit of {step.limit:g} s"
        if not limit.expired():
            outcome, error = "failed", f"a time limit inside it ran out: {late}"
        remedy = "Look at what it waited for in the output above; raise `timeout` only if that is healthy."
        raise StepFailed(step, f"{step.name}: {error}", remedy) from late
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    except (StepFailed, LeaseLost) as failure:
        error, remedy = str(failure), failure.remedy
        raise
    except TollgateError as failure:
        error, remedy = str(failure), failure.remedy
        raise StepFailed(step, f"{step.name}: {error}", remedy) from failure
    except Exception as bug:
        if (disk := disk_error(bug, step.name)) is not None:
            error, remedy = str(disk), disk.remedy
            raise StepFailed(step, f"{step.name}: {error}", remedy) from disk
        error = f"a bug of Tollgate: {type(bug).__name__}: {bug}"
        raise
    finally:
        record(
            Kind.STEP_FINISHED,
            stage=step.stage,
            step=step.name,
            outcome=outcome,
            error=error,
            remedy=remedy,
            took_s=_since(world, begun),
        )


def _outcome(step: PlannedStep, finding: Finding | None) -> str:
    """How a step that ran to its end is told; only promoting verdicts are a good end."""
    if finding is None:
        return "done"
    if not finding.verdict.promotes:
        raise StepFailed(step, f"{step.name}: {finding.reason}", finding.remedy, error_class=finding.error_class)
    return "skipped" if finding.verdict is Verdict.SKIPPED else "done"


async def _perform(session: Session, world: World, step: PlannedStep) -> Finding | None:
    match step.kind:
        case "check":
            return await judge(session, world, step)
        case "run":
            await _run_command(session, world, step)
        case "act":
            await _arm(session, world, step)
            await session.slot.guard()
            summary = await ACTS[step.plugin].perform(world, session.recorder.record)
            session.recorder.show(step.stage, step.name, summary)
    return None


async def judge(session: Session, world: World, step: PlannedStep, *, only_tells: str = "") -> Finding:
    """Gathers and judges one check; its finding is on record. Whatever goes wrong inside it is an ERROR, which blocks.

    A judgement that is no finding, or holds what the journal cannot, has gone wrong as well. What somebody answers for
    under `accepted` is judged by that last, and told with it. `only_tells`: why nothing that it finds decides here.
    """
    finding = await _judged(session, world, step)
    if only_tells and isinstance(finding, Finding) and not finding.verdict.promotes:
        told = f"{only_tells}, so this does not decide: {finding.verdict}: {finding.reason}"
        finding = replace(finding, verdict=Verdict.ADVICE, reason=told)
    try:
        return record_finding(session, step, *_accepted(session, world, step, finding))
    except (AttributeError, TypeError, ValueError) as error:
        crashed = _crashed(session, error)
        return record_finding(session, step, *_accepted(session, world, step, crashed))


async def ask_all(steps: Sequence[PlannedStep], ask: Callable[[PlannedStep], Awaitable[T]]) -> Sequence[T]:
    """What `ask` answers for each step, each after those it needs, whatever became of them: every answer is told.

    Where one raises or this is cancelled, none of the others goes on.
    """
    asked: dict[str, asyncio.Task[T]] = {}

    async def in_turn(step: PlannedStep) -> T:
        before = [asked[name] for name in step.needs if name in asked]
        if before:
            await asyncio.wait(before)
        return await ask(step)

    asked |= {step.name: asyncio.create_task(in_turn(step), name=f"{step.stage} {step.name}") for step in steps}
    try:
        return await asyncio.gather(*asked.values())
    finally:
        for task in asked.values():
            task.cancel()
        await asyncio.gather(*asked.values(), return_exceptions=True)


async def look_at(session: Session, world: World, step: PlannedStep) -> Finding:
    """The finding of one check, not on record, with what somebody answers for taken into account."""
    try:
        return _accepted(session, world, step, await _judged(session, world, step))[0]
    except (AttributeError, TypeError, ValueError) as error:
        return _crashed(session, error)


def _accepted(session: Session, world: World, step: PlannedStep, finding: Finding) -> tuple[Finding, Acceptance | None]:
    check, accepted = session.catalogue.checks[step.plugin], session.spec.accepted
    entry = entry_for(check.name, session.environment, accepted) if check.acceptable else None
    return accept(finding, entry, world.clock.now().astimezone(UTC).date())


async def _judged(session: Session, world: World, step: PlannedStep) -> Finding:
    check = session.catalogue.checks[step.plugin]
    try:
        fact = await check.gather(replace(world, tell=_teller(session, step)), step.params)
        return check.judge(fact, step.params)
    except LeaseLost:
        raise
    except TollgateError as error:
        fix = error.remedy or f"See docs/checks/{check.name}.md."
        return Finding(Verdict.ERROR, str(error), fix, error_class=classify(error).name)
    except TimeoutError as error:
        late = f"a time limit inside the check ran out: {error}"
        return Finding(Verdict.ERROR, late, "Look at the service's log.", error_class=classify(error).name)
    except Exception as error:
        return _crashed(session, error)


def _teller(session: Session, step: PlannedStep) -> Tell:
    def tell(line: str, manner: Manner = Manner.SAID, /) -> None:
        session.recorder.show(step.stage, step.name, line, manner)

    return tell


def _crashed(session: Session, error: Exception) -> Finding:
    if (disk := disk_error(error)) is not None:
        return Finding(Verdict.ERROR, str(disk), disk.remedy, error_class=classify(disk).name)
    write_traceback(session, error)
    return Finding(
        Verdict.ERROR,
        f"the check crashed: {type(error).__name__}: {error}",
        f"This is a bug in the check; the traceback is in {traceback_file(session)}.",
        error_class=classify(error).name,
    )


def record_finding(session: Session, step: PlannedStep, finding: Finding, acceptance: Acceptance | None) -> Finding:
    check = session.catalogue.checks[step.plugin]
    session.recorder.record(
        Kind.FINDING,
        stage=step.stage,
        step=step.name,
        check=step.plugin,
        verdict=finding.verdict.value,
        reason=finding.reason,
        remedy=finding.remedy,
        evidence=dict(finding.evidence),
        rows=list(check.rows),
        pci=list(check.pci),
        places=[{"file": place.file, "line": place.line, "what": place.what} for place in finding.places],
        **({"accepted": acceptance.as_data()} if acceptance else {}),
    )
    return finding


async def _run_command(session: Session, world: World, step: PlannedStep) -> None:
    environment = dict(session.command_environment)
    if step.pass_settings:
        environment |= {name: world.settings.text(name) for name in world.settings.values}
    finished = await command.run(
        command.shell_line(step.argv[0]) if step.shell else step.argv,
        timeout=step.limit,
        cwd=world.root / step.cwd,
        env=environment,
        on_line=lambda line: session.recorder.show(step.stage, step.name, line),
        redactor=session.redactor,
    )
    if finished.returncode != 0:
        tail = " / ".join((finished.stderr or finished.stdout).strip().splitlines()[-3:])
        raise CommandFailed(
            f"`{' '.join(step.argv)}` ended with {finished.returncode}: {tail or 'it printed nothing'}",
            f"Run it by hand in {world.root / step.cwd} to see all of it.",
            returncode=finished.returncode,
        )


async def _arm(session: Session, world: World, step: PlannedStep) -> None:
    """Captures every checkpoint of a step, durable, before the step changes anything.

    The doors are always among them: the way back closes some of them, so it must know how they stood; and so is
    `release`, for that is where it leads. They are armed in the order of their table, because the way back
    restores in reverse of it. A run captures each only once: what a second attempt, or a later step, would see is its
    own work. Nothing is armed unless all could be captured: a run that armed something is one that must be taken back.
    """
    if not step.checkpoints:
        return
    table = session.catalogue.checkpoints
    context = RestoreContext(
        world.target,
        world.clock,
        session.who,
        f"run {world.run.id}",
        here=session.here,
        release=world.run.release,
    )
    armed = _armed(session)
    named = checkpoints.in_order(table, [*step.checkpoints, *checkpoints.always(table)])
    wanted = [name for name in named if name not in armed]
    captured = {}
    for name in wanted:
        aimed = replace(context, wanted=checkpoints.wanted(session.spec, table, name))
        captured[name] = _as_it_is_kept(session, name, dict(await table[kind_of(name)].capture(aimed)))
    armed = _armed(session)  # another step may have been quicker
    for name in (name for name in wanted if name not in armed):
        session.recorder.record(
            Kind.CHECKPOINT_ARMED, stage=step.stage, step=step.name, name=name, captured=captured[name]
        )


def _as_it_is_kept(session: Session, name: str, captured: dict[str, Any]) -> dict[str, Any]:
    """Returns `captured`. Raises Refused where the record would take a secret out of it: that could not be restored."""
    table = session.catalogue.checkpoints
    if checkpoints.described(table, name) and session.redactor.data(captured) != captured:
        raise Refused(
            f"checkpoint {name}: what it captured holds a secret, which the record does not keep",
            "Let its commands hand over no secret: a name, a file or a version is enough.",
        )
    return captured


def _armed(session: Session) -> frozenset[str]:
    """The checkpoints this run has on record, those of before it was resumed among them."""
    entries = session.journal.entries(session.recorder.run)
    return frozenset(entry.data["name"] for entry in entries if entry.kind is Kind.CHECKPOINT_ARMED)


def traceback_file(session: Session) -> Path:
    return session.state / "reports" / session.recorder.run / "traceback.log"


def write_traceback(session: Session, error: BaseException) -> None:
    """Keeps a traceback of a bug for whoever mends it, redacted, mode 0600; where there is room for it."""
    path = traceback_file(session)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as log:
            log.write(session.redactor.text("".join(traceback.format_exception(error))))


def _since(world: World, begun: float) -> float:
    return round(world.clock.monotonic() - begun, 3)
