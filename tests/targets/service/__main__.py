"""A small service that keeps the process contract of a release; `BEHAVIOUR` among its settings spoils it.

Written on the standard library's streams, so that it starts quickly. It accepts connections itself, and therefore knows
of each one, also of those whose TLS handshake is under way: none is lost in a drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys

BEHAVIOUR = os.environ.get("BEHAVIOUR", "good")
IDLE_S = 5.0


class Server:
    def __init__(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        self.listening = listening
        self.context = context
        self.draining = False
        self.connections: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self.listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self.listening, self._accept)

    async def drain(self) -> None:
        asyncio.get_running_loop().remove_reader(self.listening)
        self.listening.close()
        self.draining = True
        notify("STOPPING=1")
        if self.connections:
            await asyncio.wait(self.connections)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self.listening.accept()
            connection.setblocking(False)
            task = asyncio.ensure_future(self._serve(connection))
            self.connections.add(task)
            task.add_done_callback(self.connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                while await self._answer(reader, writer):
                    pass
            finally:
                writer.close()
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection stays open."""
        async with asyncio.timeout(IDLE_S):
            head = await reader.readuntil(b"\r\n\r\n")
        status, body = answer(head.split(b" ")[1].decode())
        stays = not self.draining and b"connection: close" not in head.lower()
        text = json.dumps(body).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s"
            % (status, len(text), b"keep-alive" if stays else b"close", text)
        )
        await writer.drain()
        return stays


def answer(path: str) -> tuple[int, dict[str, object]]:
    release = os.environ["RELEASE_ID"]
    if path == "/health/ready":
        return (503 if BEHAVIOUR == "never ready" else 200), {"release": release, "database": "ok"}
    greeting, address = os.environ["GREETING"], os.environ["PUBLIC_URL"]
    return 200, {"release": release, "greeting": greeting, "public_url": address, "variables": sorted(os.environ)}


def notify(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), path)


def log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


async def main() -> int:
    log(f"starts with the greeting {os.environ['GREETING']!r}")
    if BEHAVIOUR == "crash on start":
        log("cannot open the till")
        return 7
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    context = None
    if "TLS_CERT" in os.environ:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
    inherited = os.environ.get("LISTEN_PID") == str(os.getpid())
    port = os.environ.get("PORT", "0")
    server = Server(socket.socket(fileno=3) if inherited else socket.create_server(("127.0.0.1", int(port))), context)
    server.start()
    if BEHAVIOUR != "never ready":
        notify("READY=1")
    if BEHAVIOUR == "dies when ready":
        return 5
    await told.wait()
    if BEHAVIOUR == "never stops":
        await asyncio.Event().wait()
    await server.drain()
    return 0


sys.exit(asyncio.run(main()))
