"""The line to iKhokha's API: one signed request, one answer, or the error that says how far the request came."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import httpx

from gateways import ikhokha_answers as answers
from gateways import ikhokha_wire as wire
from gateways.ikhokha_answers import API_KEY, API_SECRET, API_URL, SEE_SETTINGS, Answer
from pipeline import retry_after
from pipeline.contracts import Clock
from pipeline.errors import CredentialsRefused, GatewayGarbled, GatewayRefused, GatewayUnreachable, OutcomeUnknown
from pipeline.retry_after import http_date

if TYPE_CHECKING:
    from pipeline.settings import Settings

TIMEOUT = "VITE_IKHOKHA_TIMEOUT"
LARGEST_ANSWER = 16_000_000
"""Bytes; a longer answer is garbled. A history of a hundred thousand payments fits."""
SEE_STATUS = "A link may exist all the same: ask what became of the reference before anything is sent again."

_GZIP = zlib.MAX_WBITS | 16
_NO_ANSWER_FROM = frozenset({502, 503, 504})
"""Sent by what stands in front of the gateway, or by one that is overloaded: nothing is known about the effect."""


@dataclass
class _Journey:
    """One request, and how far it came. `stayed`: it is known that not a byte of it was sent.

    Without an answer it is GatewayUnreachable where nothing can have been made, else OutcomeUnknown.
    """

    asked: str
    creates: bool
    stayed: bool = False

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.stayed = True
        elif event.endswith(".send_request_headers.started"):
            self.stayed = False

    def unanswered(self, what: str) -> GatewayUnreachable:
        if self.stayed:
            return GatewayUnreachable(f"{self.asked}: not sent; {what}", SEE_SETTINGS)
        if self.creates:
            return OutcomeUnknown(f"{self.asked}: {what}", SEE_STATUS)
        return GatewayUnreachable(f"{self.asked}: {what}", SEE_SETTINGS)


class Line:
    """Signs with the account that the settings name, each time anew. Nothing is tried twice."""

    def __init__(self, settings: Settings, http: Callable[[], httpx.AsyncClient], clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock

    async def ask(self, method: str, path: str, *, body: str = "", query: Mapping[str, str] | None = None) -> Answer:
        """Whatever the gateway itself answered, refusals too. A POST is taken to create something. See _Journey."""
        base = self._base()
        key, secret = self.account()
        asked = f"{method} {base}{path}"
        headers = {wire.HEADER_APP: key, wire.HEADER_SIGN: wire.sign(secret, path, body), "Accept": "application/json"}
        headers["Accept-Encoding"] = "identity"
        if body:
            headers["Content-Type"] = "application/json"
        url = base + path + (f"?{urlencode(query)}" if query else "")
        limit = self._limit()
        journey = _Journey(asked, creates=method == "POST")
        # Connecting has its own limit, well within the whole: a handshake that is cancelled leaves its socket open.
        timeout = httpx.Timeout(limit, connect=limit / 3)
        options: dict[str, Any] = {"timeout": timeout, "extensions": {"trace": journey.trace}}
        try:
            # httpx limits each read, not the whole: a gateway that drips bytes would hold us for ever.
            async with asyncio.timeout(limit), self._http() as client:
                request = client.stream(method, url, content=body.encode() or None, headers=headers, **options)
                async with request as response:
                    body_read = await _bounded(asked, response)
                    answer = Answer(asked, response.status_code, body_read, self._asked_for(response))
        except TimeoutError:
            raise journey.unanswered(f"no whole answer within {limit:g} s ({TIMEOUT})") from None
        except zlib.error as error:
            raise GatewayGarbled(f"{asked}: an answer that cannot be unpacked ({error})", SEE_SETTINGS) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: a redirect to no host name
            raise journey.unanswered(f"no answer ({type(error).__name__}: {error})") from error
        if answer.status in _NO_ANSWER_FROM or (answer.status >= 500 and not answers.is_refusal(answer)):
            no_answer = journey.unanswered(f"no answer from the gateway itself (HTTP {answer.status})")
            no_answer.retry_after_s = answer.retry_after_s
            raise no_answer
        return answer

    def _asked_for(self, response: httpx.Response) -> float | None:
        """The seconds of `Retry-After`, None where it is missing or unreadable; a date counts from the answer's own."""
        now = http_date(response.headers.get("Date", ""), self._clock.now()) or self._clock.now()
        return retry_after.parse(response.headers.get("Retry-After"), now).seconds

    def _base(self) -> str:
        base = self._settings.text(API_URL).strip().rstrip("/")
        if not re.fullmatch(r"https://[^\s/?#@]+", base) or not _is_address(base):
            raise GatewayUnreachable(
                f"not asked: {API_URL} is {base[:80]!r}; an https address without path is allowed",
                f"Set {API_URL}, e.g. https://api.ikhokha.com.",
            )
        return base

    def _limit(self) -> float:
        """The time limit of one request, in s. Raises GatewayRefused for none."""
        milliseconds = self.number(TIMEOUT, 45000)
        if not milliseconds:
            raise GatewayRefused(f"not asked: {TIMEOUT} is 0; milliseconds are expected", f"Set {TIMEOUT}, e.g. 45000.")
        return milliseconds / 1000

    def account(self) -> tuple[str, str]:
        """Application ID and Secret. Raises CredentialsRefused, which names the setting, for half an account."""
        key, secret = self._settings.text(API_KEY).strip(), self._settings.text(API_SECRET).strip()
        for name, value, what in ((API_KEY, key, "API key"), (API_SECRET, secret, "API secret")):
            if not value or not value.isascii() or not value.isprintable():
                raise CredentialsRefused(
                    f"not asked: {what} invalid or missing ({name})", f"Set {name} to the value of the dashboard."
                )
        return key, secret

    def number(self, name: str, default: int) -> int:
        """A setting of digits, `default` when it is empty. Raises GatewayRefused for anything else."""
        text = self._settings.text(name).strip()
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise GatewayRefused(f"not asked: {name} is {text[:40]!r}; digits are allowed", f"Set {name} to a number.")
        return int(text)


def _is_address(base: str) -> bool:
    try:
        return urlsplit(base).port != 0 and bool(httpx.URL(base).host)
    except (ValueError, httpx.InvalidURL):
        return False


async def _bounded(asked: str, response: httpx.Response) -> bytes:
    """The answer, plain or as gzip. Never unpacks more than is allowed: a few hundred bytes may hold gigabytes."""
    body = bytearray()
    packed = response.headers.get("Content-Encoding", "").strip().lower() == "gzip"
    unpacker = zlib.decompressobj(_GZIP) if packed else None
    async for chunk in response.aiter_raw():
        body += unpacker.decompress(chunk, LARGEST_ANSWER + 1 - len(body)) if unpacker else chunk
        if len(body) > LARGEST_ANSWER:
            raise GatewayGarbled(f"{asked}: an answer of more than {LARGEST_ANSWER} bytes", SEE_SETTINGS)
    return bytes(body)
