"""Checkpoints together: the way back from a deploy, and from what nobody planned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.checkpoints import unasked
from pipeline.contracts import Captured, ReleaseId, Target
from pipeline.errors import TargetError
from rollback import CHECKPOINTS
from tests.targets.areas import TestArea, opened, stopped_after

OLD, NEW = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        yield await opened(tmp_path / "area")


async def armed(area: TestArea) -> dict[str, Captured]:
    return {name: await checkpoint.capture(area.context) for name, checkpoint in unasked(CHECKPOINTS).items()}


async def taken_back(area: TestArea, captured: dict[str, Captured]) -> dict[str, bool]:
    """Restored in reverse, as a run does it."""
    for name in reversed(captured):
        await CHECKPOINTS[name].restore(area.context, captured[name])
    return {name: (await CHECKPOINTS[name].confirm(area.context, captured[name])).ok for name in captured}


def edit(area: TestArea, release: str) -> None:
    path = area.path / "releases" / release / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "GREETING": "edited"}))


async def test_deploy_is_taken_back_with_the_settings_of_the_old_release(area: TestArea) -> None:
    """When a new release was switched to and the old one's settings were edited, the old pair serves again."""
    await area.live(OLD)
    captured = await armed(area)
    await area.live(NEW)
    edit(area, OLD)
    assert all((await taken_back(area, captured)).values())
    assert (await area.ask()).json()["greeting"] == f"hello from {OLD}"


async def test_running_release_is_restarted_when_its_settings_were_wrong(area: TestArea) -> None:
    """A live release that was started with edited settings is started anew with those it was staged with."""
    await area.live(OLD)
    captured = await armed(area)
    edit(area, OLD)
    await area.target.traffic.activate(OLD)
    assert (await area.ask()).json()["greeting"] == "edited"
    assert all((await taken_back(area, captured)).values())
    assert (await area.ask()).json()["greeting"] == f"hello from {OLD}"


async def test_first_deploy_is_taken_back_to_closed(area: TestArea) -> None:
    """The way back from a first deploy is a closed service, not the release that failed."""
    captured = await armed(area)
    await area.live(NEW)
    assert all((await taken_back(area, captured)).values())
    assert (await area.ask()).status_code == 503


async def test_goal_is_captured_instead_of_what_is_live(area: TestArea) -> None:
    """A rollback that names its goal captures that release, whatever state the target is in."""
    await area.live(OLD)
    await area.live(NEW)
    (area.path / "current").unlink()
    context = replace(area.context, goal=OLD)
    captured = {name: await checkpoint.capture(context) for name, checkpoint in unasked(CHECKPOINTS).items()}
    assert captured["release"]["release"] == captured["settings"]["release"] == OLD
    assert all((await taken_back(area, captured)).values())
    assert await area.target.traffic.live() == OLD


async def test_defaced_release_is_not_confirmed(area: TestArea) -> None:
    """A live release whose files were changed since it was staged is not confirmed, and the file is named."""
    await area.live(OLD)
    captured = await CHECKPOINTS["release"].capture(area.context)
    (area.path / "releases" / OLD / "public" / "index.html").write_text("defaced")
    confirmation = await CHECKPOINTS["release"].confirm(area.context, captured)
    assert (confirmation.ok, "public/index.html" in confirmation.found) == (False, True)


async def test_release_in_half_state_is_not_captured(area: TestArea) -> None:
    """While link and process disagree nothing is captured: nobody could say what to go back to."""
    await area.live(OLD)
    (area.path / "current").unlink()
    with pytest.raises(TargetError, match="half switched"):
        await CHECKPOINTS["release"].capture(area.context)


async def test_target_that_cannot_reread_is_not_confirmed(area: TestArea) -> None:
    """A target that cannot read its releases again never confirms a way back."""
    await area.live(OLD)
    captured = await CHECKPOINTS["release"].capture(area.context)

    class Blind:
        async def all(self) -> object:
            return await area.target.releases.all()

    blind: Target = replace(area.target, releases=Blind())  # type: ignore[arg-type]
    confirmation = await CHECKPOINTS["release"].confirm(replace(area.context, target=blind), captured)
    assert not confirmation.ok


async def test_schema_is_reverted_only_by_what_migrated_it(area: TestArea) -> None:
    """A release that was staged anew since, with other files, is not trusted to take the migration back."""
    await area.stage(NEW)
    captured = {
        "version": "1",
        "release": NEW,
        "manifest": "0" * 64,
        "read": ["echo", "2"],
        "irreversible": "",
        "revert": ["touch", str(area.path / "ran")],
        "timeout_s": 60.0,
    }
    with pytest.raises(TargetError, match=r"cannot be run: its manifest is [0-9a-f]{12}, it migrated as 000000000000"):
        await CHECKPOINTS["database"].restore(area.context, captured)
    assert not (area.path / "ran").exists()
