"""Doors that a person closes and opens: at once, on record before it is done, and never opened by a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import closing, opening, rolling_back
from pipeline.closing import Done
from pipeline.contracts import ReleaseState, SwitchName, SwitchOn
from pipeline.doors import closed_meanwhile
from pipeline.errors import Exit, LeaseHeld, PersonNeeded, Refused
from pipeline.events import Entry, Kind
from pipeline.lease import Lease, Owner
from pipeline.run_record import Outcome
from pipeline.verdict import failed
from tests.pipeline.rooms import NEW, OLD, Yard

MAINTENANCE, PAYMENTS, TEST_MODE = SwitchName.MAINTENANCE, SwitchName.PAYMENTS_OFF, SwitchName.TEST_MODE
BAD = failed("it does not hold", "mend it")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


class Hand:
    """The files as a person writes them: no lease is asked for. `seen`: what was on record by then."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self.seen: list[Sequence[Entry]] = []

    async def read(self, name: SwitchName) -> SwitchOn | None:
        return self._yard.ground.switches.get(name)

    async def write(self, name: SwitchName, value: SwitchOn | None) -> None:
        assert value is not None, "closing opened a door"
        self.seen.append(self._yard.entries())
        self._yard.ground.switches[name] = value


async def close(yard: Yard, *doors: SwitchName, reason: str = "the bank called", done: Done | None = None) -> Outcome:
    hand = Hand(yard)

    async def closing_() -> Outcome:
        with yard.opened() as session:
            plan = closing.planned(yard.spec, "staging", closing.CLOSE, doors)
            return await closing.close(session, hand, plan, doors, reason=reason, done=done or Done())

    outcome = await asyncio.create_task(closing_())  # beside a run that may be at work
    for seen in hand.seen:
        assert seen[-1].kind is Kind.DOOR_CLOSED, "changed before it was on record"
    return outcome


async def open_again(yard: Yard, *only: SwitchName, meanwhile: Any = None) -> Outcome:
    with yard.opened() as session:
        doors = {door: value for door, value in (await opening.closed(session)).items() if not only or door in only}
        if meanwhile is not None:
            meanwhile()
        plan = closing.planned(yard.spec, "staging", closing.OPEN, tuple(doors))
        owner = Owner.this_process(session.recorder.run)
        return await opening.reopen(session, plan, owner, doors, reason="", done=Done())


# ---- close -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", SwitchName)
async def test_door_is_closed_on_record_and_confirmed(yard: Yard, door: SwitchName) -> None:
    """Closing writes who, why and since, on record before the file, and ends well once the service obeys it."""
    assert (await close(yard, door)).exit is Exit.DONE
    on = yard.ground.switches[door]
    assert (on.who, on.why, on.run, on.proof) == ("thandi", "the bank called", "", "")
    assert yard.told(Kind.DOOR_CLOSED) == [{"door": door.value, "who": on.who, "why": on.why, "since": on.since}]


async def test_closing_twice_keeps_the_first_word(yard: Yard) -> None:
    """Who closes what is closed already leaves the first who, why and since, and is told that it is closed."""
    await close(yard, MAINTENANCE)
    first = yard.ground.switches[MAINTENANCE]
    assert (await close(yard, MAINTENANCE, reason="another")).exit is Exit.DONE
    assert yard.ground.switches[MAINTENANCE] == first


async def test_door_that_a_run_closed_becomes_a_persons(yard: Yard) -> None:
    """A person who closes what a way back holds closed owns it from there on: the way back's end does not open it."""
    yard.says = {"watch.one": BAD}
    change, seen = yard.ground.change, list[SwitchOn]()

    async def interfere(what: str) -> None:
        if what == f"activate {OLD}":
            await close(yard, PAYMENTS)
            seen.append(yard.ground.switches[PAYMENTS])
        await change(what)

    yard.ground.change = interfere  # type: ignore[method-assign]
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert len(seen[0].proof) == 64, "the proofs of the run could not pass"
    assert yard.ground.switches == {PAYMENTS: seen[0]}


@pytest.mark.parametrize("trouble", ["deaf", "away", "locks_webhooks"])
async def test_service_that_does_not_obey_is_told(yard: Yard, trouble: str) -> None:
    """Where visitors get in, nobody answers, or webhooks are shut out, closing ends with 4 and says what to do."""
    setattr(yard.shop, trouble, True)
    outcome = await close(yard, MAINTENANCE)
    assert outcome.exit is Exit.PERSON_NEEDED
    assert "the file is written" in outcome.summary and "the proxy in front of it" in outcome.remedy
    assert MAINTENANCE in yard.ground.switches


async def test_closing_does_not_wait_for_the_record(yard: Yard) -> None:
    """Where the journal cannot be written the door is closed all the same, and it is told that it is unrecorded."""
    with yard.opened() as session:
        session.journal.close()
        hand = Hand(yard)
        plan = closing.planned(yard.spec, "staging", closing.CLOSE, (MAINTENANCE,))
        with pytest.raises(PersonNeeded, match="not on record"):
            await closing.close(session, hand, plan, (MAINTENANCE,), reason="the disk is full", done=Done())
    assert yard.ground.switches[MAINTENANCE].why == "the disk is full"


@pytest.mark.parametrize("door", SwitchName)
async def test_door_closed_while_a_run_writes_the_same_file_stays(yard: Yard, door: SwitchName) -> None:
    """A person's door that falls between a way back's look and its write is closed again before the way back ends."""
    yard.says = {"watch.one": BAD}
    change, crossed = yard.ground.change, list[str]()

    async def interfere(what: str) -> None:
        await change(what)
        if what == f"switch {door.value} off" and not crossed:
            crossed.append(what)
            await close(yard, door)

    yard.ground.change = interfere  # type: ignore[method-assign]
    assert (await yard.deploy()).exit is Exit.RESTORED
    on = yard.ground.switches.pop(door)
    assert (crossed, on.why, on.run, yard.ground.switches) == ([f"switch {door.value} off"], "the bank called", "", {})


# ---- open --------------------------------------------------------------------------------------------------


async def test_everything_that_persons_closed_is_opened(yard: Yard) -> None:
    """Opening takes every door of persons away, on record before, pages last, and sees that customers get in."""
    for door in SwitchName:
        await close(yard, door)
    assert (await open_again(yard)).exit is Exit.DONE
    assert yard.ground.switches == {}
    assert [told["door"] for told in yard.told(Kind.DOOR_OPENED)] == ["test-mode", "payments-off", "maintenance"]
    opened = [change for change in yard.ground.changes if change.what.endswith("off")]
    assert [change.after.kind for change in opened] == [Kind.DOOR_OPENED] * 3


async def test_only_the_named_door_is_opened(yard: Yard) -> None:
    """Naming one door leaves the others closed."""
    await close(yard, MAINTENANCE)
    await close(yard, TEST_MODE)
    assert (await open_again(yard, TEST_MODE)).exit is Exit.DONE
    assert set(yard.ground.switches) == {MAINTENANCE}


def _unverified(yard: Yard) -> None:
    yard.ground.records[OLD] = replace(yard.ground.records[OLD], state=ReleaseState.LIVE)


def _edited(yard: Yard) -> None:
    yard.ground.in_force[OLD] = json.dumps({"API_SECRET": "edited"})


def _nothing_live(yard: Yard) -> None:
    yard.ground.live = None


def _unwell(yard: Yard) -> None:
    yard.shop.unwell = True


@pytest.mark.parametrize("trouble", [_unverified, _edited, _nothing_live, _unwell])
async def test_nothing_is_opened_on_what_is_not_known_good(yard: Yard, trouble: Any) -> None:
    """Doors open only on a verified release with its own settings that says it is ready; else nothing is touched."""
    await close(yard, MAINTENANCE)
    trouble(yard)
    with pytest.raises(Refused, match="nothing was opened"):
        await open_again(yard)
    assert (set(yard.ground.switches), yard.told(Kind.DOOR_OPENED)) == ({MAINTENANCE}, [])


async def test_nothing_is_opened_while_a_run_must_be_put_right(yard: Yard) -> None:
    """After a run that needs a person, open points to rollback and touches neither its door nor anybody's."""
    await close(yard, TEST_MODE)
    yard.says = {"proof.two": BAD}
    assert (await yard.deploy()).exit is Exit.PERSON_NEEDED
    before = dict(yard.ground.switches)
    with pytest.raises(PersonNeeded) as refused:
        await open_again(yard)
    assert "./inv rollback --env staging" in refused.value.remedy
    assert yard.ground.switches == before


async def test_door_of_a_run_is_never_opened(yard: Yard) -> None:
    """A door that a run closed, on whatever record, is not a person's to open: exit 4."""
    yard.ground.switches[MAINTENANCE] = SwitchOn("sipho, run 9", "it failed", "2026-01-01T00:00:00+00:00", "", "run-9")
    with pytest.raises(PersonNeeded, match="closed by run run-9"):
        await open_again(yard)
    assert set(yard.ground.switches) == {MAINTENANCE}


async def test_nothing_is_opened_while_a_run_is_at_work(yard: Yard) -> None:
    """Opening needs the lease: while a run holds it nothing is opened, exit 5; closing waits for nobody."""
    await close(yard, MAINTENANCE)
    lease = Lease.take(yard.folder / "lease.sqlite", owner=Owner.this_process("run-9", "sipho"), clock=yard.clock)
    try:
        with pytest.raises(LeaseHeld):
            await open_again(yard)
        assert (await close(yard, PAYMENTS)).exit is Exit.DONE
    finally:
        lease.release()
    assert set(yard.ground.switches) == {MAINTENANCE, PAYMENTS}


async def test_what_was_not_shown_is_not_opened(yard: Yard) -> None:
    """A door that was closed anew while somebody was asked stays closed: yes was said to another one."""
    await close(yard, MAINTENANCE)

    def anew() -> None:
        yard.maintenance()

    with pytest.raises(Refused, match="changed while you were asked"):
        await open_again(yard, meanwhile=anew)
    assert yard.ground.switches[MAINTENANCE].who == "sipho"


async def test_service_that_does_not_let_in_is_closed_again(yard: Yard) -> None:
    """Where customers still cannot pay once the doors are off, they are closed as they were: exit 4."""
    await close(yard, MAINTENANCE)
    await close(yard, TEST_MODE)
    before, yard.shop.stuck = dict(yard.ground.switches), True
    outcome = await open_again(yard)
    assert outcome.exit is Exit.PERSON_NEEDED
    assert "POST /api/payments: 503" in outcome.summary and "closed as it was" in outcome.summary
    assert yard.ground.switches == before


async def test_test_mode_that_the_service_knows_nothing_of_can_be_opened(yard: Yard) -> None:
    """A file that a service never obeyed is taken away by `open`: nothing stands in the way of its customers."""
    yard.shop.deaf = True
    assert (await close(yard, TEST_MODE)).exit is Exit.PERSON_NEEDED
    assert (await open_again(yard)).exit is Exit.DONE
    assert not yard.ground.switches


async def test_test_mode_that_stays_on_is_not_called_off(yard: Yard) -> None:
    """A service that says `on` when the file is gone would take payments that are never activated: exit 4."""
    await close(yard, TEST_MODE)
    before, yard.shop.tests = dict(yard.ground.switches), True
    assert (await open_again(yard)).exit is Exit.PERSON_NEEDED
    assert yard.ground.switches == before


# ---- a rollback that opens with test mode on ---------------------------------------------------------------


async def test_rollback_turns_test_mode_on_before_it_proves(yard: Yard) -> None:
    """Test mode is on once the release and its settings are back, before any proof, and stays when it has opened."""
    await yard.deploy()
    assert (await yard.rollback(test_mode=True, reason="orders look wrong")).exit is Exit.DONE
    kinds = [entry.kind for entry in yard.entries() if entry.run == "run-2"]
    restored = kinds.index(Kind.CHECKPOINT_CONFIRMED)
    assert restored < kinds.index(Kind.DOOR_CLOSED) < kinds.index(Kind.FINDING)
    (on,) = yard.ground.switches.values()
    assert (list(yard.ground.switches), on.who, on.why, on.run) == ([TEST_MODE], "thandi", "orders look wrong", "")


async def test_test_mode_outlasts_deploys_and_rollbacks_until_a_person_opens(yard: Yard) -> None:
    """What a person turned on stays through the next deploy, good or bad, and the next rollback."""
    await yard.deploy()
    await yard.rollback(test_mode=True)
    on = replace(yard.ground.switches[TEST_MODE], proof="")
    assert (await yard.deploy(NEW)).exit is Exit.DONE
    yard.says = {"watch.one": BAD}
    assert (await yard.deploy()).exit is Exit.RESTORED
    yard.says = {}
    assert (await yard.rollback()).exit is Exit.DONE
    assert {door: replace(value, proof="") for door, value in yard.ground.switches.items()} == {TEST_MODE: on}
    assert (await open_again(yard)).exit is Exit.DONE


async def test_rollback_stays_closed_where_test_mode_is_not_obeyed(yard: Yard) -> None:
    """A service that would go on moving money is not opened: exit 4; a rollback without test mode opens it."""
    await yard.deploy()
    yard.shop.deaf = True
    outcome = await yard.rollback(test_mode=True)
    assert outcome.exit is Exit.PERSON_NEEDED
    assert "does not obey it" in yard.told(Kind.CLOSED)[0]["why"]
    yard.shop.deaf = False
    assert (await yard.rollback()).exit is Exit.DONE


async def test_killed_rollback_goes_on_with_test_mode(yard: Yard) -> None:
    """A rollback that was killed before it turned test mode on is gone on with as it was asked for."""
    await yard.deploy()
    with yard.opened() as session:
        choice = await rolling_back.choose(rolling_back.Look.of(session), None, test_mode=True)
    assert choice.test_mode
    await yard._killed(lambda: yard.rollback(test_mode=True), Kind.WAYBACK_STARTED, 1, {})
    assert not yard.ground.switches
    assert (await yard.rollback()).exit is Exit.DONE
    assert set(yard.ground.switches) == {TEST_MODE}


async def test_test_mode_comes_on_where_nothing_is_gone_back_from(yard: Yard) -> None:
    """An unfinished run that had changed nothing is set aside, and test mode is turned on all the same."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    assert (await yard.rollback(test_mode=True)).exit is Exit.DONE
    assert (yard.ground.live, set(yard.ground.switches)) == (OLD, {TEST_MODE})


async def test_test_mode_that_is_not_obeyed_is_told_where_nothing_is_gone_back_from(yard: Yard) -> None:
    """Where nothing is gone back from and the service does not obey test mode, a person is needed."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    yard.shop.deaf = True
    assert (await yard.rollback(test_mode=True)).exit is Exit.PERSON_NEEDED


# ---- what the record says of doors -------------------------------------------------------------------------


def entries(*rows: tuple[str, Kind, dict[str, str]]) -> list[Entry]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [Entry(seq, run, at, kind, data, "", "") for seq, (run, kind, data) in enumerate(rows, 1)]


DOOR = {"door": "maintenance", "who": "naledi", "why": "the bank called", "since": "2026-01-01"}
BEGAN: dict[str, str] = {}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("c", Kind.DOOR_CLOSED, DOOR), ("b", Kind.RUN_STARTED, BEGAN)], set()),
        ([("b", Kind.RUN_STARTED, BEGAN), ("c", Kind.DOOR_CLOSED, DOOR)], {MAINTENANCE}),
        (
            [("b", Kind.RUN_STARTED, BEGAN), ("c", Kind.DOOR_CLOSED, DOOR), ("d", Kind.DOOR_OPENED, DOOR)],
            set(),
        ),
        (
            [
                ("a", Kind.RUN_STARTED, BEGAN),
                ("c", Kind.DOOR_CLOSED, DOOR),
                ("b", Kind.RUN_STARTED, BEGAN),
                ("b", Kind.WAYBACK_STARTED, {"of_run": "a"}),
            ],
            {MAINTENANCE},
        ),
    ],
    ids=["before the run", "during it", "opened again", "during the run it puts right"],
)
def test_doors_closed_meanwhile_are_those_since_the_run_began(rows: Any, found: set[SwitchName]) -> None:
    """A run closes again only what persons closed since it, or the run that it puts right, began."""
    assert set(closed_meanwhile(entries(*rows), "b")) == found
