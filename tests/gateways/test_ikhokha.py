"""The iKhokha client names every failure, and repeats nothing that takes money."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from gateways import GATEWAYS
from gateways import ikhokha_wire as wire
from gateways.ikhokha import IKhokha
from pipeline.clock import SystemClock
from pipeline.contracts import Cents, PaymentRequest
from pipeline.errors import GatewayError, GatewayGarbled, GatewayRefused, GatewayUnreachable
from pipeline.spec import Contract
from sandbox import authority
from tests.sandbox.gateway_rig import APP_ID, SECRET, served, settings

LINK = "2zh1zj6y8xpb0g3"
DAY = datetime(2025, 3, 1, 12, tzinfo=UTC)
REQUEST = PaymentRequest(
    reference="order-1",
    amount=Cents(49900),
    description='Thabo\'s "café" \\ <a&b>',
    requester_url="https://127.0.0.1",
    callback_url="https://127.0.0.1/cb",
    success_url="https://127.0.0.1/ok",
    failure_url="https://127.0.0.1/no",
    cancel_url="https://127.0.0.1/cancel",
)
CREATED = {
    "responseCode": "00",
    "message": "",
    "paylinkUrl": f"https://x/{LINK}",
    "paylinkID": LINK,
    "externalTransactionID": "order-1",
}
STATUS = {
    "paylinkID": LINK,
    "status": "PAID",
    "createdAt": "2025-03-01T12:00:00.000Z",
    "amount": 49900,
    "description": "",
}

Answer = Callable[[web.Request], Any]


@dataclass
class Peer:
    """A gateway that answers `answer` to everything and keeps what it was asked."""

    client: IKhokha
    asked: list[tuple[str, str, dict[str, str], bytes]]
    slept: list[float]


class Impatient(SystemClock):
    """Keeps what it was asked to sleep, and does not."""

    def __init__(self, slept: list[float]) -> None:
        self._slept = slept

    async def sleep(self, seconds: float) -> None:
        self._slept.append(seconds)


@asynccontextmanager
async def peer(folder: Path, answer: Answer, **changes: str) -> AsyncIterator[Peer]:
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    trust = ssl.create_default_context(cafile=certificates.ca)
    asked: list[tuple[str, str, dict[str, str], bytes]] = []
    slept: list[float] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        found = answer(request)
        response: web.StreamResponse = await found if asyncio.iscoroutine(found) else found
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with served(app, certificates) as base:

        def http() -> httpx.AsyncClient:
            return httpx.AsyncClient(verify=trust, trust_env=False, follow_redirects=False)

        values = settings(base, **changes)
        yield Peer(GATEWAYS["ikhokha"](values, http, Impatient(slept), Contract()), asked, slept)


def says(value: object, status: int = 200) -> Answer:
    return lambda _: web.Response(body=json.dumps(value).encode(), status=status, content_type="application/json")


def raw(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return lambda _: web.Response(body=body, status=status, headers=headers)


def hangs_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hangs(_: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def test_a_creation_is_signed_over_the_bytes_it_sends(tmp_path: Path) -> None:
    """The request carries account and signature, its body is canonical, and names the payment in cents."""
    async with peer(tmp_path, says(CREATED)) as at:
        link = await at.client.create(REQUEST)
        assert (link.id, link.url) == (LINK, f"https://x/{LINK}")
        [(method, path, headers, body)] = at.asked
        assert (method, path) == ("POST", wire.PAYMENT_PATH)
        verified = wire.verify_request(SECRET, path, body, headers[wire.HEADER_SIGN])
        assert verified.accepted
        assert not verified.raw_differs
        assert headers[wire.HEADER_APP] == APP_ID
        assert headers["Content-Type"] == "application/json"
        sent = json.loads(body)
        assert (sent["amount"], sent["currency"], sent["mode"]) == (49900, "ZAR", "live")
        assert sent["externalTransactionID"] == "order-1"
        assert sent["urls"]["callbackUrl"] == "https://127.0.0.1/cb"
        assert SECRET.encode() not in body


REFUSED = [
    says({**CREATED, "responseCode": "99", "message": "no"}),
    says({k: v for k, v in CREATED.items() if k != "responseCode"}),
    says({"responseCode": "IK-001", "message": "Token or Hash invalid"}, 401),
    raw(b"<html>", 404),
    raw(b"", 429),
    raw(b"\xff", 500),
]
GARBLED = [
    raw(b""),
    raw(b"<html>"),
    raw(b"\xff\xfe"),
    raw(b"[" * 100_000),
    raw(b"1" * 5000),
    raw(b"{}", 302, {"Location": "https://example.com/"}),
    raw(b"{}", 204),
    raw(b"junk", headers={"Content-Encoding": "gzip"}),
    says([CREATED]),
    says(7),
    says({**CREATED, "paylinkID": 7}),
    says({**CREATED, "paylinkID": "../../x"}),
    says({**CREATED, "paylinkUrl": f"http://x/{LINK}"}),
    says({**CREATED, "paylinkUrl": "https://x/another"}),
    says({**CREATED, "paylinkUrl": f"https://[::1/{LINK}"}),
    says({**CREATED, "externalTransactionID": "order-2"}),
]
UNREACHABLE = [hangs_up, hangs, drips, raw(b"bad gateway", 502), raw(b"", 503), raw(b"", 504)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(a, GatewayRefused) for a in REFUSED]
    + [(a, GatewayGarbled) for a in GARBLED]
    + [(a, GatewayUnreachable) for a in UNREACHABLE],
)
async def test_a_creation_that_fails_is_named_and_never_repeated(
    tmp_path: Path, answer: Answer, expected: type[GatewayError]
) -> None:
    """Every bad answer to a creation is one of three errors with a remedy, after one request."""
    async with peer(tmp_path, answer, VITE_IKHOKHA_TIMEOUT="300") as at:
        with pytest.raises(GatewayError) as failed:
            await at.client.create(REQUEST)
        assert type(failed.value) is expected
        assert failed.value.remedy
        assert SECRET not in str(failed.value)
        assert len(at.asked) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says({}), GatewayGarbled),
        (says([STATUS]), GatewayGarbled),
        (says({**STATUS, "paylinkID": "another"}), GatewayGarbled),
        (says({**STATUS, "amount": "49900"}), GatewayGarbled),
        (says({**STATUS, "amount": 499.5}), GatewayGarbled),
        (says({**STATUS, "amount": True}), GatewayGarbled),
        (says({**STATUS, "status": None}), GatewayGarbled),
        (says({**STATUS, "responseCode": "IK-9"}), GatewayRefused),
        (says({"message": "?"}, 404), GatewayRefused),
    ],
)
async def test_a_status_that_is_not_one_is_never_believed(
    tmp_path: Path, answer: Answer, expected: type[GatewayError]
) -> None:
    """A status answer with anything missing, of another payment or of another type is an error, asked once."""
    async with peer(tmp_path, answer) as at:
        with pytest.raises(expected):
            await at.client.status(LINK)
        assert len(at.asked) == 1


@pytest.mark.parametrize(("status", "paid"), [("PAID", True), ("SUCCESS", False), ("paid", False), ("PENDING", False)])
async def test_paid_is_the_gateways_own_word(tmp_path: Path, status: str, paid: bool) -> None:
    """Only PAID is paid; the webhook's SUCCESS is not the status' word."""
    async with peer(tmp_path, says({**STATUS, "status": status})) as at:
        assert (await at.client.status(LINK)).paid is paid


async def test_reading_is_tried_again_while_there_is_no_answer(tmp_path: Path) -> None:
    """A status is asked for as often as the settings say, with their pause, and the first answer counts."""
    answers = iter([hangs_up, raw(b"", 503), says(STATUS)])

    def in_turn(request: web.Request) -> Any:
        return next(answers)(request)

    async with peer(tmp_path, in_turn, VITE_IKHOKHA_RETRY_DELAY="250") as at:
        assert (await at.client.status(LINK)).paid
        assert (len(at.asked), at.slept) == (3, [0.25, 0.25])
    async with peer(tmp_path, hangs_up, VITE_IKHOKHA_RETRY_ATTEMPTS="2") as at:
        with pytest.raises(GatewayUnreachable):
            await at.client.status(LINK)
        assert len(at.asked) == 2


async def test_the_history_is_signed_without_its_query_and_cut_to_the_time_asked(tmp_path: Path) -> None:
    """A day more is asked for on either side, and only payments of the time asked for are returned."""
    early, at_noon, with_offset, without = (
        "2025-03-01T11:59:59.999Z",
        "2025-03-01T12:00:00.000Z",
        "2025-03-01T14:30:00+02:00",
        "2025-03-01T13:00:00",
    )
    instants = (early, at_noon, with_offset, without)
    items = [{**STATUS, "createdAt": instant, "externalTransactionID": instant} for instant in instants]
    async with peer(tmp_path, says(items)) as at:
        found = await at.client.history(DAY, DAY + timedelta(hours=1))
        assert [p.reference for p in found] == [at_noon, with_offset, without]
        [(_, path, headers, _)] = at.asked
        assert path == f"{wire.HISTORY_PATH}?startDate=2025-02-28&endDate=2025-03-02"
        assert headers[wire.HEADER_SIGN] == wire.sign(SECRET, wire.HISTORY_PATH)


@pytest.mark.parametrize("items", [{}, "x", [7], [{**STATUS, "createdAt": "yesterday"}], [STATUS, {}]])
async def test_a_history_with_one_wrong_item_is_no_history(tmp_path: Path, items: Any) -> None:
    """A list that cannot be read whole is an error, not a shorter list."""
    async with peer(tmp_path, says(items)) as at:
        with pytest.raises(GatewayGarbled):
            await at.client.history(DAY, DAY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VITE_IKHOKHA_API_KEY", ""),
        ("VITE_IKHOKHA_API_SECRET", "  "),
        ("VITE_IKHOKHA_API_SECRET", "né\n"),
        ("VITE_IKHOKHA_API_URL", ""),
        ("VITE_IKHOKHA_API_URL", "http://127.0.0.1"),
        ("VITE_IKHOKHA_API_URL", "https://user:pass@127.0.0.1"),
        ("VITE_IKHOKHA_TIMEOUT", "soon"),
    ],
)
async def test_nothing_is_sent_with_settings_that_cannot_be_right(tmp_path: Path, name: str, value: str) -> None:
    """A missing credential or an address without https is an error that names the setting, before any request."""
    async with peer(tmp_path, says(STATUS), **{name: value}) as at:
        with pytest.raises(GatewayError) as failed:
            await at.client.status(LINK)
        assert "not asked" in str(failed.value)
        assert name in failed.value.remedy
        assert at.asked == []


async def test_an_id_that_is_none_is_never_asked_for(tmp_path: Path) -> None:
    """A paylinkID from elsewhere cannot lead to another path of the API."""
    async with peer(tmp_path, says(STATUS)) as at:
        with pytest.raises(GatewayRefused):
            await at.client.status("../payments/history")
        assert at.asked == []


async def test_nobody_listening_is_unreachable() -> None:
    """A refused connection is GatewayUnreachable and names the address."""
    client = GATEWAYS["ikhokha"](
        settings("https://127.0.0.1:1"), lambda: httpx.AsyncClient(trust_env=False), Impatient([]), Contract()
    )
    with pytest.raises(GatewayUnreachable, match=r"127\.0\.0\.1:1"):
        await client.status(LINK)


def test_every_gateway_of_the_table_is_made_from_settings_and_signs_webhooks() -> None:
    """Each entry makes a gateway without touching the network, and its webhook is ready to be posted."""
    for name, make in GATEWAYS.items():
        gateway = make(
            settings=settings("https://127.0.0.1:1"), http=httpx.AsyncClient, clock=SystemClock(), contract=Contract()
        )
        webhook = gateway.webhook("/hook?x=1", LINK, "order-1", "FAILURE")
        assert json.loads(webhook.body)["status"] == "FAILURE", name
        assert wire.verify(SECRET, "/hook", webhook.body, webhook.headers["ik-sign"]).accepted
