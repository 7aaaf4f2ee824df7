"""webhook.duplicate_is_harmless: the same webhook again changes nothing, for gateways repeat themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from checks.facts.payments import Standing, read_standing, unpaid
from checks.facts.smoke import Smoke, on_loopback, settled
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, PayLink, SecurityEvent, When, World
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, failed, inconclusive, passed

_NAME = "webhook.duplicate_is_harmless"
REPEATS = 3
SETTLE_S = 1.0
"""How long a second activation may take to show."""


class Duplicates(Frozen):
    """Which payment the repeated webhook speaks of: the smoke payment, or in mode `initialise` one nobody pays."""

    mode: Literal["initialise", "operator", "card"] | None = Field(
        None, description="As in payment.is_paid; by default card where the gateway is the sandbox's, else initialise."
    )
    cap: int | None = Field(None, ge=0, description="As in payment.is_paid; by default the smoke course's price.")
    wait: Duration = Field(300.0, description="As in payment.is_paid.")


@dataclass(frozen=True)
class Repeated:
    """`paid` False: nothing was paid, so an unpaid payment stood in."""

    reference: str
    paid: bool
    before: Standing
    answers: tuple[tuple[int, float], ...]
    after: Standing


@or_finding
async def gather(world: World, params: Duplicates) -> Repeated:
    reference, link, paid = await _repeated_for(world, params)
    before = await read_standing(world, reference)
    webhook = world.gateway.webhook(world.spec.contract.webhook, link.id, reference, "SUCCESS")
    answers = []
    for _ in range(REPEATS):
        answer = await world.service.post_webhook(webhook.body, webhook.headers)
        answers.append((answer.status, answer.took_ms))
    await world.clock.sleep(SETTLE_S)
    return Repeated(reference, paid, before, tuple(answers), await read_standing(world, reference))


async def _repeated_for(world: World, params: Duplicates) -> tuple[str, PayLink, bool]:
    """Reference and link of the payment that the webhook speaks of, and whether it is paid."""
    mode = params.mode or ("card" if on_loopback(world.addresses.gateway) else "initialise")
    if mode == "initialise":
        created, link = await unpaid(world, _NAME)
        said = "correctly signed SUCCESSes for a payment that nobody paid"
        world.security(SecurityEvent(world.clock.now(), "probe.sent", _NAME, said, created.reference))
        return created.reference, link, False
    cap = world.spec.contract.smoke_course.cents if params.cap is None else params.cap
    payment = (await settled(world, Smoke(mode=mode, cap=cap, wait=params.wait))).paid
    return payment.created.reference, payment.link, True


@unless_finding
def judge(fact: Repeated, _params: Duplicates) -> Finding:
    kind = "paid" if fact.paid else "unpaid (nothing is paid here)"
    told = ", ".join(f"{status} in {took:g} ms" for status, took in fact.answers)
    measured = {
        "reference": fact.reference,
        "paid": fact.paid,
        "answers": [{"status": status, "took_ms": took} for status, took in fact.answers],
        "activations_before": fact.before.activations,
        "activations": fact.after.activations,
    }
    expected = 1 if fact.paid else 0
    if fact.before.activations < expected:
        return inconclusive(
            f"{kind} {fact.reference} was not activated, so the same webhook {len(fact.answers)} times more "
            f"({told or 'no answer'}) had nothing to double",
            "See webhook.arrives for why the payment was not activated.",
            **measured,
        )
    if fact.before.activations != expected or fact.after.activations != expected:
        return failed(
            f"the same webhook {len(fact.answers)} times more for {kind} {fact.reference} ({told}): "
            f"{counted(fact.before.activations, 'activation')} before, {fact.after.activations} after, "
            f"expected {expected}",
            "Make the activation idempotent: a unique constraint on paylinkID in the service's database.",
            **measured,
        )
    if any(status >= 500 for status, _ in fact.answers):
        return failed(
            f"duplicates for {kind} {fact.reference} were answered {told}; expected 2xx",
            "Answer 2xx to what is already done: a 5xx makes the gateway repeat it without end. See the service's log.",
            **measured,
        )
    if not fact.answers or not all(200 <= status < 300 for status, _ in fact.answers):
        return inconclusive(
            f"correctly signed duplicates for {kind} {fact.reference} were answered {told or 'nothing'}; expected 2xx, "
            "so nothing was proven",
            "Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application Secret; "
            "after a 429 wait a minute.",
            **measured,
        )
    return passed(
        f"the same webhook {len(fact.answers)} times more for {kind} {fact.reference} was answered {told} and "
        f"left {counted(fact.after.activations, 'activation')}",
        **measured,
    )


CHECK = Check(
    name=_NAME,
    promise="A webhook that comes again is accepted and activates nothing more.",
    rows=("G11", "G14", "T6", "T12"),
    gather=gather,
    judge=judge,
    params=Duplicates,
    network=True,
    when=When.LIVE,
    why="The gateway repeats what it got no answer to; each repeat may be the second activation.",
    pci=("6.5.1",),
    acceptable=False,
    looks_at=(
        "The answers to the same correctly signed webhook, sent three times more, and the number of activations before "
        "and after. In mode `initialise`, the default everywhere but in the sandbox, nobody has paid that payment."
    ),
    fix=(
        "Make the activation idempotent, with a unique constraint on paylinkID in the service's database, and answer "
        "2xx to what is done already."
    ),
    see_it_fail="`./inv drill --fault webhook-not-idempotent` deploys a shop that activates on each delivery.",
    says=("Webhook signature mismatch",),
)
