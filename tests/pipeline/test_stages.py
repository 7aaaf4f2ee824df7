"""Running the steps of a stage: side by side, in the order of their needs, within their limits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts import SwitchName, World
from pipeline.errors import Exit, GatewayUnreachable, TargetError
from pipeline.events import Kind
from pipeline.lease import Owner
from pipeline.run_record import holding
from pipeline.session import Session
from pipeline.stages import Done, StepFailed, run_stage
from pipeline.verdict import Finding, advice, failed, passed, skipped
from tests.pipeline.rooms import ALL, NEW, OLD, STORY, Yard

BAD = failed("it does not hold", "mend it")


def yard_with(folder: Path, **stages: Any) -> Yard:
    yard = Yard(folder, {**STORY, **stages})
    yard.verified(OLD)
    return yard


async def run(yard: Yard, stage: str, done: Done = Done(), *, to_the_end: bool = False) -> list[Finding]:  # noqa: B008
    """One stage of a run that holds the lease."""
    with yard.opened(release=NEW) as session:
        async with holding(session, Owner.this_process(session.recorder.run), "deploy"):
            try:
                return await _findings(session, yard, stage, done, to_the_end)
            finally:
                await session.world.facts.stop()


async def _findings(session: Session, yard: Yard, stage: str, done: Done, to_the_end: bool) -> list[Finding]:
    planned = yard.plan().stage(stage)
    return [finding for _, finding in await run_stage(session, session.world, planned, done, to_the_end=to_the_end)]


def outcomes(yard: Yard) -> dict[str, str]:
    return {told["step"]: told["outcome"] for told in yard.told(Kind.STEP_FINISHED)}


async def for_ever(_world: World) -> Finding:
    await asyncio.Event().wait()
    raise AssertionError


async def test_failing_step_cancels_its_siblings(tmp_path: Path) -> None:
    """Outside the gates the first failure ends the stage: what still runs is cancelled and told so."""
    yard = yard_with(tmp_path)
    yard.says = {"proof.one": for_ever, "proof.two": BAD}
    with pytest.raises(StepFailed, match=r"proof\.two: it does not hold"):
        await run(yard, "prove")
    assert outcomes(yard) == {"proof.one": "cancelled", "proof.two": "failed"}
    assert yard.told(Kind.STAGE_FINISHED)[0]["outcome"] == "failed"


async def test_first_failure_is_the_one_reported(tmp_path: Path) -> None:
    """A step that fails, or breaks down, while it is being cancelled does not take the place of the first error."""

    async def worse(_world: World) -> Finding:
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    for error in (GatewayUnreachable("worse"), RuntimeError("a bug")):
        yard = yard_with(tmp_path / type(error).__name__)
        yard.says = {"proof.one": worse, "proof.two": BAD}
        with pytest.raises(StepFailed, match=r"proof\.two: it does not hold"):
            await run(yard, "prove")


async def test_steps_without_needs_run_side_by_side(tmp_path: Path) -> None:
    """Two steps of a stage that wait for each other both end."""
    met = asyncio.Barrier(2)

    async def meet(_world: World) -> Finding:
        await met.wait()
        return passed("met")

    yard = yard_with(tmp_path)
    yard.says = {"proof.one": meet, "proof.two": meet}
    assert len(await run(yard, "prove")) == 2


async def test_step_waits_for_what_it_needs(tmp_path: Path) -> None:
    """A step begins when all it needs is done, wherever it stands in the file."""
    chain = [{"check": "c", "needs": ["b", "a"]}, {"check": "b", "needs": ["a"]}, {"check": "a"}]
    yard = yard_with(tmp_path, prove=chain)
    await run(yard, "prove")
    assert yard.asked == ["a", "b", "c"]


@pytest.mark.parametrize("to_the_end", [False, True])
async def test_step_is_not_begun_when_what_it_needs_failed(tmp_path: Path, to_the_end: bool) -> None:
    """What needs a failed step is never asked, also where the other steps go on to the end."""
    yard = yard_with(tmp_path, prove=[{"check": "a"}, {"check": "b", "needs": ["a"]}, {"check": "c", "needs": ["b"]}])
    yard.says = {"a": BAD}
    with pytest.raises(StepFailed, match="a: it does not hold"):
        await run(yard, "prove", to_the_end=to_the_end)
    assert yard.asked == ["a"]


async def test_step_out_of_time_is_ended(tmp_path: Path) -> None:
    """A step that is not done within its limit is ended there, and told apart from one that failed."""
    yard = yard_with(tmp_path, prove=[{"check": "slow", "timeout": "10 ms"}])
    yard.says = {"slow": for_ever}
    with pytest.raises(StepFailed, match=r"slow: not done within its limit of 0\.01 s"):
        await run(yard, "prove")
    assert outcomes(yard) == {"slow": "timed out"}


async def test_time_limit_inside_a_step_is_told_apart(tmp_path: Path) -> None:
    """A step in which some other limit ran out is not said to have used up its own."""
    yard = yard_with(tmp_path)
    yard.ground.broken = {f"stage {NEW}": TimeoutError("the host did not answer")}
    with pytest.raises(StepFailed, match="a time limit inside it ran out: the host did not answer"):
        await run(yard, "deploy")
    assert outcomes(yard) == {"release.stage": "failed"}


async def test_retries_gather_anew(tmp_path: Path) -> None:
    """A step that may be retried asks the world again each time, and passes when it does; others see the first fact."""

    async def counted(world: World) -> Finding:
        async def fact() -> int:
            tries.append(1)
            return len(tries)

        return passed("third time lucky") if await world.facts.once("tries", fact) >= 3 else BAD

    tries: list[int] = []
    yard = yard_with(tmp_path, prove=[{"check": "flaky", "retries": 2}])
    yard.says = {"flaky": counted}
    assert [finding.reason for finding in await run(yard, "prove")] == ["third time lucky"]
    assert [told["attempt"] for told in yard.told(Kind.STEP_STARTED)] == [1, 2, 3]


async def test_without_declared_retries_there_is_one_attempt(tmp_path: Path) -> None:
    """Nothing is tried again that does not say so, and what says so is tried so often and no more."""
    yard = yard_with(tmp_path, prove=[{"check": "a"}])
    again = yard_with(tmp_path / "again", prove=[{"check": "a", "retries": 1}])
    for one, attempts in ((yard, 1), (again, 2)):
        one.says = {"a": BAD}
        with pytest.raises(StepFailed):
            await run(one, "prove")
        assert len(one.asked) == attempts


async def test_retried_act_is_taken_back_to_before_its_first_attempt(tmp_path: Path) -> None:
    """A switch that is tried twice captures once: what its first attempt left is nothing to go back to."""
    switch = {"act": "release.switch", "needs": ["release.stage"], "checkpoints": ALL, "retries": 1}
    yard = yard_with(tmp_path, deploy=[{"act": "release.stage"}, switch])
    yard.ground.broken = {f"mark {NEW} live": TargetError("no space")}
    outcome = await yard.deploy()
    assert yard.ground.done.count(f"activate {NEW}") == 2
    assert [told["name"] for told in yard.told(Kind.CHECKPOINT_ARMED)] == ALL
    assert (outcome.exit, yard.ground.live) == (Exit.RESTORED, OLD)


async def test_capture_that_fails_leaves_nothing_armed(tmp_path: Path) -> None:
    """When one checkpoint cannot be captured the step is not begun, and the healthy service is not closed for it."""
    yard = yard_with(tmp_path)
    yard.ground.settings[OLD] = ""
    assert (await yard.deploy()).exit is Exit.REFUSED
    assert (yard.told(Kind.CHECKPOINT_ARMED), yard.ground.live, yard.ground.switches) == ([], OLD, {})


async def test_steps_that_are_done_are_not_done_again(tmp_path: Path) -> None:
    """A resumed stage runs what is left, also what needs a step that was done before."""
    yard = yard_with(tmp_path, prove=[{"check": "a"}, {"check": "b", "needs": ["a"]}])
    await run(yard, "prove", Done(frozenset({("prove", "a")})))
    assert yard.asked == ["b"]


async def test_skipped_and_advice_promote_and_are_told(tmp_path: Path) -> None:
    """A check that was skipped for a reason, or that recommends something, does not end a stage."""
    yard = yard_with(tmp_path)
    yard.says = {"proof.one": skipped("no such part"), "proof.two": advice("it works", "do more")}
    await run(yard, "prove")
    assert outcomes(yard) == {"proof.one": "skipped", "proof.two": "done"}


async def test_command_prints_and_its_failure_says_how_it_ended(tmp_path: Path) -> None:
    """A run step shows what it prints, redacted; one that fails names the command, its code and its last words."""
    say = "import sys; print(sys.argv[1]); print('no such file', file=sys.stderr); sys.exit(int(sys.argv[2]))"
    yard = yard_with(tmp_path, build=[])
    good = yard_with(tmp_path / "good", build=[{"run": [sys.executable, "-c", say, "hello", "0"]}])
    assert await run(good, "build") == []
    assert "hello" in good.output
    bad = yard_with(
        tmp_path / "bad",
        build=[{"run": [sys.executable, "-c", say, yard.secret.reveal(), "7"], "name": "build"}],
    )
    bad.secret = yard.secret
    with pytest.raises(StepFailed, match="ended with 7: no such file") as ended:
        await run(bad, "build")
    assert "Run it by hand in" in ended.value.remedy
    assert "[redacted]" in bad.output
    assert not [told for told in bad.entries() if yard.secret.reveal() in str(told.data)]


async def test_command_gets_the_settings_only_when_it_says_so(tmp_path: Path) -> None:
    """`pass_settings` gives a command the service's settings; without it they are not in its environment."""
    look = [sys.executable, "-c", "import os; print('has', 'API_SECRET' in os.environ)"]
    steps = [{"run": look, "name": "with", "pass_settings": True}, {"run": look, "name": "without", "needs": ["with"]}]
    yard = yard_with(tmp_path, build=steps)
    await run(yard, "build")
    assert yard.output == ["has True", "has False"]


async def test_shell_is_used_only_when_asked_for(tmp_path: Path) -> None:
    """An argv list reaches the command as it stands; one line with `shell: true` is read by a shell."""
    steps = [
        {"run": ["echo", "$((1+1))"], "name": "plain"},
        {"run": ["echo $((1+1))"], "name": "shell", "shell": True, "needs": ["plain"]},
    ]
    yard = yard_with(tmp_path, build=steps)
    await run(yard, "build")
    assert yard.output == ["$((1+1))", "2"]


async def test_change_without_a_lease_is_refused(tmp_path: Path) -> None:
    """An act that a run without a lease reaches is not performed."""
    yard = yard_with(tmp_path)
    with yard.opened(release=NEW) as session, pytest.raises(RuntimeError, match="without a lease"):
        await run_stage(session, session.world, yard.plan().stage("deploy"), Done())
    assert (yard.ground.done, yard.ground.switches.get(SwitchName.MAINTENANCE)) == ([], None)
