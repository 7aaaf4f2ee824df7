"""What a rollback would do, on one screen, before it does anything: what is live, where it leads and why, each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from rich.cells import cell_len

from pipeline.contracts import (
    Captured,
    Check,
    Checkpoint,
    ReleaseId,
    ReleaseRecord,
    ReleaseState,
    Rereads,
    RestoreContext,
    SwitchName,
    SwitchOn,
    kind_of,
)
from pipeline.errors import TargetError
from pipeline.events import Entry, Kind
from pipeline.lease import LeaseInfo
from pipeline.plan import Plan, PlannedStep
from pipeline.rolling_back import Choice, Look, serving_since
from pipeline.takeover import Answer, Standing, standing
from pipeline.vouched import asked_when_verified
from pipeline.wayback import Armed, in_turn
from pipeline.words import NOT_RECORDED, count, fold, instant, one_line, printable

WIDTH = 80
_LABEL = 14
_TEST_MODE = SwitchName.TEST_MODE.value
_MOST = 2
"""Lines that one fact or step may fill, so that all fits a terminal of 24 lines; `--json` has all of it."""


@runtime_checkable
class InWords(Protocol):
    """What a checkpoint may offer, so that a person can read what restoring it will do."""

    def in_words(self, captured: Captured) -> str: ...


@dataclass(frozen=True)
class Vouched:
    """The proofs a release passed when it was verified: how many, when the last was judged, in which run."""

    proofs: int
    at: datetime
    run: str


@dataclass(frozen=True)
class Unfinished:
    run: str
    verb: str
    stands_at: str
    changed: bool
    closed: bool
    """It closed the environment and ended: a person is needed."""


@dataclass(frozen=True)
class Step:
    """One thing that will be done: `what` it is about, and what it `does`."""

    what: str
    does: str


@dataclass(frozen=True)
class Door:
    """A switch that is on now."""

    name: str
    who: str
    why: str
    since: str


@dataclass(frozen=True)
class Foreseen:
    """A rollback as it would go now. `live` None: closed, or unclear as `looked` says."""

    environment: str
    at: datetime
    live: ReleaseId | None
    live_state: ReleaseState | None
    live_since: datetime | None
    comes_up: bool
    looked: tuple[str, ...]
    doors: tuple[Door, ...]
    goes_back_to: ReleaseId | None
    because: str
    verified_at: datetime | None
    vouched: Vouched | None
    damaged: str
    """What is wrong with its files, so that going back to it would fail; '' where they are whole or were not read."""
    unfinished: tuple[Unfinished, ...]
    lease: LeaseInfo | None
    steps: tuple[Step, ...]
    proofs: tuple[str, ...]
    settles_only: bool
    """The unfinished run had changed nothing: it is set aside, and the live release is not touched."""
    only_tell: tuple[str, ...]
    """Proofs newer than the release: they are asked, and do not decide."""

    working_on: tuple[str, ...] = ()
    """The steps that run is in, by stage, as `watch: shoppers, watch.payment_success`."""
    met: Standing | None = None
    """What is done about the run that is at work here now; None when nobody is."""

    @property
    def held(self) -> bool:
        """Whether another run is at work here now."""
        return self.met is not None

    @property
    def refused(self) -> bool:
        """Whether a rollback is refused while that run is at work."""
        return self.met is not None and self.met.answer is Answer.REFUSED


async def foresee(
    look: Look,
    choice: Choice,
    plan: Plan,
    checks: Mapping[str, Check],
    lease: LeaseInfo | None,
    said: Sequence[str],
    *,
    record: str,
    read_all: bool = True,
) -> Foreseen:
    """Reads what the screen shows; changes nothing. `said` is what `choose` told while it looked.

    `record`: the journal of this environment, as the lease names it. `read_all`: every byte of the goal is read, which
    takes its time.
    """
    records = {one.id: one for one in await look.target.releases.all()}
    live, goal = records.get(choice.live or ReleaseId("")), records.get(choice.release or ReleaseId(""))
    proofs = [step for step in plan.stage("prove").steps if step.kind == "check"]
    asked = asked_when_verified(look.entries, choice.release) if choice.release else None
    switches = {name: await look.target.switches.read(name) for name in SwitchName}
    return Foreseen(
        environment=look.environment,
        at=look.clock.now(),
        live=choice.live,
        live_state=live.state if live else None,
        live_since=serving_since(look.entries, choice.live),
        comes_up=look.comes_up is not None,
        looked=tuple(said),
        doors=tuple(_door(name, switch) for name, switch in switches.items() if switch is not None),
        goes_back_to=choice.release,
        because=choice.why_that,
        verified_at=goal.since if goal and goal.state is ReleaseState.VERIFIED else None,
        vouched=vouched(look.entries, choice.release) if choice.release else None,
        damaged=await _damaged(look, choice.release) if read_all and choice.release else "",
        unfinished=tuple(
            Unfinished(one.run, one.verb, one.stands_at, one.changed, one.closed) for one in choice.unfinished
        ),
        lease=lease,
        steps=tuple(await _steps(look, choice, records, proofs)),
        proofs=() if choice.settles_only else tuple(step.name for step in proofs),
        settles_only=choice.settles_only,
        only_tell=() if choice.settles_only else tuple(_only_tell(proofs, asked, checks)),
        working_on=tuple(_open_steps(look.entries, lease.owner.run)) if lease else (),
        met=standing(lease, record),
    )


def _open_steps(entries: Sequence[Entry], run: str) -> Iterator[str]:
    """The steps of a run that began and did not end. Pure."""
    names = {Kind.STEP_STARTED: True, Kind.STEP_FINISHED: False}
    steps: dict[tuple[str, str], bool] = {}
    for entry in entries:
        if entry.run == run and entry.kind in names:
            steps[entry.data["stage"], entry.data["step"]] = names[entry.kind]
    left = [place for place, begun in steps.items() if begun]
    for stage in dict.fromkeys(stage for stage, _ in left):
        yield f"{stage}: {', '.join(step for of, step in left if of == stage)}"


async def _damaged(look: Look, release: ReleaseId) -> str:
    releases = look.target.releases
    if not isinstance(releases, Rereads):
        return ""
    try:
        await releases.reread(release)
    except TargetError as error:
        return str(error)
    return ""


def vouched(entries: Sequence[Entry], release: ReleaseId) -> Vouched | None:
    """The proofs of the run that last verified `release`; None when they are not on record. Pure."""
    verified = next((entry for entry in reversed(entries) if _verifies(entry, release)), None)
    if verified is None:
        return None
    asked = {
        entry.data["check"]: entry.at
        for entry in entries
        if entry.kind is Kind.FINDING and entry.run == verified.run and entry.seq < verified.seq
        if entry.data["stage"] == "prove"
    }
    return Vouched(len(asked), max(asked.values()), verified.run) if asked else None


def _verifies(entry: Entry, release: ReleaseId) -> bool:
    wanted = (release, ReleaseState.VERIFIED.value)
    return entry.kind is Kind.RELEASE_MARKED and (entry.data["release"], entry.data["state"]) == wanted


def _only_tell(
    proofs: Sequence[PlannedStep], asked: frozenset[str] | None, checks: Mapping[str, Check]
) -> Iterator[str]:
    """As the way back decides it: what nobody may accept decides always."""
    for step in proofs:
        if asked is not None and step.plugin not in asked and checks[step.plugin].acceptable:
            yield step.name


def _door(name: SwitchName, switch: SwitchOn) -> Door:
    return Door(name.value, switch.who, switch.why, switch.since)


# ---- what will be done, in its order -----------------------------------------------------------------------


_TESTS = Step("test mode", "on: new payments move no money until `./inv open`")


async def _steps(
    look: Look, choice: Choice, records: Mapping[ReleaseId, ReleaseRecord], proofs: Sequence[PlannedStep]
) -> list[Step]:
    """The way back, in words, in the order of pipeline.wayback."""
    if choice.settles_only:
        aside = [Step("run", f"{one.run} is set aside; what it staged is marked bad") for one in choice.unfinished]
        return [*aside, *([_TESTS] if choice.test_mode else [])]
    shut, doors = in_turn(look.checkpoints, await _with_doors(look, choice.armed))
    steps = [Step("close", "no new payments; webhooks stay open")]
    if choice.bad is not None and choice.bad in records and records[choice.bad].state is not ReleaseState.BAD:
        steps.append(Step("mark", f"{choice.bad} becomes bad; nothing goes back to it"))
    steps += [_restoring(look.checkpoints[kind_of(one.name)], one) for one in shut]
    steps += [_TESTS] if choice.test_mode else []
    since = f"since {instant(choice.since)}"
    if choice.release is None:
        steps.append(Step("reconcile", f"{since}: what was paid is listed for the next release"))
    else:
        names = ", ".join(step.name for step in proofs)
        steps.append(Step("prove", f"{count(len(proofs), 'proof')}: {names}" if proofs else "no proof is planned"))
        steps.append(Step("reconcile", f"{since}; lost webhooks are sent again"))
    left = [one for one in doors if one.name != _TEST_MODE or not choice.test_mode]
    return steps + [_restoring(look.checkpoints[kind_of(one.name)], one) for one in left]


async def _with_doors(look: Look, armed: Sequence[Armed]) -> list[Armed]:
    """A door that no run had captured is put back as it stands now."""
    context = RestoreContext(look.target, look.clock, look.who, "rollback")
    known = {one.name for one in armed}
    missing = [
        Armed(name, await checkpoint.capture(context))
        for name, checkpoint in look.checkpoints.items()
        if checkpoint.reopens and name not in known
    ]
    return [*armed, *missing]


def _restoring(checkpoint: Checkpoint, armed: Armed) -> Step:
    try:
        words = checkpoint.in_words(armed.captured) if isinstance(checkpoint, InWords) else ""
    except (KeyError, TypeError):  # captured by another version
        words = ""
    return Step(armed.name, words or "put back as it was captured")


# ---- the screen --------------------------------------------------------------------------------------------


def screen(seen: Foreseen, width: int = WIDTH) -> str:
    """The rollback for a person, in lines of at most `width` cells."""
    lines = fold(f"Rollback of {seen.environment}", width)
    for label, text in _facts(seen):
        lines += _labelled(label, text, width, _LABEL)
    lines += ["", "What will be done, in this order:"]
    widest = max((cell_len(step.what) for step in seen.steps), default=0)
    for number, step in enumerate(seen.steps, 1):
        lines += _labelled(f" {number}. {step.what}", step.does, width, widest + 6)
    if not seen.settles_only:
        lines += fold("Each is confirmed, or it stays closed and says what a person must do (exit 4).", width)
    return "\n".join(lines) + "\n"


def _facts(seen: Foreseen) -> Iterator[tuple[str, str]]:
    yield from _others(seen)
    yield "live", _live(seen)
    yield from (("", said) for said in seen.looked)
    if seen.live is not None:
        yield "since", _when(seen.live_since, seen.at) if seen.live_since else NOT_RECORDED
    for door in seen.doors:
        yield door.name, f"on since {_moment(door.since)} by {door.who}: {door.why}"
    if seen.settles_only:
        yield "does", "sets that run aside; what is live stays as it is"
        return
    yield "goes back to", seen.goes_back_to or "no release: none was live, so it stays closed"
    yield "because", seen.because
    if seen.goes_back_to is not None:
        yield "verified", _when(seen.verified_at, seen.at) if seen.verified_at else "NOT ANY MORE: its state changed"
        yield "its proofs", _proofs(seen)
    if seen.damaged:
        yield "DAMAGED", f"going back to it would fail, name another with --to: {seen.damaged}"


def _others(seen: Foreseen) -> Iterator[tuple[str, str]]:
    """Who is at work here, and what others left behind."""
    owner = seen.lease.owner if seen.lease else None
    if seen.lease is not None and seen.met is not None:
        yield from _at_work(seen, seen.lease, seen.met)
    elif owner is not None and all(one.run != owner.run for one in seen.unfinished):
        yield "lease", f"left behind by {owner}; it is taken over"
    for one in seen.unfinished:
        if not seen.held or owner is None or owner.run != one.run:
            stands = "closed, a person is needed" if one.closed else f"it stands at {one.stands_at}"
            yield "unfinished", f"{one.verb} {one.run}; {stands}"


def _at_work(seen: Foreseen, lease: LeaseInfo, met: Standing) -> Iterator[tuple[str, str]]:
    """Who, since when and in which step; and what becomes of that run."""
    yield "AT WORK NOW", f"{lease.claim.verb or 'a command'} since {instant(lease.taken_at)}: {lease.owner}"
    if seen.working_on:
        yield "", f"In {'; '.join(seen.working_on)}"
    match met.answer:
        case Answer.STOPPED:
            yield "", "It is stopped first, and does not go back by itself: this does."
        case Answer.WAITED_FOR:
            yield "", "It is putting things back by itself: it is waited for first."
        case Answer.REFUSED:
            yield "", f"Until it ends a rollback is refused (exit 5): {met.why}"


def _live(seen: Foreseen) -> str:
    if seen.live is None:
        return "unclear" if seen.looked else "nothing: the service is closed"
    states = {None: "without a record", ReleaseState.LIVE: "not verified"}
    state = states.get(seen.live_state, seen.live_state)
    return f"{seen.live}, {state}" + ("; it does not run now and is started first" if seen.comes_up else "")


def _proofs(seen: Foreseen) -> str:
    newer = ", ".join(seen.only_tell)
    told = f"; newer than it, so they do not decide: {newer}" if newer else ""
    if seen.vouched is None:
        return f"{NOT_RECORDED} here{told}"
    return f"{seen.vouched.proofs} passed {instant(seen.vouched.at)} in run {seen.vouched.run}{told}"


def _when(at: datetime, now: datetime) -> str:
    return f"{instant(at)}, {_ago(at, now)}"


def _moment(text: str) -> str:
    try:
        return instant(datetime.fromisoformat(text))
    except ValueError:
        return text or "an unknown time"


_UNITS = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def _ago(then: datetime, now: datetime) -> str:
    """How long ago, in its largest unit and the next: `2 days 3 h ago`, `46 min ago`."""
    rest = round((now - then).total_seconds())
    if rest < 0:
        return "in the future: a clock is wrong"
    numbers = []
    for name, unit in _UNITS:
        number, rest = divmod(rest, unit)
        numbers.append((number, count(number, name) if name == "day" else f"{number} {name}"))
    first = next((index for index, (number, _) in enumerate(numbers) if number), len(numbers) - 1)
    return " ".join([numbers[first][1], *(told for number, told in numbers[first + 1 : first + 2] if number)]) + " ago"


def _labelled(label: str, text: str, width: int, label_width: int) -> list[str]:
    """A label with its text folded beside it, cut where it would fill more lines than one fact may."""
    room = max(width - label_width, 20)
    folded = fold(one_line(printable(text)), room)
    if len(folded) > _MOST:
        folded = [*folded[: _MOST - 1], *fold(folded[_MOST - 1], room - 4)[:1]]
        folded[-1] += " ..."
    labels = [label, *[""] * (len(folded) - 1)]
    return [f"{name:<{label_width}}{line}".rstrip() for name, line in zip(labels, folded, strict=True)]


def as_data(seen: Foreseen) -> dict[str, Any]:
    """The same as one JSON document."""
    data = {name: getattr(seen, name) for name in Foreseen.__dataclass_fields__}
    return {"dry_run": True, **data, "another_run_at_work": seen.held}
