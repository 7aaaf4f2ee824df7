"""Attacks on a journal's files, and what became of what can be read of it after each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.clock import SystemClock
from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor

BESIDE = ("-wal", "-shm")


@dataclass(frozen=True)
class Read:
    """What an audit said: each break as a line, or the error that the file could not be opened with."""

    breaks: tuple[str, ...]
    entries: tuple[Entry, ...]

    def fits(self, written: Sequence[Entry]) -> bool:
        """The dichotomy: something is named, or all that is read is byte for byte what was written."""
        return bool(self.breaks) or self.entries == tuple(written)


def made(path: Path, count: int, *, size: int = 40) -> tuple[Entry, ...]:
    """A journal of two runs, closed; its entries."""
    with Journal.open(path, clock=SystemClock(), redactor=Redactor()) as journal:
        for number in range(count):
            journal.append(f"run-{number % 2}", Kind.FINDING, {"number": number, "text": "é€x" * size})
        return journal.entries()


def read(path: Path) -> Read:
    """Only errors that an operator is told of are caught: anything else is a traceback, and fails the test."""
    try:
        with Journal.read(path) as journal:
            breaks = journal.verify()
            return Read(tuple(map(str, breaks)), () if breaks else journal.entries())
    except TollgateError as error:
        return Read((str(error),), ())


def copied(path: Path, folder: Path) -> Path:
    """The journal with all that lies beside it, in another folder."""
    shutil.copytree(path.parent, folder)
    return folder / path.name


def put(path: Path, content: bytes) -> None:
    """These bytes as the journal, and nothing of SQLite's beside it."""
    for end in BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(content)
