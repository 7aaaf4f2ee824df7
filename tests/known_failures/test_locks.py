"""Known failures of deploy tools with locks, each the other way round."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.events import Kind
from pipeline.lease import State
from tests.crash.scenes import build
from tests.known_failures import engine, standing
from tests.known_failures.engine import At, Run, run, signals

pytestmark = pytest.mark.timeout(180)


def test_two_overlapping_deploys_both_exit_0_and_the_older_wins(folder: Path) -> None:
    """Without a lock the slower of two deploys ends last and puts its older release live, and both are told to be
    done; here the second ends with 5 while the first is at work, and what the first deployed is live."""
    build(folder)
    with Run(folder, "deploy", At(Kind.STEP_STARTED, "release.switch", signals(signal.SIGSTOP))) as first:
        first.sleeps()
        before = len(engine.entries(folder))
        assert run(folder, "deploy") == 5
        assert len(engine.entries(folder)) == before  # the second changed nothing, and put nothing on record
        first.wakes()
        assert first.end() == 0
    (started,) = engine.of_last_run(folder, Kind.RUN_STARTED)
    assert standing.live(folder) == started.data["release"]
    assert standing.broken_invariants(folder) == []


def test_a_lock_left_behind_by_ctrl_c(folder: Path) -> None:
    """Tools that keep a lock file leave it when Ctrl-C ends them, and the next deploy waits for nobody; here the lease
    is given back, and nothing need be deleted."""
    build(folder)
    good = standing.live(folder)
    assert run(folder, "deploy", At(Kind.STAGE_STARTED, "", signals(signal.SIGINT))) == 130
    assert standing.lease(folder) is None
    assert run(folder, "deploy", At(Kind.STEP_FINISHED, "release.switch", signals(signal.SIGINT))) == 3
    assert (standing.lease(folder), standing.live(folder)) == (None, good)
    assert run(folder, "rollback", to=good) == 0
    assert standing.broken_invariants(folder) == []


def test_a_lock_left_behind_by_a_kill(folder: Path) -> None:
    """A lock file outlives a kill -9 and has to be removed by hand, by somebody who guesses that its owner is dead;
    here a dead owner is known to be dead, and the next command takes over at once."""
    good = standing.live(folder)
    held = At(Kind.PAYMENTS_CLOSED, "", signals(signal.SIGKILL))
    assert run(folder, "rollback", held, to=good) == -signal.SIGKILL
    left = standing.lease(folder)
    assert left is not None and left.state is State.OWNER_DEAD
    assert run(folder, "rollback") == 0
    assert (standing.lease(folder), standing.live(folder)) == (None, good)
    assert standing.broken_invariants(folder) == []


def test_a_lock_taken_over_while_its_owner_still_works(folder: Path) -> None:
    """Tools that break an old lock let two runs write at once, because its owner was only slow; here the slow one
    finds out before its next change, and changes nothing more."""
    good = standing.live(folder)
    with Run(folder, "rollback", At(Kind.CHECKPOINT_RESTORING, "release", signals(signal.SIGSTOP)), good) as slow:
        slow.sleeps()
        assert run(folder, "rollback") == 5  # as long as its lease lasts nobody breaks in
        with closing(sqlite3.connect(standing.area(folder) / "lease.sqlite", isolation_level=None)) as lease:
            lease.execute("UPDATE lease SET expires_s = 0")  # as after 20 s of sleep
        assert run(folder, "rollback") == 0
        before = standing.fixed_files(folder)
        slow.wakes()
        assert slow.end() == 4
    assert standing.fixed_files(folder) == before
    assert standing.live(folder) == good
    assert standing.broken_invariants(folder) == []
