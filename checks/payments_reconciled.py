"""payments.reconciled: invariant I1, measured over everything paid since the run began."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, failed, passed
from pipeline.words import count

if TYPE_CHECKING:
    from pipeline.reconcile import Reconciliation

NAMED_AT_MOST = 20


class Reconciled(Frozen):
    """How long payments that are still settling get before they count."""

    settle: Duration = 10.0


@or_finding
async def gather(world: World, params: Reconciled) -> tuple[datetime, Reconciliation]:
    from pipeline.reconcile import reconcile

    since = world.run.started
    return since, await reconcile(
        world.gateway, world.service, world.clock, since=since, settle=params.settle, repair=False
    )


@unless_finding
def judge(fact: tuple[datetime, Reconciliation], _params: Reconciled) -> Finding:
    since, result = fact
    measured = {
        "since": since.isoformat(timespec="seconds"),
        "paid": result.paid,
        "activated": result.activated,
        "mismatches": [
            {
                "reference": m.reference,
                "what": m.what.value,
                "found": m.found,
                "expected": m.expected,
                "cents": m.cents,
            }
            for m in result.mismatches[:NAMED_AT_MOST]
        ],
    }
    if not result.ok:
        shown = result.mismatches[:NAMED_AT_MOST]
        named = "; ".join(f"{m.reference}: {m.what}: {m.found}, expected {m.expected}" for m in shown)
        rest = len(result.mismatches) - NAMED_AT_MOST
        return failed(
            f"gateway and service disagree on {count(len(result.mismatches), 'payment')} since {measured['since']}: "
            f"{named}" + (f"; and {rest} more" if rest > 0 else ""),
            " ".join(
                [
                    "`./inv reconcile` names each and delivers lost webhooks again with --apply.",
                    *dict.fromkeys(m.todo for m in result.mismatches if not m.lost),
                ]
            ),
            **measured,
        )
    return passed(
        f"since {measured['since']} the gateway calls {result.paid} payments paid and each has exactly one activation",
        **measured,
    )


CHECK = Check(
    name="payments.reconciled",
    promise="Every payment the gateway calls paid has exactly one activation, and none is activated unpaid.",
    rows=("G9", "G13", "G18", "G21", "T12", "T17"),
    gather=gather,
    judge=judge,
    params=Reconciled,
    network=True,
    when=When.LIVE,
    why="Invariant I1: no paid order is lost or doubled.",
    pci=("6.5.2",),
    acceptable=False,
    looks_at=(
        "The gateway's history since the run began, for each payment in it the service's enrolment, and for each that "
        "is paid the service's amount."
    ),
    fix=(
        "`./inv reconcile` names each payment with what to do, and with --apply delivers again the webhooks of what is "
        "paid and not activated. The rest is for a person: revoke what was not paid, refund what was paid twice."
    ),
    see_it_fail=(
        "Keep the gateway's webhooks from the service while somebody pays, for example in the proxy in front of it, "
        "until the watch ends: what was paid is not activated."
    ),
)
