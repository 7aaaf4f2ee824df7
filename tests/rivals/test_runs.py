"""Real runs that meet each other at one target: stopped, paused, killed, and all at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import wiring
from pipeline.events import Entry, Kind
from pipeline.standing import open_runs
from tests.crash import runs as crash
from tests.crash.conftest import build
from tests.rivals import runs
from tests.rivals.runs import Moment

pytestmark = pytest.mark.timeout(180)

PAUSED = [
    Moment("stopped before", "states/"),
    Moment("stopped inside", "--preserve-permissions"),
    Moment("stopped before", "settings.json"),
    Moment("stopped before", "start"),
    Moment("stopped before", "current"),
    Moment("stopped inside", "retire"),
]
"""Before the first file, in the middle of unpacking, before another file, an order, the link's rename, in an order."""


@pytest.fixture
def begun() -> Iterator[list[BaseProcess]]:
    """Processes that a test began; none outlives it."""
    processes: list[BaseProcess] = []
    yield processes
    for process in processes:
        process.kill()
        process.join()


def entries(folder: Path) -> list[Entry]:
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    with wiring.recorded(chosen) as journal:
        assert journal is not None
        return list(journal.entries())


def assert_whole(folder: Path) -> None:
    assert asyncio.run(crash.broken_invariants(folder)) == []


@pytest.mark.parametrize("moment", PAUSED, ids=str)
def test_owner_that_was_paused_past_its_lease_changes_nothing_more(
    folder: Path, begun: list[BaseProcess], moment: Moment
) -> None:
    """A deploy that is paused in the middle of a change and wakes up after a rollback took over leaves the target as
    that rollback left it, byte for byte, and ends with 4."""
    build(folder)
    with runs.held_up(folder) as let_go:
        begun.append(paused := runs.begun(folder, "deploy", moment))
        runs.until(lambda: runs.is_stopped(paused), "the deploy never came to that change")
        begun.append(rollback := runs.begun(folder, "rollback"))
        runs.until(lambda: runs.asked_for(folder, paused.pid), "the paused owner was never asked")
        runs.run_out(folder)
        if moment.how == "stopped inside":
            runs.until(lambda: runs.owner(folder) == rollback.pid, "the rollback never took the lease")
        let_go()
        assert runs.ended(rollback) == 0
    before = runs.area(folder)
    os.kill(paused.pid or 0, signal.SIGCONT)
    assert runs.ended(paused) == 4
    assert runs.area(folder) == before
    assert_whole(folder)


@pytest.mark.parametrize("mark", ["--preserve-permissions", "start", "retire"])
def test_owner_that_died_in_the_middle_of_a_change_is_followed_at_once(
    folder: Path, begun: list[BaseProcess], mark: str
) -> None:
    """A deploy killed while a command of it works is taken back by one rollback, which waits for that command alone."""
    build(folder)
    with runs.held_up(folder) as let_go:
        begun.append(killed := runs.begun(folder, "deploy", Moment("killed inside", mark)))
        assert runs.ended(killed) == -signal.SIGKILL
        begun.append(rollback := runs.begun(folder, "rollback"))
        runs.until(lambda: runs.owner(folder) == rollback.pid, "the rollback never took the lease")
        before = len(entries(folder))
        assert rollback.exitcode is None
        let_go()
        assert runs.ended(rollback) == 0
    assert len(entries(folder)) > before
    assert_whole(folder)


@pytest.mark.parametrize("mark", ["--preserve-permissions", "start"])
def test_rollback_stops_a_deploy_in_another_process(folder: Path, begun: list[BaseProcess], mark: str) -> None:
    """A deploy that waits for a command is stopped by a rollback in another process: 5 there, 0 here, and the release
    that was live before serves."""
    build(folder)
    with runs.held_up(folder):
        begun.append(deploy := runs.begun(folder, "deploy", Moment("held up", mark)))
        at_work = runs.until(lambda: [one for one in open_runs(entries(folder)) if one.release], "no deploy began")[0]
        runs.until(lambda: runs.is_read(folder / "pipe"), "the deploy never waited for its command")
        begun.append(rollback := runs.begun(folder, "rollback"))
        assert (runs.ended(deploy), runs.ended(rollback)) == (5, 0)
    told = {entry.kind: entry.data for entry in entries(folder) if entry.run == at_work.run}
    assert "(rollback): test" in told[Kind.RUN_FAILED]["error"]
    assert (told[Kind.RUN_FINISHED]["outcome"], Kind.WAYBACK_STARTED in told) == ("taken over", False)
    assert_whole(folder)


def test_rivals_at_once_leave_the_service_whole(folder: Path, begun: list[BaseProcess]) -> None:
    """Deploys and rollbacks started at the same moment end one after the other in I1 and I2, each with a code that
    says how, and the record is whole."""
    build(folder)
    asyncio.run(crash.make_verified(folder, "29990101T000000-rivals"))
    fight = runs.fight(folder, int(os.environ.get("TOLLGATE_RIVALS", "12")), begun)
    assert set(fight.codes) <= {0, 1, 4, 5}, fight.codes
    assert fight.overlapping == []
    assert fight.codes.count(0) >= 1
    if crash.unfinished(folder):
        assert crash.in_a_process(folder, "rollback") == 0
    assert_whole(folder)
