"""I1, measured: payments at the gateway against activations at the service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from pipeline.contracts import GatewayPayment
from pipeline.errors import ServiceGarbled, ServiceUnreachable
from pipeline.reconcile import CLOCK_MARGIN, Reconciliation, Seen, compare, reconcile
from pipeline.service import Service
from pipeline.spec import Contract
from tests.pipeline.rooms import Ground, Shop, StubbornClock

SINCE = datetime(2020, 1, 1, tzinfo=UTC)


def payment(reference: str, *, paid: bool = True, cents: int = 100, link: str = "", created: str = "") -> Any:
    status = "PAID" if paid else "PENDING"
    return GatewayPayment(link or f"link-{reference}", reference, cents, status, paid, created or SINCE.isoformat())  # type: ignore[arg-type]


CASES: Mapping[str, tuple[Any, Seen, tuple[str, str, bool] | None]] = {
    "agreed": ([payment("a")], Seen(1, 100), None),
    "unpaid and not activated": ([payment("a", paid=False)], Seen(0, 100), None),
    "never seen and unpaid": ([payment("a", paid=False)], Seen(0, None), None),
    "second link unpaid": ([payment("a"), payment("a", paid=False, link="b")], Seen(1, 100), None),
    "lost": ([payment("a")], Seen(0, 100), ("0 activations", "1 activation", True)),
    "doubled": ([payment("a")], Seen(2, 100), ("2 activations", "1 activation", False)),
    "given away": (
        [payment("a", paid=False)],
        Seen(1, 100),
        ("1 activations", "no activation: the gateway has no paid payment", False),
    ),
    "other amount": (
        [payment("a", cents=1)],
        Seen(1, 100),
        ("100 cents at the service", "1 cents, as the gateway was paid", False),
    ),
    "paid twice": (
        [payment("a"), payment("a", link="b")],
        Seen(1, 100),
        ("paid 2 times at the gateway", "one paid payment for a reference", False),
    ),
}


@pytest.mark.parametrize(("payments", "seen", "expected"), CASES.values(), ids=CASES)
def test_compare(payments: Any, seen: Seen, expected: tuple[str, str, bool] | None) -> None:
    """Exactly one activation for each paid payment, none without, to the cent."""
    result = compare(payments, {"a": seen})
    assert result.ok is (expected is None)
    assert [(one.found, one.expected, one.lost) for one in result.mismatches] == ([expected] if expected else [])


def test_nothing_paid_is_counted_as_nothing() -> None:
    """Without payments the books agree and say how little they saw."""
    assert compare([], {}) == Reconciliation(0, 0, ())


async def ask(shop: Shop, *, repair: bool = True, settle: float = 1.0) -> Reconciliation:
    service = Service("https://shop.test", Contract(), shop.client)
    return await reconcile(shop, service, StubbornClock(), since=SINCE, settle=settle, repair=repair)  # type: ignore[arg-type]


@pytest.fixture
def shop() -> Shop:
    return Shop(Ground(live="1-old"))  # type: ignore[arg-type]


async def test_lost_webhook_is_delivered_again_once(shop: Shop) -> None:
    """What is paid and not activated gets its webhook through the service's own door, once, and then agrees."""
    shop.paid("a", activations=0)
    shop.paid("b", activations=1)
    result = await ask(shop)
    assert (result.ok, result.repaired, shop.webhooks) == (True, ("a",), ["a"])
    assert (result.paid, result.activated) == (2, 2)


async def test_doubled_activation_is_not_made_worse(shop: Shop) -> None:
    """An order activated twice gets no further webhook: it stays a mismatch for a person."""
    shop.paid("a", activations=2)
    result = await ask(shop)
    assert (result.ok, result.repaired, shop.webhooks) == (False, (), [])


async def test_without_repair_nothing_is_sent(shop: Shop) -> None:
    """A check that only compares delivers nothing."""
    shop.paid("a", activations=0)
    assert not (await ask(shop, repair=False)).ok
    assert shop.webhooks == []


@pytest.mark.parametrize(
    ("created", "counted"),
    [
        ((SINCE - CLOCK_MARGIN - timedelta(seconds=1)).isoformat(), 0),
        ((SINCE - CLOCK_MARGIN).isoformat(), 1),
        ("yesterday, or so", 1),
        (SINCE.replace(tzinfo=None).isoformat(), 1),
    ],
)
async def test_payments_before_the_window_are_left_out(shop: Shop, created: str, counted: int) -> None:
    """Older payments are not this run's; one whose time cannot be read, or has no zone, is compared all the same."""
    shop.paid("a", activations=1)
    shop.payments["a"] = payment("a", created=created)
    assert (await ask(shop)).paid == counted


async def test_service_that_cannot_be_asked_is_no_agreement(shop: Shop) -> None:
    """Where the service does not answer, or answers something else, nothing is known."""
    shop.paid("a", activations=1)
    shop.away = True
    with pytest.raises(ServiceUnreachable):
        await ask(shop)
    shop.away, shop.amounts["a"] = False, "100"  # type: ignore[assignment]
    with pytest.raises(ServiceGarbled):
        await ask(shop)


async def test_gateway_is_asked_again_while_payments_settle(shop: Shop) -> None:
    """A payment that settles within its time is no mismatch."""
    shop.paid("a", activations=0)
    asked = 0

    def late(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked > 4:
            shop.activations["a"] = 1
        return shop.answer(request)

    service = Service("https://shop.test", Contract(), lambda: httpx.AsyncClient(transport=httpx.MockTransport(late)))
    result = await reconcile(shop, service, StubbornClock(), since=SINCE, settle=20.0, repair=False)  # type: ignore[arg-type]
    assert result.ok
