"""What a webhook says, and what comes of it: it says when to ask the gateway, whose word alone is believed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import ikhokha_wire as wire
from .schemes import Delivery
from .settling import Settled, Settler
from .store import PAID, Order, Store

ASK_WITHIN_S = 1.8
"""A webhook is answered within 2 s; when the gateway cannot confirm it by then, it is asked again later."""

RESULTS = {
    Settled.ACTIVATED: "accepted",
    Settled.ALREADY: "duplicate",
    Settled.FAILED: "failed",
    Settled.NOT_YET: "denied",
    Settled.MISMATCH: "denied",
    Settled.NOT_FOUND: "denied",
    Settled.AWAY: "deferred",
    Settled.TEST: "test",
}


@dataclass(frozen=True)
class Event:
    """What a webhook says. Only the gateway's own answer is believed."""

    link_id: str
    reference: str
    status: str


@dataclass(frozen=True)
class Desk:
    """What an event is settled with. `monotonic` in seconds."""

    store: Store
    settler: Settler
    monotonic: Callable[[], float]


Parse = Callable[[bytes, Delivery], Event | None]
Conclude = Callable[[Desk, Event], Awaitable[str]]


def parse(signed: bytes, _delivery: Delivery) -> Event | None:
    """The event that the signed text speaks of, or None. Total."""
    try:
        members = json.loads(signed.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return event_of(members)


def event_of(members: object) -> Event | None:
    if not isinstance(members, dict):
        return None
    link_id, reference = members.get("paylinkID"), members.get("externalTransactionID")
    status = members.get("status")
    if not (isinstance(link_id, str) and isinstance(reference, str) and isinstance(status, str)):
        return None
    if not all(text.isprintable() and 0 < len(text) <= 64 for text in (link_id, reference, status)):
        return None
    return Event(link_id, reference, status)


async def conclude(desk: Desk, event: Event) -> str:
    """Settles what the event speaks of; one of metrics.WEBHOOK_RESULTS."""
    order = await order_of(desk, event)
    if order is None:
        return "unknown"
    if order.status == PAID:
        return "duplicate"  # a late FAILURE too: paid is paid
    found = await desk.settler.settle(order, ASK_WITHIN_S)
    if found is Settled.AWAY:
        await desk.store.run(desk.store.wake, order.reference)
    if found is Settled.NOT_YET and event.status == wire.FAILURE:
        await desk.store.run(desk.store.failed, order.reference)
        return "failed"
    return RESULTS[found]


async def order_of(desk: Desk, event: Event) -> Order | None:
    """The order both the paylink and the reference belong to."""
    order = await desk.store.run(desk.store.find, event.reference)
    if order is None or order.paylink_id not in (None, event.link_id):
        return None
    return order
