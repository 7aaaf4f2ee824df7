"""The iKhokha client: signed requests over httpx, every answer judged, every failure named.

What is not answered is GatewayUnreachable, a refusal is GatewayRefused (also HTTP 200 with a `responseCode` other
than "00"), and whatever is not the protocol is GatewayGarbled.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx

from gateways import ikhokha_wire as wire
from pipeline.contracts import Cents, Clock, GatewayPayment, PayLink, PaymentRequest, SignedWebhook, SigningScheme
from pipeline.errors import GatewayGarbled, GatewayRefused, GatewayUnreachable

if TYPE_CHECKING:
    from pipeline.settings import Settings

T = TypeVar("T")

API_URL = "VITE_IKHOKHA_API_URL"
API_KEY = "VITE_IKHOKHA_API_KEY"
API_SECRET = "VITE_IKHOKHA_API_SECRET"
TEST_MODE = "VITE_IKHOKHA_TEST_MODE"
TIMEOUT = "VITE_IKHOKHA_TIMEOUT"
RETRY_ATTEMPTS = "VITE_IKHOKHA_RETRY_ATTEMPTS"
RETRY_DELAY = "VITE_IKHOKHA_RETRY_DELAY"

LARGEST_ANSWER = 16_000_000
"""Bytes; a longer answer is garbled. A history of a hundred thousand payments fits."""

_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_ANSWER_FROM = frozenset({502, 503, 504})
"""Sent by what stands in front of the gateway, or by one that is overloaded: nothing is known about the effect."""
_SEE_STATUS = "The outcome is unknown; ask for the payment's status before anything is sent again."
_SEE_SETTINGS = f"Check {API_URL}, the network and the gateway's own status page, then run again."


@dataclass(frozen=True)
class _Answer:
    asked: str
    status: int
    body: bytes


class IKhokha:
    """Implements contracts.Gateway for one account, as the settings name it.

    `http` makes clients that trust the environment's CA and follow no redirect. Reading requests are tried
    VITE_IKHOKHA_RETRY_ATTEMPTS times in all while there is no answer; creating ones once, always.
    """

    def __init__(
        self, settings: Settings, http: Callable[[], httpx.AsyncClient], clock: Clock, scheme: SigningScheme
    ) -> None:
        self.scheme = scheme
        self._settings = settings
        self._http = http
        self._clock = clock

    async def create(self, request: PaymentRequest) -> PayLink:
        """Makes a pay link. Never retried; GatewayUnreachable means that a link may exist all the same."""
        mode = "test" if self._settings.text(TEST_MODE).strip().lower() == "true" else "live"
        body = wire.serialise(
            {
                "entityID": self._settings.text(API_KEY).strip(),
                "amount": int(request.amount),
                "currency": "ZAR",
                "requesterUrl": request.requester_url,
                "mode": mode,
                "description": request.description,
                "paymentReference": request.reference,
                "externalTransactionID": request.reference,
                "urls": {
                    "callbackUrl": request.callback_url,
                    "successPageUrl": request.success_url,
                    "failurePageUrl": request.failure_url,
                    "cancelUrl": request.cancel_url,
                },
            }
        )
        answer = await self._send("POST", wire.PAYMENT_PATH, body=body, remedy=_SEE_STATUS)
        return _link(answer, _accepted(answer, code_required=True), request.reference)

    async def status(self, link_id: str) -> GatewayPayment:
        """What the gateway says of one payment. Raises GatewayRefused with status 404 for one it does not know."""
        if not _LINK_ID.fullmatch(link_id):
            raise GatewayRefused(
                f"not asked: {link_id[:80]!r} is no paylinkID", "Use the ID the gateway gave.", status=404
            )
        answer = await self._read(f"{wire.STATUS_PATH}/{link_id}")
        payment = _payment(answer, _accepted(answer))
        if payment.link_id != link_id:
            raise _garbled(answer, f"it speaks of payment {payment.link_id[:80]!r}")
        return payment

    async def history(self, since: datetime, until: datetime) -> Sequence[GatewayPayment]:
        """The payments created from `since` to `until`, both inclusive and aware, as the gateway lists them.

        The gateway is asked by day, in a time zone it does not state: a day more is asked for on either side.
        """
        day = timedelta(days=1)
        query = {"startDate": f"{since - day:%Y-%m-%d}", "endDate": f"{until + day:%Y-%m-%d}"}
        answer = await self._read(wire.HISTORY_PATH, query)
        items = _accepted(answer)
        if not isinstance(items, list):
            raise _garbled(answer, "a list of payments is expected")
        payments = [_payment(answer, item) for item in items]
        return [p for p in payments if since <= _instant(answer, p.created) <= until]

    def webhook(self, path: str, link_id: str, reference: str, status: str) -> SignedWebhook:
        self._account()  # refuses to sign with half an account
        body = wire.webhook_text(link_id, reference, status).encode()
        return self.scheme.sign(path.partition("?")[0], body, at=self._clock.now())

    async def _read(self, path: str, query: Mapping[str, str] | None = None) -> _Answer:
        tries = max(1, self._number(RETRY_ATTEMPTS, 3))
        delay = self._number(RETRY_DELAY, 2000) / 1000
        return await self._patiently(lambda: self._send("GET", path, query=query, remedy=_SEE_SETTINGS), tries, delay)

    async def _patiently(self, ask: Callable[[], Awaitable[T]], tries: int, delay: float) -> T:
        for _ in range(tries - 1):
            try:
                return await ask()
            except GatewayUnreachable:
                await self._clock.sleep(delay)
        return await ask()

    async def _send(
        self, method: str, path: str, *, body: str = "", query: Mapping[str, str] | None = None, remedy: str
    ) -> _Answer:
        base = self._base()
        key, secret = self._account()
        asked = f"{method} {base}{path}"
        headers = {wire.HEADER_APP: key, wire.HEADER_SIGN: wire.sign(secret, path, body), "Accept": "application/json"}
        if body:
            headers["Content-Type"] = "application/json"
        url = base + path + (f"?{urlencode(query)}" if query else "")
        limit = self._number(TIMEOUT, 45000) / 1000
        try:
            # httpx limits each read, not the whole: a gateway that drips bytes would hold us for ever.
            async with asyncio.timeout(limit), self._http() as client:
                request = client.stream(method, url, content=body.encode() or None, headers=headers, timeout=limit)
                async with request as response:
                    answer = _Answer(asked, response.status_code, await _bounded(asked, response))
        except TimeoutError:
            raise GatewayUnreachable(f"{asked}: no whole answer within {limit:g} s ({TIMEOUT})", remedy) from None
        except httpx.DecodingError as error:
            raise GatewayGarbled(f"{asked}: an answer that cannot be decoded ({error})", _SEE_SETTINGS) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GatewayUnreachable(f"{asked}: no answer ({type(error).__name__}: {error})", remedy) from error
        if answer.status in _NO_ANSWER_FROM:
            raise GatewayUnreachable(f"{asked}: no answer from the gateway itself (HTTP {answer.status})", remedy)
        return answer

    def _base(self) -> str:
        base = self._settings.text(API_URL).strip().rstrip("/")
        if not re.fullmatch(r"https://[^\s/?#@]+", base):
            raise GatewayUnreachable(
                f"not asked: {API_URL} is {base[:80]!r}; an https address without path is allowed",
                f"Set {API_URL}, e.g. https://api.ikhokha.com.",
            )
        return base

    def _account(self) -> tuple[str, str]:
        key, secret = self._settings.text(API_KEY).strip(), self._settings.text(API_SECRET).strip()
        for name, value, what in ((API_KEY, key, "API key"), (API_SECRET, secret, "API secret")):
            if not value or not value.isascii() or not value.isprintable():
                raise GatewayRefused(
                    f"not asked: {what} invalid or missing ({name})", f"Set {name} to the value of the dashboard."
                )
        return key, secret

    def _number(self, name: str, default: int) -> int:
        text = self._settings.text(name).strip()
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise GatewayRefused(f"not asked: {name} is {text[:40]!r}; digits are allowed", f"Set {name} to a number.")
        return int(text)


async def _bounded(asked: str, response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise GatewayGarbled(f"{asked}: an answer of more than {LARGEST_ANSWER} bytes", _SEE_SETTINGS)
    return bytes(body)


def _accepted(answer: _Answer, *, code_required: bool = False) -> Any:
    """The answer's JSON, if it is a success. A refusal of any shape raises GatewayRefused."""
    if answer.status >= 400:
        raise _refused(answer, _as_object(answer.body))
    if answer.status not in (200, 201):
        raise _garbled(answer, "200 is expected")
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _garbled(answer, f"JSON is expected, found {answer.body[:60]!r}") from None
    if isinstance(value, dict) and value.get("responseCode", None if code_required else wire.OK) != wire.OK:
        raise _refused(answer, value)
    return value


def _link(answer: _Answer, value: Any, reference: str) -> PayLink:
    if not isinstance(value, dict):
        raise _garbled(answer, "a JSON object is expected")
    link_id, url = value.get("paylinkID"), value.get("paylinkUrl")
    if not isinstance(link_id, str) or not _LINK_ID.fullmatch(link_id):
        raise _garbled(answer, "`paylinkID` is missing or malformed")
    if not isinstance(url, str) or not _leads_to(url, link_id):
        raise _garbled(answer, "`paylinkUrl` is not an https link that ends in the paylinkID")
    if value.get("externalTransactionID", reference) != reference:
        raise _garbled(answer, "`externalTransactionID` is another one than was sent")
    return PayLink(link_id, url)


def _leads_to(url: str, link_id: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.path.rsplit("/", 1)[-1] == link_id
    except ValueError:
        return False


def _payment(answer: _Answer, value: Any) -> GatewayPayment:
    """One payment of a status or history answer. A status answer names no reference: '' then."""
    if not isinstance(value, dict):
        raise _garbled(answer, "a payment is a JSON object")
    texts = {name: value.get(name) for name in ("paylinkID", "status", "createdAt")}
    missing = [name for name, text in texts.items() if not isinstance(text, str) or not text]
    amount = value.get("amount")
    if not isinstance(amount, int) or isinstance(amount, bool):
        missing.append("amount")
    reference = value.get("externalTransactionID", "")
    if not isinstance(reference, str):
        missing.append("externalTransactionID")
    if missing:
        raise _garbled(answer, f"of a payment, missing or malformed: {', '.join(missing)}")
    return GatewayPayment(
        link_id=str(texts["paylinkID"]),
        reference=str(reference),
        amount=Cents(int(amount or 0)),
        status=str(texts["status"]),
        paid=texts["status"] == wire.PAID,
        created=str(texts["createdAt"]),
    )


def _instant(answer: _Answer, text: str) -> datetime:
    """Assumption: an instant without offset is UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise _garbled(answer, f"`createdAt` {text[:40]!r} is not an ISO 8601 instant") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _as_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refused(answer: _Answer, value: Mapping[str, Any]) -> GatewayRefused:
    code, message = str(value.get("responseCode", ""))[:20], str(value.get("message", ""))[:200]
    said = f"HTTP {answer.status}, responseCode {code or 'none'}" + (f", {message!r}" if message else "")
    if code == wire.BAD_SIGNATURE or answer.status in (401, 403):
        remedy = f"Check {API_KEY} and {API_SECRET}: they must be the Application ID and Secret of one account."
    elif answer.status == 404:
        remedy = f"Check that {API_URL} is the gateway that made this payment."
    else:
        remedy = "Compare the request with the gateway's documentation; its answer names what it did not accept."
    return GatewayRefused(f"{answer.asked}: refused ({said})", remedy, status=answer.status, code=code)


def _garbled(answer: _Answer, what: str) -> GatewayGarbled:
    return GatewayGarbled(
        f"{answer.asked}: answered HTTP {answer.status} with something that is not the protocol: {what}", _SEE_SETTINGS
    )
