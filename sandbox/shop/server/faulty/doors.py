"""The ways in and out of the server: paths, methods, TLS, source addresses, rate limits, the start."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler

from ..answers import limited, problem, source
from ..config import WEBHOOK_PATH, Config
from ..drain import HANDSHAKE_WITHIN_S, Connections
from ..limits import RateLimit
from ..schemes import Delivery, Judged
from ..seams import Limits, Listening, Monotonic, Seams
from .kit import Break, instead

_UNLIMITED = 1_000_000_000
_SLOWLY = 0.5
"""A second: so that the fault shows however late the next request comes."""
_TLS_HANDSHAKE = b"\x16"
_CLAIMS = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
_CLAIMED = re.compile(r'(?:for=)?"?\[?([0-9A-Fa-f:.]+?)\]?(?::\d+)?"?(?:[,;].*)?', re.IGNORECASE)


# ---- paths and methods -------------------------------------------------------------------------------------


def _by_any_method(handlers: Mapping[str, Handler]) -> Sequence[web.RouteDef]:
    return [web.route("*", WEBHOOK_PATH, handlers["webhook"])]


def _by_any_spelling(handlers: Mapping[str, Handler]) -> Sequence[web.RouteDef]:
    path = WEBHOOK_PATH.removeprefix("/")
    return [web.post(f"/{{spelling:(?i:{path})/*}}", handlers["webhook"])]


def _guarded_at_one_path(seams: Seams) -> Seams:
    def verify(config: Config, delivery: Delivery) -> Judged:
        if delivery.target.partition("?")[0] != WEBHOOK_PATH:
            return Judged(delivery.body, "")
        return seams.verify(config, delivery)

    return replace(seams, verify=verify, routes=_by_any_spelling)


def _always_500(_monotonic: Monotonic) -> Middleware:
    @web.middleware
    async def fails(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == WEBHOOK_PATH and request.method == "POST":
            await request.read()
            return problem(500, "something went wrong")
        return await handler(request)

    return fails


# ---- without TLS -------------------------------------------------------------------------------------------


class _Accepting:
    """Accepts connections until it is closed."""

    def __init__(self, work: Coroutine[Any, Any, None], sock: socket.socket) -> None:
        self._task = asyncio.create_task(work)
        self._sock = sock

    def close(self) -> None:
        self._task.cancel()
        self._task.add_done_callback(lambda _: self._sock.close())


async def _with_and_without_tls(
    runner: web.AppRunner, connections: Connections, sock: socket.socket, tls: ssl.SSLContext | None
) -> Listening:
    """Looks at the first byte of a connection: where it begins no TLS handshake, it is served in the clear."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    sock.setblocking(False)
    return _Accepting(_accept(sock, connections.accept(server), tls), sock)


async def _accept(sock: socket.socket, accepted: Callable[[], RequestHandler], tls: ssl.SSLContext | None) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(sock)
            group.create_task(_serve(connection, accepted, tls))


async def _serve(connection: socket.socket, accepted: Callable[[], RequestHandler], tls: ssl.SSLContext | None) -> None:
    try:
        async with asyncio.timeout(HANDSHAKE_WITHIN_S):
            await _readable(connection)
        first = connection.recv(1, socket.MSG_PEEK)
        secured = tls if first == _TLS_HANDSHAKE else None
        with suppress(OSError, ssl.SSLError):
            await asyncio.get_running_loop().connect_accepted_socket(
                accepted,
                connection,
                ssl=secured,
                ssl_handshake_timeout=HANDSHAKE_WITHIN_S if secured else None,
            )
    except (TimeoutError, OSError):
        connection.close()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


# ---- sources and limits ------------------------------------------------------------------------------------


def _claimed(request: web.Request) -> str:
    """What the first header that names an address says."""
    for name in _CLAIMS:
        found = _CLAIMED.fullmatch(request.headers.get(name, "").strip())
        if found:
            return found[1]
    return source(request)


def _unlimited(seams: Seams) -> Seams:
    return replace(seams, limits=replace(seams.limits, burst=_UNLIMITED))


def _limits_all_webhooks(monotonic: Monotonic) -> Middleware:
    limit = RateLimit(monotonic, per_second=_SLOWLY)

    @web.middleware
    async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == WEBHOOK_PATH and (wait_s := limit.take(source(request))):
            return limited(wait_s)
        return await handler(request)

    return limits


def _shuts_out_the_gateway(seams: Seams) -> Seams:
    slow: Limits = replace(seams.limits, per_second=_SLOWLY)
    return replace(seams, limits=slow, middlewares=[*seams.middlewares, _limits_all_webhooks])


# ---- the start ---------------------------------------------------------------------------------------------


def _crash() -> None:
    raise RuntimeError("this release ends while it starts")


BREAKS: Mapping[str, Break] = {
    "takes-any-method": instead(routes=_by_any_method),
    "guards-one-path-only": _guarded_at_one_path,
    "webhook-500": lambda seams: replace(seams, middlewares=[*seams.middlewares, _always_500]),
    "serves-plain-http": instead(listen=_with_and_without_tls),
    "ignores-sources": instead(listed=lambda _config, _address: True),
    "trusts-forwarded-for": instead(source=_claimed),
    "no-rate-limit": _unlimited,
    "rate-limit-shuts-out-gateway": _shuts_out_the_gateway,
    "never-ready": instead(says_ready=False),
    "crash-on-start": instead(start=_crash),
}
