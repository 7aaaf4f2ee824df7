"""The way back of a failed deploy and of `rollback`: what is put back, in which order, and when it stays closed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import runner
from pipeline.contracts import Captured, Confirmation, ReleaseId, ReleaseState, RestoreContext, SwitchName, World
from pipeline.errors import Exit, LeaseLost, NothingToRestore, PersonNeeded, RecordUnusable, TargetError
from pipeline.events import Kind
from pipeline.lease import Owner
from pipeline.standing import open_runs
from pipeline.verdict import Finding, failed, inconclusive, passed
from tests.pipeline.rooms import ALL, NEW, NEXT, OLD, STORY, Yard, spec_of

BAD = failed("it does not hold", "mend it")
SHUT = {SwitchName.MAINTENANCE, SwitchName.PAYMENTS_OFF}
"""The doors that a way back closes."""


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


def fails_for(*releases: str) -> Any:
    async def say(world: World) -> Finding:
        return BAD if world.run.release in releases else passed("as it should be")

    return say


def failing_once(yard: Yard, check: str = "watch.one") -> None:
    """The new release is bad, the old one is good."""
    yard.says = {check: fails_for(NEW)}


async def test_order_of_the_way_back(yard: Yard) -> None:
    """New payments stop first, then checkpoints in reverse, then the proofs, then the books, and the doors last."""
    failing_once(yard)
    assert (await yard.deploy()).exit is Exit.RESTORED
    started = next(n for n, entry in enumerate(yard.entries()) if entry.kind is Kind.WAYBACK_STARTED)
    back = [
        " ".join([entry.kind.value, str(entry.data.get("name") or entry.data.get("check") or "")]).strip()
        for entry in yard.entries()[started:]
        if entry.kind is not Kind.CHECKPOINT_CONFIRMED
    ]
    assert back == [
        "wayback.started",
        "payments.closed",
        "release.marked",
        "checkpoint.restoring settings",
        "checkpoint.restoring release",
        "finding proof.one",
        "finding proof.two",
        "reconciled",
        "checkpoint.restoring test-mode",
        "checkpoint.restoring payments",
        "checkpoint.restoring maintenance",
        "reopened",
        "run.finished",
    ]
    assert all(told["ok"] for told in yard.told(Kind.CHECKPOINT_CONFIRMED))


async def test_proofs_of_the_way_back_use_the_settings_the_release_was_verified_with(yard: Yard) -> None:
    """The old release is proven, and its payments reconciled, with its own settings, not with those of the bad one."""

    async def seen(world: World) -> Finding:
        values.append((world.run.release, world.settings.text("API_SECRET")))
        return passed("seen")

    values: list[tuple[str | None, str]] = []
    failing_once(yard)
    yard.says["proof.one"] = seen
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert values == [(NEW, yard.secret.reveal()), (OLD, "of " + OLD)]
    assert yard.shop.tills[-1].text("API_SECRET") == "of " + OLD


async def test_proofs_pass_the_door_that_the_way_back_closed(yard: Yard) -> None:
    """While the old release is proven new payments are off for all but this run's proofs."""

    async def door(world: World) -> Finding:
        found.append(await world.target.switches.read(SwitchName.PAYMENTS_OFF))
        return passed("seen")

    found: list[Any] = []
    failing_once(yard)
    yard.says["proof.one"] = door
    await yard.deploy()
    assert found[0] is None
    assert (found[1].who, len(found[1].proof)) == ("thandi, run run-1", 64)


async def test_every_checkpoint_is_tried_although_one_fails(yard: Yard) -> None:
    """A checkpoint that cannot be restored keeps no other from being restored, and keeps the service closed: exit 4."""

    class Stuck:
        name, reopens = "settings", False

        async def capture(self, _context: RestoreContext) -> Captured:
            return {}

        async def restore(self, _context: RestoreContext, _captured: Captured) -> None:
            raise TargetError("the disk is read-only", "mount it")

        async def confirm(self, _context: RestoreContext, _captured: Captured) -> Confirmation:
            raise AssertionError("what was not restored is not confirmed")

    yard.checkpoints["settings"] = Stuck()
    failing_once(yard)
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live) == (Exit.PERSON_NEEDED, OLD)
    told = {told["name"]: told for told in yard.told(Kind.CHECKPOINT_CONFIRMED)}
    assert (told["release"]["ok"], told["settings"]["ok"]) == (True, False)
    assert "the disk is read-only mount it" in told["settings"]["error"]
    assert set(yard.ground.switches) == SHUT
    assert "payments" not in told, "a door was opened"


async def test_first_error_is_not_hidden_by_a_failing_restore(yard: Yard) -> None:
    """What failed first leads the summary and stays on record; what failed after it is told beside it."""
    failing_once(yard)
    yard.ground.broken = {f"activate {OLD}": TargetError("it did not start")}
    outcome = await yard.deploy()
    assert outcome.exit is Exit.PERSON_NEEDED
    assert outcome.summary.startswith("watch.one: it does not hold")
    assert [told["error"] for told in yard.told(Kind.RUN_FAILED)] == ["watch.one: it does not hold"]
    (closed,) = yard.told(Kind.CLOSED)
    assert "checkpoint release: it did not start" in closed["why"]
    assert any("./inv rollback --env staging" in step for step in closed["manual"])


@pytest.mark.parametrize("found", [BAD, inconclusive("nobody came", "wait")], ids=["fail", "inconclusive"])
async def test_old_release_that_is_not_proven_stays_closed(yard: Yard, found: Finding) -> None:
    """When a proof of the restored release does not promote, the doors are not opened: exit 4."""
    yard.says = {"proof.two": found}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, set(yard.ground.switches)) == (Exit.PERSON_NEEDED, OLD, SHUT)
    assert "proof.two" in yard.told(Kind.CLOSED)[0]["why"]
    assert not yard.told(Kind.REOPENED)


async def test_no_proof_goes_on_behind_a_way_back_that_lost_its_lease(yard: Yard) -> None:
    """When a proof of the old release finds the lease gone, the others end too: the next owner decides."""
    asking, ended = asyncio.Event(), list[str]()

    async def waits(world: World) -> Finding:
        if world.run.release != OLD:
            return passed("not about this one")
        asking.set()
        try:
            return await asyncio.Event().wait() and BAD
        finally:
            ended.append("proof.one")

    async def loses(world: World) -> Finding:
        if world.run.release != OLD:
            return passed("not about this one")
        await asking.wait()
        raise LeaseLost("another run took it", "")

    yard.says = {"watch.one": fails_for(NEW), "proof.one": waits, "proof.two": loses}
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    assert ended == ["proof.one"]


async def with_a_new_proof(yard: Yard, *, acceptable: bool, timeout: str = "5 s") -> None:
    """The old release is verified; then pipeline.yaml asks for a proof more, which both releases fail."""
    assert (await yard.deploy(OLD)).exit is Exit.DONE
    prove = [*STORY["prove"], {"check": "proof.new", "timeout": timeout}]
    yard.spec = spec_of({**STORY, "prove": prove})
    made = Yard(yard.folder, {**STORY, "prove": prove}).checks["proof.new"]
    yard.checks["proof.new"] = replace(made, gather=yard.saying("proof.new"), acceptable=acceptable)
    yard.says["proof.new"] = BAD


async def test_proof_that_is_newer_than_the_old_release_only_tells(tmp_path: Path) -> None:
    """I2: a release is known good by the proofs it was verified with; a newer one is told, and the doors open."""
    yard = Yard(tmp_path)
    await with_a_new_proof(yard, acceptable=True)
    outcome = await yard.deploy(NEW)
    assert (outcome.exit, yard.ground.live, yard.ground.switches) == (Exit.RESTORED, OLD, {})
    found = [told for told in yard.told(Kind.FINDING) if told["check"] == "proof.new"]
    assert [told["verdict"] for told in found] == ["FAIL", "ADVICE"]
    assert "verified before this was asked of it" in found[-1]["reason"]


@pytest.mark.parametrize(("acceptable", "exit_code"), [(True, Exit.RESTORED), (False, Exit.PERSON_NEEDED)])
async def test_newer_proof_that_does_not_end_only_tells_too(tmp_path: Path, acceptable: bool, exit_code: Exit) -> None:
    """I2: out of time is as good a reason as a refusal: it is on record, and decides where nobody may accept it."""
    yard = Yard(tmp_path)
    await with_a_new_proof(yard, acceptable=acceptable, timeout="200 ms")

    async def never(_world: World) -> Finding:
        return await asyncio.Event().wait() and BAD

    yard.says["proof.new"] = never
    assert (await yard.deploy(NEW)).exit is exit_code
    found = [told["verdict"] for told in yard.told(Kind.FINDING) if told["check"] == "proof.new"]
    assert found == (["ADVICE"] if acceptable else [])


async def test_newer_proof_that_nobody_may_accept_keeps_the_old_release_closed(tmp_path: Path) -> None:
    """I2: signatures and what keeps orders whole are held against every release, whenever it was verified."""
    yard = Yard(tmp_path)
    await with_a_new_proof(yard, acceptable=False)
    outcome = await yard.deploy(NEW)
    assert (outcome.exit, set(yard.ground.switches)) == (Exit.PERSON_NEEDED, SHUT)
    assert "proof.new" in yard.told(Kind.CLOSED)[0]["why"]


async def test_without_a_planned_proof_nothing_is_reopened(tmp_path: Path) -> None:
    """A rollback in an environment that has no proof stays closed, because nothing shows that the service works."""
    yard = Yard(tmp_path, {**STORY, "prove": [{"check": "proof.one", "only": ["production"]}]})
    yard.verified(OLD)
    yard.verified(NEW)
    outcome = await yard.rollback()
    assert (outcome.exit, yard.ground.live) == (Exit.PERSON_NEEDED, OLD)
    assert "no proof is planned" in yard.told(Kind.CLOSED)[0]["why"]


async def test_crash_of_the_way_back_itself_closes(yard: Yard) -> None:
    """A bug of ours on the way back ends closed with a person told, not half-way."""
    failing_once(yard)

    def broken_till(**_: object) -> Any:
        raise ZeroDivisionError("in the gateway")

    class Gateways(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return broken_till

    with yard.opened(release=NEW) as session:
        broken = replace(session, catalogue=replace(session.catalogue, gateways=Gateways()))
        outcome = await runner.deploy(broken, yard.plan(), Owner.this_process("run-1"))
    assert (outcome.exit, SwitchName.MAINTENANCE in yard.ground.switches) == (Exit.PERSON_NEEDED, True)
    assert "ZeroDivisionError" in yard.told(Kind.CLOSED)[0]["why"]
    assert yard.told(Kind.RUN_FAILED)[0]["error"] == "watch.one: it does not hold"


@pytest.mark.parametrize("verb", ["deploy", "rollback"])
async def test_record_that_fails_for_a_moment_on_the_way_back_closes(yard: Yard, verb: str) -> None:
    """Where the record cannot be written in the middle of a way back it ends closed, on record, never half and open."""
    begun, failed_once = len(yard.entries()), list[str]()

    def locked(when: str, _n: int) -> None:
        restoring = any(one.kind is Kind.CHECKPOINT_RESTORING for one in yard.entries()[begun:])
        if restoring and when == "before" and not failed_once:
            failed_once.append(when)
            raise RecordUnusable("the journal was locked by another process")

    if verb == "deploy":
        failing_once(yard)
    else:
        await yard.deploy()
        begun = len(yard.entries())
    yard.around = locked
    outcome = await (yard.deploy() if verb == "deploy" else yard.rollback())
    assert (outcome.exit, yard.ground.switches[SwitchName.MAINTENANCE].run) == (Exit.PERSON_NEEDED, outcome.run)
    assert "was locked by another process" in yard.told(Kind.CLOSED)[0]["why"]
    yard.around = None
    assert ((await yard.rollback()).exit, yard.ground.live, yard.ground.switches) == (Exit.DONE, OLD, {})


async def test_paid_order_without_activation_is_repaired(yard: Yard) -> None:
    """I1: a payment made meanwhile that was never activated gets its webhook again, once, before the doors open."""
    failing_once(yard)
    yard.shop.paid("order-1", activations=0)
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert yard.told(Kind.RECONCILED)[0] == {
        "ok": True,
        "paid": 1,
        "activated": 1,
        "repaired": ["order-1"],
        "cents": {"order-1": 100},
        "mismatches": [],
        "error": "",
    }
    assert yard.shop.webhooks == ["order-1"]


async def test_books_that_do_not_agree_keep_the_service_closed(yard: Yard) -> None:
    """I1: an order activated twice cannot be repaired by a machine: closed, exit 4, and the reference is named."""
    failing_once(yard)
    yard.shop.paid("order-1", activations=2)
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    assert "payment order-1: 2 activations, expected 1 activation" in yard.told(Kind.CLOSED)[0]["why"]


async def test_service_that_ignores_maintenance_is_closed_by_the_target(yard: Yard) -> None:
    """Where visitors still see pages after the maintenance switch, the target itself answers instead."""
    yard.says, yard.shop.deaf = {"proof.two": BAD}, True
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    assert (yard.ground.live, yard.ground.done[-1]) == (None, "close")
    assert [told["how"] for told in yard.told(Kind.CLOSED)] == ["maintenance switch", "the target answers 503 itself"]


async def test_service_that_does_not_answer_is_closed_by_the_target(yard: Yard) -> None:
    """A service that cannot be asked is not known to be closed."""
    yard.says, yard.shop.away = {"proof.two": BAD}, True
    await yard.deploy()
    assert yard.ground.done[-1] == "close"


async def test_what_cannot_be_closed_is_called_open(yard: Yard) -> None:
    """When neither switch nor target closes the service, nobody is told that it is closed."""
    yard.says = {"proof.two": BAD}
    yard.ground.broken = {"switch maintenance": TargetError("no space"), "close": TargetError("no answer")}
    outcome = await yard.deploy()
    assert outcome.exit is Exit.PERSON_NEEDED
    assert "IS NOT CLOSED" in outcome.summary
    last = yard.told(Kind.CLOSED)[-1]
    assert last["how"].startswith("not closed: maintenance switch: no space")
    assert "NOT closed" in last["manual"][0]


async def test_checkpoint_this_version_does_not_know_is_told(yard: Yard) -> None:
    """A kind of checkpoint that an older run captured and this version cannot restore keeps the service closed."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    del yard.checkpoints["settings"]
    assert (await yard.rollback()).exit is Exit.PERSON_NEEDED
    assert yard.ground.live == OLD
    assert "checkpoint settings: this Tollgate has no such kind" in yard.told(Kind.CLOSED)[0]["why"]


async def test_lease_lost_on_the_way_back_ends_it(yard: Yard) -> None:
    """A way back whose lease is taken by another run changes nothing more: exit 4."""

    async def lose(world: World) -> Finding:
        if world.run.release == OLD:
            yard.lease_is_taken_by_another()
        return passed("seen")

    failing_once(yard)
    yard.says["proof.two"] = lose
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.done[-1]) == (Exit.PERSON_NEEDED, f"activate {OLD}")
    assert "no longer holds the lease" in outcome.summary


# ---- the verb rollback -------------------------------------------------------------------------------------


async def test_rollback_goes_to_the_last_verified_release(yard: Yard) -> None:
    """A rollback that is told nothing goes to the verified release before the live one, which becomes bad: exit 0."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    outcome = await yard.rollback(reason="complaints")
    assert (outcome.exit, yard.ground.live, yard.ground.state(NEXT)) == (Exit.DONE, NEW, "bad")
    assert outcome.summary == f"complaints; restored and confirmed: {NEW}"


async def test_rollback_prefers_what_was_before_the_live_release(yard: Yard) -> None:
    """After a rollback over two releases the next one goes further back, not forward again; at the end it may."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    yard.ground.live = NEW
    assert (await yard.rollback()).exit is Exit.DONE
    assert yard.ground.live == OLD
    assert (await yard.rollback()).exit is Exit.DONE
    assert yard.ground.live == NEXT


@pytest.mark.parametrize("state", [state for state in ReleaseState if state is not ReleaseState.VERIFIED])
async def test_rollback_goes_only_to_verified_releases(yard: Yard, state: ReleaseState) -> None:
    """A release in any other state is refused as a goal, with those that are allowed: exit 1, nothing on record."""
    yard.verified(NEW)
    yard.ground.records[OLD] = replace(yard.ground.records[OLD], state=state)
    for to in (OLD, None):
        with pytest.raises(NothingToRestore) as refused:
            await yard.rollback(to)
        assert refused.value.exit_code is Exit.REFUSED
    assert (yard.entries(), yard.ground.done) == ((), [])


async def test_rollback_to_a_named_release(yard: Yard) -> None:
    """`--to` names any verified release; a name that is none is refused."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    assert (await yard.rollback(OLD)).exit is Exit.DONE
    assert yard.ground.live == OLD
    with pytest.raises(NothingToRestore, match=f"{NEXT} is not a verified release"):
        await yard.rollback(NEXT)


@pytest.mark.parametrize("step", ["release.switch", "proof.one", "watch.one"])
async def test_rollback_takes_an_unfinished_run_back(yard: Yard, step: str) -> None:
    """After a crash `rollback` restores what the dead run had captured: exit 0, and deploys may follow."""
    await yard.killed_at(Kind.STEP_FINISHED, step=step)
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.state(NEW), yard.ground.switches) == (OLD, "bad", {})
    assert yard.told(Kind.RUN_SUPERSEDED) == [{"of_run": "run-1", "by_run": "run-2"}]
    assert (await yard.deploy(NEXT)).exit is Exit.DONE


async def test_rollback_of_a_run_that_changed_nothing_settles_it(yard: Yard) -> None:
    """A run killed before its first change is set aside; what it staged is bad, and the live release is not touched."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    outcome = await yard.rollback()
    assert (outcome.exit, yard.ground.live, yard.ground.state(NEW)) == (Exit.DONE, OLD, "bad")
    assert "changed nothing" in outcome.summary


@pytest.mark.parametrize("live", [None, NEXT])
async def test_run_that_changed_nothing_does_not_hide_what_is_wrong(yard: Yard, live: ReleaseId | None) -> None:
    """Where no verified release serves, a rollback goes to one, although the unfinished run had changed nothing."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    if live is not None:
        yard.verified(live)
        yard.ground.records[live] = replace(yard.ground.records[live], state=ReleaseState.LIVE)
    yard.ground.live = live
    assert ((await yard.rollback()).exit, yard.ground.live, yard.ground.switches) == (Exit.DONE, OLD, {})
    assert open_runs(yard.entries()) == []


async def test_rollback_after_a_failed_way_back_reopens(yard: Yard) -> None:
    """When what stood in the way is mended, one rollback restores, proves and opens the doors as they first stood."""
    before = yard.maintenance()
    yard.says = {"proof.two": BAD}
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    with pytest.raises(PersonNeeded, match="closed staging, which needs a person"):
        await yard.deploy(NEXT)
    assert (await yard.rollback()).exit is Exit.PERSON_NEEDED
    yard.says = {}
    assert (await yard.rollback()).exit is Exit.DONE
    assert yard.ground.switches == {SwitchName.MAINTENANCE: before}
    assert {told["of_run"] for told in yard.told(Kind.RUN_SUPERSEDED)} == {"run-1", "run-3"}
    assert (yard.ground.live, yard.ground.state(OLD)) == (OLD, "verified")


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("kind", [Kind.CHECKPOINT_RESTORING, Kind.CHECKPOINT_CONFIRMED])
async def test_rollback_that_was_killed_is_repeated(yard: Yard, kind: Kind, nth: int) -> None:
    """A rollback killed at any checkpoint is repeated from what the deploy had captured, doors as they first stood."""
    before = yard.maintenance()
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    await yard.rollback_killed_at(kind, nth)
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.switches) == (OLD, {SwitchName.MAINTENANCE: before})
    assert (await yard.deploy(NEXT)).exit is Exit.DONE


async def test_rollback_to_a_named_release_after_a_crash(yard: Yard) -> None:
    """With an unfinished run `--to` decides the release, and the doors still open as they stood before that run."""
    await yard.deploy(NEW)
    before = yard.maintenance()
    await yard.killed_at(Kind.STEP_FINISHED, release=NEXT, step="release.switch")
    assert (await yard.rollback(OLD)).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.switches) == (OLD, {SwitchName.MAINTENANCE: before})


async def test_maintenance_of_an_operator_stays_on_through_a_rollback(yard: Yard) -> None:
    """A rollback under maintenance ends under maintenance, with the switch exactly as the operator wrote it."""
    await yard.deploy(NEW)
    before = yard.maintenance()
    assert (await yard.rollback()).exit is Exit.DONE
    assert yard.ground.switches == {SwitchName.MAINTENANCE: before}


async def test_rollback_starts_where_the_target_is_unclear(yard: Yard) -> None:
    """A target that cannot say what serves does not keep a rollback from mending it."""
    await yard.deploy(NEW)
    yard.ground.live = None
    assert (await yard.rollback()).exit is Exit.DONE
    assert yard.ground.live == NEW


async def test_checkpoints_are_armed_in_the_order_of_their_table(tmp_path: Path) -> None:
    """However a step lists them, settings are put back before the release that is started with them."""
    switch = {"act": "release.switch", "needs": ["release.stage"], "checkpoints": [*reversed(ALL)]}
    yard = Yard(tmp_path, {**STORY, "deploy": [{"act": "release.stage"}, switch]})
    yard.verified(OLD)
    failing_once(yard)
    await yard.deploy()
    assert [told["name"] for told in yard.told(Kind.CHECKPOINT_ARMED)] == ALL
    assert [told["name"] for told in yard.told(Kind.CHECKPOINT_RESTORING)][:2] == ["settings", "release"]


async def test_captured_checkpoints_are_those_the_step_names_and_the_doors(tmp_path: Path) -> None:
    """A switch that names only the checkpoint release arms the doors as well, because the way back closes them."""
    switch = {"act": "release.switch", "needs": ["release.stage"], "checkpoints": ["release"]}
    yard = Yard(tmp_path, {**STORY, "deploy": [{"act": "release.stage"}, switch]})
    yard.verified(OLD)
    await yard.deploy()
    armed = {told["name"] for told in yard.told(Kind.CHECKPOINT_ARMED)}
    assert armed == set(ALL) - {"settings"}
