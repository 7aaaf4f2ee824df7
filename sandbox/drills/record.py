"""Puts a drill on record: a run in the journal of the environment `sandbox` beside the drilled pipeline.yaml.

A drill plays in a folder that is removed afterwards; what it showed must outlive it. The run has the verb `drill` when
it plays every fault and `drill.one` when it plays one, because only the first says that the way back works.
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import json
import os
import platform
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from dotenv import dotenv_values

from pipeline.clock import SystemClock
from pipeline.errors import Exit, TollgateError
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor, Secret
from pipeline.yaml_strict import read
from sandbox.drills.fault import Fault
from sandbox.drills.scene import Scene

STAGE = "drill"
_LONGEST = 300


@dataclass
class Record:
    """The run of one drill. `redactor` learns the secrets of the drilled sandbox; nothing of them goes on record."""

    journal: Journal
    run: str
    redactor: Redactor
    results: dict[str, str] = field(default_factory=dict)
    """For each fault that was played, what was not as it must be; '' for nothing."""

    def learn(self, scene: Scene) -> None:
        """The secrets of the drilled sandbox, which what its commands printed may hold."""
        for path in (scene.settings, scene.state / "settings.aside"):
            if path.exists():
                values = dotenv_values(path, interpolate=False).items()
                self.redactor.add([Secret(value) for name, value in values if value and _is_secret(name)])

    def begin(self, fault: Fault) -> None:
        does = f"drill {fault.name}"
        self._append(Kind.STEP_STARTED, stage=STAGE, step=fault.name, does=does, limit_s=None, attempt=1)

    def end(self, fault: Fault, problems: Sequence[str], took_s: float) -> None:
        """`problems` may hold what commands printed: their first lines are enough to find them again."""
        told = "; ".join(problem.strip().split("\n")[0][:_LONGEST].rstrip(":") for problem in problems)
        self.results[fault.name] = told
        self._append(
            Kind.STEP_FINISHED,
            stage=STAGE,
            step=fault.name,
            outcome="failed" if problems else "done",
            error=told,
            remedy=f"`./inv drill --fault {fault.name}` plays it again." if problems else "",
            took_s=round(took_s, 3),
        )

    def _append(self, kind: Kind, **data: object) -> None:
        self.journal.append(self.run, kind, data)


@asynccontextmanager
async def on_record(spec: Path, faults: Sequence[Fault], *, every: bool) -> AsyncIterator[Record]:
    """A run of its own in `.tollgate/sandbox/` beside `spec`. However the body ends, the run ends on record.

    Raises TollgateError when the journal cannot be written.
    """
    clock, redactor, content = SystemClock(), Redactor(), spec.read_bytes()
    begun, verb, service = time.monotonic(), "drill" if every else "drill.one", _service(content)
    state = spec.resolve().parent / ".tollgate" / "sandbox"
    state.mkdir(parents=True, exist_ok=True)
    with Journal.open(state / "journal.sqlite", clock=clock, redactor=redactor) as journal:
        record = Record(journal, f"{clock.now():%Y%m%d-%H%M%S}-{token_hex(2)}", redactor)
        plan = _plan(verb, service, faults)
        journal.append(
            record.run,
            Kind.RUN_STARTED,
            {
                "verb": verb,
                "environment": "sandbox",
                "service": service,
                "release": None,
                "previous": None,
                "who": os.environ.get("GITHUB_ACTOR") or getpass.getuser(),
                "machine": platform.node(),
                "reason": "every fault" if every else ", ".join(fault.name for fault in faults),
                "spec_digest": hashlib.sha256(content).hexdigest(),
                "plan_digest": hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest(),
                "plan": plan,
                "resumes": "",
            },
        )
        journal.append(record.run, Kind.STAGE_STARTED, {"stage": STAGE})
        failure: BaseException | None = None
        try:
            yield record
        except BaseException as error:
            failure = error
            raise
        finally:
            _finish(record, faults, failure, round(time.monotonic() - begun, 3))


def _is_secret(name: str) -> bool:
    return "SECRET" in name or "KEY" in name


def _service(spec: bytes) -> str:
    """The name of the service; a spec that says none is refused by the commands of the drill."""
    told = read(spec).data
    return str(told.get("service", "")) if isinstance(told, dict) else ""


def _plan(verb: str, service: str, faults: Sequence[Fault]) -> dict[str, object]:
    """What is drilled, in the shape of a plan, for the report."""
    steps: list[dict[str, object]] = [
        {
            "name": fault.name,
            "does": f"drill {fault.name}",
            "with": {},
            "limit_s": None,
            "needs": [],
            "retries": 0,
            "checkpoints": [],
            "way_back": "plays in a sandbox of its own",
        }
        for fault in faults
    ]
    return {"verb": verb, "environment": "sandbox", "service": service, "stages": [{"name": STAGE, "steps": steps}]}


def _finish(record: Record, faults: Sequence[Fault], failure: BaseException | None, took_s: float) -> None:
    append = record.journal.append
    played, bad = len(record.results), [name for name, told in record.results.items() if told]
    complete = played == len(faults) and failure is None
    match failure:
        case None if complete and not bad:
            outcome, code, summary = "done", Exit.DONE, f"{played} drilled, every fault caught, I1, I2 and I3 hold"
        case None:
            outcome, code = "refused", Exit.REFUSED
            summary = f"{played} of {len(faults)} drilled, not as it must be: {', '.join(bad) or 'the others'}"
        case TollgateError():
            outcome, code, summary = "refused", Exit.REFUSED, f"the drill could not be played: {failure}"
        case KeyboardInterrupt() | asyncio.CancelledError():
            outcome, code, summary = "interrupted", Exit.INTERRUPTED, f"interrupted after {played} of {len(faults)}"
        case _:
            outcome, code, summary = "bug", Exit.BUG, f"a bug of Tollgate: {type(failure).__name__}"
    summary = summary.split("\n")[0]
    if bad and failure is not None:  # what it showed before it broke off does not go away with Ctrl-C
        outcome, summary = "refused", f"{summary}; not as it must be: {', '.join(bad)}"
    if outcome != "done":
        first = bad[0] if bad else ""
        append(
            record.run,
            Kind.RUN_FAILED,
            {
                "stage": STAGE,
                "step": first,
                "error": record.results[first] if first else summary,
                "remedy": f"`./inv drill --fault {first}` plays it again and shows more." if first else "",
            },
        )
    stage_outcome = {"done": "done", "interrupted": "cancelled"}.get(outcome, "failed")
    append(record.run, Kind.STAGE_FINISHED, {"stage": STAGE, "outcome": stage_outcome, "took_s": took_s})
    append(
        record.run,
        Kind.RUN_FINISHED,
        {"outcome": outcome, "exit_code": int(code), "summary": summary, "took_s": took_s},
    )
