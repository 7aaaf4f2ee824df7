"""The verb `smoke`: one small payment of our own against what is live, followed from its link to the enrolment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import commands
import wiring
from commands import Flags
from pipeline.errors import Exit, Refused, Usage

if TYPE_CHECKING:
    from pipeline.contracts import World
    from pipeline.plan import Plan
    from pipeline.run_record import Outcome
    from pipeline.session import Session
    from pipeline.spec import CheckStep

MODES = ("initialise", "operator", "card")
WAIT_S = 300
_LONGEST_S = 120.0
"""What a proof may take beyond the wait for a person: a slow machine, the enrolment's own lag."""
_CHECKS = (
    "payment.initialises",
    "payment.is_paid",
    "webhook.arrives",
    "enrolment.active_once",
    "webhook.duplicate_is_harmless",
)


def smoke(flags: Flags, *, mode: str = "", cap: str = "", yes: bool = False) -> int:
    """`mode` '' is card in the sandbox and initialise elsewhere; `cap`, in cents, '' is the smoke course's price."""

    async def verb() -> Exit:
        from pipeline import runner

        chosen = wiring.choose(flags.spec, flags.env)
        how, cents = _mode(mode, chosen.in_sandbox), _cap(cap, chosen.spec.contract.smoke_course.cents)
        plan = _plan(chosen, how, cents)
        proven: list[tuple[str, Any]] = []

        async def act(session: Session) -> Outcome:
            if how == "operator" and not yes:
                await _consent(session, cents)
            outcome = await runner.look(session, plan)
            proven.extend(_passed(session))
            return outcome

        code = await commands.run(flags, chosen, act)
        if proven and not flags.json:
            from pipeline.tables import print_findings

            sys.stdout.write("\nWhat was proven:\n")
            print_findings(proven)
        return code

    return commands.ended(flags, verb)


def _mode(given: str, in_sandbox: bool) -> str:
    from pipeline.names import nearest

    if given and given not in MODES:
        guess = nearest(given, MODES)
        raise Usage(
            f"--mode {given}: {', '.join(MODES)} are allowed",
            f"Did you mean {guess}?" if guess else "`initialise` makes a link and pays nothing.",
        )
    return given or ("card" if in_sandbox else "initialise")


def _cap(given: str, price: int) -> int:
    if not given:
        return price
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise Usage(f"--cap {given}: a whole number of cents is allowed", "R 1.50 is `--cap 150`.")
    return int(given)


def _plan(chosen: wiring.Chosen, mode: str, cap: int) -> Plan:
    from pipeline.plan import of_checks

    return of_checks(chosen.spec, chosen.name, chosen.tables.checks, steps(mode, cap), verb="smoke")


def steps(mode: str, cap: int) -> Sequence[CheckStep]:
    """The proofs of a smoke payment, each with room for the person who pays."""
    from pipeline.spec import CheckStep

    params = {"mode": mode, "cap": cap, "wait": f"{WAIT_S} s"}
    limit = _LONGEST_S + (WAIT_S if mode == "operator" else 0)
    given = [{"check": name, "with": params, "timeout": f"{limit:g} s"} for name in _CHECKS]
    return tuple(CheckStep.model_validate(one, strict=False) for one in given)


def _passed(session: Session) -> Sequence[tuple[str, Any]]:
    from pipeline.events import Kind
    from pipeline.verdict import Finding, Verdict

    return [
        (entry.data["check"], Finding(Verdict.PASS, entry.data["reason"]))
        for entry in session.journal.entries(session.recorder.run)
        if entry.kind is Kind.FINDING and entry.data["verdict"] == Verdict.PASS
    ]


# ---- before real money is asked for ------------------------------------------------------------------------


async def _consent(session: Session, cap: int) -> None:
    """Asks whoever is at the keyboard before a link of a gateway that is not ours is shown.

    Raises Usage where nobody is there, Refused where nothing is live or the answer is no.
    """
    live = await session.world.target.traffic.live()
    if live is None:
        raise Refused(f"nothing is live in {session.environment}", f"`./inv deploy --env {session.environment}`")
    world = await session.of_release(live)
    told = money(world, cap)
    if not told:
        return
    if sys.stdin is None or not sys.stdin.isatty():  # None: closed before the start
        raise Usage(f"{told} This asks before it shows a link, and nobody is at the keyboard.", "Add --yes.")
    sys.stderr.write(f"{told}\nType the environment's name to go on ({session.environment}): ")
    sys.stderr.flush()
    if (await _typed()).strip() != session.environment:
        raise Refused("not confirmed, nothing was sent", "Start again, or add --yes.")


def money(world: World, cap: int) -> str:
    """What a person is asked to pay, with which account; '' where the gateway is the sandbox's own."""
    from checks.facts.smoke import on_loopback
    from checks.facts.smoke_person import account, is_test, rand

    if on_loopback(world.addresses.gateway):
        return ""
    cents = world.spec.contract.smoke_course.cents
    kind = "by a test account" if is_test(world) else "of real money"
    return (
        f"A person will be asked to pay {rand(cents)} {kind} (the cap is {rand(cap)}): {account(world)}. "
        "There is no refund through the gateway's API."
    )


async def _typed() -> str:
    """A line of the keyboard; Ctrl-C ends the waiting."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
        return sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin.fileno())
