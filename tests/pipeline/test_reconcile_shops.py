"""Real shops that are wrong on purpose, a real gateway: what reconciling finds of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from gateways import GATEWAYS
from pipeline.asking import TrustingService
from pipeline.clock import SystemClock
from pipeline.contracts import Gateway
from pipeline.errors import GatewayUnreachable, ServiceUnreachable
from pipeline.reconcile import Mismatch, Reconciliation, Wrong, reconcile
from pipeline.spec import Contract
from tests.sandbox.gateway_rig import settings
from tests.sandbox.shops import Area, Running, SandboxGateway, eventually, new_reference, sandbox_gateway

FAULTS = "webhook-not-idempotent,activates-without-payment,ignores-amount"


@dataclass
class Books:
    """One faulty shop and its gateway. `begun`: payments of before are not looked at."""

    gateway: SandboxGateway
    shop: Running
    begun: datetime

    def made(self) -> tuple[str, str, str]:
        """A payment nobody has paid: reference, link and the address to pay at. The shop never asks about it."""
        reference = new_reference()
        created = self.shop.create(reference)
        assert created.status_code == 201, created.text
        data = self.shop.area.shared / "data" / "orders.sqlite"
        with closing(sqlite3.connect(data, timeout=20, isolation_level=None)) as orders:
            orders.execute("UPDATE orders SET next_check_at = NULL WHERE reference = ?", (reference,))
        return reference, created.json()["paylinkID"], created.json()["paylinkUrl"]

    def client(self) -> Gateway:
        known = {name: value for name, value in self.gateway.settings.items() if name.startswith("VITE_IKHOKHA")}
        values = settings(self.gateway.addresses.gateway, **known | {"VITE_IKHOKHA_RETRY_DELAY": "100"})
        return GATEWAYS["ikhokha"](values, self.http, SystemClock(), Contract())

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self.gateway.tls, trust_env=False, timeout=10)

    async def compared(self, *, repair: bool = False) -> Reconciliation:
        service = TrustingService(self.shop.url, Contract(), self.http, self.gateway.tls)
        return await reconcile(self.client(), service, SystemClock(), since=self.begun, settle=0.5, repair=repair)

    async def found(self, reference: str) -> Mismatch | None:
        return {one.reference: one for one in (await self.compared()).mismatches}.get(reference)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    folder = tmp_path_factory.mktemp("faulty")
    with sandbox_gateway(folder / "gateway") as gateway:
        area = Area(folder / "area", gateway)
        try:
            with area.running(area.build("faulty", fault=FAULTS)) as shop:
                yield Books(gateway, shop, datetime.now(UTC) - timedelta(minutes=1))
        finally:
            area.close()


@pytest.fixture
def books(faulty: Books) -> Iterator[Books]:
    yield faulty
    faulty.gateway.faults()


async def test_another_amount_than_was_paid_is_found(books: Books) -> None:
    """The gateway was paid a cent less than the shop believes, and the shop has activated it: to the cent."""
    reference, _, url = books.made()
    books.gateway.pay(url)
    assert eventually(lambda: books.shop.activations(reference) == 1)
    assert await books.found(reference) is None
    books.gateway.faults(amount_off=-1)
    found = await books.found(reference)
    assert found is not None
    assert (found.what, found.cents) == (Wrong.AMOUNT, 49899)
    assert (found.found, found.expected) == ("49900 cents at the service", "49899 cents, as the gateway was paid")


async def test_a_lost_webhook_is_found_and_delivered_once(books: Books) -> None:
    """Even a shop that doubles what it gets twice ends with one activation; one that is unpaid gets no webhook."""
    books.gateway.faults(withhold_webhooks=True)
    reference, _, url = books.made()
    unpaid, _, _ = books.made()
    books.gateway.pay(url)
    found = await books.found(reference)
    assert found is not None
    assert (found.what, found.lost) == (Wrong.LOST, True)
    assert books.shop.activations(reference) == 0
    result = await books.compared(repair=True)
    assert result.repaired == (reference,)
    assert (books.shop.activations(reference), books.shop.activations(unpaid)) == (1, 0)
    assert {one.reference for one in result.unpaid} >= {unpaid}


async def test_what_cannot_be_asked_is_not_compared(books: Books) -> None:
    """A gateway that is out, a service that is not there: an error each, and no result."""
    books.made()
    books.gateway.faults(outage=True)
    with pytest.raises(GatewayUnreachable):
        await books.compared()
    books.gateway.faults()
    away = TrustingService("https://127.0.0.1:9", Contract(), books.http, books.gateway.tls)
    with pytest.raises(ServiceUnreachable):
        await reconcile(books.client(), away, SystemClock(), since=books.begun, settle=0.5, repair=True)


@pytest.fixture
def audited(books: Books) -> Books:
    """What a new release finds wrong in its own books 5 s after its start, it takes back; it looks again after 40 s."""
    assert eventually(lambda: books.shop.log.read_text().count('"audit.done"') > 1, within=30)
    return books


async def test_a_doubled_webhook_that_activates_twice_is_found(audited: Books) -> None:
    """The gateway sends each webhook twice, and the shop activates for each: a person must take one back."""
    audited.gateway.faults(double_webhooks=True)
    reference, _, url = audited.made()
    audited.gateway.pay(url)
    assert eventually(lambda: audited.shop.activations(reference) == 2)
    found = await audited.found(reference)
    assert found is not None
    assert (found.what, found.found, found.cents) == (Wrong.DOUBLED, "2 activations", 49900)


async def test_an_enrolment_nobody_paid_for_is_found(audited: Books) -> None:
    """A signed SUCCESS for a payment that is pending activates this shop's enrolment: found, and not repaired."""
    reference, link, _ = audited.made()
    assert audited.shop.webhook(*audited.gateway.signed(link, reference)).status_code == 200
    found = await audited.found(reference)
    assert found is not None
    assert (found.what, found.cents) == (Wrong.UNPAID, 49900)
