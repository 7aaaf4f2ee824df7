"""Faults of the record: somebody changed it, or cut it off."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.events import Kind
from sandbox.drills.fault import Command, Fault, Leaves, typing
from sandbox.drills.scene import Amiss, Do, Scene

_LAST_S = 5.0


def _altered(statement: str, *values: object) -> Do:
    async def alter(scene: Scene) -> None:
        with closing(_open(scene.journal)) as journal, closing(_open(_aside(scene))) as aside:
            journal.backup(aside)
            changed = journal.execute(statement, values).rowcount
            journal.commit()
        if changed < 1:
            raise Amiss("nothing of the journal was altered, so nothing was drilled")

    return alter


async def _as_it_was(scene: Scene) -> None:
    with closing(_open(scene.journal)) as journal, closing(_open(_aside(scene))) as aside:
        aside.backup(journal)
    _aside(scene).unlink()


def _aside(scene: Scene) -> Path:
    return scene.folder / "journal.aside"


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_LAST_S)


FAULTS = (
    Fault(
        "journal-altered",
        "Somebody rewrote an entry of the journal.",
        (Command(typing("audit"), 4),),
        Leaves.AS_BEFORE,
        catcher="audit",
        prepare=_altered(
            'UPDATE entries SET data = replace(data, \'"outcome":"done"\', \'"outcome":"skipped"\') WHERE seq ='
            " (SELECT min(seq) FROM entries WHERE kind = ?)",
            Kind.STEP_FINISHED.value,
        ),
        heal=_as_it_was,
    ),
    Fault(
        "journal-cut-off",
        "Somebody removed the last entries of the journal.",
        (Command(typing("audit"), 4),),
        Leaves.AS_BEFORE,
        catcher="audit",
        prepare=_altered("DELETE FROM entries WHERE seq > (SELECT max(seq) - 3 FROM entries)"),
        heal=_as_it_was,
    ),
)
