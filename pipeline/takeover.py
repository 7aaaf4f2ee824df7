"""A rollback that finds the environment's lease held: it stops the run at work, waits for it, or is refused.

The run is asked through the lease's own file, in words that stay there. It stops its stages without a way back of its
own and gives the lease back; one that hangs cannot renew its lease any more, so it loses it within its time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from pipeline.contracts import Clock
from pipeline.database import explained, open_for_writing, transaction
from pipeline.errors import LeaseHeld, TollgateError
from pipeline.lease_file import SCHEMA, WAIT_S, GivesWay, LeaseInfo, State, asking, holder, read, text
from pipeline.owner import Owner, this_machine
from pipeline.session import Session

_PAUSE_S = 0.1


class Answer(StrEnum):
    """What a rollback does about the run that holds the lease."""

    STOPPED = "stopped"
    WAITED_FOR = "waited for"
    REFUSED = "refused"


@dataclass(frozen=True)
class Standing:
    """What a rollback meets: the answer and, where it is refused, why."""

    answer: Answer
    why: str = ""


def standing(info: LeaseInfo | None, record: str) -> Standing | None:
    """What a rollback whose journal is `record` does about `info`; None when nobody is at work. Pure."""
    if info is None or info.state is not State.HELD:
        return None
    if info.claim.gives_way is GivesWay.NEVER:
        verb = info.claim.verb or "run of an older Tollgate"
        return Standing(Answer.REFUSED, f"a {verb} is never taken over")
    if (info.owner.machine, info.claim.record) != (this_machine(), record):
        where = f"{info.claim.record} on {info.owner.machine}"
        return Standing(Answer.REFUSED, f"it writes another record, {where}: only a rollback there knows what it did")
    if info.claim.gives_way is GivesWay.LATER:
        return Standing(Answer.WAITED_FOR)
    return Standing(Answer.STOPPED)


def at_work(info: LeaseInfo | None, record: str) -> str:
    """The run that is stopped or waited for first; '' where there is none, or where it refuses. Pure."""
    found = standing(info, record)
    return info.owner.run if info is not None and found is not None and found.answer is not Answer.REFUSED else ""


@dataclass(frozen=True)
class Asker:
    """A rollback that wants the lease in `path`. `why` is what the run it stops, and its record, are told."""

    path: Path
    owner: Owner
    clock: Clock
    record: str
    why: str
    tell: Callable[[str], None]

    @classmethod
    def of(cls, session: Session, owner: Owner, why: str) -> Asker:
        tell = partial(session.recorder.show, "way back", "lease")
        told = session.redactor.text(why)  # it stays in the lease's file, at the target
        return cls(session.lease_file, owner, session.world.clock, session.record, told, tell)

    def met(self) -> LeaseInfo | None:
        """Who is at work now; None when nobody is."""
        return holder(self.path, clock=self.clock)

    async def again(self) -> None:
        """A pause before the next look."""
        await self.clock.sleep(_PAUSE_S)

    async def until_free(
        self, *, only: str | None, before_stopping: Callable[[], None], still: Callable[[], None]
    ) -> str:
        """Returns when the lease may be taken; the run that was at work until then, '' when there was none.

        `only`: no other run than this one is stopped or waited for ('': none at all). `before_stopping` is called
        before anybody is asked, `still` while a run is waited for; both may raise. Raises LeaseHeld.
        """
        at_work = told = ""
        while True:
            info = self.met()
            found = standing(info, self.record)
            if info is None or found is None:
                return at_work
            if found.answer is Answer.REFUSED:
                raise self._refused(info, found.why)
            if only is not None and info.owner.run not in (only, at_work):
                raise self._refused(info, "it began after you were shown what would be done")
            if found.answer is Answer.STOPPED and info.asked_by != self.owner:
                before_stopping()
                self._ask(info)
            elif found.answer is Answer.WAITED_FOR:
                still()
            if told != found.answer:
                told = found.answer
                self.tell(_told(info, found.answer))
            at_work = info.owner.run
            await self.again()

    def _ask(self, info: LeaseInfo) -> None:
        """Asks the owner for its lease, on record; unless it changed hands meanwhile. Raises LeaseHeld."""
        with self._writing() as connection:
            now = read(connection, self.clock)
            if now is None or now.token != info.token or now.claim.gives_way is not GivesWay.NOW:
                return
            other = asking(connection, info.token, self.clock)
            if other not in (None, self.owner):
                raise self._refused(info, f"{other} (rollback) is taking it over already")
            me = self.owner
            connection.execute(
                "INSERT OR REPLACE INTO takeover VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(info.token, me.who, me.machine, me.pid, me.process_start, me.run, self.why),
                    *(text(self.clock.now()), self.clock.monotonic()),
                ),
            )

    def withdraw(self) -> None:
        """Nobody waits for this rollback any more."""
        with contextlib.suppress(TollgateError), self._writing() as connection:
            connection.execute(
                "UPDATE takeover SET standing = 0 WHERE run = ? AND token = (SELECT max(token) FROM lease)",
                (self.owner.run,),
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = open_for_writing(self.path, SCHEMA, wait_s=WAIT_S)
        with contextlib.closing(connection), explained(self.path, "lease", WAIT_S), transaction(connection):
            yield connection

    def _refused(self, info: LeaseInfo, why: str) -> LeaseHeld:
        return LeaseHeld(
            f"{self.path}: another run may change this environment now: {info.owner}, and {why}",
            "Wait until it ends, or end it (Ctrl-C there); `./inv status` shows it. Then repeat.",
        )


def _told(info: LeaseInfo, answer: Answer) -> str:
    run = f"{info.claim.verb or 'a command'}, {info.owner}"
    if answer is Answer.STOPPED:
        return f"stopping {run}; should it hang, its lease runs out within {max(info.remaining_s, 0):.0f} s"
    return f"waiting for {run}: it puts things back by itself"
