"""What an incident leaves: incident.md, for every run that went a way back. Made from the journal's entries alone.

`build` reads the entries and is pure; what they do not say is "not recorded". A rollback that puts another run right
tells the story of both: what that run met is where the incident began.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline import report, story
from pipeline.contracts import SwitchName
from pipeline.events import Entry, Kind
from pipeline.reconcile import TODO, Wrong
from pipeline.story import FirstError, Phase, RestoredLine, ServiceState
from pipeline.verdict import Verdict
from pipeline.whole_file import write_text
from pipeline.words import count

FILE = "incident.md"


@dataclass(frozen=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    run: str
    what: str


@dataclass(frozen=True)
class Affected:
    """A payment that an incident touched. `cents` None where the record does not tell."""

    reference: str
    cents: int | None
    what: str
    todo: str


@dataclass(frozen=True)
class Proof:
    """A proof asked on the way back, and how it was judged last."""

    name: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Spans:
    """Seconds between the instants of an incident; None where one of the two is not on record, or a clock jumped back.

    `exposed_s`: from the bad release's switch to the closing of payments.
    """

    fault: datetime | None
    detected: datetime | None
    recovered: datetime | None
    exposed_s: float | None
    found_by: str

    @property
    def to_detection_s(self) -> float | None:
        return _between(self.fault, self.detected)

    @property
    def to_recovery_s(self) -> float | None:
        return _between(self.detected, self.recovered)

    @property
    def whole_s(self) -> float | None:
        return _between(self.fault or self.detected, self.recovered)


@dataclass(frozen=True)
class Incident:
    """The way back of one run. `runs`: those it is about, first that in which it began, last its own."""

    run: story.RunReport
    runs: tuple[str, ...]
    timeline: tuple[Moment, ...]
    first_error: FirstError | None
    bad: str | None
    restored: tuple[RestoredLine, ...]
    proofs: tuple[Proof, ...]
    payments: tuple[Affected, ...]
    compared: str
    spans: Spans
    todo: tuple[str, ...]

    @property
    def recovered(self) -> bool:
        return self.spans.recovered is not None

    @property
    def proofs_good(self) -> int:
        return sum(Verdict(proof.verdict).promotes for proof in self.proofs)


def build(entries: Sequence[Entry], run: str) -> Incident | None:
    """The incident that `run` went back from; None when it went no way back. `entries`: the whole journal, in order."""
    own = [entry for entry in entries if entry.run == run]
    back = next((entry for entry in reversed(own) if entry.kind is Kind.WAYBACK_STARTED), None)
    if back is None:
        return None
    runs = _chain(entries, run)
    told = [entry for entry in entries if entry.run in runs]
    failed = (name for name in runs if not _only_stopped([entry for entry in told if entry.run == name]))
    first = next((one.first_error for name in failed if (one := _report(entries, name)).first_error), None)
    first = first or _not_restored(told)
    whole, bad = story.build(own), _text(back.data, "bad") or _marked_bad(told)
    payments = tuple(_payments(own))
    return Incident(
        run=whole,
        runs=runs,
        timeline=tuple(_timeline(told)),
        first_error=first,
        bad=bad,
        restored=whole.way_back.checkpoints if whole.way_back else (),
        proofs=tuple(_proofs(whole)),
        payments=payments,
        compared=_compared(own),
        spans=_spans(entries, told, own, runs, bad),
        todo=tuple(dict.fromkeys([*_todo(whole, bad, payments, told), *_tests(told, whole)])),
    )


def write(incident: Incident, folder: Path) -> Path:
    """Writes incident.md into `folder`, made if missing. A reader sees an old file or a whole new one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE, as_markdown(incident))
    return folder / FILE


def as_markdown(incident: Incident) -> str:
    template = report.markdown_template("incident.md.j2")
    text = template.render(incident=incident, report=incident.run, ServiceState=ServiceState)
    return re.sub(r"\n{3,}", "\n\n", text)


# ---- which runs --------------------------------------------------------------------------------------------


def _chain(entries: Sequence[Entry], run: str) -> tuple[str, ...]:
    """The run with those that it put right, oldest first: a rollback of a rollback of a deploy is one incident."""
    of_run = {entry.run: _text(entry.data, "of_run") for entry in entries if entry.kind is Kind.WAYBACK_STARTED}
    known = {entry.run for entry in entries}
    chain = [run]
    while (before := of_run.get(chain[-1], "")) in known and before not in chain:
        chain.append(before)
    return tuple(reversed(chain))


def _marked_bad(told: Sequence[Entry]) -> str | None:
    marks = (entry.data for entry in reversed(told) if entry.kind is Kind.RELEASE_MARKED)
    return next((_text(data, "release") for data in marks if _text(data, "state") == "bad"), None)


def _not_restored(told: Sequence[Entry]) -> FirstError | None:
    """What a way back met first, where nothing had failed before it."""
    confirmed = (entry.data for entry in told if entry.kind is Kind.CHECKPOINT_CONFIRMED)
    found = next((data for data in confirmed if data.get("ok") is not True), None)
    return FirstError("way back", _text(found, "name"), _confirmed(found), "") if found is not None else None


def _report(entries: Sequence[Entry], run: str) -> story.RunReport:
    return story.build([entry for entry in entries if entry.run == run])


# ---- the timeline ------------------------------------------------------------------------------------------


def _timeline(entries: Sequence[Entry]) -> Iterator[Moment]:
    """What a reader must know to follow it; every proof that passed is not one of these."""
    back, found = set[str](), set[str]()
    last = {entry.run: entry for entry in entries if entry.kind is not Kind.NOTICE}
    for entry in entries:
        if entry.kind is Kind.WAYBACK_STARTED:
            back.add(entry.run)
        tell = _TOLD.get(entry.kind)
        what = tell(entry.data) if tell else ""
        if entry.kind is Kind.FINDING and what:
            found.add(f"{_text(entry.data, 'step')}: {_text(entry.data, 'reason')}")
            what = f"on the way back: {what}" if entry.run in back else what
        if entry.kind is Kind.RUN_FAILED and _text(entry.data, "error") in found:
            what = f"the run failed in {_text(entry.data, 'stage')} / {_text(entry.data, 'step')}"
        if what:
            yield Moment(entry.at, entry.run, what)
        if entry is last.get(entry.run) and entry.kind is not Kind.RUN_FINISHED:
            yield Moment(entry.at, entry.run, "the record of this run ends here")


def _began(data: Mapping[str, Any]) -> str:
    verb, who, reason = (_text(data, name) for name in ("verb", "who", "reason"))
    resumed = " goes on" if _text(data, "resumes") else " began"
    return f"{verb or 'a run'}{resumed}, by {who or 'somebody'}" + (f": {reason}" if reason else "")


def _taken(data: Mapping[str, Any]) -> str:
    dead = _text(data, "from_dead_owner")
    return f"the lease was taken over from {dead}" if dead else ""


def _found(data: Mapping[str, Any]) -> str:
    verdict = _text(data, "verdict")
    return "" if _promotes(verdict) else f"{verdict} {_text(data, 'check')}: {_text(data, 'reason')}"


def _marked(data: Mapping[str, Any]) -> str:
    release, state = _text(data, "release"), _text(data, "state")
    return {"live": f"{release} was switched in", "bad": f"{release} is marked bad"}.get(state, f"{release} is {state}")


def _failed(data: Mapping[str, Any]) -> str:
    return f"the run failed: {_text(data, 'error')}"


def _back(data: Mapping[str, Any]) -> str:
    return f"the way back began, to {_text(data, 'release') or 'a closed service, as before'}"


def _closed_payments(_data: Mapping[str, Any]) -> str:
    return "no new payments; webhooks stay open"


def _door_closed(data: Mapping[str, Any]) -> str:
    done = "on" if _text(data, "door") == "test-mode" else "closed"
    return f"{_text(data, 'door')} {done}, by {_text(data, 'who')}: {_text(data, 'why')}; a person opens it"


def _door_opened(data: Mapping[str, Any]) -> str:
    return f"{_text(data, 'door')} opened by a person"


def _confirmed(data: Mapping[str, Any]) -> str:
    name = _text(data, "name")
    if data.get("ok") is True:
        return f"{name} restored and confirmed: {_text(data, 'found')}"
    said = _text(data, "error") or f"found {_text(data, 'found')}, expected {_text(data, 'expected')}"
    return f"{name} NOT restored: {said}"


def _reconciled(data: Mapping[str, Any]) -> str:
    if error := _text(data, "error"):
        return f"payments could not be compared: {error}"
    wrong, again = len(_list(data, "mismatches")), len(_list(data, "repaired"))
    agree = "payments agree" if data.get("ok") is True else f"payments do not agree: {count(wrong, 'mismatch')}"
    agree = agree.replace("mismatchs", "mismatches")
    return f"{agree}; {_counted(data)}" + (f", {count(again, 'webhook')} delivered again" if again else "")


def _counted(data: Mapping[str, Any]) -> str:
    paid, activated = (_text(data, name) or "an unknown number" for name in ("paid", "activated"))
    return f"{paid} paid at the gateway, {activated} activated"


def _reopened(data: Mapping[str, Any]) -> str:
    release = _text(data, "release")
    return f"open again with {release}" if release else "no release is live, as before"


def _stays_closed(data: Mapping[str, Any]) -> str:
    return f"closed for a person ({_text(data, 'how')}): {_text(data, 'why')}"


def _noticed(data: Mapping[str, Any]) -> str:
    event, to = story.notice_of(data), _text(data, "to")
    if data.get("ok") is None:
        return ""
    return f"{to} was told: {event}" if data["ok"] is True else f"{to} was NOT told ({event}): {_text(data, 'error')}"


def _set_right(data: Mapping[str, Any]) -> str:
    return f"run {_text(data, 'of_run')} is put right"


def _ended(data: Mapping[str, Any]) -> str:
    return f"ended with exit {_text(data, 'exit_code')}, {_text(data, 'outcome')}"


_TOLD: Mapping[Kind, Callable[[Mapping[str, Any]], str]] = MappingProxyType(
    {
        Kind.RUN_STARTED: _began,
        Kind.LEASE_TAKEN: _taken,
        Kind.FINDING: _found,
        Kind.RELEASE_MARKED: _marked,
        Kind.RUN_FAILED: _failed,
        Kind.WAYBACK_STARTED: _back,
        Kind.PAYMENTS_CLOSED: _closed_payments,
        Kind.DOOR_CLOSED: _door_closed,
        Kind.DOOR_OPENED: _door_opened,
        Kind.CHECKPOINT_CONFIRMED: _confirmed,
        Kind.RECONCILED: _reconciled,
        Kind.REOPENED: _reopened,
        Kind.CLOSED: _stays_closed,
        Kind.RECORD_BROKEN: lambda data: _text(data, "told"),
        Kind.NOTICE: _noticed,
        Kind.RUN_SUPERSEDED: _set_right,
        Kind.RUN_FINISHED: _ended,
    }
)
"""How each kind is told; '' leaves an entry out, and so does a kind that is not here."""


# ---- how long it took --------------------------------------------------------------------------------------


def _spans(
    entries: Sequence[Entry], told: Sequence[Entry], own: Sequence[Entry], runs: Sequence[str], bad: str | None
) -> Spans:
    """Fault: when the first of the steps that failed was first seen failing, else the first error. Detection: the first
    error of the run in which it began, else the rollback that a person began. Recovery: the doors opened again.
    """
    begun = [entry for entry in told if entry.kind is Kind.RUN_STARTED]
    first = [entry for entry in told if entry.run == runs[0]]
    by_hand = next((entry.at for entry in begun if _text(entry.data, "verb") == "rollback"), None)
    asked = _by_hand(first) or _only_stopped(first)
    failed = next((entry.at for entry in first if entry.kind is Kind.RUN_FAILED and not asked), None)
    closed = next((entry.at for entry in told if entry.kind is Kind.PAYMENTS_CLOSED), None)
    switched = [entry.at for entry in entries if _switched(entry, bad)]
    return Spans(
        fault=_first_failing(first) or failed,
        detected=failed or by_hand,
        recovered=next((entry.at for entry in reversed(own) if entry.kind is Kind.REOPENED), None),
        exposed_s=_between(switched[-1] if switched else None, closed),
        found_by="the run itself" if failed else "a person, who began a rollback",
    )


def _by_hand(entries: Sequence[Entry]) -> bool:
    return _text(entries[0].data, "verb") == "rollback"


def _only_stopped(entries: Sequence[Entry]) -> bool:
    """Whether nothing went wrong in a run but that a rollback stopped it."""
    ended = [_text(entry.data, "outcome") for entry in entries if entry.kind is Kind.RUN_FINISHED]
    errors = [_text(entry.data, "step") for entry in entries if entry.kind is Kind.RUN_FAILED]
    return ended[-1:] == ["taken over"] and not any(errors)


def _switched(entry: Entry, bad: str | None) -> bool:
    wanted = (bad, "live")
    return entry.kind is Kind.RELEASE_MARKED and (entry.data.get("release"), entry.data.get("state")) == wanted


def _first_failing(entries: Sequence[Entry]) -> datetime | None:
    """When the first of the steps that failed in the end was first seen failing, before the way back."""
    seen: dict[tuple[str, str], datetime | None] = {}
    for entry in entries:
        if entry.kind is Kind.WAYBACK_STARTED:
            break
        if entry.kind is Kind.FINDING:
            place = (_text(entry.data, "stage"), _text(entry.data, "step"))
            good = _promotes(_text(entry.data, "verdict"))
            seen[place] = None if good else seen.get(place) or entry.at
    return min((at for at in seen.values() if at is not None), default=None)


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    seconds = (end - begin).total_seconds() if begin and end else -1.0
    return seconds if seconds >= 0 else None


# ---- what was restored, and what is left -------------------------------------------------------------------


def _proofs(whole: story.RunReport) -> Iterator[Proof]:
    for finding in whole.last_words:
        if finding.phase is Phase.WAY_BACK:
            yield Proof(finding.step, finding.verdict.value, finding.reason)


def _compared(own: Sequence[Entry]) -> str:
    """How the last comparison of payments ended; '' when there was none."""
    return next((_reconciled(entry.data) for entry in reversed(own) if entry.kind is Kind.RECONCILED), "")


def _payments(own: Sequence[Entry]) -> Iterator[Affected]:
    """Those that were delivered again, then those that do not agree, as the last comparison of the run has them."""
    data = next((entry.data for entry in reversed(own) if entry.kind is Kind.RECONCILED), story.NOTHING)
    wrong = [one for one in _list(data, "mismatches") if isinstance(one, Mapping)]
    open_still = {_text(one, "reference") for one in wrong}
    amounts = data.get("cents")
    cents = amounts if isinstance(amounts, Mapping) else story.NOTHING
    for reference in map(str, _list(data, "repaired")):
        if reference not in open_still:
            again = "paid, and activated only after its webhook was delivered again"
            yield Affected(reference, _cents(cents.get(reference)), again, "Nothing.")
    for one in wrong:
        reference, found = _text(one, "reference"), f"{_text(one, 'found')}; expected {_text(one, 'expected')}"
        known = one.get("cents") if one.get("cents") is not None else cents.get(reference)
        what = _text(one, "what")
        yield Affected(reference, _cents(known), f"{what}: {found}" if what else found, _settle(what))


def _settle(what: str) -> str:
    try:
        return TODO[Wrong(what)]
    except ValueError:
        return "Settle it by hand with the gateway's dashboard."


def _tests(told: Sequence[Entry], whole: story.RunReport) -> Iterator[str]:
    turned = (entry.kind is Kind.DOOR_CLOSED and entry.data.get("door") == SwitchName.TEST_MODE for entry in told)
    if any(turned):
        env = whole.header.environment
        where = "" if env in (None, "sandbox") else f" --env {env}"
        yield (
            "Test mode is on: whoever buys pays nothing and gets nothing. "
            f"`./inv open --test-mode{where}` lets customers pay again."
        )


def _cents(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _todo(
    whole: story.RunReport, bad: str | None, payments: Sequence[Affected], told: Sequence[Entry]
) -> Iterator[str]:
    done = whole.outcome is story.Outcome.DONE
    if not done:
        yield from (step for step in whole.answers.todo if step)
    yield from (f"Payment {one.reference}: {one.todo}" for one in payments if one.todo != "Nothing.")
    named = whole.outcome is story.Outcome.RESTORED  # its first error says what to mend
    if bad and not named and whole.way_back is not None and bad != whole.way_back.release:
        yield f"Find out what was wrong with {bad} before the next deploy. It is bad: nothing goes back to it."
    lost = {_text(one.data, "to"): one.data.get("ok") is True for one in told if one.kind is Kind.NOTICE}
    missed = [to for to, ok in lost.items() if not ok]
    also = f"; no notice reached {', '.join(missed)}" if missed else ""
    yield f"Tell those who noticed it how it ended{also}."
    yield "Keep this page: `./inv audit` vouches for what it was made from."


# ---- members of an entry's data, whatever is in them -------------------------------------------------------


def _promotes(verdict: str) -> bool:
    try:
        return Verdict(verdict).promotes
    except ValueError:
        return False


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None else str(value)


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return list(value) if isinstance(value, list | tuple) else []
