"""payment.initialises: a customer who wants to pay gets a pay link, in time, for the right amount."""

from __future__ import annotations

from urllib.parse import urlsplit

from checks.facts.payments import remedy_for
from checks.facts.smoke import Initialised, Smoke, initialised
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding, failed, inconclusive, passed


@or_finding
async def gather(world: World, params: Smoke) -> Initialised:
    return await initialised(world, params)


@unless_finding
def judge(fact: Initialised, _params: Smoke) -> Finding:
    made, took = fact.created, fact.created.took_ms
    measured = {
        "reference": made.reference,
        "cents": made.cents,
        "status": made.status,
        "took_ms": took,
        "limit_ms": fact.under_s * 1000,
        "gateway_took_ms": fact.asked_ms,
    }
    if made.link is None:
        finding = inconclusive if made.status == 429 else failed
        return finding(f"{made.asked}: {made.flaw} after {took:g} ms", remedy_for(made.status), **measured)
    if took >= fact.under_s * 1000:
        return failed(
            f"{made.asked}: answered {made.status} after {took:g} ms, allowed under {fact.under_s:g} s",
            "Find what the service waits for: its gateway client's time limit, its database, its own retries.",
            **measured,
        )
    if urlsplit(made.link.url).scheme != "https":
        return failed(
            f"{made.asked}: answered {made.status} after {took:g} ms, and its pay link {made.link.url} is not https",
            "Customers type their card there: check the gateway's address in the settings.",
            **measured,
        )
    if fact.seen is None or isinstance(fact.seen, Finding):
        why = fact.seen.reason if fact.seen else "it was not asked"
        return inconclusive(
            f"{made.asked}: got a link after {took:g} ms, but the gateway, asked for it, could not confirm it "
            f"(after {fact.asked_ms} ms): {why}",
            (fact.seen.remedy if fact.seen else "") or "Ask again once the gateway answers.",
            **measured,
        )
    if fact.seen.link_id != made.link.id or fact.seen.amount != made.cents or fact.seen.paid:
        return failed(
            f"{made.asked}: answered {made.status} after {took:g} ms; the gateway, asked, knows link "
            f"{fact.seen.link_id} with {fact.seen.amount} cents, {fact.seen.status} (after {fact.asked_ms} ms); "
            f"expected {made.link.id} with {made.cents} cents, not paid",
            "The service changes the amount or the link on the way to the gateway; amounts are in cents.",
            **measured,
        )
    return passed(
        f"{made.asked}: answered {made.status} with a pay link in {took:g} ms (limit {fact.under_s:g} s), "
        f"and the gateway knows it with that amount, unpaid (asked, {fact.asked_ms} ms)",
        **measured,
    )


CHECK = Check(
    name="payment.initialises",
    promise="A payment asked of the service gets a pay link in time, and the gateway knows it with the same amount.",
    rows=("G1", "G8", "G13", "G15", "T5", "T10", "T12"),
    gather=gather,
    judge=judge,
    params=Smoke,
    network=True,
    when=When.LIVE,
    why="It is the first thing that breaks when credentials, address or settings are wrong.",
    looks_at=(
        "One smoke payment: it is asked of the service as a customer would, timed, and then looked up at the gateway. "
        "Nothing is paid."
    ),
    fix=(
        "An error of the service: see its log for what the gateway answered; API key invalid or missing is the usual "
        "one. Too slow: find what the service waits for. Another amount or link: amounts are in cents, all the way."
    ),
    see_it_fail="`./inv drill --fault wrong-api-secret`, or `./inv drill --fault slow-initialisation`.",
    says=("API key invalid or missing",),
)
