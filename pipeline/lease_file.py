"""The file of a lease: its tables, who holds it, who asked for it. Reading it changes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pipeline.clock import SystemClock
from pipeline.contracts import Clock
from pipeline.database import Schema, explained, open_for_reading
from pipeline.owner import Owner, is_dead, this_boot

WAIT_S = 3.0
ASKED_S = 40.0
"""How long whoever asked for a lease is waited for: longer than a lease lasts that cannot be renewed."""

_TAKEOVER = """CREATE TABLE takeover (
    token INTEGER PRIMARY KEY, standing INTEGER NOT NULL, who TEXT NOT NULL, machine TEXT NOT NULL,
    pid INTEGER NOT NULL, process_start TEXT NOT NULL, run TEXT NOT NULL, why TEXT NOT NULL, asked_at TEXT NOT NULL,
    asked_monotonic REAL NOT NULL
) STRICT"""
"""Who asked for the lease of a token, and why. Rows stay, as a record; `standing` 0: they thought better of it."""
SCHEMA = Schema(
    what="lease",
    version=2,
    statements=(
        """CREATE TABLE lease (
            id INTEGER PRIMARY KEY CHECK (id = 1), token INTEGER NOT NULL, held INTEGER NOT NULL,
            who TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, process_start TEXT NOT NULL,
            run TEXT NOT NULL, taken_at TEXT NOT NULL, renewed_at TEXT NOT NULL, expires_s REAL NOT NULL,
            renewed_monotonic REAL NOT NULL, verb TEXT NOT NULL DEFAULT '',
            gives_way TEXT NOT NULL DEFAULT 'never', record TEXT NOT NULL DEFAULT ''
        ) STRICT""",
        _TAKEOVER,
    ),
    upgrades={
        1: (
            "ALTER TABLE lease ADD COLUMN verb TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE lease ADD COLUMN gives_way TEXT NOT NULL DEFAULT 'never'",  # it does not look whether asked
            "ALTER TABLE lease ADD COLUMN record TEXT NOT NULL DEFAULT ''",
            _TAKEOVER,
        )
    },
)
_FIRST = "token, who, machine, pid, process_start, run, taken_at, renewed_at, expires_s, renewed_monotonic"
COLUMNS = f"{_FIRST}, verb, gives_way, record"


class State(StrEnum):
    HELD = "held"
    EXPIRED = "expired"
    OWNER_DEAD = "owner dead"


class GivesWay(StrEnum):
    """What a rollback does that finds the lease held: it stops the owner, waits for it, or is refused."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True)
class Claim:
    """What the owner of a lease says of itself. `record` is the journal it writes, as a path on its machine."""

    verb: str = ""
    gives_way: GivesWay = GivesWay.NEVER
    record: str = ""


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
    claim: Claim = Claim()
    asked_by: Owner | None = None
    """The rollback that asked for it; its owner must stop."""
    asked_why: str = ""


def held(path: Path, *, clock: Clock | None = None) -> LeaseInfo | None:
    """Who holds the lease in `path`; None when nobody took it or it was given back."""
    connection = open_for_reading(path, SCHEMA, wait_s=WAIT_S)
    if connection is None:
        return None
    with contextlib.closing(connection), explained(path, "lease", WAIT_S):
        return read(connection, clock or SystemClock())


def holder(path: Path, *, clock: Clock | None = None) -> LeaseInfo | None:
    """Who may change the environment now; None when nobody may: not one whose lease ran out, nor a dead owner."""
    info = held(path, clock=clock)
    return info if info is not None and info.state is State.HELD else None


def read(connection: sqlite3.Connection, clock: Clock) -> LeaseInfo | None:
    """`held`, on an open file; one that an older Tollgate left is read as it is."""
    old = connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA.version
    columns = f"{_FIRST}, '', 'never', ''" if old else COLUMNS
    row = connection.execute(f"SELECT {columns} FROM lease WHERE held = 1").fetchone()  # noqa: S608
    if row is None:
        return None
    token, who, machine, pid, process_start, run, taken, renewed, expires_s, monotonic, verb, gives_way, record = row
    owner = Owner(who, machine, pid, process_start, run)
    renewed_at = datetime.fromisoformat(renewed)
    remaining = _remaining(owner, renewed_at, monotonic, expires_s, clock)
    here = owner.boot == this_boot() != "?"
    expires_at = clock.now() + timedelta(seconds=remaining) if here else renewed_at + timedelta(seconds=expires_s)
    state = State.OWNER_DEAD if is_dead(owner) else State.EXPIRED if remaining <= 0 else State.HELD
    asked = None if old else _asked(connection, token)
    return LeaseInfo(
        *(owner, token, datetime.fromisoformat(taken), renewed_at, expires_at, remaining, state),
        Claim(verb, GivesWay(gives_way), record),
        asked[0] if asked else None,
        asked[1] if asked else "",
    )


def asking(connection: sqlite3.Connection, token: int, clock: Clock) -> Owner | None:
    """Who asked for the lease of `token` and is still waited for."""
    asked = _asked(connection, token)
    if asked is None:
        return None
    owner, _, at, monotonic = asked
    late = _remaining(owner, at, monotonic, ASKED_S, clock) <= 0
    return None if late or is_dead(owner) else owner


def _asked(connection: sqlite3.Connection, token: int) -> tuple[Owner, str, datetime, float] | None:
    row = connection.execute(
        "SELECT who, machine, pid, process_start, run, why, asked_at, asked_monotonic FROM takeover "
        "WHERE token = ? AND standing = 1",
        (token,),
    ).fetchone()
    return None if row is None else (Owner(*row[:5]), row[5], datetime.fromisoformat(row[6]), row[7])


def _remaining(owner: Owner, since: datetime, monotonic: float, lasts_s: float, clock: Clock) -> float:
    """Seconds left of what `owner` began; within one boot the wall clock says nothing."""
    if owner.boot == this_boot() != "?":
        return monotonic + lasts_s - clock.monotonic()
    return (since + timedelta(seconds=lasts_s) - clock.now()).total_seconds()


def text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
