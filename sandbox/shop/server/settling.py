"""Makes an order agree with the gateway, and asks again about every order that is not settled.

The gateway's word is the only thing that pays for an enrolment: a webhook merely says when to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from . import logs
from .config import Config
from .gateway import GatewayClient, GatewayError, NotFound
from .metrics import Metrics
from .store import CREATING, FAILED, UNKNOWN, Order, Store

ASK_AGAIN_AFTER_S = (15, 15, 30, 60, 120, 300, 600, 3600)
"""For orders of which nothing was heard; the last one repeats. The first is longer than a webhook takes."""
GIVE_UP_AFTER = 170
"""Questions: about a week."""
FAILURE_COUNTS_AFTER_S = 2.0
"""A failed attempt is followed by another on the same paylink. Counters cannot be taken back, so a failure waits."""
_AT_ONCE = 20
_LEASE_S = 20.0
_ASK_WITHIN_S = 5.0


class Settled(StrEnum):
    ACTIVATED = "activated"
    ALREADY = "already"
    FAILED = "failed"
    NOT_YET = "not yet"
    MISMATCH = "mismatch"
    NOT_FOUND = "not found"
    AWAY = "away"
    TEST = "test"
    """Made in test mode: the gateway is not even asked, for nothing it says makes it paid."""


class Settler:
    """Settles one order on demand, and the rest in the background."""

    def __init__(
        self,
        config: Config,
        store: Store,
        gateway: GatewayClient,
        metrics: Metrics,
        same_cents: Callable[[int, int | None], bool],
    ) -> None:
        self._config = config
        self._store = store
        self._gateway = gateway
        self._metrics = metrics
        self._same_cents = same_cents

    async def settle(self, order: Order, within_s: float) -> Settled:
        """Asks the gateway about `order` and makes the order agree. Safe to repeat, and beside itself."""
        if order.test:
            return Settled.TEST
        try:
            if order.paylink_id is not None:
                status = await self._gateway.status(order.paylink_id, within_s)
            else:
                status = await self._gateway.status_of(order.reference, within_s)
        except NotFound:
            return Settled.NOT_FOUND
        except GatewayError as error:
            if order.checks == 0:  # once for each order: an outage must not fill the log
                logs.info("gateway.away", reference=order.reference, found=str(error))
            return Settled.AWAY
        if order.paylink_id is None:
            first = ASK_AGAIN_AFTER_S[0]
            if not await self._store.run(self._store.linked, order.reference, status.link_id, None, first):
                return self._mismatch(order, "paylinkID", status.link_id, "one of no other order")
        elif status.link_id != order.paylink_id:
            return self._mismatch(order, "paylinkID", status.link_id, order.paylink_id)
        if status.paid:
            if not self._same_cents(order.amount, status.cents):
                if await self._store.run(self._store.mismatched, order.reference):
                    self._metrics.payment(order.reference, "error")
                return self._mismatch(order, "cents", status.cents, order.amount)
            return await self.activate(order, status.link_id)
        if status.failed:
            await self._store.run(self._store.failed, order.reference)
            return Settled.FAILED
        return Settled.NOT_YET

    async def activate(self, order: Order, link_id: str, nonce: str = "") -> Settled:
        """The payment is paid: activates its enrolment, once for each paylink."""
        paid = await self._store.run(self._store.paid, order.reference, link_id, nonce)
        if paid.counted:
            self._metrics.payment(order.reference, "success")
        if not paid.activated:
            return Settled.ALREADY
        self._metrics.activated(order.reference)
        logs.info("enrolment.activated", reference=order.reference, paylink_id=link_id, cents=order.amount)
        return Settled.ACTIVATED

    async def run(self) -> None:
        """Every second, until cancelled: asks about what is due and counts the failures that stayed failures."""
        broken = False
        while True:
            try:
                await self.tick()
                broken = False
            except Exception:  # whatever it is, orders must go on being settled
                if not broken:
                    logs.error("settler.failed", exc_info=True)
                broken = True
            await asyncio.sleep(1)

    async def tick(self) -> None:
        for reference in await self._store.run(self._store.ripe_failures, FAILURE_COUNTS_AFTER_S):
            self._metrics.payment(reference, "failure")
        due: Sequence[Order] = await self._store.run(self._store.due, _AT_ONCE, _LEASE_S)
        await asyncio.gather(*(self._asked(order) for order in due))

    async def _asked(self, order: Order) -> None:
        """One order that cannot be settled holds up no other."""
        try:
            await self._ask(order)
        except Exception:
            logs.error("payment.unsettled", exc_info=True, reference=order.reference)

    async def _ask(self, order: Order) -> None:
        found = await self.settle(order, min(self._config.timeout_s, _ASK_WITHIN_S))
        if found in (Settled.ACTIVATED, Settled.ALREADY):
            return
        if found is Settled.NOT_FOUND and order.paylink_id is None and await self._never_created(order):
            return
        await self._store.run(self._store.checked, order.reference, self._next(order, found))

    async def _never_created(self, order: Order) -> bool:
        """The gateway does not know the reference, and no request of ours can still be under way."""
        age_s = self._store.age_s(order)
        if order.status not in (CREATING, UNKNOWN) or age_s < self._config.timeout_s + 15:
            return False
        if await self._store.run(self._store.not_created, order.reference, FAILED, None):
            self._metrics.payment(order.reference, "error")
        logs.warn("payment.never_created", reference=order.reference)
        return True

    def _next(self, order: Order, found: Settled) -> float | None:
        if found is Settled.TEST:
            return None
        if order.woken and found is Settled.AWAY:
            quick = order.checks < max(1, self._config.retry_attempts)
            return max(1.0, self._config.retry_delay_s) if quick else 10.0
        if order.checks >= GIVE_UP_AFTER:
            logs.warn("payment.unsettled", reference=order.reference, found=found.value)
            return None
        return ASK_AGAIN_AFTER_S[min(order.checks, len(ASK_AGAIN_AFTER_S) - 1)]

    def _mismatch(self, order: Order, what: str, found: object, expected: object) -> Settled:
        logs.warn("payment.mismatch", reference=order.reference, what=what, found=found, expected=expected)
        return Settled.MISMATCH
