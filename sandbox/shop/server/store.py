"""Orders and enrolments in one SQLite file that outlives releases.

Two releases run beside each other during a switch, so each change is one immediate transaction that reads what it
decides on. The schema only ever grows: an older release must run on what a newer one left behind.
Amounts are cents, instants are seconds since the epoch.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

CREATING, PENDING, PAID, FAILED, UNKNOWN = "creating", "pending", "paid", "failed", "unknown"
BUSY_S = 5.0

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS orders (
        reference TEXT PRIMARY KEY,
        course TEXT NOT NULL,
        amount INTEGER NOT NULL,
        currency TEXT NOT NULL,
        status TEXT NOT NULL,
        paylink_id TEXT UNIQUE,
        paylink_url TEXT,
        created_at REAL NOT NULL,
        outcome TEXT,           -- the one outcome that was counted: success, failure or error
        failed_at REAL,         -- of an attempt whose failure is not counted yet
        next_check_at REAL,     -- when the gateway is asked again; NULL: never
        checks INTEGER NOT NULL DEFAULT 0,
        woken INTEGER NOT NULL DEFAULT 0, -- a webhook came and the gateway could not be asked
        test INTEGER NOT NULL DEFAULT 0   -- made in test mode: no money moves, nothing is activated
    )""",
    "CREATE INDEX IF NOT EXISTS orders_next_check ON orders (next_check_at) WHERE next_check_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS orders_failed ON orders (failed_at) WHERE failed_at IS NOT NULL",
    # `nonce` is '' in every careful release, so that the key makes a second activation of a paylink impossible.
    """CREATE TABLE IF NOT EXISTS activations (
        paylink_id TEXT NOT NULL,
        nonce TEXT NOT NULL DEFAULT '',
        reference TEXT NOT NULL,
        activated_at REAL NOT NULL,
        UNIQUE (paylink_id, nonce)
    )""",
    "CREATE INDEX IF NOT EXISTS activations_reference ON activations (reference)",
    """CREATE TABLE IF NOT EXISTS revocations (
        paylink_id TEXT NOT NULL,
        reference TEXT NOT NULL,
        activated_at REAL NOT NULL,
        revoked_at REAL NOT NULL,
        why TEXT NOT NULL
    )""",
)
_COLUMNS = (
    "reference, course, amount, currency, status, paylink_id, paylink_url, created_at, outcome, checks, woken, test"
)


@dataclass(frozen=True)
class Order:
    reference: str
    course: str
    amount: int
    currency: str
    status: str
    paylink_id: str | None
    paylink_url: str | None
    created_at: float
    outcome: str | None
    checks: int
    woken: bool
    test: bool
    """Made in the gateway's test mode: whatever is said of it, it activates nothing."""


@dataclass(frozen=True)
class Activation:
    paylink_id: str
    nonce: str
    reference: str
    activated_at: float


@dataclass(frozen=True)
class Paid:
    """What a payment found paid changed: a new activation, and whether its outcome was counted just now."""

    activated: bool
    counted: bool


class Store:
    """Its methods block; `run` calls them one after the other in a thread of the store's own."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._change():
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._grow()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises sqlite3.OperationalError when the database stays busy."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._db.close()

    # ---- orders ------------------------------------------------------------------------------------------

    def claim(
        self, reference: str, course: str, amount: int, check_after_s: float, *, test: bool = False
    ) -> tuple[Order, bool]:
        """The order of `reference`, and whether it is new and ours to create at the gateway."""
        with self._change():
            fresh = self._db.execute(
                "INSERT INTO orders (reference, course, amount, currency, status, created_at, next_check_at, test)"
                " VALUES (?, ?, ?, 'ZAR', ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (reference, course, amount, CREATING, self._now(), self._now() + check_after_s, test),
            ).rowcount
            order = self.find(reference)
        if order is None:
            raise sqlite3.DatabaseError("an order vanished within its transaction")
        return order, fresh == 1

    def find(self, reference: str) -> Order | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM orders WHERE reference = ?", (reference,)).fetchone()  # noqa: S608 - a constant
        return _as_order(row) if row else None

    def linked(self, reference: str, link_id: str, url: str | None, check_after_s: float) -> bool:
        """The gateway made a paylink. A payment that was paid meanwhile stays paid.

        False, and nothing is changed, where the paylink belongs to another order: one payment pays for one order.
        """
        others = "SELECT 1 FROM orders WHERE paylink_id = ? AND reference != ?"
        with self._change():
            if self._db.execute(others, (link_id, reference)).fetchone():
                return False
            self._db.execute(
                "UPDATE orders SET paylink_id = ?, paylink_url = coalesce(?, paylink_url) WHERE reference = ?",
                (link_id, url, reference),
            )
            self._db.execute(
                "UPDATE orders SET status = ?, checks = 0, next_check_at = ? WHERE reference = ? AND status != 'paid'",
                (PENDING, self._now() + check_after_s, reference),
            )
            return True

    def not_created(self, reference: str, status: str, check_after_s: float | None) -> bool:
        """The gateway made no paylink (failed), or nobody knows (unknown). Whether the error was counted just now."""
        with self._change():
            self._db.execute(
                "UPDATE orders SET status = ?, next_check_at = ?, checks = 0"
                " WHERE reference = ? AND status != 'paid' AND paylink_id IS NULL",
                (status, None if check_after_s is None else self._now() + check_after_s, reference),
            )
            return self._count(reference, "error")

    def wake(self, reference: str) -> None:
        """A webhook came that cannot be confirmed now: the gateway is asked as soon as it answers."""
        with self._change():
            self._db.execute(
                "UPDATE orders SET woken = 1, checks = 0, next_check_at = ? WHERE reference = ? AND status != 'paid'",
                (self._now() + 1, reference),
            )

    def paid(self, reference: str, link_id: str, nonce: str = "") -> Paid:
        """The gateway calls this payment paid: activates once for each paylink, and counts one success."""
        with self._change():
            activated = self._db.execute(
                "INSERT INTO activations (paylink_id, nonce, reference, activated_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (link_id, nonce, reference, self._now()),
            ).rowcount
            self._db.execute(
                "UPDATE orders SET status = ?, paylink_id = coalesce(paylink_id, ?), next_check_at = NULL,"
                " failed_at = NULL, woken = 0 WHERE reference = ?",
                (PAID, link_id, reference),
            )
            return Paid(activated == 1, self._count(reference, "success"))

    def failed(self, reference: str) -> None:
        """An attempt to pay failed. It undoes nothing, and the customer may try again on the same paylink."""
        with self._change():
            self._db.execute(
                "UPDATE orders SET status = ?, woken = 0, failed_at = CASE WHEN outcome IS NULL"
                " THEN coalesce(failed_at, ?) END WHERE reference = ? AND status != 'paid'",
                (FAILED, self._now(), reference),
            )

    def mismatched(self, reference: str) -> bool:
        """The gateway was paid another amount: a person decides. Whether the error was counted just now."""
        with self._change():
            self._db.execute(
                "UPDATE orders SET status = ?, woken = 0 WHERE reference = ? AND status != 'paid'", (UNKNOWN, reference)
            )
            return self._count(reference, "error")

    # ---- what is to be asked -----------------------------------------------------------------------------

    def due(self, limit: int, lease_s: float) -> list[Order]:
        """Orders whose time to ask has come. They are not given out again, to any release, for `lease_s`."""
        now = self._now()
        if not self._any("SELECT 1 FROM orders WHERE next_check_at <= ?", now):
            return []
        with self._change():
            rows = self._db.execute(
                f"UPDATE orders SET next_check_at = ? WHERE reference IN (SELECT reference FROM orders"  # noqa: S608 - a constant
                f" WHERE next_check_at <= ? ORDER BY next_check_at LIMIT ?) RETURNING {_COLUMNS}",
                (now + lease_s, now, limit),
            ).fetchall()
        return [_as_order(row) for row in rows]

    def checked(self, reference: str, next_after_s: float | None) -> None:
        """The gateway was asked and it is not paid; asked again after `next_after_s`, or never."""
        with self._change():
            self._db.execute(
                "UPDATE orders SET checks = checks + 1, next_check_at = ?"
                " WHERE reference = ? AND status != 'paid' AND next_check_at IS NOT NULL",
                (None if next_after_s is None else self._now() + next_after_s, reference),
            )

    def ask_soon(self, since: float, limit: int) -> None:
        """Makes what was created since then and is not paid due now."""
        with self._change():
            self._db.execute(
                "UPDATE orders SET next_check_at = ? WHERE reference IN (SELECT reference FROM orders"
                " WHERE created_at >= ? AND created_at <= ? AND status != 'paid' AND next_check_at > ?"
                " ORDER BY created_at DESC LIMIT ?)",
                (self._now(), since, self._now() - 5, self._now(), limit),
            )

    def ripe_failures(self, grace_s: float) -> list[str]:
        """Counts the failures that no later attempt made good within `grace_s`; the references counted just now."""
        before = self._now() - grace_s
        if not self._any("SELECT 1 FROM orders WHERE failed_at <= ?", before):
            return []
        with self._change():
            ripe = self._db.execute(
                "UPDATE orders SET outcome = 'failure', failed_at = NULL"
                " WHERE failed_at <= ? AND outcome IS NULL RETURNING reference",
                (before,),
            ).fetchall()
        return [row[0] for row in ripe]

    def age_s(self, order: Order) -> float:
        return self._now() - order.created_at

    # ---- enrolments --------------------------------------------------------------------------------------

    def activations(self, reference: str) -> int:
        row = self._db.execute("SELECT count(*) FROM activations WHERE reference = ?", (reference,)).fetchone()
        return int(row[0])

    def activated_since(self, since: float, limit: int) -> list[Activation]:
        rows = self._db.execute(
            "SELECT paylink_id, nonce, reference, activated_at FROM activations WHERE activated_at >= ?"
            " ORDER BY activated_at DESC LIMIT ?",
            (since, limit),
        ).fetchall()
        return [Activation(*row) for row in rows]

    def revoke(self, activation: Activation, why: str) -> None:
        """Takes back an activation that is not backed by a paid payment. The order may still be paid later."""
        with self._change():
            self._forget(activation, why)
            self._db.execute(
                "UPDATE orders SET status = ?, checks = 0, next_check_at = ?"
                " WHERE reference = ? AND status = 'paid' AND NOT EXISTS"
                " (SELECT 1 FROM activations WHERE activations.reference = orders.reference)",
                (PENDING, self._now() + 15, activation.reference),
            )

    def collapse(self, activation: Activation) -> None:
        """Leaves one activation, the careful kind, where there were several for a paylink."""
        with self._change():
            self._db.execute(
                "INSERT INTO activations (paylink_id, nonce, reference, activated_at) VALUES (?, '', ?, ?)"
                " ON CONFLICT DO NOTHING",
                (activation.paylink_id, activation.reference, activation.activated_at),
            )
            self._forget(activation, "doubled")

    def ping(self) -> None:
        """Raises sqlite3.Error unless the database can be written to."""
        with self._change():
            self._db.execute("SELECT count(*) FROM (SELECT 1 FROM orders LIMIT 1)")

    # ---- inside ------------------------------------------------------------------------------------------

    @contextmanager
    def _change(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _grow(self) -> None:
        """Adds what a database of an older release has not; both releases go on writing to it."""
        names = [row[1] for row in self._db.execute("PRAGMA table_info(orders)")]
        if "test" not in names:
            self._db.execute("ALTER TABLE orders ADD COLUMN test INTEGER NOT NULL DEFAULT 0")

    def _any(self, query: str, instant: float) -> bool:
        """Asks without the write lock: a quiet shop writes nothing."""
        return self._db.execute(f"{query} LIMIT 1", (instant,)).fetchone() is not None

    def _count(self, reference: str, outcome: str) -> bool:
        changed = self._db.execute(
            "UPDATE orders SET outcome = ?, failed_at = NULL WHERE reference = ? AND outcome IS NULL",
            (outcome, reference),
        )
        return changed.rowcount == 1

    def _forget(self, activation: Activation, why: str) -> None:
        self._db.execute(
            "INSERT INTO revocations (paylink_id, reference, activated_at, revoked_at, why) VALUES (?, ?, ?, ?, ?)",
            (activation.paylink_id, activation.reference, activation.activated_at, self._now(), why),
        )
        self._db.execute(
            "DELETE FROM activations WHERE paylink_id = ? AND nonce = ?", (activation.paylink_id, activation.nonce)
        )


def _as_order(row: tuple[Any, ...]) -> Order:
    order = Order(*row)
    return replace(order, woken=bool(order.woken), test=bool(order.test))
