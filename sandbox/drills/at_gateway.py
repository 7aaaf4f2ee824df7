"""Faults of the gateway and of what it sends: outages, and webhooks that are lost, late or come twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pipeline.events import Kind
from pipeline.verdict import Verdict
from sandbox.drills import customer
from sandbox.drills.at_runner import activated_once, lose_a_webhook, webhook_comes_late
from sandbox.drills.fault import Command, Fault, Leaves, deploy, roll_back, typing
from sandbox.drills.scene import Amiss, Process, Scene

_EVERY_PROOF_THAT_ASKS_IT = frozenset(
    {
        "health.ready",
        "payment.initialises",
        "payment.is_paid",
        "payment.refuses_wrong_amount",
        "webhook.arrives",
        "webhook.refuses_unsigned",
        "webhook.refuses_wrong_signature",
        "webhook.refuses_tampered",
        "webhook.duplicate_is_harmless",
        "enrolment.active_once",
        "enrolment.needs_payment",
    }
)
"""The proofs run side by side: whichever asks the gateway first tells that it is gone."""


async def _goes_away(scene: Scene, _: Process | None = None) -> None:
    await customer.control(scene).set_faults(outage=True)


async def _comes_back(scene: Scene) -> None:
    await customer.control(scene).clear_faults()


async def _restored_and_told(scene: Scene) -> None:
    """The release is back, read again and confirmed; the proofs that could not run are named."""
    entries = scene.entries()
    run = entries[-1].run
    mine = [entry for entry in entries if entry.run == run]
    confirmed = {entry.data["name"]: entry.data["ok"] for entry in mine if entry.kind is Kind.CHECKPOINT_CONFIRMED}
    if not (confirmed.get("release") and confirmed.get("settings")):
        raise Amiss(f"release and settings should be restored and confirmed, found {confirmed}")
    unproven = [
        str(entry.data["step"])
        for entry in mine
        if entry.kind is Kind.FINDING and not Verdict(entry.data["verdict"]).promotes
    ]
    told = " ".join(str(entry.data["why"]) for entry in mine if entry.kind is Kind.CLOSED)
    if not unproven or any(name not in told for name in unproven):
        raise Amiss(f"why it stays closed should name each of {unproven}: {told}")


# ---- webhooks -----------------------------------------------------------------------------------------------


async def _a_paid_order(scene: Scene) -> None:
    one = await customer.order(scene)
    await customer.pay(scene, one)
    await customer.delivered(scene, one)


async def _delivered_to_the_new_one(scene: Scene, _: Process) -> None:
    status = await customer.deliver_again(scene, customer.kept(scene))
    if not 200 <= status < 300:
        raise Amiss(f"the new release answered a webhook that the old one had accepted with {status}, expected 2xx")
    await activated_once(scene)


async def _paid_behind_the_door(scene: Scene) -> None:
    """Ordered while the shop was open, paid at the gateway after a person closed it: the webhook comes to the door."""
    one = await customer.order(scene)
    await close_by_a_person(scene)
    if (found := await customer.page(scene, await customer.service(scene))) != 503:
        raise Amiss(f"a person closed the service and visitors get {found}, expected 503")
    await customer.pay(scene, one)
    await customer.delivered(scene, one)
    await activated_once(scene)


async def close_by_a_person(scene: Scene) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"who": "thandi", "why": "stock-taking", "since": since, "proof": "", "run": ""}
    _door(scene).write_text(json.dumps(told), encoding="utf-8")


async def open_by_a_person(scene: Scene) -> None:
    _door(scene).unlink()


async def _still_theirs(scene: Scene) -> None:
    found = json.loads(_door(scene).read_text(encoding="utf-8"))
    if (found["who"], found["why"], found["run"]) != ("thandi", "stock-taking", ""):
        raise Amiss(f"the door that a person closed says now: {found}")


def _door(scene: Scene) -> Path:
    return scene.area / "shared" / "maintenance"


FAULTS = (
    Fault(
        "gateway-down-during-proof",
        "The gateway goes away when the new release has just taken the traffic.",
        (deploy(4, strike=_goes_away),),
        Leaves.CLOSED,
        _EVERY_PROOF_THAT_ASKS_IT,
        heal=_comes_back,
    ),
    Fault(
        "gateway-down-in-rollback",
        "The gateway is away while a rollback is needed.",
        (roll_back(4),),
        Leaves.CLOSED,
        catcher="the proofs of the way back",
        prepare=_goes_away,
        holds=_restored_and_told,
        heal=_comes_back,
    ),
    Fault(
        "lost-webhook",
        "A customer has paid, and the gateway's webhook never comes.",
        (Command(typing("reconcile"), 1), Command(typing("reconcile", "--apply"), 0)),
        Leaves.AS_BEFORE,
        catcher="reconcile",
        prepare=lose_a_webhook,
        holds=activated_once,
        heal=webhook_comes_late,
    ),
    Fault(
        "duplicate-webhook-across-the-switch",
        "A webhook that the old release had accepted comes once more, to the new one.",
        (deploy(0, strike=_delivered_to_the_new_one),),
        Leaves.ANOTHER,
        catcher="the service, which activates once",
        prepare=_a_paid_order,
        holds=activated_once,
    ),
    Fault(
        "late-webhook-while-closed",
        "A customer pays after maintenance was switched on, and the webhook comes to a closed service.",
        (Command(typing("reconcile"), 0),),
        Leaves.A_PERSONS,
        catcher="the service, whose webhooks stay open",
        prepare=_paid_behind_the_door,
        holds=activated_once,
        heal=open_by_a_person,
    ),
    Fault(
        "closed-by-a-person",
        "A rollback is needed while a person has the service closed, and it stays so.",
        (roll_back(0),),
        Leaves.A_PERSONS,
        catcher="the checkpoint maintenance",
        prepare=close_by_a_person,
        holds=_still_theirs,
        heal=open_by_a_person,
    ),
)
