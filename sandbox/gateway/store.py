"""The gateway's payments and the webhooks it still owes, in SQLite: both survive a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateways.ikhokha_wire import PAID

_SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    id TEXT PRIMARY KEY,
    reference TEXT NOT NULL,
    amount INTEGER NOT NULL,
    description TEXT NOT NULL,
    callback_url TEXT NOT NULL,
    success_url TEXT NOT NULL,
    failure_url TEXT NOT NULL,
    cancel_url TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    mode TEXT NOT NULL DEFAULT 'live'
) STRICT;
CREATE INDEX IF NOT EXISTS payments_by_reference ON payments (reference);
CREATE TABLE IF NOT EXISTS webhooks (
    id INTEGER PRIMARY KEY,
    payment TEXT NOT NULL REFERENCES payments (id),
    event TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at REAL NOT NULL,
    state TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS webhooks_by_state ON webhooks (state, next_at);
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY,
    webhook INTEGER NOT NULL REFERENCES webhooks (id),
    attempt INTEGER NOT NULL,
    at TEXT NOT NULL,
    status INTEGER,
    error TEXT NOT NULL,
    took_ms REAL NOT NULL
) STRICT;
"""

LIVE, TEST = "live", "test"
"""The modes of a payment: in `test` no money moves."""

PENDING, DELIVERED, ABANDONED, NOT_LOOPBACK = "pending", "delivered", "abandoned", "not loopback"
"""The states of a webhook."""


@dataclass(frozen=True)
class Payment:
    """One pay link. `amount` is cents, `created_at` an ISO 8601 instant in UTC, `cancel_url` may be ''."""

    id: str
    reference: str
    amount: int
    description: str
    callback_url: str
    success_url: str
    failure_url: str
    cancel_url: str
    status: str
    created_at: str
    mode: str = LIVE


@dataclass(frozen=True)
class Webhook:
    """A webhook that is owed. `attempts` counts those made; `next_at` is seconds since the epoch."""

    id: int
    payment: str
    reference: str
    url: str
    event: str
    attempts: int
    next_at: float


@dataclass(frozen=True)
class Attempt:
    """One try to deliver. `status` is the merchant's HTTP status, None where no answer came; `state` the webhook's."""

    paylink_id: str
    reference: str
    event: str
    attempt: int
    at: str
    status: int | None
    error: str
    took_ms: float
    state: str


class Store:
    """Every method is one transaction."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(_SCHEMA)
        with suppress(sqlite3.OperationalError):  # it has the column already
            self._db.execute("ALTER TABLE payments ADD COLUMN mode TEXT NOT NULL DEFAULT 'live'")
        path.chmod(0o600)

    def close(self) -> None:
        self._db.close()

    def add(self, payment: Payment) -> bool:
        """False when the ID is taken."""
        row = tuple(vars(payment).values())
        with self._transaction():
            found = self._db.execute(
                f"INSERT INTO payments VALUES ({','.join('?' * len(row))}) ON CONFLICT DO NOTHING",  # noqa: S608 - marks only
                row,
            )
            return found.rowcount == 1

    def payment(self, link_id: str) -> Payment | None:
        return self._first("WHERE id = ?", link_id)

    def newest(self, reference: str) -> Payment | None:
        """The last payment made for a reference: a repeated creation makes a second one."""
        return self._first("WHERE reference = ? ORDER BY rowid DESC", reference)

    def created_between(self, first_day: str, last_day: str) -> Sequence[Payment]:
        """Days as YYYY-MM-DD, both inclusive, UTC; oldest first."""
        return list(self._select("WHERE substr(created_at, 1, 10) BETWEEN ? AND ? ORDER BY rowid", first_day, last_day))

    def payments(self) -> Sequence[Payment]:
        """All of them, newest first."""
        return list(self._select("ORDER BY rowid DESC"))

    def settle(
        self,
        link_id: str,
        status: str,
        *,
        event: str | None,
        next_at: float,
        state: str,
        final: Sequence[str] = (PAID,),
    ) -> bool:
        """Gives a payment its new status and owes the webhook `event`, both or neither.

        One that has a status of `final` stays: False.
        """
        marks = ",".join("?" * len(final))
        with self._transaction():
            changed = self._db.execute(
                f"UPDATE payments SET status = ? WHERE id = ? AND status NOT IN ({marks})",  # noqa: S608 - marks only
                (status, link_id, *final),
            )
            if changed.rowcount == 0:
                return False
            if event is not None:
                self._db.execute(
                    "INSERT INTO webhooks (payment, event, attempts, next_at, state) VALUES (?, ?, 0, ?, ?)",
                    (link_id, event, next_at, state),
                )
            return True

    def owed(self) -> Sequence[Webhook]:
        """The webhooks not yet delivered and not given up, the next due first."""
        rows = self._db.execute(
            "SELECT w.id, w.payment, p.reference, p.callback_url, w.event, w.attempts, w.next_at"
            " FROM webhooks w JOIN payments p ON p.id = w.payment WHERE w.state = ? ORDER BY w.next_at, w.id",
            (PENDING,),
        )
        return [Webhook(*row) for row in rows]

    def record(self, webhook: int, attempt: int, at: str, status: int | None, error: str, took_ms: float) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT INTO attempts (webhook, attempt, at, status, error, took_ms) VALUES (?, ?, ?, ?, ?, ?)",
                (webhook, attempt, at, status, error, took_ms),
            )

    def conclude(self, webhook: int, attempts: int, next_at: float, state: str) -> None:
        with self._transaction():
            self._db.execute(
                "UPDATE webhooks SET attempts = ?, next_at = ?, state = ? WHERE id = ?",
                (attempts, next_at, state, webhook),
            )

    def attempts(self, limit: int) -> Sequence[Attempt]:
        """The latest tries, newest first; a webhook that was never tried shows as attempt 0."""
        rows = self._db.execute(
            "SELECT w.payment, p.reference, w.event, coalesce(a.attempt, 0), coalesce(a.at, ''), a.status,"
            " coalesce(a.error, ''), coalesce(a.took_ms, 0.0), w.state"
            " FROM webhooks w JOIN payments p ON p.id = w.payment LEFT JOIN attempts a ON a.webhook = w.id"
            " ORDER BY coalesce(a.id, 9e15) DESC, w.id DESC LIMIT ?",
            (limit,),
        )
        return [Attempt(*row) for row in rows]

    def _first(self, where: str, *values: str) -> Payment | None:
        return next(self._select(f"{where} LIMIT 1", *values), None)

    def _select(self, where: str, *values: str) -> Iterator[Payment]:
        return (Payment(*row) for row in self._db.execute(f"SELECT * FROM payments {where}", values))  # noqa: S608 - constants

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
