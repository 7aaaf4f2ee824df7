"""What can be broken about the gateway, for drills."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

LONGEST_S = 600.0
FURTHEST_OFF = 100_000_000


@dataclass(frozen=True)
class Faults:
    """The faults that are on. They live in memory: a gateway that starts again has none."""

    outage: bool = False
    """API and pay pages close the connection without an answer; webhooks wait until it is over."""
    slow_s: float = 0.0
    """The API answers this much later."""
    garble: bool = False
    """The API answers 200 with something that is not its protocol."""
    refuse: bool = False
    """Creating a payment is answered 200 with the code of a failure, and none is made."""
    withhold_webhooks: bool = False
    """No webhook is sent; they leave when this is switched off."""
    double_webhooks: bool = False
    """Each webhook is sent twice at once."""
    webhook_delay_s: float = 0.0
    """New webhooks are sent this much later."""
    amount_off: int = 0
    """Cents by which status and history differ from what was paid."""

    def changed(self, members: Mapping[str, Any]) -> Self:
        """These faults with some members changed. Raises ValueError, with what is allowed, on anything else."""
        for name, value in members.items():
            _judge(name, value)
        return dataclasses.replace(self, **members)

    def as_data(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


NAMES = tuple(f.name for f in dataclasses.fields(Faults))
_SECONDS = ("slow_s", "webhook_delay_s")


def _judge(name: str, value: Any) -> None:
    if name not in NAMES:
        raise ValueError(f"{name[:40]!r} is no fault; allowed: {', '.join(NAMES)}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _SECONDS:
        if not number or not 0 <= value <= LONGEST_S:
            raise ValueError(f"{name}: seconds from 0 to {LONGEST_S:g} are allowed")
    elif name == "amount_off":
        if not number or not isinstance(value, int) or abs(value) > FURTHEST_OFF:
            raise ValueError(f"{name}: whole cents up to {FURTHEST_OFF} either way are allowed")
    elif not isinstance(value, bool):
        raise ValueError(f"{name}: true or false is allowed")
