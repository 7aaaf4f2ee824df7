"""What a probe works with: the world, smoke payments of its own, and ways to send what it wants to send.

Everything here keeps inside the service's own rate limits, and speaks only of payments that the prober made itself or
that nobody made.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from checks.facts.tls_handshake import trusting
from checks.probes import sending
from checks.probes.orders import Orders
from checks.probes.pace import Pace
from checks.probes.probe import Reply
from checks.probes.sending import LIMITED, Came, Line
from pipeline.contracts import SignedWebhook, World
from pipeline.errors import ServiceUnreachable

JSON = "application/json"
_LONGEST_WAIT_S = 15.0


class Scene(Orders):
    """Handed to each probe's `play`; one for a whole run of the prober. `patience_s`: for a body that never comes."""

    def __init__(
        self,
        world: World,
        *,
        mode: Literal["initialise", "card"] = "initialise",
        cap: int = 0,
        patience_s: float = 15.0,
    ) -> None:
        super().__init__(world, cap)
        self.mode = mode
        self.patience_s = patience_s
        self._refused = Pace(world.clock, world.spec.contract.limits)
        self._trust: ssl.SSLContext | None = None

    # ---- names -------------------------------------------------------------------------------------------

    def reference(self) -> str:
        """A smoke reference that nobody has used."""
        return f"{self.world.spec.contract.smoke_prefix}{self.world.random.getrandbits(64):016x}"

    def link_id(self) -> str:
        """A paylinkID that no gateway gave."""
        return f"{self.world.random.getrandbits(48):015d}"

    def webhook(self, link_id: str, reference: str, status: str) -> SignedWebhook:
        """What the gateway would send to the service's webhook path, correctly signed."""
        return self.world.gateway.webhook(self.world.spec.contract.webhook, link_id, reference, status)

    def signed(self, body: bytes, *, path: str | None = None) -> SignedWebhook:
        """Any bytes, signed with the right secret over `path` (the webhook's own by default)."""
        where = self.world.spec.contract.webhook if path is None else path
        return self.world.gateway.scheme.sign(where, body, at=self.world.clock.now())

    # ---- sending -----------------------------------------------------------------------------------------

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        sent: str,
        method: str = "POST",
        within_s: float = 10.0,
        patient: bool = True,
    ) -> Reply:
        """One request. Content-Type is JSON unless given. A 429 is waited out once, unless `patient` is False."""
        url = self.world.service.base + path
        given = (
            headers if any(name.lower() == "content-type" for name in headers) else {"Content-Type": JSON, **headers}
        )

        async def once() -> Came:
            return await sending.through_httpx(self.world, method, url, body, given, sent=sent, within_s=within_s)

        return await self._paced(path, once, patient=patient)

    async def send(
        self,
        body: bytes,
        headers: Sequence[tuple[str, str]],
        *,
        sent: str,
        method: str = "POST",
        path: str | None = None,
        line: Line | None = None,
        within_s: float = 10.0,
        drop: bool = False,
        together: asyncio.Barrier | None = None,
    ) -> Reply:
        """The same over a socket of our own: exactly these headers in this order, to the webhook path by default.

        `drop`: closes the connection and reads no answer. `together`: waits, connected, until all others are; what is
        sent so must be signed rightly, for it is not counted towards any limit.
        """
        where = self.world.spec.contract.webhook if path is None else path
        to = line or await self.line()
        data = sending.request(method, where, to, headers, body)

        async def once() -> Came:
            return await sending.over_socket(
                self.world, to, data, sent=sent, within_s=within_s, drop=drop, together=together
            )

        return await self._paced(where, once, patient=together is None, counts=together is None)

    async def ask(self, members: Mapping[str, object] | bytes, *, sent: str, within_s: float = 10.0) -> Reply:
        """Asks for a payment with these members, or these bytes, past a door that is closed during a run."""
        from pipeline.service import PROOF_HEADER  # brings httpx along

        body = members if isinstance(members, bytes) else json.dumps(members).encode()
        proof = {PROOF_HEADER: self.world.run.proof_token.reveal()}
        return await self.post(self.world.spec.contract.create, body, proof, sent=sent, within_s=within_s)

    async def line(self, *, source: str = "", tls: bool = True) -> Line:
        """Where the service listens, with TLS that trusts the environment's authority, or without."""
        if self._trust is None:
            self._trust = await asyncio.to_thread(trusting, self.world.addresses.ca_file)
        parts = urlsplit(self.world.service.base)
        return Line(parts.hostname or "", parts.port or 443, self._trust if tls else None, source)

    async def _paced(
        self, path: str, once: Callable[[], Awaitable[Came]], *, patient: bool, counts: bool = True
    ) -> Reply:
        """Payment requests count towards their limit, webhooks when they are refused."""
        if path.partition("?")[0] == self.world.spec.contract.create:
            pace, spared = self.pace, False
        else:
            pace, spared = self._refused, True
        if counts:
            await pace.take()
        came = await once()
        if came.reply.status == LIMITED and patient:
            await self.world.clock.sleep(min(max(came.wait_s or 1.0, 0.5), _LONGEST_WAIT_S))
            await pace.take()
            came = await once()
        if spared and counts and 200 <= came.reply.status < 300:
            pace.give_back()
        return came.reply

    async def alive(self) -> bool:
        """Whether the service's process answers that it lives."""
        try:
            answer = await self.world.service.request("GET", self.world.spec.contract.live)
        except ServiceUnreachable:
            return False
        return answer.status == 200
