"""I1, measured: what the gateway calls paid against what the service activated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.asking import each, reading
from pipeline.asking_again import Patience, retrying
from pipeline.contracts import Clock, Gateway, GatewayPayment
from pipeline.errors import ServiceGarbled
from pipeline.service import Service
from pipeline.words import count

CLOCK_MARGIN = timedelta(minutes=2)
"""How far the gateway's clock may be from ours without a payment falling out of the window."""

DISTRUSTED = timedelta(days=1)
"""How far is asked beside what the clock says, which may have been set back: then `since` lies in the future."""

PENDING = "PENDING"
"""What a gateway calls a payment that nobody has tried to pay. An assumption; it only decides what is noted."""

PENDING_FOR = timedelta(hours=1)
"""A payment pending for longer is noted: its customer has most likely gone."""

_PAUSE_S = 0.25


class Wrong(StrEnum):
    """The ways in which books differ. Only the first can be mended by another delivery of a webhook."""

    LOST = "paid, not activated"
    UNKNOWN = "paid, unknown to the service"
    UNPAID = "activated, not paid"
    DOUBLED = "activated more than once"
    PAID_TWICE = "paid more than once"
    AMOUNT = "amounts differ"


TODO: Mapping[Wrong, str] = {
    Wrong.LOST: "Deliver its webhook again, with --apply; if it is not activated then, read the service's log.",
    Wrong.UNKNOWN: "Find out who was to be served: activate the order by hand, or refund it. If the account is shared "
    "with another service, look there.",
    Wrong.UNPAID: "Look for the payment in the gateway's dashboard; revoke the enrolment if there is none.",
    Wrong.DOUBLED: "Take the extra activations back, and find out why the service activates twice.",
    Wrong.PAID_TWICE: "Refund all but one of its payments, and see that it is activated once.",
    Wrong.AMOUNT: "Compare the price with what the gateway was paid, then refund the difference or the payment.",
}
"""What a person does."""


@dataclass(frozen=True)
class Seen:
    """What the service knows of one reference. `amount` in cents, None when it never saw the reference.

    The amount of what the gateway does not call paid is not asked for, and is None.
    """

    activations: int
    amount: int | None


@dataclass(frozen=True)
class Mismatch:
    """`cents` is what the gateway was paid for this reference, or what it would be."""

    reference: str
    what: Wrong
    found: str
    expected: str
    cents: int = 0

    @property
    def lost(self) -> bool:
        """Paid once and never activated, which another delivery of its webhook can mend."""
        return self.what is Wrong.LOST

    @property
    def todo(self) -> str:
        return TODO[self.what]

    def as_data(self) -> dict[str, object]:
        """As it stands on record."""
        return {
            "reference": self.reference,
            "what": self.what.value,
            "found": self.found,
            "expected": self.expected,
            "cents": self.cents,
        }


@dataclass(frozen=True)
class Reconciliation:
    """`paid` and `activated` count references. `repaired` names those whose webhook was delivered again.

    `unpaid` are the payments that may still be paid, `pending` those among them that were noted.
    """

    paid: int
    activated: int
    mismatches: tuple[Mismatch, ...]
    repaired: tuple[str, ...] = ()
    unpaid: tuple[GatewayPayment, ...] = ()
    pending: tuple[GatewayPayment, ...] = ()
    again: tuple[GatewayPayment, ...] = ()
    """The payments of `repaired`."""

    @property
    def ok(self) -> bool:
        return not self.mismatches


Links = Mapping[str, Sequence[GatewayPayment]]
"""The payments of each reference: a repeated creation makes a second link."""

Deliver = Callable[[GatewayPayment], Awaitable[bool]]
"""Delivers the webhook of a paid payment again; False: it was not sent, or not accepted."""


def compare(payments: Sequence[GatewayPayment], seen: Mapping[str, Seen]) -> Reconciliation:
    """Pure. `seen` has an entry for every reference of `payments`."""
    return _compared(_by_reference(payments), seen)


def _compared(links: Links, seen: Mapping[str, Seen]) -> Reconciliation:
    mismatches = [
        mismatch
        for reference in sorted(links)
        if (mismatch := _mismatch(reference, links[reference], seen[reference])) is not None
    ]
    return Reconciliation(
        paid=sum(_is_paid(group) for group in links.values()),
        activated=sum(seen[reference].activations > 0 for reference in links),
        mismatches=tuple(mismatches),
        unpaid=tuple(link for reference in sorted(links) for link in links[reference] if not link.paid),
    )


def _mismatch(reference: str, links: Sequence[GatewayPayment], seen: Seen) -> Mismatch | None:
    paid = [link for link in links if link.paid]
    cents = sum(link.amount for link in paid or links[:1])

    def wrong(what: Wrong, found: str, expected: str) -> Mismatch:
        return Mismatch(reference, what, found, expected, cents)

    activations = count(seen.activations, "activation")
    if len(paid) > 1:
        found = f"paid {len(paid)} times at the gateway, {activations}"
        return wrong(Wrong.PAID_TWICE, found, "one paid payment for a reference")
    if not paid:
        if seen.activations == 0:
            return None
        return wrong(Wrong.UNPAID, activations, "no activation: the gateway has no paid payment")
    if seen.activations > 1:
        return wrong(Wrong.DOUBLED, activations, "1 activation")
    if seen.amount is None:
        return wrong(Wrong.UNKNOWN, f"{activations}, and the service has no such payment", "1 activation")
    if seen.amount != paid[0].amount:
        more = "" if seen.activations else ", 0 activations"
        expected = f"{paid[0].amount} cents, as the gateway was paid"
        return wrong(Wrong.AMOUNT, f"{seen.amount} cents at the service{more}", expected)
    return wrong(Wrong.LOST, activations, "1 activation") if seen.activations == 0 else None


async def reconcile(
    gateway: Gateway,
    service: Service,
    clock: Clock,
    *,
    since: datetime,
    settle: float,
    repair: bool,
    deliver: Deliver | None = None,
    patience: Patience | None = None,
) -> Reconciliation:
    """Compares all payments made since `since`, giving those that do not agree `settle` seconds to.

    The question is about what the gateway lists when it begins; what is made meanwhile is the next one's.
    With `repair`, what is still paid and not activated after half that time gets its webhook again, once, through the
    service's own door or by `deliver`. Raises GatewayError or ServiceError when one of the two cannot be asked: then
    nothing is known.
    """
    links = _by_reference(await _made_since(gateway, clock, since))
    noted = _pending(links, clock.now())
    patience = patience or Patience(clock)
    async with reading(service) as reader:
        seen = await _ask(reader, links, patience)
        result, deadline = _compared(links, seen), clock.monotonic() + settle
        repaired: tuple[GatewayPayment, ...] | None = None
        while not result.ok and clock.monotonic() < deadline:
            if repair and repaired is None and clock.monotonic() > deadline - settle / 2:
                repaired = await _deliver_again(result, links, deliver or _through_the_door(gateway, service))
                deadline = max(deadline, clock.monotonic() + settle / 2)
            await clock.sleep(_PAUSE_S)
            wrong = {mismatch.reference for mismatch in result.mismatches}
            links = {**links, **_by_reference(await _made_since(gateway, clock, since), wrong)}
            seen = {**seen, **await _ask(reader, {reference: links[reference] for reference in wrong}, patience)}
            result = _compared(links, seen)
    again = repaired or ()
    return replace(result, repaired=tuple(one.reference for one in again), pending=noted, again=again)


async def _made_since(gateway: Gateway, clock: Clock, since: datetime) -> Sequence[GatewayPayment]:
    now = clock.now()
    first = (since if since <= now else now - DISTRUSTED) - CLOCK_MARGIN
    everything = await gateway.history(first, now + DISTRUSTED)
    return [payment for payment in everything if made_at(payment, first) >= first]


def made_at(payment: GatewayPayment, otherwise: datetime) -> datetime:
    """A payment without a readable time is compared rather than left out."""
    try:
        instant = datetime.fromisoformat(payment.created)
    except ValueError:
        return otherwise
    return instant if instant.tzinfo else otherwise


def _by_reference(payments: Sequence[GatewayPayment], only: Collection[str] | None = None) -> Links:
    links: dict[str, list[GatewayPayment]] = defaultdict(list)
    for payment in payments:
        reference = payment.reference or f"link {payment.link_id}"  # of a shared account: no two are one order
        if only is None or reference in only:
            links[reference].append(payment)
    return links


def _is_paid(links: Sequence[GatewayPayment]) -> bool:
    return any(link.paid for link in links)


def _pending(links: Links, now: datetime) -> tuple[GatewayPayment, ...]:
    return tuple(
        link
        for reference in sorted(links)
        for link in links[reference]
        if not _is_paid(links[reference]) and link.status.upper() == PENDING and made_at(link, now) < now - PENDING_FOR
    )


async def _ask(service: Service, links: Links, patience: Patience) -> Mapping[str, Seen]:
    async def one(reference: str) -> Seen:
        activations = await retrying(lambda: service.activations(reference), patience)
        asked = _is_paid(links[reference])
        return Seen(activations, await retrying(lambda: _amount(service, reference), patience) if asked else None)

    return await each(links, one)


async def _amount(service: Service, reference: str) -> int | None:
    answer = await service.payment(reference)
    if answer.status == 404:
        return None
    amount = answer.member("amount")
    if answer.status != 200 or not isinstance(amount, int):
        raise ServiceGarbled(f"GET {answer.path}: answered {answer.status}, amount {amount!r}; cents are expected")
    return amount


async def _deliver_again(result: Reconciliation, links: Links, deliver: Deliver) -> tuple[GatewayPayment, ...]:
    lost = [mismatch.reference for mismatch in result.mismatches if mismatch.lost]
    paid = [link for reference in lost for link in links[reference] if link.paid]
    return tuple([payment for payment in paid if await deliver(payment)])


def _through_the_door(gateway: Gateway, service: Service) -> Deliver:
    async def deliver(payment: GatewayPayment) -> bool:
        webhook = gateway.webhook(service.contract.webhook, payment.link_id, payment.reference, "SUCCESS")
        await service.post_webhook(webhook.body, webhook.headers)
        return True

    return deliver
