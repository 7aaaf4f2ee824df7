"""Production as the gates over settings and credentials meet it, with credentials of this run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.contracts import Addresses, Past, PastFinding, PastRun, World
from pipeline.secrets import Secret
from pipeline.verdict import Verdict
from tests.checks.worlds import SPEC, URL, random_text, world

GATEWAY = "https://api.ikhokha.com"
_SECRET = Secret(random_text())
GOOD: Mapping[str, str | Secret] = {
    "VITE_NODE_ENV": "production",
    "VITE_IKHOKHA_API_URL": GATEWAY,
    "VITE_IKHOKHA_API_KEY": Secret("IK" + random_text()),
    "VITE_IKHOKHA_API_SECRET": _SECRET,
    "VITE_IKHOKHA_WEBHOOK_SECRET": _SECRET,
    "VITE_IKHOKHA_TEST_MODE": "false",
}
NINE: Mapping[str, Mapping[str, Any]] = {
    "VITE_NODE_ENV": {"type": "text"},
    "VITE_IKHOKHA_API_URL": {"type": "url"},
    "VITE_IKHOKHA_API_KEY": {"type": "secret"},
    "VITE_IKHOKHA_API_SECRET": {"type": "secret"},
    "VITE_IKHOKHA_WEBHOOK_SECRET": {"type": "secret"},
    "VITE_IKHOKHA_TEST_MODE": {"type": "boolean", "default": False},
    "VITE_IKHOKHA_TIMEOUT": {"type": "milliseconds", "default": 45000, "between": [1000, 120000]},
    "VITE_IKHOKHA_RETRY_ATTEMPTS": {"type": "integer", "default": 3, "between": [0, 10]},
    "VITE_IKHOKHA_RETRY_DELAY": {"type": "milliseconds", "default": 2000, "between": [100, 60000]},
}


def production(
    root: Path, spec: Mapping[str, Any] | None = None, environment: str = "production", **changed: str | Secret | None
) -> World:
    """The world of an environment with good settings; of `changed`, None takes a setting away."""
    values = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    made = world(root, environment=environment, values=values, spec={"settings": NINE, **(spec or {})})
    return replace(made, addresses=Addresses(URL, GATEWAY))


def environments(**changed: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with keys of environments changed, or environments added."""
    given = {name: {**value, **changed.get(name, {})} for name, value in SPEC["environments"].items()}
    return {"environments": {**given, **{name: value for name, value in changed.items() if name not in given}}}


@dataclass(frozen=True)
class Record:
    """A record made by hand: findings newest first, each through JSON as in a journal."""

    found: Sequence[PastFinding] = ()

    def findings(self, check: str) -> Sequence[PastFinding]:
        return [one for one in self.found if one.check == check]

    def runs(self, verb: str) -> Sequence[PastRun]:
        return ()


def found(check: str, verdict: Verdict, at: datetime, evidence: Mapping[str, Any] | None = None) -> PastFinding:
    return PastFinding(at, f"run-{at:%Y%m%d}", check, verdict, json.loads(json.dumps(evidence or {})))


def remembering(base: World, **records: Sequence[PastFinding]) -> World:
    """The same world with the records of environments."""

    def past(environment: str) -> Past:
        return Record(records.get(environment, ()))

    return replace(base, past=past)


def days_ago(base: World, days: float) -> datetime:
    return base.clock.now() - timedelta(days=days)
