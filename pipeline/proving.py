"""Proves the release that is live before another one takes its place: the proofs of `prove`, as `verify` asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from pipeline.contracts import Proof, Prove, ReleaseId, World
from pipeline.facts import Facts
from pipeline.plan import Plan, PlannedStep
from pipeline.session import Session
from pipeline.stages import ask_all, look_at
from pipeline.verdict import Finding, Verdict
from pipeline.wayback import let_proofs_pass


def prover(session: Session, plan: Plan) -> Prove:
    """What a check of a deploy asks for. The findings are the check's to put on record, so that none of them passes for
    one of the new release; what they pay counts against the cap of the run.
    """

    async def prove(release: ReleaseId, /) -> Sequence[Proof]:
        await session.slot.guard()
        await let_proofs_pass(session)
        world = await session.of_release(release)
        steps = [step for step in plan.stage("prove").steps if step.kind == "check"]

        async def proof(step: PlannedStep) -> Proof:
            return Proof(step.name, await _attempts(session, world, step))

        try:
            return await ask_all(steps, proof)
        finally:
            await world.facts.stop()

    return prove


async def _attempts(session: Session, world: World, step: PlannedStep) -> Finding:
    finding = await _within_its_limit(session, world, step)
    for _ in range(step.retries):
        if finding.verdict.promotes:
            break
        again = replace(world, facts=Facts())
        finding = await _within_its_limit(session, again, step)
        await again.facts.stop()
    return finding


async def _within_its_limit(session: Session, world: World, step: PlannedStep) -> Finding:
    try:
        async with asyncio.timeout(step.limit):
            return await look_at(session, world, step)
    except TimeoutError:
        late = f"not done within its limit of {step.limit:g} s"
        return Finding(Verdict.ERROR, late, "Look at the service's log for what it waited for.")
