"""The chain of the journal's entries: how each is hashed, what breaks it, and how an entry is read from its row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.events import Entry, Kind

FIRST = "0" * 64
"""The `previous` of the first entry."""

LINE_SCHEMA = 1
"""Of an exported line. Goes up when a member is renamed, removed or changes its meaning, not for a new kind."""

_LONGEST = 400
COLUMNS = "seq, run, at, kind, data, previous, hash"
Row = tuple[Any, ...]
"""`COLUMNS` of one entry, of any type: who changes the file below SQL can make numbers of texts."""


@dataclass(frozen=True)
class Head:
    """The last entry: its number (0: there is none) and its hash. Who keeps it can tell when the journal was cut."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class Break:
    """A place where the record is not what was written. `seq` is None when it is not one entry's.

    `run` and `kind` are what the entry says of itself now, '' where it says nothing.
    """

    seq: int | None
    what: str
    found: str
    expected: str
    run: str = ""
    kind: str = ""

    def __post_init__(self) -> None:
        for name in ("what", "found", "expected", "run", "kind"):
            object.__setattr__(self, name, _shown(getattr(self, name), _LONGEST))

    def __str__(self) -> str:
        entry = f" ({self.kind} of run {self.run})" if self.run else ""
        return f"{self.what}{entry}: found {self.found}, expected {self.expected}"


class Unreadable(ValueError):
    """A row that is no entry as it was written; `seq` is its number, `altered` False where its hash fits it."""

    def __init__(self, seq: int, *, altered: bool) -> None:
        super().__init__(f"entry {seq} cannot be read")
        self.seq = seq
        self.altered = altered


def canonical(value: object) -> str:
    """One spelling for each JSON value: members sorted, no white space, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def as_json_line(entry: Entry) -> str:
    """The entry as one line of JSON, for export. Without `schema` and `hash`, in canonical form, it is what the hash
    was made of.
    """
    return canonical({"schema": LINE_SCHEMA, **_content(entry), "hash": entry.hash})


def chained(seq: int, run: str, at: datetime, kind: Kind, data: Mapping[str, Any], previous: str) -> Entry:
    """An entry with the hash of itself and, through `previous`, of all before it."""
    entry = Entry(seq, run, at.astimezone(UTC), Kind(kind), data, previous, "")
    return Entry(seq, run, entry.at, entry.kind, data, previous, _digest(canonical(_content(entry))))


def row_of(entry: Entry) -> Row:
    content = _content(entry)
    named = (content[name] for name in ("seq", "run", "at", "kind"))
    return (*named, canonical(entry.data), entry.previous, entry.hash)


def entry_of(row: Row) -> Entry:
    """The entry in a row. Raises Unreadable when its hash does not fit it: what was altered is not to be acted on."""
    seq, run, at, kind, data, previous, digest = row
    if _digest_of(row) != digest:
        raise Unreadable(seq, altered=True)
    try:
        return Entry(seq, run, datetime.fromisoformat(at), Kind(kind), json.loads(data), previous, digest)
    except ValueError:
        raise Unreadable(seq, altered=False) from None


def breaks_of(row: Row, last: Head) -> Iterator[Break]:
    """What is wrong with an entry that should continue `last`."""
    seq, run, _at, kind, data, previous, digest = row

    def wrong(what: str, found: object, expected: str, of: int = seq) -> Break:
        return Break(of, what, _shown(found), expected, _shown(run), _shown(kind))

    if seq != last.seq + 1:
        missing = f"entry {last.seq + 1}" if seq == last.seq + 2 else f"entries {last.seq + 1} to {seq - 1}"
        yield Break(last.seq + 1, f"{missing} missing", f"entry {seq}", f"entry {last.seq + 1}")
    if previous != last.hash:
        yield wrong(f"entry {seq} does not continue entry {last.seq}", previous, last.hash)
    try:
        same = canonical(json.loads(data)) == data
    except (TypeError, ValueError, RecursionError):
        yield wrong(f"entry {seq} was changed: it is not JSON any more", "something else", "JSON")
        return
    if not same:
        yield wrong(f"entry {seq} was changed: its data is written otherwise", "another form", "canonical JSON")
    expected = _digest_of(row)
    if expected != digest:
        yield wrong(f"entry {seq} was changed: its hash does not fit its content", digest, expected or "text")


def _content(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "run": entry.run,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": str(entry.kind),
        "data": entry.data,
        "previous": entry.previous,
    }


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _digest_of(row: Row) -> str:
    """The hash that a row should have, '' for one that no entry can have. Its data counts as it is written."""
    seq, run, at, kind, data, previous, _ = row
    texts = (at, data, kind, previous, run)
    if not isinstance(data, str) or not data.isascii() or not all(isinstance(text, str) for text in texts):
        return ""
    at, kind, previous, run = (json.dumps(text) for text in (at, kind, previous, run))
    members = f'"at":{at},"data":{data},"kind":{kind},"previous":{previous},"run":{run},"seq":{seq}'
    return _digest(f"{{{members}}}")


def _shown(value: object, longest: int = 80) -> str:
    """Anything that a damaged file may hold, for a terminal."""
    text = value if isinstance(value, str) else f"a {type(value).__name__}"
    return "".join(char if char.isprintable() else "?" for char in text[:longest])
