"""How a check that waits for a person tells what it waits for; each kind of console lays it out its own way."""

from __future__ import annotations

from enum import StrEnum


class Manner(StrEnum):
    """What becomes of a line that is told."""

    SAID = "said"
    """It stays to be read."""
    PASSING = "passing"
    """The next one takes its place: a countdown. Where lines cannot be replaced, one in 15 seconds is shown."""
    SCAN = "scan"
    """The line is a link for a phone: a terminal shows it as a QR code as well."""


def silent(_line: str, _manner: Manner = Manner.SAID) -> None:
    """Nobody follows."""
