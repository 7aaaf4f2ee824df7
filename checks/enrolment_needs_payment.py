"""enrolment.needs_payment: a webhook's word alone enrols nobody."""

from __future__ import annotations

from dataclasses import dataclass

from checks.facts.payments import Standing, read_standing, unpaid
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, SecurityEvent, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, failed, inconclusive, passed

_NAME = "enrolment.needs_payment"
SETTLE_S = 1.5
"""How long an activation that must not happen may take to show."""


@dataclass(frozen=True)
class Believed:
    """A correctly signed SUCCESS for a payment nobody made, what it was answered, and what came of it."""

    reference: str
    status: int
    took_ms: float
    after: Standing


@or_finding
async def gather(world: World, _params: NoParams) -> Believed:
    created, link = await unpaid(world, _NAME)
    webhook = world.gateway.webhook(world.spec.contract.webhook, link.id, created.reference, "SUCCESS")
    said = "a correctly signed SUCCESS for a payment that nobody paid"
    world.security(SecurityEvent(world.clock.now(), "probe.sent", _NAME, said, created.reference))
    answer = await world.service.post_webhook(webhook.body, webhook.headers)
    await world.clock.sleep(SETTLE_S)
    return Believed(created.reference, answer.status, answer.took_ms, await read_standing(world, created.reference))


@unless_finding
def judge(fact: Believed, _params: NoParams) -> Finding:
    sent = f"a signed SUCCESS for unpaid {fact.reference} was answered {fact.status} in {fact.took_ms:g} ms"
    measured = {"reference": fact.reference, "status": fact.status, "took_ms": fact.took_ms, **fact.after.as_data()}
    if fact.after.enrolled or fact.after.status == "paid":
        return failed(
            f"{sent}, and afterwards: {fact.after}; expected no activation, for nobody paid",
            "Treat a webhook as a wake-up call: ask the gateway's getStatus and require PAID, the same paylinkID and "
            "the same amount before an enrolment is activated.",
            **measured,
        )
    if fact.status in (401, 403, 400):
        return inconclusive(
            f"{sent}: the service refuses correctly signed webhooks, so nothing was proven",
            "Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application Secret.",
            **measured,
        )
    if not (200 <= fact.status < 300 or fact.status in (404, 409)):
        return inconclusive(
            f"{sent}: it was not processed, so nothing was proven",
            "See the service's log for why it could not process the webhook, then run again.",
            **measured,
        )
    return passed(f"{sent}, and it stayed without activation", **measured)


CHECK = Check(
    name=_NAME,
    promise="A correctly signed webhook for a payment nobody made activates nothing.",
    rows=("G11", "G13", "G14", "T6", "T12"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="One secret signs both ways and nothing carries a time: only the gateway's own answer proves a payment.",
    pci=("6.5.1",),
    acceptable=False,
    looks_at=(
        "A smoke payment that nobody pays: a correctly signed SUCCESS is sent for it, and what the service then says "
        "of the payment and its enrolment is read."
    ),
    fix=(
        "Treat a webhook as a wake-up call: ask the gateway's getStatus and require PAID, the same paylinkID and the "
        "same amount before an enrolment is activated."
    ),
    see_it_fail="`./inv drill --fault activates-without-payment` deploys a shop that believes the webhook.",
    says=("Webhook signature mismatch",),
)
