"""Runs csp_evaluator over policies: a fresh QuickJS context for each, bounded in time and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
VENDORED = HERE / "third_party" / "csp_evaluator"

LONGEST = 16_384
"""Characters of a policy; a longer one is not evaluated, and says so."""


@dataclass(frozen=True)
class Limits:
    """What one policy may cost: seconds of the processor, and bytes."""

    cpu_s: float = 2.0
    memory: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Weakness:
    """What csp_evaluator says. `kind` and `severity` are its own names: SCRIPT_UNSAFE_INLINE, HIGH."""

    kind: str
    severity: str
    directive: str
    value: str
    description: str


@dataclass(frozen=True)
class Evaluation:
    """`unreadable` are (directive, source) that no browser can read and all ignore. `problem` says why there is no
    evaluation; it is '' when there is one."""

    weaknesses: tuple[Weakness, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    problem: str = ""


USUAL = Limits()


def evaluate(policies: Sequence[str], limits: Limits = USUAL) -> tuple[Evaluation, ...]:
    """One evaluation for each policy, in their order. Any text is answered; blocking, so run it in a thread."""
    known: dict[str, Evaluation] = {}
    for policy in policies:
        if policy not in known:
            known[policy] = _evaluate(policy, limits)
    return tuple(known[policy] for policy in policies)


def _evaluate(policy: str, limits: Limits) -> Evaluation:
    import quickjs

    if len(policy) > LONGEST:
        return Evaluation(problem=f"it has {len(policy)} characters; {LONGEST} are evaluated at most")
    if not policy.isascii() or "\0" in policy:
        return Evaluation(problem="it holds characters that no policy may hold")
    try:
        context = quickjs.Context()
        context.set_memory_limit(limits.memory)
        context.set_time_limit(limits.cpu_s)
        context.eval(_program())
        answer = json.loads(context.get("evaluate")(policy))
    except (quickjs.JSException, quickjs.StackOverflow) as error:
        said = str(error).partition("\n")[0].strip()
        return Evaluation(
            problem=f"the evaluator gave up: {said[:120] if said not in ('', 'null') else 'out of memory'}"
        )
    return Evaluation(
        tuple(_weakness(found) for found in answer["findings"]),
        tuple((directive, source) for directive, source in answer["unreadable"]),
    )


def _weakness(found: Mapping[str, str]) -> Weakness:
    return Weakness(found["type"], found["severity"], found["directive"], found["value"], found["description"])


@lru_cache(maxsize=1)
def _program() -> str:
    sources = {str(file.relative_to(VENDORED)): file.read_text("utf-8") for file in sorted(VENDORED.rglob("*.js"))}
    glue = (HERE / "glue.js").read_text("utf-8")
    return f"const SOURCES = {json.dumps(sources)};\n{{\n{glue}\n}}"
