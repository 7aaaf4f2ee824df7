"""The pipeline.yaml that a run went by, kept beside its record: a way back must not hang on today's."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.standing import CHANGING
from pipeline.whole_file import write

FOLDER = "specs"
RUNS = 50
"""The copies of so many runs that changed something are kept."""


@dataclass(frozen=True)
class Kept:
    """The spec that a run went by, byte for byte."""

    path: Path
    run: str
    at: datetime


def keep(state: Path, content: bytes) -> None:
    """Keeps a spec in the environment's folder. Where that fails a run goes on: it needs today's and not this copy."""
    path = state / FOLDER / f"{_digest(content)}.yaml"
    with contextlib.suppress(OSError):
        if path.exists() and path.read_bytes() == content:
            os.utime(path)  # so that it is not pruned before this run is on record
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content, mode=0o600)


def prune(state: Path, entries: Callable[[], Sequence[Entry]]) -> None:
    """Removes the copies that none of the last `RUNS` runs went by. `entries`: what may be believed of the record.

    What was kept since the first of those stays, named or not: a run may be about to go on record with it.
    """
    with contextlib.suppress(OSError, TollgateError):
        copies = list((state / FOLDER).iterdir())
        began = [one for one in entries() if _changing(one)][-RUNS:] if len(copies) > RUNS else []
        if len(began) < RUNS:
            return
        named = {f"{one.data.get('spec_digest')}.yaml" for one in began}
        for copy in copies:
            if copy.name not in named and copy.stat().st_mtime < began[0].at.timestamp():
                copy.unlink()


def last(state: Path, entries: Sequence[Entry]) -> Kept | None:
    """What the last run that changes an environment went by; None where it is not kept, or not as it was then."""
    for entry in reversed(entries):
        if _changing(entry):
            path = state / FOLDER / f"{entry.data.get('spec_digest')}.yaml"
            with contextlib.suppress(OSError):
                if _digest(path.read_bytes()) == entry.data.get("spec_digest"):
                    return Kept(path, entry.run, entry.at)
            return None
    return None


def _changing(entry: Entry) -> bool:
    return entry.kind is Kind.RUN_STARTED and entry.data.get("verb") in CHANGING


def _digest(content: bytes) -> str:
    """As `spec_digest` of a run's first entry."""
    return hashlib.sha256(content).hexdigest()
