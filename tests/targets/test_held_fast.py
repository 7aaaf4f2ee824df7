"""What lies at a target stays as it was: its configuration without a lease, a release's command for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.contracts import ReleaseId, Target
from pipeline.errors import ReleaseNotReady
from targets import TARGETS, stop_local, up_local
from tests.targets.areas import TestArea, opened, stopped_after

R1, R2 = "20260101T000000-aaaaaaa", "20260102T000000-bbbbbbb"


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        yield await opened(tmp_path / "area")


async def with_another_command(area: TestArea) -> TestArea:
    """The same area as a later version of the pipeline opens it."""
    target: Target = await TARGETS["local"](
        area=area.path,
        start=("python", "-c", "raise SystemExit(9)"),
        process={},
        public_url=None,
        ready_within=5.0,
        drain_within=1.0,
        idle=0.0,
        activity=area.path.parent / "activity",
        guard=area.lease.guard,
    )
    return replace(area, target=target)


async def test_bringing_up_changes_no_configuration(area: TestArea) -> None:
    """Who only brings the service up holds no lease, and leaves the configuration byte for byte as it was."""
    await area.live(R1)
    config = area.path / "run" / "config.json"
    before = await asyncio.to_thread(config.read_bytes)
    await stop_local(area.path)
    later = await with_another_command(area)
    await up_local(later.target)
    assert await asyncio.to_thread(config.read_bytes) == before
    assert (await area.ask()).json()["release"] == R1


async def test_release_keeps_the_command_it_was_staged_with(area: TestArea) -> None:
    """A release starts as it was staged, also after the pipeline's command has changed for those that follow."""
    await area.live(R1)
    later = await with_another_command(area)
    await later.stage(R2)
    assert (await later.target.traffic.rehearse(ReleaseId(R1))).release == R1
    with pytest.raises(ReleaseNotReady):
        await later.target.traffic.rehearse(ReleaseId(R2))
    await stop_local(area.path)
    await up_local(later.target)
    assert (await area.ask()).json()["release"] == R1
