"""The verb deploy: what ends it how, and what it leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline import runner
from pipeline.contracts import SwitchName, World
from pipeline.errors import Exit, LeaseHeld, PersonNeeded, Refused, TargetError, Usage
from pipeline.events import Entry, Event, Kind
from pipeline.lease import Lease, Owner
from pipeline.verdict import Finding, failed, inconclusive, skipped
from tests.pipeline.rooms import ALL, NEW, NEXT, OLD, STORY, Yard

BAD = failed("it does not hold", "mend it")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


async def test_good_release_becomes_live_and_verified(yard: Yard) -> None:
    """A deploy whose every step is done ends with 0; the release is live, verified, and what it was asked stays on
    record."""
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.state(NEW)) == (Exit.DONE, NEW, "verified")
    assert yard.asked == ["gate.one", "gate.two", "proof.one", "proof.two", "watch.one"]
    assert yard.told(Kind.RUN_FINISHED)[-1]["outcome"] == "done"


async def test_second_deploy_names_the_release_it_could_go_back_to(yard: Yard) -> None:
    """The record of a deploy says which verified release was there before it."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    assert [told["previous"] for told in yard.told(Kind.RUN_STARTED)] == [OLD, NEW]


async def test_refusing_gates_end_the_run_with_nothing_changed(yard: Yard) -> None:
    """Every gate is asked although one refuses, all their mistakes are on record, nothing is changed, exit 1."""
    yard.says = {"gate.one": BAD, "gate.two": failed("nor does this", "mend it too")}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.done) == (Exit.REFUSED, OLD, [])
    assert {told["reason"] for told in yard.told(Kind.FINDING)} == {"it does not hold", "nor does this"}
    assert yard.told(Kind.RUN_FAILED)[0]["error"] == "gate.one: it does not hold"
    assert "nothing was changed" in outcome.summary


@pytest.mark.parametrize("finding", [inconclusive("nobody came", "wait"), BAD], ids=["inconclusive", "fail"])
@pytest.mark.parametrize("check", ["proof.one", "watch.one"])
async def test_what_does_not_promote_is_taken_back(yard: Yard, check: str, finding: Finding) -> None:
    """A proof or watch that failed or measured nothing ends with the old release back, and proven: exit 3."""

    async def about_the_new(world: World) -> Finding:
        return finding if world.run.release == NEW else skipped("not about this one")

    yard.says = {check: about_the_new}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.switches) == (Exit.RESTORED, OLD, {})
    assert (yard.ground.state(OLD), yard.ground.state(NEW)) == ("verified", "bad")
    assert yard.told(Kind.REOPENED)[0]["release"] == OLD


async def test_crash_of_a_check_blocks(yard: Yard) -> None:
    """A gate that crashes is an ERROR with its traceback kept, not a pass."""

    async def crash(_world: World) -> Any:
        raise ZeroDivisionError("in the check")

    yard.says = {"gate.two": crash}
    assert (await yard.deploy()).exit is Exit.REFUSED
    told = next(told for told in yard.told(Kind.FINDING) if told["check"] == "gate.two")
    assert (told["verdict"], "ZeroDivisionError" in told["reason"]) == ("ERROR", True)
    assert "ZeroDivisionError" in (yard.folder / "reports/run-1/traceback.log").read_text()


@pytest.mark.parametrize("said", [None, "fine", Finding(BAD.verdict, "so", "so", {"when": object()})])
async def test_judgement_that_is_no_finding_blocks(yard: Yard, said: Any) -> None:
    """A check that answers nothing, or what cannot be recorded, is an ERROR."""

    async def say(_world: World) -> Any:
        return said

    yard.says = {"gate.two": say}
    assert (await yard.deploy()).exit is Exit.REFUSED
    assert yard.told(Kind.FINDING)[-1]["verdict"] == "ERROR"


@pytest.mark.parametrize("stage", ["gates", "prove"])
async def test_environment_without_a_gate_or_a_proof_is_not_deployed(tmp_path: Path, stage: str) -> None:
    """Where `only` leaves no check to judge a release before or after the switch, a deploy is refused: exit 2."""
    only = {stage: [{**step, "only": ["production"]} for step in STORY[stage]]}
    yard = Yard(tmp_path, {**STORY, **only})
    with pytest.raises(Usage, match=f"stages.{stage} has no check for staging"):
        await yard.deploy()
    assert (yard.entries(), yard.ground.done) == ((), [])


async def test_release_that_was_staged_and_never_served_is_marked_bad(yard: Yard) -> None:
    """When a switch cannot even be armed, the staged release is no rollback target and nothing else was changed."""
    yard.ground.settings[OLD] = ""
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.state(NEW)) == (Exit.REFUSED, OLD, "bad")
    assert yard.ground.done == [f"stage {NEW}", f"mark {NEW} bad"]


async def test_switch_that_fails_is_taken_back(yard: Yard) -> None:
    """A new release that does not become ready leaves the old one serving, confirmed: exit 3."""
    yard.ground.broken = {f"activate {NEW}": TargetError("not ready within 20 s", "read its log")}
    outcome = await yard.deploy()
    assert (outcome.exit, outcome.remedy, yard.ground.live) == (Exit.RESTORED, "read its log", OLD)


async def test_first_deploy_that_fails_leaves_the_target_closed(tmp_path: Path) -> None:
    """Where nothing was live before, the way back is a closed target: exit 3, and the summary says so."""
    yard = Yard(tmp_path)
    yard.says = {"proof.one": BAD}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live) == (Exit.RESTORED, None)
    assert outcome.summary.endswith("restored and confirmed: closed, as before")


async def test_bug_before_a_change_is_called_one(yard: Yard) -> None:
    """A bug of ours before the first change ends with 70 and is told as a bug."""
    yard.ground.broken = {f"stage {NEW}": RuntimeError("boom")}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live) == (Exit.BUG, OLD)
    assert "a bug of Tollgate: RuntimeError: boom" in outcome.summary


async def test_bug_after_a_change_is_taken_back(yard: Yard) -> None:
    """A bug of ours after the first change does not keep the old release from coming back."""
    yard.ground.broken = {f"mark {NEW} live": RuntimeError("boom")}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.switches) == (Exit.RESTORED, OLD, {})
    assert "boom" in yard.told(Kind.STEP_FINISHED)[-1]["error"]


async def test_second_deploy_at_the_same_time_is_refused(yard: Yard) -> None:
    """While one run holds the lease another is refused with 5, before anything of it is on record."""
    lease = Lease.take(yard.folder / "lease.sqlite", owner=Owner.this_process("other"), clock=yard.clock)
    try:
        with pytest.raises(LeaseHeld) as refused:
            await yard.deploy()
    finally:
        lease.release()
    assert (refused.value.exit_code, yard.entries()) == (Exit.LEASE_HELD, ())
    assert (await yard.deploy()).exit is Exit.DONE


@pytest.mark.parametrize("check", ["proof.one", "watch.one"])
async def test_run_that_lost_its_lease_changes_nothing_more(yard: Yard, check: str) -> None:
    """When another run takes the lease, this one stops changing things at once and asks for a person: exit 4."""

    async def lose(_world: World) -> Finding:
        changed.append(len(yard.ground.done))
        yard.lease_is_taken_by_another()
        return BAD

    changed: list[int] = []
    yard.says = {check: lose}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live) == (Exit.PERSON_NEEDED, NEW)
    assert (yard.ground.switches, yard.ground.state(NEW), yard.ground.state(OLD)) == ({}, "live", "verified")
    assert yard.told(Kind.RUN_FAILED)[0]["error"] == f"{check}: it does not hold"


async def test_lease_lost_before_the_last_step_leaves_the_release_unverified(yard: Yard) -> None:
    """A run that finds its lease gone at an act of its own performs neither the act nor a way back."""

    async def lose(_world: World) -> Finding:
        yard.lease_is_taken_by_another()
        return skipped("whatever")

    yard.says = {"watch.one": lose}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.state(NEW)) == (Exit.PERSON_NEEDED, "live")
    assert "nothing more was changed" in outcome.summary
    assert not yard.told(Kind.WAYBACK_STARTED)


async def test_broken_listeners_never_decide_a_run(yard: Yard) -> None:
    """Output that cannot be shown is left out; the run goes on, and a listener that still works is told."""

    def crash(_event: Event) -> None:
        raise OSError("the terminal is gone")

    def crash_too(_event: Event) -> None:
        raise ValueError("this one as well")

    assert (await yard.deploy(listeners=[crash, crash_too])).exit is Exit.DONE
    assert {line for line in yard.output if "lost" in line} == {
        "output lost: OSError: the terminal is gone",
        "output lost: ValueError: this one as well",
    }


async def test_every_change_is_on_record_before_it_happens(yard: Yard) -> None:
    """I5: whatever is changed at the target, forward or back, an entry that announces it is there already."""
    yard.says = {"proof.one": BAD}
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    assert yard.ground.done[:3] == [f"stage {NEW}", f"activate {NEW}", f"mark {NEW} live"]
    for change in yard.ground.changes:
        assert _announces(change.after, change.what, yard), f"{change.what} came after {change.after.kind}"


def _announces(entry: Entry, change: str, yard: Yard) -> bool:
    match change.split():
        case ["stage", release]:
            return entry.kind is Kind.RELEASE_MARKED and entry.data["release"] == release
        case ["mark", release, state]:
            said = {"release": release, "state": state}
            return entry.kind is Kind.RELEASE_MARKED and said.items() <= entry.data.items()
        case ["activate", release] if release == NEW:
            before = [one for one in yard.entries() if one.seq <= entry.seq]
            return {one.data["name"] for one in before if one.kind is Kind.CHECKPOINT_ARMED} == set(ALL)
        case ["switch", "maintenance", _]:
            return entry.kind is Kind.CLOSED
        case ["switch", "payments-off", _]:
            return entry.kind is Kind.PAYMENTS_CLOSED
    return entry.kind is Kind.CHECKPOINT_RESTORING


async def test_journal_that_cannot_be_written_needs_a_person(yard: Yard) -> None:
    """A run that cannot record its way back changes nothing more, and ends with 4, not as if nothing had happened."""

    async def lose_the_disk(_world: World) -> Finding:
        journals[0].close()
        return BAD

    journals: list[Any] = []
    yard.says = {"proof.one": lose_the_disk}
    with yard.opened(release=NEW) as session:
        journals.append(session.journal)
        with pytest.raises(PersonNeeded) as needed:
            await runner.deploy(session, yard.plan(), Owner.this_process("run-1"))
    assert needed.value.exit_code is Exit.PERSON_NEEDED
    assert "rollback" in needed.value.remedy
    assert yard.ground.live == NEW


async def test_deploy_refuses_while_a_run_is_unfinished(yard: Yard) -> None:
    """After a crash a deploy says which run stands where, and what goes on from there: exit 4, nothing on record."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    before = len(yard.entries())
    with pytest.raises(PersonNeeded, match=r"run-1 \(deploy\) was left unfinished: it stands at step.finished") as told:
        await yard.deploy(NEXT)
    assert "--resume" in told.value.remedy
    assert "rollback" in told.value.remedy
    assert (len(yard.entries()), told.value.exit_code) == (before, Exit.PERSON_NEEDED)


async def test_unfinished_run_that_changed_nothing_is_set_aside(yard: Yard) -> None:
    """A run killed before its first change does not stand in the way of the next deploy, which says so."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    assert (await yard.deploy(NEXT)).exit is Exit.DONE
    assert yard.told(Kind.RUN_SUPERSEDED) == [{"of_run": "run-1", "by_run": "run-2"}]


async def test_live_release_that_is_not_verified_is_not_deployed_over(yard: Yard) -> None:
    """A deploy that could not be taken back to a verified release is refused: exit 4."""
    await yard.deploy()
    yard.ground.live = NEXT
    with pytest.raises(PersonNeeded, match=f"{NEXT} is live in staging but unknown"):
        await yard.deploy(NEXT)


async def test_resume_goes_on_at_the_first_step_not_finished(yard: Yard) -> None:
    """A resumed deploy repeats no step that was done and captures nothing anew; it ends as if nothing had happened."""
    await yard.killed_at(Kind.STEP_FINISHED, step="proof.one")
    armed = yard.told(Kind.CHECKPOINT_ARMED)
    yard.asked.clear()
    assert (await yard.resume()).exit is Exit.DONE
    assert "proof.one" not in yard.asked
    assert yard.asked[-1] == "watch.one"
    assert [step for step in yard.ground.done if step.startswith(("stage", "activate"))] == [
        f"stage {NEW}",
        f"activate {NEW}",
    ]
    assert yard.told(Kind.CHECKPOINT_ARMED) == armed
    assert yard.ground.state(NEW) == "verified"


async def test_resumed_run_that_fails_goes_back_to_what_was_captured_first(yard: Yard) -> None:
    """When a resumed deploy fails, what was live before the first process began is put back."""
    await yard.killed_at(Kind.STEP_STARTED, step="proof.two")
    yard.says = {"watch.one": BAD}
    assert (await yard.resume()).exit is Exit.RESTORED
    assert yard.ground.live == OLD


@pytest.mark.parametrize("armed", [1, 2, 3])
async def test_resume_after_half_of_the_checkpoints_captures_the_rest(yard: Yard, armed: int) -> None:
    """Killed between two captures, a resumed deploy captures those that are missing and those only."""
    await yard.killed_at(Kind.CHECKPOINT_ARMED, armed)
    assert (await yard.resume()).exit is Exit.DONE
    assert [told["name"] for told in yard.told(Kind.CHECKPOINT_ARMED)] == ALL


async def test_resume_is_refused_after_the_way_back_began(yard: Yard) -> None:
    """A run that was on its way back cannot go forward again, whoever began the way back."""
    yard.says = {"watch.one": BAD}
    await yard.killed_at(Kind.WAYBACK_STARTED)
    with pytest.raises(PersonNeeded, match="was on its way back"):
        await yard.resume()


async def test_resume_is_refused_when_a_rollback_of_it_was_killed(yard: Yard) -> None:
    """A rollback that got half-way makes its deploy one that cannot be continued."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    await yard.rollback_killed_at(Kind.CHECKPOINT_RESTORING)
    with pytest.raises(PersonNeeded, match="was on its way back"):
        await yard.resume()
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.state(NEW), yard.ground.switches) == (OLD, "bad", {})


async def test_resume_is_refused_when_the_plan_changed(yard: Yard) -> None:
    """A run is only continued by the steps it began with: exit 1, and rollback is named."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    other = Yard(yard.folder, {**STORY, "watch": []})
    other.ground, other.shop = yard.ground, yard.shop
    with pytest.raises(Refused, match="plans other steps") as refused:
        await other.resume()
    assert "rollback" in refused.value.remedy


async def test_maintenance_of_an_operator_stays_on_through_a_deploy(yard: Yard) -> None:
    """A deploy under maintenance is proven behind the closed door, which stays closed with its who, why and since."""
    before = yard.maintenance()

    async def door(world: World) -> Finding:
        found = await world.target.switches.read(SwitchName.MAINTENANCE)
        proofs.append(found.proof if found else "")
        return skipped("seen")

    proofs: list[str] = []
    yard.says = {"proof.one": door}
    assert (await yard.deploy()).exit is Exit.DONE
    after = yard.ground.switches[SwitchName.MAINTENANCE]
    assert (after.who, after.why, after.since) == (before.who, before.why, before.since)
    assert len(proofs[0]) == 64


async def test_look_judges_everything_and_changes_nothing(yard: Yard) -> None:
    """`validate` asks every gate though the first refuses, takes no lease, changes nothing: exit 1."""
    yard.says = {"gate.one": BAD}
    with yard.opened() as session:
        outcome = await runner.look(session, yard.plan("validate", ("gates",)))
    assert (outcome.exit, yard.asked, yard.ground.done) == (Exit.REFUSED, ["gate.one", "gate.two"], [])
    assert not yard.told(Kind.LEASE_TAKEN)


async def test_look_at_nothing_is_no_pass(yard: Yard) -> None:
    """A plan without a step, or proofs of an environment where nothing is live, is refused."""
    with yard.opened() as session:
        assert (await runner.look(session, yard.plan("validate", ()))).exit is Exit.REFUSED
    yard.ground.live = None
    with yard.opened() as session, pytest.raises(Refused, match="nothing is live"):
        await runner.look(session, yard.plan("verify", ("prove",)))


async def test_verify_uses_the_settings_of_the_live_release(yard: Yard) -> None:
    """`verify` signs with what the live release was staged with, not with the settings of today."""

    async def seen(world: World) -> Finding:
        values.append(world.settings.text("API_SECRET"))
        return skipped("seen")

    values: list[str] = []
    yard.says = {"proof.one": seen}
    with yard.opened() as session:
        assert (await runner.look(session, yard.plan("verify", ("prove",)))).exit is Exit.DONE
    assert values == ["of " + OLD]


async def test_facts_that_are_still_gathered_end_with_the_run(yard: Yard) -> None:
    """What a cancelled check was waiting for does not go on behind the way back."""

    async def wait(world: World) -> Finding:
        if world.run.release != NEW:
            return skipped("not about this one")

        async def fact() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(yard.ground.done[-1])

        await world.facts.once("never", fact)
        raise AssertionError

    async def refuse(world: World) -> Finding:
        await asyncio.sleep(0)
        return BAD if world.run.release == NEW else skipped("not about this one")

    ended: list[str] = []
    yard.says = {"proof.one": wait, "proof.two": refuse}
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert ended == [f"mark {NEW} live"]
