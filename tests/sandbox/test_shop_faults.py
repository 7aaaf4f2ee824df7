"""Each fault that can be built into the shop really is one, and a careful release heals what it left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.sandbox.shops import Area, SandboxGateway, eventually, new_reference, sandbox_gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxGateway]:
    with sandbox_gateway(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def area(gateway: SandboxGateway, tmp_path: Path) -> Iterator[Area]:
    area = Area(tmp_path / "area", gateway)
    yield area
    gateway.faults()
    area.close()


def test_accepts_unsigned_webhook(area: Area) -> None:
    """The fault accepts a webhook that nobody signed."""
    with area.running(area.build("bad", fault="accepts-unsigned-webhook")) as shop:
        body, _ = area.gateway.signed("0" * 15, new_reference())
        assert shop.webhook(body, {}).status_code == 200


def test_what_a_webhook_that_was_not_idempotent_doubled_is_collapsed(area: Area) -> None:
    """A doubled enrolment becomes one again when a careful release starts."""
    reference = new_reference()
    with area.running(area.build("bad", fault="webhook-not-idempotent")) as shop:
        link = shop.paid(reference)
        shop.webhook(*area.gateway.signed(link, reference))
        assert shop.activations(reference) == 2
    with area.running(area.build("good")) as shop:
        assert eventually(lambda: shop.activations(reference) == 1)
        assert shop.status(reference) == "paid"


def test_what_was_activated_without_payment_is_revoked(area: Area) -> None:
    """An enrolment nobody paid for ends when a careful release starts, and a paid one stays."""
    unpaid, paid = new_reference(), new_reference()
    with area.running(area.build("bad", fault="activates-without-payment")) as shop:
        link = shop.create(unpaid).json()
        shop.webhook(*area.gateway.signed(link["paylinkID"], unpaid))
        assert shop.activations(unpaid) == 1
        shop.paid(paid)
    with area.running(area.build("good")) as shop:
        assert eventually(lambda: shop.activations(unpaid) == 0)
        assert (shop.status(unpaid), shop.activations(paid)) == ("pending", 1)
        area.gateway.pay(link["paylinkUrl"])
        assert eventually(lambda: shop.activations(unpaid) == 1)


def test_nothing_is_revoked_while_the_gateway_cannot_tell(area: Area) -> None:
    """An outage at start takes no customer's course away; the audit waits for the gateway."""
    unpaid, paid = new_reference(), new_reference()
    with area.running(area.build("bad", fault="activates-without-payment")) as shop:
        link = shop.create(unpaid).json()["paylinkID"]
        shop.webhook(*area.gateway.signed(link, unpaid))
        shop.paid(paid)
    area.gateway.faults(outage=True)
    with area.running(area.build("good")) as shop:
        assert eventually(lambda: "audit.postponed" in shop.log.read_text())
        assert (shop.activations(unpaid), shop.activations(paid)) == (1, 1)
        area.gateway.faults()
        assert eventually(lambda: shop.activations(unpaid) == 0)
        assert shop.activations(paid) == 1


def test_what_a_release_that_fails_on_webhooks_missed_is_made_up_for(area: Area) -> None:
    """A payment whose webhook was lost to a faulty release is activated when a careful one starts."""
    reference = new_reference()
    with area.running(area.build("bad", fault="webhook-500")) as shop:
        created = shop.create(reference).json()
        area.gateway.pay(created["paylinkUrl"])
        assert shop.webhook(*area.gateway.signed(created["paylinkID"], reference)).status_code == 500
        assert shop.activations(reference) == 0
    with area.running(area.build("good")) as shop:
        assert eventually(lambda: shop.activations(reference) == 1)


def test_ignores_amount(area: Area) -> None:
    """The fault sells a course for one cent."""
    reference = new_reference()
    with area.running(area.build("bad", fault="ignores-amount")) as shop:
        created = shop.create(reference, amount=1)
        assert created.status_code == 201
        area.gateway.pay(created.json()["paylinkUrl"])
        assert eventually(lambda: shop.activations(reference) == 1)


def test_slow_initialisation(area: Area) -> None:
    """The fault keeps a customer waiting past the limit, and the metrics show it."""
    with area.running(area.build("bad", fault="slow-initialisation")) as shop:
        assert shop.create(new_reference()).status_code == 201
        assert shop.metric('payment_initialisation_seconds_bucket{le="5.0"}') == 0
        assert shop.metric("payment_initialisation_seconds_count") == 1


def test_error_rate_30(area: Area) -> None:
    """The fault hits some customers and no smoke payment, so that only a watch can see it."""
    with area.running(area.build("bad", fault="error-rate-30")) as shop:
        answers = [shop.create(f"order-{number}").status_code for number in range(40)]
        assert set(answers) == {201, 500}
        assert answers.count(500) == 12
        assert shop.metric('payments_total{outcome="error"}') == answers.count(500)
        smoke = [shop.create(f"smoke-{number}", course="smoke-001").status_code for number in range(15)]
        assert set(smoke) == {201}


def test_never_ready(area: Area) -> None:
    """The fault starts, answers 503 when asked whether it is ready, and never announces itself."""
    with area.running(area.build("bad", fault="never-ready"), ready=False) as shop:
        assert eventually(lambda: '"started"' in shop.log.read_text())
        assert shop.client.get("/health/ready").status_code == 503
        assert not shop.wait_for(b"READY=1", within=0.3)


def test_crash_on_start(area: Area) -> None:
    """The fault ends with 1 before it takes a connection."""
    with area.running(area.build("bad", fault="crash-on-start"), ready=False) as shop:
        assert shop.process.wait(20) == 1
        assert "this release ends while it starts" in shop.log.read_text()


def test_serves_plain_http(area: Area) -> None:
    """The fault answers without TLS at the port that speaks TLS, and still ends when it is told to."""
    with area.running(area.build("bad", fault="serves-plain-http")) as shop:
        for url in (shop.url, shop.url.replace("https:", "http:")):
            assert httpx.get(f"{url}/health/live", verify=area.gateway.tls, trust_env=False).status_code == 200
        shop.client.close()
        shop.stop()
        assert shop.process.wait(30) == 0
