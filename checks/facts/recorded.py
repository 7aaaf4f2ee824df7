"""What the last passing run of a check saw, to tell what has changed since."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.contracts import World
from pipeline.errors import TollgateError
from pipeline.verdict import Verdict


@dataclass(frozen=True)
class Recorded:
    """The evidence of the last passing finding, and the run it is of."""

    run: str
    evidence: Mapping[str, object]

    def texts(self, key: str) -> Mapping[str, str]:
        """A member of the evidence that maps text to text; {} where there is none."""
        member = self.evidence.get(key)
        return {str(k): str(v) for k, v in member.items()} if isinstance(member, Mapping) else {}


def recorded(world: World, check: str) -> Recorded | None:
    """None as well where the record cannot be trusted: gates refuse it, and a way back must not hang on it."""
    try:
        findings = world.past(world.environment_name).findings(check)
    except TollgateError:
        return None
    for past in findings:
        if past.verdict in (Verdict.PASS, Verdict.ADVICE):
            return Recorded(past.run, past.evidence)
    return None


@dataclass(frozen=True)
class Change:
    """What is otherwise than on record, as `{added, gone, changed}` of keys; {} when nothing is on record."""

    keys: Mapping[str, list[str]]
    run: str

    def __str__(self) -> str:
        """`; 1 added, 2 gone since run R`, or '' when nothing changed."""
        told = ", ".join(f"{len(keys)} {what}" for what, keys in self.keys.items() if keys)
        return f"; {told} since run {self.run}" if told else ""


def change(now: Mapping[str, str], record: Recorded | None, key: str) -> Change:
    """Compares `now` with the member `key` of the record's evidence."""
    if record is None or key not in record.evidence:
        return Change({}, "")
    then = record.texts(key)
    both: Collection[str] = now.keys() & then.keys()
    changed = sorted(one for one in both if now[one] != then[one])
    return Change(
        {"added": sorted(now.keys() - then.keys()), "gone": sorted(then.keys() - now.keys()), "changed": changed},
        record.run,
    )
