"""The doors of a service as people close them: a file each, read on every request, and a word on record before it.

A run opens only what it closed itself. What a person closed while it was at work is on record before the file is
written, so a run whose own write crossed theirs finds it there, and closes that door again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.contracts import SwitchName, SwitchOn
from pipeline.errors import ServiceError, TargetError
from pipeline.events import Entry, Kind
from pipeline.session import Session

MEANS: Mapping[SwitchName, str] = {
    SwitchName.MAINTENANCE: "pages and new payments answer 503; webhooks stay open",
    SwitchName.PAYMENTS_OFF: "new payments answer 503; pages and webhooks stay open",
    SwitchName.TEST_MODE: "new payments are made in the gateway's test mode: no money moves, nothing is activated",
}
"""What visitors meet while the door is closed."""

_ASKED = 10
_PAUSE_S = 0.2
_ANSWER_S = 5.0


def by_person(session: Session, why: str, *, proof: str = "") -> SwitchOn:
    """A door that only a person opens; `proof` is what may pass it while a run is at work."""
    since = session.world.clock.now().isoformat(timespec="seconds")
    return SwitchOn(session.redactor.text(session.who), session.redactor.text(why), since, proof)


def as_data(door: SwitchName, value: SwitchOn) -> dict[str, str]:
    """As it stands on record."""
    return {"door": door.value, "who": value.who, "why": value.why, "since": value.since}


@dataclass(frozen=True)
class Asked:
    """One question to the service, what came, and whether that is as it should be."""

    what: str
    answered: str
    ok: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.answered}"


async def who_is_let_in(session: Session, door: SwitchName, *, shut: bool, pages_only: bool = False) -> Sequence[Asked]:
    """Asks the service whether `door` is shut, or open. A request for nothing makes no payment, whoever answers it.

    `pages_only`: payments stay closed by another door, so they are not asked.
    """
    if door is SwitchName.TEST_MODE:
        said, told = await test_mode_said(session, wanted="on" if shut else "off")
        return [Asked("test mode", told, said in (("on",) if shut else ("off", _NOTHING)))]
    page = [await page_is(session, shut=shut)] if door is SwitchName.MAINTENANCE else []
    asks = not (pages_only and door is SwitchName.MAINTENANCE)
    return [*page, *([await _until(session, "POST", session.spec.contract.create, shut=shut)] if asks else [])]


async def page_is(session: Session, *, shut: bool) -> Asked:
    """What a visitor of the first page meets."""
    return await _until(session, "GET", "/", shut=shut)


async def webhooks_answer(session: Session) -> Asked:
    """An unsigned webhook is refused, which shows that the door of the gateway is open."""
    path = session.spec.contract.webhook
    try:
        answer = await session.world.service.post_webhook(b"{}", {})
    except ServiceError as error:
        return Asked(f"POST {path}", str(error), False)
    return (
        Asked(f"POST {path}", f"{answer.status}, webhooks answer", True)
        if answer.status < 500
        else Asked(f"POST {path}", f"{answer.status}, but webhooks must stay open", False)
    )


async def _until(session: Session, method: str, path: str, *, shut: bool) -> Asked:
    """Asked until it answers as it should, or long enough; shut is 503, open is anything below 500 but 429."""
    content = b"{}" if method == "POST" else None
    headers = {"Content-Type": "application/json"} if content else {}
    for left in reversed(range(_ASKED)):
        try:
            answer = await session.world.service.request(
                method, path, content=content, headers=headers, timeout=_ANSWER_S
            )
        except ServiceError as error:
            return Asked(f"{method} {path}", str(error), False)
        good = answer.status == 503 if shut else answer.status < 500 and answer.status != 429
        if good or not left:
            break
        await session.world.clock.sleep(_PAUSE_S)
    expected = "" if good else ", 503 is expected" if shut else ", it still does not let in"
    return Asked(f"{method} {path}", f"{answer.status}{expected}", good)


async def test_mode_on(session: Session, why: str, *, proof: str, serves: bool) -> None:
    """Turns test mode on, as a person's door, and asks the service whether it obeys (`serves`: there is one to ask).

    Raises TargetError where it does not, or nobody can tell.
    """
    switches = session.world.target.switches
    found = await switches.read(SwitchName.TEST_MODE)
    wanted = (
        replace(found, proof=proof) if found is not None and not found.run else by_person(session, why, proof=proof)
    )
    if found != wanted:
        session.recorder.record(Kind.DOOR_CLOSED, **as_data(SwitchName.TEST_MODE, wanted))
        await session.slot.guard()
        await switches.write(SwitchName.TEST_MODE, wanted)
    if await switches.read(SwitchName.TEST_MODE) != wanted:
        raise TargetError("the file test-mode is not what was written", "Look at shared/ in the target's folder.")
    said, told = await test_mode_said(session, wanted="on") if serves else ("on", "")
    if said != "on":
        raise TargetError(f"the service does not obey it, {told}", _REMEDY.format(env=session.environment))


_REMEDY = (
    "New payments would move money. Have the service obey the file test-mode (docs/service.md), or go on without: "
    "repeat without --test-mode, then `./inv open --env {env} --test-mode` takes the file away."
)
_NOTHING, _NO_ANSWER = "nothing", "no answer"
"""What a service may say of test mode beside `on` and `off`. One that says nothing of it has none to be opened from."""


async def test_mode_said(session: Session, *, wanted: str) -> tuple[str, str]:
    """What the service says of test mode, and the same in words for a person. Asked until it says `wanted`."""
    path = session.spec.contract.ready
    for left in reversed(range(_ASKED)):
        try:
            answer = await session.world.service.request("GET", path, timeout=_ANSWER_S)
            body = answer.json()
        except ServiceError as error:
            return _NO_ANSWER, str(error)
        said = body.get("test_mode") if isinstance(body, dict) else None
        if said == wanted or not left:
            break
        await session.world.clock.sleep(_PAUSE_S)
    if said in ("on", "off"):
        return said, said
    return _NOTHING, f"GET {path} answered {answer.status} without `test_mode`: on or off"


def closed_meanwhile(entries: Sequence[Entry], run: str) -> Mapping[SwitchName, SwitchOn]:
    """What people closed, and have not opened, since `run` or the runs that it puts right began. Pure."""
    chain = {run}
    for entry in reversed(entries):
        if entry.kind is Kind.WAYBACK_STARTED and entry.run in chain:
            chain.add(str(entry.data["of_run"]))
    first = next((entry.seq for entry in entries if entry.run in chain), 0)
    closed: dict[SwitchName, SwitchOn] = {}
    for entry in entries:
        if entry.kind not in (Kind.DOOR_CLOSED, Kind.DOOR_OPENED) or entry.seq < first:
            continue
        door = SwitchName(entry.data["door"])
        if entry.kind is Kind.DOOR_OPENED:
            closed.pop(door, None)
        else:
            closed[door] = SwitchOn(*(str(entry.data[name]) for name in ("who", "why", "since")))
    return closed


async def keep_closed(session: Session) -> None:
    """Closes again what a person closed while this run was writing the same file: theirs is on record."""
    switches = session.world.target.switches
    for door, value in closed_meanwhile(session.to_be_told(), session.recorder.run).items():
        found = await switches.read(door)
        if found is None or found.run:
            session.recorder.record(Kind.DOOR_CLOSED, **as_data(door, value))
            await session.slot.guard()
            await switches.write(door, value)
