"""Those who receive notices: an HTTP server that answers as it is told to, and a mail server, both on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Hooks:
    """What came in, as (path, body). A path with `500`, `garbage` or `hang` in it is answered so."""

    port: int = 0
    got: list[tuple[str, str]] = field(default_factory=list)
    silent: asyncio.Event = field(default_factory=asyncio.Event)

    def bodies(self, path: str) -> list[str]:
        return [body for at, body in self.got if path in at]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ")[1]
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        self.got.append((path, (await reader.readexactly(int(length.partition(":")[2]))).decode()))
        if "hang" in path:
            await self.silent.wait()
        elif "garbage" in path:
            writer.write(b"\x00\xff is no HTTP\r\n\r\n")
        else:
            status = "500 Oops" if "500" in path else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


@dataclass
class Mail:
    """Messages that came in: their subject, and their text."""

    port: int = 0
    got: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.shop.test\r\n")
        while line := (await reader.readline()).upper():
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                self._keep((await reader.readuntil(b"\r\n.\r\n"))[:-5])
            writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
            await writer.drain()
            if line.startswith(b"QUIT"):
                return

    def _keep(self, data: bytes) -> None:
        message = email.message_from_bytes(data, policy=email.policy.default)
        text = message.get_body(("plain", "html"))
        self.got.append((str(message["subject"]), text.get_content() if text is not None else ""))


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Hooks, Mail]]:
    hooks, mail = Hooks(), Mail()
    async with _listening(hooks.serve) as hooks.port, _listening(mail.serve) as mail.port:
        yield hooks, mail
        hooks.silent.set()


@asynccontextmanager
async def _listening(handler: Handler) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def nobody_listens() -> socket.socket:
    """A socket that keeps a port to itself and takes no connection."""
    kept = socket.socket()
    kept.bind(("127.0.0.1", 0))
    return kept
