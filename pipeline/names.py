"""The names a pipeline.yaml may use, taken from the tables of all rooms, and how a step is called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from pipeline.contracts import When
from pipeline.spec import ActStep, CheckStep, Step


@dataclass(frozen=True)
class Names:
    """Every name that exists, and the model its `with:` must fit. What is not here does not exist."""

    checks: Mapping[str, type[BaseModel]]
    check_when: Mapping[str, When]
    acts: Mapping[str, type[BaseModel]]
    checkpoints: frozenset[str]
    gateways: frozenset[str]
    sections: Mapping[str, str] = field(default_factory=dict)
    """The checkpoints that the key of pipeline.yaml named here must describe."""
    unacceptable: frozenset[str] = frozenset()
    """Checks whose findings `accepted` may not name."""


def step_name(step: Step) -> str:
    """What `needs`, the journal and the report call a step: its `name`, else what it does."""
    if step.name is not None:
        return step.name
    if isinstance(step, CheckStep):
        return step.check
    if isinstance(step, ActStep):
        return step.act
    return step.run[0]


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name most like `word`, or '' when none is alike."""
    options = sorted(known)
    found = difflib.get_close_matches(word[:200], options, n=1, cutoff=cutoff)
    if not found and len(word) >= 3:
        found = [option for option in options if option.lower().startswith(word.lower())]
    return found[0] if found else ""


def listed(names: Iterable[str], catalogue: str = "", limit: int = 12) -> str:
    """Names as an operator reads them; of many, only how many there are and where they are listed."""
    ordered = sorted(names)
    if catalogue and len(ordered) > limit:
        return f"one of {len(ordered)}, see {catalogue}"
    return ", ".join(ordered) or "none exist"
