"""I1, measured: what the gateway calls paid against what the service activated."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.contracts import Clock, Gateway, GatewayPayment
from pipeline.errors import ServiceGarbled
from pipeline.service import Service

AT_ONCE = 16
"""Questions asked of the service side by side."""

CLOCK_MARGIN = timedelta(minutes=2)
"""How far the gateway's clock may be from ours without a payment falling out of the window."""


@dataclass(frozen=True)
class Seen:
    """What the service knows of one reference. `amount` in cents, None when it never saw the reference."""

    activations: int
    amount: int | None


@dataclass(frozen=True)
class Mismatch:
    """`lost`: paid once and never activated, which another delivery of its webhook can mend."""

    reference: str
    found: str
    expected: str
    lost: bool = False


@dataclass(frozen=True)
class Reconciliation:
    """`paid` and `activated` count references. `repaired` names those whose webhook was delivered again."""

    paid: int
    activated: int
    mismatches: tuple[Mismatch, ...]
    repaired: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.mismatches


def compare(payments: Sequence[GatewayPayment], seen: Mapping[str, Seen]) -> Reconciliation:
    """Pure. `seen` has an entry for every reference of `payments`."""
    links: dict[str, list[GatewayPayment]] = defaultdict(list)
    for payment in payments:
        links[payment.reference].append(payment)
    mismatches = [
        mismatch
        for reference in sorted(links)
        if (mismatch := _mismatch(reference, links[reference], seen[reference])) is not None
    ]
    return Reconciliation(
        paid=sum(any(link.paid for link in group) for group in links.values()),
        activated=sum(seen[reference].activations > 0 for reference in links),
        mismatches=tuple(mismatches),
    )


def _mismatch(reference: str, links: Sequence[GatewayPayment], seen: Seen) -> Mismatch | None:
    paid = [link for link in links if link.paid]
    expected = "1 activation" if paid else "no activation: the gateway has no paid payment"
    if len(paid) > 1:
        return Mismatch(reference, f"paid {len(paid)} times at the gateway", "one paid payment for a reference")
    if seen.activations != len(paid):
        return Mismatch(reference, f"{seen.activations} activations", expected, lost=seen.activations == 0)
    if paid and seen.amount != paid[0].amount:
        return Mismatch(
            reference, f"{seen.amount} cents at the service", f"{paid[0].amount} cents, as the gateway was paid"
        )
    return None


async def reconcile(
    gateway: Gateway,
    service: Service,
    clock: Clock,
    *,
    since: datetime,
    settle: float,
    repair: bool,
) -> Reconciliation:
    """Compares all payments made since `since`, giving those still settling `settle` seconds.

    With `repair`, what is paid and not activated gets its webhook again, once, through the service's own door.
    Raises GatewayError or ServiceError when one of the two cannot be asked: then nothing is known.
    """
    payments = await _made_since(gateway, clock, since)
    result, deadline = await _compared(service, payments), clock.monotonic() + settle
    repaired: tuple[str, ...] = ()
    while not result.ok and clock.monotonic() < deadline:
        if repair and not repaired and clock.monotonic() > deadline - settle / 2:
            repaired = await _deliver_again(gateway, service, payments, result)
        await clock.sleep(0.25)
        payments = await _made_since(gateway, clock, since)
        result = await _compared(service, payments)
    return Reconciliation(result.paid, result.activated, result.mismatches, repaired)


async def _made_since(gateway: Gateway, clock: Clock, since: datetime) -> Sequence[GatewayPayment]:
    everything = await gateway.history(since - CLOCK_MARGIN, clock.now() + CLOCK_MARGIN)
    first = since - CLOCK_MARGIN
    return [payment for payment in everything if _instant(payment.created, first) >= first]


def _instant(created: str, otherwise: datetime) -> datetime:
    """A payment without a readable time is compared rather than left out."""
    try:
        instant = datetime.fromisoformat(created)
    except ValueError:
        return otherwise
    return instant if instant.tzinfo else otherwise


async def _compared(service: Service, payments: Sequence[GatewayPayment]) -> Reconciliation:
    seen = await _ask(service, {payment.reference for payment in payments})
    return compare(payments, seen)


async def _ask(service: Service, references: Iterable[str]) -> dict[str, Seen]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(reference: str) -> tuple[str, Seen]:
        async with gate:
            return reference, Seen(await service.activations(reference), await _amount(service, reference))

    return dict(await asyncio.gather(*(one(reference) for reference in references)))


async def _amount(service: Service, reference: str) -> int | None:
    answer = await service.payment(reference)
    if answer.status == 404:
        return None
    amount = answer.member("amount")
    if answer.status != 200 or not isinstance(amount, int):
        raise ServiceGarbled(f"GET {answer.path}: answered {answer.status}, amount {amount!r}; cents are expected")
    return amount


async def _deliver_again(
    gateway: Gateway, service: Service, payments: Sequence[GatewayPayment], result: Reconciliation
) -> tuple[str, ...]:
    wanting = {mismatch.reference for mismatch in result.mismatches if mismatch.lost}
    lost = [payment for payment in payments if payment.paid and payment.reference in wanting]
    for payment in lost:
        webhook = gateway.webhook(service.contract.webhook, payment.link_id, payment.reference, "SUCCESS")
        await service.post_webhook(webhook.body, webhook.headers)
    return tuple(payment.reference for payment in lost)
