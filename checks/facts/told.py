"""Several things told of one fact become one finding: the worst verdict, and all that was found with that verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.verdict import Finding, Verdict, worst

Told = tuple[Verdict, str, str]
"""A verdict, what was found, and the fix."""


def finding_of(told: Sequence[Told], evidence: Mapping[str, object], where: str = "") -> Finding:
    """One finding of at least one `told`. Each fix is told once."""
    verdict = worst(one for one, _, _ in told)
    kept = [(found, fix) for one, found, fix in told if one is verdict]
    reason = "; ".join(found for found, _ in kept)
    return Finding(verdict, where + reason, "\n".join(dict.fromkeys(fix for _, fix in kept)), evidence)
