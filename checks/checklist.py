"""What answers for each line of the guide now: a judgement over what is on record. Pure.

A line holds when all that it names holds, and something of it was measured or signed; a line that names nothing but
what the engine does by itself holds always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from checks.guide import Line
from pipeline.accepting import day
from pipeline.attestations import AHEAD, Attestation, State
from pipeline.contracts import PastRun
from pipeline.duties import Standing, command_that_runs, command_to_sign, days, how_to_do
from pipeline.spec import Spec
from pipeline.verdict import Verdict

STALE = timedelta(days=92)
"""Older evidence is none: a quarter is how often the guide has the configuration reviewed."""

_ALL_OR_NOTHING = frozenset({"sign_offs.valid", "duties.current"})
"""Checks whose ADVICE says that something is missing, which a step may let pass and a line of the guide may not."""


class Status(StrEnum):
    EVIDENCED = "evidenced"
    SIGNED = "signed"
    OPEN = "open"


@dataclass(frozen=True)
class LastFinding:
    """What a check said last. `accepted` names who answers for it where somebody does, `until` the last day of that."""

    verdict: Verdict
    at: datetime
    run: str
    reason: str = ""
    remedy: str = ""
    accepted: str = ""
    until: str = ""


@dataclass(frozen=True)
class Records:
    """All that is on record for one environment, by name."""

    spec: Spec
    environment: str
    now: datetime
    checks: frozenset[str]
    findings: Mapping[str, LastFinding]
    runs: Mapping[str, PastRun]
    attested: Mapping[str, Attestation]
    duties: Mapping[str, Standing]


@dataclass(frozen=True)
class Part:
    """One thing that a line names. `told` is how it stands, `detail` what is to be said of it alone, `do` what to do
    when it does not hold.

    `proves`: it holds because something was measured or signed, not because it was skipped for a reason.
    """

    kind: str
    name: str
    holds: bool
    told: str
    detail: str = ""
    do: str = ""
    proves: bool = True
    run: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Answer:
    line: Line
    status: Status
    parts: tuple[Part, ...]


def answers(lines: Sequence[Line], records: Records) -> tuple[Answer, ...]:
    return tuple(_answer(line, records) for line in lines)


def _answer(line: Line, records: Records) -> Answer:
    parts = (
        *(_check(name, records) for name in line.checks),
        *(_run(verb, records) for verb in line.runs),
        *(_sign_off(name, records) for name in line.sign_offs),
        *(_duty(name, records) for name in line.duties),
        *([Part("engine", line.shown_by, True, "")] if line.shown_by else []),
    )
    shown = [part for part in parts if part.kind != "engine"]
    if not all(part.holds for part in parts) or (shown and not any(part.proves for part in shown)):
        return Answer(line, Status.OPEN, parts)
    return Answer(line, Status.SIGNED if line.sign_offs else Status.EVIDENCED, parts)


# ---- checks and runs ---------------------------------------------------------------------------------------


def _check(name: str, records: Records) -> Part:
    missing = partial(Part, "check", name, False)
    if name not in records.checks:
        return missing("there is no check", do="Write it and put it into the table of checks/.")
    command = f"`{command_that_runs(records.spec, records.environment, name)}`"
    if command == "``":
        return _not_asked(name, records)
    last = records.findings.get(name)
    if last is None:
        return missing("not on record yet:", do=command)
    told = f"{last.verdict.value} (accepted by {last.accepted})" if last.accepted else last.verdict.value
    since = partial(Part, "check", name, run=last.run, at=last.at)
    if not last.verdict.promotes:
        return since(False, told, _first_line(last.reason), f"{_first_line(last.remedy)} Then {command}".strip())
    if why := _out_of_time(last.at, records.now):
        return since(False, f"{told} {why}, which proves nothing of today:", do=command)
    if last.accepted and not _still(last.until, records.now):
        return since(False, told, f"the acceptance ended on {last.until}", f"Mend it or accept it anew. Then {command}")
    if last.verdict is Verdict.ADVICE and name in _ALL_OR_NOTHING:
        return since(False, told, _first_line(last.reason), f"{_first_line(last.remedy)} Then {command}".strip())
    if last.verdict is Verdict.SKIPPED:
        return since(True, told, _first_line(last.reason), command, proves=False)
    return since(True, told)


def _not_asked(name: str, records: Records) -> Part:
    others = [other for other in records.spec.environments if command_that_runs(records.spec, other, name)]
    if not others:
        told = "asked in no stage of pipeline.yaml:"
        return Part("check", name, False, told, do=f"Give {name} a step in pipeline.yaml.")
    told = f"asked in {' and '.join(others)}, not in {records.environment}:"
    do = f"`./inv checklist --env {others[-1]}` tells of it there; or give it a step for {records.environment}."
    return Part("check", name, False, told, do=do)


def _run(verb: str, records: Records) -> Part:
    last = records.runs.get(verb)
    command = f"`./inv {verb} --env {records.environment}`"
    if last is None:
        return Part("run", verb, False, "no run with all its steps has ended yet:", do=command)
    since = partial(Part, "run", verb, run=last.run, at=last.at)
    if last.outcome != "done":
        return since(False, f"the last run ended with `{last.outcome}`:", do=f"See why in its report, then {command}")
    if why := _out_of_time(last.at, records.now):
        return since(False, f"the last run ended {why}:", do=command)
    return since(True, "done")


def _out_of_time(at: datetime, now: datetime) -> str:
    """Why what was recorded then says nothing of now, else ''."""
    if at > now + AHEAD:
        return "in the future, by a clock that was wrong"
    return f"over {STALE.days} days ago" if now - at > STALE else ""


def _still(until: str, now: datetime) -> bool:
    """Whether the day `until`, itself included, is not over; False where it names no day."""
    last = day(until)
    return last is not None and now.astimezone(UTC).date() <= last


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 240 else line[:237].rstrip() + "..."


# ---- people ------------------------------------------------------------------------------------------------


def _sign_off(name: str, records: Records) -> Part:
    sign = f"`{command_to_sign(name, records.environment)}`"
    missing = partial(Part, "sign-off", name, False)
    if name not in records.spec.sign_offs:
        return missing("pipeline.yaml asks nobody to sign for", do=f"Add {name} under sign_offs, then {sign}")
    one = records.attested[name]
    if one.state is State.VALID:
        return Part("sign-off", name, True, "signed for", f"by {one.by} until {one.until:%Y-%m-%d}", at=one.at)
    if one.state is State.MISSING:
        return missing("nobody has signed for", do=sign)
    return missing("no good record of", f"it is {one.state.value}: {one.why}", sign)


def _duty(name: str, records: Records) -> Part:
    one = records.duties.get(name)
    if one is None:
        return Part("duty", name, False, "pipeline.yaml lists no duty", do=f"Add {name} under duties.")
    if one.last is None or one.due is None:
        do = f"`{how_to_do(records.spec, records.environment, one)}`"
        return Part("duty", name, False, "overdue duty", f"never done, every {days(one.every)} is allowed", do)
    done = f"done on {one.last:%Y-%m-%d} ({one.by}), due {one.due:%Y-%m-%d}"
    if one.overdue:
        do = f"`{how_to_do(records.spec, records.environment, one)}`"
        return Part("duty", name, False, "overdue duty", done, do, at=one.last)
    return Part("duty", name, True, "duty", done, at=one.last)
