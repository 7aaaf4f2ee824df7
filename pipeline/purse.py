"""What the smoke payments of a run may cost: counted on record, so that no retry and no resumed run spends it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from pipeline.contracts import Cents, ReleaseState
from pipeline.errors import CapReached
from pipeline.events import Entry, Kind


class AlreadySpent(CapReached):
    """The cap is reached. `references` are the payments of this proving that were paid for already, newest first.

    They may be gone on with, for that costs nothing more. What was paid before the switch or before a way back began is
    not among them: it was paid to another release. `before_way_back` says that there was one before a way back.
    """

    def __init__(self, message: str, remedy: str, *, references: Sequence[str], before_way_back: bool) -> None:
        super().__init__(message, remedy)
        self.references = tuple(references)
        self.before_way_back = before_way_back


class RecordedPurse:
    """`pipeline.contracts.Purse` over the record of one run, that of before it was resumed included.

    `entries` reads the run's own entries, `record` puts one on record, durable when it returns.
    """

    def __init__(self, entries: Callable[[], Sequence[Entry]], record: Callable[..., Any]) -> None:
        self._entries = entries
        self._record = record
        self._lock = Lock()

    async def spend(self, cents: Cents, reference: str, *, cap: Cents) -> None:
        """A reference is one payment and is paid once: named again, it costs nothing more.

        Raises AlreadySpent, ValueError for an amount that is none, TollgateError when nothing can be recorded.
        """
        if cents <= 0:
            raise ValueError(f"{cents} cents cannot be spent")
        with self._lock:  # nothing is awaited between counting and recording
            entries = self._entries()
            spent = [entry for entry in entries if entry.kind is Kind.MONEY_SPENT]
            if any(entry.data["reference"] == reference for entry in spent):
                return
            total = sum(int(entry.data["cents"]) for entry in spent)
            if total + cents > cap:
                raise _refused(entries, spent, total, cents, cap)
            self._record(Kind.MONEY_SPENT, reference=reference, cents=int(cents), cap_cents=int(cap))


def _refused(entries: Sequence[Entry], spent: Sequence[Entry], total: int, cents: int, cap: int) -> AlreadySpent:
    back = max((entry.seq for entry in entries if entry.kind is Kind.WAYBACK_STARTED), default=0)
    since = max((entry.seq for entry in entries if _switched(entry)), default=back)
    return AlreadySpent(
        f"a payment of {cents} cents was not made: this run has spent {total} cents, and its cap is {cap}",
        "Start a new run, or raise `cap` if you mean a run to spend more; retries and a way back pay anew as long as "
        "the cap allows.",
        references=[str(entry.data["reference"]) for entry in reversed(spent) if entry.seq > max(since, back)],
        before_way_back=any(entry.seq < back for entry in spent),
    )


def _switched(entry: Entry) -> bool:
    return entry.kind is Kind.RELEASE_MARKED and entry.data["state"] == ReleaseState.LIVE.value
