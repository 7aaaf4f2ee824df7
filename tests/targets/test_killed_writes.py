"""What a write leaves at a target when it was killed, or when its disk was full: nothing that is in anyone's way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pipeline.contracts import Host, ReleaseId, ReleaseState
from pipeline.errors import TargetError
from targets.releases import ReleasesOnHost
from targets.traffic import TrafficOnHost
from tests.targets.areas import TestArea, opened, stopped_after

R1, R2 = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")
_PUT_BACK = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from targets import supervisor

def audit(event, args):
    if event == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(audit)
supervisor.Supervisor._settings_as_staged(SimpleNamespace(area=supervisor.Area(Path(sys.argv[1]))), sys.argv[2])
"""


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        yield await opened(tmp_path / "area")


async def test_supervisor_killed_while_it_puts_settings_back_changes_no_release(area: TestArea) -> None:
    """A supervisor that is killed before its rename leaves the release's files as they were staged."""
    await area.stage(R1)
    settings = area.path / "releases" / R1 / "settings.json"
    settings.write_text(json.dumps({"EDITED": "by hand"}))
    argv = [sys.executable, "-c", _PUT_BACK, str(area.path), R1]
    ended = await asyncio.to_thread(subprocess.run, argv, cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert settings.read_text() == json.dumps({"EDITED": "by hand"})
    await area.target.releases.reread(R1)  # type: ignore[attr-defined]


async def test_prune_removes_what_killed_writes_left(area: TestArea) -> None:
    """Half a file beside a record or beside kept settings, secrets in it, goes with the next pruning."""
    await area.stage(R1)
    left = [area.path / folder / f".{R1}.json.x1y2z3" for folder in ("states", "settings")]
    for path in left:
        path.write_text('{"TILL_KEY": "half a sec')
    await area.target.releases.prune(2)
    assert [path for path in left if path.exists()] == []
    assert [record.id for record in await area.target.releases.all()] == [R1]


def test_supervisor_goes_on_when_its_log_has_no_room() -> None:
    """A supervisor whose log lies on a full disk goes on with what it was told to do."""
    program = "from targets import supervisor; supervisor.note('no room'); print('went on', flush=True)"
    root = Path(__file__).parents[2]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, stderr=full)
    assert ended.stdout == b"went on\n"


@dataclass
class FullHost:
    """A host on whose disk a rename does not fit any more."""

    host: Host

    def __getattr__(self, name: str) -> Any:
        return getattr(self.host, name)

    async def rename(self, old: PurePosixPath, new: PurePosixPath, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_link_that_cannot_be_moved_leaves_one_release_serving(area: TestArea) -> None:
    """Where the disk has no room for the link, the old release serves alone: the new one is stopped again."""
    await area.live(R1)
    await area.stage(R2)
    await area.target.releases.mark(R2, ReleaseState.VERIFIED, "a test says so")
    whole = area.target.traffic._area  # type: ignore[attr-defined]
    full = replace(whole, host=FullHost(whole.host))
    with pytest.raises(TargetError, match="current"):
        await TrafficOnHost(full, ReleasesOnHost(full)).activate(R2)
    assert await area.target.traffic.live() == R1
    assert (await area.ask()).json()["release"] == R1
