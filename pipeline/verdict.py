"""What a judgement says: a verdict, always with a reason, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Verdict(StrEnum):
    """Best first. Only the first three promote a release."""

    PASS = "PASS"
    ADVICE = "ADVICE"
    SKIPPED = "SKIPPED"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"
    FAIL = "FAIL"

    @property
    def promotes(self) -> bool:
        return self in (Verdict.PASS, Verdict.ADVICE, Verdict.SKIPPED)


_ORDER = list(Verdict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a group. Nothing measured is not a pass: of no verdicts it is INCONCLUSIVE."""
    return max(verdicts, key=_ORDER.index, default=Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Place:
    """Where in a file something was found. `file` is relative to the folder of pipeline.yaml, `line` counts from 1."""

    file: str
    line: int
    what: str


@dataclass(frozen=True)
class Finding:
    """One judgement: what was found, and for anything but PASS what to do next.

    `reason` says what happened, where, what was found and what is allowed. `remedy` is the fix.
    `evidence` holds what was measured (JSON values; durations carry their unit in the key: `took_ms`).
    `places` are the files and lines it speaks of, for annotations in a review; most findings have none.
    Secrets do not belong in any of them; the redactor stands behind all the same.
    """

    verdict: Verdict
    reason: str
    remedy: str = ""
    evidence: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    places: tuple[Place, ...] = ()
    error_class: str = field(default="", compare=False)
    """Where it stands for an error: its class in docs/errors.md."""

    def __post_init__(self) -> None:
        if not self.reason:
            raise ValueError("a finding without a reason")


def passed(reason: str, **evidence: object) -> Finding:
    return Finding(Verdict.PASS, reason, evidence=evidence)


def advice(reason: str, remedy: str, **evidence: object) -> Finding:
    return Finding(Verdict.ADVICE, reason, remedy, evidence)


def skipped(reason: str, **evidence: object) -> Finding:
    return Finding(Verdict.SKIPPED, reason, evidence=evidence)


def inconclusive(reason: str, remedy: str, **evidence: object) -> Finding:
    return Finding(Verdict.INCONCLUSIVE, reason, remedy, evidence)


def failed(reason: str, remedy: str, **evidence: object) -> Finding:
    return Finding(Verdict.FAIL, reason, remedy, evidence)
