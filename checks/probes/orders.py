"""The smoke payments that probes work on: few of them, made by the prober, lent to one probe at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from checks.facts import payments
from checks.facts.payments import Standing
from checks.probes.pace import Pace
from checks.probes.paying import NoPayment, Paying
from checks.probes.probe import unmoved
from checks.probes.sending import LIMITED
from pipeline.contracts import PayLink, World
from pipeline.errors import ServiceUnreachable

if TYPE_CHECKING:
    import httpx

SETTLE_S = 0.3
"""How long an effect may take to show after the answer."""
_POLL_S = 0.1
_FAILED_WITHIN_S = 2.0
"""A service need not call a payment failed because of one declined card."""


@dataclass(eq=False)
class Order:
    """A smoke payment of the prober's own. `standing` is how it was when it was last seen."""

    reference: str
    link: PayLink
    standing: Standing
    used_by: list[str] = field(default_factory=list)


class _Lent:
    """A client that outlives the blocks it is lent to."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __aenter__(self) -> httpx.AsyncClient:
        return self._client

    async def __aexit__(self, *_: object) -> None:
        return None


class Orders:
    """Makes, pays, lends and reads the prober's own orders."""

    def __init__(self, world: World, cap: int) -> None:
        self.world = world
        self.paying = Paying(world, cap)
        self.moved_late: list[Order] = []
        """Orders that changed after the probes that used them had looked."""
        self.paid_orders: list[Order] = []
        self.lag_s = 0.0
        """The longest that the service took to enrol a paid order."""
        self.pace = Pace(world.clock, world.spec.contract.limits)
        """For payment requests, whoever makes them."""
        self._disturbing = asyncio.Lock()
        self._lending_paid = asyncio.Lock()
        self._never_active: NoPayment | None = None
        self._idle: dict[bool, list[Order]] = {False: [], True: []}
        self._kept: httpx.AsyncClient | None = None
        self._reader: World | None = None

    async def unpaid(self) -> Order:
        """A new unpaid smoke payment. Raises NoPayment. It waits while the gateway is disturbed."""
        async with self._disturbing:
            return await self._made()

    async def paid(self) -> Order:
        """A new smoke payment, paid by test card and activated. Raises NoPayment, also where the cap is reached."""
        async with self._disturbing:  # its webhook must not be one that is held back
            order = await self._made()
            await self.pay(order)
            begun = self.world.clock.monotonic()
            await self.until_active(order)
            self.lag_s = max(self.lag_s, self.world.clock.monotonic() - begun)
            return order

    async def failed(self) -> Order:
        """A new smoke payment whose card was declined. For the sandbox alone: no other gateway has such a card."""
        order = await self.unpaid()
        await self.paying.decline(order.reference, order.link)
        order.standing = await self._until(order, lambda seen: seen.status == "failed", _FAILED_WITHIN_S)
        return order

    async def cancelled(self) -> Order:
        """A new smoke payment that was cancelled on the pay page. For the sandbox alone."""
        order = await self.unpaid()
        await self.paying.cancel(order.reference, order.link)
        order.standing = await self.standing(order.reference)
        return order

    async def pay(self, order: Order) -> None:
        """Pays by test card, within the cap, until the gateway says PAID. Raises NoPayment."""
        await self.paying.pay(order.reference, order.link)
        self.paid_orders.append(order)

    async def until_active(self, order: Order) -> Order:
        """Waits, as long as the contract allows, until the service has enrolled a paid order. Raises NoPayment."""
        within_s = self.world.spec.contract.enrolment_within
        order.standing = await self._until(order, lambda seen: seen.status == "paid" and seen.active, within_s)
        if not (order.standing.status == "paid" and order.standing.active):
            raise NoPayment(
                f"paid {order.reference} was not activated within {within_s:g} s: {order.standing}",
                "See webhook.arrives.",
            )
        return order

    @asynccontextmanager
    async def lent(self, *, paid: bool = False, by: str = "") -> AsyncIterator[Order]:
        """An order for one probe at a time; it is lent again when it came back as it was. Raises NoPayment.

        `order.standing` is its state when it is lent; `seen_after` puts the new one there. An order that moved while
        it was idle goes to `moved_late` and is not lent again.
        """
        async with self._lending_paid if paid else nullcontext():  # one paid order does for all: each costs money
            order = await self._taken(paid)
            order.used_by.append(by)
            before = order.standing
            yield order
            if unmoved(before, order.standing):
                self._idle[paid].append(order)

    async def prepare(self, count: int) -> None:
        """Makes unpaid orders ahead, for while the gateway is disturbed none can be made."""
        made = await asyncio.gather(*(self._made() for _ in range(count)), return_exceptions=True)
        self._idle[False] += [order for order in made if isinstance(order, Order)]

    async def look_again(self) -> None:
        """Reads every order that is not in use once more; what moved is in `moved_late`."""
        for idle in self._idle.values():
            for order in idle:
                seen = await self.standing(order.reference)
                before, order.standing = order.standing, seen
                if not unmoved(before, seen):
                    self.moved_late.append(order)

    async def standing(self, reference: str) -> Standing:
        """What the service says of a reference now. Raises ServiceError."""
        try:
            return await payments.standing(self._reading(), reference)
        except ServiceUnreachable:  # a kept connection may have been closed meanwhile: a new one decides
            return await payments.standing(self.world, reference)

    async def close(self) -> None:
        """Closes what was kept open for reading."""
        if self._kept is not None:
            await self._kept.aclose()

    def _reading(self) -> World:
        """The world, its service read over connections that are kept: half of all requests only read."""
        from pipeline.service import Service  # brings httpx along

        if self._reader is None:
            kept = self._kept = self.world.http()
            lent: Any = lambda: _Lent(kept)  # noqa: E731 - a Service only ever enters what this makes
            service = Service(self.world.service.base, self.world.spec.contract, lent)
            self._reader = replace(self.world, service=service)
        return self._reader

    async def settled(self, reference: str) -> Standing:
        """The same, after the time an effect may take to show."""
        await self.world.clock.sleep(SETTLE_S)
        return await self.standing(reference)

    async def seen_after(self, order: Order) -> Standing:
        """How an order is after a probe, once an effect has had its time to show; `order` remembers it."""
        order.standing = await self.settled(order.reference)
        return order.standing

    async def _taken(self, paid: bool) -> Order:
        while self._idle[paid]:
            order = self._idle[paid].pop(0)
            before, order.standing = order.standing, await self.standing(order.reference)
            if unmoved(before, order.standing):
                return order
            self.moved_late.append(order)
        return await (self._paid_once() if paid else self.unpaid())

    async def _paid_once(self) -> Order:
        """What could not be paid and activated the first time is not paid for again."""
        if self._never_active:
            raise self._never_active
        try:
            return await self.paid()
        except NoPayment as reason:
            self._never_active = reason
            raise

    async def _made(self) -> Order:
        course = self.world.spec.contract.smoke_course
        for again in (True, False):
            await self.pace.take()
            created = await payments.create(self.world, course, course.cents)
            if created.status != LIMITED or not again:
                break
            await self.world.clock.sleep(1.0)
        if created.link is None:
            found = f"the service made no payment to prove this on: {created.asked} {created.flaw}"
            raise NoPayment(found, payments.remedy_for(created.status))
        return Order(created.reference, created.link, await self.standing(created.reference))

    async def _until(self, order: Order, reached: Callable[[Standing], bool], within_s: float) -> Standing:
        begun = self.world.clock.monotonic()
        seen = await self.standing(order.reference)
        while not reached(seen) and self.world.clock.monotonic() - begun < within_s:
            await self.world.clock.sleep(_POLL_S)
            seen = await self.standing(order.reference)
        return seen

    # ---- the gateway -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def disturbed(self, **faults: object) -> AsyncIterator[None]:
        """The gateway with these faults, and without any afterwards; one at a time, and no order is made meanwhile."""
        control = self.world.control
        if control is None:
            raise RuntimeError("a probe that disturbs the gateway must say so in its `needs`")
        async with self._disturbing, control.holding(**faults):
            yield
