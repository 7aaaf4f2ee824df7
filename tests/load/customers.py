"""Customers and visitors of a storm: they arrive whatever the shop does, each from an address of their own.

A customer asks for a payment, pays it at the gateway with a test card, comes back to the shop and looks until the
course is active. Every request is kept with its times, so that it can be judged afterwards.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from sandbox.shoppers import COURSES, DECLINED_CARD, GOOD_CARD, GaveUp, filled

SOURCES = 250
"""Addresses that customers come from, 127.0.1.1 and up. The shop limits each to 10 payments a second after the first
60: so many stay far below it, also when all who found it closed come again."""
DECLINED = 0.04
KEPT_S = 4.0
"""Shorter than the shop keeps an idle connection."""
PATIENCE_S = 30.0
"""How long one answer may take."""
COMES_AGAIN_S = (2.0, 6.0)
"""A customer who was told to come later tries again so soon: sooner than asked, which is harder on the shop."""
CLOSED_FOR_S = 120.0
"""A customer comes again for so long."""
ACTIVE_WITHIN_S = 90.0
_LOOKS_EVERY_S = 0.3
_PAGES = ("/", "/success", "/failure")


@dataclass(frozen=True)
class Request:
    """One request. `began` and `ended` in s since the epoch; `status` 0: no answer, and `told` says why."""

    what: str
    began: float
    ended: float
    status: int
    told: str
    comes_later: bool
    """Whether it said when to come again (`Retry-After`)."""

    @property
    def took_s(self) -> float:
        return self.ended - self.began


@dataclass
class Purchase:
    """What one customer wanted and was told. Times in s since the epoch, None: it did not come to that."""

    reference: str
    cents: int
    came: float
    link: str = ""
    paid: bool = False
    """The gateway sent the customer to the page of success."""
    active: float | None = None
    gave_up: str = ""


@dataclass
class Crowd:
    """Everybody who came. `late_s` is how far behind its plan the crowd arrived at most, for want of a processor."""

    shop: str
    random: Random
    clients: list[aiohttp.ClientSession] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    purchases: list[Purchase] = field(default_factory=list)
    arrived_for_s: float = 0.0
    late_s: float = 0.0

    async def arrive(self, per_second: float, visitors: float, until: asyncio.Event) -> None:
        """Customers and visitors at these rates, by chance, until `until` is set; returns when all have left."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as crowd:
            crowd.create_task(self._come(crowd, per_second, until, self._buy))
            crowd.create_task(self._come(crowd, visitors, until, self._visit))
            await until.wait()
            self.arrived_for_s = time.monotonic() - begun

    async def _come(self, crowd: asyncio.TaskGroup, per_second: float, until: asyncio.Event, what: object) -> None:
        """An open loop: who comes next does not wait for who came before."""
        due = time.monotonic()
        while not until.is_set():
            due += self.random.expovariate(per_second)
            await asyncio.sleep(due - time.monotonic())
            self.late_s = max(self.late_s, time.monotonic() - due)
            client = self.random.choice(self.clients)
            crowd.create_task(what(client))  # type: ignore[operator]

    # -- one of them

    async def _visit(self, client: aiohttp.ClientSession) -> None:
        await self._asked("page", client.get(self.shop + self.random.choice(_PAGES)))

    async def _buy(self, client: aiohttp.ClientSession) -> None:
        course, cents = self.random.choice(sorted(COURSES.items()))
        order = Purchase(f"storm-{self.random.getrandbits(64):016x}", cents, time.time())
        card = DECLINED_CARD if self.random.random() < DECLINED else GOOD_CARD
        self.purchases.append(order)
        try:
            await self._through(client, order, course, card)
        except GaveUp as why:
            order.gave_up = str(why)

    async def _through(self, client: aiohttp.ClientSession, order: Purchase, course: str, card: str) -> None:
        wanted = {"reference": order.reference, "amount": order.cents, "currency": "ZAR", "course": course}
        order.link = await self._link(client, wanted)
        page = await self._answer("pay page", client.get(order.link))
        form = filled(page, card)
        to = URL(urljoin(order.link, form.action), encoded=True)
        sent = await self._asked("pay", client.post(to, data=form.fields, allow_redirects=False))
        if sent is None or sent.status != 303:
            raise GaveUp("the payment was not taken")
        back = sent.headers["Location"]
        order.paid = "/success?" in back
        await self._answer("back at the shop", client.get(URL(back, encoded=True)))
        if order.paid:
            await self._look(client, order)

    async def _link(self, client: aiohttp.ClientSession, wanted: dict[str, object]) -> str:
        """The pay link. Who is told that the shop is closed comes again."""
        until = time.monotonic() + CLOSED_FOR_S
        while time.monotonic() < until:
            answer = await self._asked("create", client.post(f"{self.shop}/api/payments", json=wanted))
            if answer is not None and answer.status in (200, 201):
                return str((await answer.json())["paylinkUrl"])
            if answer is None or answer.status != 503 or "Retry-After" not in answer.headers:
                raise GaveUp("no payment was made")
            await asyncio.sleep(self.random.uniform(*COMES_AGAIN_S))
        raise GaveUp("the shop stayed closed")

    async def _look(self, client: aiohttp.ClientSession, order: Purchase) -> None:
        until = time.monotonic() + ACTIVE_WITHIN_S
        while time.monotonic() < until:
            answer = await self._asked("enrolment", client.get(f"{self.shop}/api/enrolments/{order.reference}"))
            if answer is not None and answer.status == 200 and (await answer.json())["active"]:
                order.active = time.time()
                return
            await asyncio.sleep(_LOOKS_EVERY_S)
        raise GaveUp("the course did not become active")

    # -- asking

    async def _answer(self, what: str, asking: object) -> str:
        answer = await self._asked(what, asking)
        if answer is None or answer.status != 200:
            raise GaveUp(f"{what}: no page")
        return await answer.text()

    async def _asked(self, what: str, asking: object) -> aiohttp.ClientResponse | None:
        """The answer with its whole body read; None when there was none."""
        began, status, told, later = time.time(), 0, "", False
        answer: aiohttp.ClientResponse | None = None
        try:
            async with asking as answer:  # type: ignore[attr-defined]
                body = await answer.read()
                status, later = answer.status, "Retry-After" in answer.headers
                told = "" if status < 400 else body[:200].decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            answer, told = None, f"{type(error).__name__}: {error}"
        self.requests.append(Request(what, began, time.time(), status, told, later))
        return answer


@asynccontextmanager
async def crowd(shop: str, tls: ssl.SSLContext, random: Random) -> AsyncIterator[Crowd]:
    """Clients on addresses of their own. Every fourth makes a new connection for each request; the others let go of one
    before the shop does, as clients do that send what must not be sent twice."""
    clients = []
    for number in range(SOURCES):
        source = (f"127.0.1.{number + 1}", 0)
        if number % 4:
            connector = aiohttp.TCPConnector(ssl=tls, local_addr=source, limit=0, keepalive_timeout=KEPT_S)
        else:
            connector = aiohttp.TCPConnector(ssl=tls, local_addr=source, limit=0, force_close=True)
        clients.append(aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)))
    try:
        yield Crowd(shop, random, clients)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
