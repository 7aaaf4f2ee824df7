"""Answering strangers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from .gateway import GatewayError, NotSent, Refused

TRY_AGAIN_S = 5


def answer(status: int, body: Mapping[str, object], **headers: str) -> web.Response:
    """A JSON answer; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = json.dumps(body, ensure_ascii=True)
    return web.Response(status=status, text=text, content_type="application/json", headers=named)


def problem(status: int, error: str, **headers: str) -> web.Response:
    return answer(status, {"error": error}, **headers)


def busy(error: str, seconds: int) -> web.Response:
    """503: it is worth trying again after `seconds`."""
    return problem(503, error, Retry_After=str(seconds))


def limited(seconds: int) -> web.Response:
    return problem(429, "too many requests", Retry_After=str(seconds))


def trouble(error: GatewayError) -> web.Response:
    """What a customer is told when no payment was made, or none is known of: nothing about the gateway itself."""
    match error:
        case NotSent():
            return busy("the payment gateway is away; take a new reference", TRY_AGAIN_S)
        case Refused():
            return problem(502, "the payment gateway refused the payment; take a new reference")
        case _:
            return busy("the payment gateway did not answer; the payment is being looked into", TRY_AGAIN_S)


def source(request: web.Request) -> str:
    """Who asks, as the connection shows it. `X-Forwarded-For` is anyone's claim and is not looked at."""
    return request.remote or "unknown"
