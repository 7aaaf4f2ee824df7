"""Creating payments and reading them back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from . import logs, security
from .answers import TRY_AGAIN_S, answer, busy, limited, problem
from .clock import Clock
from .config import REFERENCE, Config, Course
from .gateway import GatewayClient, GatewayError, NoAnswer, NotSent, Refused
from .limits import RateLimit
from .metrics import Metrics
from .seams import Seams
from .settling import ASK_AGAIN_AFTER_S
from .store import FAILED, PAID, UNKNOWN, Order, Store
from .switches import MAINTENANCE, PAYMENTS_OFF, PROOF_HEADER, TEST_MODE, Switches
from .wanted import Wanted

_CLOSED_S = 120


class Payments:
    def __init__(
        self,
        config: Config,
        seams: Seams,
        courses: Mapping[str, Course],
        store: Store,
        gateway: GatewayClient,
        metrics: Metrics,
        switches: Switches,
        limit: RateLimit,
        clock: Clock,
    ) -> None:
        self._config = config
        self._seams = seams
        self._courses = courses
        self._store = store
        self._gateway = gateway
        self._metrics = metrics
        self._switches = switches
        self._limit = limit
        self._clock = clock
        self._creating: dict[str, asyncio.Task[web.Response]] = {}

    async def create(self, request: web.Request) -> web.Response:
        began = self._clock.monotonic()
        if wait_s := self._limit.take(self._seams.source(request)):
            return limited(wait_s)
        proof = request.headers.get(PROOF_HEADER)
        if any(self._switches.closed(name, proof) for name in (MAINTENANCE, PAYMENTS_OFF)):
            return busy("payments are switched off for the moment", _CLOSED_S)
        body = await self._seams.read(request, self._seams.limits.bounds)
        if isinstance(body, web.Response):
            return body
        security.note(request, reference=security.claimed(body, "reference"))
        wanted = self._seams.judge(body, self._courses)
        if isinstance(wanted, web.Response):
            return wanted
        return await self._initialised(replace(wanted, test=self._switches.closed(TEST_MODE, proof)), began)

    async def read(self, request: web.Request) -> web.Response:
        """The state of a payment, by its reference."""
        order = await self._find(request.match_info["reference"])
        if order is None:
            return problem(404, "there is no payment with this reference")
        return answer(
            200,
            {
                "reference": order.reference,
                "status": order.status,
                "amount": order.amount,
                "currency": order.currency,
                "course": order.course,
                "paylinkID": order.paylink_id,
                "mode": "test" if order.test else "live",
            },
        )

    async def enrolment(self, request: web.Request) -> web.Response:
        """Whether the enrolment of a reference is active, and how often it was activated."""
        order = await self._find(request.match_info["reference"])
        if order is None:
            return problem(404, "there is no enrolment with this reference")
        count = await self._store.run(self._store.activations, order.reference)
        return answer(200, {"reference": order.reference, "active": count > 0, "activations": count})

    async def finish(self, *, within_s: float) -> None:
        """Waits for the creations that are under way; what is left then is given up, for the next release to settle."""
        if not self._creating:
            return
        _, late = await asyncio.wait(set(self._creating.values()), timeout=max(0.0, within_s))
        for creation in late:
            creation.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _initialised(self, wanted: Wanted, began: float) -> web.Response:
        until_settled_s = self._config.timeout_s + 5  # no sooner than our own request has ended
        order, fresh = await self._seams.claim(self._store, wanted, until_settled_s)
        if not fresh and (order.course, order.amount) != (wanted.course.id, wanted.amount):
            return problem(409, "this reference was used for another payment")
        if not fresh and order.test and not wanted.test:
            return problem(409, "this reference was used in test mode; take a new one")
        if fresh:
            task = asyncio.create_task(self._initialise(wanted, began))
            self._creating[wanted.reference] = task
            task.add_done_callback(lambda _: self._creating.pop(wanted.reference, None))
        creation = self._creating.get(wanted.reference)
        if creation is None:
            return _known(order)
        done, _ = await asyncio.wait({creation}, timeout=self._seams.limits.answer_within_s)
        if not done:
            return busy("the gateway has not answered yet; the same request asks again", TRY_AGAIN_S)
        return _copy(creation.result())

    async def _initialise(self, wanted: Wanted, began: float) -> web.Response:
        """Asks the gateway for a paylink, once. Never raises for what the gateway does."""
        reference = wanted.reference
        try:
            link = await self._seams.link(self._gateway, wanted, self._seams.addresses(self._config, wanted))
            if not await self._store.run(self._store.linked, reference, link.id, link.url, ASK_AGAIN_AFTER_S[0]):
                raise NoAnswer("create: the paylink belongs to another order")
        except GatewayError as error:
            known = isinstance(error, NotSent | Refused)
            await self._not_created(wanted, FAILED if known else UNKNOWN, None if known else 2.0, str(error))
            return self._seams.trouble(error)
        finally:
            self._metrics.initialised(reference, self._clock.monotonic() - began)
        logs.info("payment.initialised", reference=reference, paylink_id=link.id, cents=wanted.amount, test=wanted.test)
        return answer(201, {"paylinkUrl": link.url, "paylinkID": link.id})

    async def _not_created(self, wanted: Wanted, status: str, check_after_s: float | None, found: str) -> None:
        counts = await self._store.run(self._store.not_created, wanted.reference, status, check_after_s)
        if counts and not wanted.test:
            self._metrics.payment(wanted.reference, "error")
        logs.warn("payment.not_initialised", reference=wanted.reference, found=found)

    async def _find(self, reference: str) -> Order | None:
        if not REFERENCE.fullmatch(reference):
            return None
        return await self._store.run(self._store.find, reference)


def _known(order: Order) -> web.Response:
    """The answer to an identical request for a payment that was asked for before."""
    if order.status == PAID:
        return problem(409, "this reference is paid already")
    if order.paylink_id and order.paylink_url:
        return answer(200, {"paylinkUrl": order.paylink_url, "paylinkID": order.paylink_id})
    if order.status == FAILED or order.paylink_id:
        return problem(409, "this reference was used; take a new one")
    return busy("the payment is being looked into", TRY_AGAIN_S)


def _copy(response: web.Response) -> web.Response:
    """Several requests may wait for one creation, and a response can be sent once."""
    headers = {name: value for name, value in response.headers.items() if name == "Retry-After"}
    return web.Response(status=response.status, text=response.text, content_type="application/json", headers=headers)
