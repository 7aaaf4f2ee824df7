"""The struck process: it runs one verb as an operator's command does, and is hit at its moment."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from pipeline.clock import SystemClock
from tests.crash import mounts, writes
from tests.crash.strikes import At, How, Strike, Write

TRACE = "struck.jsonl"
_LOCK = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
held.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2])) if sys.argv[2] != "0" else sys.stdin.read()
held.execute("ROLLBACK")
"""
AWHILE_S = 1.0


class JumpingClock(SystemClock):
    """The machine's clock, which somebody sets; what counts seconds goes on."""

    def __init__(self) -> None:
        self.set_by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.set_by


class Struck:
    """This process and what is going to happen to it. What it saw of itself is in `TRACE`."""

    def __init__(self, folder: Path, strike: Strike | None) -> None:
        self.folder = folder
        self.state = folder / writes.STATE
        self.area = folder / writes.TARGET
        self.clock = JumpingClock()
        self._strike = strike
        self._at = strike.at if strike else None
        self._done = False
        self._due: Callable[[], None] | None = None
        self._due_soon = True
        """At whatever comes next; else at the next write, because a command ends before it."""
        self._counts: dict[str, int] = {}
        self._failed_at: int | None = None
        self._head_file = self.state / "journal.head"
        self._head: bytes | None = None
        self._looking = False
        self._locks: list[subprocess.Popen[bytes]] = []
        self._trace = os.open(folder / TRACE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def begin(self) -> None:
        """What must be so before the run begins."""
        if self._strike is None:
            return
        if self._strike.how is How.READ_ONLY_TARGET:
            mounts.of_our_own([self.area / name for name in ("releases", "states", "settings", "shared")])
        elif self._strike.how is How.READ_ONLY_STATE:
            mounts.of_our_own([self.state])
        if self._at is None:
            self._hit()

    def end(self) -> None:
        """What was to happen after the last write happens now."""
        if self._due is not None:
            self._due()

    # -- moments

    def around(self, when: str, n: int) -> None:
        """The journal's: called before and after each entry."""
        if when == "after":
            self._tell(entry=n)
        elif self._strike is not None and self._strike.how is How.TORN_LOG:
            self._looking, looking = True, self._looking
            self._head = self._head_file.read_bytes() if self._head_file.exists() else None
            self._looking = looking
        at = self._at
        if self._done or not isinstance(at, At):
            return
        if at.back and not self._failed(when, n):
            return
        first = self._failed_at if at.back and self._failed_at is not None else 0
        if (when, n - first) == (at.when, at.n):
            self._hit()
        elif self._strike is not None and self._strike.how is How.TWICE and (when, n - first) == (at.when, at.n + 1):
            os.kill(os.getpid(), signal.SIGTERM)

    def _failed(self, when: str, n: int) -> bool:
        """Whether the first error is on record; what follows it is counted from there."""
        if self._failed_at is None and when == "after":
            with contextlib.closing(sqlite3.connect(f"file:{self.state}/journal.sqlite?mode=ro", uri=True)) as journal:
                kind = journal.execute("SELECT kind FROM entries ORDER BY seq DESC LIMIT 1").fetchone()[0]
            if kind == "run.failed":
                self._failed_at = n
        return self._failed_at is not None

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Python's: called before each thing it does to a file, and before each command it starts."""
        if self._looking or event in ("compile", "exec", "import", "object.__getattr__"):
            return
        self._looking = True
        try:
            self._audited(event, args)
        finally:
            self._looking = False

    def _audited(self, event: str, args: tuple[Any, ...]) -> None:
        write = writes.seen(event, args, self.folder)
        if self._due is not None and (write is not None or (event == "open" and self._due_soon)):
            self._due()
        if write is None:
            return
        row = write.row or write.what
        self._counts[row] = self._counts.get(row, 0) + 1
        self._tell(write=row, known=write.row is not None)
        at = self._at
        if not self._done and isinstance(at, Write) and (at.row, at.n) == (row, self._counts[row]):
            self._done = True
            self._tell(struck=True)
            self._wrote(write)

    def _wrote(self, write: writes.Seen) -> None:
        """The moment has come, at a write."""
        assert self._strike is not None
        new = Path(write.new)
        match self._strike.how:
            case How.BETWEEN | How.KILL:
                _die()
            case How.HALF if write.old:
                os.truncate(write.old, Path(write.old).stat().st_size // 2)
                _die()
            case How.HALF if write.row == "removal":
                if new.is_dir():  # one file is there or gone
                    _halve(new)
                _die()
            case How.HALF:
                self._due, self._due_soon = (lambda: (_halve(new), _die())), False
            case How.AFTER:
                self._due = _die
            case How.LOST:
                before = new.read_bytes() if new.is_file() and not new.is_symlink() else None
                link = new.readlink() if new.is_symlink() else None
                self._due = lambda: (_put_back(new, before, link), _die())
            case How.KILL_BOTH:
                self._kill_supervisor()
                _die()
            case How.NO_SPACE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case How.NO_WRITING:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _hit(self) -> None:
        """The moment has come, at an entry or before the first."""
        self._done = True
        self._tell(struck=True)
        assert self._strike is not None
        self._looking, looking = True, self._looking
        match self._strike.how:
            case How.KILL:
                _die()
            case How.TORN_LOG:  # the entry was not whole yet, so nobody had remembered it
                _put_back(self._head_file, self._head, None)
                _die()
            case How.TERM:
                os.kill(os.getpid(), signal.SIGTERM)
            case How.INT | How.TWICE:
                os.kill(os.getpid(), signal.SIGINT)
            case How.HUP:
                os.kill(os.getpid(), signal.SIGHUP)
            case How.FULL_STATE:
                mounts.fill(self.state)
            case How.FULL_TARGET:
                mounts.fill(self.area)
            case How.READ_ONLY_STATE:
                mounts.read_only([self.state])
            case How.READ_ONLY_TARGET:
                mounts.read_only([self.area / name for name in ("releases", "states", "settings", "shared")])
            case How.HOUR_BACK:
                self.clock.set_by = timedelta(hours=-1)
            case How.DAY_AHEAD:
                self.clock.set_by = timedelta(days=1)
            case How.JOURNAL_AWHILE:
                self._lock(self.state / "journal.sqlite", AWHILE_S)
            case How.JOURNAL_FOR_GOOD:
                self._lock(self.state / "journal.sqlite", 0)
            case How.LEASE_AWHILE:
                self._lock(self.area / "lease.sqlite", AWHILE_S)
            case How.LEASE_FOR_GOOD:
                self._lock(self.area / "lease.sqlite", 0)
        self._looking = looking

    def _lock(self, path: Path, seconds: float) -> None:
        """Another process writes to the file, for some seconds or (0) until this one ends."""
        held = subprocess.Popen(
            [sys.executable, "-S", "-c", _LOCK, str(path), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._locks.append(held)
        assert held.stdout is not None and held.stdout.readline() == b"locked\n"

    def _kill_supervisor(self) -> None:
        """As one kill of everything does: it leaves half of a state beside the old one, and releases that serve on."""
        told = self.area / "run" / "supervisor.json"
        pid = json.loads(told.read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][1] != "Z":
            time.sleep(0.01)
        told.with_name(f".supervisor.json.{pid}").write_bytes(told.read_bytes()[: told.stat().st_size // 2])

    def _tell(self, **what: Any) -> None:
        os.write(self._trace, json.dumps(what).encode() + b"\n")


def said_into(file: IO[bytes]) -> None:
    """All that this process prints goes there."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _halve(path: Path) -> None:
    """What a reader finds when the write of `path` was killed half-way: a tree with half of its files, half a file."""
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)
    if not path.is_dir():
        return
    files = sorted(one for one in path.rglob("*") if one.is_file())
    for one in files[len(files) // 2 + 1 :]:
        one.unlink()
    for one in files[len(files) // 2 : len(files) // 2 + 1]:
        os.truncate(one, one.stat().st_size // 2)


def _put_back(path: Path, content: bytes | None, link: Path | None) -> None:
    if link is not None:
        path.unlink()
        path.symlink_to(link)
    elif content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
