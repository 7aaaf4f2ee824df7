"""What every checkpoint promises: what it captured can be put back, again and again, and it says when it was not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import command
from pipeline.contracts import Completed, ReleaseId, RestoreContext, SwitchName, SwitchOn
from pipeline.secrets import Redactor
from rollback import CHECKPOINTS
from tests.targets.areas import TestArea, opened, stopped_after

OLD, NEW = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")


@dataclass(frozen=True)
class Case:
    """How to change what a checkpoint guards, as a deploy does it, and what pipeline.yaml says of it."""

    change: Callable[[TestArea], Awaitable[None]]
    wanted: Mapping[str, Any] = field(default_factory=dict)


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


async def _migrate(area: TestArea) -> None:
    (area.path / "shared" / "data" / "version").write_text("2\n")


async def _edit_rules(area: TestArea) -> None:
    (area.path.parent / "rules").write_text("cache nothing\n")


_OPEN = "import os, sys; f = os.environ['DATA_DIR'] + '/version'; "
DATABASE = {
    "migrate": ["false"],
    "revert": ["python", "-c", _OPEN + "open(f, 'w').write(sys.argv[1])", "{version}"],
    "irreversible": None,
    "version": ["python", "-c", _OPEN + "print(open(f).read())"],
    "timeout": 60.0,
}
COMMAND = {
    "capture": ["cat", "rules"],
    "restore": ["tee", "rules"],
    "confirm": ["cmp", "-", "rules"],
    "timeout": 60.0,
}

CASES = {
    "command": Case(_edit_rules, COMMAND),
    "database": Case(_migrate, DATABASE),
    "traffic": Case(_switch_release),
    "release": Case(_switch_release),
    "settings": Case(_edit_settings),
    "maintenance": Case(_turn(SwitchName.MAINTENANCE)),
    "payments": Case(_turn(SwitchName.PAYMENTS_OFF)),
    "test-mode": Case(_turn(SwitchName.TEST_MODE)),
}


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area")
        await area.live(OLD)
        await area.stage(NEW)
        (tmp_path / "rules").write_text("cache \u00e9verything\n")
        (area.path / "shared" / "data" / "version").write_text("1\n")
        yield area


def context_of(area: TestArea, name: str) -> RestoreContext:
    """What a run hands to `capture`; the operator's commands run in the folder above the area."""

    async def here(argv: Sequence[str], /, *, timeout: float, stdin: bytes = b"") -> Completed:
        return await command.run(argv, timeout=timeout, stdin=stdin, cwd=area.path.parent, redactor=Redactor([]))

    return replace(area.context, here=here, release=NEW, wanted=CASES[name].wanted)


def test_every_checkpoint_has_a_case() -> None:
    """No checkpoint is offered that these tests do not prove, and each stands under its own name."""
    assert set(CASES) == set(CHECKPOINTS)
    assert [checkpoint.name for checkpoint in CHECKPOINTS.values()] == list(CHECKPOINTS)


def test_only_the_doors_reopen() -> None:
    """Only the switches that let customers in, and let them pay, are restored after the proofs."""
    doors = {"maintenance", "payments", "test-mode"}
    assert {name for name, checkpoint in CHECKPOINTS.items() if checkpoint.reopens} == doors


@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_what_was_captured_is_put_back(area: TestArea, name: str) -> None:
    """After a change, restoring puts back what was captured, and restoring again changes nothing."""
    checkpoint, context = CHECKPOINTS[name], context_of(area, name)
    without_spec = replace(context, wanted={}, release=None)
    captured = json.loads(json.dumps(await checkpoint.capture(context)))  # as it comes back from the journal
    assert (await checkpoint.confirm(without_spec, captured)).ok
    await CASES[name].change(area)
    for _ in range(2):
        await checkpoint.restore(without_spec, captured)
        assert (await checkpoint.confirm(without_spec, captured)).ok
    assert await checkpoint.capture(context) == captured


@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_change_behind_its_back_is_found(area: TestArea, name: str) -> None:
    """A world that is not what was captured is never confirmed, and the difference is told in words."""
    checkpoint, context = CHECKPOINTS[name], context_of(area, name)
    without_spec = replace(context, wanted={}, release=None)
    captured = await checkpoint.capture(context)
    await CASES[name].change(area)
    confirmation = await checkpoint.confirm(without_spec, captured)
    assert not confirmation.ok
    assert confirmation.found != confirmation.expected


@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_captured_holds_no_secret(area: TestArea, name: str) -> None:
    """What goes into the journal holds no value of a setting."""
    values = await area.target.settings.values(OLD)
    captured = json.dumps(dict(await CHECKPOINTS[name].capture(context_of(area, name))))
    assert not [value for value in values.values() if value in captured and len(value) > 8]
