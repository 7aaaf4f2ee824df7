"""The payment proofs against a merchant with behaviours to switch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks import CHECKS
from pipeline.contracts import Addresses, World
from pipeline.verdict import Verdict
from tests.checks.worlds import PRICE, Merchant, Till, ask

Shopping = tuple[Merchant, Till, World]
CARD = {"mode": "card", "cap": PRICE}
PAID = ("payment.initialises", "payment.is_paid", "webhook.arrives", "enrolment.active_once")


async def test_a_good_merchant_passes_every_payment_proof_with_one_payment(shopping: Shopping) -> None:
    """The four proofs of the smoke payment share one payment, made with the run's proof token."""
    merchant, till, world = shopping
    for name in PAID:
        finding = await ask(CHECKS[name], world, **CARD)
        assert finding.verdict is Verdict.PASS, finding
    assert len(till.payments) == 1
    assert merchant.seen == [world.run.proof_token.reveal()]
    assert all(reference.startswith("smoke-") for reference in merchant.orders)


@pytest.mark.parametrize(
    ("wrong", "verdict", "word"),
    [
        ({"create_status": 503}, Verdict.FAIL, "answered 503"),
        ({"create_status": 429}, Verdict.INCONCLUSIVE, "answered 429"),
        ({"create_status": 500}, Verdict.FAIL, "answered 500"),
        ({"create_body": b"<html>"}, Verdict.FAIL, "JSON is expected"),
        ({"create_body": b'{"paylinkUrl": 7, "paylinkID": ""}'}, Verdict.FAIL, "an address and a text"),
        ({"create_body": b'{"paylinkUrl": "https://[", "paylinkID": "a"}'}, Verdict.FAIL, "an address and a text"),
        ({"create_body": b"[]"}, Verdict.FAIL, "no member"),
        ({"link_over_http": True}, Verdict.FAIL, "not https"),
        ({"cents_to_till": PRICE - 1}, Verdict.FAIL, "99 cents"),
    ],
)
async def test_a_payment_that_does_not_initialise_is_found(
    shopping: Shopping, wrong: dict[str, object], verdict: Verdict, word: str
) -> None:
    """No link, a link that is not one, a wrong amount at the gateway: none of them passes."""
    merchant, _, world = shopping
    for name, value in wrong.items():
        setattr(merchant, name, value)
    finding = await ask(CHECKS["payment.initialises"], world)
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_a_slow_initialisation_fails(shopping: Shopping) -> None:
    """A payment link that comes after the limit of pipeline.yaml is a failure, however good the link."""
    merchant, _, world = shopping
    merchant.create_slow_s = 0.05
    thresholds = world.spec.thresholds.model_copy(
        update={"initialisation": world.spec.thresholds.initialisation.model_copy(update={"under": 0.01})}
    )
    world = replace(world, spec=world.spec.model_copy(update={"thresholds": thresholds}))
    finding = await ask(CHECKS["payment.initialises"], world)
    assert (finding.verdict, "allowed under 0.01 s" in finding.reason) == (Verdict.FAIL, True), finding


async def test_a_silent_gateway_confirms_nothing(shopping: Shopping) -> None:
    """A link that the gateway cannot be asked about is not a pass."""
    _, till, world = shopping
    till.outage = True
    assert (await ask(CHECKS["payment.initialises"], world)).verdict is Verdict.INCONCLUSIVE
    assert (await ask(CHECKS["payment.is_paid"], world, **CARD)).verdict is Verdict.INCONCLUSIVE


async def test_nothing_is_spent_above_the_cap(shopping: Shopping) -> None:
    """A smoke course dearer than the cap is refused before anything is sent."""
    merchant, _, world = shopping
    for name in PAID:
        finding = await ask(CHECKS[name], world, mode="card", cap=PRICE - 1)
        assert finding.verdict is Verdict.FAIL
        assert "nothing was sent" in finding.reason
    assert not merchant.orders


async def test_no_card_is_typed_in_at_a_real_gateway(shopping: Shopping) -> None:
    """Mode card at a gateway that takes real money is refused, and sends nothing."""
    merchant, _, world = shopping
    world = replace(world, addresses=Addresses(world.addresses.service, "https://api.ikhokha.com"))
    finding = await ask(CHECKS["payment.is_paid"], world, **CARD)
    assert (finding.verdict, "real money" in finding.reason) == (Verdict.FAIL, True)
    assert not merchant.orders


async def test_no_card_is_typed_in_where_a_loopback_gateway_links_elsewhere(shopping: Shopping) -> None:
    """A pay link that leads off this machine while the gateway is on it is never opened."""
    _, till, world = shopping
    till.base = "https://pay.example.net"
    finding = await ask(CHECKS["payment.is_paid"], world, **CARD)
    assert (finding.verdict, "nothing was sent there" in finding.reason) == (Verdict.FAIL, True)


async def test_mode_initialise_skips_what_needs_a_paid_payment(shopping: Shopping) -> None:
    """In mode initialise nothing is paid, and the three later proofs say so instead of passing."""
    _, _, world = shopping
    for name in PAID[1:]:
        assert (await ask(CHECKS[name], world)).verdict is Verdict.SKIPPED


async def test_mode_operator_waits_for_a_person(shopping: Shopping) -> None:
    """Nobody pays within the time: inconclusive, with the link to pay at."""
    _, till, world = shopping
    finding = await ask(CHECKS["payment.is_paid"], world, mode="operator", wait=4.0)
    assert (finding.verdict, till.base in finding.reason) == (Verdict.INCONCLUSIVE, True)


async def test_a_declined_card_fails(shopping: Shopping) -> None:
    """A pay page that takes the form and does not pay is a failure."""
    _, till, world = shopping
    till.declines = True
    finding = await ask(CHECKS["payment.is_paid"], world, **CARD)
    assert (finding.verdict, "PENDING" in finding.reason) == (Verdict.FAIL, True)
    assert (await ask(CHECKS["webhook.arrives"], world, **CARD)).verdict is Verdict.INCONCLUSIVE


async def test_a_wrong_charge_fails(shopping: Shopping) -> None:
    """The gateway was paid another amount than was asked."""
    _, till, world = shopping
    till.charges = PRICE + 1
    assert (await ask(CHECKS["payment.is_paid"], world, **CARD)).verdict is Verdict.FAIL


async def test_a_withheld_webhook_is_missed(shopping: Shopping) -> None:
    """A paid payment the service never hears of fails with the time it was given."""
    _, till, world = shopping
    till.withholds = True
    finding = await ask(CHECKS["webhook.arrives"], world, **CARD)
    assert (finding.verdict, "within 15 s" in finding.reason) == (Verdict.FAIL, True), finding
    assert (await ask(CHECKS["enrolment.active_once"], world, **CARD)).verdict is Verdict.FAIL


async def test_two_activations_are_one_too_many(shopping: Shopping) -> None:
    """An enrolment that was activated twice for one payment fails."""
    merchant, till, world = shopping
    merchant.forgets_it_was_done = True
    once = till.deliver
    assert once is not None

    async def twice(webhook: object) -> None:
        await once(webhook)  # type: ignore[arg-type]
        await once(webhook)  # type: ignore[arg-type]

    till.deliver = twice
    finding = await ask(CHECKS["enrolment.active_once"], world, **CARD)
    assert (finding.verdict, "exactly 1" in finding.reason) == (Verdict.FAIL, True)


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"any_amount": True}, Verdict.FAIL),
        ({"wrong_amount_status": 500}, Verdict.FAIL),
        ({"wrong_amount_status": 429}, Verdict.INCONCLUSIVE),
        ({"wrong_amount_status": 401}, Verdict.INCONCLUSIVE),
        ({"create_status": 422}, Verdict.INCONCLUSIVE),
        ({"garbled": True}, Verdict.FAIL),
    ],
)
async def test_wrong_amounts_are_refused(shopping: Shopping, wrong: dict[str, object], verdict: Verdict) -> None:
    """A cent less or more is refused, and a merchant that refuses everything proves nothing."""
    merchant, _, world = shopping
    for name, value in wrong.items():
        setattr(merchant, name, value)
    finding = await ask(CHECKS["payment.refuses_wrong_amount"], world)
    assert finding.verdict is verdict, finding


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"believes_signed": True}, Verdict.FAIL),
        ({"webhook_status": 500}, Verdict.INCONCLUSIVE),
        ({"webhook_status": 401}, Verdict.INCONCLUSIVE),
        ({"webhook_status": 429}, Verdict.INCONCLUSIVE),
        ({"create_status": 503}, Verdict.INCONCLUSIVE),
    ],
)
async def test_a_signed_word_alone_enrols_nobody(
    shopping: Shopping, wrong: dict[str, object], verdict: Verdict
) -> None:
    """A signed SUCCESS for a payment nobody made activates nothing."""
    merchant, _, world = shopping
    for name, value in wrong.items():
        setattr(merchant, name, value)
    finding = await ask(CHECKS["enrolment.needs_payment"], world)
    assert finding.verdict is verdict, finding


@pytest.mark.parametrize("name", [*PAID, "health.ready", "enrolment.needs_payment", "webhook.refuses_unsigned"])
async def test_a_service_that_does_not_answer_never_passes(shopping: Shopping, name: str) -> None:
    """Nobody listens at the service's address: a finding that blocks, with what to do."""
    _, _, world = shopping
    service = type(world.service)("https://127.0.0.1:9", world.spec.contract, world.http)
    finding = await ask(CHECKS[name], replace(world, service=service), **(CARD if name in PAID else {}))
    assert not finding.verdict.promotes
    assert "no answer" in finding.reason


async def test_gateway_and_service_are_reconciled(shopping: Shopping) -> None:
    """Paid and activated agree; a paid payment without activation is named with what was expected."""
    merchant, till, world = shopping
    check = CHECKS["payments.reconciled"]
    assert (await ask(CHECKS["enrolment.active_once"], world, **CARD)).verdict is Verdict.PASS
    assert (await ask(check, world)).verdict is Verdict.PASS
    (order,) = merchant.orders.values()
    order.activations = 0
    finding = await ask(check, world)
    assert (finding.verdict, order.reference in finding.reason) == (Verdict.FAIL, True)
    till.outage = True
    assert (await ask(check, world)).verdict is Verdict.INCONCLUSIVE
