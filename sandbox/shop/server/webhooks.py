"""The gateway's webhooks: wake-up calls, verified, then confirmed by asking the gateway."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web

from . import ikhokha_wire as wire
from . import logs
from .answers import answer, limited, problem, read_json_body, source
from .config import WEBHOOK_PATH, Config
from .faults import Faults
from .limits import RateLimit
from .metrics import Metrics
from .settling import Settled, Settler
from .store import PAID, Order, Store

ASK_WITHIN_S = 1.8
"""A webhook is answered within 2 s; when the gateway cannot confirm it by then, it is asked again later."""

_RESULTS = {
    Settled.ACTIVATED: "accepted",
    Settled.ALREADY: "duplicate",
    Settled.FAILED: "failed",
    Settled.NOT_YET: "denied",
    Settled.MISMATCH: "denied",
    Settled.NOT_FOUND: "denied",
    Settled.AWAY: "deferred",
}


@dataclass(frozen=True)
class Event:
    """What a webhook says. Only the gateway's own answer is believed."""

    link_id: str
    reference: str
    status: str


class Webhooks:
    def __init__(
        self,
        config: Config,
        faults: Faults,
        store: Store,
        settler: Settler,
        metrics: Metrics,
        refused: RateLimit,
        monotonic: Callable[[], float],
    ) -> None:
        self._config = config
        self._faults = faults
        self._store = store
        self._settler = settler
        self._metrics = metrics
        self._refused = refused
        self._monotonic = monotonic

    async def receive(self, request: web.Request) -> web.Response:
        began = self._monotonic()
        body = await read_json_body(request)
        if isinstance(body, web.Response):
            return body
        if self._faults.on("webhook-500"):
            return problem(500, "something went wrong")
        if self._faults.on("rate-limit-shuts-out-gateway") and (wait_s := self._refused.take(source(request))):
            return limited(wait_s)
        if not self._listed(source(request)):
            return self._refuse(request, began, 403, "the address is not on the list")
        verified, reason = self._verified(request, body)
        if verified is None:
            return self._refuse(request, began, 401, reason)
        event = _event(verified)
        if event is None:
            self._metrics.webhook("", "malformed", self._monotonic() - began)
            return problem(400, "paylinkID, externalTransactionID and status are expected")
        result = await self._result(event)
        self._metrics.webhook(event.reference, result, self._monotonic() - began)
        logs.info("webhook.received", reference=event.reference, paylink_id=event.link_id, result=result)
        return answer(202 if result == "deferred" else 200, {"result": result})

    def _refuse(self, request: web.Request, began: float, status: int, reason: str) -> web.Response:
        """Only the refused count towards the limit: whoever floods this path keeps nobody else out."""
        logs.warn("webhook.refused", source=source(request), reason=reason)
        self._metrics.webhook("", "refused", self._monotonic() - began)
        wait_s = self._refused.take(source(request))
        if wait_s:
            return limited(wait_s)
        return problem(status, "the signature is not valid" if status == 401 else "not from here")

    def _listed(self, address: str) -> bool:
        networks = self._config.webhook_sources
        if not networks:
            return True
        try:
            return any(ip_address(address) in network for network in networks)
        except ValueError:
            return False

    def healthy(self) -> str:
        """`ok` when a webhook signed with our own secret would be accepted, else the reason."""
        text = wire.webhook_text("0" * 15, "self-test", wire.SUCCESS)
        secret = self._config.webhook_secret
        found = wire.verify(secret, WEBHOOK_PATH, text.encode(), wire.sign(secret, WEBHOOK_PATH, text))
        return "ok" if found.accepted else found.reason

    def _verified(self, request: web.Request, body: bytes) -> tuple[bytes | None, str]:
        """The text that was signed, or None and the reason; the sender is told no reason."""
        if self._faults.on("accepts-unsigned-webhook"):
            return body, ""
        signatures, apps = request.headers.getall(wire.HEADER_SIGN, []), request.headers.getall(wire.HEADER_APP, [])
        if len(signatures) > 1 or len(apps) > 1:
            return None, "a signature header is given twice"
        if apps and apps[0].strip() != self._config.app_id:
            return None, "signed for another application"
        signature = signatures[0] if signatures else None
        found = wire.verify(self._config.webhook_secret, WEBHOOK_PATH, body, signature)
        return (found.body if found.accepted else None), found.reason

    async def _result(self, event: Event) -> str:
        order = await self._order(event)
        if order is None:
            return "unknown"
        if self._faults.on("activates-without-payment") and event.status == wire.SUCCESS:
            return _RESULTS[await self._settler.activate(order, event.link_id)]
        if order.status == PAID and not self._faults.on("webhook-not-idempotent"):
            return "duplicate"  # a late FAILURE too: paid is paid
        found = await self._settler.settle(order, ASK_WITHIN_S)
        if found is Settled.ALREADY and self._faults.on("webhook-not-idempotent"):
            found = await self._settler.activate(order, event.link_id, nonce=secrets.token_hex(8))
        if found is Settled.AWAY:
            await self._store.run(self._store.wake, order.reference)
        if found is Settled.NOT_YET and event.status == wire.FAILURE:
            await self._store.run(self._store.failed, order.reference)
            return "failed"
        return _RESULTS[found]

    async def _order(self, event: Event) -> Order | None:
        """The order both the paylink and the reference belong to."""
        order = await self._store.run(self._store.find, event.reference)
        if order is None or order.paylink_id not in (None, event.link_id):
            return None
        return order


def _event(verified: bytes) -> Event | None:
    try:
        members = json.loads(verified)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    link_id, reference = members.get("paylinkID"), members.get("externalTransactionID")
    status = members.get("status")
    if not (isinstance(link_id, str) and isinstance(reference, str) and isinstance(status, str)):
        return None
    if not all(text.isprintable() and 0 < len(text) <= 64 for text in (link_id, reference, status)):
        return None
    return Event(link_id, reference, status)
