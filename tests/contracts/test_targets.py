"""What every target promises, whatever carries its releases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.contracts import ReleaseId, ReleaseState, SwitchName, SwitchOn
from pipeline.errors import ReleaseNotReady, TargetError
from targets import TARGETS
from tests.targets.areas import TestArea, opened, stopped_after

OLD, NEW = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")


@pytest.fixture(params=list(TARGETS))
async def area(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        yield await opened(tmp_path / "area", kind=request.param, ready_within=5.0)


async def test_target_is_of_the_kind_it_was_opened_as(area: TestArea) -> None:
    """A target says which kind it is, by the name it has in the table."""
    assert area.target.kind in TARGETS


async def test_way_of_a_release(area: TestArea) -> None:
    """A release is staged, rehearsed, live, verified, and put back after another one; then the service closes."""
    target = area.target
    await area.stage(OLD)
    assert (await target.traffic.rehearse(OLD)).release == OLD
    assert await target.traffic.live() is None
    await target.traffic.activate(OLD)
    assert await target.weights.shares() == {OLD: 100}
    await target.releases.mark(OLD, ReleaseState.VERIFIED, "proven")
    await area.stage(NEW)
    await target.traffic.activate(NEW)
    assert await target.traffic.live() == NEW
    assert [(r.id, r.state) for r in await target.releases.all()] == [
        (NEW, ReleaseState.STAGED),
        (OLD, ReleaseState.VERIFIED),
    ]
    await target.traffic.activate(OLD)
    assert await target.traffic.live() == OLD
    await target.traffic.close()
    assert (await target.traffic.live(), await target.weights.shares()) == (None, {})


async def test_shares_that_a_target_cannot_give_are_refused(area: TestArea) -> None:
    """A split that cannot be made is refused with what is allowed, and nothing is switched."""
    await area.stage(OLD)
    with pytest.raises(TargetError, match=f"10% to {OLD}, 90% to {NEW}; allowed is 100% to one, or none"):
        await area.target.weights.share({OLD: 10, NEW: 90})
    assert await area.target.weights.shares() == {}
    for _ in range(2):
        await area.target.weights.share({OLD: 100, NEW: 0})
        assert await area.target.weights.shares() == {OLD: 100}


async def test_release_that_is_not_there_is_refused(area: TestArea) -> None:
    """A release nobody staged is neither rehearsed nor activated."""
    for attempt in (area.target.traffic.activate, area.target.traffic.rehearse):
        with pytest.raises(ReleaseNotReady, match="is not on this target"):
            await attempt(OLD)


@pytest.mark.parametrize("name", SwitchName)
async def test_switches_are_read_as_written(area: TestArea, name: SwitchName) -> None:
    """A switch reads as it was written, and switching it off twice is no mistake."""
    on = SwitchOn("a test", "because", "2026-01-01T00:00:00Z", "cd" * 32)
    await area.target.switches.write(name, on)
    assert await area.target.switches.read(name) == on
    for _ in range(2):
        await area.target.switches.write(name, None)
    assert await area.target.switches.read(name) is None


async def test_settings_digests_are_salted(area: TestArea, tmp_path: Path) -> None:
    """The same settings have another digest on another target, so a digest in a journal gives nothing away."""
    await area.stage(OLD, TILL="same")
    async with stopped_after(tmp_path / "other"):
        other = await opened(tmp_path / "other")
        artifact = tmp_path / f"artifact-{OLD}"
        values = await area.target.settings.values(OLD)
        await other.target.releases.stage(OLD, artifact, values)
        assert await other.target.settings.values(OLD) == values
        assert await other.target.settings.kept(OLD) != await area.target.settings.kept(OLD)
