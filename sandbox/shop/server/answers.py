"""Reading bodies from strangers and answering them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from aiohttp import web

LARGEST_BODY = 16_384
BODY_WITHIN_S = 5.0


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


def source(request: web.Request) -> str:
    """Who asks, as the connection shows it. `X-Forwarded-For` is anyone's claim and is not looked at."""
    return request.remote or "unknown"


async def read_json_body(request: web.Request) -> bytes | web.Response:
    """The raw body of a JSON request, or the refusal to answer with: 400, 408, 413 or 415."""
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        return _closing(problem(415, "application/json without content encoding is expected"))
    if request.content_length is not None and request.content_length > LARGEST_BODY:
        return _closing(problem(413, f"at most {LARGEST_BODY} bytes are accepted"))
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = bytearray()
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > LARGEST_BODY:
                    return _closing(problem(413, f"at most {LARGEST_BODY} bytes are accepted"))
    except TimeoutError:
        return _closing(problem(408, f"the body did not arrive within {BODY_WITHIN_S:g} s"))
    except (web.RequestPayloadError, ConnectionError):
        return _closing(problem(400, "the body is not what its headers say"))
    return bytes(body)


def _closing(response: web.Response) -> web.Response:
    """What is left of the body must not be read as the next request."""
    response.force_close()
    return response
