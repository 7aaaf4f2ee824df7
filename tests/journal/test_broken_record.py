"""A broken record in an incident: nothing is done by what was altered, and a rollback goes on and says so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import Exit, RecordDamaged, RecordUnusable
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.salvage import believed, open_or_begin_anew
from pipeline.secrets import Redactor
from pipeline.verdict import failed
from tests.pipeline.rooms import NEXT, OLD, Yard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Three deploys, of which the last was left unfinished."""
    with Journal.open(path, clock=SystemClock(), redactor=Redactor()) as journal:
        for run in ("one", "two", "three"):
            journal.append(run, Kind.RUN_STARTED, {"verb": "deploy", "resumes": ""})
            journal.append(run, Kind.CHECKPOINT_ARMED, {"name": "release"})
            if run != "three":
                journal.append(run, Kind.RUN_FINISHED, {"outcome": "done"})
        yield journal


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_of_a_whole_record_everything_is_believed(journal: Journal) -> None:
    """Without a break all entries may be acted on."""
    record = believed(journal)
    assert (record.entries, record.told) == (journal.entries(), "")


@pytest.mark.parametrize(
    ("statement", "runs"),
    [
        ("UPDATE entries SET data = '{}' WHERE seq = 2", ["two", "three"]),
        ("UPDATE entries SET run = 'three' WHERE seq = 3", ["two"]),
        ("DELETE FROM entries WHERE seq = 5", ["three"]),
        ("DELETE FROM entries WHERE seq = 6", []),
        ("DELETE FROM entries WHERE seq = 7", []),
        ("DELETE FROM entries WHERE seq = 8", []),
        ("UPDATE head SET seq = 7", []),
    ],
)
def test_of_a_broken_record_only_runs_after_the_break_are_believed(
    journal: Journal, path: Path, statement: str, runs: list[str]
) -> None:
    """A run that began before the last break, or of which a part is missing, decides nothing."""
    tamper(path, statement)
    record = believed(journal)
    assert list(dict.fromkeys(entry.run for entry in record.entries)) == runs
    assert record.told.startswith("the record is broken: ")


def test_a_run_that_was_resumed_after_the_break_is_not_whole(journal: Journal, path: Path) -> None:
    """What a resumed run had changed before the break is not known: it is not one that changed nothing."""
    tamper(path, "DELETE FROM entries WHERE run = 'three'")
    journal.append("next", Kind.RUN_FINISHED, {"outcome": "done"})  # the break is told of this one
    journal.append("three", Kind.RUN_STARTED, {"verb": "deploy", "resumes": "three"})
    journal.append("four", Kind.RUN_STARTED, {"verb": "rollback", "resumes": ""})
    journal.append("three", Kind.RUN_FINISHED, {"outcome": "done"})
    assert {entry.run for entry in believed(journal).entries} == {"four"}


def test_a_damaged_file_is_set_aside_as_it_is(path: Path, tmp_path: Path) -> None:
    """A journal that is no database any more is kept byte for byte, and the next one begins."""
    noise = b"not a database, " * 600
    path.write_bytes(noise)
    journal, record = open_or_begin_anew(path, clock=SystemClock(), redactor=Redactor())
    with journal:
        journal.append("run", Kind.RUN_STARTED, {})
        assert journal.verify() == ()
    assert Path(record.kept_as).read_bytes() == noise
    assert (record.entries, record.told) == (
        (),
        f"the record is broken: the file cannot be opened; the file is kept as {record.kept_as}",
    )


def test_a_damaged_index_is_damage_though_the_entries_are_whole(journal: Journal, path: Path) -> None:
    """An index that hides entries is found by SQLite's own check: such a file is not gone on with."""
    journal.close()
    raw = path.read_bytes()
    index = raw.index(b"two", 2 * 4096)  # the third page; the entries are in the second
    path.write_bytes(raw[:index] + b"tvo" + raw[index + 3 :])
    anew, record = open_or_begin_anew(path, clock=SystemClock(), redactor=Redactor())
    with anew:
        assert anew.entries() == ()
    assert "the database is damaged" in record.told
    assert Path(record.kept_as).exists()


def test_what_is_only_locked_is_not_set_aside(journal: Journal, path: Path) -> None:
    """A journal that another process holds is an error as ever, and stays where it is."""
    journal.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("UPDATE head SET seq = seq")
    with pytest.raises(RecordUnusable, match="locked"):
        open_or_begin_anew(path, clock=SystemClock(), redactor=Redactor(), wait_s=0.05)
    other.execute("ROLLBACK")
    other.close()
    assert [one.name for one in path.parent.iterdir() if "broken" in one.name] == []


# ---- in an incident ----------------------------------------------------------------------------------------


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path / "yard")
    yard.verified(OLD)
    return yard


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET data = '{}' WHERE kind = 'checkpoint.armed'",
        "UPDATE entries SET kind = 'run.finished', data = '{\"outcome\":\"done\"}' WHERE seq = 9",
        "DELETE FROM entries WHERE seq > 4",
        "DELETE FROM entries",
        "DELETE FROM head",
    ],
)
async def test_a_rollback_goes_on_without_the_record_and_says_so(yard: Yard, statement: str) -> None:
    """After a crash with a record that was altered, one rollback ends proven on the last verified release."""
    await yard.killed_at(Kind.RELEASE_MARKED, state="live")
    tamper(yard.folder / "journal.sqlite", statement)
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.switches) == (OLD, {})
    told, *_ = _told_by(yard, Kind.RECORD_BROKEN)
    assert told["count"] == len(told["breaks"]) > 0
    assert "is decided by what the target says" in " ".join(yard.output)


async def test_doors_that_a_run_closed_are_opened_though_its_record_is_lost(yard: Yard) -> None:
    """After a crash on the way back and with nothing left on record, one rollback opens what that run closed."""
    yard.says = {"watch.one": failed("it does not hold", "mend it")}
    await yard.killed_at(Kind.CHECKPOINT_RESTORING)
    assert yard.ground.switches
    tamper(yard.folder / "journal.sqlite", "DELETE FROM entries")
    assert (await yard.rollback()).exit is Exit.DONE
    assert (yard.ground.live, yard.ground.switches) == (OLD, {})


async def test_a_deploy_does_not_begin_on_an_altered_record(yard: Yard) -> None:
    """What was altered may hide an unfinished run: a deploy refuses before it changes anything."""
    await yard.killed_at(Kind.RELEASE_MARKED, state="live")
    tamper(yard.folder / "journal.sqlite", "UPDATE entries SET data = '{}' WHERE kind = 'checkpoint.armed'")
    done = list(yard.ground.done)
    with pytest.raises(RecordDamaged, match="is not what was written"):
        await yard.deploy(NEXT)
    assert yard.ground.done == done


def _told_by(yard: Yard, kind: Kind) -> list[Any]:
    """The data of such entries, read past the broken ones."""
    with sqlite3.connect(yard.folder / "journal.sqlite") as connection:
        rows = connection.execute("SELECT data FROM entries WHERE kind = ?", (kind.value,)).fetchall()
    return [json.loads(row[0]) for row in rows]
