"""The gateway's webhooks: wake-up calls, verified, then confirmed by asking the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from . import logs, security
from .answers import answer, limited, problem
from .clock import Clock
from .config import Config
from .events import Desk
from .limits import RateLimit
from .metrics import WEBHOOK_RESULTS, Metrics
from .schemes import Delivery
from .seams import Seams


@dataclass(frozen=True)
class Taken:
    """What came of a delivery: `result` is one of metrics.WEBHOOK_RESULTS, `reason` why it was refused or ''.

    `reference` is '' where what was sent cannot be believed.
    """

    result: str
    reference: str = ""
    reason: str = ""


class Webhooks:
    def __init__(
        self, config: Config, seams: Seams, desk: Desk, metrics: Metrics, refused: RateLimit, clock: Clock
    ) -> None:
        self._config = config
        self._seams = seams
        self._desk = desk
        self._metrics = metrics
        self._refused = refused
        self._clock = clock

    async def receive(self, request: web.Request) -> web.Response:
        began = self._clock.monotonic()
        body = await self._seams.read(request, self._seams.limits.bounds)
        if isinstance(body, web.Response):
            return body
        if not self._seams.listed(self._config, self._seams.source(request)):
            return self._refuse(request, body, began, 403, "the address is not on the list")
        delivery = Delivery(request.raw_path, request.headers, body, self._clock.now().timestamp())
        taken = await self.take(delivery)
        if taken.result == "refused":
            return self._refuse(request, body, began, 401, taken.reason)
        self._metrics.webhook(taken.reference, taken.result, self._clock.monotonic() - began)
        if taken.result in ("denied", "unknown"):
            why = WEBHOOK_RESULTS[taken.result]
            security.note(request, f"webhook.{taken.result}", reason=why, reference=taken.reference)
        if taken.result == "malformed":
            return problem(400, "paylinkID, externalTransactionID and status are expected")
        return answer(202 if taken.result == "deferred" else 200, {"result": taken.result})

    async def take(self, delivery: Delivery) -> Taken:
        """Verifies a delivery and settles what it speaks of. Total, as long as the store is."""
        judged = self._seams.verify(self._config, delivery)
        if judged.text is None:
            return Taken("refused", reason=judged.reason)
        event = self._seams.parse(judged.text, delivery)
        if event is None:
            return Taken("malformed")
        result = await self._seams.conclude(self._desk, event)
        logs.info("webhook.received", reference=event.reference, paylink_id=event.link_id, result=result)
        return Taken(result, event.reference)

    def _refuse(self, request: web.Request, body: bytes, began: float, status: int, reason: str) -> web.Response:
        """Only the refused count towards the limit: whoever floods this path keeps nobody else out."""
        claimed = security.claimed(body, "externalTransactionID")
        security.note(request, "webhook.refused", reason=reason, reference=claimed, proven=False)
        self._metrics.webhook("", "refused", self._clock.monotonic() - began)
        wait_s = self._refused.take(self._seams.source(request))
        if wait_s:
            return limited(wait_s)
        return problem(status, "the signature is not valid" if status == 401 else "not from here")
