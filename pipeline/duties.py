"""Recurring work: when it was last done, by what record, and when it is due again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.attestations import AHEAD, Attestation, State, after
from pipeline.contracts import Past, PastFinding
from pipeline.spec import STAGES, CheckStep, Duty, Spec
from pipeline.verdict import Verdict


@dataclass(frozen=True)
class Standing:
    """One duty now. `last` and `due` are None while it was never done; `by` is a person, or `check NAME`.

    `note` says why a record that lies there does not count; `unknown` that it could not be verified here.
    """

    name: str
    title: str
    every: float
    proven_by: str
    last: datetime | None
    due: datetime | None
    by: str
    overdue: bool
    note: str = ""
    unknown: bool = False


def standings(
    duties: Mapping[str, Duty], attested: Mapping[str, Attestation], past: Past, now: datetime
) -> tuple[Standing, ...]:
    """Every duty, overdue ones first, then by the day they are due."""
    found = [_standing(name, duty, attested[name], past, now) for name, duty in duties.items()]
    never = datetime.min.replace(tzinfo=UTC)
    return tuple(sorted(found, key=lambda one: (not one.overdue, one.due or never, one.name)))


def _standing(name: str, duty: Duty, attested: Attestation, past: Past, now: datetime) -> Standing:
    proof = last_pass(past.findings(duty.proven_by), now) if duty.proven_by else None
    records = [(attested.done, attested.by)] if attested.done else []
    records += [(proof, f"check {duty.proven_by}")] if proof else []
    last, by = max(records, default=(None, ""), key=lambda record: record[0] or now)
    due = None if last is None else after(last, duty.every)
    note = "" if attested.done or attested.state is State.MISSING else f"{attested.state.value}: {attested.why}"
    return Standing(
        name=name,
        title=duty.title,
        every=duty.every,
        proven_by=duty.proven_by or "",
        last=last,
        due=due,
        by=by,
        overdue=due is None or now >= due,
        note=note,
        unknown=attested.state is State.UNKNOWN,
    )


def last_pass(findings: Sequence[PastFinding], now: datetime) -> datetime | None:
    """When the newest PASS says its work was done: its evidence `done_at`, never later than the finding itself.

    A PASS whose `done_at` is no instant with a zone proves nothing, and neither does one of the future.
    """
    for finding in findings:
        if finding.verdict is not Verdict.PASS or finding.at > now + AHEAD:
            continue
        if "done_at" not in finding.evidence:
            return finding.at
        done = _instant(finding.evidence["done_at"])
        if done is not None:
            return min(done, finding.at)
    return None


def _instant(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at.astimezone(UTC) if at is not None and at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


# ---- what to type ------------------------------------------------------------------------------------------

_VERBS = {"gates": "validate", "prove": "verify"}


def stage_of(spec: Spec, environment: str, check: str) -> str:
    """The stage whose steps ask this check in this environment, or ''."""
    for stage in STAGES:
        for step in spec.steps(stage):
            here = step.only is None or environment in step.only
            if here and isinstance(step, CheckStep) and step.check == check:
                return stage
    return ""


def command_that_runs(spec: Spec, environment: str, check: str) -> str:
    """What an operator types to have this check asked, or '' when no stage of the environment asks it."""
    stage = stage_of(spec, environment, check)
    return f"./inv {_VERBS.get(stage, 'deploy')} --env {environment}" if stage else ""


def command_to_sign(item: str, environment: str) -> str:
    return f'./inv attest {item} --env {environment} --evidence "..."'


def how_to_do(spec: Spec, environment: str, duty: Standing) -> str:
    """The command that puts a duty on record once it was done."""
    proof = command_that_runs(spec, environment, duty.proven_by) if duty.proven_by else ""
    return proof or command_to_sign(duty.name, environment)


def days(seconds: float) -> str:
    """A period as pipeline.yaml writes it: `92 d`, `12 h`."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def overdue(standing: Iterable[Standing]) -> tuple[Standing, ...]:
    return tuple(one for one in standing if one.overdue)
