"""The lease: who may change an environment now.

One row of a SQLite file, changed in transactions that exclude each other. Every taking has a higher token than all
before it (a fencing number), so an owner that was away too long finds out before it changes anything. An owner that is
dead on this machine is taken over at once, any other when its lease has run out; a rollback may ask for it
(`pipeline.takeover`), and whoever was asked cannot renew it any more. Within one boot of one machine time is the
monotonic clock's, so a wall clock that jumps moves nothing; elsewhere it is the wall clock's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from pipeline.contracts import Clock
from pipeline.database import explained, open_for_writing, transaction
from pipeline.errors import LeaseHeld, LeaseLost, TakenOver, TollgateError
from pipeline.lease_file import (
    COLUMNS,
    SCHEMA,
    WAIT_S,
    Claim,
    GivesWay,
    LeaseInfo,
    State,
    asking,
    held,
    holder,
    read,
    shown,
    text,
)
from pipeline.owner import Owner, is_dead

__all__ = ["Claim", "GivesWay", "Lease", "LeaseInfo", "Owner", "State", "held", "holder", "is_dead"]

EXPIRES_S = 20.0
HEARTBEAT_S = 5.0
POLL_S = 0.25
"""How often an owner looks whether somebody asked for its lease."""


class Lease:
    """A lease this process took. `token` is its fencing number; `taken_from` the dead or late owner before it, or None.

    `ended` is set when the heartbeats found that this run must stop, because it is gone or was asked for: `why_ended`
    says which.
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
        self.ended = asyncio.Event()
        self.why_ended: LeaseLost | None = None
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
        claim: Claim | None = None,
        beyond: int = 0,
        expires_s: float = EXPIRES_S,
        heartbeat_s: float = HEARTBEAT_S,
        wait_s: float = WAIT_S,
    ) -> Self:
        """Takes the lease in `path`, or raises LeaseHeld. Keep it with `heartbeats`, give it back with `release`.

        `beyond`: its token is higher than this as well, which the target was shown already.
        """
        claim = claim or Claim()
        connection = open_for_writing(path, SCHEMA, wait_s=wait_s)
        try:
            with explained(path, "lease", wait_s), transaction(connection):
                before = read(connection, clock)
                _refuse_while_held(path, before)
                (last,) = connection.execute("SELECT coalesce(max(token), 0) FROM lease").fetchone()
                _refuse_while_asked_for(path, connection, last, owner, clock)
                token, now = max(last, beyond) + 1, text(clock.now())
                row = (
                    *(token, owner.who, owner.machine, owner.pid, owner.process_start, owner.run),
                    *(now, now, expires_s, clock.monotonic(), claim.verb, claim.gives_way.value, claim.record),
                )
                marks = ", ".join("?" * len(row))
                connection.execute(
                    f"INSERT OR REPLACE INTO lease (id, held, {COLUMNS}) VALUES (1, 1, {marks})",  # noqa: S608
                    row,
                )
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, clock, owner, token, before, heartbeat_s, wait_s)

    def check_now(self) -> None:
        """Returns when this run may change the environment now. Raises LeaseLost, TakenOver when it was asked for."""
        if self._ours().remaining_s > self._heartbeat_s:
            return
        self.renew()

    async def check(self) -> None:
        """`check_now`, for those who await their guard."""
        self.check_now()

    def renew(self) -> None:
        """Starts its time anew. Raises TakenOver when it was asked for, LeaseLost when another took it, or it ran out
        and cannot be renewed.
        """
        try:
            with explained(self.path, "lease", self._wait_s), transaction(self._connection):
                changed = self._connection.execute(
                    "UPDATE lease SET renewed_at = ?, renewed_monotonic = ? WHERE token = ? AND held = 1 "
                    "AND NOT EXISTS (SELECT 1 FROM takeover WHERE takeover.token = lease.token AND standing = 1)",
                    (text(self._clock.now()), self._clock.monotonic(), self.token),
                ).rowcount
        except TollgateError as error:
            if self._ours().remaining_s <= 0:
                raise self._gone(f"it ran out and could not be renewed: {error}") from None
            return
        if not changed:
            self._refuse_asked(self._ours())

    def be_waited_for(self) -> None:
        """From here on a rollback waits for this run, which goes back by itself. Raises TakenOver: it was asked first.

        Where that cannot be written the way back goes on all the same; a lease that is gone says so at the next change.
        """
        change = "UPDATE lease SET gives_way = ? WHERE token = ?"
        try:
            with explained(self.path, "lease", self._wait_s), transaction(self._connection):
                self._refuse_asked(self._ours())
                self._connection.execute(change, (GivesWay.LATER.value, self.token))
        except TakenOver:
            raise
        except TollgateError:
            return

    @contextlib.asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[Self]:
        """Renews the lease in the background while the context lasts, and looks whether somebody asked for it."""
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
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(POLL_S)
            try:
                self._refuse_asked(self._ours())
                if self._clock.monotonic() - renewed >= self._heartbeat_s:
                    self.renew()
                    renewed = self._clock.monotonic()
            except LeaseLost as end:
                self._end(end)
                return
            except Exception as error:
                self._end(self._gone(f"its heartbeat failed: {type(error).__name__}"))
                raise

    def _end(self, why: LeaseLost) -> None:
        self.why_ended = why
        self.ended.set()

    def _refuse_asked(self, info: LeaseInfo) -> None:
        if info.asked_by is not None:
            raise TakenOver(
                f"taken over by {info.asked_by} (rollback): {info.asked_why or 'no reason was given'}",
                "That rollback puts right what this run changed; `./inv status` shows how far it is.",
            )

    def _ours(self) -> LeaseInfo:
        """The lease as it stands on disk, which must be ours."""
        if self._released:
            raise self._gone("it was given back")
        try:
            with explained(self.path, "lease", self._wait_s):
                info = read(self._connection, self._clock)
        except TollgateError as error:
            raise self._gone(f"nobody can tell who holds it: {error}") from None
        if info is None:
            raise self._gone("it was given back")
        if info.token != self.token:
            raise self._gone(f"{info.owner} took it at {shown(info.taken_at)}")
        return info

    def _gone(self, why: str) -> LeaseLost:
        return LeaseLost(
            f"{self.path}: this run no longer holds the lease and changes nothing more: {why}",
            "See `./inv status`. When no other run works, end this one: `./inv rollback` or `./inv deploy --resume`.",
        )


def _refuse_while_held(path: Path, info: LeaseInfo | None) -> None:
    if info is None or info.state is not State.HELD:
        return
    raise LeaseHeld(
        f"{path}: another run may change this environment now: {info.owner}, since {shown(info.taken_at)}; "
        f"unless renewed, its lease runs out at {shown(info.expires_at)}",
        "Wait until it ends (`./inv status` shows it), then repeat. If its process died, the lease is taken over at "
        "once on the same machine, and elsewhere when it has run out; nothing need be deleted.",
    )


def _refuse_while_asked_for(path: Path, connection: sqlite3.Connection, last: int, owner: Owner, clock: Clock) -> None:
    """Whoever stopped a run takes its lease: nobody slips in between."""
    asker = asking(connection, last, clock)
    if asker is not None and asker != owner:
        raise LeaseHeld(
            f"{path}: {asker} (rollback) is taking this environment over now",
            "Wait until it ends (`./inv status` shows it), then repeat.",
        )
