"""A smoke payment that this run has paid for already: found again, so that nothing is paid twice."""

from __future__ import annotations

from checks.facts.payments import Created, create, link_of
from checks.judging import Unjudged
from pipeline.contracts import GatewayPayment, PayLink, World
from pipeline.purse import AlreadySpent
from pipeline.verdict import skipped


async def paid_for_already(world: World, spent: AlreadySpent, marker: str) -> tuple[Created, PayLink, GatewayPayment]:
    """The newest payment of ours (its reference begins with `marker`) that this run has spent money on.

    It may be unpaid yet: then its link can be paid, which costs nothing more. Raises Unjudged (SKIPPED) on a way back,
    where all was spent on the release that is being taken back; `spent` itself where there is nothing to go on with.
    """
    reference = next((one for one in spent.references if one.startswith(marker)), None)
    if reference is None and spent.before_way_back:
        raise Unjudged(
            skipped(
                f"{spent}, all of it on the release that is being taken back; this release is proven without a payment"
            )
        )
    if reference is None:
        raise spent
    link_id = await link_of(world, reference)
    if link_id:
        seen = await world.gateway.status(link_id)
        if seen.paid:
            course = world.spec.contract.smoke_course
            return Created(reference, course.id, course.cents, 200, 0.0, None, ""), PayLink(link_id, ""), seen
    again = await create(
        world, world.spec.contract.smoke_course, world.spec.contract.smoke_course.cents, again=reference
    )
    if again.link is None:
        raise spent
    return again, again.link, await world.gateway.status(again.link.id)
