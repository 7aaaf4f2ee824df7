"""The lease: who may change an environment now.

One row of a SQLite file, changed in transactions that exclude each other. Every taking has a higher token than all
before it (a fencing number), so an owner that was away too long finds out before it changes anything. An owner that is
dead on this machine is taken over at once, any other when its lease has run out. Within one boot of one machine time is
the monotonic clock's, so a wall clock that jumps moves nothing; elsewhere it is the wall clock's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import getpass
import hashlib
import os
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from pipeline.clock import SystemClock
from pipeline.contracts import Clock
from pipeline.database import Schema, explained, open_for_reading, open_for_writing, transaction
from pipeline.errors import LeaseHeld, LeaseLost, TollgateError

_WAIT_S = 3.0
_SCHEMA = Schema(
    what="lease",
    version=1,
    statements=(
        """CREATE TABLE lease (
            id INTEGER PRIMARY KEY CHECK (id = 1), token INTEGER NOT NULL, held INTEGER NOT NULL,
            who TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, process_start TEXT NOT NULL,
            run TEXT NOT NULL, taken_at TEXT NOT NULL, renewed_at TEXT NOT NULL, expires_s REAL NOT NULL,
            renewed_monotonic REAL NOT NULL
        ) STRICT""",
    ),
)
_COLUMNS = "token, who, machine, pid, process_start, run, taken_at, renewed_at, expires_s, renewed_monotonic"


# ---- owners ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """One run in one process. `process_start` is BOOT/NAMESPACE/TIME: it tells two processes of one pid apart."""

    who: str
    machine: str
    pid: int
    process_start: str
    run: str

    @classmethod
    def this_process(cls, run: str, who: str | None = None) -> Self:
        pid = os.getpid()
        return cls(who or _user(), _machine(), pid, "/".join((_boot(), _namespace(), _start_time(pid) or "?")), run)

    def __str__(self) -> str:
        return f"run {self.run} of {self.who} on {self.machine}, process {self.pid}"

    @property
    def boot(self) -> str:
        return self.process_start.partition("/")[0]


def is_dead(owner: Owner) -> bool:
    """True when `owner` was a process of this machine and is no more. In doubt, it lives."""
    if owner.machine != _machine() or owner.process_start.count("/") != 2:
        return False
    boot, namespace, started = owner.process_start.split("/")
    if boot != _boot():
        return boot != "?" and _boot() != "?"
    if namespace != _namespace() or started == "?":
        return False
    return _start_time(owner.pid) not in (started, "?")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _machine() -> str:
    """The host name, with a mark that tells two machines of one name apart."""
    identity = _file("/etc/machine-id")
    mark = hashlib.sha256(b"tollgate-machine:" + identity.encode()).hexdigest()[:8] if identity else ""
    return f"{socket.gethostname()} ({mark})" if mark else socket.gethostname()


def _boot() -> str:
    return _file("/proc/sys/kernel/random/boot_id") or "?"


def _namespace() -> str:
    """A pid means the same process only within one pid namespace (container)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """When the process began, in a form to compare; None when there is none or only its corpse, `?` when hidden."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return "?" if _exists(pid) else None
        state, started = fields[0], fields[19]
        return None if state in "ZX" else started
    try:
        listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return listed.stdout.decode(errors="replace").strip() or None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _file(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


# ---- what is on disk ---------------------------------------------------------------------------------------


class State(StrEnum):
    HELD = "held"
    EXPIRED = "expired"
    OWNER_DEAD = "owner dead"


@dataclass(frozen=True)
class LeaseInfo:
    """A lease as it stands on disk. One that is not `HELD` can be taken. `remaining_s` is negative when it ran out."""

    owner: Owner
    token: int
    taken_at: datetime
    renewed_at: datetime
    expires_at: datetime
    remaining_s: float
    state: State


def held(path: Path, *, clock: Clock | None = None) -> LeaseInfo | None:
    """Who holds the lease in `path`; None when nobody took it or it was given back."""
    connection = open_for_reading(path, _SCHEMA, wait_s=_WAIT_S)
    if connection is None:
        return None
    with contextlib.closing(connection), explained(path, "lease", _WAIT_S):
        return _info(connection, clock or SystemClock())


def _info(connection: sqlite3.Connection, clock: Clock) -> LeaseInfo | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM lease WHERE held = 1").fetchone()  # noqa: S608
    if row is None:
        return None
    token, who, machine, pid, process_start, run, taken, renewed, expires_s, monotonic = row
    owner = Owner(who, machine, pid, process_start, run)
    renewed_at = datetime.fromisoformat(renewed)
    expires_at = renewed_at + timedelta(seconds=expires_s)
    if owner.boot == _boot() != "?":
        remaining = monotonic + expires_s - clock.monotonic()
        expires_at = clock.now() + timedelta(seconds=remaining)
    else:
        remaining = (expires_at - clock.now()).total_seconds()
    state = State.OWNER_DEAD if is_dead(owner) else State.EXPIRED if remaining <= 0 else State.HELD
    return LeaseInfo(owner, token, datetime.fromisoformat(taken), renewed_at, expires_at, remaining, state)


# ---- the lease ---------------------------------------------------------------------------------------------


class Lease:
    """A lease this process took. `token` is its fencing number; `taken_from` the dead or late owner before it, or None.

    `lost` is set, with the reason in `why_lost`, when a heartbeat finds that the lease is gone.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        clock: Clock,
        owner: Owner,
        token: int,
        taken_from: LeaseInfo | None,
        heartbeat_s: float,
        wait_s: float,
    ) -> None:
        self.path = path
        self.owner = owner
        self.token = token
        self.taken_from = taken_from
        self.lost = asyncio.Event()
        self.why_lost = ""
        self._connection = connection
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._wait_s = wait_s
        self._released = False

    @classmethod
    def take(
        cls,
        path: Path,
        *,
        owner: Owner,
        clock: Clock,
        expires_s: float = 20.0,
        heartbeat_s: float = 5.0,
        wait_s: float = _WAIT_S,
    ) -> Self:
        """Takes the lease in `path`, or raises LeaseHeld. Keep it with `heartbeats`, give it back with `release`."""
        connection = open_for_writing(path, _SCHEMA, wait_s=wait_s)
        try:
            with explained(path, "lease", wait_s), transaction(connection):
                before = _info(connection, clock)
                _refuse_while_held(path, before)
                (last,) = connection.execute("SELECT coalesce(max(token), 0) FROM lease").fetchone()
                now = _text(clock.now())
                connection.execute(
                    f"INSERT OR REPLACE INTO lease (id, held, {_COLUMNS}) VALUES (1, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (
                        last + 1,
                        owner.who,
                        owner.machine,
                        owner.pid,
                        owner.process_start,
                        owner.run,
                        now,
                        now,
                        expires_s,
                        clock.monotonic(),
                    ),
                )
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, clock, owner, last + 1, before, heartbeat_s, wait_s)

    def check_now(self) -> None:
        """Returns when this run may change the environment now. Raises LeaseLost."""
        if self._ours().remaining_s > self._heartbeat_s:
            return
        self.renew()

    async def check(self) -> None:
        """`check_now`, for those who await their guard."""
        self.check_now()

    def renew(self) -> None:
        """Starts its time anew. Raises LeaseLost when another took it, or it ran out and cannot be renewed."""
        try:
            with explained(self.path, "lease", self._wait_s), transaction(self._connection):
                changed = self._connection.execute(
                    "UPDATE lease SET renewed_at = ?, renewed_monotonic = ? WHERE token = ? AND held = 1",
                    (_text(self._clock.now()), self._clock.monotonic(), self.token),
                ).rowcount
        except TollgateError as error:
            if self._ours().remaining_s <= 0:
                raise self._gone(f"it ran out and could not be renewed: {error}") from None
            return
        if not changed:
            self._ours()

    @contextlib.asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[Self]:
        """Renews the lease in the background while the context lasts."""
        beating = asyncio.create_task(self._beat(), name="lease heartbeats")
        try:
            yield self
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def release(self) -> None:
        """Gives the lease back, if it is still ours. Safe to repeat."""
        if self._released:
            return
        self._released = True
        with (
            contextlib.suppress(TollgateError),  # it runs out by itself
            explained(self.path, "lease", self._wait_s),
            transaction(self._connection),
        ):
            self._connection.execute("UPDATE lease SET held = 0 WHERE token = ?", (self.token,))
        self._connection.close()

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._heartbeat_s)
            try:
                self.renew()
            except LeaseLost:
                return
            except Exception as error:
                self._gone(f"its heartbeat failed: {type(error).__name__}")
                raise

    def _ours(self) -> LeaseInfo:
        """The lease as it stands on disk, which must be ours."""
        if self._released:
            raise self._gone("it was given back")
        try:
            with explained(self.path, "lease", self._wait_s):
                info = _info(self._connection, self._clock)
        except TollgateError as error:
            raise self._gone(f"nobody can tell who holds it: {error}") from None
        if info is None:
            raise self._gone("it was given back")
        if info.token != self.token:
            raise self._gone(f"{info.owner} took it at {_shown(info.taken_at)}")
        return info

    def _gone(self, why: str) -> LeaseLost:
        self.why_lost = why
        self.lost.set()
        return LeaseLost(
            f"{self.path}: this run no longer holds the lease and changes nothing more: {why}",
            "See `./inv status`. When no other run works, end this one: `./inv rollback` or `./inv deploy --resume`.",
        )


def _refuse_while_held(path: Path, info: LeaseInfo | None) -> None:
    if info is None or info.state is not State.HELD:
        return
    raise LeaseHeld(
        f"{path}: another run may change this environment now: {info.owner}, since {_shown(info.taken_at)}; "
        f"unless renewed, its lease runs out at {_shown(info.expires_at)}",
        "Wait until it ends (`./inv status` shows it), then repeat. If its process died, the lease is taken over at "
        "once on the same machine, and elsewhere when it has run out; nothing need be deleted.",
    )


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
