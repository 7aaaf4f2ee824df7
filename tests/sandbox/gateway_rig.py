"""A sandbox gateway and a merchant that only listens, both over TLS on loopback, for tests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx
from aiohttp import web

from gateways import GATEWAYS
from gateways import ikhokha_wire as wire
from pipeline import contracts
from pipeline.clock import SystemClock
from pipeline.contracts import Cents, PayLink, PaymentRequest
from pipeline.secrets import Secret
from pipeline.settings import Settings, SettingValue
from pipeline.spec import Contract
from sandbox import authority
from sandbox.authority import Certificates
from sandbox.gateway import control, remote
from sandbox.gateway.app import Gateway
from sandbox.gateway.assumptions import Assumptions
from sandbox.gateway.store import Store

APP_ID = "IKTESTAPPID0123456789"
SECRET = "made-up-secret-0123456789abcdef"
TOKEN = "made-up-control-token"
CARD, DECLINED = "4242 4242 4242 4242", "4000 0000 0000 0002"
CALLBACK = "/api/webhooks/ikhokha"


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Merchant:
    """Answers `answers` in turn, then 200, and keeps what it received."""

    base: str
    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def webhook(self, request: web.Request) -> web.Response:
        self.received.append(Received(request.path, dict(request.headers), await request.read()))
        self._news.set()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def has(self, count: int) -> list[Received]:
        """Waits until `count` webhooks have arrived; the test's own time limit ends it."""
        while len(self.received) < count:
            self._news.clear()
            await self._news.wait()
        return self.received


@dataclass
class Rig:
    base: str
    gateway: Gateway
    merchant: Merchant
    client: contracts.Gateway
    control: remote.Control
    control_base: str
    http: Callable[[], httpx.AsyncClient]

    def request(self, reference: str = "order-1", amount: int = 49900, **members: Any) -> PaymentRequest:
        base = self.merchant.base
        fields: dict[str, Any] = {
            "requester_url": base,
            "callback_url": base + CALLBACK,
            "success_url": f"{base}/success?ref={reference}",
            "failure_url": f"{base}/failure",
            "cancel_url": f"{base}/cancel",
        } | members
        return PaymentRequest(reference=reference, amount=Cents(amount), description="Python 101", **fields)

    async def submit(self, link: PayLink, card: str = CARD, **fields: str) -> httpx.Response:
        """Fills the pay page's form as a buyer does."""
        data = {"card": card, "expiry": "12/34", "cvc": "123", "action": "pay"} | fields
        async with self.http() as client:
            return await client.post(link.url, data=data)

    async def signed(self, method: str, path: str, body: bytes = b"", **more: Any) -> httpx.Response:
        """A request signed over exactly these bytes."""
        headers = {
            wire.HEADER_APP: APP_ID,
            wire.HEADER_SIGN: wire.sign(SECRET, path.partition("?")[0], body.decode("utf-8", "surrogateescape")),
            "Content-Type": "application/json",
        } | more.pop("headers", {})
        async with self.http() as client:
            return await client.request(method, self.base + path, content=body, headers=headers, **more)


def settings(address: str, **changes: str) -> Settings:
    """The client's settings for a gateway at `address`, made without a file."""
    texts = {
        "VITE_IKHOKHA_API_URL": address,
        "VITE_IKHOKHA_API_KEY": APP_ID,
        "VITE_IKHOKHA_API_SECRET": SECRET,
        "VITE_IKHOKHA_TEST_MODE": "false",
        "VITE_IKHOKHA_TIMEOUT": "5000",
        "VITE_IKHOKHA_RETRY_ATTEMPTS": "3",
        "VITE_IKHOKHA_RETRY_DELAY": "10",
    } | changes
    values = {
        name: SettingValue(name, Secret(text) if name.endswith(("KEY", "SECRET")) else text, "test")
        for name, text in texts.items()
    }
    return Settings(values, (), ("test",))


def shop_settings(address: str) -> Mapping[str, str | Secret]:
    """The nine settings of a shop at such a gateway."""
    known = {name: found.value for name, found in settings(address).values.items()}
    return {**known, "VITE_NODE_ENV": "production", "VITE_IKHOKHA_WEBHOOK_SECRET": Secret(SECRET)}


@asynccontextmanager
async def rig(
    folder: Path, *, assumptions: Assumptions | None = None, now: Callable[[], datetime] | None = None
) -> AsyncIterator[Rig]:
    """A gateway with its data in `folder`, started and stopped; a second one on the same folder goes on from it."""
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    trust = ssl.create_default_context(cafile=certificates.ca)

    def http() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=trust, trust_env=False, follow_redirects=False, timeout=10)

    merchant = Merchant("")
    merchant_app = web.Application()
    merchant_app.router.add_post(CALLBACK, merchant.webhook)
    async with served(merchant_app, certificates) as merchant_base:
        merchant.base = merchant_base
        store = Store(folder / "gateway.sqlite")
        gateway = Gateway(
            store=store,
            base="",
            app_id=APP_ID,
            secret=SECRET,
            trust=trust,
            now=now or SystemClock().now,
            random=SystemRandom(),
            assumptions=assumptions,
        )
        try:
            async with (
                served(gateway.application(), certificates) as base,
                served(control.application(gateway, TOKEN), None) as control_base,
            ):
                gateway.base = base
                client = GATEWAYS["ikhokha"](settings(base), http, SystemClock(), Contract())
                yield Rig(base, gateway, merchant, client, remote.Control(control_base, TOKEN), control_base, http)
        finally:
            store.close()


@asynccontextmanager
async def served(app: web.Application, certificates: Certificates | None) -> AsyncIterator[str]:
    """An application on a free port of 127.0.0.1; over TLS where there are certificates."""
    tls = None
    if certificates:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificates.server, certificates.key)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
