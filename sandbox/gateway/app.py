"""The sandbox gateway: iKhokha's API and a hosted pay page as one aiohttp application.

`Gateway` holds what the handlers share. The API answers JSON to everything, the pay page HTML; nothing a client
sends gives a 5xx. Which bodies, codes and limits are not the documented protocol's stands in `assumptions.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from random import Random
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web, web_urldispatcher
from yarl import URL

from gateways import ikhokha_wire as wire
from sandbox.gateway import assumptions as assumed
from sandbox.gateway import orders, pages
from sandbox.gateway.assumptions import Assumptions, Outcome
from sandbox.gateway.faults import Faults
from sandbox.gateway.store import NOT_LOOPBACK, PENDING, TEST, Payment, Store
from sandbox.gateway.webhooks import Sender, is_loopback
from sandbox.logs import hide_cards, say

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NOT_CREATED = {"responseCode": "51", "message": "Merchant account on hold"}
"""Assumption: what a creation that fails looks like under HTTP 200; only "00" is known to mean that it was made."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HTTP_ERRORS = {404: assumed.NOT_FOUND, 405: assumed.WRONG_METHOD, 413: assumed.TOO_LARGE, 415: assumed.WRONG_TYPE}


async def _expect(request: web.Request) -> None:
    """`Expect: 100-continue` is answered; what else is expected is refused, and not repeated."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


vars(web_urldispatcher)["_default_expect_handler"] = _expect  # aiohttp's own answers 500 to bytes that are no text


class Refused(Exception):
    """The API says no. `why` names an entry of Assumptions.refusals; `detail` is added to its message."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.detail = detail


class Gateway:
    """One account, its payments, and the faults that are on.

    `base` is the address pay links begin with; `used` is called on each request; `random` makes link IDs.
    """

    def __init__(
        self,
        *,
        store: Store,
        base: str,
        app_id: str,
        secret: str,
        trust: ssl.SSLContext,
        now: Callable[[], datetime],
        random: Random,
        assumptions: Assumptions | None = None,
        used: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.assumptions = assumptions or Assumptions()
        self.faults = Faults()
        self.opened: dict[str, str] = {}
        """When the pay page of a link was first opened, since this process began."""
        self.used = used
        self.base = base
        self._app_id = app_id
        self._secret = secret
        self._now = now
        self._random = random
        self.sender = Sender(
            store,
            app_id=app_id,
            secret=secret,
            assumptions=self.assumptions,
            faults=lambda: self.faults,
            trust=trust,
            now=now,
        )

    def set_faults(self, faults: Faults) -> None:
        self.faults = faults
        say(log, "faults", **faults.as_data())
        self.sender.wake()

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=self.assumptions.largest_body, middlewares=[self._as_faults_say, self._refuse_politely]
        )
        app.router.add_post(wire.PAYMENT_PATH, self.create)
        app.router.add_get(wire.STATUS_EXTERNAL_PATH, self.status_external)
        app.router.add_get(wire.STATUS_PATH + "/{id}", self.status)
        app.router.add_get(wire.HISTORY_PATH, self.history)
        app.router.add_get("/pay/{id}", self.pay_form)
        app.router.add_post("/pay/{id}", self.pay)
        app.cleanup_ctx.append(self._sending)
        return app

    # ---- the API -------------------------------------------------------------------------------------------

    async def create(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise Refused(assumed.WRONG_TYPE)
        body = await self._verified(request)
        try:
            order = orders.parse(body, self.assumptions)
        except orders.Malformed as mistakes:
            raise Refused(assumed.MALFORMED, str(mistakes)) from None
        if self.faults.refuse:
            say(log, "payment.declined", reference=order.reference, amount=order.amount)
            return web.json_response(NOT_CREATED)
        payment = self._add(order)
        say(
            log,
            "payment.created",
            paylink=payment.id,
            reference=payment.reference,
            amount=payment.amount,
            mode=payment.mode,
        )
        return web.json_response(
            {
                "responseCode": wire.OK,
                "message": "",
                "paylinkUrl": f"{self.base}/pay/{payment.id}",
                "paylinkID": payment.id,
                "externalTransactionID": payment.reference,
            }
        )

    async def status(self, request: web.Request) -> web.Response:
        await self._verified(request)
        return self._status_answer(self._known(request.match_info["id"]))

    async def status_external(self, request: web.Request) -> web.Response:
        await self._verified(request)
        reference = request.query.get("externalReference", "")
        if not reference or not orders.is_text(reference, self.assumptions.longest_text):
            raise Refused(assumed.MALFORMED, "externalReference: a reference is required")
        return self._status_answer(self.store.newest(reference))

    async def history(self, request: web.Request) -> web.Response:
        await self._verified(request)
        first, last = _day(request, "startDate"), _day(request, "endDate")
        return web.json_response(
            [
                {**self._as_status(payment), "externalTransactionID": payment.reference}
                for payment in self.store.created_between(first, last)
            ]
        )

    async def _verified(self, request: web.Request) -> bytes:
        """The canonical body of a correctly signed request, b'' for GET."""
        body = await request.read()
        path = request.raw_path.partition("?")[0]
        app_id = request.headers.get(wire.HEADER_APP, "").strip().encode("utf-8", "replace")
        verified = wire.verify_request(self._secret, path, body, request.headers.get(wire.HEADER_SIGN))
        if body and wire.canonical(body) is None:
            raise Refused(assumed.MALFORMED, "the body is not JSON")
        if not verified.accepted or not hmac.compare_digest(app_id, self._app_id.encode()):
            say(log, "signature.refused", path=hide_cards(path[:200]), why=verified.reason)
            raise Refused(assumed.BAD_SIGNATURE)
        if verified.raw_differs:
            say(
                log, "signature.raw_differs", path=path, why="the bytes sent are not the canonical form that was signed"
            )
        return verified.body

    def _add(self, order: orders.Order) -> Payment:
        created_at = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        while True:
            alphabet = self.assumptions.link_alphabet
            link_id = "".join(self._random.choice(alphabet) for _ in range(self.assumptions.link_length))
            payment = Payment(id=link_id, **vars(order), status=self.assumptions.status_pending, created_at=created_at)
            if self.store.add(payment):
                return payment

    def _known(self, link_id: str) -> Payment | None:
        return self.store.payment(link_id) if orders.is_text(link_id, 64) else None

    def _status_answer(self, payment: Payment | None) -> web.Response:
        if payment is None:
            raise Refused(assumed.NOT_FOUND, "no such payment")
        return web.json_response(self._as_status(payment))

    def _as_status(self, payment: Payment) -> dict[str, Any]:
        return {
            "paylinkID": payment.id,
            "status": payment.status,
            "createdAt": payment.created_at,
            "amount": payment.amount + self.faults.amount_off,
            "description": payment.description,
            **({"mode": payment.mode} if payment.mode == TEST else {}),
        }

    def _is_final(self, payment: Payment) -> bool:
        return payment.status in (wire.PAID, self.assumptions.status_test)

    # ---- the pay page --------------------------------------------------------------------------------------

    async def pay_form(self, request: web.Request) -> web.Response:
        payment = self._known(request.match_info["id"])
        if payment is None:
            return _no_such_link()
        if self._is_final(payment):
            return pages.message_page(200, "Already paid", "This payment is complete.", payment.success_url)
        self.opened.setdefault(payment.id, self._now().astimezone(UTC).isoformat(timespec="milliseconds"))
        return pages.pay_page(payment, self.assumptions.cards)

    async def pay(self, request: web.Request) -> web.Response:
        """One attempt. A refused card does not use the link up; a paid link stays paid."""
        payment = self._known(request.match_info["id"])
        if payment is None:
            return _no_such_link()
        fields = await _form(request)
        if self._is_final(payment):
            raise _to(payment.success_url)
        if fields.get("action", "pay") == "cancel":
            self._settle(payment, self.assumptions.status_cancelled, None)
            raise _to(payment.cancel_url or payment.failure_url)
        form = pages.CardForm(fields.get("card", ""), fields.get("expiry", ""), fields.get("cvc", ""))
        card, wrong = pages.judge(form, self.assumptions.cards, self._now())
        if card is None:
            return pages.pay_page(payment, self.assumptions.cards, wrong)
        if card.outcome is Outcome.APPROVED:
            paid = self.assumptions.status_test if payment.mode == TEST else wire.PAID
            self._settle(payment, paid, wire.SUCCESS)
            raise _to(payment.success_url)
        paid_meanwhile = not self._settle(payment, self.assumptions.status_failed, wire.FAILURE)
        raise _to(payment.success_url if paid_meanwhile else payment.failure_url)

    def _settle(self, payment: Payment, status: str, event: str | None) -> bool:
        """False when the payment was paid already; then nothing changes and no webhook is sent."""
        local = is_loopback(payment.callback_url)
        changed = self.store.settle(
            payment.id,
            status,
            final=(wire.PAID, self.assumptions.status_test),
            event=event,
            next_at=self._now().timestamp() + self.faults.webhook_delay_s,
            state=PENDING if local else NOT_LOOPBACK,
        )
        if changed:
            say(log, "payment.settled", paylink=payment.id, reference=payment.reference, status=status)
            if event and not local:
                say(log, "webhook.not_delivered", reference=payment.reference, why="the callback is not on loopback")
            self.sender.wake()
        return changed

    # ---- around every request ------------------------------------------------------------------------------

    @web.middleware
    async def _as_faults_say(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.used()
        if self.faults.outage:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if not _is_api(request):
            return await handler(request)
        if self.faults.slow_s:
            await asyncio.sleep(self.faults.slow_s)
        response = await handler(request)
        if self.faults.garble:
            return web.Response(text="<html>} It works! \ufffd", content_type="text/html")
        return response

    @web.middleware
    async def _refuse_politely(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return self._refusal(refused.why, refused.detail)
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            if _is_api(request):
                return self._refusal(_HTTP_ERRORS.get(error.status, assumed.MALFORMED), "")
            return pages.message_page(error.status, error.reason, "Go back and follow the shop's link once more.")
        except ConnectionError:
            return web.Response(status=400)  # the client has gone; nobody reads this
        except Exception:
            log.exception("bug")
            if _is_api(request):
                return self._refusal(assumed.BUG, "")
            return pages.message_page(500, "Something broke", "The fault is ours; nothing was charged.")

    def _refusal(self, why: str, detail: str) -> web.Response:
        refusal = self.assumptions.refusals[why]
        message = f"{refusal.message}: {detail}" if detail else refusal.message
        return web.json_response({"responseCode": refusal.code, "message": message}, status=refusal.status)

    async def _sending(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.sender.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _is_api(request: web.Request) -> bool:
    return request.path.startswith(wire.API)


def _to(url: str) -> web.HTTPSeeOther:
    # The shop's own bytes: it was judged when the payment was created, and nothing is to be quoted anew.
    return web.HTTPSeeOther(URL(url, encoded=True))


def _no_such_link() -> web.Response:
    return pages.message_page(404, "No such payment", "This link leads nowhere. Ask the shop for a new one.")


def _day(request: web.Request, name: str) -> str:
    text = request.query.get(name, "")
    if _DAY.fullmatch(text):
        with suppress(ValueError):
            return date.fromisoformat(text).isoformat()
    raise Refused(assumed.MALFORMED, f"{name}: YYYY-MM-DD is required")


async def _form(request: web.Request) -> Mapping[str, str]:
    """The last value of each field. Only the encoding a plain HTML form uses is read."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType
    body = (await request.read()).decode("utf-8", "replace")
    try:
        return {name: values[-1] for name, values in parse_qs(body, max_num_fields=50).items()}
    except ValueError:
        raise web.HTTPBadRequest from None
