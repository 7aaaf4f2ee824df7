"""Commands of a release at its target: as its process runs, never two at once, never with a changed byte."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.contracts import ReleaseId
from pipeline.errors import CommandFailed, ReleaseNotReady, TargetError
from tests.targets.areas import TestArea, opened, started, stopped_after, until

R1 = ReleaseId("20260101T000000-aaaaaaa")
LOOK = """
import json, os
def told(pid): return open(f"/proc/{pid}/cmdline").read()
print(json.dumps([sorted(os.environ), os.environ["TILL_KEY"], os.getcwd(), [told("self"), told(os.getppid())]]))
"""
SLEEPER = "sleep 600 & echo $! > $DATA_DIR/pid; wait"


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        yield await opened(tmp_path / "area")


async def test_command_sees_what_the_process_of_its_release_sees(area: TestArea) -> None:
    """The same variables and folder as the running release; no secret stands in an argv, where every user reads it."""
    await area.live(R1)
    done = await area.target.commands.run(R1, ["python", "-c", LOOK], timeout=60)
    variables, key, folder, argvs = json.loads(done.stdout)
    served = (await area.ask()).json()["variables"]
    assert set(served) - set(variables) <= {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"}
    assert set(variables) <= set(served)
    assert key == (await area.target.settings.values(R1))["TILL_KEY"]
    assert folder == str(area.path / "releases" / R1)
    assert not [argv for argv in argvs if key in argv]
    assert (await area.target.commands.run(R1, ["python", "-c", "raise SystemExit(9)"], timeout=60)).returncode == 9


@pytest.mark.parametrize(
    ("changed", "told"), [("releases/{}/public/index.html", "public/index.html"), ("settings/{}.json", "kept settings")]
)
async def test_command_of_a_release_that_was_changed_is_not_run(area: TestArea, changed: str, told: str) -> None:
    """Where a byte of the release or of its settings is not as staged, its code is not trusted with the data."""
    await area.stage(R1)
    (area.path / changed.format(R1)).write_text("{}")
    with pytest.raises(ReleaseNotReady, match=told):
        await area.target.commands.run(R1, ["touch", str(area.path / "ran")], timeout=60)
    assert not (area.path / "ran").exists()


async def test_only_one_command_runs_at_a_time(area: TestArea) -> None:
    """A command waits for one that an owner before left running; when that one does not end, it is named."""
    await area.stage(R1)
    with (area.path / "run" / "command.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("migrate of 0-dead, pid 17")
        lock.flush()
        done = await area.target.commands.run(R1, ["touch", str(area.path / "ran")], timeout=0.1)
    assert done.returncode == 75
    assert "still at work after 0.1 s: migrate of 0-dead, pid 17" in done.stderr
    assert not (area.path / "ran").exists()


async def test_command_whose_starter_was_killed_is_waited_for_all_the_same(area: TestArea) -> None:
    """What goes on although everything above it was killed keeps the next command out."""
    await area.stage(R1)
    path = area.path / "shared" / "data" / "parent"
    words = ["sh", "-c", 'echo "$$ $PPID" > $DATA_DIR/new && mv $DATA_DIR/new $DATA_DIR/parent; exec sleep 600']
    running = asyncio.create_task(area.target.commands.run(R1, words, timeout=300))

    async def there() -> str:
        return path.read_text() if path.exists() else ""

    command, starter = map(int, (await until(there)).split())
    try:
        os.kill(starter, signal.SIGKILL)
        done = await area.target.commands.run(R1, ["touch", str(area.path / "ran")], timeout=0.1)
    finally:
        os.kill(command, signal.SIGKILL)
    assert (done.returncode, (area.path / "ran").exists()) == (75, False)
    with pytest.raises(CommandFailed, match="was killed"):
        await running


async def test_command_that_does_not_end_is_ended_with_all_it_started(area: TestArea) -> None:
    """When its time is out a command and its children are gone, and what it holds is free for the next one."""
    await area.stage(R1)
    with pytest.raises(CommandFailed, match="not done within 3 s"):
        await area.target.commands.run(R1, ["sh", "-c", SLEEPER], timeout=3)
    pid = int((area.path / "shared" / "data" / "pid").read_text())
    assert started(pid) == ""
    assert (await area.target.commands.run(R1, ["true"], timeout=60)).returncode == 0


async def test_run_that_may_change_nothing_runs_no_command(area: TestArea) -> None:
    """A command may change anything, so a run that lost its lease runs none."""
    await area.stage(R1)
    area.lease.lost = TargetError("the lease is another's")
    with pytest.raises(TargetError, match="the lease is another's"):
        await area.target.commands.run(R1, ["touch", str(area.path / "ran")], timeout=60)
    assert not os.path.exists(area.path / "ran")  # noqa: PTH110
