"""Which proofs vouch for a release: those it was asked when it was verified. Read from the journal alone."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts import ReleaseId, ReleaseState
from pipeline.events import Entry, Kind


def asked_when_verified(entries: Sequence[Entry], release: ReleaseId) -> frozenset[str] | None:
    """The checks of the run that last verified `release`; None when that is not on record. `entries` oldest first."""
    marks = (
        entry
        for entry in reversed(entries)
        if entry.kind is Kind.RELEASE_MARKED
        and (entry.data["release"], entry.data["state"]) == (release, ReleaseState.VERIFIED.value)
    )
    verified = next(marks, None)
    if verified is None:
        return None
    asked = frozenset(
        str(entry.data["check"])
        for entry in entries
        if entry.kind is Kind.FINDING and entry.run == verified.run and entry.seq < verified.seq
    )
    return asked or None
