"""SIGKILL before and after every entry of the journal: one command puts the environment right."""

from __future__ import annotations

import asyncio
import itertools
import signal
from pathlib import Path
from typing import Literal

import pytest

from pipeline.events import Kind
from tests.crash import runs
from tests.crash.conftest import build
from tests.crash.runs import NEVER, Kill, When

DEPLOY_ENTRIES = 39
ROLLBACK_ENTRIES = 22
WAY_BACK_ENTRIES = 20
"""How many entries each run writes; `test_every_entry_is_covered` holds them against real runs."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

_releases = itertools.count()


def kills(when: When | Literal["both"], entries: int, *, on_the_way_back: bool = False) -> list[Kill]:
    """Between two entries a deploy is killed twice, after the one and before the other, and put right by each verb."""
    moments: tuple[When, ...] = ("before", "after") if when == "both" else (when,)
    return [Kill(moment, n, on_the_way_back) for n in range(1, entries + 1) for moment in moments]


def with_something_to_go_back_from(folder: Path) -> None:
    """A newer release is live and verified, so that a plain rollback leaves it."""
    asyncio.run(runs.make_verified(folder, f"29991231T{next(_releases):09d}Z-test"))


def assert_put_right(folder: Path) -> None:
    assert asyncio.run(runs.broken_invariants(folder)) == []


@pytest.mark.parametrize("kill", kills("before", DEPLOY_ENTRIES), ids=str)
def test_a_deploy_killed_before_any_entry_is_put_right_by_rollback(folder: Path, kill: Kill) -> None:
    """A deploy killed before any of its entries ends, after one rollback, in I1 and I2."""
    build(folder)
    assert runs.in_a_process(folder, "deploy", kill) == -signal.SIGKILL
    if runs.unfinished(folder):
        assert runs.in_a_process(folder, "rollback") == 0
    assert_put_right(folder)


@pytest.mark.parametrize("kill", kills("after", DEPLOY_ENTRIES), ids=str)
def test_a_deploy_killed_after_any_entry_is_put_right_by_resuming(folder: Path, kill: Kill) -> None:
    """A deploy killed after any of its entries ends, after one `deploy --resume`, in I1 and I2."""
    build(folder)
    assert runs.in_a_process(folder, "deploy", kill) == -signal.SIGKILL
    if runs.unfinished(folder):
        assert runs.in_a_process(folder, "resume") == 0
    assert_put_right(folder)


@pytest.mark.parametrize("kill", kills("both", ROLLBACK_ENTRIES), ids=str)
def test_a_rollback_killed_at_any_entry_is_put_right_by_rollback(folder: Path, kill: Kill) -> None:
    """A rollback killed at any entry ends, after one more rollback, in I1 and I2."""
    with_something_to_go_back_from(folder)
    assert runs.in_a_process(folder, "rollback", kill) == -signal.SIGKILL
    if runs.unfinished(folder):
        assert runs.in_a_process(folder, "rollback") == 0
    assert_put_right(folder)


@pytest.mark.parametrize("kill", kills("before", WAY_BACK_ENTRIES, on_the_way_back=True), ids=str)
def test_the_way_back_of_a_bad_deploy_killed_before_any_entry_is_put_right(folder: Path, kill: Kill) -> None:
    """A bad deploy killed on its way back, with an act done that is not on record, ends, after one rollback, in I1 and
    I2. The same way back, killed after its entries, is that of the rollbacks above."""
    build(folder, "ignores-amount")
    assert runs.in_a_process(folder, "deploy", kill) == -signal.SIGKILL
    if runs.unfinished(folder):
        assert runs.in_a_process(folder, "rollback") == 0
    assert_put_right(folder)


def test_every_entry_is_covered(folder: Path) -> None:
    """The kills above cover every entry that a deploy, a rollback and a bad deploy write."""
    build(folder)
    assert runs.in_a_process(folder, "deploy", NEVER) == 0
    assert runs.entries_of_last_run(folder) == DEPLOY_ENTRIES
    assert runs.in_a_process(folder, "rollback", NEVER) == 0
    assert runs.entries_of_last_run(folder) == ROLLBACK_ENTRIES
    build(folder, "ignores-amount")
    assert runs.in_a_process(folder, "deploy", NEVER) == 3
    assert runs.entries_of_last_run(folder, since=Kind.RUN_FAILED) == WAY_BACK_ENTRIES
