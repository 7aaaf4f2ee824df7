"""webhook.withstands_probes, payment.withstands_probes: what endpoints do with the bad input of the table of probes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from checks.judging import or_finding, unless_finding
from checks.probes.asking import PaymentProbing, WebhookProbing, run
from checks.probes.judging import finding
from checks.probes.playing import Run
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding


def _asking(prefix: str) -> Callable[[World, WebhookProbing | PaymentProbing], Awaitable[object]]:
    """Plays the probes whose names begin so."""

    @or_finding
    async def gather(world: World, params: WebhookProbing | PaymentProbing) -> Run:
        return await run(world, prefix, params)

    return gather


@unless_finding
def judge(fact: Run, _params: WebhookProbing | PaymentProbing) -> Finding:
    return finding(fact)


WEBHOOK = Check(
    name="webhook.withstands_probes",
    promise="No forged, tampered, replayed or odd webhook changes an order, breaks the service or is accepted wrongly.",
    rows=("G3", "G11", "G14", "G17", "T6", "T12"),
    gather=_asking("webhook."),
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
    see_it_fail=(
        "`SANDBOX_FAULT=ignores-the-link ./inv deploy` deploys a shop that other proofs let pass; `./inv probe` names "
        "what it does with one order's link and another's reference."
    ),
    says=("Webhook signature mismatch",),
)

PAYMENT = Check(
    name="payment.withstands_probes",
    promise="No wrong payment request makes a payment, and a gateway in trouble breaks nothing and tells nothing.",
    rows=("G3", "G13", "G14", "T11", "T12", "T14"),
    gather=_asking("payment."),
    judge=judge,
    params=PaymentProbing,
    network=True,
    when=When.LIVE,
    why="Whoever asks for a payment chooses every byte of it: a price that is believed is the price that is paid.",
    pci=("6.2.4", "6.5.1"),
    acceptable=False,
    looks_at=(
        "The answers to the payment probes of docs/probes.md, and what the service then says of the references they "
        "used. In the sandbox the gateway is slow, down, talks nonsense and refuses for some of them."
    ),
    fix="The right answer and the fix of each probe are in docs/probes.md.",
    see_it_fail=(
        "`SANDBOX_FAULT=takes-callers-urls ./inv deploy` deploys a shop that its other proofs let pass; `./inv probe` "
        "names whose addresses it gives the gateway."
    ),
)
