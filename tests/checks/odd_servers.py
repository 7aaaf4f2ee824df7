"""Services for the checks on addresses and limits: the real shop of the sandbox, and small ones that answer oddly."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from gateways import GATEWAYS
from pipeline.clock import SystemClock
from pipeline.contracts import World
from pipeline.secrets import Secret
from tests.checks.worlds import world
from tests.sandbox.shops import Running

Answering = Callable[[web.Request, int], web.Response | Awaitable[web.Response]]
"""Answers a request; the number says how many came to the same path before."""

PAYMENTS, WEBHOOK = "/api/payments", "/api/webhooks/ikhokha"


@asynccontextmanager
async def serving(answers: Mapping[str, Answering]) -> AsyncIterator[str]:
    """A server that answers each path as told and all others with 404; its address."""
    seen: dict[str, int] = defaultdict(int)

    async def handle(request: web.Request) -> web.Response:
        answer = answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        before = seen[request.path]
        seen[request.path] += 1
        made = answer(request, before)
        return made if isinstance(made, web.Response) else await made

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def always(status: int, **headers: str) -> Answering:
    """The same answer to everything; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request, _before: web.Response(status=status, headers=named)


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak to plain servers: reading the system's authorities for each would be most of a test."""


def plain_world(root: Path, service: str, **parts: Any) -> World:
    return world(root, service=service, trust=_NO_TLS, **parts)


def shop_world(shop: Running, root: Path, **settings: str) -> World:
    """The world in which a check meets a real shop: its own settings, signatures of the real scheme, real time."""
    given = {**shop.area.gateway.settings, **settings}
    values = {name: Secret(value) if "SECRET" in name or "KEY" in name else value for name, value in given.items()}
    gateway = shop.area.gateway.addresses.gateway
    made = world(root, service=shop.url, gateway=gateway, trust=shop.area.gateway.tls, values=values)
    clock = SystemClock()
    client = GATEWAYS["ikhokha"](settings=made.settings, http=made.http, clock=clock, contract=made.spec.contract)
    return replace(made, clock=clock, gateway=client)
