"""payment.is_paid: somebody paid the smoke payment, and the gateway says so."""

from __future__ import annotations

from checks.facts.smoke import Paid, Smoke, as_moments, paid
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding, failed, inconclusive, passed


@or_finding
async def gather(world: World, params: Smoke) -> Paid:
    return await paid(world, params)


@unless_finding
def judge(fact: Paid, params: Smoke) -> Finding:
    made = fact.created
    measured = {
        "reference": made.reference,
        "cents": made.cents,
        "gateway_status": fact.seen.status,
        "took_ms": fact.took_ms,
        "mode": fact.how,
        "link": fact.link.url,
        "earlier": fact.earlier,
        "moments": as_moments(fact.moments_ms),
    }
    if not fact.seen.paid and fact.how == "operator":
        return inconclusive(
            f"nobody paid {made.asked} at {fact.link.url} within {params.wait:g} s; "
            f"after {fact.took_ms} ms the gateway says {fact.seen.status}",
            "Look in the gateway's dashboard that it was not paid late. Run again with a person ready to pay, or raise "
            "`wait`, and the step's `timeout` above it.",
            **measured,
        )
    if not fact.seen.paid:
        return failed(
            f"{made.asked}: the card was sent to the pay page, which answered {fact.page_status} in {fact.page_ms} ms, "
            f"and after {fact.took_ms} ms the gateway still says {fact.seen.status}",
            "Open the pay link in a browser and pay with the test card; see the gateway's log.",
            page_status=fact.page_status,
            **measured,
        )
    if fact.seen.amount != made.cents:
        return failed(
            f"{made.asked}: after {fact.took_ms} ms the gateway says it was paid {fact.seen.amount} cents, asked were "
            f"{made.cents}",
            "The service asks the gateway for another amount than the customer agreed to; amounts are in cents.",
            **measured,
        )
    if fact.earlier:
        return passed(
            f"{made.asked} was paid for earlier in this run (its cap allows no second one), and the gateway says "
            f"{fact.seen.status} after {fact.took_ms} ms",
            **measured,
        )
    by_card = f"; the pay page answered the card with {fact.page_status} in {fact.page_ms} ms"
    return passed(
        f"{made.asked} was paid ({fact.how}{by_card if fact.how == 'card' else ''}) and the gateway says "
        f"{fact.seen.status} for {fact.seen.amount} cents after {fact.took_ms} ms",
        **measured,
    )


CHECK = Check(
    name="payment.is_paid",
    promise="The smoke payment can be paid at its pay link, and the gateway calls it paid with the same amount.",
    rows=("G8", "T12"),
    gather=gather,
    judge=judge,
    params=Smoke,
    network=True,
    when=When.LIVE,
    why="A link that cannot be paid earns nothing.",
    looks_at=(
        "The pay link of the smoke payment, which is paid as `mode` says: by the sandbox's test card, or by a person "
        "who sees the link; then the gateway's own status and amount."
    ),
    fix=(
        "Open the pay link in a browser and pay it; see the gateway's log for why it was refused. Nobody paid in mode "
        "`operator`: run again with a person ready, or raise `wait` and, above it, the step's `timeout`. The cap is "
        "reached: a run pays no more than `cap` in all, so start a new run or raise it."
    ),
    see_it_fail=(
        "Give it `with: {mode: operator, cap: 100, wait: 5 s}` in the sandbox and pay nothing: it is inconclusive, "
        "which does not promote."
    ),
)
