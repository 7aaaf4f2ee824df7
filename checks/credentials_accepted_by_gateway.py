"""credentials.accepted_by_gateway: the gateway answers a signed read-only call with these credentials."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from checks.facts.credentials import KEY_BAD
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.errors import GatewayRefused
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, failed, inconclusive, passed

_MINUTE = timedelta(minutes=1)
_NOT_SENT = 0
_ABOUT_CREDENTIALS = frozenset({_NOT_SENT, 200, 400, 401, 403})
"""Statuses of a refusal that speaks of who asks. Others (404, 429, 5xx) neither accept nor refuse a credential."""


class Call(Frozen):
    """How long the gateway may take, its client's repeats included."""

    within: Duration = 20.0


@dataclass(frozen=True)
class Answer:
    """`refused` is why the gateway refused the credentials, '' when it accepted them; `fix` is the client's own."""

    gateway: str
    refused: str
    fix: str


@or_finding
async def gather(world: World, params: Call) -> Answer:
    now = world.clock.now()
    gateway = world.addresses.gateway
    try:
        async with asyncio.timeout(params.within):
            await world.gateway.history(now - _MINUTE, now)
    except TimeoutError:
        raise Unjudged(
            inconclusive(
                f"{gateway} gave no answer within {params.within:g} s, so the credentials were neither accepted nor "
                "refused",
                "Ask again once the gateway answers; see its status page and the network.",
            )
        ) from None
    except GatewayRefused as refused:
        if refused.status not in _ABOUT_CREDENTIALS:
            raise Unjudged(
                inconclusive(
                    f"{gateway} refused the call for another reason than the credentials: {refused}",
                    refused.remedy or "See the gateway's documentation for this answer, then ask again.",
                )
            ) from None
        return Answer(gateway, str(refused), refused.remedy)
    return Answer(gateway, "", "")


@unless_finding
def judge(answer: Answer, _params: Call) -> Finding:
    if answer.refused:
        return failed(
            f"{KEY_BAD}: {answer.refused}",
            answer.fix or "Put the Application ID and Secret of one account into the settings.",
            gateway=answer.gateway,
        )
    return passed(f"{answer.gateway} accepted a signed read-only call with these credentials", gateway=answer.gateway)


CHECK = Check(
    name="credentials.accepted_by_gateway",
    promise="The gateway accepts the API key and secret of this environment.",
    rows=("G1", "G17", "T2", "T5"),
    gather=gather,
    judge=judge,
    params=Call,
    network=True,
    why="A credential that looks right may be revoked, mistyped or another account's; only the gateway knows.",
    looks_at="The gateway's answer to one signed request for the payments of the last minute. It reads and changes "
    "nothing.",
    fix="Copy the Application ID and the Application Secret of one and the same account from the gateway's dashboard.",
    see_it_fail="Change one character of `VITE_IKHOKHA_API_SECRET` in the dotenv file of staging, then "
    "`./inv validate --env staging`.",
    says=(KEY_BAD,),
)
