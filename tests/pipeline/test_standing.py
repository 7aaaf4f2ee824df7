"""Where an environment stands, read from entries alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.events import Entry, Kind
from pipeline.standing import Open, armed_by, open_runs, release_in
from pipeline.wayback import Armed

START = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = {"name": "release", "captured": {"release": "1-old", "manifest": "ab"}}
SETTINGS = {"name": "settings", "captured": {"release": "1-old", "digest": "cd"}}
STEP = {"stage": "deploy", "step": "release.switch"}


class Record:
    """Entries of several runs in the order they are told."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def tell(self, run: str, kind: Kind, **data: Any) -> Record:
        at = START + timedelta(minutes=len(self.entries))
        self.entries.append(Entry(len(self.entries) + 1, run, at, kind, data, "", ""))
        return self

    def begins(self, run: str, verb: str = "deploy", **data: Any) -> Record:
        said = {"verb": verb, "release": "2-new", "previous": "1-old", "plan_digest": "ef"}
        return self.tell(run, Kind.RUN_STARTED, **{**said, **data})

    def arms(self, run: str) -> Record:
        self.tell(run, Kind.CHECKPOINT_ARMED, **STEP, **RELEASE)
        return self.tell(run, Kind.CHECKPOINT_ARMED, **STEP, **SETTINGS)

    def goes_back(self, run: str, of_run: str) -> Record:
        back = {"release": "1-old", "bad": "2-new", "since": START.isoformat(), "checkpoints": [RELEASE, SETTINGS]}
        return self.tell(run, Kind.WAYBACK_STARTED, of_run=of_run, why="", **back)

    def ends(self, run: str, outcome: str) -> Record:
        return self.tell(run, Kind.RUN_FINISHED, outcome=outcome, exit_code=0)

    @property
    def open(self) -> list[Open]:
        return open_runs(self.entries)


def test_empty_journal_has_nothing_open() -> None:
    """An environment without a history is ready for a first deploy."""
    assert open_runs([]) == []


@pytest.mark.parametrize("outcome", ["done", "refused", "restored", "interrupted", "bug"])
def test_finished_run_is_not_open(outcome: str) -> None:
    """A run that said how it ended, other than for a person, stands in nobody's way."""
    assert Record().begins("a").arms("a").ends("a", outcome).open == []


def test_run_that_needs_a_person_stays_open() -> None:
    """A run that ended closed must be put right before the next change."""
    (found,) = Record().begins("a").arms("a").goes_back("a", "a").tell("a", Kind.CLOSED).ends("a", "person needed").open
    assert (found.closed, found.resumable, found.changed) == (True, False, True)


@pytest.mark.parametrize("verb", ["validate", "verify"])
def test_run_that_only_looks_is_never_open(verb: str) -> None:
    """A killed `validate` or `verify` leaves nothing to put right."""
    assert Record().begins("a", verb).open == []


def test_superseded_run_is_not_open() -> None:
    """What a later run has put right is settled."""
    record = Record().begins("a").arms("a").begins("b", "rollback")
    assert record.tell("b", Kind.RUN_SUPERSEDED, of_run="a", by_run="b").ends("b", "done").open == []


def test_killed_deploy_says_what_was_armed_and_done() -> None:
    """A deploy that was killed knows its captured checkpoints, its finished steps, and where it stands."""
    record = Record().begins("a").tell("a", Kind.STEP_FINISHED, stage="gates", step="one", outcome="done")
    record.tell("a", Kind.STEP_FINISHED, stage="gates", step="two", outcome="skipped").arms("a")
    (found,) = record.tell("a", Kind.STEP_FINISHED, **STEP, outcome="cancelled").open
    assert found == Open(
        run="a",
        verb="deploy",
        started=START,
        release="2-new",  # type: ignore[arg-type]
        previous="1-old",  # type: ignore[arg-type]
        plan_digest="ef",
        armed=(Armed("release", RELEASE["captured"]), Armed("settings", SETTINGS["captured"])),  # type: ignore[arg-type]
        armed_release="1-old",  # type: ignore[arg-type]
        done=found.done,
        going_back=False,
        closed=False,
        stands_at="step.finished deploy release.switch at 2026-01-01 00:05:00 UTC",
    )
    assert found.done.steps == {("gates", "one"), ("gates", "two")}
    assert found.resumable


def test_deploy_killed_before_its_first_capture_changed_nothing() -> None:
    """A run without a captured checkpoint may be set aside."""
    (found,) = Record().begins("a").open
    assert (found.changed, found.armed_release) == (False, None)


def test_rollback_that_was_killed_keeps_what_the_deploy_captured() -> None:
    """An interrupted way back is repeated from its own first entry: goal, bad release, and since when to reconcile."""
    record = Record().begins("a").arms("a").begins("b", "rollback", release="1-old").goes_back("b", "a")
    newest, oldest = record.open
    assert (newest.run, newest.release, newest.armed_release, newest.started) == ("b", "2-new", "1-old", START)
    assert (newest.going_back, newest.resumable) == (True, False)
    assert oldest.run == "a"


@pytest.mark.parametrize("ended", [False, True])
def test_deploy_that_a_rollback_was_taking_back_cannot_be_resumed(ended: bool) -> None:
    """However the rollback of it ended, a deploy that is partly taken back never goes forward again."""
    record = Record().begins("a").arms("a").begins("b", "rollback").goes_back("b", "a")
    if ended:
        record.tell("b", Kind.CLOSED).ends("b", "person needed")
    assert [one.resumable for one in record.open] == [False, False]


def test_resumed_run_is_one_run() -> None:
    """What both processes of a resumed deploy armed and finished counts, under one name."""
    record = Record().begins("a").arms("a").begins("a").tell("a", Kind.STEP_FINISHED, **STEP, outcome="done")
    (found,) = record.open
    assert (len(found.armed), found.done.steps, found.started) == (2, frozenset({("deploy", "release.switch")}), START)


def test_entries_before_a_start_are_no_run() -> None:
    """Entries of a run whose beginning is not there are not taken for one."""
    assert Record().arms("a").open == []


def test_armed_and_the_release_among_them() -> None:
    """The checkpoint `release` says what would serve again; without it nothing would."""
    armed = armed_by(Record().begins("a").arms("a").entries)
    assert (release_in(armed), release_in(armed[1:]), release_in(())) == ("1-old", None, None)
