"""A journal under attack: whatever is done to its files, an audit names it, or what is read is what was written."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.chain import Head, canonical, chained
from pipeline.events import Entry, Kind
from pipeline.heads import of_reports
from pipeline.journal import Journal
from tests.journal.attacks import BESIDE, copied, made, put, read

ROOT = Path(__file__).resolve().parents[2]
EVERY_BYTE = bool(os.environ.get("TOLLGATE_EVERY_BYTE"))
"""`TOLLGATE_EVERY_BYTE=1 pytest -o timeout=900 tests/journal` flips every byte, which takes some minutes."""
FLIPS = 1500
MASKS = (0x01, 0x20, 0x80, 0xFF)
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


# ---- bytes -------------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_named_or_changes_nothing(path: Path) -> None:
    """Any byte of the file changed: the audit names a break, or every entry is byte for byte what was written."""
    written = made(path, 12)
    raw, chance = path.read_bytes(), random.Random(5)  # noqa: S311
    places = range(len(raw)) if EVERY_BYTE else sorted(chance.sample(range(len(raw)), FLIPS))
    named = 0
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= chance.choice(MASKS)
        put(path, bytes(flipped))
        found = read(path)
        assert found.fits(written), f"byte {place} was changed unseen"
        named += bool(found.breaks)
    assert len(places) // 6 < named < len(places)  # the rest of the file is unused space


def test_every_byte_of_an_entry_is_its_own_evidence(path: Path) -> None:
    """A flip in what an entry says, from its run to its hash, is named with the number of that entry."""
    made(path, 12)
    raw = path.read_bytes()
    with Journal.read(path) as journal:
        entry = journal.entries()[6]
    begins = raw.index(f"run-0{entry.at.isoformat(timespec='microseconds')}".encode())
    ends = raw.index(entry.hash.encode(), begins) + len(entry.hash)
    for place in range(begins, ends, 1 if EVERY_BYTE else 3):
        flipped = bytearray(raw)
        flipped[place] ^= 0x10
        put(path, bytes(flipped))
        told = read(path).breaks
        assert any("entry 7" in line for line in told), (place - begins, told)


def test_a_cut_file_is_named(path: Path) -> None:
    """Cut at every page, and at odd sizes: a file that ends early never passes."""
    written = made(path, 60)
    raw, chance = path.read_bytes(), random.Random(6)  # noqa: S311
    sizes = {*range(0, len(raw), PAGE), *chance.sample(range(1, len(raw)), 40), len(raw) - 1}
    for size in sorted(sizes):
        put(path, raw[:size])
        found = read(path)
        assert found.breaks, f"cut to {size} bytes unseen"
    put(path, raw)
    assert read(path).entries == written


def test_exchanged_doubled_and_blanked_pages_are_named(path: Path) -> None:
    """Whole pages moved, copied over each other or filled with nothing or noise: named, or nothing is different."""
    written = made(path, 60)
    raw, chance = path.read_bytes(), random.Random(7)  # noqa: S311
    count, named = len(raw) // PAGE, 0
    for _ in range(40):
        one, other = chance.sample(range(count), 2)
        first, second = (raw[at * PAGE : (at + 1) * PAGE] for at in (one, other))
        content = bytearray(raw)
        content[one * PAGE : (one + 1) * PAGE] = chance.choice([second, bytes(PAGE), chance.randbytes(PAGE)])
        if chance.random() < 0.5:
            content[other * PAGE : (other + 1) * PAGE] = first
        put(path, bytes(content))
        found = read(path)
        assert found.fits(written), (one, other)
        named += bool(found.breaks)
    assert named > 30


# ---- files -------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.clock import SystemClock
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor
journal = Journal.open(Path(sys.argv[1]), clock=SystemClock(), redactor=Redactor())
for number in range(8):
    journal.append("killed", Kind.FINDING, {"number": number})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(path: Path) -> tuple[Entry, ...]:
    """A journal whose writer was killed, so that its last entries lie in the file beside it; all that was written."""
    made(path, 6)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert path.with_name("journal.sqlite-wal").stat().st_size > 0
    copy = copied(path, path.parent.parent / "copy")
    written = read(copy).entries
    assert len(written) == 14
    shutil.rmtree(copy.parent)
    return written


def test_what_a_killed_writer_left_beside_the_journal_cannot_be_taken_away(
    path: Path, killed: tuple[Entry, ...]
) -> None:
    """Without its write-ahead file a journal is whole and too short; the head remembered outside tells."""
    path.with_name("journal.sqlite-wal").unlink()
    assert any(f"entry {len(killed)}, which journal.head has, is missing" in line for line in read(path).breaks)


def test_the_index_of_the_write_ahead_file_is_not_needed(path: Path, killed: tuple[Entry, ...]) -> None:
    """The file -shm can be made again from the others: without it everything is read."""
    path.with_name("journal.sqlite-shm").unlink()
    assert read(path).entries == killed


def test_a_flipped_or_cut_write_ahead_file_is_named_or_changes_nothing(
    path: Path, killed: tuple[Entry, ...], tmp_path: Path
) -> None:
    """A change in the write-ahead file drops entries at the most, and then the missing one is named."""
    wal = path.with_name("journal.sqlite-wal")
    raw, chance = wal.read_bytes(), random.Random(8)  # noqa: S311
    for place in chance.sample(range(len(raw)), 60):
        copy = copied(path, tmp_path / "copy")
        content = bytearray(raw)
        content[place] ^= chance.choice(MASKS)
        copy.with_name(wal.name).write_bytes(bytes(content) if chance.random() < 0.7 else raw[:place])
        assert read(copy).fits(killed), place
        shutil.rmtree(copy.parent)


def test_an_older_copy_is_named_even_after_more_was_written(path: Path, tmp_path: Path) -> None:
    """Yesterday's journal in today's place misses what is remembered, and goes on missing it when runs go on."""
    made(path, 5)
    older = path.read_bytes()
    written = made(path, 5)
    assert len(written) == 10
    put(path, older)
    assert any("entry 10, which journal.head has, is missing" in line for line in read(path).breaks)
    for _ in range(2):
        made(path, 3)
        assert any("entry 10" in line and "journal.head" in line for line in read(path).breaks)


def test_a_journal_of_another_place_is_named(path: Path, tmp_path: Path) -> None:
    """A whole journal that was written elsewhere is not this one."""
    made(path, 5)
    other = tmp_path / "other" / "journal.sqlite"
    made(other, 9)
    put(path, other.read_bytes())
    assert any("entry 5 is not the one that journal.head has" in line for line in read(path).breaks)


@pytest.mark.parametrize("content", [b"", b"\0" * 20000, b"a text of somebody's\n" * 300, b"SQLite format 3\0"])
def test_a_file_that_is_no_journal_is_named(path: Path, content: bytes) -> None:
    """An empty file, noughts or a text in the journal's place is told in a sentence."""
    made(path, 5)
    put(path, content)
    assert read(path).breaks


def test_a_lost_head_file_is_no_way_to_hide_a_cut(path: Path) -> None:
    """Who cuts the journal and damages the file that remembers its end is told of the latter."""
    made(path, 5)
    path.with_suffix(".head").write_bytes(b"5:abc\n")
    assert any("the head remembered outside is lost" in line for line in read(path).breaks)
    made(path, 1)
    assert path.with_suffix(".head").read_bytes() == b"5:abc\n"


# ---- rows --------------------------------------------------------------------------------------------------

Rows = list[tuple[int, str, str, str, str, str, str]]


def _dropped(rows: Rows, at: int) -> Rows:
    return rows[:at] + rows[at + 1 :]


def _doubled(rows: Rows, at: int) -> Rows:
    copy = (len(rows) + 1, *rows[at][1:])
    return [*rows, copy]


def _moved(rows: Rows, at: int) -> Rows:
    other = (at + 3) % len(rows)
    changed = list(rows)
    changed[at], changed[other] = (rows[at][0], *rows[other][1:]), (rows[other][0], *rows[at][1:])
    return changed


def _inserted(rows: Rows, at: int) -> Rows:
    later = [(seq + 1, *rest) for seq, *rest in rows[at:]]
    new = (at + 1, "forged", rows[at][2], "finding", '{"forged":true}', rows[at][5], "0" * 64)
    return [*rows[:at], new, *later]  # type: ignore[list-item]


def _cut(rows: Rows, at: int) -> Rows:
    return rows[: max(at, 1)]


def _changed(rows: Rows, at: int) -> Rows:
    seq, run, when, kind, _, previous, digest = rows[at]
    return [*rows[:at], (seq, run, when, kind, '{"number":-1}', previous, digest), *rows[at + 1 :]]


def _chained_anew(rows: Rows) -> Rows:
    """Every hash computed again, as somebody who knows how it is done would."""
    made_anew: Rows = []
    previous = "0" * 64
    for number, (_, run, at, _kind, data, _, _) in enumerate(rows, 1):
        entry = chained(number, run, datetime.fromisoformat(at), Kind.FINDING, json.loads(data), previous)
        made_anew.append((number, run, at, "finding", canonical(entry.data), previous, entry.hash))
        previous = entry.hash
    return made_anew


def _replace(path: Path, rows: Rows, head: tuple[int, str] | None) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM entries")
    connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    if head is not None:
        connection.execute("UPDATE head SET seq = ?, hash = ?", head)
    connection.close()


@pytest.mark.parametrize("attack", [_dropped, _doubled, _moved, _inserted, _cut, _changed])
@pytest.mark.parametrize("mended", [False, True], ids=["as it stood", "head mended"])
def test_rows_dropped_doubled_moved_inserted_cut_or_changed_are_named(
    path: Path, attack: Callable[[Rows, int], Rows], mended: bool
) -> None:
    """Whatever is done to the rows, also with the journal's own head set right again, is named; at every place."""
    made(path, 8, size=1)
    raw = path.read_bytes()
    for at in range(8):
        put(path, raw)
        rows = _rows(path)
        after = attack(rows, at)
        _replace(path, after, (after[-1][0], after[-1][6]) if mended else None)
        assert read(path).breaks, at


@pytest.mark.parametrize("attack", [_dropped, _moved, _inserted, _cut, _changed])
def test_a_chain_computed_anew_is_given_away_by_what_remembers_it(
    path: Path, attack: Callable[[Rows, int], Rows]
) -> None:
    """Who computes all hashes and the head again has a whole chain; the head remembered outside is not its end."""
    made(path, 8, size=1)
    raw, outside = path.read_bytes(), path.with_suffix(".head")
    remembered = outside.read_bytes()
    for at in range(8):
        put(path, raw)
        forged = _chained_anew(attack(_rows(path), at))
        if forged == _rows(path):
            continue  # nothing is different: the last one was cut, and there is no other
        _replace(path, forged, (forged[-1][0], forged[-1][6]))
        outside.write_bytes(remembered)
        assert any("journal.head" in line for line in read(path).breaks), at
        outside.unlink()
        assert read(path).breaks == (), at  # the chain alone cannot see it: that is why it is remembered outside


def _rows(path: Path) -> Rows:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT seq, run, at, kind, data, previous, hash FROM entries ORDER BY seq").fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER quiet BEFORE INSERT ON entries BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW other AS SELECT * FROM entries",
        "DROP INDEX entries_of_run",
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 7",
    ],
)
def test_tables_that_are_not_those_of_a_journal_are_named(path: Path, statement: str) -> None:
    """A trigger that would swallow entries, a table more or less, or a foreign mark on the file is a break."""
    made(path, 3)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    assert read(path).breaks


def test_what_a_break_shows_can_be_printed_anywhere(path: Path) -> None:
    """Bytes that are no text, and codes that would steer a terminal, are shown as question marks."""
    made(path, 3)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "UPDATE entries SET hash = cast(x'1b5b324aff' AS TEXT), run = cast(x'fe0a' AS TEXT) WHERE seq = 2"
    )
    connection.execute("UPDATE head SET hash = cast(x'ff1b' AS TEXT)")
    connection.close()
    told = read(path).breaks
    assert len(told) >= 3
    assert "".join(told).isprintable() and "".join(told).encode()


def test_reports_remember_the_head_of_their_run(path: Path) -> None:
    """Without `journal.head` the reports of earlier runs still tell that the end was cut; one that is torn says so."""
    written = made(path, 6)
    reports = path.parent / "reports"
    for name, text in (
        ("with-number", f'{{"head_seq": 6, "head": "{written[5].hash}"}}'),
        ("older", f'{{"head": "{written[4].hash}"}}'),
        ("torn", '{"head": '),
        ("without", '{"head": null}'),
    ):
        (reports / name).mkdir(parents=True)
        (reports / name / "report.json").write_text(text)
    heads, unread = of_reports(reports)
    assert (len(heads), [Path(one).parent.name for one in unread]) == (2, ["torn"])
    with Journal.read(path) as journal:
        assert journal.verify(*heads) == ()
    _replace(path, _rows(path)[:4], (4, written[3].hash))
    path.with_suffix(".head").unlink()
    with Journal.read(path) as journal:
        assert [str(one.what) for one in journal.verify(*heads)] == [
            "entry 6, which the report of run with-number has, is missing",
            "the last entry of the report of run older is missing",
        ]
        assert journal.verify(Head(4, written[3].hash)) == ()


def test_the_files_of_a_journal_are_these(path: Path) -> None:
    """A journal that was closed is one file and the head beside it; `put` takes away what SQLite keeps meanwhile."""
    made(path, 2)
    assert {one.name for one in path.parent.iterdir()} == {"journal.sqlite", "journal.head"}
    assert BESIDE == ("-wal", "-shm")
