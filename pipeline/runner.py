"""The verbs that go forward, each a readable list of what it does: deploy, resume, and the two that only judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.acts import mark
from pipeline.build_lock import one_build_at_a_time
from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState, SwitchName, World
from pipeline.errors import Exit, LeaseLost, PersonNeeded, Refused, TakenOver, Usage
from pipeline.events import Kind
from pipeline.interrupts import Interrupts
from pipeline.lease import GivesWay, Lease, Owner
from pipeline.plan import FINISH, Plan
from pipeline.proving import prover
from pipeline.run_record import (
    Outcome,
    ending_on_record,
    exit_unchanged,
    finish,
    holding,
    last_verified,
    record_failure,
    start,
    supersede,
    take_back,
)
from pipeline.session import Session
from pipeline.stages import Done, run_stage
from pipeline.standing import Open, armed_by, open_runs, release_in
from pipeline.wayback import Way, let_proofs_pass


async def deploy(session: Session, plan: Plan, owner: Owner, *, reason: str = "") -> Outcome:
    """Takes the lease, runs every stage, and takes it all back when one fails after the first change.

    Raises LeaseHeld, PersonNeeded (an unfinished run), Usage or Refused before anything is on record.
    """
    _refuse_unjudged(plan)
    with _interrupts(session) as interrupts:
        async with holding(session, owner, "deploy", GivesWay.NOW) as lease:
            unchanged = _refuse_unfinished(open_runs(session.journal.entries()), session.environment)
            releases = await session.world.target.releases.all()
            live = await _refuse_unverified(session, releases)
            world = session.phase(previous=live or last_verified(releases, but=None))
            start(session, plan, world, lease, reason=reason)
            supersede(session, unchanged)
            return await _deploy(session, plan, world, Done(), interrupts, lease)


async def resume(session: Session, plan: Plan, owner: Owner, unfinished: Open) -> Outcome:
    """Continues `unfinished` from its first step not finished; the session must have been opened for that run.

    Raises PersonNeeded where the way back had begun, Refused where pipeline.yaml has changed since.
    """
    with _interrupts(session) as interrupts:
        async with holding(session, owner, "deploy", GivesWay.NOW) as lease:
            now = next((one for one in open_runs(session.journal.entries()) if one.run == unfinished.run), None)
            if now is None:
                raise Refused(f"run {unfinished.run} is not unfinished any more", "`./inv history` shows how it ended.")
            refuse_resuming(now, plan, session.environment)
            await _refuse_closed(session, now.run)
            world, done = await _where_it_stood(session, plan, now)
            session.recorder.changed = now.changed
            start(session, plan, world, lease, reason=f"resumed; it stood at {now.stands_at}", resumes=now.run)
            return await _deploy(session, plan, world, done, interrupts, lease)


async def _where_it_stood(session: Session, plan: Plan, unfinished: Open) -> tuple[World, Done]:
    """The world and the steps done as a resumed run needs them.

    Once its release is staged, it goes on with the settings that were staged. Before, it judges and builds anew: the
    settings may have changed since, and the folder a build leaves may be another run's by now.
    """
    done = unfinished.done
    run = {"previous": unfinished.previous, "started": unfinished.started}
    steps = {(step.stage, step.name) for stage in plan.stages for step in stage.steps if step.plugin == "release.stage"}
    if unfinished.release is not None and steps and steps <= done.steps:
        return await session.of_release(unfinished.release, **run), done
    return session.phase(release=unfinished.release, **run), replace(
        done, steps=frozenset(one for one in done.steps if one[0] not in ("gates", "build"))
    )


async def _deploy(
    session: Session, plan: Plan, world: World, done: Done, interrupts: Interrupts, lease: Lease
) -> Outcome:
    begun = world.clock.monotonic()
    world = replace(world, prove=prover(session, plan))

    async def run(*names: str) -> None:
        for stage in plan.stages:
            if stage.name in names:
                await run_stage(session, world, stage, done, to_the_end=stage.name == "gates")

    async def stages() -> None:
        await run("gates")
        async with one_build_at_a_time(world.root, world.clock, lambda line: session.recorder.show("build", "", line)):
            await run("build", "deploy")
        await let_proofs_pass(session)
        await run("prove", "watch", FINISH)

    failure = await interrupts.until(stages(), lease)
    await world.facts.stop()
    async with ending_on_record(session, failure):
        if failure is not None:
            return await _after_failure(session, plan, world, failure, lease, begun)
        summary = f"{world.run.release} is live and verified in {session.environment}"
        return finish(session, Exit.DONE, summary, "", begun)


async def _after_failure(
    session: Session, plan: Plan, world: World, failure: BaseException, lease: Lease, begun: float
) -> Outcome:
    """Puts the first error on record, then takes back what was changed; that is a rollback's where one took over."""
    message, remedy = record_failure(session, failure)
    armed = armed_by(session.journal.entries(session.recorder.run))
    if isinstance(failure, LeaseLost):
        return finish(session, failure.exit_code, f"{message}; nothing more was changed", remedy, begun)
    try:
        lease.be_waited_for()
    except TakenOver as over:
        return finish(session, over.exit_code, f"{message}; {over}; nothing more was changed", over.remedy, begun)
    if not armed:
        await _discard(session, world, message)
        return finish(session, exit_unchanged(failure), f"{message}; nothing was changed", remedy, begun)
    way = Way(
        why=message,
        release=release_in(armed),
        armed=armed,
        of_run=world.run.id,
        bad=world.run.release,
        since=world.run.started,
    )
    return await take_back(session, plan, way, begun, Outcome(world.run.id, Exit.RESTORED, message, remedy))


def refuse_resuming(unfinished: Open, plan: Plan, environment: str) -> None:
    """Raises unless `unfinished` may be continued with `plan`."""
    if not unfinished.resumable:
        raise PersonNeeded(
            f"run {unfinished.run} was on its way back, it stood at {unfinished.stands_at}",
            f"`./inv rollback --env {environment}` goes on with it.",
        )
    if unfinished.plan_digest != plan.digest():
        raise Refused(
            f"pipeline.yaml plans other steps than when run {unfinished.run} began",
            f"`./inv rollback --env {environment}` takes that run back; then deploy anew.",
        )


async def _refuse_closed(session: Session, run: str) -> None:
    """A run that could not be recorded any more closed the environment: only a way back proves, and opens again."""
    for name in SwitchName:
        found = await session.world.target.switches.read(name)
        if found is not None and found.run == run:
            raise PersonNeeded(
                f"run {run} closed {session.environment} when it could not go on: {found.why}",
                f"`./inv rollback --env {session.environment}` takes it back, proves and opens; then deploy anew.",
            )


def _refuse_unjudged(plan: Plan) -> None:
    """Nothing measured is not a pass: a deploy has a gate and a proof, in this environment."""
    for stage in ("gates", "prove"):
        if not any(step.kind == "check" for step in plan.stage(stage).steps):
            raise Usage(
                f"pipeline.yaml: stages.{stage} has no check for {plan.environment}, so nothing would be judged there",
                f"Add {plan.environment} to `only` of a check of that stage, or a check of its own.",
            )


def _refuse_unfinished(unfinished: Sequence[Open], environment: str) -> Sequence[Open]:
    """Runs that changed nothing are set aside; one that did must be put right first."""
    for one in unfinished:
        if not one.changed:
            continue
        state = f"closed {environment}, which needs a person" if one.closed else "was left unfinished"
        resume_hint = f"`./inv deploy --resume --env {environment}` continues it, " if one.resumable else ""
        raise PersonNeeded(
            f"run {one.run} ({one.verb}) {state}: it stands at {one.stands_at}",
            f"{resume_hint}`./inv rollback --env {environment}` takes it back; both are safe to repeat.",
        )
    return unfinished


async def _refuse_unverified(session: Session, releases: Sequence[ReleaseRecord]) -> ReleaseId | None:
    """The live release, which is what a failed deploy goes back to: it must be verified."""
    live = await session.world.target.traffic.live()
    state = next((one.state for one in releases if one.id == live), None)
    if live is not None and state is not ReleaseState.VERIFIED:
        raise PersonNeeded(
            f"{live} is live in {session.environment} but {state or 'unknown'}: a failed deploy could not return to it",
            f"`./inv rollback --env {session.environment}` goes to the last verified release first.",
        )
    return live


async def _discard(session: Session, world: World, why: str) -> None:
    """A release that was staged and never served is marked bad, so that nothing goes back to it."""
    release = world.run.release
    staged = {Kind.RELEASE_MARKED} & {entry.kind for entry in session.journal.entries(session.recorder.run)}
    if staged and release is not None:
        try:
            await mark(world, session.recorder.record, release, ReleaseState.BAD, why)
        except LeaseLost:
            raise
        except Exception as error:  # the run ends as its first error says
            session.recorder.show("finish", "discard", f"could not mark {release} bad: {error}")


async def look(session: Session, plan: Plan) -> Outcome:
    """Runs a plan that only judges: the gates (`validate`), or proofs of what is live. Takes no lease."""
    begun = session.world.clock.monotonic()
    proves = bool(plan.stage("prove").steps)
    live = await session.world.target.traffic.live() if proves else None
    if proves and live is None:
        raise Refused(f"nothing is live in {session.environment}", f"`./inv deploy --env {session.environment}`")
    world = session.phase() if live is None else await session.of_release(live)
    start(session, plan, world, None, reason="")
    if not plan.stages:
        return finish(session, Exit.REFUSED, "nothing was planned, so nothing was judged", "See `./inv plan`.", begun)

    async def stages() -> None:
        for stage in plan.stages:
            await run_stage(session, world, stage, Done(), to_the_end=True)

    with _interrupts(session) as interrupts:
        failure = await interrupts.until(stages())
    await world.facts.stop()
    if failure is None:
        return finish(session, Exit.DONE, f"{plan.verb} of {session.environment} passed", "", begun)
    message, remedy = record_failure(session, failure)
    return finish(session, exit_unchanged(failure), message, remedy, begun)


def _interrupts(session: Session) -> Interrupts:
    return Interrupts(lambda line: session.recorder.show("run", "signal", line))
