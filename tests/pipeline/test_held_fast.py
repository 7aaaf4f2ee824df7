"""What a run must not let go of: a door a person closed, a secret, a proven release, a service it cannot vouch for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import runner
from pipeline.contracts import SwitchName, SwitchOn, World
from pipeline.errors import Exit, PersonNeeded, TargetError
from pipeline.events import Kind
from pipeline.lease import Owner
from pipeline.verdict import Finding, failed, passed
from tests.pipeline.rooms import NEW, NEXT, OLD, Yard

BAD = failed("it does not hold", "mend it")
HERS = SwitchOn("naledi", "the bank called", "2026-01-03T00:00:00+00:00")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


def about(release: str, finding: Finding = BAD) -> Callable[[World], Awaitable[Finding]]:
    """Says `finding` of one release, and a pass of every other."""

    async def say(world: World) -> Finding:
        return finding if world.run.release == release else passed("as it should be")

    return say


def closing(yard: Yard, door: SwitchName) -> Callable[[World], Awaitable[Finding]]:
    """A proof during which a person closes a door, once."""

    async def say(world: World) -> Finding:
        if world.run.release == NEW:
            yard.ground.switches[door] = HERS
        return passed("as it should be")

    return say


def without_proof(yard: Yard) -> dict[SwitchName, SwitchOn]:
    """The doors that are closed, but for what lets a run's proofs pass them."""
    return {name: replace(value, proof="") for name, value in yard.ground.switches.items()}


# ---- doors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", SwitchName)
async def test_door_closed_during_a_run_outlasts_its_way_back(yard: Yard, door: SwitchName) -> None:
    """A door that a person closed during a run is still closed, with its who and why, after the way back: exit 3."""
    yard.says = {"proof.one": closing(yard, door), "watch.one": about(NEW)}
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert (yard.ground.live, without_proof(yard)) == (OLD, {door: HERS})


@pytest.mark.parametrize("door", SwitchName)
async def test_door_closed_during_a_killed_run_outlasts_its_rollback(yard: Yard, door: SwitchName) -> None:
    """A door that a person closed during a run that was killed is still closed after the rollback of that run."""
    yard.says = {"proof.one": closing(yard, door)}
    await yard.killed_at(Kind.STEP_FINISHED, step="proof.one")
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, without_proof(yard)) == (OLD, {door: HERS})


async def test_door_closed_anew_over_another_persons_stays_with_its_last_reason(yard: Yard) -> None:
    """When a door was closed before a run and a person closes it anew for another reason, the new reason stays."""
    yard.maintenance()
    yard.says = {"proof.one": closing(yard, SwitchName.MAINTENANCE), "watch.one": about(NEW)}
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert without_proof(yard) == {SwitchName.MAINTENANCE: HERS}


async def test_door_closed_before_a_failed_way_back_outlasts_its_repetition(yard: Yard) -> None:
    """A way back that must close the service leaves a person's closed door theirs, and a later rollback does too."""
    yard.says = {"proof.one": closing(yard, SwitchName.MAINTENANCE), "watch.one": about(NEW), "proof.two": about(OLD)}
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    assert without_proof(yard)[SwitchName.MAINTENANCE] == HERS
    yard.says = {}
    assert (await yard.rollback()).exit is Exit.DONE
    assert without_proof(yard) == {SwitchName.MAINTENANCE: HERS}


# ---- the journal -------------------------------------------------------------------------------------------


async def test_change_that_cannot_be_recorded_closes_the_environment(yard: Yard) -> None:
    """When the journal cannot be written after a change, the service is closed by its switch and a person is needed."""
    journals: list[Any] = []

    async def lose_the_disk(_world: World) -> Finding:
        journals[0].close()
        return BAD

    yard.says = {"proof.one": lose_the_disk}
    with yard.opened(release=NEW) as session:
        journals.append(session.journal)
        yard.ground.before_change = _guarded(session.slot.guard)
        with pytest.raises(PersonNeeded, match="staging is closed") as needed:
            await runner.deploy(session, yard.plan(), Owner.this_process("run-1"))
    assert needed.value.exit_code is Exit.PERSON_NEEDED
    assert yard.ground.switches[SwitchName.MAINTENANCE].run == "run-1"
    assert yard.ground.live == NEW


async def test_unrecorded_failure_before_a_change_leaves_the_service_open(yard: Yard) -> None:
    """When the journal cannot be written before the first change, a person is needed and no door is touched."""
    journals: list[Any] = []

    async def lose_the_disk(_world: World) -> Finding:
        journals[0].close()
        return BAD

    yard.says = {"gate.one": lose_the_disk}
    with yard.opened(release=NEW) as session:
        journals.append(session.journal)
        yard.ground.before_change = _guarded(session.slot.guard)
        with pytest.raises(PersonNeeded, match="nothing was changed"):
            await runner.deploy(session, yard.plan(), Owner.this_process("run-1"))
    assert (yard.ground.switches, yard.ground.done) == ({}, [])


async def _closed_unrecorded(yard: Yard) -> None:
    """A deploy whose disk was full once it had armed one checkpoint: it closed, and could put nothing on record."""
    await yard.killed_at(Kind.CHECKPOINT_ARMED)
    run = yard.entries()[-1].run
    yard.ground.switches[SwitchName.MAINTENANCE] = replace(HERS, who="kim, run", why="the disk is full", run=run)
    yard.says = {}


async def test_run_that_closed_unrecorded_is_opened_by_its_rollback(yard: Yard) -> None:
    """A door that a run closed because nothing could be recorded any more is open after the rollback of that run."""
    await _closed_unrecorded(yard)
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.switches) == (OLD, {})


async def test_run_that_closed_unrecorded_is_not_resumed(yard: Yard) -> None:
    """Resuming a run that closed the environment would leave it closed: it is refused, and rollback is named."""
    await _closed_unrecorded(yard)
    with pytest.raises(PersonNeeded, match="closed staging when it could not go on") as needed:
        await yard.resume()
    assert "./inv rollback --env staging" in needed.value.remedy
    assert yard.ground.live == OLD


def _guarded(guard: Callable[[], Awaitable[None]]) -> Any:
    """Asks for the lease only: the journal, which a change is otherwise compared with, is the one that is gone."""

    async def before(_what: str) -> None:
        await guard()

    return before


# ---- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way_back_fails", [False, True])
async def test_secret_in_a_finding_stays_out_of_the_target(yard: Yard, way_back_fails: bool) -> None:
    """A finding that quotes a secret reaches neither a switch file nor a release's record as it is."""
    quoting = failed(f"the till refused {yard.secret.reveal()}", f"change {yard.secret.reveal()}")
    yard.says = {"watch.one": about(NEW, quoting)}
    if way_back_fails:
        yard.says["proof.two"] = about(OLD, quoting)
    written = await _written(yard, Exit.PERSON_NEEDED if way_back_fails else Exit.RESTORED)
    assert "the till refused" in written
    assert yard.secret.reveal() not in written


@pytest.mark.parametrize("error", [RuntimeError, TargetError])
@pytest.mark.parametrize("change", [f"activate {NEW}", f"activate {OLD}"])
async def test_secret_in_an_error_stays_out_of_the_target(yard: Yard, change: str, error: type[Exception]) -> None:
    """A target's error or a bug that quotes a secret reaches neither a switch file nor a record as it is."""
    yard.says = {"watch.one": about(NEW)}
    yard.ground.broken = {change: error(f"the till refused {yard.secret.reveal()}")}
    written = await _written(yard, Exit.RESTORED if NEW in change else Exit.PERSON_NEEDED)
    assert "the till refused" in written
    assert yard.secret.reveal() not in written


@pytest.mark.parametrize("error", [RuntimeError, TargetError])
async def test_secret_in_an_error_before_a_change_stays_out_of_the_target(yard: Yard, error: type[Exception]) -> None:
    """What could not be armed and quotes a secret marks its release bad without the secret."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    yard.ground.broken = {"live": error(f"the till refused {yard.secret.reveal()}")}
    yard.says = {}
    written = await _written(yard, None)
    assert "the till refused" in written
    assert yard.secret.reveal() not in written


async def _written(yard: Yard, ends: Exit | None) -> str:
    """All text that lies at the target once a deploy (or the resumed one, for `ends` None) has ended."""
    if ends is None:
        await yard.resume()
    else:
        assert (await yard.deploy()).exit is ends
        assert yard.ground.state(NEW) == "bad"
    doors = [value.why for value in yard.ground.switches.values()]
    return "\n".join([*doors, *(record.why for record in yard.ground.records.values())])


# ---- what is resumed, gone back to, and kept ---------------------------------------------------------------


@pytest.mark.parametrize("said", [passed("as it should be"), BAD], ids=["pass", "fail"])
async def test_resume_before_staging_judges_the_gates_again(yard: Yard, said: Finding) -> None:
    """A run that is resumed before its release was staged asks every gate again, and goes by what they say now."""
    await yard.killed_at(Kind.STAGE_FINISHED, stage="gates")
    yard.asked.clear()
    yard.says = {"gate.one": said}
    outcome = await yard.resume()
    assert yard.asked[:2] == ["gate.one", "gate.two"]
    expected = (Exit.REFUSED, OLD) if said is BAD else (Exit.DONE, NEW)
    assert (outcome.exit, yard.ground.live) == expected


async def test_resume_after_staging_asks_no_gate(yard: Yard) -> None:
    """A run that is resumed once its release was staged goes on with what was judged then."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    yard.asked.clear()
    yard.says = {"gate.one": BAD, "gate.two": BAD}
    assert (await yard.resume()).exit is Exit.DONE
    assert yard.asked == ["proof.one", "proof.two", "watch.one"]


async def test_previous_release_is_the_live_one_not_the_newest(yard: Yard) -> None:
    """A deploy names as previous what it would go back to: the live release, though a newer one is verified."""
    yard.verified(NEW, live=False)
    previous: list[str | None] = []

    async def seen(world: World) -> Finding:
        previous.append(world.run.previous)
        return passed("seen")

    yard.says = {"proof.one": seen, "watch.one": about(NEXT)}
    assert (await yard.deploy(NEXT)).exit is Exit.RESTORED
    assert (previous[0], yard.told(Kind.RUN_STARTED)[0]["previous"], yard.ground.live) == (OLD, OLD, OLD)


async def test_prune_that_fails_takes_nothing_back(yard: Yard) -> None:
    """A release that was proven stays live and verified although old ones cannot be removed, and that is told."""
    yard.ground.broken = {"prune": TargetError("the disk is read-only")}
    assert (await yard.deploy()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.state(NEW), yard.ground.switches) == (NEW, "verified", {})
    assert any("old releases could not be removed: the disk is read-only" in line for line in yard.output)
