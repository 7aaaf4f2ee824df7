"""Sends the webhooks the gateway owes: signed over the callback's path, again until they are accepted or given up."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from gateways import ikhokha_wire as wire
from gateways.ikhokha_signing import IKhokhaSigning
from pipeline.contracts import SigningScheme
from sandbox.gateway.assumptions import Assumptions
from sandbox.gateway.faults import Faults
from sandbox.gateway.store import ABANDONED, DELIVERED, PENDING, Store, Webhook
from sandbox.logs import say

log = logging.getLogger(__name__)

_AFTER_A_BUG_S = 1.0
"""A fault of ours must not end all webhooks, nor spin."""


def is_loopback(url: str) -> bool:
    """True for https addresses that are this machine's own whoever resolves them."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "https" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


class Sender:
    """`run` sends what `store` owes until it is cancelled; `wake` tells it that something has changed.

    `scheme` is how they are signed, iKhokha's own way unless it is set to another. `trust` verifies the merchant's
    certificate. The order of webhooks is not promised.
    """

    def __init__(
        self,
        store: Store,
        *,
        app_id: str,
        secret: str,
        assumptions: Assumptions,
        faults: Callable[[], Faults],
        trust: ssl.SSLContext,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self.scheme: SigningScheme = IKhokhaSigning(app_id, secret)
        self._assumptions = assumptions
        self._faults = faults
        self._trust = trust
        self._now = now
        self._wake = asyncio.Event()
        self._sending: set[int] = set()
        self._places = asyncio.Semaphore(assumptions.webhooks_at_once)

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("webhooks.bug")
                await asyncio.sleep(_AFTER_A_BUG_S)

    async def _run(self) -> None:
        # A connection of its own for each: a kept one would lead to the release that is being replaced.
        connector = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
        timeout = aiohttp.ClientTimeout(total=self._assumptions.webhook_timeout_s)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                pause = self._start_due(group, session)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    def _start_due(self, group: asyncio.TaskGroup, session: aiohttp.ClientSession) -> float | None:
        """Starts every webhook that is due; returns the seconds until the next one is, None when nothing waits."""
        faults = self._faults()
        if faults.outage or faults.withhold_webhooks:
            return None
        now = self._now().timestamp()
        for webhook in self._store.owed():
            if webhook.id in self._sending:
                continue
            if webhook.next_at > now:
                return webhook.next_at - now
            self._sending.add(webhook.id)
            group.create_task(self._deliver(session, webhook, copies=2 if faults.double_webhooks else 1))
        return None

    async def _deliver(self, session: aiohttp.ClientSession, webhook: Webhook, *, copies: int) -> None:
        attempt = webhook.attempts + 1
        try:
            async with self._places:
                accepted = await asyncio.gather(*(self._post(session, webhook, attempt) for _ in range(copies)))
            pauses = self._assumptions.webhook_retries_after_s
            if any(accepted):
                self._store.conclude(webhook.id, attempt, webhook.next_at, DELIVERED)
            elif attempt > len(pauses):
                self._store.conclude(webhook.id, attempt, webhook.next_at, ABANDONED)
                say(log, "webhook.abandoned", reference=webhook.reference, attempts=attempt)
            else:
                next_at = self._now().timestamp() + pauses[attempt - 1]
                self._store.conclude(webhook.id, attempt, next_at, PENDING)
        finally:
            self._sending.discard(webhook.id)
            self._wake.set()

    async def _post(self, session: aiohttp.ClientSession, webhook: Webhook, attempt: int) -> bool:
        text = wire.webhook_text(webhook.payment, webhook.reference, webhook.event)
        path = urlsplit(webhook.url).path or "/"
        at, begun = self._now().isoformat(timespec="milliseconds"), time.perf_counter()
        status, error = None, ""
        try:
            signed = self.scheme.sign(path, text.encode(), at=self._now())
            headers = {"Content-Type": "application/json", **signed.headers}
            async with session.post(
                URL(webhook.url, encoded=True), data=signed.body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as found:
            error = type(found).__name__
        took_ms = round((time.perf_counter() - begun) * 1000, 1)
        self._store.record(webhook.id, attempt, at, status, error, took_ms)
        say(
            log,
            "webhook.sent",
            reference=webhook.reference,
            webhook=webhook.event,
            attempt=attempt,
            status=status,
            error=error,
            took_ms=took_ms,
        )
        return status is not None and 200 <= status < 300
