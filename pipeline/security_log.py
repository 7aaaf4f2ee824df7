"""The journal's security events: how one is recorded, and how all of them are read out as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pipeline import security_events
from pipeline.contracts import SecurityEvent
from pipeline.events import Entry, Kind


def as_data(event: SecurityEvent) -> Mapping[str, Any]:
    """The data of its entry, cleaned before it is on record. Raises ValueError for a kind that is not of the list."""
    members = security_events.members(
        at=event.at, kind=event.kind, source=event.source, reason=event.reason, reference=event.reference
    )
    return {"at": members["time"], **{name: members[name] for name in ("kind", "source", "reason", "reference")}}


def lines(entries: Iterable[Entry], since: datetime | None = None) -> Iterator[str]:
    """Every security event among `entries`, in their order, as lines of JSON; `since` leaves out what is older.

    The lines follow `security_events.JSON_SCHEMA`; only a kind that a newer Tollgate wrote is none of its list. Each
    also has the `seq` and the `run` of its entry.
    """
    for entry in entries:
        if entry.kind is Kind.SECURITY_EVENT and (since is None or entry.at >= since):
            yield security_events.line({**_members(entry), "seq": entry.seq, "run": entry.run})


def _members(entry: Entry) -> Mapping[str, Any]:
    kind, source, reason, reference = (
        str(entry.data.get(name, "")) for name in ("kind", "source", "reason", "reference")
    )
    return security_events.cleaned(at=_instant(entry), kind=kind, source=source, reason=reason, reference=reference)


def _instant(entry: Entry) -> datetime:
    """When the event was; when its entry was written where it does not say so."""
    try:
        at = datetime.fromisoformat(str(entry.data.get("at")))
    except ValueError:
        return entry.at
    return at if at.tzinfo else entry.at
