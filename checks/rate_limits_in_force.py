"""rate_limits.in_force: a burst is answered 429, on the payment and the webhook path, and the gateway still gets in.

The requests can create nothing: a payment without reference, amount or course; a webhook without a signature; and a
correctly signed webhook for a payment that nobody made. The check ends when the limits let its address in again, so
that what follows from the same address is not limited; it belongs after all other proofs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from checks.facts.bursts import LIMITED, Burst, Met, Send, burst, one, reached
from checks.facts.harmless import harmless_webhook
from checks.facts.told import Told, finding_of
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, SecurityEvent, When, World
from pipeline.spec import Duration, Frozen, RateLimits
from pipeline.verdict import Finding, Verdict, passed

if TYPE_CHECKING:
    import httpx

_NAME = "rate_limits.in_force"
_JSON = {"Content-Type": "application/json"}
_AGAIN_S = 1.0
"""Between two looks whether a limit let go; also how long one without a usable Retry-After is waited for at first."""
_NOTHING = json.dumps({"probe": _NAME}).encode()
"""Neither a payment nor a webhook: no reference, no amount, no link."""


class Limits(Frozen):
    """How hard to try, how long to wait, and what the limit on the webhook path counts.

    `refused`: only webhooks with a bad signature count. `source`: all of one address count, the good ones too; then a
    limited address is ours alone, and that the gateway's own is spared cannot be shown from here.
    """

    burst: int = Field(150, ge=10, le=2000, description="At most so many requests on each path.")
    concurrency: int = Field(10, ge=1, le=50, description="How many of them at a time.")
    wait: Duration = Field(20.0, description="The longest a limit is waited for until it lets go.")
    webhook_limit: Literal["refused", "source"] = Field(
        "refused", description="`source` where all webhooks of one address count, the good ones too."
    )


@dataclass(frozen=True)
class Limited:
    """One path: its burst, and what the same request met once the limit should have let go (None: not asked)."""

    path: str
    burst: Burst
    after: Met | None
    waited_ms: int


@dataclass(frozen=True)
class Pressed:
    """`before`, `during` and `after`: a correctly signed webhook, before its path is limited, meanwhile, at the end.

    `declared`: what the service says it takes, under `contract.limits`.
    """

    payments: Limited
    webhooks: Limited
    before: Met
    during: Met
    after: Met
    declared: RateLimits


@or_finding
async def gather(world: World, params: Limits) -> Pressed:
    from pipeline.service import PROOF_HEADER  # brings httpx along

    contract = world.spec.contract
    create = _post(world, contract.create, _NOTHING, {PROOF_HEADER: world.run.proof_token.reveal()})
    unsigned = _post(world, contract.webhook, _NOTHING, {})
    harmless = harmless_webhook(world, _NAME)
    signed = _post(world, contract.webhook, harmless.body, dict(harmless.headers))
    before = await one(world, signed)
    bursts = "bursts of empty payment requests and of unsigned webhooks"
    world.security(SecurityEvent(world.clock.now(), "probe.sent", _NAME, bursts))
    payments = await burst(world, create, params.burst, params.concurrency)
    webhooks = await burst(world, unsigned, params.burst, params.concurrency)
    during = await one(world, signed)
    let_go = await asyncio.gather(
        _let_go(world, contract.create, payments, create, params.wait),
        _let_go(world, contract.webhook, webhooks, unsigned, params.wait),
    )
    return Pressed(*let_go, before, during, await one(world, signed), contract.limits)


def _post(world: World, path: str, body: bytes, headers: dict[str, str]) -> Send:
    async def send(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(world.service.base + path, content=body, headers={**_JSON, **headers})

    return send


async def _let_go(world: World, path: str, met: Burst, send: Send, wait: float) -> Limited:
    """Waits as long as the 429 asks, then asks until it is answered or `wait` s have passed."""
    if met.limited is None:
        return Limited(path, met, None, 0)
    begun = world.clock.monotonic()
    asked_for = max(met.limited.retry_after.seconds or 0.0, _AGAIN_S)
    if asked_for > wait:
        return Limited(path, met, None, 0)
    await world.clock.sleep(asked_for)
    after = await one(world, send)
    while after.status == LIMITED and world.clock.monotonic() - begun < wait:
        await world.clock.sleep(_AGAIN_S)
        after = await one(world, send)
    return Limited(path, met, after, round((world.clock.monotonic() - begun) * 1000))


# ---- judging -----------------------------------------------------------------------------------------------


@unless_finding
def judge(fact: Pressed, params: Limits) -> Finding:
    measured = {
        "payments": _measured(fact.payments),
        "webhooks": _measured(fact.webhooks),
        "signed_before": fact.before.status,
        "signed_during": fact.during.status,
        "signed_after": fact.after.status,
        "signed_took_ms": [fact.before.took_ms, fact.during.took_ms, fact.after.took_ms],
    }
    told = [
        *_path(fact.payments, "an empty payment request", params, fact.declared),
        *_path(fact.webhooks, "an unsigned webhook", params, fact.declared),
        *_gateway(fact, params),
    ]
    if told:
        return finding_of(told, measured)
    limits = " and ".join(
        f"POST {one.path} after {one.burst.let_through} requests in {one.burst.took_ms} ms (429; answered again after "
        f"{one.waited_ms} ms)"
        for one in (fact.payments, fact.webhooks)
    )
    return passed(
        f"a burst is limited on {limits}; a correctly signed webhook meanwhile was answered {fact.during.status} in "
        f"{fact.during.took_ms} ms",
        **measured,
    )


def _measured(limited: Limited) -> dict[str, object]:
    said = limited.burst.limited
    return {
        "path": limited.path,
        "sent": limited.burst.sent,
        "statuses": {str(status): count for status, count in limited.burst.statuses.items()},
        "took_ms": limited.burst.took_ms,
        "retry_after": "" if said is None else str(said.retry_after),
        "after_status": None if limited.after is None else limited.after.status,
        "waited_ms": limited.waited_ms,
    }


def _path(limited: Limited, what: str, params: Limits, declared: RateLimits) -> Sequence[Told]:
    met, path = limited.burst, f"POST {limited.path}"
    refused = _not_harmless(met, path, what)
    if refused is not None:
        return [refused]
    if met.limited is None:
        if met.lost or not met.sent:
            why = f"{path}: no answer after {met.let_through} of them ({met.lost or 'nothing was sent'})"
            fix = "See that the service answers, and what drops connections from this machine, then run again."
            return [(Verdict.INCONCLUSIVE, why, fix)]
        within = f"within {met.sent} requests in {met.took_ms} ms"
        if met.sent < params.burst:
            fix = "See why the service answers so slowly, or ask from a machine that is nearer to it; then run again."
            return [(Verdict.INCONCLUSIVE, f"{path}: no 429 {within}, too slow to be a burst", fix)]
        if not reached(met, declared):
            says = f"{declared.burst} at once and {declared.per_second} a second"
            found = f"{path}: no 429 {within}, but so few in that time are within contract.limits ({says})"
            fix = (
                "Run again where more is sent in less time: while this machine is less busy, from one nearer to the "
                "service, with a larger `burst` or `concurrency`."
            )
            return [(Verdict.INCONCLUSIVE, found, fix)]
        return [
            (
                Verdict.FAIL,
                f"{path}: no limit in force {within}; 429 is expected",
                "Limit requests by source address, at the front (nginx: limit_req and `limit_req_status 429`) or in "
                "the service; a limit above this burst needs `with: {burst: ...}`.",
            )
        ]
    return [*_retry_after(met.limited, path), *_recovery(limited, path)]


def _not_harmless(met: Burst, path: str, what: str) -> Told | None:
    """The finding for an answer that ended the burst; None when all were refusals."""
    within = f" (all within {met.took_ms} ms)"
    for status in met.statuses:
        if 200 <= status < 300:
            fix = "Refuse what is incomplete or unsigned before anything else is done with it; nothing more was sent."
            return Verdict.FAIL, f"{path}: {what} was answered {status}{within}; a refusal (4xx) is expected", fix
        if status >= 500:
            fix = (
                "Answer 429 with Retry-After in place of a 5xx (nginx: `limit_req_status 429`), and let nothing in a "
                "burst break the service; see its log."
            )
            found = f"{path}: {status} after {met.let_through} requests{within}; 429 is expected"
            return Verdict.FAIL, found, fix
        if status in (404, 405):
            fix = "Set contract.create and contract.webhook to the paths where the service takes them."
            found = f"{path}: {what} was answered {status}{within}: the service takes nothing there"
            return Verdict.FAIL, found, fix
        if 0 < status < 400:
            fix = "Set `url` and the path to where the service answers without a redirect, then run again."
            found = f"{path}: {what} was answered {status}{within}, so no limit was looked for"
            return Verdict.INCONCLUSIVE, found, fix
    return None


def _retry_after(met: Met, path: str) -> Sequence[Told]:
    if not met.retry_after.flaw:
        return []
    fix = "Send Retry-After with each 429: the seconds until the next request is answered, a small whole number."
    return [(Verdict.ADVICE, f"{path}: limited {met.retry_after.flaw}", fix)]


def _recovery(limited: Limited, path: str) -> Sequence[Told]:
    after = limited.after
    if after is None and not limited.burst.let_through:
        fix = "Lift the limit for this address or wait until it is over, then run again; a ban is no rate limit."
        found = f"{path}: 429 from the first request on, and not seen to let go: no burst was looked at"
        return [(Verdict.INCONCLUSIVE, found, fix)]
    if after is None:
        fix = "Raise `wait` to see it let go. Until then this address is limited, and what follows from it fails."
        return [(Verdict.ADVICE, f"{path}: it asks for more patience than `wait` allows; not seen to let go", fix)]
    waited = f"{limited.waited_ms} ms after the burst"
    if after.status == LIMITED:
        fix = "Let the limit recover by itself, and tell in Retry-After when; a ban is no rate limit."
        return [(Verdict.FAIL, f"{path}: still 429 {waited}", fix)]
    if after.status == 0 or after.status >= 500:
        found = f"answered {after.status}" if after.status else f"no answer ({after.lost})"
        return [(Verdict.FAIL, f"{path}: {found} {waited}", "See in the service's log what the burst broke.")]
    return []


def _gateway(fact: Pressed, params: Limits) -> Sequence[Told]:
    """Whether a correctly signed webhook gets in while unsigned ones are limited, and before and after that.

    Refused before, its signature is not the service's, and then it counts as any other forged one.
    """
    ours = params.webhook_limit == "source" and fact.during.status == LIMITED
    asked = [(fact.before, "before the burst")]
    asked += [] if ours else [(fact.during, "while its path was limited")]
    asked += [(fact.after, "after the burst")]
    told = next((one for met, when in asked if (one := _control(met, when)) is not None), None)
    if told is not None or not ours:
        return [told] if told else []
    fix = "Count only refused webhooks, or leave the gateway's addresses out of the limit; then nothing is open."
    found = "the webhook limit counts good webhooks, too: that the gateway's own address is spared was not seen"
    return [(Verdict.ADVICE, found, fix)]


def _control(met: Met, when: str) -> Told | None:
    told = f"a correctly signed webhook {when} was answered {met.status} in {met.took_ms} ms"
    if 200 <= met.status < 300 or met.status == 404:
        return None
    if met.status == LIMITED and when.startswith("before"):
        fix = "Wait a minute, or lower the traffic from this address, then run again."
        return Verdict.INCONCLUSIVE, f"{told}: this address was limited already", fix
    if met.status == LIMITED:
        fix = (
            "Whoever floods the path shuts the gateway out: count only refused webhooks. If the limit is for each "
            "source address and spares the gateway's, say `with: {webhook_limit: source}`."
        )
        return Verdict.FAIL, f"{told}; 2xx is expected", fix
    if met.status >= 500:
        return Verdict.FAIL, f"{told}; 2xx is expected", "See the service's log: a burst must not break the webhook."
    if met.status == 0:
        fix = "See that the service answers, then run again."
        return (
            Verdict.INCONCLUSIVE,
            f"a correctly signed webhook {when} got no answer in {met.took_ms} ms ({met.lost})",
            fix,
        )
    fix = (
        "Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application Secret. Where "
        "the service takes webhooks from listed addresses alone, list this machine's, too."
    )
    return Verdict.INCONCLUSIVE, f"{told}, so that the gateway still gets in was not shown", fix


CHECK = Check(
    name=_NAME,
    promise="A burst of requests is limited on the payment and the webhook path, and the gateway is not shut out.",
    rows=("G3", "G11", "G14", "T6"),
    gather=gather,
    judge=judge,
    params=Limits,
    network=True,
    when=When.LIVE,
    why="Without a limit anyone can test stolen cards through the shop; a clumsy one keeps out the gateway's webhooks.",
    looks_at=(
        "A bounded burst of empty payment requests and of unsigned webhooks, until the first 429; its Retry-After; a "
        "correctly signed webhook for no payment meanwhile; and whether both paths answer again afterwards."
    ),
    fix=(
        "Limit by source address and answer 429 with Retry-After. On the webhook path count only webhooks whose "
        "signature is wrong, so that a flood of forged ones never keeps out the gateway."
    ),
    see_it_fail="`SANDBOX_FAULT=no-rate-limit ./inv deploy`: the shop limits nothing.",
)
