"""A finding that somebody answers for until a day: when that counts, and what is told of it. Pure.

`accepted:` in pipeline.yaml names the check, the person, the reason and the day. It never hides anything: what was
found stays in the reason and in the evidence, and an acceptance that does not count is told as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum

from pipeline.spec import Accepted
from pipeline.verdict import Finding, Verdict

LONGEST_DAYS = 180
"""How far away the last day of an acceptance may be, seen from the day of the run."""

REFUSED = "refused: leaks, signatures and what keeps orders whole are never accepted"
"""Why a check whose `acceptable` is False cannot be named under `accepted`."""


class State(StrEnum):
    """What became of an acceptance in one run."""

    COUNTS = "accepted"
    NOT_NEEDED = "not needed any more"
    ENDED = "ended"
    TOO_FAR = "too far away"
    NO_DAY = "no such day"
    NEVER = "never for what was not judged"


@dataclass(frozen=True)
class Acceptance:
    """Who answers for a finding, why, until when (`YYYY-MM-DD`, that day included), what was found, what became of it.

    `counts`: the finding promotes because of it.
    """

    by: str
    reason: str
    until: str
    found: Verdict
    state: State

    @property
    def counts(self) -> bool:
        return self.state is State.COUNTS

    def as_data(self) -> dict[str, str]:
        """The member `accepted` of a FINDING entry."""
        return {
            "by": self.by,
            "reason": self.reason,
            "until": self.until,
            "verdict": self.found.value,
            "state": self.state.value,
        }


def entry_for(check: str, environment: str, accepted: Iterable[Accepted]) -> Accepted | None:
    """The entry that speaks of a check in an environment; the loader refused a second one."""
    fitting = (one for one in accepted if one.check == check and (one.only is None or environment in one.only))
    return next(fitting, None)


def accept(finding: Finding, entry: Accepted | None, today: date) -> tuple[Finding, Acceptance | None]:
    """The finding as it counts, and what became of its acceptance; None where nobody answers for it.

    `entry` must be None for a check that may not be accepted. `today` is the day of the run in UTC.
    """
    if entry is None:
        return finding, None
    state = _state(finding.verdict, entry.until, today)
    acceptance = Acceptance(entry.by, entry.reason, entry.until, finding.verdict, state)
    match state:
        case State.NOT_NEEDED:
            return finding, acceptance
        case State.COUNTS:
            return _accepted(finding, entry), acceptance
        case State.ENDED:
            said = f"its acceptance by {entry.by} ended on {entry.until}"
        case State.TOO_FAR:
            said = f"{entry.by} accepts it until {entry.until}, which does not count: at most {LONGEST_DAYS} days do"
        case State.NO_DAY:
            said = f"{entry.by} accepts it until {entry.until}, which does not count: there is no such day"
        case State.NEVER:
            said = f"{entry.by} accepts it until {entry.until}, which does not count: only what was found is"
    return replace(finding, reason=f"{finding.reason.rstrip('.')}; {said}"), acceptance


def _state(verdict: Verdict, until: str, today: date) -> State:
    if verdict.promotes:
        return State.NOT_NEEDED
    if verdict is not Verdict.FAIL:
        return State.NEVER
    last = day(until)
    if last is None:
        return State.NO_DAY
    if last < today:
        return State.ENDED
    return State.TOO_FAR if last > today + timedelta(days=LONGEST_DAYS) else State.COUNTS


def _accepted(finding: Finding, entry: Accepted) -> Finding:
    """ADVICE that says who answers for it first, and then all that was found."""
    found: Mapping[str, str] = {
        "verdict": finding.verdict.value,
        "reason": finding.reason,
        "remedy": finding.remedy,
    }
    return Finding(
        Verdict.ADVICE,
        f"accepted until {entry.until} by {entry.by}: {entry.reason.rstrip('.')}; "
        f"found: {finding.verdict.value} {finding.reason}",
        finding.remedy or f"Mend it before {entry.until}.",
        {**finding.evidence, "found": found},
        finding.places,
    )


def day(text: str) -> date | None:
    """The day that `YYYY-MM-DD` names; None when there is no such day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
