"""What a rollback works with when the record is broken: an incident does not wait until a journal is mended.

Nothing is decided by what may have been altered: what is left of the record is what was written after its last break,
by runs that began after it. Where even the file is damaged, it is set aside as it is, and a new one is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.chain import Break
from pipeline.contracts import Clock
from pipeline.errors import RecordDamaged
from pipeline.events import Entry, Kind
from pipeline.heads import missing
from pipeline.journal import Around, Journal, JournalReader
from pipeline.secrets import Redactor

_OF_SQLITE = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Believed:
    """What of a record may be acted on: `entries`, oldest first. `breaks` are empty where that is all there is.

    `kept_as`: where a file that could not be gone on with was moved, '' where it was not.
    """

    entries: tuple[Entry, ...] = ()
    breaks: tuple[Break, ...] = ()
    kept_as: str = ""

    @property
    def told(self) -> str:
        """The breaks in a line, '' without any."""
        if not self.breaks:
            return ""
        more = f" (and {len(self.breaks) - 1} more)" if len(self.breaks) > 1 else ""
        kept = f"; the file is kept as {self.kept_as}" if self.kept_as else ""
        return f"the record is broken: {self.breaks[0].what}{more}{kept}"


def believed(journal: JournalReader) -> Believed:
    """What of a journal may be acted on. Raises RecordDamaged for entries that only a newer Tollgate can read."""
    breaks = journal.verify()
    if not breaks:
        return Believed(journal.entries())
    if any(one.seq is None for one in breaks):
        return Believed((), breaks)
    last = max(one.seq or 0 for one in breaks)
    return Believed(tuple(_whole_runs(journal.entries(after=last), journal.runs_until(last))), breaks)


def believed_of(path: Path) -> Believed:
    """The same of a file that may be missing, or no journal at all. Raises TollgateError for one that is locked."""
    if not path.exists() or path.stat().st_size == 0:
        return Believed((), tuple(missing(path)))
    try:
        with Journal.read(path) as journal:
            return believed(journal)
    except RecordDamaged as error:
        return Believed((), (Break(None, "the file cannot be opened", str(error), "a journal"),))


def _whole_runs(entries: Iterable[Entry], before: frozenset[str]) -> Iterable[Entry]:
    """The entries of runs that began among them: of a run that is not whole nothing is known."""
    began: set[str] = set()
    for entry in entries:
        if entry.kind is Kind.RUN_STARTED and not entry.data.get("resumes") and entry.run not in before:
            began.add(entry.run)
        if entry.run in began:
            yield entry


def open_or_begin_anew(
    path: Path, *, clock: Clock, redactor: Redactor, around: Around | None = None, wait_s: float = 5.0
) -> tuple[Journal, Believed]:
    """The journal to go on with, and what was in the one that was set aside for it, if it was.

    Raises TollgateError as `Journal.open` does where the file is not damaged, but locked, forbidden or without space.
    """

    def opened() -> Journal:
        return Journal.open(path, clock=clock, redactor=redactor, around=around, wait_s=wait_s)

    try:
        journal = opened()
    except RecordDamaged as error:
        return _anew(path, clock, (Break(None, "the file cannot be opened", str(error), "a journal"),), opened)
    damage = journal.damage()
    if not damage:
        return journal, Believed()
    journal.close()
    return _anew(path, clock, damage, opened)


def _anew(
    path: Path, clock: Clock, breaks: tuple[Break, ...], opened: Callable[[], Journal]
) -> tuple[Journal, Believed]:
    kept = path.with_name(f"{path.name}.broken-{clock.now():%Y%m%dT%H%M%S}Z")
    for end in _OF_SQLITE:
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + end))
    return opened(), Believed((), breaks, str(kept))
