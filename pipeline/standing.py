"""Where an environment stands, read from its journal alone: what is unfinished, what was armed, what is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.contracts import ReleaseId
from pipeline.events import Entry, Kind
from pipeline.stages import Done
from pipeline.wayback import Armed

LEFT_OPEN = ("person needed", "taken over")
"""How a run ends that leaves the environment to a rollback."""
CHANGING = ("deploy", "rollback")
"""The verbs whose unfinished runs must be put right before the next change."""


@dataclass(frozen=True)
class Open:
    """A run that changed the environment and did not end in a known good state: killed, or closed for a person.

    `resumable` when it was killed before its way back began, by itself or by a `rollback` of it.
    """

    run: str
    verb: str
    started: datetime
    release: ReleaseId | None
    previous: ReleaseId | None
    plan_digest: str
    armed: tuple[Armed, ...]
    armed_release: ReleaseId | None
    """What the checkpoint `release` would put back."""
    done: Done
    going_back: bool
    closed: bool
    stands_at: str
    test_mode: bool = False
    """A rollback was to open with test mode on, and was killed before it could."""

    @property
    def resumable(self) -> bool:
        return self.verb == "deploy" and not self.going_back and not self.closed

    @property
    def changed(self) -> bool:
        return bool(self.armed)


def open_runs(entries: Sequence[Entry]) -> list[Open]:
    """Newest first. `entries` are those of the whole journal, in order."""
    by_run: dict[str, list[Entry]] = {}
    settled: set[str] = set()
    taken_back: set[str] = set()
    for entry in entries:
        by_run.setdefault(entry.run, []).append(entry)
        if entry.kind is Kind.RUN_SUPERSEDED:
            settled.add(str(entry.data["of_run"]))
        elif entry.kind is Kind.WAYBACK_STARTED:
            taken_back.add(str(entry.data["of_run"]))
        elif entry.kind is Kind.RUN_FINISHED and entry.data["outcome"] not in LEFT_OPEN:
            settled.add(entry.run)
    found = [_open(run, by_run[run], run in taken_back) for run in by_run if run not in settled]
    return [one for one in reversed(found) if one is not None]


def _open(run: str, entries: Sequence[Entry], going_back: bool) -> Open | None:
    first = entries[0]
    if first.kind is not Kind.RUN_STARTED or first.data["verb"] not in CHANGING:
        return None
    last = next((entry for entry in reversed(entries) if entry.kind is not Kind.NOTICE), first)
    back = next((entry for entry in reversed(entries) if entry.kind is Kind.WAYBACK_STARTED), None)
    armed = (
        tuple(Armed(one["name"], one["captured"]) for one in back.data["checkpoints"])
        if back is not None
        else armed_by(entries)
    )
    finished = frozenset(
        (str(entry.data["stage"]), str(entry.data["step"]))
        for entry in entries
        if entry.kind is Kind.STEP_FINISHED and entry.data["outcome"] in ("done", "skipped")
    )
    return Open(
        run=run,
        verb=first.data["verb"],
        started=datetime.fromisoformat(back.data["since"]) if back is not None else first.at,
        release=first.data["release"] if back is None else back.data["bad"],
        previous=first.data["previous"],
        plan_digest=first.data["plan_digest"],
        armed=armed,
        armed_release=release_in(armed),
        done=Done(finished),
        going_back=going_back or back is not None,
        closed=any(entry.kind is Kind.CLOSED for entry in entries),
        stands_at=_described(last),
        test_mode=back is not None and bool(back.data.get("test_mode")) and last.kind is not Kind.RUN_FINISHED,
    )


def armed_by(entries: Sequence[Entry]) -> tuple[Armed, ...]:
    """The checkpoints that the entries of one run say were captured, in their order."""
    return tuple(
        Armed(entry.data["name"], entry.data["captured"]) for entry in entries if entry.kind is Kind.CHECKPOINT_ARMED
    )


def release_in(armed: Sequence[Armed]) -> ReleaseId | None:
    """What the checkpoint `release` among them puts back; None: nothing was live."""
    return next((one.captured.get("release") for one in armed if one.name == "release"), None)


def _described(entry: Entry) -> str:
    data: dict[str, Any] = dict(entry.data)
    where = " ".join(str(data[key]) for key in ("stage", "step", "name") if key in data)
    return f"{entry.kind.value} {where}".strip() + f" at {entry.at:%Y-%m-%d %H:%M:%S} UTC"
