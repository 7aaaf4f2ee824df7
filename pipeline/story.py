"""What happened in a run, read from its journal entries: pure and total.

Any prefix of a run's entries gives a report that says where the run stood. What the entries do not say is None, and is
shown as "not recorded"; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from pipeline.accepting import Acceptance, State
from pipeline.contracts import SwitchName
from pipeline.events import Entry, Kind
from pipeline.quickness import Quickness, quickness
from pipeline.shut_doors import shut_doors
from pipeline.verdict import Place, Verdict
from pipeline.words import sentence

NO_END = "no end"
"""The mark of a step that began and whose end is not recorded."""

ACCEPTED = "ACCEPTED"
"""The mark of a finding that does not pass and promotes all the same, because somebody answers for it."""

JUDGED = ("done", "failed", "skipped")
"""The outcomes of a step that its verdict says better; a check that was cancelled or timed out has no last word."""

NOT_CLOSED = "not closed"
"""How `Kind.CLOSED` says that not even closing worked."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Outcome(StrEnum):
    """Every way a run can end."""

    DONE = "done"
    REFUSED = "refused"
    RESTORED = "restored"
    PERSON_NEEDED = "person needed"
    TAKEN_OVER = "taken over"
    INTERRUPTED = "interrupted"
    BUG = "bug"


class Phase(StrEnum):
    """A stage that runs again after the way back began proves another release than before."""

    FORWARD = "forward"
    WAY_BACK = "way back"


class ServiceState(StrEnum):
    """What the record says of the service at its end."""

    VERIFIED = "verified"
    NOTHING_LIVE = "nothing live"
    CLOSED = "closed"
    NOT_CLOSED = "not closed"
    UNCHANGED = "unchanged"
    UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Resumed:
    """That a run went on after it had stopped: when, by whom, where it stood."""

    at: datetime
    who: str
    machine: str
    reason: str


@dataclass(frozen=True)
class Header:
    run: str | None = None
    verb: str | None = None
    service: str | None = None
    environment: str | None = None
    release: str | None = None
    previous: str | None = None
    who: str | None = None
    machine: str | None = None
    reason: str | None = None
    spec_digest: str | None = None
    questionnaire: str | None = None
    resumed: tuple[Resumed, ...] = ()
    lease_token: int | None = None
    started: datetime | None = None
    last_entry: datetime | None = None


@dataclass(frozen=True)
class FindingLine:
    """One judgement, and in which step it was made."""

    phase: Phase
    stage: str
    step: str
    check: str
    verdict: Verdict
    reason: str
    remedy: str
    evidence: Mapping[str, Any]
    rows: tuple[str, ...]
    pci: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    accepted: Acceptance | None = None

    @property
    def mark(self) -> str:
        """One word for it: the verdict, or that somebody answers for it."""
        return ACCEPTED if self.accepted and self.accepted.counts else self.verdict.value


@dataclass(frozen=True)
class StepLine:
    """One step, over all its attempts. `offset_s` counts from the start of the run; None `outcome`: no end recorded.

    Of a proof on the way back only its finding is on record, so that its times are not.
    """

    name: str
    does: str
    offset_s: float
    took_s: float | None
    limit_s: float | None
    attempts: int
    outcome: str | None
    error: str
    remedy: str
    armed: tuple[str, ...]
    finding: FindingLine | None

    @property
    def mark(self) -> str:
        """One word for how it went: the mark of a finding that came to its end, else the outcome."""
        if self.outcome is None:
            return NO_END
        if self.finding and self.outcome in JUDGED:
            return self.finding.mark
        return self.outcome


@dataclass(frozen=True)
class StageLine:
    """A stage. Of the proofs on the way back neither a start nor an outcome is on record: `begun` is False."""

    name: str
    phase: Phase
    offset_s: float
    took_s: float | None
    outcome: str | None
    begun: bool
    steps: tuple[StepLine, ...]


@dataclass(frozen=True)
class FirstError:
    """What went wrong first; nothing that followed hides it."""

    stage: str
    step: str
    error: str
    remedy: str
    error_class: str = ""
    """As docs/errors.md has it, '' where it is not on record."""

    @property
    def place(self) -> str:
        return " / ".join(part for part in (self.stage, self.step) if part)

    @property
    def of_class(self) -> str:
        return f" ({self.error_class})" if self.error_class else ""

    @property
    def told(self) -> str:
        return f"{self.place}: {self.error}" if self.place else self.error

    def named_in(self, text: str) -> str:
        """The text with this error named by its step instead of told again."""
        if not self.step or not self.error:
            return text
        whole = rf"(?:^|{re.escape(self.step)}: ){re.escape(self.error)}(?=$|[;,.])"
        return re.sub(whole, lambda _: f"{self.step} failed", text)


@dataclass(frozen=True)
class RestoredLine:
    """A checkpoint on the way back. `ok` None: whether it was confirmed is not recorded."""

    name: str
    begun: bool
    ok: bool | None
    found: str
    expected: str
    error: str
    took_s: float | None


@dataclass(frozen=True)
class Mismatch:
    reference: str
    found: str
    expected: str


@dataclass(frozen=True)
class Reconciliation:
    ok: bool
    paid: int | None
    activated: int | None
    repaired: tuple[str, ...]
    mismatches: tuple[Mismatch, ...]
    error: str


@dataclass(frozen=True)
class WayBack:
    """How the run went back. Times count from the start of the run."""

    why: str
    release: str | None
    of_run: str | None
    offset_s: float
    payments_closed_s: float | None
    checkpoints: tuple[RestoredLine, ...]
    reconciled: Reconciliation | None
    reopened_s: float | None
    reopened_release: str | None
    reopened_took_s: float | None
    quick: Quickness


@dataclass(frozen=True)
class Closed:
    why: str
    how: str
    manual: tuple[str, ...]


@dataclass(frozen=True)
class WatchPoint:
    """Payments that ended up to `t_s` seconds after the watch began, counted from its beginning."""

    t_s: float
    success: float
    failure: float
    error: float


@dataclass(frozen=True)
class Watch:
    """The series of one watching check. `target` and `alert` are shares of 1."""

    check: str
    points: tuple[WatchPoint, ...]
    target: float | None
    alert: float | None


@dataclass(frozen=True)
class SmokePayment:
    """A payment of our own that the run spent money on, with what its proofs saw of it.

    `link` and `mode` are '' where no finding tells them; `moments` are what happened, in ms since the link was shown.
    """

    reference: str
    cents: int | None
    cap_cents: int | None
    mode: str
    link: str
    moments: tuple[tuple[str, float], ...]

    @property
    def for_a_person(self) -> bool:
        """Whether a person was to pay it, by a link that can be scanned."""
        return self.mode == "operator" and bool(self.link)

    @property
    def unseen(self) -> bool:
        """Whether the run ended before it was known what became of it."""
        return not self.mode and not self.moments


@dataclass(frozen=True)
class Live:
    """What serves at the end of the record."""

    state: ServiceState
    release: str | None
    sentence: str


@dataclass(frozen=True)
class Answers:
    """What a person asks first: what happened, is the service fine now, what must I do."""

    headline: str
    happened: str
    service: str
    todo: tuple[str, ...]


@dataclass(frozen=True)
class RunReport:
    """A run as its record tells it. `head` is the hash of the last of `entries` entries: the chain up to here."""

    header: Header = Header()
    outcome: Outcome | None = None
    exit_code: int | None = None
    summary: str = ""
    took_s: float | None = None
    answers: Answers = Answers("", "", "", ())
    stages: tuple[StageLine, ...] = ()
    not_reached: tuple[str, ...] = ()
    findings: tuple[FindingLine, ...] = ()
    first_error: FirstError | None = None
    way_back: WayBack | None = None
    closed: Closed | None = None
    superseded_by: str | None = None
    watch: tuple[Watch, ...] = ()
    smoke: tuple[SmokePayment, ...] = ()
    live: Live = Live(ServiceState.UNKNOWN, None, "")
    told: str = ""
    """Who was told by a notice; '' when that is not asked: a run that no notice is about, and needs nobody."""
    entries: int = 0
    head: str | None = None
    head_seq: int | None = None

    @property
    def blocking(self) -> tuple[FindingLine, ...]:
        """What does not promote."""
        return tuple(finding for finding in self.last_words if not finding.verdict.promotes)

    @property
    def last_words(self) -> tuple[FindingLine, ...]:
        """The finding of each step. An attempt that was followed by another has no last word."""
        return tuple({(finding.phase, finding.stage, finding.step): finding for finding in self.findings}.values())

    @property
    def accepted(self) -> tuple[FindingLine, ...]:
        """What somebody answers for under `accepted`, whether it counts or not."""
        return tuple(finding for finding in self.last_words if finding.accepted)

    @property
    def first_finding(self) -> FindingLine | None:
        """The finding that is the first error, where a check found it."""
        if self.first_error is None:
            return None
        place = (self.first_error.stage, self.first_error.step)
        return next((finding for finding in self.blocking if (finding.stage, finding.step) == place), None)

    @property
    def recommendations(self) -> tuple[FindingLine, ...]:
        """Advice; what is accepted stands by itself."""
        return tuple(finding for finding in self.last_words if finding.mark == Verdict.ADVICE)

    @property
    def pci(self) -> Mapping[str, tuple[FindingLine, ...]]:
        """Numbers of PCI DSS v4.0.1 in their order, each with the findings that are evidence for it."""
        findings: dict[str, list[FindingLine]] = {}
        for finding in self.last_words:
            for number in dict.fromkeys(finding.pci):
                findings.setdefault(number, []).append(finding)
        return {number: tuple(findings[number]) for number in sorted(findings, key=_numbered)}


def _numbered(number: str) -> list[tuple[int, str]]:
    """A key by which `10.2` stands after `6.4.3`, whatever is recorded."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in number.split(".")]


def build(entries: Sequence[Entry]) -> RunReport:
    """The report of the run the first entry belongs to. Of other runs only this is read: which one put it right."""
    run = entries[0].run if entries else None
    own = [entry for entry in entries if entry.run == run]
    facts = _Facts(own)
    header = _header(facts)
    finished = facts.last(Kind.RUN_FINISHED)
    exit_code = _number(finished, "exit_code")
    stages = _stages(facts)
    findings = tuple(facts.findings)
    report = RunReport(
        header=header,
        outcome=_outcome(finished),
        exit_code=None if exit_code is None else int(exit_code),
        summary=_text(finished, "summary"),
        took_s=_took(facts, finished),
        stages=stages,
        not_reached=_not_reached(facts, stages),
        findings=findings,
        first_error=_first_error(facts, stages),
        way_back=_way_back(facts),
        closed=_closed(facts),
        superseded_by=_superseded_by(entries, run),
        watch=_watch(findings),
        smoke=_smoke(facts, findings),
        live=_live(facts, header),
        told=who_was_told(own, needed=_outcome(finished) is Outcome.PERSON_NEEDED),
        entries=len(own),
        head=own[-1].hash if own else None,
        head_seq=own[-1].seq if own else None,
    )
    return replace(report, answers=_answers(report))


# ---- the entries, as sections ask for them -----------------------------------------------------------------


class _Facts:
    """The entries of one run with what several sections need: the phase of each, its offset, the findings.

    Offsets leave out the time in which a run that was resumed stood still.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.start = entries[0].at if entries else None
        self.phased = _phased(entries)
        self._pauses = [
            (entry.at, (entry.at - before.at).total_seconds())
            for before, entry in pairwise(entries)
            if entry.kind is Kind.RUN_STARTED
        ]
        self.findings = [_finding(phase, entry) for phase, entry in self.phased if entry.kind is Kind.FINDING]

    def all(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind is kind]

    def last(self, kind: Kind) -> Mapping[str, Any]:
        """The data of the last entry of a kind; empty when there is none."""
        found = self.all(kind)
        return found[-1].data if found else NOTHING

    def offset(self, entry: Entry) -> float:
        paused = sum(seconds for until, seconds in self._pauses if until <= entry.at)
        return (entry.at - self.start).total_seconds() - paused if self.start else 0.0


def _phased(entries: Sequence[Entry]) -> list[tuple[Phase, Entry]]:
    """Each entry with its phase. Steps run side by side: what began before the way back ends in its own phase."""
    phased = []
    phase = Phase.FORWARD
    begun: set[tuple[str, str]] = set()
    for entry in entries:
        place = (_text(entry.data, "stage"), _text(entry.data, "step"))
        if entry.kind is Kind.WAYBACK_STARTED:
            phase = Phase.WAY_BACK
        if entry.kind in (Kind.STAGE_STARTED, Kind.STEP_STARTED) and phase is Phase.FORWARD:
            begun.add(place)
        ends = entry.kind in (Kind.STAGE_FINISHED, Kind.STEP_FINISHED)
        phased.append((Phase.FORWARD if ends and place in begun else phase, entry))
        if ends:
            begun.discard(place)
    return phased


def _header(facts: _Facts) -> Header:
    starts = facts.all(Kind.RUN_STARTED)
    first = starts[0].data if starts else NOTHING
    token = _number(facts.last(Kind.LEASE_TAKEN), "token")
    if not facts.entries:
        return Header()
    return Header(
        run=facts.entries[0].run,
        verb=_text(first, "verb") or None,
        service=_text(first, "service") or None,
        environment=_text(first, "environment") or None,
        release=_text(first, "release") or None,
        previous=_text(first, "previous") or None,
        who=_text(first, "who") or None,
        machine=_text(first, "machine") or None,
        reason=_text(first, "reason") or None,
        spec_digest=_text(first, "spec_digest") or None,
        questionnaire=_text(first, "questionnaire") or None,
        resumed=tuple(
            Resumed(one.at, _text(one.data, "who"), _text(one.data, "machine"), _text(one.data, "reason"))
            for one in starts
            if _text(one.data, "resumes")
        ),
        lease_token=None if token is None else int(token),
        started=facts.start,
        last_entry=facts.entries[-1].at,
    )


def _took(facts: _Facts, finished: Mapping[str, Any]) -> float | None:
    """Without the time in which it stood still. A resumed run's own count begins where it was resumed."""
    if finished and len(facts.all(Kind.RUN_STARTED)) > 1:
        return facts.offset(facts.all(Kind.RUN_FINISHED)[-1])
    return _seconds(finished, "took_s")


def _outcome(finished: Mapping[str, Any]) -> Outcome | None:
    try:
        return Outcome(_text(finished, "outcome"))
    except ValueError:
        return None


def _finding(phase: Phase, entry: Entry) -> FindingLine:
    data = entry.data
    try:
        verdict = Verdict(_text(data, "verdict"))
    except ValueError:
        verdict = Verdict.ERROR
    evidence = data.get("evidence")
    return FindingLine(
        phase=phase,
        stage=_text(data, "stage"),
        step=_text(data, "step"),
        check=_text(data, "check") or _text(data, "step"),
        verdict=verdict,
        reason=_text(data, "reason"),
        remedy=_text(data, "remedy"),
        evidence=evidence if isinstance(evidence, Mapping) else NOTHING,
        rows=tuple(str(row) for row in _list(data, "rows")),
        pci=tuple(str(number) for number in _list(data, "pci")),
        places=tuple(_place(place) for place in _list(data, "places") if isinstance(place, Mapping)),
        accepted=_acceptance(data.get("accepted")),
    )


def _place(data: Mapping[str, Any]) -> Place:
    return Place(_text(data, "file"), max(int(_number(data, "line") or 1), 1), _text(data, "what"))


def _acceptance(data: object) -> Acceptance | None:
    """None where nobody answers for it, or what is recorded of it cannot be read."""
    if not isinstance(data, Mapping):
        return None
    try:
        found, state = Verdict(_text(data, "verdict")), State(_text(data, "state"))
    except ValueError:
        return None
    return Acceptance(_text(data, "by"), _text(data, "reason"), _text(data, "until"), found, state)


_OF_A_STAGE = frozenset(
    {
        Kind.STAGE_STARTED,
        Kind.STEP_STARTED,
        Kind.CHECKPOINT_ARMED,
        Kind.FINDING,
        Kind.STEP_FINISHED,
        Kind.STAGE_FINISHED,
    }
)


def _stages(facts: _Facts) -> tuple[StageLine, ...]:
    blocks: dict[tuple[Phase, str], list[Entry]] = {}
    for phase, entry in facts.phased:
        if entry.kind in _OF_A_STAGE:
            blocks.setdefault((phase, _text(entry.data, "stage")), []).append(entry)
    lines = []
    for (phase, name), entries in blocks.items():
        end = next((entry for entry in reversed(entries) if entry.kind is Kind.STAGE_FINISHED), None)
        data = end.data if end else NOTHING
        lines.append(
            StageLine(
                name=name,
                phase=phase,
                offset_s=facts.offset(entries[0]),
                took_s=_stage_took(facts, entries, data),
                outcome=_text(data, "outcome") or None,
                begun=any(entry.kind in (Kind.STAGE_STARTED, Kind.STEP_STARTED) for entry in entries),
                steps=_steps(facts, phase, entries),
            )
        )
    return tuple(lines)


def _stage_took(facts: _Facts, entries: Sequence[Entry], data: Mapping[str, Any]) -> float | None:
    """What a stage took, altogether when a resumed run began it again; None without an end."""
    starts = [index for index, entry in enumerate(entries) if entry.kind is Kind.STAGE_STARTED]
    if len(starts) < 2 or not data:
        return _seconds(data, "took_s")
    parts = [entries[begin:end] for begin, end in pairwise([*starts, len(entries)])]
    return sum(facts.offset(part[-1]) - facts.offset(part[0]) for part in parts)


def _steps(facts: _Facts, phase: Phase, entries: Sequence[Entry]) -> tuple[StepLine, ...]:
    by_step: dict[str, list[Entry]] = {}
    for entry in entries:
        if step := _text(entry.data, "step"):
            by_step.setdefault(step, []).append(entry)
    return tuple(_step(facts, phase, name, of_step) for name, of_step in by_step.items())


def _step(facts: _Facts, phase: Phase, name: str, entries: Sequence[Entry]) -> StepLine:
    starts = [entry for entry in entries if entry.kind is Kind.STEP_STARTED]
    last_start = starts[-1].data if starts else NOTHING
    since_start = entries[entries.index(starts[-1]) :] if starts else entries
    end = next((entry for entry in since_start if entry.kind is Kind.STEP_FINISHED), None)
    data = end.data if end else NOTHING
    findings = [_finding(phase, entry) for entry in since_start if entry.kind is Kind.FINDING]
    begun = entries[0]
    spread = facts.offset(end) - facts.offset(begun) if end else None
    return StepLine(
        name=name,
        does=_text(last_start, "does"),
        offset_s=facts.offset(begun),
        took_s=spread if len(starts) > 1 else _seconds(data, "took_s", spread),
        limit_s=_seconds(last_start, "limit_s"),
        attempts=max(len(starts), int(_number(last_start, "attempt") or 0)),
        outcome=_text(data, "outcome") or _outcome_of(findings if not starts else []),
        error=_text(data, "error"),
        remedy=_text(data, "remedy"),
        armed=tuple(_text(entry.data, "name") for entry in entries if entry.kind is Kind.CHECKPOINT_ARMED),
        finding=findings[-1] if findings else None,
    )


def _outcome_of(findings: Sequence[FindingLine]) -> str | None:
    """How a step ended of which only findings are on record."""
    if not findings:
        return None
    return "done" if findings[-1].verdict.promotes else "failed"


def _not_reached(facts: _Facts, stages: Iterable[StageLine]) -> tuple[str, ...]:
    plan = facts.last(Kind.RUN_STARTED).get("plan")
    planned = _list(plan, "stages") if isinstance(plan, Mapping) else []
    names = [_text(stage, "name") for stage in planned if isinstance(stage, Mapping)]
    going_back = _text(facts.last(Kind.RUN_STARTED), "verb") == "rollback"
    reached = {stage.name for stage in stages if going_back or stage.phase is Phase.FORWARD}
    return tuple(name for name in names if name not in reached)


def _first_error(facts: _Facts, stages: Sequence[StageLine]) -> FirstError | None:
    if recorded := facts.all(Kind.RUN_FAILED):
        data = recorded[0].data
        where = _text(data, "step")
        error = _text(data, "error").removeprefix(f"{where}: ")
        return FirstError(_text(data, "stage"), where, error, _text(data, "remedy"), _text(data, "error_class"))
    if _outcome(facts.last(Kind.RUN_FINISHED)) is Outcome.DONE:
        return None
    steps = [(stage, step) for stage in stages for step in stage.steps]
    for stage, step in steps:
        if step.finding and not step.finding.verdict.promotes and step.outcome in (None, *JUDGED):
            return FirstError(stage.name, step.name, step.finding.reason, step.finding.remedy)
    for stage, step in steps:
        if step.outcome in ("failed", "timed out"):
            error = step.error.removeprefix(f"{step.name}: ")
            return FirstError(stage.name, step.name, error or step.outcome, step.remedy)
    return None


def _way_back(facts: _Facts) -> WayBack | None:
    starts = facts.all(Kind.WAYBACK_STARTED)
    if not starts:
        return None
    data = starts[-1].data
    closed = facts.all(Kind.PAYMENTS_CLOSED)
    reopened = facts.all(Kind.REOPENED)
    return WayBack(
        why=_text(data, "why"),
        release=_text(data, "release") or None,
        of_run=_text(data, "of_run") or None,
        offset_s=facts.offset(starts[0]),
        payments_closed_s=facts.offset(closed[0]) if closed else None,
        checkpoints=_restored(facts, data),
        reconciled=_reconciled(facts),
        reopened_s=facts.offset(reopened[-1]) if reopened else None,
        reopened_release=_text(reopened[-1].data, "release") or None if reopened else None,
        reopened_took_s=_seconds(reopened[-1].data, "took_s") if reopened else None,
        quick=quickness(facts.entries),
    )


def _restored(facts: _Facts, started: Mapping[str, Any]) -> tuple[RestoredLine, ...]:
    """Every checkpoint the way back set out to restore, in the order it was tried, then those never tried."""
    begun = [_text(entry.data, "name") for entry in facts.all(Kind.CHECKPOINT_RESTORING)]
    confirmed = {_text(entry.data, "name"): entry.data for entry in facts.all(Kind.CHECKPOINT_CONFIRMED)}
    announced = [_text(point, "name") for point in _list(started, "checkpoints") if isinstance(point, Mapping)]
    lines = []
    for name in dict.fromkeys([*begun, *confirmed, *reversed(announced)]):
        data = confirmed.get(name, NOTHING)
        ok = data.get("ok")
        lines.append(
            RestoredLine(
                name=name,
                begun=name in begun,
                ok=ok if isinstance(ok, bool) else None,
                found=_text(data, "found"),
                expected=_text(data, "expected"),
                error=_text(data, "error"),
                took_s=_seconds(data, "took_s"),
            )
        )
    return tuple(lines)


def _reconciled(facts: _Facts) -> Reconciliation | None:
    data = facts.last(Kind.RECONCILED)
    if not data:
        return None
    paid, activated = _number(data, "paid"), _number(data, "activated")
    return Reconciliation(
        ok=data.get("ok") is True,
        paid=None if paid is None else int(paid),
        activated=None if activated is None else int(activated),
        repaired=tuple(str(reference) for reference in _list(data, "repaired")),
        mismatches=tuple(
            Mismatch(_text(one, "reference"), _text(one, "found"), _text(one, "expected"))
            for one in _list(data, "mismatches")
            if isinstance(one, Mapping)
        ),
        error=_text(data, "error"),
    )


def _closed(facts: _Facts) -> Closed | None:
    data = facts.last(Kind.CLOSED)
    if not data:
        return None
    return Closed(_text(data, "why"), _text(data, "how"), tuple(str(step) for step in _list(data, "manual")))


def _superseded_by(entries: Iterable[Entry], run: str | None) -> str | None:
    for entry in entries:
        if entry.kind is Kind.RUN_SUPERSEDED and _text(entry.data, "of_run") == run:
            return _text(entry.data, "by_run") or None
    return None


def _watch(findings: Iterable[FindingLine]) -> tuple[Watch, ...]:
    watches = []
    for finding in findings:
        points = tuple(
            WatchPoint(
                float(_number(point, "t_s") or 0),
                float(_number(point, "success") or 0),
                float(_number(point, "failure") or 0),
                float(_number(point, "error") or 0),
            )
            for point in _list(finding.evidence, "series")
            if isinstance(point, Mapping)
        )
        if points:
            target, alert = _number(finding.evidence, "target"), _number(finding.evidence, "alert")
            watches.append(Watch(finding.check, points, target, alert))
    return tuple(watches)


def _smoke(facts: _Facts, findings: Iterable[FindingLine]) -> tuple[SmokePayment, ...]:
    """Each payment that money was spent on, with what the findings that speak of its reference have measured."""
    told: dict[str, dict[str, Any]] = {}
    for finding in findings:
        evidence = finding.evidence
        one = told.setdefault(_text(evidence, "reference"), {"moments": {}})
        one |= {name: _text(evidence, name) for name in ("mode", "link") if evidence.get(name)}
        for moment in _list(evidence, "moments"):
            after_ms = _number(moment, "after_ms") if isinstance(moment, Mapping) else None
            if after_ms is not None:
                one["moments"].setdefault(_text(moment, "what"), float(after_ms))
    return tuple(_payment(entry.data, told) for entry in facts.all(Kind.MONEY_SPENT))


def _payment(spent: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]) -> SmokePayment:
    reference = _text(spent, "reference")
    known = told.get(reference, NOTHING)
    cents, cap = _number(spent, "cents"), _number(spent, "cap_cents")
    return SmokePayment(
        reference=reference,
        cents=None if cents is None else int(cents),
        cap_cents=None if cap is None else int(cap),
        mode=_text(known, "mode"),
        link=_text(known, "link"),
        moments=tuple(sorted(known.get("moments", NOTHING).items(), key=lambda moment: moment[1])),
    )


# ---- what it means -----------------------------------------------------------------------------------------


def _live(facts: _Facts, header: Header) -> Live:
    """Follows the entries that say something of what serves; the last word counts.

    An entry is written before what it tells of is done, so that an unfinished run's last word is only an intention.
    """
    if not facts.all(Kind.RUN_STARTED):
        return Live(ServiceState.UNKNOWN, None, "Not recorded: the record does not say how the run began.")
    goes_on = _text(facts.all(Kind.RUN_STARTED)[0].data, "resumes")
    state = ServiceState.UNKNOWN if goes_on else ServiceState.UNCHANGED
    release, back, outcome = header.previous, False, _outcome(facts.last(Kind.RUN_FINISHED))
    why = "Not recorded here: the run was resumed, and what it did before is not among these entries."
    for entry in facts.entries:
        said = entry.data
        match entry.kind:
            case Kind.CHECKPOINT_ARMED:
                state, why = ServiceState.UNKNOWN, "A change had begun and its end is not recorded."
            case Kind.WAYBACK_STARTED:
                back, state = True, ServiceState.UNKNOWN
                why = "The way back had begun and its end is not recorded."
            case Kind.PAYMENTS_CLOSED:
                state, why = ServiceState.UNKNOWN, "Payments were closed; that they were reopened is not recorded."
            case Kind.RELEASE_MARKED if not back and _text(said, "state") == "live":
                state, release = ServiceState.UNKNOWN, _text(said, "release") or None
                why = f"Release {release} had been switched in and was not proven yet."
            case Kind.RELEASE_MARKED if not back and _text(said, "state") == "verified":
                release = _text(said, "release") or None
                state = ServiceState.VERIFIED if outcome is Outcome.DONE else ServiceState.UNKNOWN
                why = f"Release {release} had passed its proofs; that it was kept as verified is not recorded."
            case Kind.REOPENED:
                release = _text(said, "release") or None
                state = ServiceState.VERIFIED if release else ServiceState.NOTHING_LIVE
            case Kind.CLOSED if outcome is None:
                state, release, why = (
                    ServiceState.UNKNOWN,
                    None,
                    "It was being closed; that it is closed is not recorded.",
                )
            case Kind.CLOSED:
                not_closed = _text(said, "how").startswith(NOT_CLOSED)
                state, release = ServiceState.NOT_CLOSED if not_closed else ServiceState.CLOSED, None
            case _:
                pass
    asked = header.verb not in _LOOKING
    if state is ServiceState.VERIFIED and (shut := shut_doors(facts.entries)):
        return Live(state, release, _behind(shut, release))
    return Live(state, release, _live_sentence(state, release, why, asked=asked) + _doors(facts))


def _behind(shut: Sequence[SwitchName], release: str | None) -> str:
    """What serves behind doors that persons closed: open it is not."""
    fine = "Yes. " if [*shut] == [SwitchName.TEST_MODE] else ""
    return f"{fine}Release {release} serves; it is verified. {' '.join(_on(shut))}"


def _doors(facts: _Facts) -> str:
    """The doors that a person closed or opened in this run, by the last word on each; '' for none."""
    touched = {
        _text(entry.data, "door") for entry in facts.entries if entry.kind in (Kind.DOOR_CLOSED, Kind.DOOR_OPENED)
    }
    shut = [door for door in shut_doors(facts.entries) if door in touched]
    opened = sorted(touched - {*shut})
    told = "".join(f" {one}" for one in _on(shut))
    return told + (f" Off: {', '.join(opened)}." if opened else "")


def _on(shut: Iterable[SwitchName]) -> Iterator[str]:
    """What doors that persons hold closed mean, in sentences."""
    if closed := [door.value for door in shut if door is not SwitchName.TEST_MODE]:
        yield f"A person closed it, and it stays so until `./inv open`: {', '.join(closed)}."
    if SwitchName.TEST_MODE in shut:
        yield "Test mode is on until `./inv open`: no money moves."


_LOOKING = ("validate", "verify", "smoke", "probe", "reconcile", "close", "open", "drill", "drill.one")
"""Verbs whose runs do not ask which release was verified last: that they name none says nothing."""


def who_was_told(entries: Sequence[Entry], *, needed: bool) -> str:
    """A sentence on the notices on record. `needed`: a person is, so that nobody told is the first thing to mend."""
    tried = [entry.data for entry in entries if entry.kind is Kind.NOTICE and entry.data.get("ok") is not None]
    told = [f"{_text(one, 'to')} ({notice_of(one)})" for one in tried if one.get("ok") is True]
    not_told = [f"{_text(one, 'to')} ({_text(one, 'error')})" for one in tried if one.get("ok") is not True]
    nobody = needed and not any(one.get("ok") is True and one.get("event") == "person needed" for one in tried)
    said = [
        "NOBODY WAS TOLD that a person is needed: tell those who must know, now" if nobody else "",
        f"told: {', '.join(dict.fromkeys(told))}" if told else "",
        f"not reached: {', '.join(dict.fromkeys(not_told))}" if not_told else "",
    ]
    return sentence("; ".join(filter(None, said)))


def notice_of(data: Mapping[str, Any]) -> str:
    """What a notice on record is called: its event, and the run where it is one that could not tell it itself."""
    return _text(data, "event") + (f", of run {_text(data, 'of_run')}" if data.get("of_run") else "")


def _live_sentence(state: ServiceState, release: str | None, why: str, *, asked: bool) -> str:
    """`asked`: the run looked up the last verified release, so that none recorded means there was none."""
    match state:
        case ServiceState.VERIFIED:
            return f"Yes. Release {release} serves and takes payments; it is verified."
        case ServiceState.NOTHING_LIVE:
            return "No release is live, as before this run."
        case ServiceState.CLOSED:
            return "It is closed. It takes no new payments until a person reopens it."
        case ServiceState.NOT_CLOSED:
            return "No, and it is NOT closed: close it by hand at once."
        case ServiceState.UNCHANGED if release:
            return f"As it was before: this run changed nothing. The last verified release is {release}."
        case ServiceState.UNCHANGED if asked:
            return "As it was before: this run changed nothing. No verified release was recorded before it."
        case ServiceState.UNCHANGED:
            return "As it was before: this run changed no release."
        case _:
            return f"{why} `./inv status` shows what serves now."


_HEADLINES: Mapping[Outcome | None, str] = {
    Outcome.DONE: "Done",
    Outcome.REFUSED: "Refused, nothing was changed",
    Outcome.RESTORED: "Failed, restored and confirmed",
    Outcome.PERSON_NEEDED: "A person is needed",
    Outcome.TAKEN_OVER: "Stopped by a rollback that took over",
    Outcome.INTERRUPTED: "Interrupted, nothing was changed",
    Outcome.BUG: "Stopped by a bug of Tollgate",
    None: "Not finished when the record ends",
}


def _answers(report: RunReport) -> Answers:
    return Answers(
        headline=_HEADLINES[report.outcome],
        happened=_happened(report),
        service=report.live.sentence,
        todo=tuple(dict.fromkeys(step for step in _todo(report) if step)),
    )


def _happened(report: RunReport) -> str:
    if report.summary:
        said = report.first_error.named_in(report.summary) if report.first_error else report.summary
        more = not_passed(report)
        return f"{sentence(said)} {more}" if more else said
    if report.outcome is None and report.stages:
        stage = report.stages[-1]
        open_steps = [step.name for step in stage.steps if step.outcome is None]
        at = f", at {', '.join(open_steps)}" if open_steps else ""
        return (
            f"The record ends in stage {stage.name}{' of the way back' if stage.phase is Phase.WAY_BACK else ''}{at}."
        )
    return "Not recorded."


def not_passed(report: RunReport) -> str:
    """All checks that did not pass, where they are more than the first that a refused run names; else ''."""
    names = list(dict.fromkeys(finding.check for finding in report.blocking))
    if report.outcome is not Outcome.REFUSED or len(names) < 2:
        return ""
    return f"{len(names)} checks did not pass: {', '.join(names)}."


_TYPED = {"drill": "drill --all", "drill.one": "drill --fault NAME"}
"""How an operator types a verb whose name on record is another."""


def _todo(report: RunReport) -> list[str]:
    error = report.first_error
    where = "" if report.header.environment in (None, "sandbox") else f" --env {report.header.environment}"
    verb = report.header.verb or "deploy"
    again = f"Run `./inv {_TYPED.get(verb, verb)}{where}` again."
    match report.outcome:
        case Outcome.DONE:
            accepted = sum(finding.mark == ACCEPTED for finding in report.accepted)
            counted = (("recommendations", len(report.recommendations)), ("accepted findings", accepted))
            worth_reading = [f"the {what} ({number})" for what, number in counted if number]
            return [f"Nothing now. Read {' and '.join(worth_reading)}." if worth_reading else "Nothing."]
        case Outcome.REFUSED:
            blocking = [finding.remedy for finding in report.blocking]
            return [*(blocking or [error.remedy if error else ""]), again]
        case Outcome.RESTORED:
            return [error.remedy if error else "", f"Then deploy again: `./inv deploy{where}`."]
        case Outcome.PERSON_NEEDED:
            manual = list(report.closed.manual) if report.closed else []
            return manual or [f"The manual steps are not recorded. Begin with `./inv status{where}`."]
        case Outcome.TAKEN_OVER:
            left = (
                f"If none is at work and `./inv status{where}` shows this run as unfinished: `./inv rollback{where}`."
            )
            return [error.remedy if error else "", left]
        case Outcome.INTERRUPTED:
            return [*_look_for_money(report), again] if _look_for_money(report) else [f"Nothing. {again}"]
        case Outcome.BUG:
            look = f"See what serves: `./inv status{where}`."
            return [error.remedy if error else "", "Report it, with the folder of this report.", look]
        case None:
            return _todo_unfinished(report, where)


def _look_for_money(report: RunReport) -> list[str]:
    """Payments that may have been paid without the run having seen it."""
    return [f"Look at the gateway whether {one.reference} was paid." for one in report.smoke if one.unseen]


def _todo_unfinished(report: RunReport, where: str) -> list[str]:
    if report.superseded_by:
        return [f"Nothing. Run {report.superseded_by} has put this one right."]
    verb = report.header.verb or "deploy"
    if report.live.state is ServiceState.UNCHANGED:
        return [f"If it is not running any more, run `./inv {_TYPED.get(verb, verb)}{where}` again."]
    return [
        f"See whether it still runs, and what serves: `./inv status{where}`.",
        f"If it has stopped, go back with `./inv rollback{where}`, or on with `./inv deploy --resume{where}`.",
    ]


# ---- members of an entry's data, whatever is in them --------------------------------------------------------


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None else str(value)


def _number(data: Mapping[str, Any], key: str) -> float | None:
    value = data.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _seconds(data: Mapping[str, Any], key: str, otherwise: float | None = None) -> float | None:
    value = _number(data, key)
    return otherwise if value is None else float(value)


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return list(value) if isinstance(value, list | tuple) else []
