"""The shop's own gateway client, before gateways that misbehave; what it knows of a creation afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateways import ikhokha_wire as wire
from pipeline.clock import SystemClock
from pipeline.errors import OutcomeUnknown
from sandbox import authority
from sandbox.shop.server import gateway as client
from sandbox.shop.server.config import Config
from sandbox.shop.server.gateway import GatewayClient, GatewayError, NoAnswer, NotFound, NotSent, Refused
from sandbox.shop.server.store import CREATING, PENDING, Store
from tests.gateways.test_ikhokha import BYTES, LINK, listening, packed, server_tls
from tests.sandbox.gateway_rig import APP_ID, SECRET

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = {"responseCode": "00", "paylinkID": LINK, "paylinkUrl": f"https://x/{LINK}", "externalTransactionID": "order-1"}


def config(folder: Path, base: str, timeout_s: float = 5.0) -> Config:
    return Config(
        release="release-1",
        node_env="production",
        test_mode=False,
        public_url="https://127.0.0.1",
        data_dir=folder,
        shared_dir=folder,
        gateway_url=base,
        app_id=APP_ID,
        api_secret=SECRET,
        webhook_secret=SECRET,
        timeout_s=timeout_s,
        retry_attempts=3,
        retry_delay_s=0.1,
        ca_file=str(authority.ensure(folder / "tls", SystemClock().now()).ca),
        tls_cert=None,
        tls_key=None,
    )


@asynccontextmanager
async def asked(folder: Path, base: str, timeout_s: float = 5.0) -> AsyncIterator[GatewayClient]:
    settings = config(folder, base, timeout_s)
    async with client.new_client(settings) as http:
        yield GatewayClient(settings, http)


async def created(shop: GatewayClient) -> client.Link:
    return await shop.create("order-1", 49900, "Course", client.own_addresses("https://127.0.0.1", "order-1"))


def said(status: int, value: object) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


ANSWERS = [
    *((answer, NoAnswer) for answer, found in BYTES if found is OutcomeUnknown),
    (OK + b"\r\n" + b" " * 17_000_000, NoAnswer),
    (OK + b"Content-Encoding: gzip\r\n\r\n" + packed(bytes(20_000_000)), NoAnswer),
    (b"HTTP/1.1 302 x\r\nLocation: https://xn--a./\r\nContent-Length: 0\r\n\r\n", NoAnswer),
    (b"HTTP/1.1 307 x\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", NoAnswer),
    (said(200, {**GOOD, "paylinkUrl": f"https://x/\x1b[2J/{LINK}"}), NoAnswer),
    (said(200, {**GOOD, "externalTransactionID": "order-2"}), NoAnswer),
    (said(500, {"responseCode": "IK-500"}), NoAnswer),
    (said(404, b"<html>"), NoAnswer),
    (said(404, {"message": "no such payment"}), NotFound),
    (said(200, {**GOOD, "responseCode": "51"}), Refused),
    (said(401, b""), Refused),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS, ids=[repr(answer[:50]) for answer, _ in ANSWERS])
async def test_whatever_a_gateway_answers_the_shop_knows_what_it_knows(
    tmp_path: Path, answer: bytes, expected: type[GatewayError]
) -> None:
    """A creation is sent once, and only the gateway's own refusal says that it had no effect."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b'"}}')
        writer.write(answer)
        await writer.drain()

    async with listening(handle, server_tls(tmp_path)) as base, asked(tmp_path, base) as shop:
        with pytest.raises(GatewayError) as failed:
            await created(shop)
    assert type(failed.value) is expected
    assert SECRET not in str(failed.value)
    assert connections == 1


@pytest.mark.parametrize("tls", [True, False])
async def test_a_gateway_that_never_answers_holds_nobody_up(tmp_path: Path, tls: bool) -> None:
    """A gateway that drips its answer is given up in time; one that never shook hands was sent nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(OK + b"\r\n" if tls else b"")
        while True:
            writer.write(b" " if tls else b"")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with listening(handle, server_tls(tmp_path) if tls else None) as base, asked(tmp_path, base, 0.6) as shop:
        with pytest.raises(NoAnswer if tls else NotSent):
            await created(shop)


async def test_a_gateway_of_another_authority_is_sent_nothing(tmp_path: Path) -> None:
    """Credentials and payments go only to who proves to be the gateway."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        seen.append(await reader.read())

    async with listening(handle, server_tls(tmp_path / "other")) as base, asked(tmp_path, base) as shop:
        with pytest.raises(NotSent):
            await created(shop)
    assert seen in ([], [b""])


async def test_what_is_sent_is_what_was_signed_and_no_cookie_comes_back(tmp_path: Path) -> None:
    """Path and bytes are those of the signature, on a second request over the same connection too."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            body = json.dumps({"paylinkID": LINK, "status": "PAID", "amount": 49900}).encode()
            writer.write(OK + b"Set-Cookie: a=b; Path=/\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with listening(handle, server_tls(tmp_path)) as base, asked(tmp_path, f"{base}/a%2fb") as shop:
        for _ in range(2):
            assert (await shop.status_of("a-1", 5.0)).paid
    path = f"/a%2fb{wire.STATUS_EXTERNAL_PATH}"
    for head in heads:
        assert head.startswith(f"GET {path}?externalReference=a-1 HTTP/1.1\r\n".encode())
        assert f"{wire.HEADER_SIGN}: {wire.sign(SECRET, path)}\r\n".encode() in head
        assert b"cookie" not in head.lower()


async def test_a_creation_is_not_sent_again_over_another_connection(tmp_path: Path) -> None:
    """A kept connection that ends when the creation has been read leaves its outcome unknown."""
    asked_for: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not asked_for or asked_for[-1].startswith(b"GET"):
            asked_for.append(await reader.readuntil(b"\r\n\r\n"))
            if asked_for[-1].startswith(b"GET"):
                writer.write(said(200, {"paylinkID": LINK, "status": "PAID", "amount": 49900}))
                await writer.drain()

    async with listening(handle, server_tls(tmp_path)) as base, asked(tmp_path, base) as shop:
        await shop.status(LINK, 5.0)
        with pytest.raises(NoAnswer):
            await created(shop)
    assert [head[:4] for head in asked_for] == [b"GET ", b"POST"]


async def test_one_paylink_pays_for_one_order(tmp_path: Path) -> None:
    """A gateway that gives the link of one order to another as well pays for the first alone."""
    store = Store(tmp_path / "orders.sqlite", lambda: 0.0)
    try:
        for reference in ("first", "second"):
            store.claim(reference, "python-101", 49900, 1.0)
        assert store.linked("first", LINK, None, 1.0)
        assert store.linked("first", LINK, "https://x", 1.0)
        assert not store.linked("second", LINK, None, 1.0)
        orders = [store.find("first"), store.find("second")]
        assert [(order.status, order.paylink_id) for order in orders if order] == [(PENDING, LINK), (CREATING, None)]
    finally:
        store.close()
