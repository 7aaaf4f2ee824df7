"""Connections from the first to the last: accepting, announcing, and ending without cutting anyone off.

During a switch the new release listens on the same socket. This one stops accepting, answers what it has accepted
with `Connection: close`, and ends when its connections have gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

HANDSHAKE_WITHIN_S = 5.0
KEEPALIVE_S = 10.0
HARD_LIMIT_S = 25.0
_QUIET_S = 1.0
_BACKLOG = 1024
_FIRST_INHERITED_FD = 3


class Connections:
    """Knows every connection, also those that have not sent a request or are in their TLS handshake still."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._silent: dict[RequestHandler, float] = {}
        self.draining = False

    def accept(self, server: web.Server) -> Callable[[], RequestHandler]:
        """A protocol factory that remembers each connection until its first request."""

        def accepted() -> RequestHandler:
            handler: RequestHandler = server()
            self._silent[handler] = self._monotonic()
            return handler

        return accepted

    def spoke(self, request: web.Request) -> None:
        self._silent.pop(request.protocol, None)

    def drop_silent(self) -> None:
        """Closes the connections that were opened long ago and asked nothing."""
        now = self._monotonic()
        for handler, since in list(self._silent.items()):
            if now - since > KEEPALIVE_S or (handler.transport is None and now - since > HANDSHAKE_WITHIN_S):
                del self._silent[handler]
                if handler.transport is not None:
                    handler.transport.close()

    def shaking_hands(self) -> bool:
        return any(handler.transport is None for handler in self._silent)


async def listen(
    runner: web.AppRunner, connections: Connections, sock: socket.socket, tls: ssl.SSLContext | None
) -> asyncio.Server:
    """Starts accepting on `sock`. Raises OSError."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    return await asyncio.get_running_loop().create_server(
        connections.accept(server),
        sock=sock,
        ssl=tls,
        ssl_handshake_timeout=HANDSHAKE_WITHIN_S if tls else None,
        backlog=_BACKLOG,
    )


async def drained(
    runner: web.AppRunner, connections: Connections, monotonic: Callable[[], float], deadline: float
) -> bool:
    """Waits until nobody is connected, and for a while nobody was. False: `deadline` (monotonic) came first."""
    quiet_since = monotonic()
    while monotonic() < deadline:
        connections.drop_silent()
        if (runner.server is not None and runner.server.connections) or connections.shaking_hands():
            quiet_since = monotonic()
        if monotonic() - quiet_since >= _QUIET_S:
            return True
        await asyncio.sleep(0.05)
    return False


def inherited_or_bound(env: Mapping[str, str]) -> socket.socket:
    """The socket handed over as systemd does it (LISTEN_FDS), or one bound to 127.0.0.1:PORT. Raises ValueError."""
    if env.get("LISTEN_FDS"):
        if env["LISTEN_FDS"] != "1" or env.get("LISTEN_PID") != str(os.getpid()):
            raise ValueError("LISTEN_FDS, LISTEN_PID: one socket, meant for this process, is expected")
        return socket.socket(fileno=_FIRST_INHERITED_FD)
    port = env.get("PORT", "")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("PORT: neither it nor LISTEN_FDS is set; a port from 1 to 65535 is allowed")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", int(port)))
    return sock


def notify(env: Mapping[str, str], state: str) -> None:
    """Tells the supervisor, as sd_notify does; without a NOTIFY_SOCKET nobody wants to know."""
    address = env.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
