"""The smoke payment: one small payment of our own, followed from its creation to the active enrolment.

Three facts, each built on the one before: created, paid, settled. Checks share them, so money is spent once.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from checks.facts import pay_page
from checks.facts.payments import Created, Standing, create, remedy_for, standing
from checks.judging import Unjudged, finding_of
from pipeline.contracts import GatewayPayment, PayLink, World
from pipeline.errors import GatewayError
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, failed, inconclusive, skipped

MARGIN_S = 5.0
"""What an enrolment may take beyond the contract's own limit: polling, a busy machine."""

_POLL_S = 0.25
_OPERATOR_POLL_S = 2.0
_CARD_WITHIN_S = 15.0


class Smoke(Frozen):
    """How the smoke payment is paid, and what it may cost.

    `initialise` pays nothing; `operator` waits for a person to pay; `card` types the sandbox's test card.
    """

    mode: Literal["initialise", "operator", "card"] = "initialise"
    cap: int = Field(100, ge=0, description="In cents; a smoke course that costs more is never paid for.")
    wait: Duration = Field(300.0, description="How long mode operator waits for the person.")


@dataclass(frozen=True)
class Initialised:
    """`seen` is the gateway's own view of the link right after its creation, or the finding for why it has none."""

    created: Created
    seen: GatewayPayment | Finding | None
    under_s: float


@dataclass(frozen=True)
class Paid:
    """A smoke payment somebody tried to pay. `seen` is the last the gateway said of it."""

    created: Created
    link: PayLink
    how: str
    page_status: int
    seen: GatewayPayment
    took_ms: int


@dataclass(frozen=True)
class Settled:
    """What the service said of a paid smoke payment, as soon as it was settled or the time had run out."""

    paid: Paid
    standing: Standing
    took_ms: int
    within_s: float


async def initialised(world: World, params: Smoke) -> Initialised:
    """Raises Unjudged (FAIL) when the smoke course costs more than the cap: then nothing was sent."""
    course = world.spec.contract.smoke_course
    if course.cents > params.cap:
        raise Unjudged(
            failed(
                f"the smoke course {course.id} costs {course.cents} cents, the cap is {params.cap}; nothing was sent",
                "Offer a cheaper smoke course (contract.smoke_course), or raise `cap` if you mean to spend that much.",
                cents=course.cents,
                cap_cents=params.cap,
            )
        )
    return await world.facts.once("smoke payment initialised", lambda: _initialise(world))


async def _initialise(world: World) -> Initialised:
    course = world.spec.contract.smoke_course
    created = await create(world, course, course.cents)
    seen: GatewayPayment | Finding | None = None
    if created.link is not None:
        try:
            seen = await world.gateway.status(created.link.id)
        except GatewayError as error:
            seen = finding_of(error)
    return Initialised(created, seen, world.spec.thresholds.initialisation.under)


async def paid(world: World, params: Smoke) -> Paid:
    """Raises Unjudged when nothing is to be paid, nothing may be paid, or nobody could be asked."""
    if params.mode == "initialise":
        raise Unjudged(skipped("mode initialise makes a payment and pays nothing, so no paid payment exists"))
    if params.mode == "card":
        _refuse_card_at_a_real_gateway(world)
    created = (await initialised(world, params)).created
    if created.link is None:
        raise Unjudged(
            inconclusive(
                f"no payment to pay: {created.asked} {created.flaw}",
                remedy_for(created.status),
                reference=created.reference,
                status=created.status,
            )
        )
    link = created.link
    return await world.facts.once(("smoke payment paid", params.mode), lambda: _pay(world, params, created, link))


def _refuse_card_at_a_real_gateway(world: World) -> None:
    testing = world.settings.text("VITE_IKHOKHA_TEST_MODE") == "true"
    if not testing and not on_loopback(world.addresses.gateway):
        raise Unjudged(
            failed(
                f"mode card is for the sandbox and for test mode; {world.addresses.gateway} takes real money, "
                "so nothing was sent",
                "Use `with: {mode: operator, cap: ...}` (a person pays) or mode initialise (nobody pays).",
            )
        )


def on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _pay(world: World, params: Smoke, created: Created, link: PayLink) -> Paid:
    begun = world.clock.monotonic()
    page_status = 0
    if params.mode == "card":
        if on_loopback(world.addresses.gateway) and not on_loopback(link.url):
            raise Unjudged(
                failed(
                    f"the gateway is on this machine, but the pay link leads to {link.url}; nothing was sent there",
                    "The service asked another gateway than its settings say: check how it reads its API URL.",
                )
            )
        page_status = await pay_page.pay(world, link)
    limit, pause = (_CARD_WITHIN_S, _POLL_S) if params.mode == "card" else (params.wait, _OPERATOR_POLL_S)
    seen = await world.gateway.status(link.id)
    while not seen.paid and world.clock.monotonic() - begun < limit:
        await world.clock.sleep(pause)
        seen = await world.gateway.status(link.id)
    return Paid(created, link, params.mode, page_status, seen, _since_ms(world, begun))


async def settled(world: World, params: Smoke) -> Settled:
    """Waits until the service calls the paid smoke payment paid and its enrolment active, or until time has run out.

    Nothing is sent meanwhile: what settles it is the gateway's own webhook (or the service's own asking).
    """
    payment = await paid(world, params)
    if not payment.seen.paid:
        raise Unjudged(
            inconclusive(
                f"the gateway never called {payment.created.reference} paid (it says {payment.seen.status!r}), "
                "so no webhook is due",
                "See payment.is_paid.",
                reference=payment.created.reference,
            )
        )
    return await world.facts.once(("smoke payment settled", params.mode), lambda: _settle(world, payment))


async def _settle(world: World, payment: Paid) -> Settled:
    within = world.spec.contract.enrolment_within + MARGIN_S
    begun = world.clock.monotonic()
    found = await standing(world, payment.created.reference)
    while not (found.status == "paid" and found.active) and world.clock.monotonic() - begun < within:
        await world.clock.sleep(_POLL_S)
        found = await standing(world, payment.created.reference)
    return Settled(payment, found, _since_ms(world, begun), within)


def _since_ms(world: World, begun: float) -> int:
    return round((world.clock.monotonic() - begun) * 1000)
