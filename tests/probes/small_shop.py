"""A small careful merchant that keeps every byte it is sent, with ways to be wrong that no real one should have.

It makes payments without a gateway behind it, so none of them is ever paid.
"""

from __future__ import annotations

import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web

from gateways import GATEWAYS
from pipeline.clock import SystemClock
from pipeline.contracts import Addresses, SecurityEvent, World
from pipeline.secrets import Secret
from sandbox.authority import Certificates
from tests.checks import worlds
from tests.sandbox.gateway_rig import served

WEBHOOK = "/api/webhooks/ikhokha"
CUSTOMERS = {"order-thabo-1": "thabo0000000001", "smoke-of-somebody-else": "other0000000001"}
"""Orders that were there before, with their links: nobody's to touch."""
BODY = web.RequestKey("body", bytes)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Message:
    method: str
    path: str
    body: bytes


@dataclass
class SmallShop:
    """`world` meets it. Flags: `believes` any signature; `refuses_all`; `limits` the next n webhooks with 429;
    `mistake` answers with a status of its own where it gives one; `enrols_after_s`: whatever an accepted webhook names;
    `moves_after` n reads of an order, which is then enrolled without anybody asking; `hides_after` n reads of
    an order, which then cannot be read; `falls` dead after n webhooks."""

    world: World
    runner: web.AppRunner | None = None
    believes: bool = False
    refuses_all: bool = False
    enrols_on_refusal: bool = False
    limits: int = 0
    mistake: Callable[[web.Request, bytes], int] = lambda _request, _body: 0
    enrols_after_s: float = 0.0
    moves_after: int = 0
    hides_after: int = 0
    falls_after: int = 0
    payments: dict[str, str] = field(default_factory=lambda: dict(CUSTOMERS))
    queue: list[tuple[float, str]] = field(default_factory=list)
    enrolled: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    messages: list[Message] = field(default_factory=list)
    events: list[SecurityEvent] = field(default_factory=list)
    dead: bool = False

    @property
    def webhooks(self) -> list[Message]:
        return [one for one in self.messages if one.path.startswith(WEBHOOK)]

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._keep])
        app.router.add_post("/api/payments", self.create)
        app.router.add_get("/api/payments/{reference}", self.payment)
        app.router.add_get("/api/enrolments/{reference}", self.enrolment)
        app.router.add_post(WEBHOOK, self.webhook)
        app.router.add_get("/health/live", self.live)
        return app

    @web.middleware
    async def _keep(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.dead:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if request.method != "GET" or request.path == WEBHOOK:
            try:
                body = await request.content.read(20_000)
            except (OSError, web.RequestPayloadError):
                body = b""
            self.messages.append(Message(request.method, request.path, body))
            request[BODY] = body
        return await handler(request)

    async def live(self, _request: web.Request) -> web.Response:
        return web.Response(status=200)

    async def create(self, request: web.Request) -> web.Response:
        asked = json.loads(request[BODY])
        link = f"link{len(self.payments):011d}"
        self.payments[asked["reference"]] = link
        return web.json_response({"paylinkUrl": f"{self.world.service.base}/pay/{link}", "paylinkID": link}, status=201)

    async def payment(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        if reference not in self.payments:
            return web.Response(status=404)
        self.reads[reference] += 1
        if self.moves_after and self.reads[reference] == self.moves_after:
            self.enrolled[reference] += 1
        if self.hides_after and self.reads[reference] >= self.hides_after:
            return web.Response(status=500)
        return web.json_response({"reference": reference, "status": "pending"})

    async def enrolment(self, request: web.Request) -> web.Response:
        reference, now = request.match_info["reference"], self.world.clock.monotonic()
        count = self.enrolled[reference] + sum(due <= now and name == reference for due, name in self.queue)
        return web.json_response({"active": count > 0, "activations": count})

    async def webhook(self, request: web.Request) -> web.Response:
        body = request[BODY]
        if self.falls_after and len(self.webhooks) >= self.falls_after:
            self.dead = True
            return web.Response(status=502)
        if self.limits:
            self.limits -= 1
            return web.Response(status=429, headers={"Retry-After": "1"})
        if wrong := self.mistake(request, body):
            return web.Response(status=wrong)
        headers = {name.lower(): value for name, value in request.headers.items()}
        plain = request.content_type == "application/json" and not request.query and len(body) < 20_000
        twice = len(request.headers.getall("ik-sign", [])) > 1
        verified = self.world.gateway.scheme.verify(request.path, body, headers, at=self.world.clock.now())
        good = plain and not twice and verified.accepted and b"externalTransactionID" in verified.body
        if self.refuses_all or not (good or self.believes):
            if self.enrols_on_refusal:
                self.enrolled.update(name for name in self.payments if name.encode() in body)
            return web.Response(status=401)
        if self.enrols_after_s:
            due = self.world.clock.monotonic() + self.enrols_after_s
            self.queue.append((due, json.loads(body)["externalTransactionID"]))
        return web.Response(status=200)


@asynccontextmanager
async def small_shop(folder: Path, certificates: Certificates) -> AsyncIterator[SmallShop]:
    """Such a shop on loopback, and the world around it; nothing in it has power over a gateway or may pay."""
    values = {
        "VITE_IKHOKHA_API_URL": "https://127.0.0.1:9",
        "VITE_IKHOKHA_API_KEY": Secret("IK" + worlds.random_text()),
        "VITE_IKHOKHA_API_SECRET": Secret(secret := worlds.random_text()),
        "VITE_IKHOKHA_WEBHOOK_SECRET": Secret(secret),
        "VITE_IKHOKHA_TEST_MODE": "false",
    }
    trust = ssl.create_default_context(cafile=certificates.ca)
    shop = SmallShop(worlds.world(folder, values=values, trust=trust))
    async with served(shop.application(), certificates) as base:
        made = worlds.world(folder, service=base, values=values, trust=trust)
        gateway = GATEWAYS["ikhokha"](made.settings, made.http, SystemClock(), made.spec.contract)
        shop.world = replace(
            made,
            addresses=Addresses(base, "https://127.0.0.1:9", certificates.ca),
            gateway=gateway,
            security=shop.events.append,
        )
        yield shop
