"""How quick a way back was, from its entries alone: when the old release served again, and when all was open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.contracts import SwitchName
from pipeline.events import Entry, Kind
from pipeline.shut_doors import stays_shut
from pipeline.words import took


@dataclass(frozen=True)
class Quickness:
    """Seconds since the decision, which is the first entry of the way back; None where the record does not tell.

    `traffic_s` is told late rather than early: the release served already while its bytes were read again.
    """

    release: str | None
    traffic_s: float | None
    open_s: float | None
    shut: bool = False
    """A door that a person had closed stayed closed, so nothing was opened to customers."""

    def __str__(self) -> str:
        """One sentence without its stop, '' where no release was put back."""
        if self.release is None or self.traffic_s is None:
            return ""
        opened = "" if self.open_s is None else f"; {'done' if self.shut else 'open'} after {took(self.open_s)}"
        return f"Traffic back on {self.release} after {took(self.traffic_s)}{opened}"


def quickness(entries: Sequence[Entry]) -> Quickness:
    """Of the last way back among the entries of one run."""
    begun: Entry | None = None
    traffic_s = open_s = None
    shut = False
    for entry in entries:
        if entry.kind is Kind.WAYBACK_STARTED:
            begun, traffic_s, open_s, shut = entry, None, None, False
        elif begun is not None and entry.kind is Kind.CHECKPOINT_CONFIRMED:
            if entry.data.get("name") == "release" and entry.data.get("ok") is True:
                traffic_s = _since(begun, entry)
            shut = shut or (entry.data.get("name") != SwitchName.TEST_MODE and stays_shut(entry.data))
        elif begun is not None and entry.kind is Kind.REOPENED:
            open_s = _since(begun, entry)
    release = begun.data.get("release") if begun is not None else None
    return Quickness(str(release) if release else None, traffic_s, open_s, shut)


def _since(begun: Entry, entry: Entry) -> float | None:
    """None where a clock jumped back: a time that cannot be is not told."""
    seconds = (entry.at - begun.at).total_seconds()
    return seconds if seconds >= 0 else None
