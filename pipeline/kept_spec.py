"""The pipeline.yaml that a run went by, kept beside its record: a way back must not hang on today's."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.events import Entry, Kind
from pipeline.whole_file import write

FOLDER = "specs"


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
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content, mode=0o600)


def last(state: Path, entries: Sequence[Entry]) -> Kept | None:
    """What the last run that changes an environment went by; None where it is not kept, or not as it was then."""
    for entry in reversed(entries):
        if entry.kind is Kind.RUN_STARTED and entry.data.get("verb") in ("deploy", "rollback"):
            path = state / FOLDER / f"{entry.data.get('spec_digest')}.yaml"
            with contextlib.suppress(OSError):
                if _digest(path.read_bytes()) == entry.data.get("spec_digest"):
                    return Kept(path, entry.run, entry.at)
            return None
    return None


def _digest(content: bytes) -> str:
    """As `spec_digest` of a run's first entry."""
    return hashlib.sha256(content).hexdigest()
