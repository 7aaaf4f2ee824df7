"""No request gives a 5xx, at the sandbox's shop and at its gateway."""

from __future__ import annotations

import itertools
import json
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import HealthCheck, example, given, settings

from gateways import ikhokha_wire as wire
from tests.fuzz.requests import Message, Route, answered, messages, sources
from tests.probes.shop_rig import ShopRig, shop, till
from tests.sandbox.gateway_rig import Rig

GATEWAY_TRIES, SHOP_TRIES = 200, 300
_NUMBERS = itertools.count()
_LINK, _REFERENCE = "0123456789abcde", "fuzz-1"
_URLS = {
    "callbackUrl": "https://127.0.0.1:9/cb",
    "successPageUrl": "https://127.0.0.1:9/ok",
    "failurePageUrl": "https://127.0.0.1:9/no",
}
_ORDER: dict[str, Any] = {
    "entityID": "E1",
    "amount": 100,
    "currency": "ZAR",
    "requesterUrl": "https://127.0.0.1:9",
    "mode": "live",
    "externalTransactionID": _REFERENCE,
    "urls": _URLS,
}
_WANTED: dict[str, Any] = {"reference": _REFERENCE, "amount": 100, "currency": "ZAR", "course": "smoke-001"}
_EVENT: dict[str, Any] = {
    "paylinkID": _LINK,
    "status": "SUCCESS",
    "externalTransactionID": _REFERENCE,
    "responseCode": "00",
}
GATEWAY_ROUTES = (
    *[Route("POST", wire.PAYMENT_PATH, _ORDER)] * 4,
    Route("GET", f"{wire.STATUS_PATH}/{_LINK}"),
    Route("GET", f"{wire.STATUS_EXTERNAL_PATH}?externalReference={_REFERENCE}"),
    Route("GET", f"{wire.HISTORY_PATH}?startDate=2026-01-01&endDate=2026-12-31"),
    Route("GET", f"{wire.HISTORY_PATH}?startDate=0001-01-01&endDate=9999-12-31"),
    Route("GET", f"/pay/{_LINK}"),
    Route("POST", f"/pay/{_LINK}"),
)
SHOP_ROUTES = (
    *[Route("POST", "/api/payments", _WANTED)] * 4,
    *[Route("POST", "/api/webhooks/ikhokha", _EVENT)] * 4,
    Route("GET", f"/api/payments/{_REFERENCE}"),
    Route("GET", f"/api/enrolments/{_REFERENCE}"),
    Route("GET", "/health/ready"),
    Route("GET", "/metrics"),
    Route("GET", "/"),
    Route("GET", f"/success?reference={_REFERENCE}"),
    Route("GET", "/assets/"),
)
_NO_TEXT = Message("GET", b"/nowhere", (("Expect", b"\xe2\x80"),), b"", signed=False)
"""aiohttp by itself answers 500 to it."""
_FIXTURE_STAYS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@dataclass(frozen=True)
class Played:
    """Who is asked, and what its process logs."""

    base: str
    trust: ssl.SSLContext
    log: pytest.LogCaptureFixture

    async def status_of(self, message: Message) -> int:
        return await answered(self.base, self.trust, message, sources(next(_NUMBERS)))

    async def withstands(self, message: Message) -> None:
        """No 5xx, and nothing an operator would have to read as a crash."""
        self.log.clear()
        status = await self.status_of(message)
        assert status < 500, message.as_bytes()
        crashes = [record.getMessage() for record in self.log.records if _is_crash(record)]
        assert not crashes, (message.as_bytes(), crashes)


def _is_crash(record: logging.LogRecord) -> bool:
    """What is no HTTP at all is answered 400 before anyone sees it, and logged by the library as an error."""
    cause = record.exc_info[1] if record.exc_info else None
    return record.levelno >= logging.ERROR and not isinstance(cause, HttpProcessingError)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Rig]:
    async with till(tmp_path) as rig:
        yield rig


@pytest.fixture
async def shopped(gateway: Rig, tmp_path: Path) -> AsyncIterator[ShopRig]:
    async with shop(gateway, tmp_path) as rig:
        yield rig


def _played(base: str, folder: Path, log: pytest.LogCaptureFixture) -> Played:
    return Played(base, _trust(folder / "tls" / "ca.pem"), log)


@cache
def _trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


_JSON = (("Content-Type", b"application/json"),)


async def test_what_is_changed_was_right(
    gateway: Rig, shopped: ShopRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The requests that are changed are taken as they stand, so what is tried is not refused at the door."""
    till_at, shop_at = _played(gateway.base, tmp_path, caplog), _played(shopped.base, tmp_path, caplog)
    order, wanted, event = (json.dumps(right).encode() for right in (_ORDER, _WANTED, _EVENT))
    for at, message, status in (
        (till_at, Message("POST", wire.PAYMENT_PATH.encode(), _JSON, order, signed=True), 200),
        (till_at, Message("POST", wire.PAYMENT_PATH.encode(), _JSON, order, signed=False), 401),
        (till_at, Message("GET", b"/pay/nothing", (), b"", signed=False), 404),
        (shop_at, Message("POST", b"/api/payments", _JSON, wanted, signed=False), 201),
        (shop_at, Message("POST", b"/api/webhooks/ikhokha", _JSON, event, signed=True), 200),
        (shop_at, Message("POST", b"/api/webhooks/ikhokha", _JSON, event, signed=False), 401),
    ):
        assert await at.status_of(message) == status, message


@settings(max_examples=GATEWAY_TRIES, suppress_health_check=_FIXTURE_STAYS)
@example(message=_NO_TEXT)
@given(message=messages(GATEWAY_ROUTES))
async def test_no_request_breaks_the_gateway(
    gateway: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture, message: Message
) -> None:
    """The sandbox's gateway answers every request, signed or not, without a 5xx and without a bug in its log."""
    await _played(gateway.base, tmp_path, caplog).withstands(message)


@settings(max_examples=SHOP_TRIES, suppress_health_check=_FIXTURE_STAYS)
@example(message=_NO_TEXT)
@given(message=messages(SHOP_ROUTES))
async def test_no_request_breaks_the_shop(
    shopped: ShopRig, tmp_path: Path, caplog: pytest.LogCaptureFixture, message: Message
) -> None:
    """The sandbox's shop answers every request, webhooks with a right signature included, without a 5xx or a crash."""
    await _played(shopped.base, tmp_path, caplog).withstands(message)
