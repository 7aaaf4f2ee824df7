"""What csp_evaluator's severities mean for a payment page, and how several policies of one page add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from checks.csp.evaluator import Evaluation, Weakness
from checks.csp.policy import Policy
from pipeline.verdict import Verdict

BY_SEVERITY: Mapping[str, Verdict] = MappingProxyType(
    {
        "HIGH": Verdict.FAIL,
        "SYNTAX": Verdict.FAIL,  # the policy in force is not the one that was written
        "MEDIUM": Verdict.FAIL,
        "HIGH_MAYBE": Verdict.FAIL,
        "MEDIUM_MAYBE": Verdict.ADVICE,
        "STRICT_CSP": Verdict.PASS,  # advice for browsers of before 2017
        "INFO": Verdict.PASS,
        "NONE": Verdict.PASS,
    }
)
"""A severity that is not in the table is FAIL: the evaluator was updated and this table was not."""

BY_KIND: Mapping[str, Verdict] = MappingProxyType(
    {"UNKNOWN_DIRECTIVE": Verdict.ADVICE}  # browsers ignore it, and newer ones may know it
)
"""What is judged otherwise than its severity says, whatever the severity."""

_SCRIPTS, _OBJECTS, _BASE = "scripts", "objects", "base"
_CONCERNS: Mapping[str, str] = MappingProxyType(
    {
        "script-src": _SCRIPTS,
        "script-src-elem": _SCRIPTS,
        "script-src-attr": _SCRIPTS,
        "default-src": _SCRIPTS,
        "object-src": _OBJECTS,
        "base-uri": _BASE,
    }
)
_HOLES = (
    "MISSING_DIRECTIVES",
    "SCRIPT_UNSAFE_INLINE",
    "SCRIPT_UNSAFE_EVAL",
    "SCRIPT_UNSAFE_HASHES",
    "SCRIPT_ALLOWLIST_BYPASS",
    "OBJECT_ALLOWLIST_BYPASS",
    "PLAIN_URL_SCHEMES",
    "PLAIN_WILDCARD",
    "NONCE_LENGTH",
)
"""Kinds that say what gets through. Another policy may stop it; a slip of the pen no other policy mends."""


def verdict_of(weakness: Weakness) -> Verdict:
    if weakness.kind == "SCRIPT_ALLOWLIST_BYPASS" and weakness.value == "'self'":
        return Verdict.PASS  # the service's own scripts are held against an inventory: pages.scripts_inventoried
    return BY_KIND.get(weakness.kind, BY_SEVERITY.get(weakness.severity, Verdict.FAIL))


def counting(policies: Sequence[Policy], evaluations: Sequence[Evaluation]) -> Iterator[tuple[Weakness, Verdict]]:
    """The weaknesses of a page with their verdicts. All its policies are enforced, so a hole is one only where each
    policy leaves it open; `policies` and `evaluations` go together."""
    stopped = {
        concern
        for concern in (_SCRIPTS, _OBJECTS, _BASE)
        if any(_stops(policy, evaluation, concern) for policy, evaluation in zip(policies, evaluations, strict=True))
    }
    for evaluation in evaluations:
        for weakness in evaluation.weaknesses:
            verdict = verdict_of(weakness)
            if verdict is Verdict.PASS or (weakness.kind in _HOLES and _concern(weakness) in stopped):
                continue
            yield weakness, verdict


def _concern(weakness: Weakness) -> str:
    return _CONCERNS.get(weakness.directive, "")


def _stops(policy: Policy, evaluation: Evaluation, concern: str) -> bool:
    """Whether this policy alone leaves nothing of the concern open."""
    if evaluation.problem or (concern == _BASE and "base-uri" not in policy.directives):
        return False
    return not any(
        weakness.kind in _HOLES and _concern(weakness) == concern and verdict_of(weakness) is not Verdict.PASS
        for weakness in evaluation.weaknesses
    )
