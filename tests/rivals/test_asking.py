"""Asking for a lease: its owner can keep it no longer, nobody slips in between, and old files can be read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.database import Schema, open_for_writing
from pipeline.errors import Exit, LeaseHeld, LeaseLost, TakenOver
from pipeline.lease import Claim, GivesWay, Lease, Owner, State, held
from pipeline.lease_file import SCHEMA
from pipeline.takeover import Answer, Asker, at_work, standing
from tests.pipeline.test_lease import HandClock

RECORD = "/srv/shop/journal.sqlite"
DEPLOY = Claim("deploy", GivesWay.NOW, RECORD)
FIRST_VERSION = Schema(
    "lease",
    1,
    (
        """CREATE TABLE lease (
            id INTEGER PRIMARY KEY CHECK (id = 1), token INTEGER NOT NULL, held INTEGER NOT NULL,
            who TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, process_start TEXT NOT NULL,
            run TEXT NOT NULL, taken_at TEXT NOT NULL, renewed_at TEXT NOT NULL, expires_s REAL NOT NULL,
            renewed_monotonic REAL NOT NULL
        ) STRICT""",
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease.sqlite"


def owner(run: str) -> Owner:
    return Owner.this_process(run, "thandi")


def deploying(path: Path, clock: HandClock) -> Lease:
    return Lease.take(path, owner=owner("run-1"), clock=clock, claim=DEPLOY)


class Waiting:
    """A rollback that waits for a lease: `passes` lets time pass until it looks again."""

    def __init__(self, path: Path, clock: HandClock, run: str = "run-2") -> None:
        self.said: list[str] = []
        self.asker = Asker(path, owner(run), clock, RECORD, "it looks wrong", self.said.append)
        self._clock = clock
        self.stopped = 0
        self.task = asyncio.create_task(self._until_free())

    async def _until_free(self) -> str:
        return await self.asker.until_free(only=None, before_stopping=self._stops, still=lambda: None)

    def _stops(self) -> None:
        self.stopped += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self._clock.advance(0.1)


def asked(path: Path, clock: HandClock) -> bool:
    info = held(path, clock=clock)
    return info is not None and info.asked_by is not None


async def test_owner_that_was_asked_cannot_renew(path: Path) -> None:
    """From the moment it was asked an owner keeps its lease for what is left of it, and no longer."""
    clock = HandClock()
    lease = deploying(path, clock)
    waiting = Waiting(path, clock)
    await waiting.until(lambda: asked(path, clock))
    lease.check_now()
    with pytest.raises(TakenOver, match=r"run run-2 of thandi .*: it looks wrong") as over:
        lease.renew()
    assert over.value.exit_code is Exit.LEASE_HELD
    await waiting.until(waiting.task.done)
    found = held(path, clock=clock)
    assert found is not None and found.state is State.EXPIRED
    assert (waiting.task.result(), waiting.stopped) == ("run-1", 1)
    next_one = Lease.take(path, owner=waiting.asker.owner, clock=clock)
    with pytest.raises(LeaseLost, match="run-2"):
        lease.check_now()
    next_one.release()
    lease.release()


async def test_heartbeats_notice_who_asked(path: Path) -> None:
    """An owner learns from its heartbeats that it must stop, for whom and why."""
    clock = HandClock()
    lease = deploying(path, clock)
    async with lease.heartbeats():
        await asyncio.sleep(0)
        waiting = Waiting(path, clock)
        await waiting.until(lease.ended.is_set)
        assert isinstance(lease.why_ended, TakenOver)
    lease.release()
    await waiting.until(waiting.task.done)


async def test_lease_that_was_asked_for_goes_to_whoever_asked(path: Path) -> None:
    """When the owner has given it back, nobody but the rollback that asked may take it, while that one is there."""
    clock = HandClock()
    lease = deploying(path, clock)
    waiting = Waiting(path, clock)
    await waiting.until(lambda: asked(path, clock))
    lease.release()
    with pytest.raises(LeaseHeld, match=r"run run-2 .* is taking this environment over now"):
        Lease.take(path, owner=owner("run-3"), clock=clock, claim=DEPLOY)
    await waiting.until(waiting.task.done)
    taken = Lease.take(path, owner=waiting.asker.owner, clock=clock)
    taken.release()
    Lease.take(path, owner=owner("run-3"), clock=clock, claim=DEPLOY).release()


@pytest.mark.parametrize("how", ["withdrew", "hangs", "died"])
async def test_whoever_asked_and_is_gone_stops_nobody(path: Path, how: str) -> None:
    """A rollback that asked and withdrew, died, or hangs for longer than a lease lasts, keeps nobody from it."""
    clock = HandClock()
    lease = deploying(path, clock)
    waiting = Waiting(path, clock)
    await waiting.until(lambda: asked(path, clock))
    lease.release()
    waiting.task.cancel()
    if how == "withdrew":
        waiting.asker.withdraw()
    elif how == "hangs":
        clock.pass_time(41)
    else:
        began = waiting.asker.owner.process_start.rpartition("/")[0]
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE takeover SET process_start = ?", (f"{began}/1",))
        connection.close()
    Lease.take(path, owner=owner("run-3"), clock=clock, claim=DEPLOY).release()


async def test_second_rollback_is_told_of_the_first(path: Path) -> None:
    """A rollback that meets a deploy which another rollback is stopping is refused, and that one goes on."""
    clock = HandClock()
    lease = deploying(path, clock)
    first = Waiting(path, clock)
    await first.until(lambda: asked(path, clock))
    second = Waiting(path, clock, "run-4")
    await first.until(second.task.done)
    with pytest.raises(LeaseHeld, match=r"run run-2 .* is taking it over already"):
        second.task.result()
    lease.release()
    await first.until(first.task.done)


async def test_owner_on_its_way_back_is_not_asked(path: Path) -> None:
    """An owner that said first that it goes back by itself is waited for; one that was asked first must stop."""
    clock = HandClock()
    lease = deploying(path, clock)
    lease.be_waited_for()
    waiting = Waiting(path, clock)
    await waiting.until(lambda: bool(waiting.said))
    assert "waiting for deploy, run run-1" in waiting.said[0]
    assert (asked(path, clock), waiting.stopped) == (False, 0)
    lease.release()
    await waiting.until(waiting.task.done)
    other = deploying(path, clock)
    again = Waiting(path, clock)
    await again.until(lambda: asked(path, clock))
    with pytest.raises(TakenOver):
        other.be_waited_for()
    other.release()
    await again.until(again.task.done)


def test_who_is_stopped_and_who_is_not(path: Path) -> None:
    """A run of this record that gives way is stopped; none is while nobody holds the lease."""
    clock = HandClock()
    assert standing(None, RECORD) is None
    lease = deploying(path, clock)
    info = held(path, clock=clock)
    assert info is not None
    assert (standing(info, RECORD), at_work(info, RECORD)) == (standing(replace(info), RECORD), "run-1")
    assert at_work(info, "/another") == at_work(None, RECORD) == ""
    elsewhere = replace(info, owner=replace(info.owner, machine="far-away"))
    found = standing(elsewhere, RECORD)
    assert found is not None and found.answer is Answer.REFUSED and f"{RECORD} on far-away" in found.why
    lease.release()


# ---- files of an older Tollgate ----------------------------------------------------------------------------


def test_lease_of_an_older_tollgate_is_read_and_kept(path: Path) -> None:
    """A file of the first version is read as it is; the first taking gives it what is new, and its token goes on."""
    clock = HandClock()
    old = open_for_writing(path, FIRST_VERSION, wait_s=3)
    me = owner("run-old")
    old.execute(
        "INSERT INTO lease VALUES (1, 41, 1, ?, ?, ?, ?, ?, ?, ?, 20, ?)",
        (
            *(me.who, me.machine, me.pid, me.process_start, me.run),
            *(clock.now().isoformat(), clock.now().isoformat(), clock.monotonic()),
        ),
    )
    found = held(path, clock=clock)
    assert found is not None and (found.owner, found.claim, found.state) == (me, Claim(), State.HELD)
    refused = standing(found, RECORD)
    assert refused is not None and refused.answer is Answer.REFUSED
    with pytest.raises(LeaseHeld):
        Lease.take(path, owner=owner("run-new"), clock=clock)
    old.execute("UPDATE lease SET held = 0")
    old.close()
    lease = Lease.take(path, owner=owner("run-new"), clock=clock, claim=DEPLOY)
    found = held(path, clock=clock)
    assert found is not None and (found.token, found.claim) == (42, DEPLOY)
    lease.release()


def test_old_and_new_files_have_the_same_tables(tmp_path: Path) -> None:
    """What is made anew and what is made of an older file hold the same columns, in the same order."""
    open_for_writing(tmp_path / "old", FIRST_VERSION, wait_s=3).close()
    columns = []
    for name in ("old", "new"):
        connection = open_for_writing(tmp_path / name, SCHEMA, wait_s=3)
        columns.append([connection.execute(f"PRAGMA table_info({t})").fetchall() for t in ("lease", "takeover")])
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        connection.close()
    assert columns[0] == columns[1]
