"""webhook.withstands_probes: forged, tampered, replayed and odd webhooks are answered rightly and change nothing."""

from __future__ import annotations

from checks.judging import or_finding, unless_finding
from checks.probes.asking import WebhookProbing, run
from checks.probes.judging import finding
from checks.probes.playing import Run
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding


@or_finding
async def gather(world: World, params: WebhookProbing) -> Run:
    return await run(world, "webhook.", params)


@unless_finding
def judge(fact: Run, _params: WebhookProbing) -> Finding:
    return finding(fact)


CHECK = Check(
    name="webhook.withstands_probes",
    promise="No forged, tampered, replayed or odd webhook changes an order, breaks the service or is accepted wrongly.",
    rows=("G3", "G11", "G14", "G17", "T6", "T12"),
    gather=gather,
    judge=judge,
    params=WebhookProbing,
    network=True,
    when=When.LIVE,
    why="The webhook's address is public, and one message that is believed wrongly is a free course or a lost order.",
    pci=("6.2.4", "6.5.1"),
    acceptable=False,
    looks_at=(
        "The answers to the webhook probes of docs/probes.md, and the order each speaks of, read again afterwards. All "
        "orders are smoke payments of its own. A correctly signed webhook stands first and last and must be accepted."
    ),
    fix=(
        "The right answer and the fix of each probe are in docs/probes.md. Where the control was refused: webhook "
        "signature mismatch, compare `VITE_IKHOKHA_WEBHOOK_SECRET` with the gateway's Application Secret."
    ),
    see_it_fail="`SANDBOX_FAULT=signs-nothing-of-the-body ./inv deploy` deploys a shop that verifies the path alone.",
    says=("Webhook signature mismatch",),
)
