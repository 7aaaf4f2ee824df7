"""Webhooks that are verified and then believed too much, or acted on too often."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from .. import ikhokha_wire as wire
from ..events import ASK_WITHIN_S, RESULTS, Conclude, Desk, Event, order_of
from ..seams import Seams
from ..settling import Settled
from ..store import PAID, Order
from .kit import Break

_RACE_S = 0.1
"""How long an activation thinks between looking and acting."""
_REMEMBERED_S = 3600.0


def _first(faulty: Callable[[Desk, Event, Conclude], Awaitable[str]]) -> Break:
    """A fault that has its say before the careful conclusion, which it may still draw."""

    def apply(seams: Seams) -> Seams:
        async def conclude(desk: Desk, event: Event) -> str:
            return await faulty(desk, event, seams.conclude)

        return replace(seams, conclude=conclude)

    return apply


async def _activate(desk: Desk, order: Order, event: Event, nonce: str = "") -> str:
    return RESULTS[await desk.settler.activate(order, event.link_id, nonce)]


async def _any_status(desk: Desk, event: Event, careful: Conclude) -> str:
    order = await order_of(desk, event)
    if order is not None and event.status not in (wire.SUCCESS, wire.FAILURE):
        return await _activate(desk, order, event)
    return await careful(desk, event)


async def _unknown_too(desk: Desk, event: Event, careful: Conclude) -> str:
    if event.status == wire.SUCCESS and await desk.store.run(desk.store.find, event.reference) is None:
        order, _ = await desk.store.run(desk.store.claim, event.reference, "smoke-001", 100, 3600.0)
        return await _activate(desk, order, event)
    return await careful(desk, event)


async def _unasked(desk: Desk, event: Event, careful: Conclude) -> str:
    order = await order_of(desk, event)
    if order is not None and event.status == wire.SUCCESS:
        return await _activate(desk, order, event)
    return await careful(desk, event)


async def _of_any_link(desk: Desk, event: Event, careful: Conclude) -> str:
    order = await desk.store.run(desk.store.find, event.reference)
    if order is None or event.link_id == order.paylink_id or order.status == PAID:
        return await careful(desk, event)
    asked = replace(order, paylink_id=event.link_id)
    found = await desk.settler.settle(asked, ASK_WITHIN_S)
    if found is Settled.ALREADY:  # the link is another order's, who paid
        found = await desk.settler.activate(order, event.link_id, nonce=secrets.token_hex(8))
    return RESULTS[found]


async def _undone(desk: Desk, event: Event, careful: Conclude) -> str:
    order = await order_of(desk, event)
    if order is not None and order.status == PAID and event.status == wire.FAILURE:
        for activation in await desk.store.run(desk.store.activated_since, 0.0, 10_000):
            if activation.reference == order.reference:
                await desk.store.run(desk.store.revoke, activation, "a late failure")
        await desk.store.run(desk.store.failed, order.reference)
        return "failed"
    return await careful(desk, event)


async def _once_more(desk: Desk, event: Event, careful: Conclude) -> str:
    order = await order_of(desk, event)
    if order is None or event.status != wire.SUCCESS:
        return await careful(desk, event)
    found = await desk.settler.settle(order, ASK_WITHIN_S)
    if found is not Settled.ALREADY:
        return RESULTS[found] if found is Settled.ACTIVATED else await careful(desk, event)
    return await _activate(desk, order, event, secrets.token_hex(8))


async def _racing(desk: Desk, event: Event, careful: Conclude) -> str:
    """Looks whether it was done, thinks, and does it: only those that look before anyone has acted double it."""
    order = await order_of(desk, event)
    if order is None or event.status != wire.SUCCESS:
        return await careful(desk, event)
    if await desk.store.run(desk.store.activations, order.reference) > 0:
        return await careful(desk, event)
    await asyncio.sleep(_RACE_S)
    status = await desk.settler.settle(order, ASK_WITHIN_S)
    if status is Settled.ALREADY:
        return await _activate(desk, order, event, secrets.token_hex(8))
    return RESULTS[status]


def _forgetful(seams: Seams) -> Seams:
    """What was done stands in a memory that is emptied by the hour."""
    done: dict[str, float] = {}

    async def conclude(desk: Desk, event: Event) -> str:
        order = await order_of(desk, event)
        paid = order is not None and order.status == PAID
        known = done.setdefault(event.link_id, desk.monotonic()) if paid or event.status == wire.SUCCESS else 0.0
        if order is None or not paid or desk.monotonic() - known < _REMEMBERED_S:
            return await seams.conclude(desk, event)
        done[event.link_id] = desk.monotonic()
        return await _activate(desk, order, event, secrets.token_hex(8))

    return replace(seams, conclude=conclude)


BREAKS: Mapping[str, Break] = {
    "takes-unknown-status": _first(_any_status),
    "enrols-unknown": _first(_unknown_too),
    "activates-without-payment": _first(_unasked),
    "ignores-the-link": _first(_of_any_link),
    "late-failure-undoes": _first(_undone),
    "webhook-not-idempotent": _first(_once_more),
    "activation-races": _first(_racing),
    "forgets-after-an-hour": _forgetful,
}
