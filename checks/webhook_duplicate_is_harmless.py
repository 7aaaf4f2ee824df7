"""webhook.duplicate_is_harmless: the same webhook again changes nothing, for gateways repeat themselves."""

from __future__ import annotations

from dataclasses import dataclass

from checks.facts.payments import Standing, standing, unpaid
from checks.facts.smoke import Smoke, on_loopback, settled
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, failed, inconclusive, passed

REPEATS = 3
SETTLE_S = 1.0
"""How long a second activation may take to show."""


@dataclass(frozen=True)
class Repeated:
    """`paid` False: no card can be paid with here, so an unpaid payment stood in."""

    reference: str
    paid: bool
    before: Standing
    answers: tuple[tuple[int, float], ...]
    after: Standing


@or_finding
async def gather(world: World, _params: NoParams) -> Repeated:
    if on_loopback(world.addresses.gateway):
        cents = world.spec.contract.smoke_course.cents
        payment = (await settled(world, Smoke(mode="card", cap=cents))).paid
        reference, link, paid = payment.created.reference, payment.link, True
    else:
        created, link = await unpaid(world, "webhook.duplicate_is_harmless")
        reference, paid = created.reference, False
    before = await standing(world, reference)
    webhook = world.gateway.webhook(world.spec.contract.webhook, link.id, reference, "SUCCESS")
    answers = []
    for _ in range(REPEATS):
        answer = await world.service.post_webhook(webhook.body, webhook.headers)
        answers.append((answer.status, answer.took_ms))
    await world.clock.sleep(SETTLE_S)
    return Repeated(reference, paid, before, tuple(answers), await standing(world, reference))


@unless_finding
def judge(fact: Repeated, _params: NoParams) -> Finding:
    kind = "paid" if fact.paid else "unpaid (no card can be paid with here)"
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
            f"{kind} {fact.reference} was not activated, so duplicates had nothing to double",
            "See webhook.arrives for why the payment was not activated.",
            **measured,
        )
    if fact.before.activations != expected or fact.after.activations != expected:
        return failed(
            f"the same webhook {len(fact.answers)} times more for {kind} {fact.reference}: expected {expected}, "
            f"{counted(fact.before.activations, 'activation')} before, {fact.after.activations} after",
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
    name="webhook.duplicate_is_harmless",
    promise="A webhook that comes again is accepted and activates nothing more.",
    rows=("G11", "G14", "T6", "T12"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="The gateway repeats what it got no answer to; each repeat may be the second activation.",
    pci=("6.5.1",),
    acceptable=False,
    looks_at=(
        "The answers to the same correctly signed webhook, sent three times more, and the number of activations before "
        "and after. Where no card can be paid with, the payment is one that nobody paid."
    ),
    fix=(
        "Make the activation idempotent, with a unique constraint on paylinkID in the service's database, and answer "
        "2xx to what is done already."
    ),
    see_it_fail="`./inv drill --fault webhook-not-idempotent` deploys a shop that activates on each delivery.",
    says=("Webhook signature mismatch",),
)
