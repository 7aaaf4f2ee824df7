"""What a run says of itself: entries of the journal, and lines of output that are shown but not kept.

The runner records an entry (durable, then told to every listener); journal, console and report never steer it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pipeline.telling import Manner


class Kind(StrEnum):
    """Every kind of entry, with the members of its data. Times are seconds (`_s`) or milliseconds (`_ms`)."""

    RUN_STARTED = "run.started"
    """verb, environment, service, release|None, previous|None, who, machine, reason, spec_digest, questionnaire|None,
    plan_digest, plan (see Plan.as_data), resumes (the run that goes on, or '')"""
    LEASE_TAKEN = "lease.taken"
    """token (fencing number), owner, from_dead_owner|None"""
    STAGE_STARTED = "stage.started"
    """stage"""
    STEP_STARTED = "step.started"
    """stage, step, does (`check settings.valid`), limit_s, attempt"""
    CHECKPOINT_ARMED = "checkpoint.armed"
    """stage, step, name, captured"""
    FINDING = "finding"
    """stage, step, check, verdict, reason, remedy, evidence, rows, pci, places [{file, line, what}],
    accepted {by, reason, until, verdict, state} where pipeline.yaml has somebody answer for it: `verdict` is what was
    found, `state` what became of the acceptance (pipeline.accepting.State)"""
    MONEY_SPENT = "money.spent"
    """reference, cents, cap_cents: a smoke payment about to be paid, on record before it is"""
    SECURITY_EVENT = "security.event"
    """at, kind, source, reason, reference: see pipeline.contracts.SecurityEvent"""
    STEP_FINISHED = "step.finished"
    """stage, step, outcome (done, failed, timed out, cancelled, skipped), error, remedy, took_s"""
    STAGE_FINISHED = "stage.finished"
    """stage, outcome (done, failed, cancelled), took_s"""
    RUN_FAILED = "run.failed"
    """stage, step, error, remedy: the first error, which nothing that follows may hide; error_class, a name of
    pipeline.recovery.CLASSES (older entries have none)"""
    RELEASE_MARKED = "release.marked"
    """release, state, why"""
    WAYBACK_STARTED = "wayback.started"
    """why, release|None (what it goes back to), checkpoints [{name, captured}], of_run, bad, since, test_mode (whether
    a person asked for test mode)"""
    PAYMENTS_CLOSED = "payments.closed"
    """why"""
    DOOR_CLOSED = "door.closed"
    """door, who, why, since: a person's word, on record before the file is written"""
    DOOR_OPENED = "door.opened"
    """door, who, why, since: a person's door as it was closed, which is opened now"""
    CHECKPOINT_RESTORING = "checkpoint.restoring"
    """name"""
    CHECKPOINT_CONFIRMED = "checkpoint.confirmed"
    """name, ok, found, expected, error, took_s: restored and read again, or not"""
    RECONCILED = "reconciled"
    """ok, paid, activated, repaired [references], mismatches [{reference, found, expected, what, cents}], error. After
    a way back also cents {reference: cents} of what was repaired. In a run of the verb reconcile of the mismatches the
    first 100, mismatched, pending (counts), since, whole_until (where the next run begins)"""
    REOPENED = "reopened"
    """release|None, took_s since the decision, test_mode"""
    CLOSED = "closed"
    """why, how (maintenance switch, or the target answers itself), manual [steps for a person]"""
    RECORD_BROKEN = "record.broken"
    """count, breaks [the first, each in a line], kept_as (where a damaged file was moved, or ''), told (in one line)"""
    RUN_SUPERSEDED = "run.superseded"
    """of_run, by_run: an unfinished run that this one has put right"""
    NOTICE = "notice"
    """event, to, ok (None: about to be sent, True, False), error, of_run (only where it is told late: the run that was
    killed before it could): see pipeline.notices"""
    RUN_FINISHED = "run.finished"
    """outcome (done, refused, restored, person needed, taken over, interrupted, bug), exit_code, summary, took_s"""


@dataclass(frozen=True)
class Entry:
    """One durable entry of the journal. `hash` covers everything before it, through `previous`."""

    seq: int
    run: str
    at: datetime
    kind: Kind
    data: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True)
class Output:
    """A line that a command of a step printed, or that a check told, redacted. Shown, not kept in the journal."""

    stage: str
    step: str
    line: str
    manner: Manner | None = None
    """How a check told it; None: a command printed it."""


Event = Entry | Output
Listener = Callable[[Event], None]
