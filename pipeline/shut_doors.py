"""Which doors persons hold closed at the end of a run, from its entries alone: behind them it is not open. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pipeline.contracts import SwitchName
from pipeline.events import Entry, Kind

_DOORS: Mapping[object, SwitchName] = MappingProxyType(
    {
        "maintenance": SwitchName.MAINTENANCE,
        "payments": SwitchName.PAYMENTS_OFF,
        "test-mode": SwitchName.TEST_MODE,
    }
)
"""The door of each checkpoint that opens one."""


def shut_doors(entries: Iterable[Entry]) -> tuple[SwitchName, ...]:
    """By the last word on each; `entries` are those of one run that came to its end. Not recorded is not closed."""
    last: dict[SwitchName, bool] = {}
    for entry in entries:
        said, name = entry.data, entry.data.get("name")
        match entry.kind:
            case Kind.DOOR_CLOSED | Kind.DOOR_OPENED:
                last |= {door: entry.kind is Kind.DOOR_CLOSED for door in SwitchName if door.value == said.get("door")}
            case Kind.CHECKPOINT_ARMED if name in _DOORS:
                last[_DOORS[name]] = _is_on(said.get("captured"))
            case Kind.CHECKPOINT_CONFIRMED if name in _DOORS and said.get("ok") is True:
                last[_DOORS[name]] = stays_shut(said)
            case _:
                pass
    return tuple(door for door in SwitchName if last.get(door))


def stays_shut(confirmed: Mapping[str, Any]) -> bool:
    """Whether what a way back confirmed is a door that it found closed, as a person had left it."""
    door = _DOORS.get(confirmed.get("name"))
    return door is not None and str(confirmed.get("found") or "").startswith(f"{door.value} on since ")


def _is_on(captured: object) -> bool:
    return isinstance(captured, Mapping) and captured.get("switch") is not None
