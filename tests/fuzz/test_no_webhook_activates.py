"""Whatever bytes arrive as a webhook: an order that was not paid is not activated."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from checks.facts import payments
from pipeline.contracts import PayLink
from sandbox.shop.server.schemes import Delivery
from tests.fuzz.forgeries import Forger, Order
from tests.probes.shop_rig import ShopRig, shop, till
from tests.sandbox.gateway_rig import DECLINED, Rig

TRIES = 100_000
SEED = 20_260_101
_ORDERS = 6


@dataclass(frozen=True)
class Attacked:
    """A shop with orders nobody paid, one of them declined, and one that is paid.

    `accepted` are the deliveries that activated something, with their numbers.
    """

    shop: ShopRig
    forger: Forger
    accepted: list[tuple[int, Delivery]] = field(default_factory=list)

    async def tried(self, tries: int) -> Counter[str]:
        """Delivers so many forgeries where bytes and headers enter, and counts what came of them."""
        found: Counter[str] = Counter()
        for number in range(tries):
            delivery = self.forger.next()
            taken = await self.shop.shop.webhooks.take(delivery)
            found[taken.result] += 1
            if taken.result == "accepted":
                self.accepted.append((number, delivery))
        return found

    async def standings(self) -> list[payments.Standing]:
        return [await payments.standing(self.shop.world, order.reference) for order in self.forger.unpaid]


async def _attacked(gateway: Rig, rig: ShopRig) -> Attacked:
    *unpaid, paid = [await _ordered(rig) for _ in range(_ORDERS + 1)]
    await gateway.submit(PayLink(paid.link, f"{gateway.base}/pay/{paid.link}"))
    await gateway.submit(PayLink(unpaid[0].link, f"{gateway.base}/pay/{unpaid[0].link}"), DECLINED)
    while (await payments.standing(rig.world, paid.reference)).activations == 0:
        await asyncio.sleep(0.01)
    while (await payments.standing(rig.world, unpaid[0].reference)).status != "failed":
        await asyncio.sleep(0.01)
    return Attacked(rig, Forger(Random(SEED), unpaid, paid, rig.time.now().timestamp()))  # noqa: S311 - to be repeatable


async def _ordered(rig: ShopRig) -> Order:
    created = await payments.create(rig.world, rig.world.spec.contract.smoke_course, 100)
    assert created.link is not None, created
    return Order(created.reference, created.link.id)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Rig]:
    async with till(tmp_path) as rig:
        yield rig


async def test_no_webhook_activates_an_order_that_was_not_paid(gateway: Rig, tmp_path: Path) -> None:
    """Of 100,000 webhooks, forged or signed, about orders that nobody paid, none activates one or breaks the shop."""
    async with shop(gateway, tmp_path) as rig:
        attacked = await _attacked(gateway, rig)
        found = await attacked.tried(TRIES)
        assert found.total() == TRIES
        assert {"refused", "malformed", "unknown", "denied", "failed", "duplicate"} <= set(found), (SEED, found)
        assert not attacked.accepted, (SEED, found, attacked.accepted[:3])
        standings = await attacked.standings()
        assert {s.status for s in standings} <= {"pending", "failed"}, (SEED, standings)
        assert all(not s.enrolled for s in standings), (SEED, standings)
        paid = await payments.standing(rig.world, attacked.forger.paid.reference)
        assert (paid.status, paid.activations) == ("paid", 1), (SEED, paid)


@pytest.mark.parametrize(
    "fault",
    ["activates-without-payment", "ignores-the-link", "takes-unknown-status"],
)
async def test_the_tries_find_a_shop_that_is_not_careful(gateway: Rig, tmp_path: Path, fault: str) -> None:
    """The same tries activate orders in a shop with one careless part, so that finding none means something."""
    async with shop(gateway, tmp_path, fault) as rig:
        attacked = await _attacked(gateway, rig)
        found = await attacked.tried(4000)
        assert any(standing.enrolled for standing in await attacked.standings()), (SEED, found)
