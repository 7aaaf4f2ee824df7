"""A part of the crash matrix: whatever strikes a run, one command puts the environment right.

`python -m tests.crash.matrix` plays all of it; docs/crash-matrix.md tells what came of it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import document, learned, matrix, mounts, runs, writes
from tests.crash.cases import KINDS, Case, cases
from tests.crash.playing import Place, Result, leads_back, needs_disks, play
from tests.crash.scenes import new_place
from tests.crash.strikes import How, Strike

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

EVERY = {"kill": 6, "signal": 6, "clock": 8, "lock": 8, "disk": 8}
"""One of so many is played here."""
ALL = cases()


def spread() -> Iterator[Case]:
    """One of so many of each kind, and of the torn writes each file once, each time torn in another way."""
    for kind, step in EVERY.items():
        yield from [case for case in ALL if case.kind == kind and not needs_disks(case)][::step]
    told = set[str]()
    for case in (case for case in ALL if case.kind == "torn"):
        hows = [one.strike.how for one in ALL if one.kind == "torn" and one.moment == case.moment]
        if case.moment not in told and case.strike.how is sorted(set(hows))[len(told) % len(set(hows))]:
            told.add(case.moment)
            yield case


def assert_ended_well(result: Result) -> None:
    assert not result.problems, "\n".join(result.problems)


@pytest.mark.parametrize("case", list(spread()), ids=str)
def test_one_command_puts_a_struck_run_right(place: Place, case: Case) -> None:
    """Whatever strikes a run, wherever, it ends in I1 and I2 after one command."""
    assert_ended_well(play(place, case))


@pytest.mark.skipif(bool(mounts.why_not()), reason=f"no disk of its own: {mounts.why_not()}")
@pytest.mark.parametrize("how", [How.FULL_STATE, How.FULL_TARGET, How.READ_ONLY_STATE, How.READ_ONLY_TARGET], ids=str)
def test_one_command_puts_a_run_right_once_the_disk_is_well(how: How) -> None:
    """A disk that fills up or cannot be written any more leaves the service known good or closed, and no riddle."""
    struck = [case for case in ALL if case.strike.how is how]
    (result,) = matrix.shared(struck[len(struck) // 2 :][:1], jobs=1)
    assert_ended_well(result)


@pytest.mark.timeout(900)
def test_what_is_learnt_is_what_runs_write(tmp_path: Path) -> None:
    """The table knows every entry and every write of every verb: an engine that writes more must learn it anew."""
    before = {name: one.steady for name, one in learned.read().items()}
    assert {name: one.steady for name, one in matrix.learn(tmp_path).items()} == before


def test_rollback_leads_to_the_release_before_though_the_clock_was_set_back(tmp_path: Path) -> None:
    """A release that was made by a clock set back an hour goes back to the one before it, not to last year's."""
    new_place(tmp_path, deployed=False)
    try:
        asyncio.run(runs.make_verified(tmp_path, "20200101T000000000Z-test"))
        assert runs.in_a_process(tmp_path, "deploy") == 0
        assert runs.ran(tmp_path, "deploy", Strike(How.HOUR_BACK, None)).code == 0
        assert leads_back(tmp_path) == []
    finally:
        runs.stop(tmp_path)


def test_no_write_is_unknown() -> None:
    """Every file and every command that a run writes with has its row in the table of writes."""
    known = {row.name for row in writes.ROWS}
    assert {row for one in learned.read().values() for row in one.writes} <= known


def test_every_kind_of_strike_is_in_the_table() -> None:
    """No way to strike a run is left out of the table of cases."""
    assert {case.strike.how for case in ALL} == set(How) == {how for hows in KINDS.values() for how in hows}
    assert len({str(case) for case in ALL}) == len(ALL)


def test_the_document_tells_every_case() -> None:
    """docs/crash-matrix.md has the rows and the numbers of the table, and none that was not put right."""
    told = document.told()
    assert {key: row.count for key, row in told.items()} == document.planned(ALL)
    assert [row for row in told.values() if "NOT PUT RIGHT" in row.by] == []
    assert document.text(document.rows(ALL, [], told)) == document.FILE.read_text(encoding="utf-8")


def test_the_matrix_lists_its_cases() -> None:
    """`python -m tests.crash.matrix --list` names every case."""
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-m", "tests.crash.matrix", "--list", "--only", "clock"]
    said = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[-1].strip() == f"{len(said) - 1} of {len(ALL)}"
