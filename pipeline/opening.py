"""The verb open: what persons closed is opened, where what it lets in to is known to be good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.closing import ASK, OPEN, Done, as_stage, as_step
from pipeline.contracts import ReleaseId, ReleaseState, RestoreContext, SwitchName, SwitchOn
from pipeline.doors import as_data, who_is_let_in
from pipeline.errors import Exit, LeaseLost, PersonNeeded, Refused, TollgateError
from pipeline.events import Kind
from pipeline.interrupts import Interrupts
from pipeline.lease import Owner
from pipeline.plan import Plan
from pipeline.run_record import Outcome, ending_on_record, finish, holding, record_failure, start
from pipeline.session import Session
from pipeline.standing import open_runs

ORDER = (SwitchName.TEST_MODE, SwitchName.PAYMENTS_OFF, SwitchName.MAINTENANCE)
"""Pages come last: whoever is let in pays in the right mode."""

_MEANS = "a verified release serves, whole and ready"

Doors = Mapping[SwitchName, SwitchOn]


async def closed(session: Session) -> Doors:
    """The doors that are closed now, in the order in which they would be opened."""
    found = {door: await session.world.target.switches.read(door) for door in ORDER}
    return {door: value for door, value in found.items() if value is not None}


def refuse_unfinished(session: Session, doors: Doors) -> None:
    """Raises PersonNeeded while a run must be put right first, and for a door that a run closed."""
    env = session.environment
    remedy = f"`./inv rollback --env {env}` puts that right, and opens what it closed; then `./inv open --env {env}`."
    for one in open_runs(session.journal.entries()):
        if one.changed:
            raise PersonNeeded(f"run {one.run} ({one.verb}) was left unfinished, at {one.stands_at}", remedy)
    for door, value in doors.items():
        if value.run:
            raise PersonNeeded(f"{door.value} was closed by run {value.run}, since {value.since}: {value.why}", remedy)


async def reopen(session: Session, plan: Plan, owner: Owner, agreed: Doors, *, reason: str, done: Done) -> Outcome:
    """Opens exactly what was agreed to, and asks the service; where it does not let in, the doors are closed again.

    Raises LeaseHeld, PersonNeeded or Refused before anything is on record.
    """
    begun = session.world.clock.monotonic()
    with Interrupts(lambda line: session.recorder.show(OPEN, "signal", line)) as interrupts:
        async with holding(session, owner, OPEN) as lease:
            now = await closed(session)
            refuse_unfinished(session, {door: value for door, value in now.items() if door in agreed})
            if any(now.get(door) != value for door, value in agreed.items()):
                raise Refused(
                    f"the doors of {session.environment} changed while you were asked; nothing was opened",
                    "Look again with `./inv status`, and start again if it is still right.",
                )
            await _refuse_unknown(session)
            async with ending_on_record(session):
                start(session, plan, session.phase(), lease, reason=reason)
                left = {*now} - {*agreed}
                failure = await interrupts.until(_open(session, agreed, done, left=left))
                if failure is None:
                    told = f"{session.environment}: {', '.join(door.value for door in agreed)} off; {_MEANS}"
                    told += f"; still on: {', '.join(door.value for door in ORDER if door in left)}" if left else ""
                    return finish(session, Exit.DONE, told, "", begun)
                return await _shut_again(session, agreed, done, failure, begun)


async def _open(session: Session, doors: Doors, done: Done, *, left: set[SwitchName]) -> None:
    record = session.recorder.record
    with as_stage(session, record, OPEN):
        for door in (door for door in ORDER if door in doors):
            with as_step(session, record, OPEN, door.value):
                record(Kind.DOOR_OPENED, **as_data(door, doors[door]))
                await session.slot.guard()
                done.changed.append(door)
                await session.world.target.switches.write(door, None)
                done.stand[door] = None
        with as_step(session, record, OPEN, ASK):
            await _asked(session, doors, done, left=left)


async def _asked(session: Session, doors: Doors, done: Done, *, left: set[SwitchName]) -> None:
    """Raises PersonNeeded where the service does not let in; what another door keeps closed is not asked."""
    for door in done.changed:
        if door is not SwitchName.PAYMENTS_OFF or SwitchName.MAINTENANCE not in (*left, *doors):
            done.asked += await who_is_let_in(session, door, shut=False, pages_only=SwitchName.PAYMENTS_OFF in left)
    wrong = [str(one) for one in done.asked if not one.ok]
    if wrong:
        raise PersonNeeded(
            f"{session.environment} does not let customers in: {'; '.join(wrong)}",
            "Look at the service's own log and at the proxy in front of it; then open again.",
        )


async def _shut_again(session: Session, doors: Doors, done: Done, failure: BaseException, begun: float) -> Outcome:
    """Open and not known to be good is worse than closed: what was opened is closed as it was."""
    message, remedy = record_failure(session, failure)
    try:
        for door in reversed(done.changed):
            session.recorder.record(Kind.DOOR_CLOSED, **as_data(door, doors[door]))
            await session.slot.guard()
            await session.world.target.switches.write(door, doors[door])
            done.stand[door] = doors[door]
    except LeaseLost as lost:
        return finish(session, Exit.PERSON_NEEDED, f"{message}; {lost}", lost.remedy, begun)
    except TollgateError as error:
        told = f"{message}; it could not be closed again: {error}"
        return finish(session, Exit.PERSON_NEEDED, told, f"`./inv close --env {session.environment}`", begun)
    return finish(session, Exit.PERSON_NEEDED, f"{message}; it is closed as it was", remedy, begun)


async def _refuse_unknown(session: Session) -> None:
    """Raises Refused unless a verified release serves, whole, with its own settings, and says that it is ready."""
    env, target = session.environment, session.world.target
    live = await target.traffic.live()
    state = next((one.state for one in await target.releases.all() if one.id == live), None)
    if live is None or state is not ReleaseState.VERIFIED:
        raise Refused(
            f"nothing was opened: {live or 'no release'} is live in {env}"
            + (f", {state or 'without a record'} and not verified" if live else ""),
            f"`./inv rollback --env {env}` goes to the last verified release"
            if live
            else f"`./inv deploy --env {env}` or `./inv rollback --env {env}` makes one live.",
        )
    problems = await _differs(session, live) or await _not_ready(session, live)
    if problems:
        raise Refused(
            f"nothing was opened: {live} is live in {env}, and {'; '.join(problems)}",
            f"`./inv rollback --env {env}` restores and proves a release; then open.",
        )


async def _differs(session: Session, live: ReleaseId) -> Sequence[str]:
    """The live release's bytes and settings, read again as a way back confirms them."""
    context = RestoreContext(session.world.target, session.world.clock, session.who, "open")
    problems = []
    for name in ("release", "settings"):
        if (checkpoint := session.catalogue.checkpoints.get(name)) is None:
            continue
        found = await checkpoint.confirm(context, await checkpoint.capture(context))
        if not found.ok:
            problems.append(f"{name}: found {found.found}, expected {found.expected}")
    return problems


async def _not_ready(session: Session, live: ReleaseId) -> Sequence[str]:
    path = session.spec.contract.ready
    answer = await session.world.service.request("GET", path, timeout=5.0)
    if answer.status != 200:
        return [f"GET {path} answered {answer.status}: it is not ready"]
    release = answer.member("release")
    return [] if release == live else [f"GET {path} speaks of release {release!r}"]
