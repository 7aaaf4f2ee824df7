"""The smoke payment: one small payment of our own, followed from its creation to the active enrolment.

Three facts, each built on the one before: created, paid, settled. Checks share them, so money is spent once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from checks.facts import pay_page, smoke_person
from checks.facts import smoke_limits as limits
from checks.facts.payments import Created, Standing, create, read_standing, remedy_for
from checks.facts.smoke_again import paid_for_already
from checks.facts.smoke_limits import on_loopback
from checks.judging import Unjudged, finding_of
from pipeline.contracts import Cents, GatewayPayment, PayLink, World
from pipeline.errors import GatewayError
from pipeline.purse import AlreadySpent
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, inconclusive, skipped

__all__ = ["Initialised", "Paid", "Settled", "Smoke", "as_moments", "initialised", "on_loopback", "paid", "settled"]

MARGIN_S = 5.0
"""What an enrolment may take beyond the contract's own limit: polling, a busy machine."""

_POLL_S = 0.25
_CARD_WITHIN_S = 15.0
_OWN = "pay-"
"""Stands in our reference after the marker: this payment may be gone on with by a run that was resumed."""


class Smoke(Frozen):
    """How the smoke payment is paid, and what it may cost.

    `initialise` pays nothing; `operator` waits for a person to pay; `card` types the sandbox's test card.
    """

    mode: Literal["initialise", "operator", "card"] = "initialise"
    cap: int = Field(
        100,
        ge=0,
        description="In cents: what all payments of a run together may have cost after this one, retries, a resumed "
        "run and its way back included.",
    )
    wait: Duration = Field(300.0, description="How long mode operator waits for the person; `timeout` must be longer.")


@dataclass(frozen=True)
class Initialised:
    """`seen` is the gateway's own view of the link right after its creation, or the finding for why it has none.

    `asked_ms` is how long the gateway took to say it.
    """

    created: Created
    seen: GatewayPayment | Finding | None
    under_s: float
    asked_ms: int = 0


@dataclass(frozen=True)
class Paid:
    """A smoke payment somebody tried to pay. `seen` is the last the gateway said of it.

    `moments_ms` are what happened since the link was opened or shown (at `begun`, monotonic), in ms. `earlier` says
    that it was paid for earlier in this run and only looked at again.
    """

    created: Created
    link: PayLink
    how: str
    page_status: int
    seen: GatewayPayment
    took_ms: int
    begun: float = 0.0
    page_ms: int = 0
    moments_ms: dict[str, int] = field(default_factory=dict)
    earlier: bool = False


@dataclass(frozen=True)
class Settled:
    """What the service said of a paid smoke payment, as soon as it was settled or the time had run out.

    `known_ms` and `active_ms`: when the service called it paid, and its enrolment active, in ms since the gateway was
    seen to call it paid; None while it did not.
    """

    paid: Paid
    standing: Standing
    took_ms: int
    within_s: float
    known_ms: int | None = None
    active_ms: int | None = None

    @property
    def moments_ms(self) -> dict[str, int]:
        """All that happened, in ms since the link was opened or shown."""
        since = self.paid.took_ms
        later = {"webhook received": self.known_ms, "enrolment active": self.active_ms}
        return {**self.paid.moments_ms, **{what: since + ms for what, ms in later.items() if ms is not None}}


def as_moments(moments_ms: Mapping[str, int]) -> list[dict[str, object]]:
    """What happened when, for a finding's evidence: the report shows it with the payment of that reference."""
    return [{"what": what, "after_ms": ms} for what, ms in moments_ms.items()]


async def initialised(world: World, params: Smoke) -> Initialised:
    """Raises Unjudged (FAIL) when the smoke course costs more than the cap: then nothing was sent."""
    course = world.spec.contract.smoke_course
    limits.refuse_above_the_cap(course, params.cap)
    return await world.facts.once("smoke payment initialised", lambda: _initialise(world))


async def _initialise(world: World) -> Initialised:
    course = world.spec.contract.smoke_course
    created = await create(world, course, course.cents, mark=_OWN)
    seen: GatewayPayment | Finding | None = None
    begun = world.clock.monotonic()
    if created.link is not None:
        try:
            seen = await world.gateway.status(created.link.id)
        except GatewayError as error:
            seen = finding_of(error)
    return Initialised(created, seen, world.spec.thresholds.initialisation.under, _since_ms(world, begun))


async def paid(world: World, params: Smoke) -> Paid:
    """Raises Unjudged when nothing is to be paid, nothing may be paid, or nobody could be asked."""
    if params.mode == "initialise":
        raise Unjudged(skipped("mode initialise makes a payment and pays nothing, so no paid payment exists"))
    if params.mode == "card":
        limits.refuse_card_at_a_real_gateway(world)
    fact = await initialised(world, params)
    created = fact.created
    if created.link is None:
        raise Unjudged(
            inconclusive(
                f"no payment to pay: {created.asked} {created.flaw} after {created.took_ms:g} ms",
                remedy_for(created.status),
                reference=created.reference,
                status=created.status,
                took_ms=created.took_ms,
            )
        )
    link = created.link
    return await world.facts.once(("smoke payment paid", params.mode), lambda: _pay(world, params, fact, link))


async def _pay(world: World, params: Smoke, fact: Initialised, link: PayLink) -> Paid:
    created = fact.created
    limits.refuse_what_may_cost_more(world, params.mode, created, link, fact.seen)
    try:
        await world.purse.spend(Cents(created.cents), created.reference, cap=Cents(params.cap))
    except AlreadySpent as spent:
        return await _gone_on(world, params, spent)
    return await _paid(world, params, created, link)


async def _gone_on(world: World, params: Smoke, spent: AlreadySpent) -> Paid:
    """Goes on with what this run has paid for already. Raises Unjudged (SKIPPED), or `spent` where there is nothing."""
    marker = world.spec.contract.smoke_prefix + _OWN
    begun = world.clock.monotonic()
    created, link, seen = await paid_for_already(world, spent, marker)
    if not seen.paid:
        limits.refuse_what_may_cost_more(world, params.mode, created, link, seen)
        return await _paid(world, params, created, link)
    return Paid(created, link, params.mode, 0, seen, _since_ms(world, begun), begun, earlier=True)


async def _paid(world: World, params: Smoke, created: Created, link: PayLink) -> Paid:
    begun = world.clock.monotonic()
    if params.mode == "operator":
        seen, moments = await smoke_person.pays(world, created, link, params.wait)
        took_ms = _since_ms(world, begun)
        return Paid(created, link, params.mode, 0, seen, took_ms, begun, moments_ms=moments)
    page_status = await pay_page.pay(world, link)
    page_ms = _since_ms(world, begun)
    seen = await world.gateway.status(link.id)
    while not seen.paid and world.clock.monotonic() - begun < _CARD_WITHIN_S:
        await world.clock.sleep(_POLL_S)
        seen = await world.gateway.status(link.id)
    took_ms = _since_ms(world, begun)
    moments = {"paid": took_ms} if seen.paid else {}
    return Paid(created, link, params.mode, page_status, seen, took_ms, begun, page_ms, moments)


async def settled(world: World, params: Smoke) -> Settled:
    """Waits until the service calls the paid smoke payment paid and its enrolment active, or until time has run out.

    Nothing is sent meanwhile: what settles it is the gateway's own webhook (or the service's own asking).
    """
    payment = await paid(world, params)
    if not payment.seen.paid:
        raise Unjudged(
            inconclusive(
                f"the gateway never called {payment.created.reference} paid (after {payment.took_ms} ms it says "
                f"{payment.seen.status!r}), so no webhook is due",
                "See payment.is_paid.",
                reference=payment.created.reference,
                took_ms=payment.took_ms,
            )
        )
    return await world.facts.once(("smoke payment settled", params.mode), lambda: _settle(world, payment))


async def _settle(world: World, payment: Paid) -> Settled:
    within = world.spec.contract.enrolment_within + MARGIN_S
    begun = world.clock.monotonic()
    known_ms: int | None = None
    while True:
        found = await read_standing(world, payment.created.reference)
        took_ms = _since_ms(world, begun)
        if known_ms is None and found.status == "paid":
            known_ms = took_ms
            _tell(world, payment, "the service knows of the payment, so its webhook came", took_ms)
        if known_ms is not None and found.active:
            _tell(world, payment, "the enrolment is active", took_ms)
            return Settled(payment, found, took_ms, within, known_ms, took_ms)
        if world.clock.monotonic() - begun >= within:
            return Settled(payment, found, took_ms, within, known_ms)
        await world.clock.sleep(_POLL_S)


def _tell(world: World, payment: Paid, what: str, took_ms: int) -> None:
    if payment.how == "operator":
        world.tell(f"{what}, {took_ms / 1000:.1f} s after the gateway called it paid")


def _since_ms(world: World, begun: float) -> int:
    return round((world.clock.monotonic() - begun) * 1000)
