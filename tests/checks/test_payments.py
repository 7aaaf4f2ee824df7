"""The payment proofs against a merchant with behaviours to switch."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import CHECKS
from checks.facts.pay_page import SANDBOX_CARD, card_form, filled
from checks.facts.smoke_person import rand
from pipeline.contracts import Addresses, Cents, EmptyPurse, GatewayPayment, World
from pipeline.errors import GatewayUnreachable
from pipeline.facts import Facts
from pipeline.purse import AlreadySpent
from pipeline.telling import Manner
from pipeline.verdict import Verdict
from tests.checks.worlds import PRICE, Merchant, Till, ask

Shopping = tuple[Merchant, Till, World]
CARD = {"mode": "card", "cap": PRICE}
OPERATOR = {"mode": "operator", "cap": PRICE}
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


# ---- a person pays -----------------------------------------------------------------------------------------


@dataclass
class Told:
    """Keeps what a check tells, and pays the link that it shows once the countdown has begun."""

    till: Till
    pays: bool = True
    lines: list[tuple[str, Manner]] = field(default_factory=list)
    paying: asyncio.Task[None] | None = None

    def __call__(self, line: str, manner: Manner = Manner.SAID, /) -> None:
        self.lines.append((line, manner))
        if manner is Manner.PASSING and self.pays and self.paying is None:
            self.paying = asyncio.create_task(self.till.paid(self.shown[0].rpartition("/")[2]))

    @property
    def shown(self) -> list[str]:
        return [line for line, manner in self.lines if manner is Manner.SCAN]

    @property
    def said(self) -> str:
        return " | ".join(line for line, manner in self.lines if manner is Manner.SAID)


async def test_a_person_pays_and_is_told_what_is_seen(shopping: Shopping) -> None:
    """The link is shown once with its amount and account; paid, known and active are told, with their times."""
    _, till, world = shopping
    told = Told(till)
    world = replace(world, tell=told)
    findings = {name: await ask(CHECKS[name], world, **OPERATOR) for name in PAID}
    assert [finding.verdict for finding in findings.values()] == [Verdict.PASS] * 4, findings
    assert told.shown == [findings["payment.is_paid"].evidence["link"]]
    for words in ("R 1.00", "account mode live", "paid after", "its webhook came", "the enrolment is active"):
        assert words in told.said
    assert any("left" in line for line, manner in told.lines if manner is Manner.PASSING)
    moments: Any = findings["enrolment.active_once"].evidence["moments"]
    assert [one["what"] for one in moments] == ["paid", "webhook received", "enrolment active"]
    times = [one["after_ms"] for one in moments]
    assert times == sorted(times)
    assert len(till.payments) == 1


async def test_mode_operator_waits_for_a_person(shopping: Shopping) -> None:
    """Nobody pays within the time: inconclusive, with the link to pay at."""
    _, till, world = shopping
    told = Told(till, pays=False)
    finding = await ask(CHECKS["payment.is_paid"], replace(world, tell=told), mode="operator", wait=30.0)
    assert (finding.verdict, till.base in finding.reason) == (Verdict.INCONCLUSIVE, True)
    countdown = [line for line, manner in told.lines if manner is Manner.PASSING]
    assert len(countdown) >= 2
    assert countdown[0].endswith(" 30 s left")
    assert not any(line.endswith(" 0 s left") for line in countdown)


async def test_a_gateway_that_is_away_for_a_while_does_not_end_the_waiting(shopping: Shopping) -> None:
    """Somebody may be paying just now: the gateway is asked again, and that is told."""
    _, till, world = shopping
    told = Told(till)
    flaky = _Flaky(till, trouble=2)
    gateway: Any = flaky
    finding = await ask(CHECKS["payment.is_paid"], replace(world, tell=told, gateway=gateway), **OPERATOR)
    assert (finding.verdict, flaky.trouble) == (Verdict.PASS, 0), finding
    assert told.said.count("asked again") == 1


async def test_a_gateway_that_never_answers_the_waiting_proves_nothing(shopping: Shopping) -> None:
    """Whether it was paid is not known, so it does not pass."""
    _, till, world = shopping
    gateway: Any = _Flaky(till, trouble=1000)
    finding = await ask(CHECKS["payment.is_paid"], replace(world, gateway=gateway), **OPERATOR, wait=9.0)
    assert (finding.verdict, "no answer" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_that_the_page_was_opened_is_told_where_the_gateway_says_so(shopping: Shopping) -> None:
    """The sandbox's gateway knows; where it says nothing, nothing is told and nothing is decided."""
    _, till, world = shopping
    for opened, control in ((True, _Control(till)), (False, _Control(till, opened=False)), (False, _Control(None))):
        told = Told(till)
        asked = replace(world, tell=told, control=control, facts=Facts())
        finding = await ask(CHECKS["payment.is_paid"], asked, mode="operator", cap=10 * PRICE)
        assert finding.verdict is Verdict.PASS
        assert ("page opened after" in told.said) == opened
        moments: Any = finding.evidence["moments"]
        assert [one["what"] for one in moments] == (["page opened", "paid"] if opened else ["paid"])


async def test_waiting_for_a_person_can_be_broken_off(shopping: Shopping) -> None:
    """Whoever interrupts the waiting leaves nothing behind that goes on asking."""
    _, till, world = shopping
    told = Told(till, pays=False)
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(ask(CHECKS["payment.is_paid"], replace(world, tell=told), **OPERATOR, wait=1e6))
    while not any(manner is Manner.PASSING for _, manner in told.lines):
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await world.facts.stop()
    assert asyncio.all_tasks() - before == set()
    assert "may still pay smoke-pay-" in told.said


@dataclass
class _Flaky:
    """The till, out of reach for some of the questions that follow the first."""

    till: Till
    trouble: int
    asked: int = 0

    async def status(self, link_id: str) -> GatewayPayment:
        self.asked += 1
        if self.asked > 1 and self.trouble:
            self.trouble -= 1
            raise GatewayUnreachable("GET https://till: no answer")
        return await self.till.status(link_id)


@dataclass
class _Control:
    """Power over the till: it says which pages were opened. None: it cannot be asked."""

    till: Till | None
    opened: bool = True

    def holding(self, **members: object) -> AbstractAsyncContextManager[None]:
        raise AssertionError("a smoke payment switches no fault")

    async def payments(self) -> Sequence[Mapping[str, Any]]:
        if self.till is None:
            raise OSError("the control interface is away")
        at = "2026-01-01T00:00:00Z" if self.opened else None
        return [{"paylinkID": link, "openedAt": at} for link in self.till.payments]


@pytest.mark.parametrize(("cents", "text"), [(100, "R 1.00"), (5, "R 0.05"), (129900, "R 1299.00")])
def test_an_amount_is_written_as_people_write_it(cents: int, text: str) -> None:
    """Cents are told in rand."""
    assert rand(cents) == text


_MARKUP = ["<form action='", "<form>", "</form>", "<input name='card'", "<![", "<!", "<?", ">", "'", '"', "&#x110000;"]
_MARKUP += ["<button name=x value=cancel>", "<select name=exp>", "<!--", "-->", "]]>", "<![CDATA[", "\x00", "https://["]


@given(st.lists(st.sampled_from(_MARKUP), max_size=12).map("".join))
def test_any_page_can_be_read(html: str) -> None:
    """A pay page is foreign: whatever stands in it, there is a form or there is none."""
    form = card_form(html)
    if form is not None:
        assert filled(form, SANDBOX_CARD)


@pytest.mark.parametrize("action", ["https://[", "https://elsewhere.test/", "//elsewhere.test/x", "ftp:x"])
async def test_a_card_is_only_sent_to_the_host_of_the_link(shopping: Shopping, action: str) -> None:
    """A form that leads elsewhere, or nowhere, is not sent: inconclusive, and nothing was paid."""
    _, till, world = shopping
    till.leads_to = action
    finding = await ask(CHECKS["payment.is_paid"], world, **CARD)
    assert (finding.verdict, "its own host is expected" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding
    assert paid_at(till) == []


# ---- what it may cost --------------------------------------------------------------------------------------


def paid_at(till: Till) -> list[str]:
    return [payment.reference for payment in till.payments.values() if payment.paid]


async def test_a_second_attempt_within_the_cap_goes_on_with_what_was_paid(shopping: Shopping) -> None:
    """A retried proof pays nothing more where the cap allows one payment, and says which it looked at."""
    merchant, till, world = shopping
    till.withholds = True
    assert (await ask(CHECKS["webhook.arrives"], world, **CARD)).verdict is Verdict.FAIL
    (reference,) = paid_at(till)
    merchant.orders[reference].status, merchant.orders[reference].activations = "paid", 1
    again = replace(world, facts=Facts())
    assert (await ask(CHECKS["webhook.arrives"], again, **CARD)).verdict is Verdict.PASS
    finding = await ask(CHECKS["payment.is_paid"], again, **CARD)
    assert (finding.verdict, finding.evidence["earlier"]) == (Verdict.PASS, True)
    assert reference in finding.reason
    assert paid_at(till) == [reference]


async def test_a_second_attempt_pays_the_link_that_was_counted_and_not_paid(shopping: Shopping) -> None:
    """What a broken-off run had counted and not paid is paid at its own link: the same reference, once."""
    merchant, till, world = shopping
    till.declines = True
    assert (await ask(CHECKS["payment.is_paid"], world, **CARD)).verdict is Verdict.FAIL
    first = next(iter(merchant.orders))
    till.declines = False
    finding = await ask(CHECKS["payment.is_paid"], replace(world, facts=Facts()), **CARD)
    assert (finding.verdict, finding.evidence["reference"]) == (Verdict.PASS, first), finding
    assert "the pay page answered the card" in finding.reason
    assert paid_at(till) == [first]


async def test_a_second_attempt_pays_anew_where_the_cap_allows_it(shopping: Shopping) -> None:
    """With a cap of two payments a retry makes its own; with the third attempt the cap is reached."""
    _, till, world = shopping
    for expected in (1, 2, 2):
        world = replace(world, facts=Facts())
        finding = await ask(CHECKS["payment.is_paid"], world, mode="card", cap=2 * PRICE + 50)
        assert finding.verdict is Verdict.PASS
        assert len(paid_at(till)) == expected


async def test_a_way_back_is_not_blocked_by_money_that_the_bad_release_spent(shopping: Shopping) -> None:
    """The cap holds on the way back too: what needs a payment is skipped there, with the reason."""
    _, till, world = shopping
    world = replace(world, purse=_Spent(before_way_back=True))
    for name in PAID[1:]:
        finding = await ask(CHECKS[name], world, **CARD)
        assert (finding.verdict, "taken back" in finding.reason) == (Verdict.SKIPPED, True), finding
    assert paid_at(till) == []


@pytest.mark.parametrize("references", [(), ("smoke-of-the-prober",), ("smoke-pay-nobody-knows",)])
async def test_a_cap_that_is_reached_fails(shopping: Shopping, references: tuple[str, ...]) -> None:
    """With nothing of its own to go on with, a proof that may spend nothing fails, and pays nothing."""
    merchant, till, world = shopping
    finding = await ask(CHECKS["payment.is_paid"], replace(world, purse=_Spent(references)), **CARD)
    if references == ("smoke-pay-nobody-knows",):  # it was counted and never asked for: it may still be made
        assert (finding.verdict, paid_at(till)) == (Verdict.PASS, list(references))
        return
    assert (finding.verdict, "the cap is reached" in finding.reason, paid_at(till)) == (Verdict.FAIL, True, [])
    assert finding.remedy
    assert len(merchant.orders) == 1


async def test_where_nothing_is_on_record_nothing_is_paid(shopping: Shopping) -> None:
    """A command that keeps no record shows no link and types no card."""
    _, till, world = shopping
    told = Told(till)
    for mode in ("card", "operator"):
        world = replace(world, purse=EmptyPurse(), tell=told, facts=Facts())
        finding = await ask(CHECKS["payment.is_paid"], world, mode=mode)
        assert (finding.verdict, bool(finding.remedy)) == (Verdict.FAIL, True)
    assert (paid_at(till), told.shown) == ([], [])


@dataclass
class _Spent:
    """A purse out of which nothing may be taken any more."""

    references: tuple[str, ...] = ()
    before_way_back: bool = False

    async def spend(self, cents: Cents, reference: str, *, cap: Cents) -> None:
        raise AlreadySpent(
            f"the cap is reached: {cap} for {reference}, {cents}",
            "Start a new run.",
            references=self.references,
            before_way_back=self.before_way_back,
        )


# ---- what every finding says -------------------------------------------------------------------------------

PROOFS = [*PAID, "enrolment.needs_payment", "payment.refuses_wrong_amount", "webhook.duplicate_is_harmless"]
PROOFS += ["webhook.refuses_unsigned", "webhook.refuses_wrong_signature", "webhook.refuses_tampered"]


@pytest.mark.parametrize("name", PROOFS)
async def test_a_proof_says_what_was_sent_what_came_back_and_when(shopping: Shopping, name: str) -> None:
    """A passing finding names its payment, an answer and the milliseconds it took."""
    merchant, _, world = shopping
    finding = await ask(CHECKS[name], world, **(CARD if name in PAID else {}))
    assert finding.verdict is Verdict.PASS, finding
    assert re.search(r"\d ms", finding.reason), finding.reason
    assert any(reference in finding.reason for reference in merchant.orders) or "cents" in finding.reason


BREAKS: dict[str, Callable[[Merchant, Till], None]] = {
    "payment.initialises": lambda merchant, _: setattr(merchant, "create_status", 500),
    "payment.is_paid": lambda _, till: setattr(till, "declines", True),
    "webhook.arrives": lambda _, till: setattr(till, "withholds", True),
    "enrolment.active_once": lambda _, till: setattr(till, "withholds", True),
    "enrolment.needs_payment": lambda merchant, _: setattr(merchant, "believes_signed", True),
    "payment.refuses_wrong_amount": lambda merchant, _: setattr(merchant, "any_amount", True),
    "webhook.duplicate_is_harmless": lambda merchant, _: setattr(merchant, "forgets_it_was_done", True),
    "webhook.refuses_unsigned": lambda merchant, _: setattr(merchant, "enrols_on_refusal", True),
    "webhook.refuses_wrong_signature": lambda merchant, _: setattr(merchant, "believes_anything", True),
    "webhook.refuses_tampered": lambda merchant, _: setattr(merchant, "reads_only_that_it_is_signed", True),
}


@pytest.mark.parametrize("name", PROOFS)
async def test_a_failing_proof_says_so_too_with_what_to_do(shopping: Shopping, name: str) -> None:
    """What fails names the payment, the answer, the milliseconds, and the fix."""
    merchant, till, world = shopping
    BREAKS[name](merchant, till)
    hasty = world.spec.contract.model_copy(update={"enrolment_within": 0.5})
    world = replace(world, spec=world.spec.model_copy(update={"contract": hasty}))
    finding = await ask(CHECKS[name], world, **(CARD if name in PAID else {}))
    assert finding.verdict is Verdict.FAIL, finding
    assert re.search(r"\d ms", finding.reason), finding.reason
    assert "smoke-" in finding.reason
    assert "expected" in finding.reason or "answered" in finding.reason
    assert finding.remedy


@pytest.mark.parametrize(("params", "paid"), [({"mode": "initialise"}, False), ({}, True), (OPERATOR, True)])
async def test_duplicates_are_tried_on_the_payment_that_the_mode_allows(
    shopping: Shopping, params: dict[str, Any], paid: bool
) -> None:
    """Mode initialise pays nothing for it; card, the sandbox's default, and operator take the paid one."""
    _, till, world = shopping
    finding = await ask(CHECKS["webhook.duplicate_is_harmless"], replace(world, tell=Told(till)), **params)
    assert (finding.verdict, finding.evidence["paid"]) == (Verdict.PASS, paid), finding
    assert bool(paid_at(till)) == paid


async def test_a_declined_card_fails(shopping: Shopping) -> None:
    """A pay page that takes the form and does not pay is a failure."""
    _, till, world = shopping
    till.declines = True
    finding = await ask(CHECKS["payment.is_paid"], world, **CARD)
    assert (finding.verdict, "PENDING" in finding.reason) == (Verdict.FAIL, True)
    assert (await ask(CHECKS["webhook.arrives"], world, **CARD)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", ["card", "operator"])
@pytest.mark.parametrize(
    ("wrong", "verdict", "word"),
    [
        ({"cents_to_till": 100 * PRICE}, Verdict.FAIL, "10000 cents"),
        ({"link_over_http": True}, Verdict.FAIL, "is not https"),
        ({"till.outage": True}, Verdict.INCONCLUSIVE, "could not confirm the amount"),
    ],
)
async def test_what_the_gateway_does_not_confirm_is_never_paid(
    shopping: Shopping, mode: str, wrong: dict[str, object], verdict: Verdict, word: str
) -> None:
    """A link for another amount, over http, or unknown to the gateway: no card is typed in and nobody is shown it."""
    merchant, till, world = shopping
    for name, value in wrong.items():
        setattr(till if name.startswith("till.") else merchant, name.removeprefix("till."), value)
    told = Told(till)
    finding = await ask(CHECKS["payment.is_paid"], replace(world, tell=told), mode=mode, cap=PRICE)
    assert (finding.verdict, word in finding.reason, "nothing was paid" in finding.reason) == (verdict, True, True)
    assert (paid_at(till), told.lines) == ([], [])


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
