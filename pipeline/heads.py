"""Heads of the journal that are remembered outside of it, so that a cut or an older copy in its place is found out.

`journal.head` beside the journal has the last head, each report that of its run: to hide a cut, all must be changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.chain import FIRST, Break, Head

_LINE = re.compile(rb" *([0-9]{1,18}):([0-9a-f]{64})\n")
_WIDTH = 18
_HASH = 64


@dataclass(frozen=True)
class Remembered:
    """An entry that was the last one once. `seq` is None where only its hash is known; `by`: who remembers it."""

    seq: int | None
    hash: str
    by: str

    def __str__(self) -> str:
        return self.hash if self.seq is None else f"{self.seq}:{self.hash}"


class HeadFile:
    """The file `journal.head`: one line of a fixed width, written over in place after each entry that is on disk.

    It may be behind the journal after a crash, never before it. A head that the journal does not have is never written
    over: it is the evidence, until a person removes the file.
    """

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_suffix(".head")

    def read(self) -> Remembered | None:
        """None when there is no such file. Raises ValueError when it holds something else."""
        try:
            found = _LINE.fullmatch(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(f"{self.path.name} cannot be read: {error.strerror}") from None
        if found is None:
            raise ValueError(f"{self.path.name} holds something else than a head")
        return Remembered(int(found[1]), found[2].decode(), self.path.name)

    def write(self, head: Head) -> None:
        """Best effort: what cannot be remembered is no reason to refuse an entry that is on disk."""
        with contextlib.suppress(OSError):
            new = not self.path.exists()  # an empty one, left by a kill, would be no head and look like tampering
            path = self.path.with_name(f".{self.path.name}.{os.getpid()}") if new else self.path
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.pwrite(file, f"{head.seq:>{_WIDTH}}:{head.hash}\n".encode(), 0)
                if new:  # later ones change one sector in place: after a power cut it is the old line or the new one
                    os.fsync(file)
            finally:
                os.close(file)
            if new:
                path.replace(self.path)


def of_reports(folder: Path) -> tuple[Sequence[Remembered], Sequence[str]]:
    """The heads that the reports below `folder` hold, and which reports cannot be read."""
    heads, unread = list[Remembered](), list[str]()
    for path in sorted(folder.glob("*/report.json")):
        try:
            report = json.loads(path.read_bytes())
            seq, digest = report.get("head_seq"), report["head"]
        except (OSError, ValueError, KeyError, AttributeError, RecursionError):
            unread.append(str(path))
            continue
        if isinstance(digest, str) and len(digest) == _HASH and (seq is None or isinstance(seq, int)):
            heads.append(Remembered(seq, digest, f"the report of run {path.parent.name}"))
    return heads, unread


def missing(journal: Path, remembered: Sequence[Remembered] = ()) -> Sequence[Break]:
    """What is missing where there is no journal: nothing where nothing is remembered."""
    known = list(remembered)
    with contextlib.suppress(ValueError):
        outside = HeadFile(journal).read()
        known += [outside] if outside else []
    return list(Roll(known).ended(Head(0, FIRST)))


class Roll:
    """Holds every remembered head against the entries as they are read, one after another."""

    def __init__(self, remembered: Sequence[Remembered]) -> None:
        self._by_seq: dict[int, list[Remembered]] = {}
        self._by_hash: dict[str, list[Remembered]] = {}
        for one in remembered:
            if one.seq is None:
                self._by_hash.setdefault(one.hash, []).append(one)
            elif one.seq > 0:
                self._by_seq.setdefault(one.seq, []).append(one)

    def saw(self, entry: Head) -> Iterator[Break]:
        self._by_hash.pop(entry.hash, None)
        for one in self._by_seq.pop(entry.seq, ()):
            if one.hash != entry.hash:
                yield Break(entry.seq, f"entry {entry.seq} is not the one that {one.by} has", entry.hash, one.hash)

    def ended(self, last: Head) -> Iterator[Break]:
        for one in (one for group in self._by_seq.values() for one in group):
            yield Break(one.seq, f"entry {one.seq}, which {one.by} has, is missing", f"the end at {last}", str(one))
        for one in (one for group in self._by_hash.values() for one in group):
            yield Break(None, f"the last entry of {one.by} is missing", f"the end at {last}", one.hash)
