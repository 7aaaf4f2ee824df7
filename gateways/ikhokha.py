"""The iKhokha client: signed requests over httpx, every answer judged, every failure named.

GatewayUnreachable    no answer, and nothing was made: a reading request, or one that never left
`-- OutcomeUnknown    a creation that left and was not answered by the gateway itself: `settle` finds out
GatewayRefused        it said no; also HTTP 200 with a `responseCode` other than "00"
`-- CredentialsRefused  because of the account or its signature
GatewayGarbled        what came is not the protocol; of a creation nothing is known then either
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import httpx

from gateways import ikhokha_answers as answers
from gateways import ikhokha_wire as wire
from gateways.ikhokha_answers import API_KEY, Answer
from gateways.ikhokha_line import SEE_STATUS, Line
from pipeline.asking_again import Patience, retrying
from pipeline.contracts import Clock, GatewayPayment, PayLink, PaymentRequest, SignedWebhook, SigningScheme
from pipeline.errors import CredentialsRefused, GatewayGarbled, GatewayRefused
from pipeline.telling import silent

if TYPE_CHECKING:
    from pipeline.settings import Settings

TEST_MODE = "VITE_IKHOKHA_TEST_MODE"
RETRY_ATTEMPTS = "VITE_IKHOKHA_RETRY_ATTEMPTS"
RETRY_DELAY = "VITE_IKHOKHA_RETRY_DELAY"
_TOO_MANY = 429
_LONGEST_PAUSE_S = 60.0


class IKhokha:
    """Implements contracts.Gateway for one account, as the settings name it.

    `http` makes clients that trust the environment's CA and follow no redirect. Reading requests are tried
    VITE_IKHOKHA_RETRY_ATTEMPTS times in all while there is no answer, with pauses that grow from
    VITE_IKHOKHA_RETRY_DELAY, and `tell` says so; creating ones once, always.
    """

    def __init__(
        self,
        settings: Settings,
        http: Callable[[], httpx.AsyncClient],
        clock: Clock,
        scheme: SigningScheme,
        *,
        random: Random | None = None,
        tell: Callable[[str], None] = silent,
    ) -> None:
        self.scheme = scheme
        self._settings = settings
        self._line = Line(settings, http, clock)
        self._clock = clock
        self._random = random or SystemRandom()
        self._tell = tell

    async def create(self, request: PaymentRequest) -> PayLink:
        """Makes a pay link. Sent once: after OutcomeUnknown a link may exist, and `settle` tells."""
        mode = "test" if self._settings.text(TEST_MODE).strip().lower() == "true" else "live"
        body = wire.serialise(
            {
                "entityID": self._settings.text(API_KEY).strip(),
                "amount": int(request.amount),
                "currency": "ZAR",
                "requesterUrl": request.requester_url,
                "mode": mode,
                "description": request.description,
                "paymentReference": request.reference,
                "externalTransactionID": request.reference,
                "urls": {
                    "callbackUrl": request.callback_url,
                    "successPageUrl": request.success_url,
                    "failurePageUrl": request.failure_url,
                    "cancelUrl": request.cancel_url,
                },
            }
        )
        try:
            return answers.link(await self._line.ask("POST", wire.PAYMENT_PATH, body=body), request.reference)
        except GatewayGarbled as error:
            raise GatewayGarbled(str(error), f"{SEE_STATUS} {error.remedy}") from None

    async def settle(self, reference: str) -> GatewayPayment | None:
        """What became of a creation with an unknown outcome: the newest payment of `reference`, or None.

        Asked VITE_IKHOKHA_RETRY_ATTEMPTS times in all while the gateway knows of none, for it may still be at work.
        None is its own word each time; a 404 that is not its JSON raises GatewayRefused.
        """
        if not reference:
            raise GatewayRefused("not asked: an empty reference names no payment", "Name the payment's reference.")
        for left in reversed(range(self._tries())):
            answer = await self._read(wire.STATUS_EXTERNAL_PATH, {"externalReference": reference})
            if answer.status != 404 or answers.as_object(answer.body) is None:
                payment = answers.payment(answer, answers.accepted(answer))
                if payment.reference not in ("", reference):
                    raise answers.garbled(answer, f"it speaks of reference {payment.reference[:80]!r}")
                return replace(payment, reference=reference)
            if left:
                await self._clock.sleep(self._pause())
        return None

    async def status(self, link_id: str) -> GatewayPayment:
        """What the gateway says of one payment. Raises GatewayRefused with status 404 for one it does not know."""
        if not answers.LINK_ID.fullmatch(link_id):
            raise GatewayRefused(
                f"not asked: {link_id[:80]!r} is no paylinkID", "Use the ID the gateway gave.", status=404
            )
        answer = await self._read(f"{wire.STATUS_PATH}/{link_id}")
        payment = answers.payment(answer, answers.accepted(answer))
        if payment.link_id != link_id:
            raise answers.garbled(answer, f"it speaks of payment {payment.link_id[:80]!r}")
        return payment

    async def history(self, since: datetime, until: datetime) -> Sequence[GatewayPayment]:
        """The payments created from `since` to `until`, both inclusive and aware, as the gateway lists them.

        The gateway is asked by day, in a time zone it does not state: a day more is asked for on either side.
        """
        day = timedelta(days=1)
        query = {"startDate": f"{since - day:%Y-%m-%d}", "endDate": f"{until + day:%Y-%m-%d}"}
        answer = await self._read(wire.HISTORY_PATH, query)
        items = answers.accepted(answer)
        if not isinstance(items, list):
            raise answers.garbled(answer, "a list of payments is expected")
        payments = [answers.payment(answer, item) for item in items]
        return [p for p in payments if since <= answers.instant(answer, p.created) <= until]

    def webhook(self, path: str, link_id: str, reference: str, status: str) -> SignedWebhook:
        self._line.account()  # refuses to sign with half an account
        body = wire.webhook_text(link_id, reference, status).encode()
        try:
            return self.scheme.sign(path.partition("?")[0], body, at=self._clock.now())
        except ValueError as error:
            raise CredentialsRefused(
                f"not signed: {error} (contract.webhook_scheme)", "Set VITE_IKHOKHA_WEBHOOK_SECRET to a secret."
            ) from None

    async def _read(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        async def ask() -> Answer:
            answer = await self._line.ask("GET", path, query=query)
            if answer.status == _TOO_MANY:
                raise answers.refused(answer, answers.as_object(answer.body) or {})
            return answer

        patience = Patience(
            self._clock, self._random, self._tell, tries=self._tries(), first_s=self._pause(), most_s=_LONGEST_PAUSE_S
        )
        return await retrying(ask, patience)

    def _tries(self) -> int:
        return max(1, self._line.number(RETRY_ATTEMPTS, 3))

    def _pause(self) -> float:
        return self._line.number(RETRY_DELAY, 2000) / 1000
