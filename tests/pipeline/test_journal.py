"""The journal on a real file, written by real processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets as randomness
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.chain import canonical
from pipeline.clock import SystemClock
from pipeline.errors import RecordDamaged, TollgateError
from pipeline.events import Kind
from pipeline.journal import Head, Journal, as_json_line
from pipeline.secrets import MARK, Redactor, Secret

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from pathlib import Path
from pipeline.chain import canonical
from pipeline.clock import SystemClock
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor
journal = Journal.open(Path(sys.argv[1]), clock=SystemClock(), redactor=Redactor())
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    entry = journal.append(sys.argv[2], Kind.FINDING, {"number": number, "text": "x" * 500})
    print(entry.seq, entry.hash, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with opened(path) as journal:
        yield journal


@pytest.fixture
def writers(path: Path) -> Iterator[Callable[[str, int], subprocess.Popen[str]]]:
    """Starts processes that append once they read a line; whatever is left of them is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(run: str, count: int) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", WRITER, str(path), run, str(count)]
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def opened(path: Path, **options: Any) -> Journal:
    return Journal.open(path, clock=SystemClock(), redactor=Redactor(), **options)


def fill(journal: Journal, count: int = 6) -> None:
    for number in range(count):
        journal.append("run-1", Kind.FINDING, {"number": number})


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def told(path: Path, *remembered: Head) -> list[str]:
    with Journal.read(path) as reader:
        return [problem.what for problem in reader.verify(*remembered)]


# ---- what is written ---------------------------------------------------------------------------------------


def test_an_entry_is_read_back_as_written(journal: Journal, path: Path) -> None:
    """Entries come back in order, chained, and equal to what `append` returned."""
    data = {"text": "é€😀\x00\ud800", "list": [1, 2.5, None, True, {"a": []}], "tuple": ("x",), "kind": Kind.FINDING}
    first = journal.append("run-1", Kind.RUN_STARTED, data)
    second = journal.append("run-2", Kind.FINDING, {})
    with Journal.read(path) as reader:
        assert reader.entries() == (first, second)
        assert reader.entries("run-2") == (second,)
        assert reader.verify() == ()
        assert reader.head() == Head(2, second.hash)
    assert second.previous == first.hash
    assert first.at.tzinfo is UTC
    assert first.data["list"] == data["list"]


def test_an_exported_line_proves_itself(journal: Journal) -> None:
    """Whoever has an exported line can compute its hash with nothing but SHA-256 and JSON."""
    line = as_json_line(journal.append("run-1", Kind.FINDING, {"b": "é", "a": [1.5]}))
    members = json.loads(line)
    digest = members.pop("hash")
    assert members.pop("schema") == 1
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    assert "\n" not in line
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest


def test_no_secret_is_written(path: Path) -> None:
    """A secret in an entry, its keys included, is not in the entry, nor in any byte of the files."""
    value = randomness.token_urlsafe(24)
    with Journal.open(path, clock=SystemClock(), redactor=Redactor([Secret(value)])) as journal:
        entry = journal.append("run-1", Kind.FINDING, {value: f"a {value}", "list": [{"hex": value.encode().hex()}]})
        assert entry.data == {MARK: f"a {MARK}", "list": [{"hex": MARK}]}
        for file in path.parent.iterdir():
            assert not Redactor({"it": Secret(value)}).found(file.read_bytes(), parts=True)


@pytest.mark.parametrize("value", [object(), {1: "x"}, float("nan"), b"x", {"a"}, datetime.now(UTC), Path("x")])
def test_what_is_not_json_is_a_bug(journal: Journal, value: Any) -> None:
    """A value that is not JSON is refused with its place and type, and nothing is written."""
    with pytest.raises(TypeError, match=r"data\.a\[0\]"):
        journal.append("run-1", Kind.FINDING, {"a": [value]})
    assert journal.entries() == ()


def test_only_the_owner_may_read_the_files(journal: Journal, path: Path) -> None:
    """Every file of the journal has mode 0600, one that was looser too."""
    fill(journal)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    path.chmod(0o644)
    opened(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_hook_surrounds_every_append(path: Path) -> None:
    """The hook is called before an entry is on disk and again after it is."""
    calls: list[tuple[str, int, int]] = []

    def around(when: str, number: int) -> None:
        with Journal.read(path) as reader:
            calls.append((when, number, reader.head().seq))

    with opened(path, around=around) as journal:
        fill(journal, 2)
    assert calls == [("before", 1, 0), ("after", 1, 1), ("before", 2, 1), ("after", 2, 2)]


# ---- runs --------------------------------------------------------------------------------------------------


def test_runs_and_what_is_unfinished(journal: Journal) -> None:
    """A run is unfinished until it finishes or a later run has put it right."""
    for run in ("a", "b", "c"):
        journal.append(run, Kind.RUN_STARTED, {"verb": "deploy", "environment": "sandbox", "release": f"r-{run}"})
    journal.append("a", Kind.RUN_FINISHED, {"outcome": "done", "exit_code": 0})
    journal.append("c", Kind.RUN_SUPERSEDED, {"of_run": "b", "by_run": "c"})
    assert [(run.id, run.outcome, run.exit_code, run.superseded_by) for run in journal.runs()] == [
        ("a", "done", 0, None),
        ("b", None, None, "c"),
        ("c", None, None, None),
    ]
    last = journal.runs()[-1]
    assert (last.id, last.verb, last.environment, last.release) == ("c", "deploy", "sandbox", "r-c")


# ---- processes ---------------------------------------------------------------------------------------------


def test_writers_at_once_do_not_fork_the_chain(
    journal: Journal, path: Path, writers: Callable[[str, int], subprocess.Popen[str]]
) -> None:
    """Processes that append at the same time write one chain, and a reader sees it whole at any moment."""
    running = [writers(f"run-{number}", 40) for number in range(3)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    while any(process.poll() is None for process in running):
        assert told(path) == []
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
    fill(journal, 1)
    assert [entry.seq for entry in journal.entries()] == list(range(1, 3 * 40 + 2))
    assert journal.verify() == ()


@pytest.mark.parametrize("lines", [1, 7, 30])
def test_a_killed_writer_loses_nothing_it_was_told_is_safe(
    path: Path, writers: Callable[[str, int], subprocess.Popen[str]], lines: int
) -> None:
    """After SIGKILL in the middle of appending the chain is whole, with every entry that was acknowledged."""
    process = writers("run-1", 100_000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    acknowledged = [process.stdout.readline() for _ in range(lines + 1)][1:]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.wait()
    with opened(path) as journal:
        assert journal.verify() == ()
        known = {f"{entry.seq} {entry.hash}\n" for entry in journal.entries()}
        assert set(acknowledged) <= known
        fill(journal, 1)
        assert journal.verify() == ()


# ---- tampering ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(1, 7))
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run", "'other'"),
        ("at", "'2020-01-01T00:00:00.000000+00:00'"),
        ("kind", "'run.finished'"),
        ("data", """'{"number":9}'"""),
        ("data", "data || ' '"),
        ("data", "'no json'"),
        ("previous", f"'{'ab' * 32}'"),
        ("hash", f"'{'ab' * 32}'"),
        ("seq", "99"),
    ],
)
def test_a_changed_field_is_found(journal: Journal, path: Path, row: int, column: str, value: str) -> None:
    """Whichever field of whichever entry is changed, the audit names the entry."""
    fill(journal)
    tamper(path, f"UPDATE entries SET {column} = {value} WHERE seq = {row}")  # noqa: S608
    assert any(re.search(rf"\bentr(y|ies) {row}\b", what) for what in told(path))


@pytest.mark.parametrize("row", range(1, 7))
def test_a_removed_entry_is_found(journal: Journal, path: Path, row: int) -> None:
    """A removed entry is named, the last one as well, and stays to be seen when more entries follow."""
    fill(journal)
    tamper(path, f"DELETE FROM entries WHERE seq = {row}")  # noqa: S608
    expected = f"entry {row} missing" if row < 6 else "the journal does not end where its head says, after entry 5"
    assert expected in told(path)
    fill(journal, 1)
    assert f"entry {row} missing" in told(path)


def test_several_removed_entries_are_found(journal: Journal, path: Path) -> None:
    """A gap is named from its first to its last entry."""
    fill(journal)
    tamper(path, "DELETE FROM entries WHERE seq IN (2, 3, 4)")
    assert "entries 2 to 4 missing" in told(path)


def test_exchanged_entries_are_found(journal: Journal, path: Path) -> None:
    """Two entries that changed places are both named."""
    fill(journal)
    swap = ("UPDATE entries SET seq = 99 WHERE seq = 3", "UPDATE entries SET seq = 3 WHERE seq = 4")
    tamper(path, *swap, "UPDATE entries SET seq = 4 WHERE seq = 99")
    breaks = told(path)
    assert any(what.startswith("entry 3 was changed") for what in breaks)
    assert any(what.startswith("entry 4 was changed") for what in breaks)


def test_a_recomputed_entry_is_found_by_its_neighbour(journal: Journal, path: Path, tmp_path: Path) -> None:
    """An entry that was changed together with its own hash no longer fits the one after it."""
    fill(journal)
    with opened(tmp_path / "other.sqlite") as other:
        fill(other, 2)
        forged = other.append("run-1", Kind.FINDING, {"number": 77})
    tamper(path, f"UPDATE entries SET data = '{{\"number\":77}}', hash = '{forged.hash}' WHERE seq = 3")  # noqa: S608
    assert "entry 4 does not continue entry 3" in told(path)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM head", "UPDATE head SET hash = previous FROM entries WHERE seq = 6"]
)
def test_a_changed_head_is_found_and_does_not_stop_the_record(journal: Journal, path: Path, statement: str) -> None:
    """A journal whose head was changed says so for ever, and can still be written: a way back must be recorded."""
    fill(journal)
    tamper(path, statement.replace("seq =", "entries.seq ="))
    assert told(path) != []
    fill(journal, 2)
    assert told(path) != []


def test_a_remembered_head_finds_a_cut_and_mended_tail(journal: Journal, path: Path) -> None:
    """Whoever cuts the tail and mends the head is found out by a head that a report printed."""
    fill(journal)
    remembered, kept = journal.head(), journal.entries()[3]
    assert journal.verify(remembered) == ()
    tamper(path, "DELETE FROM entries WHERE seq > 4", f"UPDATE head SET seq = 4, hash = '{kept.hash}'")  # noqa: S608
    outside = path.with_suffix(".head")
    assert told(path) == ["entry 6, which journal.head has, is missing"]
    outside.unlink()
    assert told(path) == []
    assert told(path, remembered) == ["entry 6, which the head remembered has, is missing"]
    fill(journal, 3)
    assert told(path, remembered) == ["entry 6 is not the one that the head remembered has"]


def test_damaged_pages_are_found(path: Path) -> None:
    """Bytes changed in the file itself, below SQL, are a break and not a crash."""
    with opened(path) as journal:
        fill(journal, 200)
    raw = bytearray(path.read_bytes())
    raw[8192 : len(raw) - 4096] = os.urandom(len(raw) - 12288)
    path.write_bytes(raw)
    assert told(path) != []


def test_every_changed_byte_of_an_entry_is_found(path: Path) -> None:
    """A single bit flipped in the stored text of an entry, below SQL, is found."""
    with opened(path) as journal:
        fill(journal, 3)
    raw = path.read_bytes()
    at = raw.index(b'{"number":1}')
    for place in range(at, at + len(b'{"number":1}')):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert any("entry 2 was changed" in what for what in told(path)), place


# ---- errors ------------------------------------------------------------------------------------------------


def explained(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(TollgateError, match=message) as raised, opened(path, **options) as journal:
        fill(journal, 1)
    assert str(path) in str(raised.value)
    assert raised.value.remedy


def test_a_locked_journal_is_explained(journal: Journal, path: Path) -> None:
    """A journal that another process locks says how long it waited, and can be used afterwards."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    explained(path, r"locked by another process for more than 0\.05 s", wait_s=0.05)
    other.execute("ROLLBACK")
    other.close()
    fill(journal, 1)


def test_a_full_disk_is_explained(journal: Journal, path: Path) -> None:
    """When the disk is full the entry is refused, what was written stays whole, and the error says what to do."""
    fill(journal)
    journal._connection.execute("PRAGMA max_page_count = 1")  # what SQLite itself offers to make a file full
    with pytest.raises(TollgateError, match="the disk is full") as raised:
        for _ in range(100):
            journal.append("run-1", Kind.FINDING, {"text": "x" * 5000})
    assert "Free some space" in raised.value.remedy
    assert told(path) == []


def test_other_files_are_explained(path: Path) -> None:
    """A file that is no database, no journal, or a newer one is refused with the reason and left as it is."""
    path.parent.mkdir()
    path.write_bytes(b"this is a text file, and it is long enough to have a header" * 20)
    explained(path, "is not a database")
    path.unlink()
    tamper(path, "CREATE TABLE other (x)")
    explained(path, "no journal")
    path.unlink()
    opened(path).close()
    tamper(path, "PRAGMA user_version = 9")
    explained(path, "newer Tollgate: version 9, known up to 1")


def test_a_missing_journal_is_explained(path: Path) -> None:
    """Reading where no journal is makes none and says where one comes from."""
    with pytest.raises(TollgateError, match="there is no journal here"):
        Journal.read(path)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(TollgateError, match="there is no journal here"):
        Journal.read(path)


def test_a_reader_cannot_write(journal: Journal, path: Path) -> None:
    """A journal opened for reading changes nothing."""
    fill(journal)
    with Journal.read(path) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM entries")


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """A journal below a file that is no folder is an error of the operator, not a traceback."""
    (tmp_path / "file").touch()
    explained(tmp_path / "file" / "journal.sqlite", "cannot be opened")


def test_an_altered_entry_is_not_acted_on(journal: Journal, path: Path) -> None:
    """An entry whose hash does not fit it stops every reading with its number, and the audit still runs."""
    fill(journal)
    tamper(path, "UPDATE entries SET kind = 'run.finished' WHERE seq = 2")
    with Journal.read(path) as reader:
        with pytest.raises(RecordDamaged, match="entry 2 is not what was written"):
            reader.entries()
        assert [problem.seq for problem in reader.verify()] == [2]


def test_an_unknown_kind_is_explained(journal: Journal, path: Path) -> None:
    """An entry that a newer Tollgate wrote stops the reading with its number; the chain is whole all the same."""
    fill(journal, 1)
    first = journal.entries()[0]
    later = {"seq": 2, "run": "run-1", "at": "2030-01-01T00:00:00.000000+00:00", "kind": "new.kind", "data": {}}
    digest = hashlib.sha256(canonical({**later, "previous": first.hash}).encode()).hexdigest()
    row = f"(2, 'run-1', '{later['at']}', 'new.kind', '{{}}', '{first.hash}', '{digest}')"
    tamper(path, f"INSERT INTO entries VALUES {row}", f"UPDATE head SET seq = 2, hash = '{digest}'")  # noqa: S608
    with Journal.read(path) as reader:
        with pytest.raises(RecordDamaged, match="entry 2 cannot be read; it was written by a newer Tollgate"):
            reader.entries()
        assert reader.verify() == ()
