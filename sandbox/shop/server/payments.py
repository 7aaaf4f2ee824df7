"""Creating payments and reading them back."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from . import logs
from .answers import answer, busy, limited, problem, read_json_body, source
from .config import REFERENCE, Config, Course
from .faults import Faults
from .gateway import GatewayClient, NoAnswer, NotSent, Refused
from .limits import RateLimit
from .metrics import Metrics, is_smoke
from .settling import ASK_AGAIN_AFTER_S
from .store import FAILED, PAID, UNKNOWN, Order, Store
from .switches import MAINTENANCE, PAYMENTS_OFF, PROOF_HEADER, Switches

ANSWER_WITHIN_S = 4.0
"""Whatever the gateway does, a customer is answered by then; the creation goes on behind the answer."""
_TRY_AGAIN_S = 5
_CLOSED_S = 120


@dataclass(frozen=True)
class Wanted:
    """A valid request for a payment."""

    reference: str
    amount: int
    course: Course


class Payments:
    def __init__(
        self,
        config: Config,
        faults: Faults,
        courses: Mapping[str, Course],
        store: Store,
        gateway: GatewayClient,
        metrics: Metrics,
        switches: Switches,
        limit: RateLimit,
        monotonic: Callable[[], float],
    ) -> None:
        self._config = config
        self._faults = faults
        self._courses = courses
        self._store = store
        self._gateway = gateway
        self._metrics = metrics
        self._switches = switches
        self._limit = limit
        self._monotonic = monotonic
        self._creating: dict[str, asyncio.Task[web.Response]] = {}

    async def create(self, request: web.Request) -> web.Response:
        began = self._monotonic()
        if wait_s := self._limit.take(source(request)):
            return limited(wait_s)
        proof = request.headers.get(PROOF_HEADER)
        if any(self._switches.closed(name, proof) for name in (MAINTENANCE, PAYMENTS_OFF)):
            return busy("payments are switched off for the moment", _CLOSED_S)
        body = await read_json_body(request)
        if isinstance(body, web.Response):
            return body
        wanted = self._judge(body)
        if isinstance(wanted, web.Response):
            return wanted
        if self._faults.on("slow-initialisation"):
            await asyncio.sleep(6)
        return await self._initialised(wanted, began)

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
        """Waits for the creations that are under way; what is left then is settled by the next release."""
        if self._creating:
            await asyncio.wait(set(self._creating.values()), timeout=max(0.0, within_s))

    def _judge(self, body: bytes) -> Wanted | web.Response:
        try:
            request = json.loads(body.decode("utf-8"), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            return problem(400, "a JSON object without duplicate members is expected")
        if not isinstance(request, dict):
            return problem(400, "a JSON object is expected")
        reference, amount, course_id = request.get("reference"), request.get("amount"), request.get("course")
        if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
            return problem(422, "reference: 1 to 64 characters of A-Z a-z 0-9 . _ - are allowed")
        course = self._courses.get(course_id) if isinstance(course_id, str) else None
        if course is None:
            return problem(422, "course: there is no such course")
        if request.get("currency") != "ZAR":
            return problem(422, "currency: only ZAR is allowed")
        if type(amount) is not int or not self._right(amount, course):
            return problem(422, f"amount: the price of {course.id} is {course.cents} cents")
        return Wanted(reference, amount, course)

    def _right(self, amount: int, course: Course) -> bool:
        if self._faults.on("ignores-amount"):
            return 1 <= amount <= 100_000_000
        return amount == course.cents

    async def _initialised(self, wanted: Wanted, began: float) -> web.Response:
        until_settled_s = self._config.timeout_s + 5  # no sooner than our own request has ended
        order, fresh = await self._store.run(
            self._store.claim, wanted.reference, wanted.course.id, wanted.amount, until_settled_s
        )
        if not fresh and (order.course, order.amount) != (wanted.course.id, wanted.amount):
            return problem(409, "this reference was used for another payment")
        if fresh:
            task = asyncio.create_task(self._initialise(wanted, began))
            self._creating[wanted.reference] = task
            task.add_done_callback(lambda _: self._creating.pop(wanted.reference, None))
        creation = self._creating.get(wanted.reference)
        if creation is None:
            return _known(order)
        done, _ = await asyncio.wait({creation}, timeout=ANSWER_WITHIN_S)
        if not done:
            return busy("the gateway has not answered yet; the same request asks again", _TRY_AGAIN_S)
        return _copy(creation.result())

    async def _initialise(self, wanted: Wanted, began: float) -> web.Response:
        """Asks the gateway for a paylink, once. Never raises for what the gateway does."""
        reference = wanted.reference
        try:
            if self._faults.on("error-rate-30") and _is_unlucky(reference):
                await self._not_created(reference, FAILED, None, "the release is faulty")
                return problem(500, "something went wrong")
            link = await self._gateway.create(reference, wanted.amount, f"Course {wanted.course.title}")
        except NotSent as error:
            await self._not_created(reference, FAILED, None, str(error))
            return busy("the payment gateway is away; take a new reference", _TRY_AGAIN_S)
        except Refused as error:
            await self._not_created(reference, FAILED, None, str(error))
            return problem(502, "the payment gateway refused the payment; take a new reference")
        except NoAnswer as error:
            await self._not_created(reference, UNKNOWN, 2.0, str(error))
            return busy("the payment gateway did not answer; the payment is being looked into", _TRY_AGAIN_S)
        finally:
            self._metrics.initialised(reference, self._monotonic() - began)
        await self._store.run(self._store.linked, reference, link.id, link.url, ASK_AGAIN_AFTER_S[0])
        logs.info("payment.initialised", reference=reference, paylink_id=link.id, cents=wanted.amount)
        return answer(201, {"paylinkUrl": link.url, "paylinkID": link.id})

    async def _not_created(self, reference: str, status: str, check_after_s: float | None, found: str) -> None:
        if await self._store.run(self._store.not_created, reference, status, check_after_s):
            self._metrics.payment(reference, "error")
        logs.warn("payment.not_initialised", reference=reference, found=found)

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
    return busy("the payment is being looked into", _TRY_AGAIN_S)


def _copy(response: web.Response) -> web.Response:
    """Several requests may wait for one creation, and a response can be sent once."""
    headers = {name: value for name, value in response.headers.items() if name == "Retry-After"}
    return web.Response(status=response.status, text=response.text, content_type="application/json", headers=headers)


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a duplicate member")
    return found


def _is_unlucky(reference: str) -> bool:
    """Three references in ten, always the same ones, and no smoke payment."""
    return not is_smoke(reference) and hashlib.sha256(reference.encode()).digest()[0] % 10 < 3
