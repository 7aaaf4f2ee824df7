"""Money is counted on record: no retry, no second check and no resumed run spends more than the cap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import SystemClock
from pipeline.contracts import Cents, EmptyPurse
from pipeline.errors import CapReached, TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import Journal
from pipeline.purse import AlreadySpent, RecordedPurse
from pipeline.secrets import Redactor
from tests.checks.worlds import purse as listed_purse

CAP = Cents(300)
PRICE = Cents(100)
Opened = Callable[[str], RecordedPurse]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.sqlite", clock=SystemClock(), redactor=Redactor([])) as journal:
        yield journal


@pytest.fixture
def opened(journal: Journal) -> Opened:
    """A purse of a run over the journal, as a process that opens it finds it."""

    def of(run: str) -> RecordedPurse:
        def record(kind: Kind, **data: Any) -> Entry:
            return journal.append(run, kind, data)

        return RecordedPurse(lambda: journal.entries(run), record)

    return of


def spent(journal: Journal, run: str) -> list[tuple[str, int, int]]:
    return [
        (entry.data["reference"], entry.data["cents"], entry.data["cap_cents"])
        for entry in journal.entries(run)
        if entry.kind is Kind.MONEY_SPENT
    ]


async def test_what_is_spent_is_on_record_before_it_is_paid(journal: Journal, opened: Opened) -> None:
    """Each payment is on record when the purse lets it pass, with what it cost and what was allowed."""
    await opened("run-1").spend(PRICE, "smoke-a", cap=CAP)
    assert spent(journal, "run-1") == [("smoke-a", 100, 300)]
    assert journal.verify() == ()


async def test_a_resumed_run_goes_on_counting_where_it_stopped(journal: Journal, opened: Opened) -> None:
    """A purse that is opened again for the same run knows what was spent; that of another run begins at nothing."""
    await opened("run-1").spend(PRICE, "smoke-a", cap=PRICE)
    with pytest.raises(AlreadySpent, match="has spent 100 cents, and its cap is 100") as refused:
        await opened("run-1").spend(PRICE, "smoke-b", cap=PRICE)
    assert refused.value.remedy
    assert (refused.value.references, refused.value.before_way_back) == (("smoke-a",), False)
    await opened("run-2").spend(PRICE, "smoke-c", cap=PRICE)
    assert [len(spent(journal, run)) for run in ("run-1", "run-2")] == [1, 1]


async def test_a_payment_is_paid_once_however_often_it_is_named(journal: Journal, opened: Opened) -> None:
    """Going on with a payment that was counted costs nothing more."""
    for _ in range(3):
        await opened("run-1").spend(PRICE, "smoke-a", cap=PRICE)
    assert spent(journal, "run-1") == [("smoke-a", 100, 100)]


async def test_what_was_spent_before_a_way_back_counts_and_is_not_gone_on_with(
    journal: Journal, opened: Opened
) -> None:
    """The cap is the whole run's; a payment to the release that is taken back proves nothing of the one before."""
    await opened("run-1").spend(PRICE, "smoke-a", cap=PRICE)
    journal.append("run-1", Kind.WAYBACK_STARTED, {"why": "", "release": None, "checkpoints": [], "of_run": "run-1"})
    with pytest.raises(AlreadySpent) as refused:
        await opened("run-1").spend(PRICE, "smoke-b", cap=PRICE)
    assert (refused.value.references, refused.value.before_way_back) == ((), True)
    await opened("run-1").spend(PRICE, "smoke-b", cap=Cents(200))
    assert len(spent(journal, "run-1")) == 2


async def test_payments_side_by_side_never_pass_the_cap_together(journal: Journal, opened: Opened) -> None:
    """Twenty checks that pay at once pay as often as the cap allows."""
    purse = opened("run-1")
    tried = await asyncio.gather(
        *(purse.spend(PRICE, f"smoke-{n}", cap=CAP) for n in range(20)), return_exceptions=True
    )
    assert [type(one) for one in tried].count(AlreadySpent) == 17
    assert len(spent(journal, "run-1")) == 3


@pytest.mark.parametrize("cents", [0, -100])
async def test_nothing_can_be_put_back_into_the_purse(journal: Journal, opened: Opened, cents: int) -> None:
    """An amount that is none is refused, so that it cannot make room for another."""
    with pytest.raises(ValueError, match="cannot be spent"):
        await opened("run-1").spend(Cents(cents), "smoke-a", cap=CAP)
    assert spent(journal, "run-1") == []


async def test_what_cannot_be_recorded_is_not_spent(journal: Journal, opened: Opened) -> None:
    """Without a durable record nothing may be paid."""
    purse = opened("run-1")
    Path(journal.path).unlink()
    with pytest.raises(TollgateError, match="removed or replaced"):
        await purse.spend(PRICE, "smoke-a", cap=CAP)


async def test_a_command_without_a_record_spends_nothing() -> None:
    """Where no journal is kept the purse is empty."""
    with pytest.raises(CapReached, match="no record of money"):
        await EmptyPurse().spend(PRICE, "smoke-a", cap=CAP)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 9)), max_size=12), st.integers(0, 1500))
def test_no_order_of_payments_passes_the_cap(payments: list[tuple[int, int]], cap: int) -> None:
    """Whatever is asked for, in whatever order: the sum of what was let pass is never above the cap."""

    async def all_of_them() -> dict[str, int]:
        purse, passed = listed_purse(), {}
        for cents, name in payments:
            try:
                await purse.spend(Cents(cents), f"smoke-{name}", cap=Cents(cap))
            except AlreadySpent:
                continue
            passed.setdefault(f"smoke-{name}", cents)
        return passed

    assert sum(asyncio.run(all_of_them()).values()) <= cap


async def test_what_the_old_release_was_proven_with_is_not_gone_on_with(journal: Journal, opened: Opened) -> None:
    """A payment made before the switch counts against the cap, and proves nothing of the release after it."""
    await opened("run-1").spend(PRICE, "smoke-a", cap=PRICE)
    journal.append("run-1", Kind.RELEASE_MARKED, {"release": "2-new", "state": "live", "why": "run run-1"})
    with pytest.raises(AlreadySpent) as refused:
        await opened("run-1").spend(PRICE, "smoke-b", cap=PRICE)
    assert (refused.value.references, refused.value.before_way_back) == ((), False)
    await opened("run-1").spend(PRICE, "smoke-b", cap=Cents(200))
    with pytest.raises(AlreadySpent) as again:
        await opened("run-1").spend(PRICE, "smoke-c", cap=Cents(200))
    assert again.value.references == ("smoke-b",)
