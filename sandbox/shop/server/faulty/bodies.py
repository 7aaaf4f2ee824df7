"""Bodies that are read where they should not be, or that break what reads them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aiohttp import web

from ..answers import problem
from ..config import Config
from ..events import Event, event_of
from ..reading import Bounds, is_json, json_body, not_json, whole_body
from ..schemes import Delivery, Judged
from ..seams import Seams
from .kit import Break, instead

_ENDLESS = 1 << 40


# ---- reading -----------------------------------------------------------------------------------------------


def _bounds(**members: object) -> Break:
    def apply(seams: Seams) -> Seams:
        bounds = replace(seams.limits.bounds, **members)  # type: ignore[arg-type]
        return replace(seams, limits=replace(seams.limits, bounds=bounds))

    return apply


async def _of_any_type(request: web.Request, bounds: Bounds) -> bytes | web.Response:
    body = await whole_body(request, bounds)
    if isinstance(body, web.Response) or not request.charset:
        return body
    with suppress(LookupError, UnicodeError):
        return body.decode(request.charset).encode()
    return body


async def _unpacked(request: web.Request, bounds: Bounds) -> bytes | web.Response:
    if "Content-Encoding" not in request.headers:
        return await json_body(request, bounds)
    body = await whole_body(request, bounds)
    if isinstance(body, web.Response):
        return body
    try:
        return zlib.decompress(body, wbits=zlib.MAX_WBITS | 32)  # gzip or deflate, as its header says
    except zlib.error:
        return problem(400, "the body cannot be unpacked")


async def _half(request: web.Request, bounds: Bounds) -> bytes | web.Response:
    if not is_json(request):
        return not_json()
    body = bytearray()
    with suppress(web.RequestPayloadError, ConnectionError):
        while len(body) <= bounds.largest and (chunk := await request.content.readany()):
            body += chunk
    return bytes(body)


# ---- parsing -----------------------------------------------------------------------------------------------


def _first_wins(_signed: bytes, delivery: Delivery) -> Event | None:
    with suppress(ValueError, RecursionError):
        return event_of(json.loads(delivery.body, object_pairs_hook=lambda members: dict(reversed(members))))
    return None


def _breaks(on: Callable[[bytes], Any]) -> Break:
    """A fault that looks at each body before it is verified, and lets pass what goes wrong with that."""

    def apply(seams: Seams) -> Seams:
        def verify(config: Config, delivery: Delivery) -> Judged:
            on(delivery.body)
            return seams.verify(config, delivery)

        return replace(seams, verify=verify)

    return apply


def _whole_numbers(body: bytes) -> None:
    def whole(text: str) -> int:
        raise ArithmeticError(f"{len(text)} characters are no whole number")

    with suppress(ValueError, RecursionError):
        json.loads(body, parse_float=whole)


def _as_json(body: bytes) -> None:
    with suppress(RecursionError):
        json.loads(body.decode("utf-8"))


def _as_flat_object(body: bytes) -> None:
    def not_json(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    with suppress(ValueError):
        for name, value in json.loads(body.decode("utf-8"), parse_constant=not_json).items():
            len(name + value if isinstance(value, str) else value)


BREAKS: Mapping[str, Break] = {
    "reads-any-size": _bounds(largest=_ENDLESS),
    "waits-for-ever": _bounds(within_s=None),
    "takes-any-content-type": instead(read=_of_any_type),
    "unpacks-bodies": instead(read=_unpacked),
    "acts-on-half-a-body": instead(read=_half),
    "first-duplicate-wins": instead(parse=_first_wins),
    "breaks-on-odd-numbers": _breaks(_whole_numbers),
    "breaks-on-odd-bytes": _breaks(_as_json),
    "breaks-on-odd-shapes": _breaks(_as_flat_object),
}
