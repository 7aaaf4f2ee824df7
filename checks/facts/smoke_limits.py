"""What a smoke payment may never do: cost more than its cap, type a test card at a real gateway, pay what is unclear.

Each function raises Unjudged with the finding, before anything was sent that could cost money.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from checks.facts.payments import Created
from checks.judging import Unjudged
from pipeline.contracts import GatewayPayment, PayLink, World
from pipeline.spec import Course
from pipeline.verdict import Finding, failed, inconclusive


def refuse_above_the_cap(course: Course, cap: int) -> None:
    """Raises Unjudged (FAIL) when one payment of the smoke course would cost more than a run may spend."""
    if course.cents <= cap:
        return
    raise Unjudged(
        failed(
            f"the smoke course {course.id} costs {course.cents} cents, the cap is {cap}; nothing was sent",
            "Offer a cheaper smoke course (contract.smoke_course), or raise `cap` if you mean to spend that much.",
            cents=course.cents,
            cap_cents=cap,
        )
    )


def refuse_card_at_a_real_gateway(world: World) -> None:
    testing = world.settings.text("VITE_IKHOKHA_TEST_MODE") == "true"
    if not testing and not on_loopback(world.addresses.gateway):
        raise Unjudged(
            failed(
                f"mode card is for the sandbox and for test mode; {world.addresses.gateway} takes real money, "
                "so no card was sent to it",
                "Use `with: {mode: operator, cap: ...}` (a person pays) or mode initialise (nobody pays).",
            )
        )


def refuse_what_may_cost_more(
    world: World, mode: str, made: Created, link: PayLink, seen: GatewayPayment | Finding | None
) -> None:
    """Raises Unjudged before anything is paid or shown, unless the gateway itself confirms what will be paid."""
    told = f"{made.asked}: answered {made.status} after {made.took_ms:g} ms"
    if seen is None or isinstance(seen, Finding):
        why = seen.reason if seen else "it was not asked"
        raise Unjudged(
            inconclusive(
                f"{told}, but the gateway could not confirm the amount ({why}), so nothing was paid",
                "Ask again once the gateway answers.",
                reference=made.reference,
            )
        )
    if (seen.link_id, seen.amount, seen.paid) != (link.id, made.cents, False):
        raise Unjudged(
            failed(
                f"{told}, but the gateway knows link {seen.link_id} with {seen.amount} cents, {seen.status}; expected "
                f"{link.id} with {made.cents} cents, not paid; so nothing was paid",
                "The service asks the gateway for another amount or link than the customer agreed to; see "
                "payment.initialises.",
                reference=made.reference,
                cents=made.cents,
                gateway_cents=seen.amount,
            )
        )
    if urlsplit(link.url).scheme != "https":
        raise Unjudged(
            failed(
                f"{told}, but its pay link {link.url} is not https; so nothing was paid",
                "A card is typed in there: check the gateway's address in the settings.",
                reference=made.reference,
            )
        )
    if mode == "card" and on_loopback(world.addresses.gateway) and not on_loopback(link.url):
        raise Unjudged(
            failed(
                f"the gateway is on this machine, but the pay link leads to {link.url}; nothing was sent there",
                "The service asked another gateway than its settings say: check how it reads its API URL.",
            )
        )


def on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
