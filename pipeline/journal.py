"""The journal: what a run did and was about to do, durable and hash-chained (see chain.py).

Every entry carries the SHA-256 of itself and of the entry before it; the head (number and hash of the last one) stands
in a row of its own, changed in the same transaction. `verify` finds an entry that was changed, removed, put in,
reordered or cut off. What it cannot see alone: somebody who may write the file and computes the hashes anew, the head's
too, or who puts an older copy in its place. So the head is remembered outside of it as well (see heads.py). What
nothing here can see: entries that somebody who may write the file adds at its end, with their hashes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pipeline.chain import (
    COLUMNS,
    FIRST,
    Break,
    Head,
    Row,
    Unreadable,
    as_json_line,
    breaks_of,
    chained,
    entry_of,
    row_of,
)
from pipeline.contracts import Clock
from pipeline.database import Schema, explained, open_for_reading, open_for_writing, transaction
from pipeline.errors import RecordDamaged, TollgateError
from pipeline.events import Entry, Kind
from pipeline.heads import HeadFile, Remembered, Roll
from pipeline.secrets import Redactor

__all__ = ["FIRST", "Break", "Head", "Journal", "JournalReader", "RunSummary", "as_json_line"]

_SCHEMA = Schema(
    what="journal",
    version=1,
    statements=(
        """CREATE TABLE entries (
            seq INTEGER PRIMARY KEY, run TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL,
            data TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL) STRICT""",
        "CREATE INDEX entries_of_run ON entries (run)",
        "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT",
        f"INSERT INTO head VALUES (1, 0, '{FIRST}')",  # noqa: S608
    ),
)
_TABLES = {text for text in _SCHEMA.statements if text.startswith("CREATE")}
"""As SQLite keeps them: a trigger or a view that somebody adds could change what is written or read."""
_AS_WRITTEN = f"SELECT {COLUMNS} FROM entries NOT INDEXED ORDER BY seq"  # noqa: S608
"""The entries as they stand in their table: a damaged index must hide none."""
_MOST = 2**62
Around = Callable[[str, int], None]


@dataclass(frozen=True)
class RunSummary:
    """One run at a glance. `outcome` and `exit_code` are None while it is not finished."""

    id: str
    verb: str
    started: datetime
    environment: str
    release: str | None
    outcome: str | None
    exit_code: int | None
    superseded_by: str | None


class JournalReader:
    """Reads a journal, also while another process writes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, wait_s: float) -> None:
        self.path = path
        self._connection = connection
        self._connection.text_factory = _text
        self._wait_s = wait_s
        self._heads = HeadFile(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def entries(self, run: str | None = None, *, after: int = 0) -> tuple[Entry, ...]:
        """All entries after the one of that number, or those of one run, oldest first.

        Raises RecordDamaged at one that is not as it was written.
        """
        which, values = ("seq > ?", [after]) if run is None else ("seq > ? AND run = ?", [after, run])
        rows = self._rows(f"SELECT {COLUMNS} FROM entries WHERE {which} ORDER BY seq", tuple(values))  # noqa: S608
        return tuple(self._entry(row) for row in rows)

    def runs_until(self, seq: int) -> frozenset[str]:
        """The runs that entries up to this number name, whatever else was made of them."""
        return frozenset(str(run) for (run,) in self._rows("SELECT run FROM entries WHERE seq <= ?", (seq,)))

    def runs(self) -> tuple[RunSummary, ...]:
        """Every run, oldest first."""
        by_run: dict[str, list[Entry]] = {}
        superseded: dict[str, str] = {}
        for entry in self.entries():
            by_run.setdefault(entry.run, []).append(entry)
            if entry.kind is Kind.RUN_SUPERSEDED:
                superseded[str(entry.data.get("of_run"))] = str(entry.data.get("by_run"))
        return tuple(_summary(run, entries, superseded.get(run)) for run, entries in by_run.items())

    def head(self) -> Head:
        rows = self._rows("SELECT seq, hash FROM head WHERE id = 1")
        if not rows:
            raise RecordDamaged(f"{self.path}: the journal has lost its head", "Run `./inv audit` to see what is left.")
        return Head(*rows[0])

    def verify(self, *remembered: Head | Remembered) -> tuple[Break, ...]:
        """Every break of the chain, in order; none when the record is whole. `remembered` are heads seen earlier."""
        roll, lost = self._roll(remembered)
        try:
            with self._one_moment():
                return (*self._checked(), *lost, *(one for one in self._walk(roll) if isinstance(one, Break)))
        except TollgateError as error:
            return (Break(None, "the file cannot be read to its end", str(error), "a whole database"), *lost)

    def verified(self, *remembered: Head | Remembered) -> Iterator[Entry | Break]:
        """Every entry, oldest first, until the first break, which comes last. What comes before it is whole.

        Raises RecordDamaged where the file cannot be read, and for an entry that only a newer Tollgate can read.
        """
        roll, lost = self._roll(remembered)
        with self._one_moment():
            for one in itertools.chain(self._walk(roll), lost):
                yield one if isinstance(one, Break) else self._entry(one)
                if isinstance(one, Break):
                    return

    def _roll(self, remembered: Sequence[Head | Remembered]) -> tuple[Roll, Sequence[Break]]:
        """All heads seen earlier, `journal.head` among them, or the break that this cannot be read.

        Before the entries are read, never after: others may write meanwhile.
        """
        try:
            outside, lost = self._heads.read(), list[Break]()
        except ValueError as error:
            outside = None
            lost = [Break(None, "the head remembered outside is lost", str(error), "the number and hash of an entry")]
        known = [_as_remembered(one) for one in remembered]
        return Roll([*([outside] if outside else []), *known]), lost

    @contextlib.contextmanager
    def _one_moment(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever others write meanwhile."""
        with explained(self.path, "journal", self._wait_s):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def damage(self) -> tuple[Break, ...]:
        """What SQLite finds wrong with its file, whatever the entries say."""
        try:
            with explained(self.path, "journal", self._wait_s):
                return tuple(self._checked())
        except RecordDamaged as error:
            return (Break(None, "the file cannot be read to its end", str(error), "a whole database"),)

    def _checked(self) -> Iterator[Break]:
        for (problem,) in self._connection.execute("PRAGMA integrity_check(10)"):
            if problem != "ok":
                yield Break(None, "the database is damaged", str(problem), "ok")
        stored = {text for (text,) in self._connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
        if stored != _TABLES:
            strange = ", ".join(sorted(map(str, stored - _TABLES))) or "fewer tables"
            yield Break(None, "the journal's tables are not those that were made", strange, "the tables of a journal")

    def _walk(self, roll: Roll) -> Iterator[Row | Break]:
        """The rows in their order, each after its breaks; then what is missing at the end."""
        last = Head(0, FIRST)
        for row in self._connection.execute(_AS_WRITTEN):
            yield from breaks_of(row, last)
            last = Head(row[0], row[6])
            yield from roll.saw(last)
            yield row
        heads = self._connection.execute("SELECT seq, hash FROM head").fetchall()
        if heads != [(last.seq, last.hash)]:
            found = ", ".join(f"{seq}:{digest}" for seq, digest in heads) or "no head"
            what = f"the journal does not end where its head says, after entry {last.seq}"
            yield Break(last.seq, what, str(last), found)
        yield from roll.ended(last)

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with explained(self.path, "journal", self._wait_s):
            return self._connection.execute(query, values).fetchall()

    def _entry(self, row: Row) -> Entry:
        try:
            return entry_of(row)
        except Unreadable as error:
            if error.altered:
                raise RecordDamaged(
                    f"{self.path}: entry {error.seq} is not what was written, and nothing is done by what was altered",
                    "`./inv audit` shows every break. Keep the file, and find out who had access to it.",
                ) from None
            raise RecordDamaged(
                f"{self.path}: entry {error.seq} cannot be read; it was written by a newer Tollgate",
                "Use the newer Tollgate.",
            ) from None


class Journal(JournalReader):
    """Writes a journal: each entry is redacted, chained, and on disk when `append` returns.

    `around("before", n)` and `around("after", n)` are called around the n-th append of this object, counted from 1.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        wait_s: float,
        *,
        clock: Clock,
        redactor: Redactor,
        around: Around | None = None,
    ) -> None:
        super().__init__(path, connection, wait_s)
        self._clock = clock
        self._redactor = redactor
        self._around = around or (lambda _when, _n: None)
        self._appended = 0
        self._file = _identity(path)
        self._remembers = self._continues_what_is_remembered()

    @classmethod
    def open(
        cls, path: Path, *, clock: Clock, redactor: Redactor, around: Around | None = None, wait_s: float = 5.0
    ) -> Self:
        """Opens the journal at `path`, making it when there is none. Raises TollgateError when it cannot be used."""
        connection = open_for_writing(path, _SCHEMA, wait_s=wait_s)
        return cls(path, connection, wait_s, clock=clock, redactor=redactor, around=around)

    @staticmethod
    def read(path: Path, *, wait_s: float = 5.0) -> JournalReader:
        """Opens the journal at `path` for reading only. Raises TollgateError when there is none."""
        connection = open_for_reading(path, _SCHEMA, wait_s=wait_s)
        if connection is None:
            raise TollgateError(
                f"{path}: there is no journal here", "The first deploy makes it. Check --env and --spec, or deploy."
            )
        return JournalReader(path, connection, wait_s)

    def append(self, run: str, kind: Kind, data: Mapping[str, Any]) -> Entry:
        """Records an entry, durable on return. Raises TypeError when `data` is not JSON, TollgateError when it cannot.

        An entry always continues the head, even when the entries before it were tampered with: the break stays to be
        seen, and a way back can still be recorded.
        """
        plain = self._redactor.data(_json_value(data, "data"))
        self._appended += 1
        self._around("before", self._appended)
        if _identity(self.path) != self._file:
            raise RecordDamaged(
                f"{self.path}: the journal was removed or replaced while this run wrote it",
                "Put it back, or find out who removed it; a new journal begins without its history.",
            )
        with explained(self.path, "journal", self._wait_s), transaction(self._connection):
            end = self._end()
            entry = chained(end.seq + 1, run, self._clock.now(), kind, plain, end.hash)
            self._connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row_of(entry))
            self._connection.execute("UPDATE head SET seq = ?, hash = ? WHERE id = 1", (entry.seq, entry.hash))
        if self._remembers:
            self._heads.write(Head(entry.seq, entry.hash))
        self._around("after", self._appended)
        return entry

    def _end(self) -> Head:
        """What the next entry continues: the head, or the last entry where the head was removed, left behind or is
        none.
        """
        ends = "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"
        last = Head(*(self._connection.execute(ends).fetchone() or (0, FIRST)))
        row = self._connection.execute("SELECT seq, hash FROM head WHERE id = 1").fetchone() or (last.seq, last.hash)
        head = Head(*row) if isinstance(row[0], int) and row[0] < _MOST and isinstance(row[1], str) else last
        return Head(max(last.seq, head.seq), head.hash)

    def _continues_what_is_remembered(self) -> bool:
        """Whether the journal has the head remembered outside of it; where none is, the head of now is from here on.

        Where it has not, that file stays as it is: the next audit must still see that something is missing.
        """
        with explained(self.path, "journal", self._wait_s):
            try:
                known = self._heads.read()
            except ValueError:
                return False
            if known is None:
                self._heads.write(self._end())
                return True
            found = self._connection.execute("SELECT hash FROM entries WHERE seq = ?", (known.seq,)).fetchone()
            return known.seq == 0 or found == (known.hash,)


def _text(stored: bytes) -> str:
    """Text of the file, whatever was made of it: what is no UTF-8 is no reason not to say which entry holds it."""
    return stored.decode("utf-8", "surrogateescape")


def _as_remembered(one: Head | Remembered) -> Remembered:
    return one if isinstance(one, Remembered) else Remembered(one.seq, one.hash, "the head remembered")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file a path names now; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


# ---- values ------------------------------------------------------------------------------------------------


def _json_value(value: Any, where: str) -> Any:
    """A copy of `value` made of plain JSON values. Raises TypeError, which names the place and the type only."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, list | tuple):
        return [_json_value(member, f"{where}[{at}]") for at, member in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has a key of type {type(key).__name__}; a JSON object has text keys")
        return {str(key): _json_value(member, f"{where}.{key}") for key, member in value.items()}
    raise TypeError(f"{where} is a {type(value).__name__}; the journal takes JSON values only")


def _summary(run: str, entries: list[Entry], superseded_by: str | None) -> RunSummary:
    started = next((entry for entry in entries if entry.kind is Kind.RUN_STARTED), None)
    finished = next((entry for entry in reversed(entries) if entry.kind is Kind.RUN_FINISHED), None)  # it was resumed
    began = started.data if started else {}
    marked = next((entry.data.get("release") for entry in entries if entry.kind is Kind.RELEASE_MARKED), None)
    return RunSummary(
        id=run,
        verb=str(began.get("verb", "?")),
        started=entries[0].at,
        environment=str(began.get("environment", "?")),
        release=began.get("release") or marked,
        outcome=finished.data.get("outcome") if finished else None,
        exit_code=finished.data.get("exit_code") if finished else None,
        superseded_by=superseded_by,
    )
