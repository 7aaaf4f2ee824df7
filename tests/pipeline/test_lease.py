"""The lease on a real file, between real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import Exit, LeaseHeld, LeaseLost
from pipeline.lease import Lease, Owner, State, held, is_dead

ROOT = Path(__file__).resolve().parents[2]
TAKER = """
import sys
from pathlib import Path
from pipeline.clock import SystemClock
from pipeline.errors import LeaseHeld
from pipeline.lease import Lease, Owner
owner = Owner.this_process(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    lease = Lease.take(Path(sys.argv[1]), owner=owner, clock=SystemClock())
    print("took", lease.token, flush=True)
except LeaseHeld as error:
    print("held", error, flush=True)
sys.stdin.readline()
"""
Taker = Callable[[str], "subprocess.Popen[str]"]


class HandClock:
    """A clock that a test moves. Sleepers wake when it has been moved far enough."""

    def __init__(self) -> None:
        self.wall = datetime(2030, 1, 1, tzinfo=UTC)
        self.ticks = 1000.0
        self._moved = asyncio.Condition()

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def jump(self, seconds: float) -> None:
        """The wall clock is set; no time passes."""
        self.wall += timedelta(seconds=seconds)

    def pass_time(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.ticks += seconds

    async def advance(self, seconds: float) -> None:
        async with self._moved:
            self.pass_time(seconds)
            self._moved.notify_all()
        for _ in range(5):
            await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        until = self.ticks + seconds
        async with self._moved:
            await self._moved.wait_for(lambda: self.ticks >= until)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease.sqlite"


@pytest.fixture
def taker(path: Path) -> Iterator[Taker]:
    """Starts processes that take the lease once they read a line; whatever is left of them is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(run: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", TAKER, str(path), run]
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def take(path: Path, clock: HandClock | SystemClock, run: str = "run-1", owner: Owner | None = None) -> Lease:
    return Lease.take(path, owner=owner or Owner.this_process(run, "thandi"), clock=clock)


def elsewhere(run: str = "run-far") -> Owner:
    """An owner on another machine: nobody here can see whether it lives."""
    return Owner("sipho", "far-away", 4711, "another-boot/ns/1", run)


# ---- one owner ---------------------------------------------------------------------------------------------


def test_one_owner_of_many_that_try_at_once(path: Path, taker: Taker) -> None:
    """Of processes that take the lease at the same moment exactly one gets it."""
    processes = [taker(f"run-{number}") for number in range(5)]
    assert [hear(process) for process in processes] == ["ready"] * 5
    for process in processes:
        say(process)
    answers = [hear(process) for process in processes]
    assert sum(answer == "took 1" for answer in answers) == 1
    assert sum(answer.startswith("held") for answer in answers) == 4


def test_the_refusal_says_all_there_is_to_know(path: Path) -> None:
    """Who holds the lease, with which run, since when, where, until when, and what to do: exit 5."""
    clock = HandClock()
    lease = take(path, clock, "run-7")
    with pytest.raises(LeaseHeld) as refused:
        take(path, clock, "run-8")
    message = str(refused.value)
    for part in (
        "run-7",
        "thandi",
        lease.owner.machine,
        str(os.getpid()),
        "2030-01-01 00:00:00",
        "2030-01-01 00:00:20",
    ):
        assert part in message
    assert "./inv status" in refused.value.remedy
    assert refused.value.exit_code is Exit.LEASE_HELD
    lease.release()


def test_tokens_only_grow(path: Path) -> None:
    """Every taking has a higher token than all before it, across releases and takeovers."""
    clock = HandClock()
    tokens = []
    for _ in range(3):
        lease = take(path, clock)
        tokens.append(lease.token)
        lease.release()
        lease.release()
    late = take(path, clock)
    clock.pass_time(21)
    tokens += [late.token, take(path, clock, "run-2").token]
    assert tokens == [1, 2, 3, 4, 5]


def test_what_status_shows(path: Path) -> None:
    """The state of a lease is shown without touching it: none, held, expired, owner dead."""
    clock = HandClock()
    assert held(path, clock=clock) is None
    assert not path.exists()
    path.touch()
    assert held(path, clock=clock) is None
    lease = take(path, clock)
    info = held(path, clock=clock)
    assert info is not None
    assert (info.owner, info.token, info.state, info.remaining_s) == (lease.owner, 1, State.HELD, 20.0)
    clock.pass_time(20)
    info = held(path, clock=clock)
    assert info is not None
    assert info.state is State.EXPIRED
    lease.release()
    assert held(path, clock=clock) is None
    take(path, clock, owner=replace(Owner.this_process("run-2"), process_start=_other_start()))
    info = held(path, clock=clock)
    assert info is not None
    assert info.state is State.OWNER_DEAD


def _other_start() -> str:
    boot, namespace, _ = Owner.this_process("x").process_start.split("/")
    return f"{boot}/{namespace}/1"


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    """The lease names people and machines: mode 0600."""
    lease = take(path, HandClock())
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    lease.release()


# ---- dead owners -------------------------------------------------------------------------------------------


def test_a_killed_owner_is_taken_over_at_once(path: Path, taker: Taker) -> None:
    """After kill -9 the next run has the lease without waiting, and knows whom it took it from; reaped or not."""
    process = taker("run-dead")
    hear(process)
    say(process)
    assert hear(process) == "took 1"
    with pytest.raises(LeaseHeld):
        take(path, SystemClock())
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    lease = take(path, SystemClock(), "run-next")
    assert lease.token == 2
    assert lease.taken_from is not None
    assert lease.taken_from.owner.run == "run-dead"
    assert lease.taken_from.state is State.OWNER_DEAD
    lease.release()
    process.wait()
    assert is_dead(lease.taken_from.owner)


def test_a_reused_pid_is_another_process() -> None:
    """A process that has the pid of a dead owner is not taken for it; nor does a reboot bring an owner back."""
    me = Owner.this_process("run-1")
    assert not is_dead(me)
    assert is_dead(replace(me, process_start=_other_start()))
    _, namespace, started = me.process_start.split("/")
    assert is_dead(replace(me, process_start=f"a-boot-before/{namespace}/{started}"))


def test_nobody_is_declared_dead_on_a_guess() -> None:
    """An owner on another machine, in another container or of another form lives until its lease runs out."""
    me = Owner.this_process("run-1")
    boot, _, started = me.process_start.split("/")
    assert not is_dead(elsewhere())
    assert not is_dead(replace(me, process_start=f"{boot}/pid:[1]/{started}0"))
    assert not is_dead(replace(me, process_start="?"))


def test_an_owner_elsewhere_is_waited_for(path: Path) -> None:
    """A lease held on another machine is respected until it runs out, then taken over."""
    clock = HandClock()
    take(path, clock, owner=elsewhere())
    clock.pass_time(19)
    with pytest.raises(LeaseHeld):
        take(path, clock)
    clock.pass_time(2)
    lease = take(path, clock)
    assert lease.taken_from is not None
    assert lease.taken_from.state is State.EXPIRED
    lease.release()


# ---- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_wall_clock_that_jumps_moves_nothing(path: Path, jump: float) -> None:
    """Within one boot a wall clock that is set forwards or back neither ends nor prolongs a lease."""
    clock = HandClock()
    lease = take(path, clock)
    clock.jump(jump)
    with pytest.raises(LeaseHeld):
        take(path, clock, "run-2")
    lease.check_now()
    clock.pass_time(20)
    assert take(path, clock, "run-2").token == 2
    with pytest.raises(LeaseLost):
        lease.check_now()


async def test_heartbeats_keep_the_lease(path: Path) -> None:
    """While its heart beats a lease does not run out, however long the run."""
    clock = HandClock()
    lease = take(path, clock)
    async with lease.heartbeats():
        await asyncio.sleep(0)
        for _ in range(20):
            await clock.advance(5)
            info = held(path, clock=clock)
            assert info is not None
            assert info.remaining_s == 20
        await lease.check()
        with pytest.raises(LeaseHeld):
            take(path, clock, "run-2")
    assert not lease.ended.is_set()
    lease.release()


async def test_a_lost_lease_is_noticed_by_the_next_heartbeat(path: Path) -> None:
    """An owner that slept too long learns that another took its lease, and by whom, before it changes anything."""
    clock = HandClock()
    lease = take(path, clock)
    async with lease.heartbeats():
        await asyncio.sleep(0)
        clock.pass_time(21)
        other = take(path, clock, "run-thief")
        await clock.advance(0)
        await asyncio.wait_for(lease.ended.wait(), 10)
        assert "run-thief" in str(lease.why_ended)
        with pytest.raises(LeaseLost, match="run-thief") as lost:
            await lease.check()
    assert lost.value.exit_code is Exit.PERSON_NEEDED
    assert lost.value.remedy
    lease.release()
    assert held(path, clock=clock) is not None
    other.check_now()
    other.release()


def test_a_late_owner_whom_nobody_replaced_goes_on(path: Path) -> None:
    """A lease that ran out and was not taken is renewed by the check, so that no one can take it right after."""
    clock = HandClock()
    lease = take(path, clock)
    clock.pass_time(3600)
    lease.check_now()
    with pytest.raises(LeaseHeld):
        take(path, clock, "run-2")
    lease.release()


def test_a_lease_given_back_allows_nothing(path: Path) -> None:
    """After `release` the check refuses."""
    lease = take(path, HandClock())
    lease.release()
    with pytest.raises(LeaseLost, match="given back"):
        lease.check_now()


def test_a_lease_nobody_can_read_allows_nothing(path: Path) -> None:
    """When the file is damaged the check fails closed and says so."""
    lease = take(path, HandClock())
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE lease")
    connection.close()
    with pytest.raises(LeaseLost, match="nobody can tell who holds it"):
        lease.check_now()
    lease.release()


def test_a_renewal_that_fails_is_no_loss_while_time_is_left(path: Path) -> None:
    """A file that is locked for a moment costs nothing; when time has run out it costs the lease."""
    clock = HandClock()
    lease = Lease.take(path, owner=Owner.this_process("run-1"), clock=clock, wait_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    clock.pass_time(18)
    lease.check_now()
    clock.pass_time(3)
    with pytest.raises(LeaseLost, match="could not be renewed"):
        lease.check_now()
    other.execute("ROLLBACK")
    other.close()
    lease.check_now()
    lease.release()
