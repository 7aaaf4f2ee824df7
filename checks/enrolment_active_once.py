"""enrolment.active_once: one paid payment, one activation, and it stays at one."""

from __future__ import annotations

from dataclasses import dataclass

from checks.facts.payments import Standing, read_standing
from checks.facts.smoke import Settled, Smoke, as_moments, settled
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding, failed, passed

SETTLE_S = 1.0
"""How long a second activation may take to show."""


@dataclass(frozen=True)
class Activated:
    """The enrolment when it was settled, and read again a little later."""

    settled: Settled
    later: Standing
    later_ms: int = 0
    """When it was read again, in ms since the gateway was seen to call it paid."""


@or_finding
async def gather(world: World, params: Smoke) -> Activated:
    first = await settled(world, params)
    begun = world.clock.monotonic()
    await world.clock.sleep(SETTLE_S)
    later = await read_standing(world, first.paid.created.reference)
    return Activated(first, later, first.took_ms + round((world.clock.monotonic() - begun) * 1000))


@unless_finding
def judge(fact: Activated, _params: Smoke) -> Finding:
    reference, first = fact.settled.paid.created.reference, fact.settled.standing
    counts = (first.activations, fact.later.activations)
    measured = {
        "reference": reference,
        "activations": counts[0],
        "activations_later": counts[1],
        "took_ms": fact.settled.took_ms,
        "later_ms": fact.later_ms,
        "moments": as_moments(fact.settled.moments_ms),
    }
    asked = f"paid {reference}: the service, asked for its enrolment {fact.settled.took_ms} ms after the payment"
    told = f"{asked}, says {counted(counts[0], 'activation')}, and {counts[1]} after {fact.later_ms} ms"
    if counts == (1, 1) and first.active and fact.later.active:
        return passed(f"{told}: activated exactly once", **measured)
    if 0 in counts or not fact.later.active:
        return failed(
            f"{told}, active {fact.later.active}; expected one that stays",
            "The service loses paid orders: look at its log for this reference, then reconcile before you go on.",
            **measured,
        )
    return failed(
        f"{told}; expected exactly 1",
        "Make the activation idempotent: a unique constraint on paylinkID in the service's database.",
        **measured,
    )


CHECK = Check(
    name="enrolment.active_once",
    promise="A paid payment activates its enrolment exactly once.",
    rows=("G8", "G11", "T12"),
    gather=gather,
    judge=judge,
    params=Smoke,
    network=True,
    when=When.LIVE,
    why="Invariant I1: no paid order is lost or doubled.",
    pci=("6.5.1",),
    acceptable=False,
    looks_at=(
        "The enrolment of the smoke payment once it was paid, and again a second later: whether it is active, and how "
        "often the service counts it as activated."
    ),
    fix=(
        "Make the activation idempotent, with a unique constraint on paylinkID in the service's database. Where it was "
        "never activated, follow the reference through the service's log from the webhook on."
    ),
    see_it_fail="`./inv drill --fault webhook-not-idempotent` deploys a shop that activates on each delivery.",
)
