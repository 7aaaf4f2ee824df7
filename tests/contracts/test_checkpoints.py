"""What every checkpoint promises: what it captured can be put back, again and again, and it says when it was not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.contracts import ReleaseId, SwitchName, SwitchOn
from rollback import CHECKPOINTS
from tests.targets.areas import TestArea, opened, stopped_after

OLD, NEW = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")


@dataclass(frozen=True)
class Case:
    """How to change what a checkpoint guards, as a deploy does it."""

    change: Callable[[TestArea], Awaitable[None]]


async def _switch_release(area: TestArea) -> None:
    await area.target.traffic.activate(NEW)


async def _edit_settings(area: TestArea) -> None:
    path = area.path / "releases" / OLD / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "GREETING": "edited"}))


def _turn(name: SwitchName) -> Callable[[TestArea], Awaitable[None]]:
    async def turn(area: TestArea) -> None:
        on = SwitchOn("another run", "a deploy failed", "2026-01-02T00:00:00Z", "ab" * 32, "20260102-000000-abcd")
        await area.target.switches.write(name, None if await area.target.switches.read(name) else on)

    return turn


CASES = {
    "release": Case(_switch_release),
    "settings": Case(_edit_settings),
    "maintenance": Case(_turn(SwitchName.MAINTENANCE)),
    "payments": Case(_turn(SwitchName.PAYMENTS_OFF)),
}


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area")
        await area.live(OLD)
        await area.stage(NEW)
        yield area


def test_every_checkpoint_has_a_case() -> None:
    """No checkpoint is offered that these tests do not prove, and each stands under its own name."""
    assert set(CASES) == set(CHECKPOINTS)
    assert [checkpoint.name for checkpoint in CHECKPOINTS.values()] == list(CHECKPOINTS)


def test_only_the_doors_reopen() -> None:
    """Only the switches that let customers in are restored after the proofs."""
    assert {name for name, checkpoint in CHECKPOINTS.items() if checkpoint.reopens} == {"maintenance", "payments"}


@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_what_was_captured_is_put_back(area: TestArea, name: str) -> None:
    """After a change, restoring puts back what was captured, and restoring again changes nothing."""
    checkpoint = CHECKPOINTS[name]
    captured = json.loads(json.dumps(await checkpoint.capture(area.context)))  # as it comes back from the journal
    assert (await checkpoint.confirm(area.context, captured)).ok
    await CASES[name].change(area)
    for _ in range(2):
        await checkpoint.restore(area.context, captured)
        assert (await checkpoint.confirm(area.context, captured)).ok
    assert await checkpoint.capture(area.context) == captured


@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_change_behind_its_back_is_found(area: TestArea, name: str) -> None:
    """A world that is not what was captured is never confirmed, and the difference is told in words."""
    checkpoint = CHECKPOINTS[name]
    captured = await checkpoint.capture(area.context)
    await CASES[name].change(area)
    confirmation = await checkpoint.confirm(area.context, captured)
    assert not confirmation.ok
    assert confirmation.found != confirmation.expected


@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_captured_holds_no_secret(area: TestArea, name: str) -> None:
    """What goes into the journal holds no value of a setting."""
    values = await area.target.settings.values(OLD)
    captured = json.dumps(dict(await CHECKPOINTS[name].capture(area.context)))
    assert not [value for value in values.values() if value in captured and len(value) > 8]
