"""The drills' way in: faults, payments and webhook deliveries of a running sandbox gateway, behind a bearer token.

GET  /            {"pid": 4711}
GET  /faults      the faults, all of them
POST /faults      {"outage": true}: changes the members given, answers them all; 400 with what is allowed
DELETE /faults    none is on any more
GET  /payments    newest first: paylinkID, reference, amount (cents), status, createdAt, description
GET  /deliveries  the latest tries first: paylinkID, reference, event, attempt, at, status, error, took_ms, state
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx
from aiohttp import web

from sandbox.gateway.app import Gateway
from sandbox.gateway.faults import Faults

LATEST = 1000
"""Deliveries shown unless ?limit= says otherwise."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(gateway: Gateway, token: str) -> web.Application:
    """The control interface as an application of its own, for a port of its own."""

    @web.middleware
    async def with_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return web.json_response({"error": "the token of host.json is required"}, status=401)
        gateway.used()
        return await handler(request)

    async def pid(_: web.Request) -> web.Response:
        return web.json_response({"pid": os.getpid()})

    async def faults(_: web.Request) -> web.Response:
        return web.json_response(gateway.faults.as_data())

    async def change(request: web.Request) -> web.Response:
        try:
            members = json.loads(await request.read())
            if not isinstance(members, dict):
                raise TypeError("a JSON object of faults is expected")  # noqa: TRY301 - one answer for all of them
            gateway.set_faults(gateway.faults.changed(members))
        except (ValueError, TypeError, RecursionError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return await faults(request)

    async def clear(request: web.Request) -> web.Response:
        gateway.set_faults(Faults())
        return await faults(request)

    async def payments(_: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "paylinkID": payment.id,
                    "reference": payment.reference,
                    "amount": payment.amount,
                    "status": payment.status,
                    "createdAt": payment.created_at,
                    "description": payment.description,
                }
                for payment in gateway.store.payments()
            ]
        )

    async def deliveries(request: web.Request) -> web.Response:
        text = request.query.get("limit", str(LATEST))
        if not (text.isascii() and text.isdigit() and len(text) < 8):
            return web.json_response({"error": "limit: digits are allowed"}, status=400)
        return web.json_response(
            [
                {"paylinkID": a.paylink_id, **{k: v for k, v in vars(a).items() if k != "paylink_id"}}
                for a in gateway.store.attempts(int(text))
            ]
        )

    app = web.Application(middlewares=[with_token])
    app.router.add_get("/", pid)
    app.router.add_get("/faults", faults)
    app.router.add_post("/faults", change)
    app.router.add_delete("/faults", clear)
    app.router.add_get("/payments", payments)
    app.router.add_get("/deliveries", deliveries)
    return app


class Control:
    """A client of the control interface. Raises httpx.HTTPError when the gateway is away or refuses."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"}

    async def set_faults(self, **members: object) -> Mapping[str, Any]:
        """Switches faults by name, e.g. `outage=True`; the others stay as they are. Returns all of them."""
        faults: Mapping[str, Any] = await self._ask("POST", "/faults", members)
        return faults

    async def clear_faults(self) -> None:
        await self._ask("DELETE", "/faults")

    async def faults(self) -> Mapping[str, Any]:
        faults: Mapping[str, Any] = await self._ask("GET", "/faults")
        return faults

    async def payments(self) -> Sequence[Mapping[str, Any]]:
        payments: Sequence[Mapping[str, Any]] = await self._ask("GET", "/payments")
        return payments

    async def deliveries(self, limit: int = LATEST) -> Sequence[Mapping[str, Any]]:
        deliveries: Sequence[Mapping[str, Any]] = await self._ask("GET", f"/deliveries?limit={limit}")
        return deliveries

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=10, headers=self._headers) as client:
            response = await client.request(method, self._address + path, json=body)
        response.raise_for_status()
        return response.json()
