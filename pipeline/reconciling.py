"""The verb reconcile: the books compared, on record; with `--apply` lost webhooks are delivered again first."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.contracts import GatewayPayment, ReleaseId, World
from pipeline.errors import Exit, PersonNeeded, Refused, ServiceUnreachable
from pipeline.events import Kind
from pipeline.interrupts import Interrupts
from pipeline.lease import GivesWay, Lease, Owner
from pipeline.past import whole_record
from pipeline.plan import Plan, PlannedStage, PlannedStep
from pipeline.reconcile import Deliver, Reconciliation, made_at, reconcile
from pipeline.run_record import Outcome, ending_on_record, exit_unchanged, finish, holding, record_failure, start
from pipeline.session import Session
from pipeline.spec import Spec
from pipeline.standing import open_runs
from pipeline.window import LONGEST, VERB, since_on_record
from pipeline.words import count

ON_RECORD = 100
"""Mismatches that the entry of a run names; their number is told in full."""

NAMED = 10
"""Mismatches that the report names."""

REPAIR = "repair"
_COMPARE = "compare"
_LIMIT_S = 600.0
_DELIVERY_S = 10.0


@dataclass
class Books:
    """What a run found. `since` is where it began to compare; `result` None: the two could not be compared."""

    since: datetime | None = None
    result: Reconciliation | None = None


@dataclass
class _Repair:
    """What was tried in this run, by reference: '' when the service accepted it."""

    tried: dict[str, str] = field(default_factory=dict)


def planned(spec: Spec, environment: str, *, apply: bool) -> Plan:
    """What the verb does, as a value."""
    steps = [
        PlannedStep(VERB, _COMPARE, "act", "compare gateway and service", _LIMIT_S, "changes nothing", network=True)
    ]
    if apply:
        does = "deliver lost webhooks again"
        steps.append(PlannedStep(VERB, REPAIR, "act", does, _LIMIT_S, "a repeated webhook is harmless", network=True))
    return Plan(VERB, environment, spec.service, (PlannedStage(VERB, tuple(steps)),))


async def look(session: Session, plan: Plan, asked: datetime | None, books: Books) -> Outcome:
    """Compares and sends nothing; takes no lease. Raises Refused when nothing is live."""
    with Interrupts(lambda line: session.recorder.show(VERB, "signal", line)) as interrupts:
        world, books.since = await _of_live(session), _since(session, asked)
        start(session, plan, world, None, reason="")
        return await _compared(session, world, books, books.since, interrupts, None)


async def apply(session: Session, plan: Plan, owner: Owner, asked: datetime | None, books: Books) -> Outcome:
    """The same under the lease, and what is lost is delivered again, once.

    Raises LeaseHeld, PersonNeeded (an unfinished run) or Refused before anything is on record.
    """
    async with AsyncExitStack() as stack:
        interrupts = stack.enter_context(Interrupts(lambda line: session.recorder.show(VERB, "signal", line)))
        lease = await stack.enter_async_context(holding(session, owner, VERB, GivesWay.NOW))
        _refuse_unfinished(session)
        world, books.since = await _of_live(session), _since(session, asked)
        await stack.enter_async_context(ending_on_record(session))
        start(session, plan, world, lease, reason="")
        return await _compared(session, world, books, books.since, interrupts, lease)


def _refuse_unfinished(session: Session) -> None:
    """A rollback reconciles by itself, with the release that it puts back."""
    for one in open_runs(session.journal.entries()):
        if one.changed:
            raise PersonNeeded(
                f"run {one.run} ({one.verb}) was left unfinished: it stands at {one.stands_at}",
                f"`./inv rollback --env {session.environment}` takes it back, and repairs what was lost as well.",
            )


def _since(session: Session, asked: datetime | None) -> datetime:
    """Raises TollgateError where nothing was asked for and the record, which would tell, was altered."""
    if asked is not None:
        return asked
    entries = whole_record(session.journal, session.environment)
    return since_on_record(entries, session.environment, session.world.clock.now())


async def _of_live(session: Session) -> World:
    """The world of the live release: its webhooks are signed with the settings that it verifies with."""
    live: ReleaseId | None = await session.world.target.traffic.live()
    if live is None:
        raise Refused(
            f"nothing is live in {session.environment}, so nobody can be asked what was activated",
            f"`./inv deploy --env {session.environment}`",
        )
    return await session.of_release(live)


async def _compared(
    session: Session, world: World, books: Books, since: datetime, interrupts: Interrupts, lease: Lease | None
) -> Outcome:
    """`lease`: what is lost is delivered again under it; None: nothing is sent."""
    apply = lease is not None
    clock, record = world.clock, session.recorder.record
    begun, began_at, repair = clock.monotonic(), clock.now(), _Repair()
    patience = world.spec.contract.enrolment_within

    async def work() -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                books.result = await reconcile(
                    world.gateway,
                    world.service,
                    clock,
                    since=since,
                    settle=2 * patience if apply else patience,
                    repair=apply,
                    deliver=_delivering(session, world, repair) if apply else None,
                )
        except TimeoutError:
            raise Refused(f"not done within its limit of {_LIMIT_S:g} s", "Ask for a shorter --since.") from None

    step = {"stage": VERB, "step": _COMPARE}
    record(Kind.STAGE_STARTED, stage=VERB)
    record(Kind.STEP_STARTED, **step, does="compare gateway and service", limit_s=_LIMIT_S, attempt=1)
    failure = await interrupts.until(work(), lease)
    took = round(clock.monotonic() - begun, 3)
    result = books.result
    told = str(failure) if failure is not None else "" if result is None else _named(result)
    outcome = "failed" if failure is not None or told else "done"
    record(Kind.STEP_FINISHED, **step, outcome=outcome, error=told, remedy="", took_s=took)
    record(Kind.STAGE_FINISHED, stage=VERB, outcome=outcome, took_s=took)
    if failure is not None or result is None:
        error = failure or RuntimeError("nothing was compared")
        message, remedy = record_failure(session, error)
        return finish(session, exit_unchanged(error), f"{message}; nothing is known of the books", remedy, begun)
    record(Kind.RECONCILED, **_on_record(result, since, began_at))
    if result.ok:
        return finish(session, Exit.DONE, _summary(session, result), "", begun)
    remedy = _remedy(session, result, since, repair, apply=apply)
    summary, kind = _summary(session, result), "books-disagree"
    record(Kind.RUN_FAILED, stage=VERB, step=_COMPARE, error=summary, remedy=remedy, error_class=kind)
    return finish(session, Exit.REFUSED, _summary(session, result), remedy, begun)


def _delivering(session: Session, world: World, repair: _Repair) -> Deliver:
    """Each delivery is durable on record before it is sent, and then what came of it."""
    record, clock, service = session.recorder.record, world.clock, world.service

    async def deliver(payment: GatewayPayment) -> bool:
        step = {"stage": REPAIR, "step": f"webhook of {payment.reference}"}
        now = await world.gateway.status(payment.link_id)
        if not now.paid or now.amount != payment.amount:
            repair.tried[payment.reference] = f"not sent: the gateway calls it {now.status}, {now.amount} cents"
            return False
        webhook = world.gateway.webhook(service.contract.webhook, payment.link_id, payment.reference, "SUCCESS")
        await session.slot.guard()
        does = f"deliver the webhook of {payment.reference} ({payment.link_id}) again"
        record(Kind.STEP_STARTED, **step, does=does, limit_s=_DELIVERY_S, attempt=1)
        begun, error = clock.monotonic(), "interrupted while it was sent"
        try:
            answer = await service.post_webhook(webhook.body, webhook.headers)
            error = "" if 200 <= answer.status < 300 else f"the service answered {answer.status}"
        except ServiceUnreachable as lost:
            error = str(lost)
            raise
        finally:
            took = round(clock.monotonic() - begun, 3)
            outcome = "failed" if error else "done"
            record(Kind.STEP_FINISHED, **step, outcome=outcome, error=error, remedy="", took_s=took)
            repair.tried[payment.reference] = error
        return not error

    return deliver


# ---- what is said and kept of it ---------------------------------------------------------------------------


def _summary(session: Session, result: Reconciliation) -> str:
    counted = f"{result.paid} paid at the gateway, {result.activated} activated"
    again = f"; {len(result.repaired)} delivered again" if result.repaired else ""
    if result.ok:
        return f"the books of {session.environment} agree: {counted}{again}"
    wrong = count(len(result.mismatches), "payment")
    return f"the books of {session.environment} do not agree on {wrong}: {counted}{again}"


def _named(result: Reconciliation) -> str:
    """The first mismatches, in a line for the step that found them."""
    named = [f"{m.reference}: {m.what}, {m.cents} cents, found {m.found}" for m in result.mismatches[:NAMED]]
    more = len(result.mismatches) - NAMED
    return "; ".join([*named, *([f"and {more} more"] if more > 0 else [])])


def offer(environment: str, result: Reconciliation, since: datetime) -> str:
    """The command that mends what can be mended, '' where nothing can."""
    if not any(one.lost for one in result.mismatches):
        return ""
    begin = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"./inv reconcile --env {environment} --since {begin} --apply"


def _remedy(session: Session, result: Reconciliation, since: datetime, repair: _Repair, *, apply: bool) -> str:
    command = offer(session.environment, result, since)
    todo: dict[str, list[str]] = {}
    for one in result.mismatches:
        if apply and one.lost:
            came = repair.tried.get(one.reference, "not delivered")
            todo.setdefault(came or "delivered and accepted, and not activated all the same", []).append(one.reference)
        elif not one.lost:
            todo.setdefault(one.todo, []).append(one.reference)
    said = [f"`{command}` delivers the webhooks that were lost."] if command and not apply else []
    return " ".join([*said, *(f"{_few(references)}: {what}" for what, references in todo.items())])


def _few(references: list[str]) -> str:
    more = f" and {len(references) - 5} more" if len(references) > 5 else ""
    return ", ".join(references[:5]) + more


def _on_record(result: Reconciliation, since: datetime, began_at: datetime) -> dict[str, Any]:
    """`whole_until`: where the next run begins, for a payment that is unpaid now may be paid and lost later."""
    unpaid = [at for at in (made_at(one, began_at) for one in result.unpaid) if at > began_at - LONGEST]
    return {
        "ok": result.ok,
        "paid": result.paid,
        "activated": result.activated,
        "repaired": list(result.repaired),
        "mismatches": [one.as_data() for one in result.mismatches[:ON_RECORD]],
        "mismatched": len(result.mismatches),
        "pending": len(result.pending),
        "error": "",
        "since": since.isoformat(),
        "whole_until": min([began_at, *(at - timedelta(seconds=1) for at in unpaid)]).isoformat(),
    }
