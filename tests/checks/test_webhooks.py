"""The webhook proofs against a merchant with behaviours to switch."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from checks import CHECKS
from checks.facts.payments import Standing
from checks.webhook_refusals import Answered, Refusals, Signed, tampered, unsigned, wrongly_signed
from pipeline.contracts import Addresses, World
from pipeline.spec import NoParams
from pipeline.verdict import Verdict
from tests.checks.worlds import Merchant, Till, ask, sign

Shopping = tuple[Merchant, Till, World]
UNSIGNED, WRONG, TAMPERED = "webhook.refuses_unsigned", "webhook.refuses_wrong_signature", "webhook.refuses_tampered"
DUPLICATE = "webhook.duplicate_is_harmless"


@pytest.mark.parametrize("name", [UNSIGNED, WRONG, TAMPERED, DUPLICATE])
async def test_a_careful_merchant_passes(shopping: Shopping, name: str) -> None:
    """A merchant that verifies and is idempotent passes every webhook proof."""
    _, _, world = shopping
    finding = await ask(CHECKS[name], world)
    assert finding.verdict is Verdict.PASS, finding


@pytest.mark.parametrize(
    ("name", "wrong", "verdict"),
    [
        (UNSIGNED, {"believes_anything": True}, Verdict.FAIL),
        (WRONG, {"believes_anything": True}, Verdict.FAIL),
        (TAMPERED, {"believes_anything": True}, Verdict.FAIL),
        (UNSIGNED, {"reads_only_that_it_is_signed": True}, Verdict.PASS),
        (WRONG, {"reads_only_that_it_is_signed": True}, Verdict.FAIL),
        (TAMPERED, {"reads_only_that_it_is_signed": True}, Verdict.FAIL),
        (UNSIGNED, {"refusal_status": 403}, Verdict.PASS),
        (UNSIGNED, {"refusal_status": 429}, Verdict.INCONCLUSIVE),
        (UNSIGNED, {"refusal_status": 500}, Verdict.FAIL),
        (UNSIGNED, {"refusal_status": 200}, Verdict.FAIL),
        (UNSIGNED, {"refusal_status": 302}, Verdict.FAIL),
        (UNSIGNED, {"enrols_on_refusal": True}, Verdict.FAIL),
        (UNSIGNED, {"webhook_status": 401}, Verdict.INCONCLUSIVE),
        (TAMPERED, {"webhook_status": 429}, Verdict.INCONCLUSIVE),
        (WRONG, {"webhook_status": 500}, Verdict.FAIL),
        (WRONG, {"create_status": 500}, Verdict.INCONCLUSIVE),
        (WRONG, {"garbled": True}, Verdict.FAIL),
    ],
)
async def test_forged_webhooks(shopping: Shopping, name: str, wrong: dict[str, object], verdict: Verdict) -> None:
    """Forged webhooks that get in, break the service or have an effect fail; without a control nothing is shown."""
    merchant, _, world = shopping
    for flag, value in wrong.items():
        setattr(merchant, flag, value)
    finding = await ask(CHECKS[name], world)
    assert finding.verdict is verdict, finding


async def test_a_service_with_another_secret_is_inconclusive_and_says_what_to_compare(shopping: Shopping) -> None:
    """Correctly signed webhooks that are refused make every refusal worthless, and the remedy names the secret."""
    _, till, world = shopping
    finding = await ask(CHECKS[UNSIGNED], replace(world, gateway=Till("another", payments=till.payments)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "Webhook signature mismatch" in finding.remedy


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({"forgets_it_was_done": True}, Verdict.FAIL),
        ({"create_status": 503}, Verdict.INCONCLUSIVE),
        ({"webhook_status": 500}, Verdict.INCONCLUSIVE),
    ],
)
async def test_duplicates(shopping: Shopping, wrong: dict[str, object], verdict: Verdict) -> None:
    """A merchant that activates on each repeat fails; where nothing was activated there is nothing to double."""
    merchant, _, world = shopping
    for flag, value in wrong.items():
        setattr(merchant, flag, value)
    finding = await ask(CHECKS[DUPLICATE], world)
    assert finding.verdict is verdict, finding


async def test_duplicates_where_no_card_can_be_paid_use_an_unpaid_payment(shopping: Shopping) -> None:
    """At a real gateway the duplicates are sent for an unpaid payment, and the finding says so."""
    merchant, _, world = shopping
    world = replace(world, addresses=Addresses(world.addresses.service, "https://api.ikhokha.com"))
    finding = await ask(CHECKS[DUPLICATE], world)
    assert (finding.verdict, "unpaid" in finding.reason) == (Verdict.PASS, True), finding
    merchant.webhook_status = 500
    finding = await ask(CHECKS[DUPLICATE], world)
    assert finding.verdict is Verdict.FAIL


def refusals(**changed: object) -> Refusals:
    """What a careful merchant answers, with members changed."""
    control, pending = Answered("correctly signed", 200, 5.0), Standing("pending", False, 0)
    refused = (Answered("without any header", 401, 3.0),)
    return replace(Refusals("smoke-1", control, pending, refused, pending, control), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"forged": ()}, Verdict.INCONCLUSIVE),
        ({"last": Answered("correctly signed", 429, 5.0)}, Verdict.INCONCLUSIVE),
        ({"first": Answered("correctly signed", 401, 5.0)}, Verdict.INCONCLUSIVE),
        ({"after": Standing("paid", False, 0)}, Verdict.FAIL),
        ({"after": Standing("pending", True, 1)}, Verdict.FAIL),
        ({"before": Standing("failed", False, 0)}, Verdict.PASS),
        ({"after": Standing("failed", False, 0)}, Verdict.PASS),
    ],
)
def test_refusals_are_judged_with_their_control_and_effect(changed: dict[str, object], verdict: Verdict) -> None:
    """No forged webhook sent, a control that was refused, or an effect: none of them passes."""
    assert CHECKS[UNSIGNED].judge(refusals(**changed), NoParams()).verdict is verdict


def test_forged_signatures_differ_from_the_real_one_and_look_like_it() -> None:
    """Every forged signature is wrong, and only unsigned ones lack it."""
    till = Till("secret")
    signed = Signed(till.webhook("/w", "l", "r", "FAILURE"), till.webhook("/w", "l", "r", "SUCCESS"))
    assert signed.signature_headers == ("ik-sign",)
    for forged in (*wrongly_signed(signed, random.SystemRandom()), *tampered(signed, random.SystemRandom())):
        assert len(forged.headers["ik-sign"]) == 64
        assert forged.headers["ik-sign"] != sign("secret", "/w", forged.body)
        assert forged.headers["ik-appid"] == "app"
    assert all(not forged.headers.get("ik-sign") for forged in unsigned(signed, random.SystemRandom()))
