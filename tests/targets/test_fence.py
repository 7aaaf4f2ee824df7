"""The fence at the target: a lower token changes nothing, and whoever comes next waits for what is in progress."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pipeline.contracts import Fence, ReleaseId
from pipeline.errors import Exit, LeaseHeld, LeaseLost, TargetError
from targets import fence_file
from targets.local import LocalHost
from tests.targets.areas import opened, stopped_after

ROOT = Path(__file__).resolve().parents[2]
RUNNER = """
import asyncio, sys
from pathlib import PurePosixPath
from pipeline.contracts import Fence
from pipeline.errors import LeaseLost
from targets.local import LocalHost

folder = PurePosixPath(sys.argv[1])
fence = Fence(folder / "fence", 1)

async def main():
    host = LocalHost()
    copy = "import shutil, sys; open(sys.argv[1]).read(); shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[2], 'wb'))"
    argv = [sys.executable, "-c", copy, str(folder / "begin"), str(folder / "made")]
    print("begins", flush=True)
    await host.run(argv, timeout=60, stdin=b"x" * 1_000_000, fence=fence)
    print("made", flush=True)
    for change in (
        lambda: host.put(folder / "late", b"late", fence=fence),
        lambda: host.rename(folder / "made", folder / "renamed", fence=fence),
        lambda: host.run(["rm", str(folder / "made")], timeout=60, fence=fence),
    ):
        try:
            await change()
            print("changed", flush=True)
        except LeaseLost:
            print("lost", flush=True)

asyncio.run(main())
"""
STOPPED = """
import os, signal, sys
from pathlib import Path
from targets.fence_file import Held
held = Held.of(Path(sys.argv[1]), alone=False)
print("holds", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts Python programs; whatever is left of them is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", program, *map(str, arguments)]
        running.append(subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def begin(tmp_path: Path) -> Path:
    """A pipe that a command in progress waits for."""
    os.mkfifo(tmp_path / "begin")
    return tmp_path / "begin"


def fence(folder: Path, token: int) -> Fence:
    return Fence(PurePosixPath(folder / "fence"), token)


async def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def in_progress(path: Path) -> None:
    """Until a command holds the fence itself."""
    async with asyncio.timeout(30):
        while not any("python" in one for one in fence_file._holders(path)):
            await asyncio.sleep(0.01)


async def commands_only(path: Path, runner: int) -> None:
    """Until nobody but the command of a change holds the fence."""
    async with asyncio.timeout(30):
        while not (found := list(fence_file._holders(path))) or any(f"process {runner} " in one for one in found):
            await asyncio.sleep(0.01)


def let_go(begin: Path) -> None:
    begin.write_text("go")


# ---- tokens ------------------------------------------------------------------------------------------------


async def test_lower_token_changes_nothing(tmp_path: Path) -> None:
    """Once a later run has shown its token, an earlier one can neither write, rename nor run a command that changes."""
    host, path = LocalHost(), tmp_path / "fence"
    old, new = PurePosixPath(tmp_path / "old"), PurePosixPath(tmp_path / "new")
    await host.put(old, b"kept", fence=fence(tmp_path, 1))
    await fence_file.advance(path, 2)
    for change in (
        lambda: host.put(old, b"changed", fence=fence(tmp_path, 1)),
        lambda: host.rename(old, new, fence=fence(tmp_path, 1)),
        lambda: host.run(["rm", str(old)], timeout=10, fence=fence(tmp_path, 1)),
    ):
        with pytest.raises(LeaseLost, match="the lease of a later run") as lost:
            await change()
        assert lost.value.exit_code is Exit.PERSON_NEEDED
    assert {one.name for one in tmp_path.iterdir()} == {"fence", "old"}
    assert Path(old).read_bytes() == b"kept"
    await host.rename(old, new, fence=fence(tmp_path, 2))
    assert Path(new).read_bytes() == b"kept"


async def test_token_only_rises(tmp_path: Path) -> None:
    """Who comes with a lower token than the target was shown is refused at the door, and the token stays."""
    path = tmp_path / "fence"
    assert fence_file.highest(path) == 0
    await fence_file.advance(path, 7)
    await fence_file.advance(path, 7)
    with pytest.raises(LeaseLost):
        await fence_file.advance(path, 6)
    assert fence_file.highest(path) == 7
    assert path.stat().st_mode & 0o777 == 0o600


async def test_removed_fence_is_made_anew(tmp_path: Path) -> None:
    """A fence that somebody removed stands again after the next change, and an earlier run is still refused then."""
    host, path = LocalHost(), tmp_path / "fence"
    await fence_file.advance(path, 5)
    path.unlink()
    await host.put(PurePosixPath(tmp_path / "a"), b"", fence=fence(tmp_path, 5))
    assert fence_file.highest(path) == 5
    with pytest.raises(LeaseLost):
        await host.put(PurePosixPath(tmp_path / "b"), b"", fence=fence(tmp_path, 4))


async def test_fence_that_says_nothing_allows_nothing(tmp_path: Path) -> None:
    """A fence with something else in it than a number refuses every change and says what to do."""
    (tmp_path / "fence").write_text("once upon a time")
    with pytest.raises(TargetError, match="in place of a number") as refused:
        await LocalHost().put(PurePosixPath(tmp_path / "a"), b"", fence=fence(tmp_path, 1))
    assert refused.value.remedy
    assert not (tmp_path / "a").exists()


# ---- changes in progress -----------------------------------------------------------------------------------


async def test_changes_of_one_run_do_not_wait_for_each_other(tmp_path: Path, begin: Path) -> None:
    """While a long command of a run goes on, other changes of the same run are made."""
    host, path = LocalHost(), PurePosixPath(tmp_path)
    await fence_file.advance(tmp_path / "fence", 1)
    copying = asyncio.create_task(
        host.run(["cp", str(begin), str(path / "copy")], timeout=60, fence=fence(tmp_path, 1))
    )
    await host.put(path / "beside", b"made", fence=fence(tmp_path, 1))
    assert not copying.done()
    await asyncio.to_thread(let_go, begin)
    assert (await copying).returncode == 0


async def test_change_of_a_dead_owner_is_waited_for(tmp_path: Path, begin: Path, started: Any) -> None:
    """A run killed in the middle of a command is waited for until that command has ended; then the next one owns."""
    path = tmp_path / "fence"
    runner = started(RUNNER, tmp_path)
    assert await hear(runner) == "begins"
    await in_progress(path)
    runner.kill()
    runner.wait()
    taking = asyncio.create_task(fence_file.advance(path, 2))
    await commands_only(path, runner.pid)
    assert not taking.done() and fence_file.highest(path) == 1
    await asyncio.to_thread(let_go, begin)
    await taking
    assert (tmp_path / "made").stat().st_size == 1_000_000
    assert fence_file.highest(path) == 2


async def test_paused_owner_does_not_hold_up_the_next(tmp_path: Path, begin: Path, started: Any) -> None:
    """A run that is paused while its command works is not waited for beyond that command; awake, it changes nothing."""
    path = tmp_path / "fence"
    runner = started(RUNNER, tmp_path)
    assert await hear(runner) == "begins"
    await in_progress(path)
    await commands_only(path, runner.pid)
    runner.send_signal(signal.SIGSTOP)
    taking = asyncio.create_task(fence_file.advance(path, 2))
    await asyncio.to_thread(let_go, begin)
    await taking
    before = {one.name: one.stat().st_mtime_ns for one in tmp_path.iterdir() if one.name != "fence"}
    runner.send_signal(signal.SIGCONT)
    assert [await hear(runner) for _ in range(4)] == ["made", "lost", "lost", "lost"]
    assert {one.name: one.stat().st_mtime_ns for one in tmp_path.iterdir() if one.name != "fence"} == before


async def test_owner_paused_in_the_middle_of_a_change_is_named(tmp_path: Path, started: Any) -> None:
    """Who is paused while it holds the lock itself is waited for a while, then named with what to do: exit 5."""
    path = tmp_path / "fence"
    runner = started(STOPPED, path)
    assert await hear(runner) == "holds"
    await asyncio.to_thread(os.waitid, os.P_PID, runner.pid, os.WSTOPPED | os.WNOWAIT)
    with pytest.raises(LeaseHeld, match=rf"process {runner.pid} \(python[^)]*, stopped\)") as refused:
        await fence_file.advance(path, 2, 0.2)
    assert refused.value.exit_code is Exit.LEASE_HELD
    assert "kill -CONT PID" in refused.value.remedy and "kill -9 PID" in refused.value.remedy
    runner.send_signal(signal.SIGCONT)
    runner.wait()
    await fence_file.advance(path, 2)


async def test_nothing_that_stays_holds_the_fence(tmp_path: Path) -> None:
    """The supervisor and the releases it starts hold no lock: the next owner need not wait for them."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area")
        await area.target.fencing.advance(1)
        live = await area.live("20260101T000000-aaaaaaa")
        assert (await area.status())["up"] and live == ReleaseId("20260101T000000-aaaaaaa")
        assert list(fence_file._holders(tmp_path / "area" / "fence")) == []
        await area.target.fencing.advance(2)
        with pytest.raises(LeaseLost):
            await area.target.traffic.close()
        assert await area.target.traffic.live() == live
