"""Reading the bodies of strangers: of one type, one encoding, a bounded size, in a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from .answers import problem


@dataclass(frozen=True)
class Bounds:
    """The largest body in bytes, and how long it may take to arrive (None: for ever)."""

    largest: int = 16_384
    within_s: float | None = 5.0


Read = Callable[[web.Request, Bounds], Awaitable[bytes | web.Response]]


async def json_body(request: web.Request, bounds: Bounds) -> bytes | web.Response:
    """The raw body of a JSON request, or the refusal to answer with: 400, 408, 413 or 415."""
    if not is_json(request):
        return not_json()
    return await whole_body(request, bounds)


async def whole_body(request: web.Request, bounds: Bounds) -> bytes | web.Response:
    """The raw body whatever its type, or the refusal: 400, 408 or 413."""
    too_large = f"at most {bounds.largest} bytes are accepted"
    if request.content_length is not None and request.content_length > bounds.largest:
        return closing(problem(413, too_large))
    try:
        async with asyncio.timeout(bounds.within_s):
            body = bytearray()
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > bounds.largest:
                    return closing(problem(413, too_large))
    except TimeoutError:
        return closing(problem(408, f"the body did not arrive within {bounds.within_s:g} s"))
    except (web.RequestPayloadError, ConnectionError):
        return closing(problem(400, "the body is not what its headers say"))
    return bytes(body)


def not_json() -> web.Response:
    return closing(problem(415, "application/json in UTF-8 without content encoding is expected"))


def closing(response: web.Response) -> web.Response:
    """What is left of the body must not be read as the next request."""
    response.force_close()
    return response


def is_json(request: web.Request) -> bool:
    """Whether its headers say that the body is plain JSON in UTF-8."""
    charset = (request.charset or "utf-8").lower()
    plain = "Content-Encoding" not in request.headers
    return request.content_type == "application/json" and charset in ("utf-8", "utf8") and plain
