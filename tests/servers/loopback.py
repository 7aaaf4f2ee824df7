"""Small servers on loopback that answer as they are told, or not at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


def redirect(location: str, status: int = 301) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@asynccontextmanager
async def speaking(says: bytes, *, tls: ssl.SSLContext | None = None, listens_first: bool = True) -> AsyncIterator[int]:
    """Says these bytes to everybody and hangs up; the port. With `tls` behind a handshake."""
    async with _serving(says, tls, listens_first=listens_first, stays=False) as port:
        yield port


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """Accepts every connection and says nothing for as long as the block takes; the port."""
    async with _serving(b"", None, listens_first=False, stays=True) as port:
        yield port


@asynccontextmanager
async def _serving(says: bytes, tls: ssl.SSLContext | None, *, listens_first: bool, stays: bool) -> AsyncIterator[int]:
    over = asyncio.Event()
    at_work: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            at_work.add(task)
        try:
            if listens_first:
                await reader.read(4096)
            if stays:
                await over.wait()
            writer.write(says)
            await writer.drain()
            writer.close()
            await reader.read()  # what is unread when a socket closes turns its end into a reset
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await asyncio.gather(*at_work, return_exceptions=True)
        await server.wait_closed()
