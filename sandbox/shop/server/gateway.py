"""The signed iKhokha client: one request, one answer, and what is known after a failure.

GatewayError
|-- NotSent         the request never left: it has no effect
|-- Refused         the gateway answered with a refusal: it has no effect
|   `-- NotFound    it does not know the payment
`-- NoAnswer        nothing is known about the effect
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from . import ikhokha_wire as wire
from .config import WEBHOOK_PATH, Config

FAILED_WORDS = frozenset({"FAILED", "FAILURE", "DECLINED"})
"""Assumption: the words for a payment that failed are not public. Any other word than PAID means: not yet; a
customer who cancelled may come back, and is no failed payment."""

_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_ANSWER = 16_000_000
_CONNECT_WITHIN_S = 3.0
_KEPT_S = 5.0


class GatewayError(Exception):
    """The message is for our own log: it never holds a secret."""


class NotSent(GatewayError):
    pass


class Refused(GatewayError):
    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class NotFound(Refused):
    pass


class NoAnswer(GatewayError):
    pass


@dataclass(frozen=True)
class Link:
    id: str
    url: str


@dataclass(frozen=True)
class Status:
    """What the gateway says of a payment; `cents` is None where it names no whole amount. `test`: no money moved."""

    link_id: str
    word: str
    cents: int | None
    test: bool = False

    @property
    def paid(self) -> bool:
        return self.word == wire.PAID and not self.test

    @property
    def failed(self) -> bool:
        return self.word in FAILED_WORDS


@dataclass(frozen=True)
class Addresses:
    """What the gateway is told of the shop with a payment."""

    home: str
    callback: str
    success: str
    failure: str
    cancel: str


def own_addresses(home: str, reference: str) -> Addresses:
    return Addresses(
        home,
        f"{home}{WEBHOOK_PATH}",
        *(f"{home}/{page}?reference={reference}" for page in ("success", "failure", "cancel")),
    )


class GatewayClient:
    """A creation is sent once, and whoever calls decides whether to ask anything again."""

    def __init__(self, config: Config, http: aiohttp.ClientSession) -> None:
        self._config = config
        self._http = http

    async def create(
        self, reference: str, cents: int, description: str, addresses: Addresses, *, test: bool = False
    ) -> Link:
        """Makes a pay link, in test mode where `test` or the settings say so. After NoAnswer one may exist."""
        body = wire.serialise(
            {
                "entityID": self._config.app_id,
                "amount": cents,
                "currency": "ZAR",
                "requesterUrl": addresses.home,
                "mode": "test" if test or self._config.test_mode else "live",
                "description": description,
                "paymentReference": reference,
                "externalTransactionID": reference,
                "urls": {
                    "callbackUrl": addresses.callback,
                    "successPageUrl": addresses.success,
                    "failurePageUrl": addresses.failure,
                    "cancelUrl": addresses.cancel,
                },
            }
        )
        answer = _object(await self._send("POST", wire.PAYMENT_PATH, body=body, timeout_s=self._config.timeout_s))
        url, link_id = answer.get("paylinkUrl"), answer.get("paylinkID")
        if not isinstance(link_id, str) or not _LINK_ID.fullmatch(link_id) or not _is_https(url):
            raise NoAnswer("create: accepted, without a usable paylinkUrl and paylinkID")
        if answer.get("externalTransactionID", reference) != reference:
            raise NoAnswer("create: the answer speaks of another reference")
        return Link(link_id, str(url))

    async def status(self, link_id: str, timeout_s: float) -> Status:
        """What the gateway says of one paylink."""
        return _status(_object(await self._send("GET", f"{wire.STATUS_PATH}/{link_id}", timeout_s=timeout_s)))

    async def status_of(self, reference: str, timeout_s: float) -> Status:
        """What the gateway says of our own reference, for an order whose paylink we never learned."""
        query = {"externalReference": reference}
        return _status(_object(await self._send("GET", wire.STATUS_EXTERNAL_PATH, query=query, timeout_s=timeout_s)))

    async def paid_links(self, since: date, until: date, timeout_s: float) -> frozenset[str]:
        """The paylinks of these days that the gateway's history calls paid. Paging is unknown: it may be short."""
        query = {"startDate": since.isoformat(), "endDate": until.isoformat()}
        rows = await self._send("GET", wire.HISTORY_PATH, query=query, timeout_s=timeout_s)
        if not isinstance(rows, list):
            raise NoAnswer("history: a list is expected")
        return frozenset(
            row["paylinkID"]
            for row in rows
            if isinstance(row, dict) and row.get("status") == wire.PAID and isinstance(row.get("paylinkID"), str)
            if row.get("mode") != "test"
        )

    async def answers(self, timeout_s: float) -> None:
        """Asks for a payment that does not exist; returns when the gateway answers and takes our signature."""
        try:
            await self.status("0" * 15, timeout_s)
        except Refused as refused:
            if refused.code == wire.BAD_SIGNATURE:
                raise

    async def _send(
        self, method: str, path: str, *, timeout_s: float, body: str = "", query: dict[str, str] | None = None
    ) -> Any:
        base = self._config.gateway_url
        headers = {
            wire.HEADER_APP: self._config.app_id,
            wire.HEADER_SIGN: wire.sign(self._config.api_secret, urlsplit(base).path + path, body),
        }
        if body:
            headers["Content-Type"] = "application/json"
        # These very bytes: what was signed must not be quoted anew.
        url = URL(base + path + (f"?{urlencode(query)}" if query else ""), encoded=True)
        what = f"{method} {path}"
        connecting = aiohttp.ClientTimeout(total=None, connect=min(_CONNECT_WITHIN_S, timeout_s / 2))
        options: dict[str, Any] = {"headers": headers, "timeout": connecting, "allow_redirects": False}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.request(method, url, data=body.encode() or None, **options) as response,
            ):
                return _judged(what, response.status, await _bounded(what, response))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise NotSent(f"{what}: no connection ({type(error).__name__})") from None
        except TimeoutError:
            raise NoAnswer(f"{what}: no whole answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(f"{what}: no answer ({type(error).__name__})") from None


def new_client(config: Config) -> aiohttp.ClientSession:
    """Trusts the CA file of the environment, or the system's; keeps no cookies, reads no proxy variable.

    To be called where an event loop runs. A POST is sent once; a GET that met a connection just closed, once more.
    """
    trust = ssl.create_default_context(cafile=config.ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust, limit=100, keepalive_timeout=_KEPT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "shop"},
        auto_decompress=False,
        trust_env=False,
    )


async def _bounded(what: str, response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _LARGEST_ANSWER:
            raise NoAnswer(f"{what}: an answer of more than {_LARGEST_ANSWER} bytes")
    return bytes(content)


def _judged(what: str, status: int, content: bytes) -> Any:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    found = answer.get("responseCode", answer.get("code")) if isinstance(answer, dict) else None
    code = str(found)[:40] if found is not None else ""
    if status == 404 and isinstance(answer, dict):  # an error page of what stands before it is not its word
        raise NotFound(f"{what}: unknown to the gateway", code)
    if status == 404:
        raise NoAnswer(f"{what}: HTTP 404 without the gateway's own word")
    if 400 <= status < 500 or (200 <= status < 300 and code not in ("", wire.OK)):
        raise Refused(f"{what}: refused, HTTP {status}, code {code or 'none'}", code)
    if not 200 <= status < 300 or answer is None:
        raise NoAnswer(f"{what}: HTTP {status} without a usable answer")
    return answer


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise NoAnswer("an object is expected")
    return answer


def _status(answer: dict[str, Any]) -> Status:
    link_id, word, cents = answer.get("paylinkID"), answer.get("status"), answer.get("amount")
    if not isinstance(link_id, str) or not _LINK_ID.fullmatch(link_id) or not isinstance(word, str):
        raise NoAnswer("a status answer without paylinkID and status")
    return Status(link_id, word, cents if type(cents) is int else None, answer.get("mode") == "test")


def _is_https(url: object) -> bool:
    if not isinstance(url, str) or len(url) > 2000 or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        return False
