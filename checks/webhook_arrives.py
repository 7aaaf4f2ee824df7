"""webhook.arrives: the service learns of a payment without our telling it."""

from __future__ import annotations

from checks.facts.smoke import Settled, Smoke, as_moments, settled
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding, failed, passed


@or_finding
async def gather(world: World, params: Smoke) -> Settled:
    return await settled(world, params)


@unless_finding
def judge(fact: Settled, _params: Smoke) -> Finding:
    reference = fact.paid.created.reference
    measured = {
        "reference": reference,
        "paylink": fact.paid.link.id,
        "took_ms": fact.took_ms,
        "limit_s": fact.within_s,
        **fact.standing.as_data(),
        "moments": as_moments(fact.moments_ms),
    }
    if fact.standing.status != "paid" or not fact.standing.active:
        return failed(
            f"nothing was sent but the payment: the gateway calls {reference} paid, but {fact.took_ms} ms later the "
            f"service, asked, says: {fact.standing}; expected paid and active within {fact.within_s:g} s",
            "No webhook arrived or none was accepted. Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET "
            "with the gateway's Application Secret; else check that the gateway reaches contract.webhook from outside.",
            **measured,
        )
    return passed(
        f"paid {reference}: the service, asked, knew of the payment {fact.known_ms} ms after the gateway called it "
        f"paid, and its enrolment was active after {fact.active_ms} ms (limit {fact.within_s:g} s)",
        **measured,
    )


CHECK = Check(
    name="webhook.arrives",
    promise="The service learns from the gateway that a payment was paid, within its time.",
    rows=("G1", "G8", "G11", "G17", "T6", "T10", "T12"),
    gather=gather,
    judge=judge,
    params=Smoke,
    network=True,
    when=When.LIVE,
    why="Money taken and no course given is the complaint that costs most.",
    acceptable=False,
    looks_at=(
        "The smoke payment after the gateway calls it paid: the service is asked about it, and about its enrolment, "
        "until it knows or `contract.enrolment_within` has passed."
    ),
    fix=(
        "No webhook came: check that the gateway reaches `contract.webhook` from outside. One came and was refused: "
        "webhook signature mismatch, compare `VITE_IKHOKHA_WEBHOOK_SECRET` with the gateway's Application Secret."
    ),
    see_it_fail="`./inv drill --fault webhook-500` deploys a shop that answers every webhook with 500.",
    says=("Webhook signature mismatch",),
)
