"""payment.withstands_probes: wrong payment requests are refused, and a gateway in trouble costs nobody an order."""

from __future__ import annotations

from checks.judging import or_finding, unless_finding
from checks.probes.asking import PaymentProbing, run
from checks.probes.judging import finding
from checks.probes.playing import Run
from pipeline.contracts import Check, When, World
from pipeline.verdict import Finding


@or_finding
async def gather(world: World, params: PaymentProbing) -> Run:
    return await run(world, "payment.", params)


@unless_finding
def judge(fact: Run, _params: PaymentProbing) -> Finding:
    return finding(fact)


CHECK = Check(
    name="payment.withstands_probes",
    promise="No wrong payment request makes a payment, and a gateway in trouble breaks nothing and tells nothing.",
    rows=("G3", "G13", "G14", "T11", "T12", "T14"),
    gather=gather,
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
    see_it_fail="`SANDBOX_FAULT=takes-any-whole-amount ./inv deploy` deploys a shop that takes 0 and negative amounts.",
)
