"""Mode operator: a person is shown a pay link, pays, and is told what is seen meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from checks.facts.payments import Created
from pipeline.contracts import GatewayPayment, PayLink, World
from pipeline.errors import GatewayError
from pipeline.telling import Manner

TEST_MODE = "VITE_IKHOKHA_TEST_MODE"
_TICK_S = 1.0
_ASK_S = 2.0


def rand(cents: int) -> str:
    """An amount as people write it: `R 1.00`."""
    return f"R {cents // 100}.{cents % 100:02d}"


def account(world: World) -> str:
    """What kind of money it is, by the settings the live release runs with."""
    mode, told = "test" if is_test(world) else "live", world.settings.text(TEST_MODE) or "not set"
    return f"account mode {mode} ({TEST_MODE}={told}) at {world.addresses.gateway}"


def is_test(world: World) -> bool:
    """Anything but a clear yes is live."""
    return world.settings.text(TEST_MODE) == "true"


async def pays(world: World, created: Created, link: PayLink, wait_s: float) -> tuple[GatewayPayment, dict[str, int]]:
    """Shows the link and waits until the gateway calls it paid, at most `wait_s`; what it said last, and the moments.

    Moments are in ms since the link was shown. A gateway that does not answer while we wait is asked again: somebody
    may be paying just now. Raises GatewayError when it never answered.
    """
    begun = world.clock.monotonic()
    world.tell(f"To pay: {rand(created.cents)} for {created.course}, reference {created.reference}; {account(world)}")
    world.tell("Pay only if the page asks for this very amount.")
    world.tell(link.url, Manner.SCAN)
    watch = _Watch(world, link, begun)
    asking = asyncio.ensure_future(watch.until_paid())
    try:
        while not asking.done() and (left := wait_s - (world.clock.monotonic() - begun)) > 0:
            world.tell(f"waiting for somebody to pay: {_clock(left)} left", Manner.PASSING)
            await _either(asking, world.clock.sleep(min(_TICK_S, left)))
    except asyncio.CancelledError:
        world.tell(
            f"Not waited for any longer. Whoever has the link may still pay {created.reference}: look at the gateway."
        )
        raise
    finally:
        asking.cancel()
        ended = await asyncio.gather(asking, return_exceptions=True)
    if isinstance(ended[0], Exception):
        raise ended[0]
    if watch.seen is None:
        raise watch.trouble or TimeoutError(f"the gateway was not heard within {wait_s:g} s")
    return watch.seen, watch.moments


async def _either(asking: asyncio.Future[None], pause: Awaitable[None]) -> None:
    """Waits for the first of both; the pause is over then."""
    tick = asyncio.ensure_future(pause)
    try:
        await asyncio.wait({asking, tick}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        tick.cancel()
        await asyncio.gather(tick, return_exceptions=True)


class _Watch:
    """What is seen of one link."""

    def __init__(self, world: World, link: PayLink, begun: float) -> None:
        self.seen: GatewayPayment | None = None
        self.trouble: GatewayError | None = None
        self.moments: dict[str, int] = {}
        self._world = world
        self._link = link
        self._begun = begun

    async def until_paid(self) -> None:
        while True:
            await self._look_for_the_page()
            try:
                self.seen, self.trouble = await self._world.gateway.status(self._link.id), None
            except GatewayError as error:
                if self.trouble is None:
                    self._world.tell(f"the gateway gives no answer, it is asked again: {error}")
                self.trouble = error
            if self.seen is not None and self.seen.paid:
                self._happened("paid")
                return
            await self._world.clock.sleep(_ASK_S)

    async def _look_for_the_page(self) -> None:
        """Only a gateway of ours says that its page was opened; that it says nothing is no trouble."""
        if self._world.control is None or "page opened" in self.moments:
            return
        try:
            rows = await self._world.control.payments()
        except Exception:  # it is told where it is known, and decides nothing
            return
        if any(row.get("paylinkID") == self._link.id and row.get("openedAt") for row in rows):
            self._happened("page opened")

    def _happened(self, what: str) -> None:
        seconds = self._world.clock.monotonic() - self._begun
        self.moments[what] = round(seconds * 1000)
        self._world.tell(f"{what} after {seconds:.1f} s")


def _clock(seconds: float) -> str:
    """`4 min 05 s`, `59 s`; rounded up, so that it never says 0 while it waits."""
    whole = int(-(-seconds // 1))
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
