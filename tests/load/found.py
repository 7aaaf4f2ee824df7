"""What a storm left behind, held against the invariants: pure, but for reading the books."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from gateways.ikhokha_wire import PAID
from pipeline.events import Entry, Kind
from sandbox import host
from sandbox.drills import judge
from sandbox.drills.scene import Scene
from sandbox.gateway.remote import Control
from tests.load.customers import Purchase, Request

SETTLE_S = 90.0

Window = tuple[float, float]
"""From when to when, in s since the epoch."""


@dataclass(frozen=True)
class Books:
    """The gateway's payments, and of the shop's database the cents of each order and the activations of each."""

    payments: Sequence[Mapping[str, Any]]
    cents: Mapping[str, int]
    activations: Mapping[str, int]

    @property
    def paid(self) -> Mapping[str, int]:
        """How often each reference was paid, counted anew each time."""
        return Counter(one["reference"] for one in self.payments if one["status"] == PAID)

    def problems(self) -> list[str]:
        """I1: every paid payment has one activation, there is no other, and the amounts agree to the cent."""
        found = judge.compare(self.payments, self.activations)
        for one in self.payments:
            if one["status"] == PAID and self.cents.get(one["reference"]) != one["amount"]:
                ours = self.cents.get(one["reference"])
                found.append(f"I1: {one['reference']}: {one['amount']} cents at the gateway, {ours} at the shop")
        return found

    def counts(self) -> str:
        paid, active = self.paid, self.activations
        lost = sum(reference not in active for reference in paid)
        doubled = sum(n > 1 for n in active.values()) + sum(n > 1 for n in paid.values())
        unpaid = sum(reference not in paid for reference in active)
        return f"{len(paid)} paid, {len(active)} activated; {lost} lost, {doubled} doubled, {unpaid} unpaid"


async def books(scene: Scene) -> Books:
    """As they stand once they agree, or when the time to settle is over."""
    until = time.monotonic() + SETTLE_S
    while True:
        running = host.status(scene.state)
        assert running is not None, "the gateway does not run"
        payments = await Control(running.control, running.token.reveal()).payments()
        database = scene.area / "shared/data/orders.sqlite"
        found = Books(payments, _cents(database), judge.activations(database))
        if not found.problems() or time.monotonic() > until:
            return found
        await asyncio.sleep(0.5)


def _cents(database: Path) -> Mapping[str, int]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as shop:
        return dict(shop.execute("SELECT reference, amount FROM orders"))


def closed(entries: Sequence[Entry]) -> list[Window]:
    """When payments were switched off, as the journal says: from the entry before it happens to the one after."""
    windows: list[Window] = []
    since: float | None = None
    for entry in entries:
        if entry.kind in (Kind.PAYMENTS_CLOSED, Kind.CLOSED) and since is None:
            since = entry.at.timestamp()
        elif entry.kind is Kind.REOPENED and since is not None:
            windows.append((since, entry.at.timestamp()))
            since = None
    return windows if since is None else [*windows, (since, float("inf"))]


def refused_rightly(request: Request, windows: Sequence[Window]) -> bool:
    """503 that says when to come again, while the record says that the shop was closed."""
    meanwhile = any(begin <= request.ended and request.began <= end for begin, end in windows)
    return request.status == 503 and request.comes_later and meanwhile


def failed(requests: Sequence[Request], windows: Sequence[Window]) -> list[Request]:
    """What got no answer, or not the one a customer may expect of a shop that is open."""
    good = {"create": (200, 201), "pay": (303,)}
    return [
        one for one in requests if one.status not in good.get(one.what, (200,)) and not refused_rightly(one, windows)
    ]


def told_otherwise(purchases: Sequence[Purchase], found: Books) -> list[str]:
    """Customers who were told something that the books do not say."""
    paid, problems = found.paid, []
    for one in purchases:
        if one.paid != (one.reference in paid):
            problems.append(f"I1: {one.reference}: told {'paid' if one.paid else 'not paid'}, the gateway differs")
        if one.link and found.cents.get(one.reference) != one.cents:
            ours = found.cents.get(one.reference)
            problems.append(f"I1: {one.reference}: {one.cents} cents wanted, {ours} at the shop")
        if one.gave_up:
            problems.append(f"{one.reference}: {one.gave_up}")
    return problems


def spread(values: Sequence[float]) -> str:
    """Median, 99th percentile and the longest, in s."""
    if len(values) < 2:
        return "not measured"
    cuts = quantiles(values, n=100)
    return f"median {cuts[49]:.3f} s, 99 % within {cuts[98]:.3f} s, longest {max(values):.3f} s"
