"""Checkpoints by their names: `kind` or `kind:which`, in the order of their table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.contracts import NAMED, Checkpoint, OnlyWhereNamed, kind_of
from pipeline.spec import Spec

Table = Mapping[str, Checkpoint]

LEADS = "release"
"""The checkpoint that says where a way back leads; whatever is armed, it is armed with it."""


def in_order(table: Table, names: Iterable[str]) -> list[str]:
    """Each name once, by its kind's place in the table; those of one kind as they come, unknown kinds last."""
    places = {kind: place for place, kind in enumerate(table)}
    return sorted(dict.fromkeys(names), key=lambda name: places.get(kind_of(name), len(places)))


def always(table: Table) -> list[str]:
    """What is armed with every step that arms anything: where the way back leads, and the doors it closes."""
    return [name for name, checkpoint in table.items() if checkpoint.reopens or name == LEADS]


def unasked(table: Table) -> dict[str, Checkpoint]:
    """The kinds that can be captured although no step names them."""
    return {name: checkpoint for name, checkpoint in table.items() if not isinstance(checkpoint, OnlyWhereNamed)}


def described(table: Table, name: str) -> bool:
    """Whether pipeline.yaml says what this checkpoint has to do, so that it cannot be captured without it."""
    checkpoint = table.get(kind_of(name))
    return isinstance(checkpoint, OnlyWhereNamed) and bool(checkpoint.section)


def wanted(spec: Spec, table: Table, name: str) -> Mapping[str, Any]:
    """What the spec says of a checkpoint, as JSON values; empty where it says nothing."""
    checkpoint = table[kind_of(name)]
    section = getattr(spec, checkpoint.section, None) if isinstance(checkpoint, OnlyWhereNamed) else None
    if isinstance(checkpoint, OnlyWhereNamed) and checkpoint.section == NAMED:
        section = spec.checkpoints.get(name.partition(":")[2])
    return section.model_dump(mode="json") if section is not None else {}
