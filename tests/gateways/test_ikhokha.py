"""The iKhokha client names every failure, and repeats nothing that takes money."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
import httpx
import pytest
from aiohttp import web

from gateways import GATEWAYS
from gateways import ikhokha_wire as wire
from gateways.ikhokha import IKhokha
from gateways.ikhokha_line import LARGEST_ANSWER
from pipeline.clock import SystemClock
from pipeline.contracts import Cents, Clock, PaymentRequest
from pipeline.errors import (
    CredentialsRefused,
    GatewayError,
    GatewayGarbled,
    GatewayRefused,
    GatewayUnreachable,
    OutcomeUnknown,
)
from pipeline.settings import Settings
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
async def peer(folder: Path, answer: Answer, told: list[str] | None = None, **changes: str) -> AsyncIterator[Peer]:
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
        yield Peer(_made(values, http, Impatient(slept), told), asked, slept)


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None
) -> AsyncIterator[str]:
    """A peer that is no HTTP server, on a free port; its connections end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await handle(reader, writer)
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def server_tls(folder: Path) -> ssl.SSLContext:
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.server, certificates.key)
    return tls


def client_of(folder: Path, base: str, **changes: str) -> IKhokha:
    """A client of `base` that trusts the authority of `folder`."""
    trust = ssl.create_default_context(cafile=authority.ensure(folder / "tls", SystemClock().now()).ca)

    def http() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=trust, trust_env=False, follow_redirects=False)

    return _made(settings(base, **changes), http, SystemClock())


def _made(
    values: Settings,
    http: Callable[[], httpx.AsyncClient],
    clock: Clock,
    told: list[str] | None = None,
    **contract: Any,
) -> IKhokha:
    tell = (told if told is not None else []).append
    made = GATEWAYS["ikhokha"](values, http, clock, Contract(**contract), tell=tell)
    assert isinstance(made, IKhokha)
    return made


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


ODD = ["x/\x1b[2J", "x/\n", "x/a b", "x/\ud800", "x/\u202e", "good@evil", "x:99999", "x/" + "a" * 2000]
"""What stands in a link that a terminal must not print, or a person not follow."""
REFUSED = [
    says({**CREATED, "responseCode": "99", "message": "no"}),
    says({k: v for k, v in CREATED.items() if k != "responseCode"}),
    raw(b"<html>", 404),
    raw(b"", 429),
    says({"responseCode": "IK-500", "message": "the callback is not public"}, 500),
]
ACCOUNT_REFUSED = [
    says({"responseCode": "IK-001", "message": "Token or Hash invalid"}, 401),
    says({"responseCode": "IK-001", "message": "Token or Hash invalid"}),
    says({"responseCode": "IK-001"}, 400),
    says({"responseCode": "\x1b[2J\ud800", "message": "\x1b[2J\ud800"}, 401),
    raw(b"", 401),
    raw(b"<html>", 403),
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
    *(says({**CREATED, "paylinkUrl": f"https://{odd}/{LINK}"}) for odd in ODD),
    says({**CREATED, "externalTransactionID": "order-2"}),
]
UNKNOWN = [
    hangs_up,
    raw(b"bad gateway", 502),
    raw(b"", 503),
    says({"responseCode": "IK-504"}, 504),
    raw(b"\xff", 500),
    says({"error": "a front's own word"}, 520),
    raw(b"", 302, {"Location": "https://xn--a./"}),
]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(a, GatewayRefused) for a in REFUSED]
    + [(a, CredentialsRefused) for a in ACCOUNT_REFUSED]
    + [(a, GatewayGarbled) for a in GARBLED]
    + [(a, OutcomeUnknown) for a in UNKNOWN],
)
async def test_a_creation_that_fails_is_named_and_never_repeated(
    tmp_path: Path, answer: Answer, expected: type[GatewayError]
) -> None:
    """Every bad answer to a creation is one of four errors with a remedy, after one request."""
    async with peer(tmp_path, answer) as at:
        with pytest.raises(GatewayError) as failed:
            await at.client.create(REQUEST)
        assert type(failed.value) is expected
        assert failed.value.remedy
        assert ("what became of the reference" in failed.value.remedy) is (expected in (GatewayGarbled, OutcomeUnknown))
        assert SECRET not in str(failed.value) + failed.value.remedy
        assert str(failed.value).isprintable()
        assert len(at.asked) == 1
        assert at.slept == []


@pytest.mark.parametrize("answer", [hangs, drips])
async def test_a_gateway_that_never_ends_its_answer_holds_nobody_up(tmp_path: Path, answer: Answer) -> None:
    """When the time of the settings is over the outcome is unknown, unless nothing had been sent by then."""
    async with peer(tmp_path, answer, VITE_IKHOKHA_TIMEOUT="300") as at:
        with pytest.raises(GatewayUnreachable) as failed:
            await at.client.create(REQUEST)
        assert isinstance(failed.value, OutcomeUnknown) or (at.asked == [] and "not sent" in str(failed.value))
        assert len(at.asked) <= 1


def packed(content: bytes) -> bytes:
    """As gzip, without the time: tests are named by what they send, the same in every process."""
    return gzip.compress(content, mtime=0)


BYTES = [
    (b"", OutcomeUnknown),
    (b"220 mail.example.com ESMTP\r\n", OutcomeUnknown),
    (b"\x00" * 4096, OutcomeUnknown),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{", OutcomeUnknown),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", OutcomeUnknown),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", OutcomeUnknown),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, OutcomeUnknown),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", GatewayRefused),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packed(bytes(20_000_000)), GatewayGarbled),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packed(b"{}"), GatewayRefused),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\n\r\n" + packed(packed(b"{}")), GatewayGarbled),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n" + brotli.compress(bytes(20_000_000)), GatewayGarbled),
]


@pytest.mark.parametrize("reads_first", [True, False])
@pytest.mark.parametrize(("answer", "expected"), BYTES)
async def test_whatever_bytes_come_back_the_error_says_what_is_known(
    tmp_path: Path, answer: bytes, expected: type[GatewayError], reads_first: bool
) -> None:
    """A connection lost before or after the request was read, garbage and a bomb are named, after one request."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if reads_first:
            await reader.readuntil(b'"}}')
        writer.write(answer)
        await _closed(writer)

    async with listening(handle, server_tls(tmp_path)) as base:
        with pytest.raises(GatewayError) as failed:
            await client_of(tmp_path, base).create(REQUEST)
    if reads_first:
        assert type(failed.value) is expected
        too_large = b": gzip\r\n" in answer and expected is GatewayGarbled
        assert (f"more than {LARGEST_ANSWER} bytes" in str(failed.value)) is too_large
    else:
        # A peer that closes with our bytes unread resets the connection, and may take its own answer back so.
        assert type(failed.value) in (expected, OutcomeUnknown)
    assert connections == 1


@pytest.mark.parametrize("greets", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
async def test_a_creation_that_never_left_has_no_unknown_outcome(tmp_path: Path, greets: bytes | None) -> None:
    """A peer that closes, talks plainly or says nothing before TLS was given nothing: that is told, and why."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greets is None:
            await asyncio.sleep(3600)
        writer.write(greets or b"")
        await _closed(writer)

    async with listening(handle, None) as base:
        with pytest.raises(GatewayUnreachable, match="not sent") as failed:
            await client_of(tmp_path, base, VITE_IKHOKHA_TIMEOUT="300").create(REQUEST)
    assert type(failed.value) is GatewayUnreachable


async def test_a_gateway_with_another_authority_is_sent_nothing(tmp_path: Path) -> None:
    """A certificate that does not chain to the environment's CA ends the attempt before anything is sent."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read())
        await _closed(writer)

    async with listening(handle, server_tls(tmp_path / "other")) as base:
        with pytest.raises(GatewayUnreachable, match="CERTIFICATE_VERIFY_FAILED") as failed:
            await client_of(tmp_path, base).create(REQUEST)
    assert type(failed.value) is GatewayUnreachable
    assert seen in ([], [b""])


# ---- what became of it ---------------------------------------------------------------------------------------


async def test_an_unknown_outcome_is_settled_by_asking(tmp_path: Path) -> None:
    """After a creation without an answer the reference leads to the payment, also when it appears a little later."""
    unknown = says({"responseCode": "IK-404", "message": "no such payment"}, 404)
    answers = iter([hangs_up, unknown, hangs_up, says(STATUS)])

    def in_turn(request: web.Request) -> Any:
        return next(answers)(request)

    async with peer(tmp_path, in_turn) as at:
        with pytest.raises(OutcomeUnknown):
            await at.client.create(REQUEST)
        found = await at.client.settle("order-1")
        assert found is not None
        assert (found.link_id, found.reference, found.paid) == (LINK, "order-1", True)
        assert [(method, path.partition("?")[2]) for method, path, _, _ in at.asked] == [("POST", "")] + [
            ("GET", "externalReference=order-1")
        ] * 3
        assert at.asked[-1][2][wire.HEADER_SIGN] == wire.sign(SECRET, wire.STATUS_EXTERNAL_PATH)


async def test_no_payment_is_said_only_by_the_gateway_itself(tmp_path: Path) -> None:
    """None after as many tries as the settings say; a 404 that is no JSON, or another reference's payment, is none."""
    async with peer(tmp_path, says({"message": "no such payment"}, 404), VITE_IKHOKHA_RETRY_DELAY="250") as at:
        assert await at.client.settle("a&b=c/é") is None
        assert at.slept == [0.25, 0.25]
        assert {path for _, path, _, _ in at.asked} == {
            f"{wire.STATUS_EXTERNAL_PATH}?externalReference=a%26b%3Dc%2F%C3%A9"
        }
        with pytest.raises(GatewayRefused, match="not asked"):
            await at.client.settle("")
    for answer, expected in (
        (raw(b"<html>no such page", 404), GatewayRefused),
        (says({**STATUS, "externalTransactionID": "order-2"}), GatewayGarbled),
        (says({"responseCode": "IK-001"}, 401), CredentialsRefused),
        (hangs_up, GatewayUnreachable),
    ):
        async with peer(tmp_path, answer) as at:
            with pytest.raises(expected):
                await at.client.settle("order-1")


# ---- reading -------------------------------------------------------------------------------------------------


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
        (says({"responseCode": "IK-001"}, 401), CredentialsRefused),
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
    """A status is asked for as often as the settings say, their pause doubling, and the first answer counts."""
    answers = iter([hangs_up, raw(b"", 503), says(STATUS)])

    def in_turn(request: web.Request) -> Any:
        return next(answers)(request)

    async with peer(tmp_path, in_turn, VITE_IKHOKHA_RETRY_DELAY="250") as at:
        assert (await at.client.status(LINK)).paid
        assert len(at.asked) == 3
        assert 0.125 <= at.slept[0] <= 0.375 and 0.25 <= at.slept[1] <= 0.75 and len(at.slept) == 2
    async with peer(tmp_path, hangs_up, VITE_IKHOKHA_RETRY_ATTEMPTS="2") as at:
        with pytest.raises(GatewayUnreachable):
            await at.client.status(LINK)
        assert len(at.asked) == 2


def refuses_for(seconds: str, status: int) -> Answer:
    def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="{}", headers={"Retry-After": seconds})

    return refuse


def then(*answers: Answer) -> Answer:
    """Each once, in turn."""
    waiting = iter(answers)

    def answer(request: web.Request) -> Any:
        return next(waiting)(request)

    return answer


@pytest.mark.parametrize("status", [429, 503])
async def test_a_reading_waits_as_long_as_the_gateway_asks(tmp_path: Path, status: int) -> None:
    """`Retry-After` of a 429 or 503 is waited for, and the reading asked again; the console is told."""
    told: list[str] = []
    async with peer(tmp_path, then(refuses_for("17", status), says(STATUS)), told=told) as at:
        assert (await at.client.status(LINK)).paid
        assert len(at.asked) == 2
        assert 17 <= at.slept[0] < 18 and len(at.slept) == 1
    (line,) = told
    assert str(status) in line and re.search(r"asked again in 1[78]\.", line) and "(attempt 2 of 3)" in line


@pytest.mark.parametrize(
    ("seconds", "status", "expected"),
    [("3600", 503, GatewayUnreachable), ("3600", 429, GatewayRefused), ("soon", 429, GatewayRefused)],
)
async def test_who_asks_for_longer_than_a_minute_is_not_waited_for(
    tmp_path: Path, seconds: str, status: int, expected: type[GatewayError]
) -> None:
    """A long `Retry-After`, or an unreadable one of a 429, ends the reading at once with what was answered."""
    async with peer(tmp_path, refuses_for(seconds, status)) as at:
        with pytest.raises(expected):
            await at.client.status(LINK)
        assert (len(at.asked), at.slept) == (1, [])


@pytest.mark.parametrize("answer", [hangs_up, refuses_for("1", 503), refuses_for("1", 429)])
async def test_a_creation_is_sent_once_whatever_the_gateway_asks_for(tmp_path: Path, answer: Answer) -> None:
    """No `Retry-After` and no lost connection makes a second payment: the server counts one POST."""
    async with peer(tmp_path, answer) as at:
        with pytest.raises(GatewayError):
            await at.client.create(REQUEST)
        assert [(method, path) for method, path, _, _ in at.asked] == [("POST", wire.PAYMENT_PATH)]
        assert at.slept == []


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
        ("VITE_IKHOKHA_API_URL", "https://127.0.0.1:99999"),
        ("VITE_IKHOKHA_API_URL", "https://xn--a."),
        ("VITE_IKHOKHA_TIMEOUT", "soon"),
        ("VITE_IKHOKHA_TIMEOUT", "0"),
    ],
)
async def test_nothing_is_sent_with_settings_that_cannot_be_right(tmp_path: Path, name: str, value: str) -> None:
    """A missing credential or an address without https is an error that names the setting, before any request."""
    async with peer(tmp_path, says(STATUS), **{name: value}) as at:
        with pytest.raises(GatewayError) as failed:
            await at.client.create(REQUEST)
        assert not isinstance(failed.value, OutcomeUnknown)
        assert isinstance(failed.value, CredentialsRefused) is name.endswith(("KEY", "SECRET"))
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


def test_a_gateway_signs_by_the_scheme_of_the_contract() -> None:
    """With Standard Webhooks the webhook carries a time stamp, and without its secret nothing is signed."""
    for secrets in (SECRET, f"whsec_{'QUJD' * 8} {SECRET}"):
        values = settings("https://127.0.0.1:1", VITE_IKHOKHA_WEBHOOK_SECRET=secrets)
        gateway = _made(values, httpx.AsyncClient, SystemClock(), webhook_scheme="standard-webhooks")
        webhook = gateway.webhook("/hook", LINK, "order-1", "SUCCESS")
        now = SystemClock().now()
        assert gateway.scheme.verify("/hook", webhook.body, webhook.headers, at=now).body == webhook.body
        assert not gateway.scheme.verify("/hook", webhook.body, webhook.headers, at=now + timedelta(hours=1)).accepted
    for broken, why in (("", "no secret"), (" ", "no secret"), ("whsec_", "empty secret"), ("whsec_*", "base64")):
        values = settings("https://127.0.0.1:1", VITE_IKHOKHA_WEBHOOK_SECRET=broken)
        gateway = _made(values, httpx.AsyncClient, SystemClock(), webhook_scheme="standard-webhooks")
        with pytest.raises(CredentialsRefused, match=f"not signed: .*{why}"):
            gateway.webhook("/hook", LINK, "order-1", "SUCCESS")
