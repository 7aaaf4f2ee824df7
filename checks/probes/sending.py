"""How a probe's bytes travel: through httpx where a client could send them, over a socket of our own where none would.

Each message has a connection of its own. Nothing here raises for what the other side does: a lost answer is a Reply.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.probes.probe import CLOSED, SILENT, Reply
from pipeline.contracts import World
from pipeline.retry_after import parse

if TYPE_CHECKING:
    import httpx

KEPT_BYTES = 2000
_HEAD_BYTES = 65_536
_CHUNK_BYTES = 65_536
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r\n]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after:[ \t]*([^\r\n]{1,100})", re.IGNORECASE)

LIMITED = 429
UNCONNECTED = "ConnectError"
"""`lost` begins so where no connection came about, as httpx calls it."""


@dataclass(frozen=True)
class Came:
    """A reply, and how long a 429 asks to wait, in s (None: it does not say)."""

    reply: Reply
    wait_s: float | None = None


async def through_httpx(
    world: World, method: str, url: str, body: bytes, headers: Mapping[str, str], *, sent: str, within_s: float
) -> Came:
    """One request as any client sends it."""
    import httpx

    begun = time.perf_counter()
    # A connection that is cancelled in its handshake stays open, so that has a limit of its own, which ends earlier.
    limit = httpx.Timeout(within_s, connect=within_s / 2)
    try:
        async with (
            asyncio.timeout(within_s),
            world.http() as client,
            client.stream(method, url, content=_content(body, headers), headers=_raw(headers), timeout=limit) as answer,
        ):
            kept = await _kept(answer)
    except httpx.ConnectTimeout:
        return Came(Reply(sent, CLOSED, _ms(begun), lost=f"ConnectTimeout: none within {within_s / 2:g} s"))
    except (TimeoutError, httpx.TimeoutException):
        return Came(Reply(sent, SILENT, _ms(begun), lost=f"no answer within {within_s:g} s"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Came(Reply(sent, CLOSED, _ms(begun), lost=_why(error)))
    said = answer.headers.get("Retry-After")
    return Came(Reply(sent, answer.status_code, _ms(begun), kept), _wait(world, answer.status_code, said))


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """In UTF-8, for not all that is sent is ASCII."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _content(body: bytes, headers: Mapping[str, str]) -> bytes | AsyncIterator[bytes]:
    """Whole with its length, or in chunks without one where the headers say so."""
    return _chunks(body) if headers.get("Transfer-Encoding") == "chunked" else body


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), _CHUNK_BYTES):
        yield body[at : at + _CHUNK_BYTES]


async def _kept(answer: httpx.Response) -> bytes:
    kept = b""
    async for chunk in answer.aiter_raw():
        kept += chunk
        if len(kept) >= KEPT_BYTES:
            break
    return kept[:KEPT_BYTES]


@dataclass(frozen=True)
class Line:
    """Where bytes go. `tls` None: plain; `source` is the address to speak from, '' for whichever the kernel takes."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    source: str = ""

    @property
    def named(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.tls else 80
        return host if self.port == usual else f"{host}:{self.port}"


async def over_socket(
    world: World,
    line: Line,
    data: bytes,
    *,
    sent: str,
    within_s: float,
    drop: bool = False,
    together: asyncio.Barrier | None = None,
) -> Came:
    """Sends exactly these bytes and reads one answer.

    `drop`: closes when all is sent and reads none. `together`: sends when all who share it have their connection.
    """
    begun = time.perf_counter()
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(
                line.host,
                line.port,
                ssl=line.tls,
                server_hostname=line.host if line.tls else None,
                local_addr=(line.source, 0) if line.source else None,
            )
            if together is not None:
                with suppress(asyncio.BrokenBarrierError):
                    await together.wait()
            writer.write(data)
            await writer.drain()
            if drop:
                writer.close()
                await writer.wait_closed()
                return Came(Reply(sent, CLOSED, _ms(begun), lost="the prober closed the connection"))
            status, said, kept = await _answer(reader)
    except TimeoutError:
        return Came(Reply(sent, SILENT, _ms(begun), lost=f"no answer within {within_s:g} s"))
    except (OSError, ssl.SSLError, EOFError, UnicodeError) as error:
        lost = _why(error) if writer else f"{UNCONNECTED}: {_why(error)}"
        return Came(Reply(sent, CLOSED, _ms(begun), lost=lost))
    finally:
        if writer is not None:
            writer.transport.abort()
        elif together is not None:
            await together.abort()  # the others need not wait for this one
    lost = "" if status else "no HTTP answer came back"
    return Came(Reply(sent, status, _ms(begun), kept, lost), _wait(world, status, said))


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str | None, bytes]:
    """Status, Retry-After and the beginning of the body; status CLOSED for what is not HTTP."""
    while True:
        head = await _head(reader)
        status, length, said = parsed(head)
        if status >= 200 or status == CLOSED:
            break
    kept = b""
    most = KEPT_BYTES if length is None else min(length, KEPT_BYTES)
    while len(kept) < most and (more := await reader.read(most - len(kept))):
        kept += more
    return status, said, kept


async def _head(reader: asyncio.StreamReader) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _HEAD_BYTES:
        line = await reader.readline()
        if not line:
            break
        head += line
    return head


def parsed(head: bytes) -> tuple[int, int | None, str | None]:
    """The status (CLOSED for what is no HTTP/1 head), Content-Length and Retry-After of a head. Pure and total."""
    found = _STATUS_LINE.match(head)
    if found is None:
        return CLOSED, 0, None
    length, said = _LENGTH.search(head), _RETRY_AFTER.search(head)
    return (
        int(found[1]),
        int(length[1]) if length else None,
        said[1].decode("latin-1").strip() if said else None,
    )


def request(method: str, path: str, line: Line, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of an HTTP/1.1 request; nothing is added but Host, Content-Length (unless given) and Connection."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {line.named}", *(f"{name}: {value}" for name, value in headers)]
    if not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("utf-8") + body


def _wait(world: World, status: int, said: str | None) -> float | None:
    return parse(said, world.clock.now()).seconds if status == LIMITED else None


def _ms(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 1)


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:200]
