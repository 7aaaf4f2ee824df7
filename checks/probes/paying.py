"""Paying, declining and cancelling smoke payments by test card, never beyond the cap."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin

from checks.facts import pay_page
from checks.facts.pay_page import Card
from checks.facts.smoke import on_loopback
from checks.judging import Unjudged
from pipeline.contracts import Cents, GatewayPayment, PayLink, World
from pipeline.errors import CapReached, GatewayError

DECLINED_CARD = Card("4000000000000002", "12/34", "123")
"""Assumption: the sandbox gateway declines this card."""
_WITHIN_S = 15.0
_POLL_S = 0.1


class NoPayment(Exception):
    """The service made no payment to prove anything on, or it was not paid; the text says why, `remedy` what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class Paying:
    """The prober's money. `cap` is the most that its payments may cost in this run, in cents."""

    def __init__(self, world: World, cap: int) -> None:
        self._world = world
        self._cap = cap

    async def pay(self, reference: str, link: PayLink) -> None:
        """Returns when the gateway says PAID. Raises NoPayment; then nothing was paid, or the gateway says so."""
        self._stays_here(link)
        cents = self._world.spec.contract.smoke_course.cents
        try:
            await self._world.purse.spend(Cents(cents), reference, cap=Cents(self._cap))
        except CapReached as reached:
            raise NoPayment(str(reached), reached.remedy or "Raise `cap` to what the run may cost in all.") from None
        await self._typed(link, pay_page.SANDBOX_CARD)
        seen = await self._until(link, lambda payment: payment.paid)
        if not seen.paid:
            raise NoPayment(f"a test card left {reference} {seen.status!r} at the gateway")

    async def decline(self, reference: str, link: PayLink) -> None:
        """Tries a card that the bank refuses. Raises NoPayment when the gateway has no word for that afterwards."""
        self._stays_here(link)
        before = await self._status(link)
        await self._typed(link, DECLINED_CARD)
        seen = await self._until(link, lambda payment: payment.status != before.status)
        if seen.paid or seen.status == before.status:
            raise NoPayment(f"a declined card left {reference} {seen.status!r} at the gateway")

    async def cancel(self, reference: str, link: PayLink) -> None:
        """Presses the pay page's cancel button. Raises NoPayment when that leaves no trace at the gateway."""
        import httpx

        self._stays_here(link)
        before = await self._status(link)
        try:
            async with self._world.http() as client:
                page = await client.get(link.url)
                form = pay_page.card_form(page.text)
                cancel = [b for b in form.buttons if any("cancel" in text.lower() for text in b)] if form else []
                if form is None or not cancel:
                    raise NoPayment(f"the pay page of {reference} has no cancel button")
                await client.post(urljoin(link.url, form.action or link.url), data=dict([*form.fields, cancel[0]]))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoPayment(f"the pay page of {reference} gave no answer ({type(error).__name__})") from error
        seen = await self._until(link, lambda payment: payment.status != before.status)
        if seen.paid or seen.status == before.status:
            raise NoPayment(f"a cancelled payment left {reference} {seen.status!r} at the gateway")

    def _stays_here(self, link: PayLink) -> None:
        if on_loopback(self._world.addresses.gateway) and not on_loopback(link.url):
            raise NoPayment(f"the gateway is on this machine, but the pay link leads to {link.url}; nothing was sent")

    async def _typed(self, link: PayLink, card: Card) -> None:
        try:
            await pay_page.pay(self._world, link, card)
        except Unjudged as unjudged:
            raise NoPayment(unjudged.finding.reason, unjudged.finding.remedy) from None

    async def _until(self, link: PayLink, reached: Callable[[GatewayPayment], bool]) -> GatewayPayment:
        begun = self._world.clock.monotonic()
        seen = await self._status(link)
        while not reached(seen) and self._world.clock.monotonic() - begun < _WITHIN_S:
            await self._world.clock.sleep(_POLL_S)
            seen = await self._status(link)
        return seen

    async def _status(self, link: PayLink) -> GatewayPayment:
        try:
            return await self._world.gateway.status(link.id)
        except GatewayError as error:
            raise NoPayment(f"the gateway could not be asked: {error}", error.remedy) from None
