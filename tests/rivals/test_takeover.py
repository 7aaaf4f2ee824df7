"""A rollback meets another run at work: it stops a deploy, waits for a way back, and is refused by a rollback."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import incident, reconciling, rollback_screen, rolling_back
from pipeline.contracts import SwitchName, World
from pipeline.errors import Exit, LeaseHeld, NothingToRestore, PersonNeeded
from pipeline.events import Kind
from pipeline.interrupts import Interrupted
from pipeline.lease import Claim, GivesWay, Lease, Owner, held
from pipeline.rolling_back import Choice
from pipeline.run_record import Outcome
from pipeline.standing import open_runs
from pipeline.takeover import at_work
from pipeline.verdict import Finding, failed, passed
from tests.pipeline.rooms import NEW, NEXT, OLD, StubbornClock, Yard

BAD = failed("it does not hold", "mend it")


class PatientClock(StubbornClock):
    """Sleeps as long as it is told: two runs wait for each other."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.clock = PatientClock()
    yard.verified(OLD)
    return yard


class Held:
    """A check that says it is asked about one release, and then waits for its word."""

    def __init__(self, release: str | None, then: Finding | None = None) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self._release = release
        self._then = then or passed("as it should be")

    async def __call__(self, world: World) -> Finding:
        if world.run.release != self._release:
            return passed("not about this one")
        self.reached.set()
        await self.go.wait()
        return self._then


async def stopped_in(yard: Yard, check: str, **rollback: Any) -> tuple[Outcome, Outcome]:
    """A deploy that is at work in `check`, and a rollback that comes; how both ended."""
    there = Held(NEW)
    yard.says = {check: there}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await there.reached.wait()
    rolled_back = await yard.rollback(**rollback)
    return await deploying, rolled_back


def told_of(yard: Yard, run: str, kind: Kind) -> list[Any]:
    return [entry.data for entry in yard.entries() if (entry.run, entry.kind) == (run, kind)]


# ---- a deploy is stopped -----------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["gate.one", "proof.two", "watch.one"])
async def test_rollback_stops_a_deploy_wherever_it_is(yard: Yard, check: str) -> None:
    """A rollback stops a deploy, which takes nothing back itself and ends with 5; what was live before serves again."""
    deployed, rolled_back = await stopped_in(yard, check)
    assert (deployed.exit, rolled_back.exit) == (Exit.LEASE_HELD, Exit.DONE)
    assert (yard.ground.live, yard.ground.switches) == (OLD, {})
    assert told_of(yard, deployed.run, Kind.WAYBACK_STARTED) == []
    assert told_of(yard, deployed.run, Kind.RUN_FINISHED)[0]["outcome"] == "taken over"
    assert open_runs(yard.entries()) == []
    assert NEW not in yard.ground.records or yard.ground.state(NEW) == "bad"


async def test_record_says_who_stopped_a_deploy_and_why(yard: Yard) -> None:
    """A deploy that was stopped names the rollback, its person and its reason, on record and in its summary."""
    deployed, rolled_back = await stopped_in(yard, "proof.one", reason="enrolments look wrong")
    (error,) = told_of(yard, deployed.run, Kind.RUN_FAILED)
    assert f"taken over by run {rolled_back.run} of " in error["error"]
    assert "(rollback): enrolments look wrong" in error["error"]
    assert "enrolments look wrong" in deployed.summary


async def test_secret_in_a_reason_is_not_kept_with_the_lease(yard: Yard) -> None:
    """What a person gives as the reason is redacted before the run it stops, and the lease's file, are told."""
    secret = yard.secret.reveal()
    deployed, _ = await stopped_in(yard, "proof.one", reason=f"the key {secret} got out")
    kept = b"".join(file.read_bytes() for file in yard.folder.glob("lease.sqlite*"))
    assert b"got out" in kept and secret.encode() not in kept
    assert secret not in deployed.summary


async def test_incident_of_a_stopped_deploy_was_found_by_a_person(yard: Yard) -> None:
    """The page of an incident in which a person stopped a deploy names no error that nobody saw, and who found it."""
    _, rolled_back = await stopped_in(yard, "proof.one")
    page = incident.build(yard.entries(), rolled_back.run)
    assert page is not None
    assert (page.first_error, page.spans.fault) == (None, None)
    assert page.spans.found_by == "a person, who began a rollback"


async def test_rollback_of_a_deploy_that_had_changed_nothing_leaves_what_is_live(yard: Yard) -> None:
    """A deploy that is stopped in its gates is set aside: nothing at the target is touched, and that is said."""
    deployed, rolled_back = await stopped_in(yard, "gate.one")
    assert f"run {deployed.run} had changed nothing yet; {OLD} is live as before" in rolled_back.summary
    assert yard.ground.done == []


async def test_rollback_to_another_release_stops_a_deploy_and_goes_there(yard: Yard) -> None:
    """With `--to` the deploy is stopped all the same, and the named release is live in the end."""
    yard.verified(NEXT)
    yard.ground.live = OLD
    deployed, rolled_back = await stopped_in(yard, "proof.one", to=NEXT)
    assert (deployed.exit, rolled_back.exit, yard.ground.live) == (Exit.LEASE_HELD, Exit.DONE, NEXT)


async def test_rollback_that_leads_nowhere_stops_nobody(yard: Yard) -> None:
    """A rollback to a release that is not verified is refused before a deploy is asked to stop."""
    there = Held(NEW)
    yard.says = {"proof.one": there}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await there.reached.wait()
    with pytest.raises(NothingToRestore):
        await yard.rollback(to="9-never")
    there.go.set()
    assert ((await deploying).exit, yard.ground.live) == (Exit.DONE, NEW)


async def test_resumed_deploy_is_stopped_as_well(yard: Yard) -> None:
    """A deploy that went on after a crash gives way to a rollback like any other."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    there = Held(NEW)
    yard.says = {"proof.one": there}
    resuming = asyncio.create_task(yard.resume())
    await there.reached.wait()
    assert (await yard.rollback()).exit is Exit.DONE
    assert ((await resuming).exit, yard.ground.live) == (Exit.LEASE_HELD, OLD)


async def test_repair_of_the_books_gives_way_and_the_rollback_is_what_was_asked_for(yard: Yard) -> None:
    """`reconcile --apply` is stopped with 5, and the rollback goes where it would have gone without it."""
    yard.verified(NEW)
    asked, before = asyncio.Event(), yard.shop.history

    async def history(since: datetime, until: datetime) -> Any:
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return await before(since, until)

    yard.shop.history = history  # type: ignore[method-assign]

    async def repair() -> Outcome:
        with yard.opened() as session:
            plan = reconciling.planned(session.spec, session.environment, apply=True)
            return await reconciling.apply(session, plan, Owner.this_process("run-1"), None, reconciling.Books())

    repairing = asyncio.create_task(repair())
    await asked.wait()
    rolled_back, repaired = await yard.rollback(), await repairing
    assert (repaired.exit, rolled_back.exit, yard.ground.live) == (Exit.LEASE_HELD, Exit.DONE, OLD)
    assert told_of(yard, "run-1", Kind.RUN_FINISHED)[0]["outcome"] == "taken over"


async def test_deploy_does_not_take_over(yard: Yard) -> None:
    """A deploy that meets another run is refused with 5, and that run goes on to its end."""
    there = Held(NEW)
    yard.says = {"proof.one": there}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await there.reached.wait()
    with pytest.raises(LeaseHeld):
        await yard.deploy(NEXT)
    there.go.set()
    assert ((await deploying).exit, yard.ground.live) == (Exit.DONE, NEW)


# ---- a deploy that ends by itself --------------------------------------------------------------------------


async def waited_for(yard: Yard) -> tuple[Held, asyncio.Task[Outcome], asyncio.Task[Outcome]]:
    """A deploy on its way back, held up there, and the rollback that waits for it."""
    going_back = Held(OLD)
    yard.says = {"watch.one": BAD, "proof.one": going_back}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await going_back.reached.wait()
    rolling = asyncio.create_task(yard.rollback())
    while not any("waiting for deploy" in line for line in yard.output):
        await asyncio.sleep(0.01)
    return going_back, deploying, rolling


async def test_way_back_of_a_deploy_is_waited_for(yard: Yard) -> None:
    """A deploy that is going back by itself is not broken off; when it has, nothing more is gone back: exit 0."""
    going_back, deploying, rolling = await waited_for(yard)
    going_back.go.set()
    deployed, rolled_back = await deploying, await rolling
    assert (deployed.exit, rolled_back.exit, yard.ground.live) == (Exit.RESTORED, Exit.DONE, OLD)
    assert f"run {deployed.run} had already gone back by itself; {OLD} is live as before" in rolled_back.summary
    assert told_of(yard, rolled_back.run, Kind.WAYBACK_STARTED) == []


async def seen_at_work(yard: Yard, run: str) -> Outcome:
    """A rollback for which `run` was at work when it was looked, and is not any more."""
    with yard.opened() as session:
        owner, plan = Owner.this_process(session.recorder.run), yard.plan("rollback", ("prove",))
        return await rolling_back.rollback(session, plan, owner, to=None, reason="", at_work=run)


async def test_deploy_that_finished_just_before_is_gone_back_from(yard: Yard) -> None:
    """A deploy that ended well before it could be stopped is gone back from: to what was live before it."""
    yard.verified(NEXT)
    yard.ground.live = OLD
    latest = "4-latest"
    deployed = await yard.deploy(latest)  # type: ignore[arg-type]
    rolled_back = await seen_at_work(yard, deployed.run)
    assert (deployed.exit, rolled_back.exit, yard.ground.live) == (Exit.DONE, Exit.DONE, OLD)


async def test_deploy_that_restored_itself_just_before_is_left_alone(yard: Yard) -> None:
    """A deploy that failed and went back before it could be stopped needs nothing: no older release is gone to."""
    yard.verified(NEXT)
    yard.says = {"watch.one": BAD}
    deployed = await yard.deploy("4-latest")  # type: ignore[arg-type]
    before = list(yard.ground.done)
    rolled_back = await seen_at_work(yard, deployed.run)
    assert (deployed.exit, rolled_back.exit, yard.ground.live) == (Exit.RESTORED, Exit.DONE, NEXT)
    assert yard.ground.done == before


async def test_failure_is_told_before_the_takeover_that_followed_it(yard: Yard) -> None:
    """A deploy that fails while it is being taken over names its own error first, and goes no way back."""

    async def asked_and_failing(world: World) -> Finding:
        if world.run.release != NEW:
            return passed("not about this one")
        while (info := held(yard.folder / "lease.sqlite", clock=yard.clock)) is not None and info.asked_by is None:
            await asyncio.sleep(0.001)
        return BAD

    there = Held(NEW)
    yard.says = {"proof.one": there, "proof.two": asked_and_failing}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await there.reached.wait()
    rolled_back, deployed = await yard.rollback(), await deploying
    assert (deployed.exit, rolled_back.exit, yard.ground.live) == (Exit.LEASE_HELD, Exit.DONE, OLD)
    assert "taken over by run" in deployed.summary
    assert told_of(yard, deployed.run, Kind.WAYBACK_STARTED) == []


async def test_signal_ends_the_waiting_for_a_way_back(yard: Yard) -> None:
    """Ctrl-C in a rollback that only waits for another run ends it with 130; that run goes on."""
    going_back, deploying, rolling = await waited_for(yard)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as ended:
        await rolling
    going_back.go.set()
    assert (ended.value.exit_code, (await deploying).exit) == (Exit.INTERRUPTED, Exit.RESTORED)
    assert yard.ground.live == OLD


async def test_removed_lease_begins_beyond_what_the_target_was_shown(yard: Yard) -> None:
    """Who removes the file of the lease does not lock everybody out: the next token is higher than the fence's."""
    await yard.deploy(NEW)
    for file in yard.folder.glob("lease.sqlite*"):
        file.unlink()
    assert (await yard.deploy(NEXT)).exit is Exit.DONE
    tokens = [entry["token"] for entry in yard.told(Kind.LEASE_TAKEN)]
    assert tokens == [1, 2]


# ---- who is not taken over ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        (Claim("rollback", GivesWay.NEVER, "ours"), "a rollback is never taken over"),
        (Claim("deploy", GivesWay.NOW, "/srv/other/journal.sqlite"), "it writes another record, /srv/other/journal"),
        (Claim(), "a run of an older Tollgate is never taken over"),
    ],
    ids=["rollback", "another checkout", "older"],
)
async def test_some_are_never_taken_over(yard: Yard, claim: Claim, why: str) -> None:
    """A rollback, a run of another checkout and one of an older Tollgate are not stopped: exit 5, with the reason."""
    owner = Owner.this_process("run-9", "sipho")
    lease = Lease.take(yard.folder / "lease.sqlite", owner=owner, clock=yard.clock, claim=claim)
    yard.verified(NEW)
    try:
        with pytest.raises(LeaseHeld, match=why) as refused:
            await yard.rollback()
        assert why in " ".join(rollback_screen.screen(await foreseen(yard)).split())
        lease.check_now()
    finally:
        lease.release()
    assert refused.value.exit_code is Exit.LEASE_HELD and refused.value.remedy
    assert yard.ground.done == []


# ---- the screen, and what is agreed to ---------------------------------------------------------------------


async def chosen(yard: Yard) -> Choice:
    with yard.opened() as session:
        info = held(session.lease_file, clock=yard.clock)
        return await rolling_back.choose(rolling_back.Look.of(session, at_work(info, session.record)), None)


async def foreseen(yard: Yard) -> rollback_screen.Foreseen:
    choice = await chosen(yard)
    with yard.opened() as session:
        look, plan = rolling_back.Look.of(session), yard.plan("rollback", ("prove",))
        lease, checks = held(session.lease_file, clock=yard.clock), session.catalogue.checks
        return await rollback_screen.foresee(look, choice, plan, checks, lease, [], record=session.record)


async def agreed_rollback(yard: Yard, agreed: Choice) -> Outcome:
    with yard.opened() as session:
        owner, plan = Owner.this_process(session.recorder.run), yard.plan("rollback", ("prove",))
        return await rolling_back.rollback(session, plan, owner, to=None, reason="", agreed=agreed)


async def test_screen_says_first_that_a_deploy_is_stopped(yard: Yard) -> None:
    """The first lines of the screen are who is at work, since when and in which step, and that it is stopped."""
    there = Held(NEW)
    yard.says = {"proof.one": there}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await there.reached.wait()
    lines = rollback_screen.screen(await foreseen(yard)).splitlines()
    text = " ".join(" ".join(lines).split())
    assert lines[1].startswith("AT WORK NOW") and "deploy since 2" in lines[1]
    assert "In prove: proof.one" in text
    assert "It is stopped first, and does not go back by itself: this does." in text
    assert f"goes back to {OLD}" in text
    there.go.set()
    await deploying


async def test_screen_says_that_a_way_back_is_waited_for(yard: Yard) -> None:
    """A deploy that is putting things back is shown as one that is waited for."""
    going_back = Held(OLD)
    yard.says = {"watch.one": BAD, "proof.one": going_back}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await going_back.reached.wait()
    assert "It is putting things back by itself: it is waited for first." in rollback_screen.screen(
        await foreseen(yard)
    )
    going_back.go.set()
    assert (await deploying).exit is Exit.RESTORED


async def test_agreed_rollback_is_done_though_the_deploy_went_on_meanwhile(yard: Yard) -> None:
    """Who agreed while a deploy was in its gates is not refused because it has switched by the time it is stopped."""
    gate, proof = Held(NEW), Held(NEW)
    yard.says = {"gate.one": gate, "proof.one": proof}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await gate.reached.wait()
    agreed = await chosen(yard)
    assert agreed.settles_only
    gate.go.set()
    await proof.reached.wait()
    rolled_back = await agreed_rollback(yard, agreed)
    assert (rolled_back.exit, (await deploying).exit, yard.ground.live) == (Exit.DONE, Exit.LEASE_HELD, OLD)


async def test_run_that_began_after_the_question_is_not_stopped(yard: Yard) -> None:
    """Who agreed while nobody was at work stops nobody: a deploy that began meanwhile goes on, exit 5."""
    yard.verified(NEW)
    agreed = await chosen(yard)
    there = Held(NEXT)
    yard.says = {"proof.one": there}
    deploying = asyncio.create_task(yard.deploy(NEXT))
    await there.reached.wait()
    with pytest.raises(LeaseHeld, match="it began after you were shown"):
        await agreed_rollback(yard, agreed)
    there.go.set()
    assert ((await deploying).exit, yard.ground.live) == (Exit.DONE, NEXT)


async def test_stopped_deploy_is_told_where_what_was_agreed_to_does_not_hold_any_more(yard: Yard) -> None:
    """When more than the deploy changed, it is stopped, nothing is gone back, and a person is told to look: exit 4."""
    there = Held(NEW)
    yard.says = {"proof.one": there}
    deploying = asyncio.create_task(yard.deploy(NEW))
    await there.reached.wait()
    agreed = replace(await chosen(yard), release=NEXT)
    with pytest.raises(PersonNeeded, match="was stopped and is left unfinished, nothing else was changed"):
        await agreed_rollback(yard, agreed)
    assert ((await deploying).exit, yard.ground.live) == (Exit.LEASE_HELD, NEW)
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, SwitchName.PAYMENTS_OFF in yard.ground.switches) == (OLD, False)
