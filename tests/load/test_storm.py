"""Customers pay all the time, and nobody loses anything, while releases come, are taken back, and runs are killed."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import Exit
from pipeline.events import Entry, Kind
from tests.load import changes, found
from tests.load.changes import Change
from tests.load.customers import Purchase, Request
from tests.load.found import Books
from tests.load.storm import FAULTS, storm

SPEC = Path(__file__).with_name("pipeline.yaml")
PER_SECOND = 8.0
SHORT = (
    Change("deploy", (Exit.DONE,)),
    Change("deploy", (Exit.RESTORED,), build="ignores-amount"),
    Change("rollback", (Exit.DONE,), killed_after=6, then="rollback"),
)
"""Entry 6 of a rollback comes when payments are closed and nothing is restored yet."""


@pytest.mark.load
@pytest.mark.timeout(480)
async def test_no_order_is_lost_while_releases_change_and_runs_are_killed() -> None:
    """While customers pay, a deploy, a bad one and a killed rollback lose and double no order, activate nothing unpaid,
    charge nobody another amount, and fail no request but by 503 while payments are off."""
    result = await storm(SPEC, SHORT, rate=PER_SECOND, seed=7)
    assert result.problems == (), result.told()
    assert result.made[-1].codes[0] == -signal.SIGKILL, result.told()
    assert len(result.crowd.purchases) > 30, "hardly anybody came"
    assert sum(found.refused_rightly(one, result.windows) for one in result.crowd.requests) > 0, "nobody met it closed"


# ---- the judge, which must not be kinder than the invariants ------------------------------------------------

PAID = {"reference": "order-1", "status": "PAID", "amount": 49900}
GOOD = Books((PAID,), {"order-1": 49900}, {"order-1": 1})
BOUGHT = Purchase("order-1", 49900, came=0.0, link="https://127.0.0.1/pay/1", paid=True, active=1.0)
CREATED = Request("create", 10.0, 10.1, 201, "", comes_later=False)
REFUSED = Request("create", 10.0, 10.1, 503, "switched off", comes_later=True)


def test_books_that_agree_are_no_problem() -> None:
    """One payment, paid and activated once, with the cents that the customer wanted, is as it must be."""
    assert GOOD.problems() == [] and found.told_otherwise([BOUGHT], GOOD) == []
    assert GOOD.counts() == "1 paid, 1 activated; 0 lost, 0 doubled, 0 unpaid"


@pytest.mark.parametrize(
    ("books", "counted"),
    [
        (replace(GOOD, activations={}), "1 lost"),
        (replace(GOOD, activations={"order-1": 2}), "1 doubled"),
        (replace(GOOD, payments=(PAID, PAID)), "1 doubled"),
        (replace(GOOD, payments=({**PAID, "status": "PENDING"},)), "1 unpaid"),
        (replace(GOOD, cents={"order-1": 100}), "0 lost"),
    ],
    ids=["lost", "doubled", "paid twice", "unpaid", "other cents"],
)
def test_an_order_that_is_wrong_in_the_books_is_found(books: Books, counted: str) -> None:
    """Each way in which books break the first invariant is a problem, and is counted."""
    assert books.problems() and counted in books.counts()


@pytest.mark.parametrize(
    "purchase",
    [
        replace(BOUGHT, paid=False),
        replace(BOUGHT, cents=129900),
        replace(BOUGHT, gave_up="the course did not become active"),
    ],
    ids=["told not paid", "other cents", "gave up"],
)
def test_a_customer_who_was_told_otherwise_is_found(purchase: Purchase) -> None:
    """What the customer was told must be what the books say, and nobody may have to give up."""
    assert found.told_otherwise([purchase], GOOD)


@pytest.mark.parametrize(
    ("request_", "fails"),
    [
        (CREATED, False),
        (REFUSED, False),
        (replace(REFUSED, began=30.0, ended=30.1), True),
        (replace(REFUSED, comes_later=False), True),
        (replace(REFUSED, status=500), True),
        (replace(CREATED, status=0, told="ServerDisconnectedError"), True),
        (replace(CREATED, what="page"), True),
        (replace(CREATED, what="pay", status=303), False),
    ],
    ids=["answered", "closed", "not closed", "no Retry-After", "500", "no answer", "wrong answer", "sent on"],
)
def test_only_a_closed_shop_may_refuse_a_customer(request_: Request, fails: bool) -> None:
    """A request fails unless it was answered as it must be, or by 503 with Retry-After while payments were off."""
    assert bool(found.failed([request_], [(9.0, 12.0)])) is fails


def test_the_shop_is_closed_from_the_entry_before_to_the_entry_after() -> None:
    """The record says when payments were off, over the end of a killed run, and for ever where nothing opens."""

    def at(second: int, kind: Kind) -> Entry:
        return Entry(second, "run", datetime.fromtimestamp(second, UTC), kind, {}, "", "")

    killed_and_put_right = [at(1, Kind.PAYMENTS_CLOSED), at(3, Kind.PAYMENTS_CLOSED), at(5, Kind.REOPENED)]
    assert found.closed(killed_and_put_right) == [(1.0, 5.0)]
    assert found.closed([*killed_and_put_right, at(7, Kind.CLOSED)]) == [(1.0, 5.0), (7.0, float("inf"))]


def test_the_order_of_a_storm_is_its_seed_s() -> None:
    """The same seed makes the same changes, another one others, and no rollback comes with nothing to go back to."""
    assert (
        changes.planned(7, 20, FAULTS, 130)
        == changes.planned(7, 20, FAULTS, 130)
        != changes.planned(8, 20, FAULTS, 130)
    )
    for seed in range(200):
        verified = 1
        for change in changes.planned(seed, 20, FAULTS, 130):
            good = change.verb == "deploy" and not change.build and not change.killed_after
            verified += 1 if good else -1 if change.verb == "rollback" else 0
            assert verified >= 1
