"""At start: heals what a faulty release before this one may have left behind.

Activations without a paid payment are revoked, doubled ones collapse to one, and whatever is open is asked about at
once. Each change is logged. While the gateway is away nothing is judged, and the audit is tried again. The release
before this one takes requests until it has drained, so the audit is repeated until it must be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from . import logs
from .gateway import GatewayClient, GatewayError, NotFound
from .security import Security
from .store import Activation, Store

WINDOW_S = 2 * 86_400.0
MOST_REVOKED = 50
"""More than this is a mistake of ours or the gateway's, not the damage of one release: a person decides."""
_AT_MOST = 5000
_ASK_WITHIN_S = 5.0
_REPEATED_AFTER_S = (5, 40)
_AGAIN_AFTER_S = (1, 2, 5, 10, 30, 60)


class Audit:
    def __init__(self, store: Store, gateway: GatewayClient, security: Security, now: Callable[[], float]) -> None:
        self._store = store
        self._gateway = gateway
        self._security = security
        self._now = now

    async def run(self) -> None:
        """Ends after the last of several whole audits."""
        await self._store.run(self._store.ask_soon, self._now() - WINDOW_S, _AT_MOST)
        await self._whole()
        for pause_s in _REPEATED_AFTER_S:
            await asyncio.sleep(pause_s)
            await self._whole()

    async def _whole(self) -> None:
        attempt = 0
        while not await self._tried(first=attempt == 0):
            await asyncio.sleep(_AGAIN_AFTER_S[min(attempt, len(_AGAIN_AFTER_S) - 1)])
            attempt += 1

    async def _tried(self, *, first: bool) -> bool:
        try:
            revoked, collapsed = await self.once()
        except GatewayError as error:
            if first:
                logs.warn("audit.postponed", found=str(error))
            return False
        logs.info("audit.done", revoked=revoked, collapsed=collapsed)
        return True

    async def once(self) -> tuple[int, int]:
        """How many activations were revoked and collapsed. Raises GatewayError while the gateway cannot tell."""
        activations = await self._store.run(self._store.activated_since, self._now() - WINDOW_S, _AT_MOST)
        unpaid = await self._unpaid(activations)
        if len(unpaid) > MOST_REVOKED:
            logs.error("audit.too_many_unpaid", found=len(unpaid), allowed=MOST_REVOKED)
            unpaid = []
        for activation in unpaid:
            await self._store.run(self._store.revoke, activation, "the gateway does not call it paid")
            logs.warn("enrolment.revoked", reference=activation.reference, paylink_id=activation.paylink_id)
            self._security.event(
                "enrolment.revoked", "audit", "the gateway does not call it paid", activation.reference
            )
        doubled = [activation for activation in activations if activation.nonce and activation not in unpaid]
        for activation in doubled:
            await self._store.run(self._store.collapse, activation)
            logs.warn("enrolment.collapsed", reference=activation.reference, paylink_id=activation.paylink_id)
        return len(unpaid), len(doubled)

    async def _unpaid(self, activations: list[Activation]) -> list[Activation]:
        """One question to the history for all, then one for each that it does not call paid."""
        if not activations:
            return []
        margin = timedelta(days=1)  # the history's time zone is not stated
        first = datetime.fromtimestamp(self._now() - WINDOW_S, UTC).date() - margin
        paid = await self._gateway.paid_links(first, datetime.fromtimestamp(self._now(), UTC).date() + margin, 10.0)
        doubtful = sorted({activation.paylink_id for activation in activations} - paid)
        unpaid = {link_id for link_id in doubtful if not await self._is_paid(link_id)}
        return [activation for activation in activations if activation.paylink_id in unpaid]

    async def _is_paid(self, link_id: str) -> bool:
        """A refusal to answer is not a no: only the gateway's own word revokes."""
        try:
            return (await self._gateway.status(link_id, _ASK_WITHIN_S)).paid
        except NotFound:
            return False
