"""A counter that sells the smoke course over plain HTTP on loopback, and the gateway behind it: both can be spoilt.

It keeps every request as it came, so that a test can read what the prober really sends.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from pipeline.contracts import Cents, GatewayPayment, World
from tests.checks import worlds
from tests.sandbox.gateway_rig import served

_TRUST = ssl.create_default_context()
"""Made once: a client without one reads the system's authorities anew."""

Answer = tuple[int, object]
Spoil = Callable[["Counter", dict[str, Any]], Answer | None]
"""Looks at a request that is JSON; what it returns is answered in place of the careful answer."""


@dataclass
class Power:
    """Implements contracts.GatewayControl over the counter's own gateway."""

    faults: dict[str, object] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    set: list[Mapping[str, object]] = field(default_factory=list)

    @asynccontextmanager
    async def holding(self, **members: object) -> AsyncIterator[None]:
        self.faults |= members
        self.set.append(members)
        try:
            yield
        finally:
            self.faults = {}

    async def payments(self) -> Sequence[Mapping[str, Any]]:
        return self.rows


class Till(worlds.Till):
    """Knows the payments by the rows of `Power`."""

    power: Power

    async def status(self, link_id: str) -> GatewayPayment:
        row = next(row for row in self.power.rows if row["paylinkID"] == link_id)
        return GatewayPayment(link_id, row["reference"], Cents(row["amount"]), "PENDING", False, "")


@dataclass
class Counter:
    """Takes a good request, refuses any other with 422. `away` is what it says while the gateway has a fault.

    After `allows` requests the next `limits` are answered 429, and so on.
    """

    power: Power = field(default_factory=Power)
    spoil: Spoil = lambda _counter, _request: None
    away: Answer = (503, {"error": "the payment gateway is away"})
    allows: int = 1_000_000
    limits: int = 0
    retry_after: str | None = "1"
    largest: int = 100_000
    stays_broken: bool = False
    raw: list[bytes] = field(default_factory=list)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: int = 0
    paths: list[str] = field(default_factory=list)

    async def create(self, request: web.Request) -> web.Response:
        self.answered = self.answered + 1 if self.answered < self.allows + self.limits else 1
        if self.allows < self.answered <= self.allows + self.limits:
            headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
            return web.Response(status=429, headers=headers)
        body = await request.read()
        self.raw.append(body)
        if len(body) > self.largest:
            return web.Response(status=413)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return web.Response(status=400)
        spoilt = self.spoil(self, asked) if isinstance(asked, dict) else None
        status, answer = spoilt or self.judged(asked)
        return web.json_response(answer, status=status)

    def judged(self, asked: Any) -> Answer:
        if not isinstance(asked, dict) or not isinstance(asked.get("reference"), str):
            return 422, {"error": "reference"}
        reference, amount = asked["reference"], asked.get("amount")
        if not (0 < len(reference) <= 64 and reference.replace("-", "").isalnum()):
            return 422, {"error": "reference"}
        if type(amount) is not int or (amount, asked.get("currency"), asked.get("course")) != (100, "ZAR", "smoke-001"):
            return 422, {"error": "amount, currency or course"}
        if reference in self.orders:
            return 409, {"error": "used"}
        if self.power.faults or (self.stays_broken and self.power.set):
            return self.away
        return self.make(reference, amount)

    def make(self, reference: str, amount: int, **row: str) -> Answer:
        """A payment, whatever was asked; `row` are the addresses that the gateway is told."""
        link = f"link{len(self.power.rows):011d}"
        self.power.rows.append({"paylinkID": link, "reference": reference, "amount": amount, **row})
        asked = {"amount": amount, "currency": "ZAR", "course": "smoke-001"}
        self.orders.setdefault(reference, {"reference": reference, "status": "pending", **asked, "paylinkID": link})
        return 201, {"paylinkUrl": f"https://127.0.0.1/pay/{link}", "paylinkID": link}

    async def until_well(self) -> None:
        """Returns when the gateway has no fault any more; a test's own time limit ends it."""
        while self.power.faults:
            await asyncio.sleep(0.02)

    async def payment(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        order = self.orders.get(request.match_info["reference"])
        return web.Response(status=404) if order is None else web.json_response(order)

    async def enrolment(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["reference"])
        if order is None:
            return web.Response(status=404)
        active = order["status"] == "paid"
        return web.json_response({"active": active, "activations": int(active)})


@asynccontextmanager
async def counter(folder: Path, made: Counter, **contract: object) -> AsyncIterator[World]:
    """The counter at its address, and a world that meets it; sleeping in that world passes quickly."""
    app = web.Application(client_max_size=20_000_000)
    app.router.add_post("/api/payments", made.create)
    app.router.add_get("/api/payments/{reference}", made.payment)
    app.router.add_get("/api/enrolments/{reference}", made.enrolment)
    async with served(app, None) as base:
        till = Till(worlds.random_text())
        till.power = made.power
        world = worlds.world(folder, service=base, till=till, trust=_TRUST, spec={"contract": contract})
        yield replace(world, control=made.power)
