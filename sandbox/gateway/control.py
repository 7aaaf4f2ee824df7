"""The drills' way in: faults, payments and webhook deliveries of a running sandbox gateway, behind a bearer token.

GET  /            {"pid": 4711}
GET  /faults      the faults, all of them
POST /faults      {"outage": true}: changes the members given, answers them all; 400 with what is allowed
DELETE /faults    none of those is on any more
POST /held        the same members, for as long as the connection lasts; answers with X-Held and a byte now and then
DELETE /held/ID   ends it at once
GET  /payments    newest first: paylinkID, reference, amount (cents), mode (live, or test: no money moves), status,
                  createdAt, description, callbackUrl, successUrl, failureUrl, cancelUrl ('' for none)
GET  /deliveries  the latest tries first: paylinkID, reference, event, attempt, at, status, error, took_ms, state
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sandbox.gateway.app import Gateway
from sandbox.gateway.faults import Faults
from sandbox.gateway.remote import LATEST

_LOOKS_EVERY_S = 0.1
"""How often it is looked whether whoever holds faults is still there."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(gateway: Gateway, token: str) -> web.Application:
    """The control interface as an application of its own, for a port of its own."""

    base, held = [Faults()], dict[str, dict[str, Any]]()

    def apply() -> None:
        together = {name: value for members in held.values() for name, value in members.items()}
        gateway.set_faults(base[0].changed(together))

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
        base[0] = base[0].changed(await _members(request))
        apply()
        return await faults(request)

    async def clear(request: web.Request) -> web.Response:
        base[0] = Faults()
        apply()
        return await faults(request)

    async def hold(request: web.Request) -> web.StreamResponse:
        key, members = secrets.token_hex(8), await _members(request)
        response = web.StreamResponse(headers={"X-Held": key})
        held[key] = members
        apply()
        try:
            await response.prepare(request)
            while key in held and not ending.is_set():
                await response.write(b"\n")
                if request.transport is None or request.transport.is_closing():
                    break
                await asyncio.sleep(_LOOKS_EVERY_S)
        except ConnectionError:
            pass  # whoever held them is gone
        finally:
            if held.pop(key, None) is not None:
                apply()
        return response

    async def release(request: web.Request) -> web.Response:
        if held.pop(request.match_info["key"], None) is not None:
            apply()
        return await faults(request)

    ending = asyncio.Event()

    async def end(_: web.Application) -> None:
        ending.set()

    async def payments(_: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "paylinkID": payment.id,
                    "reference": payment.reference,
                    "amount": payment.amount,
                    "mode": payment.mode,
                    "status": payment.status,
                    "createdAt": payment.created_at,
                    "description": payment.description,
                    "openedAt": gateway.opened.get(payment.id),
                    "callbackUrl": payment.callback_url,
                    "successUrl": payment.success_url,
                    "failureUrl": payment.failure_url,
                    "cancelUrl": payment.cancel_url,
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
    app.router.add_post("/held", hold)
    app.router.add_delete("/held/{key}", release)
    app.on_shutdown.append(end)
    app.router.add_get("/payments", payments)
    app.router.add_get("/deliveries", deliveries)
    return app


async def _members(request: web.Request) -> dict[str, Any]:
    """The faults that a request names, judged. Raises HTTPBadRequest with what is allowed."""
    try:
        members = json.loads(await request.read())
        if not isinstance(members, dict):
            raise TypeError("a JSON object of faults is expected")  # noqa: TRY301 - one answer for all of them
        Faults().changed(members)
    except (ValueError, TypeError, RecursionError) as error:
        raise web.HTTPBadRequest(text=json.dumps({"error": str(error)}), content_type="application/json") from None
    return members
