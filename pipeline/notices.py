"""Who is told how a run goes: listens to its entries, sends beside it, and never changes how it ends.

A notice is on record before it is sent and when its outcome is known. A run that was killed sends none; the resumed
run or the rollback that puts it right tells by itself. One that had ended and was killed while it told is told once by
a later run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from pipeline import story
from pipeline.contracts import SwitchName
from pipeline.errors import Exit, TollgateError
from pipeline.events import Entry, Event, Kind
from pipeline.secrets import Secret
from pipeline.shut_doors import shut_doors
from pipeline.spec import NoticeEvent

SETTLE_S = 25.0
"""How long the end of a command waits for what is under way: two attempts and the pause between them."""
LATE_S = 2 * SETTLE_S
"""How long after its end a run without the outcome of a notice is taken for killed; until then it may be telling."""
TEST = "test"
NOBODY = "NOBODY WAS TOLD"
_GIVEN_UP = "given up: the command ended first"

_TELLING = ("deploy", "rollback")
_DOORS = ("close", "open")
_TOLD_LATE: tuple[NoticeEvent, ...] = ("deployed", "refused", "rolled back", "closed", "reopened", "test mode")
"""The ends that nothing has to put right: what does so tells by itself."""

_ENDINGS: Mapping[tuple[str, str], tuple[NoticeEvent, ...]] = MappingProxyType(
    {
        ("deploy", "done"): ("deployed",),
        ("deploy", "refused"): ("refused",),
        ("deploy", "interrupted"): ("refused",),
        ("deploy", "bug"): ("refused",),
        ("deploy", "restored"): ("rolled back",),
        ("deploy", "taken over"): ("taken over",),
        ("rollback", "done"): ("rolled back",),
        ("rollback", "taken over"): ("taken over",),
        ("rollback", "interrupted"): (),
        ("close", "done"): ("closed",),
        ("close", "interrupted"): (),
        ("open", "done"): ("reopened",),
    }
)
"""What the end of a run is called, by verb and outcome. An outcome that is not here needs a person."""


_KINDS: Mapping[str, str] = MappingProxyType(
    {"person needed": "failure", "refused": "warning", "rolled back": "warning", "taken over": "warning"}
    | {"closed": "warning", "test mode": "warning", "deployed": "success", "reopened": "success"}
)
"""How bad it is, in Apprise's words; services that page somebody choose by it."""


@dataclass(frozen=True)
class Recipient:
    """Somebody who is told. `address` None: it is not known, and `unknown` says which variable lacks it.

    `late` asks for it once more, where the run itself must not wait for whom it is asked of.
    """

    name: str
    address: Secret | None
    on: frozenset[str]
    unknown: str = ""
    late: Callable[[], Awaitable[Secret | None]] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one notice; `error` '' when it was taken. `event` names the run where it is another's."""

    event: str
    to: str
    error: str
    shown: bool = False
    """Whether the console has shown it with the run."""


@dataclass(frozen=True)
class _Notice:
    """One notice to one person. `own`: the entries it is made of; `of_run`: the earlier run that could not tell it."""

    event: str
    to: Recipient
    events: tuple[str, ...]
    own: Sequence[Entry]
    error: str
    on_record: bool
    of_run: str = ""


class Carrier(Protocol):
    """`pipeline.notice_post.Post` is one."""

    async def send(self, address: Secret, title: str, body: str, *, kind: str) -> str: ...
    async def close(self) -> None: ...


Words = Callable[[tuple[str, ...], Sequence[Entry], str], tuple[str, str]]
"""Title and body, redacted, of an event out of the entries of its run; the text is the error of a run without any."""


class Notices:
    """A listener. `record` and `entries` are the journal's, and come with `begin`."""

    def __init__(self, environment: str, recipients: Sequence[Recipient], carrier: Carrier, words: Words) -> None:
        self.environment = environment
        self.recipients = tuple(recipients)
        self.outcomes: list[Outcome] = []
        self._carrier, self._words = carrier, words
        self._record: Callable[..., Any] | None = None
        self._entries: Callable[[], Sequence[Entry]] = tuple
        self._heard: list[Entry] = []
        self._tasks: dict[asyncio.Task[None], str] = {}

    def begin(self, record: Callable[..., Any], entries: Callable[[], Sequence[Entry]]) -> None:
        self._record, self._entries = record, entries

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Entry) or event.kind is Kind.NOTICE:
            return
        self._heard.append(event)
        if event.kind is Kind.RUN_STARTED and event.data.get("verb") in _TELLING:
            self._tell_late(event.at)
        if event.kind in (Kind.RUN_STARTED, Kind.RUN_FINISHED) and (events := self._called(event)):
            self.tell(events, on_record=True)

    async def failed(self, error: Exception, *, changed: bool) -> None:
        """A run that ended without a word of its own on record, as where the journal cannot be written."""
        known = isinstance(error, TollgateError)
        if not self._over and (error.exit_code is Exit.PERSON_NEEDED if isinstance(error, TollgateError) else changed):
            self.tell(("person needed",), str(error) if known else f"a bug of Tollgate: {type(error).__name__}")
        await self.settle()

    def tell(self, events: tuple[str, ...], error: str = "", *, on_record: bool = False) -> None:
        """Begins to tell everybody whose list has one of `events`; of several the first says what it is."""
        if not (to := [one for one in self.recipients if one.on.intersection(events) or events == (TEST,)]):
            return
        run = self._heard[-1].run if self._heard else ""
        own = [entry for entry in self._known() if entry.run == run]
        for one in to:
            event = next((event for event in events if event in one.on), events[0])
            if event != "started" or not any(_is_of(entry, event, one.name) for entry in own):  # resumed: told before
                self._begin(_Notice(event, one, events, own, error, on_record=on_record))

    @property
    def under_way(self) -> list[str]:
        """Whom a notice is being sent to."""
        return list(dict.fromkeys(name for task, name in self._tasks.items() if not task.done()))

    async def settle(self) -> None:
        """Waits for what is under way, within a bound; a signal ends the waiting and nothing else. Never raises."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=SETTLE_S)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
        await self.close()

    async def close(self) -> None:
        """Gives up what is under way; safe to repeat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._carrier.close()

    def lines(self, *, needed: bool) -> list[str]:
        """What whoever typed the command must know of it, and has not seen yet. `needed`: a person is."""
        late = [one for one in self.outcomes if not one.shown]
        lines = [f"Told {one.to}: {one.event}." for one in late if not one.error]
        lines += [f"NOT told {one.to} ({one.event}): {one.error}" for one in late if one.error]
        if needed and not any(one.event == "person needed" for one in self.outcomes if not one.error):
            why = f"{self.environment} has no notices in pipeline.yaml"
            if self.recipients:
                listed = any("person needed" in one.on for one in self.recipients)
                why = "every notice failed" if listed else f"nobody's list in {self.environment} has `person needed`"
            lines.append(f"{NOBODY} that a person is needed: {why}. Tell those who must know, now.")
        return lines

    # -- what an entry means

    def _called(self, entry: Entry) -> tuple[str, ...]:
        if entry.kind is Kind.RUN_STARTED:
            return ("started",) if entry.data.get("verb") in _TELLING else ()
        began = next((one for one in reversed(self._heard) if one.kind is Kind.RUN_STARTED), None)
        verb, outcome = str(began.data.get("verb")) if began else "", str(entry.data.get("outcome"))
        if outcome != "person needed" and verb not in (*_TELLING, *_DOORS):
            return ()
        events: tuple[str, ...] = _ENDINGS.get((verb, outcome), ("person needed",))
        back = next((one for one in reversed(self._heard) if one.kind is Kind.WAYBACK_STARTED), None)
        if verb == "rollback" and outcome == "done":
            if back is None:
                return ()  # it set a run aside that had changed nothing
            shut = {*shut_doors(self._heard)} - {SwitchName.TEST_MODE}
            events = ("reopened", *events) if not shut and self._was_closed(str(back.data.get("of_run"))) else events
        if outcome != "done" or verb == "deploy":
            return events
        doors = {one.data.get("door") for one in self._heard if one.kind in (Kind.DOOR_CLOSED, Kind.DOOR_OPENED)}
        if verb in _DOORS and not doors - {SwitchName.TEST_MODE}:
            events = ()  # money alone, or nothing that was not so before
        return (*events, "test mode") if SwitchName.TEST_MODE in doors else events

    @property
    def _over(self) -> bool:
        return any(entry.kind is Kind.RUN_FINISHED for entry in self._heard)

    def _was_closed(self, run: str) -> bool:
        """Whether that run, or one that it was to put right, had left the environment closed for a person."""
        entries = self._known()
        of_run = {one.run: str(one.data.get("of_run")) for one in entries if one.kind is Kind.WAYBACK_STARTED}
        closed, seen = {one.run for one in entries if one.kind is Kind.CLOSED}, set[str]()
        while run and run not in seen:
            if run in closed:
                return True
            seen.add(run)
            run = of_run.get(run, "")
        return False

    def _known(self) -> Sequence[Entry]:
        """The whole record, or where it cannot be read what was heard of this run."""
        try:
            return self._entries() or self._heard
        except TollgateError:
            return self._heard

    # -- telling one

    def _tell_late(self, now: datetime) -> None:
        """What earlier runs were about to tell when they were killed, told once to whoever is still named."""
        pending: dict[tuple[str, str, str], _Notice] = {}
        known = self._known() if self.recipients else ()
        ended = {entry.run: entry.at for entry in known if entry.kind is Kind.RUN_FINISHED}
        for entry in (entry for entry in known if entry.kind is Kind.NOTICE):
            run, event, to = entry.data.get("of_run") or entry.run, str(entry.data["event"]), str(entry.data["to"])
            pending.pop((run, event, to), None)
            one = next((one for one in self.recipients if one.name == to and event in one.on), None)
            if entry.data.get("ok") is None and run == entry.run and one is not None and event in _TOLD_LATE:
                pending[run, event, to] = _Notice(event, one, (event,), (), "", on_record=True, of_run=run)
        for (run, _, _), notice in pending.items():
            if run in ended and (now - ended[run]).total_seconds() > LATE_S:
                self._begin(replace(notice, own=[entry for entry in known if entry.run == run]))

    def _begin(self, notice: _Notice) -> None:
        """On record at once, so that a later run knows that it was begun, and sent beside the run."""
        self._keep(notice, None, "")
        self._tasks[asyncio.create_task(self._tell(notice))] = notice.to.name

    async def _tell(self, notice: _Notice) -> None:
        one = notice.to
        try:
            title, body = await asyncio.to_thread(self._words, notice.events, notice.own, notice.error)
            if notice.of_run:
                body += "\nTold late: that run was killed when it had ended, before it could tell."
            kind = _KINDS.get(notice.events[0], "info")
            address = one.address or (await one.late() if one.late else None)
            failure = await self._carrier.send(address, title, body, kind=kind) if address else one.unknown
        except asyncio.CancelledError:
            failure = _GIVEN_UP
        except Exception as bug:  # telling never decides a run
            failure = f"a bug of Tollgate: {type(bug).__name__}"
        self._keep(notice, not failure, failure)

    def _keep(self, notice: _Notice, ok: bool | None, error: str) -> None:
        data = {"event": notice.event, "to": notice.to.name, "ok": ok, "error": error}
        data |= {"of_run": notice.of_run} if notice.of_run else {}
        if ok is not None:
            shown = notice.on_record and not self._over
            self.outcomes.append(Outcome(story.notice_of(data), notice.to.name, error, shown))
        if notice.on_record and self._record is not None:
            try:
                self._record(Kind.NOTICE, **data)
            except TollgateError:
                return  # whatever keeps the journal from being written has ended the run by itself, or will


def _is_of(entry: Entry, event: str, to: str) -> bool:
    return entry.kind is Kind.NOTICE and (entry.data.get("event"), entry.data.get("to")) == (event, to)
