"""The journal: what a run did and was about to do, durable and hash-chained.

Every entry carries the SHA-256 of itself and of the entry before it; the head (number and hash of the last one) stands
in a row of its own, changed in the same transaction. `verify` finds an entry that was changed, removed, put in,
reordered or cut off. What it cannot see alone: somebody who may write the file and computes the hashes anew, the head's
too, or who removes the whole file. So reports print the head, and `verify(remembered)` holds the file against a print.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pipeline.contracts import Clock
from pipeline.database import Schema, explained, open_for_reading, open_for_writing, transaction
from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.secrets import Redactor

FIRST = "0" * 64
"""The `previous` of the first entry."""

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
_COLUMNS = "seq, run, at, kind, data, previous, hash"
Around = Callable[[str, int], None]


@dataclass(frozen=True)
class Head:
    """The last entry: its number (0: there is none) and its hash. Who keeps it can tell when the journal was cut."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class Break:
    """A place where the record is not what was written. `seq` is None when it is not one entry's."""

    seq: int | None
    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected}"


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

    @property
    def unfinished(self) -> bool:
        return self.outcome is None and self.superseded_by is None


class JournalReader:
    """Reads a journal, also while another process writes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, wait_s: float) -> None:
        self.path = path
        self._connection = connection
        self._wait_s = wait_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def entries(self, run: str | None = None) -> tuple[Entry, ...]:
        """All entries, or those of one run, oldest first."""
        which = "" if run is None else "WHERE run = ?"
        rows = self._rows(f"SELECT {_COLUMNS} FROM entries {which} ORDER BY seq", () if run is None else (run,))  # noqa: S608
        return tuple(self._entry(row) for row in rows)

    def runs(self) -> tuple[RunSummary, ...]:
        """Every run, oldest first."""
        by_run: dict[str, list[Entry]] = {}
        superseded: dict[str, str] = {}
        for entry in self.entries():
            by_run.setdefault(entry.run, []).append(entry)
            if entry.kind is Kind.RUN_SUPERSEDED:
                superseded[str(entry.data.get("of_run"))] = str(entry.data.get("by_run"))
        return tuple(_summary(run, entries, superseded.get(run)) for run, entries in by_run.items())

    def unfinished(self) -> tuple[RunSummary, ...]:
        """The runs that neither finished nor were put right by a later one, oldest first."""
        return tuple(run for run in self.runs() if run.unfinished)

    def head(self) -> Head:
        rows = self._rows("SELECT seq, hash FROM head WHERE id = 1")
        if not rows:
            raise TollgateError(f"{self.path}: the journal has lost its head", "Run `./inv audit` to see what is left.")
        return Head(*rows[0])

    def verify(self, remembered: Head | None = None) -> tuple[Break, ...]:
        """Every break of the chain, in order; none when the record is whole. `remembered` is a head seen earlier."""
        try:
            with explained(self.path, "journal", self._wait_s):
                self._connection.execute("BEGIN")
                try:
                    return tuple(self._breaks(remembered))
                finally:
                    self._connection.execute("ROLLBACK")
        except TollgateError as error:
            return (Break(None, "the file cannot be read to its end", str(error), "a whole database"),)

    def _breaks(self, remembered: Head | None) -> Iterator[Break]:
        for (problem,) in self._connection.execute("PRAGMA integrity_check(10)"):
            if problem != "ok":
                yield Break(None, "the database is damaged", str(problem), "ok")
        last = Head(0, FIRST)
        then = remembered
        for row in self._connection.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY seq"):  # noqa: S608
            yield from _breaks_of(row, last)
            last = Head(row[0], row[6])
            if then is not None and last.seq == then.seq:
                if last.hash != then.hash:
                    yield Break(last.seq, f"entry {last.seq} is not the one remembered", last.hash, then.hash)
                then = None
        if then is not None and then.seq > 0:
            yield Break(then.seq, f"entry {then.seq}, which is remembered, is missing", str(last), str(then))
        heads = self._connection.execute("SELECT seq, hash FROM head").fetchall()
        if heads != [(last.seq, last.hash)]:
            found = ", ".join(f"{seq}:{digest}" for seq, digest in heads) or "no head"
            what = f"the journal does not end where its head says, after entry {last.seq}"
            yield Break(last.seq, what, str(last), found)

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with explained(self.path, "journal", self._wait_s):
            return self._connection.execute(query, values).fetchall()

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        seq, run, at, kind, data, previous, digest = row
        try:
            return Entry(seq, run, datetime.fromisoformat(at), Kind(kind), json.loads(data), previous, digest)
        except ValueError:
            raise TollgateError(
                f"{self.path}: entry {seq} cannot be read; it was changed, or written by a newer Tollgate",
                "Run `./inv audit` to see which; then use the newer Tollgate, or restore the journal from a backup.",
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
            raise TollgateError(
                f"{self.path}: the journal was removed or replaced while this run wrote it",
                "Put it back, or find out who removed it; a new journal begins without its history.",
            )
        with explained(self.path, "journal", self._wait_s), transaction(self._connection):
            end = self._end()
            entry = _chained(end.seq + 1, run, self._clock.now(), kind, plain, end.hash)
            self._connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", _row(entry))
            self._connection.execute("UPDATE head SET seq = ?, hash = ? WHERE id = 1", (entry.seq, entry.hash))
        self._around("after", self._appended)
        return entry

    def _end(self) -> Head:
        """What the next entry continues: the head, or the last entry where the head was removed or left behind."""
        last = self._connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone() or (
            0,
            FIRST,
        )
        head = self._connection.execute("SELECT seq, hash FROM head WHERE id = 1").fetchone() or last
        return Head(max(last[0], head[0]), head[1])


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file a path names now; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def as_json_line(entry: Entry) -> str:
    """The entry as one line of JSON, for export. Without `hash`, in canonical form, it is what the hash was made of."""
    return _canonical({**_content(entry), "hash": entry.hash})


# ---- the chain ---------------------------------------------------------------------------------------------


def _canonical(value: object) -> str:
    """One spelling for each JSON value: members sorted, no white space, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _content(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "run": entry.run,
        "at": _instant(entry.at),
        "kind": str(entry.kind),
        "data": entry.data,
        "previous": entry.previous,
    }


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _chained(seq: int, run: str, at: datetime, kind: Kind, data: Mapping[str, Any], previous: str) -> Entry:
    entry = Entry(seq, run, at.astimezone(UTC), Kind(kind), data, previous, "")
    return Entry(seq, run, entry.at, entry.kind, data, previous, _digest(_content(entry)))


def _row(entry: Entry) -> tuple[Any, ...]:
    content = _content(entry)
    return (
        *(content[name] for name in ("seq", "run", "at", "kind")),
        _canonical(entry.data),
        entry.previous,
        entry.hash,
    )


def _breaks_of(row: tuple[Any, ...], last: Head) -> Iterator[Break]:
    seq, run, at, kind, data, previous, digest = row
    if seq != last.seq + 1:
        missing = f"entry {last.seq + 1}" if seq == last.seq + 2 else f"entries {last.seq + 1} to {seq - 1}"
        yield Break(last.seq + 1, f"{missing} missing", f"entry {seq}", f"entry {last.seq + 1}")
    if previous != last.hash:
        yield Break(seq, f"entry {seq} does not continue entry {last.seq}", str(previous), last.hash)
    try:
        content = {"seq": seq, "run": run, "at": at, "kind": kind, "data": json.loads(data), "previous": previous}
        same, expected = _canonical(content["data"]) == data, _digest(content)
    except (TypeError, ValueError, RecursionError):
        yield Break(seq, f"entry {seq} was changed: it is not JSON any more", "something else", "JSON")
        return
    if not same:
        yield Break(seq, f"entry {seq} was changed: its data is written otherwise", "another form", "canonical JSON")
    if expected != digest:
        yield Break(seq, f"entry {seq} was changed: its hash does not fit its content", str(digest), expected)


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
