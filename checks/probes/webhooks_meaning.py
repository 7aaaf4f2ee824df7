"""Correctly signed webhooks that say what is not so, or say it again. A webhook is a wake-up call, not a payment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from checks.probes.forging import Right, Sent, changed, forged
from checks.probes.orders import Order
from checks.probes.probe import INVALID, TAKEN, Effect, Need, Probe, Reply, Severity, Shown, Turn
from checks.probes.scene import JSON, Scene

AT_ONCE = 50

_ASK = "Take a webhook as a reason to ask the gateway, and activate only when it says PAID, this link, these cents."
_ONCE = "Make the activation idempotent: a unique constraint on paylinkID in the database, in one transaction with it."
_PAID_IS_PAID = "Let nothing that comes later undo an order that the gateway called paid."
_PAID = frozenset({Need.PAID})
_CONTROL = frozenset({Need.CONTROL})


def _unknown_status(right: Right) -> list[Sent]:
    body = right.success.body
    bodies = [(word, changed(body, '"SUCCESS"', f'"{word}"')) for word in ("SETTLED", "PAID", "success", "")]
    return [Sent(f"with the status {word!r}", made, right.scene.signed(made).headers) for word, made in bodies]


def _as_it_is(right: Right) -> list[Sent]:
    return [Sent("", right.success.body, right.success.headers)]


async def _unknown(scene: Scene) -> Shown:
    reference = scene.reference()
    before = await scene.standing(reference)
    reply = await _say(scene, scene.link_id(), reference, "SUCCESS", "SUCCESS for a payment nobody made")
    return Shown(reference, (reply,), before, await scene.settled(reference))


async def _failed(scene: Scene) -> Shown:
    return await _success_for(scene, await scene.failed(), "SUCCESS for a payment whose card was declined")


async def _denied(scene: Scene) -> Shown:
    return await _success_for(scene, await scene.cancelled(), "SUCCESS for a payment the gateway calls cancelled")


async def _success_for(scene: Scene, order: Order, sent: str) -> Shown:
    reply = await _say(scene, order.link.id, order.reference, "SUCCESS", sent)
    return Shown(order.reference, (reply,), order.standing, await scene.settled(order.reference))


async def _other_link(scene: Scene) -> Shown:
    name = "webhook.success-of-other-link"
    async with scene.lent(paid=True, by=name) as paid, scene.lent(by=name) as unpaid:
        before, paid_before = unpaid.standing, paid.standing
        replies = (
            await _say(
                scene, paid.link.id, unpaid.reference, "SUCCESS", "the link of a paid order with an unpaid reference"
            ),
            await _say(
                scene, unpaid.link.id, paid.reference, "SUCCESS", "the link of an unpaid order with a paid reference"
            ),
        )
        after = await scene.seen_after(unpaid)
        paid_after = await scene.seen_after(paid)
        wrong = "" if paid_after == paid_before else f"the paid order {paid.reference} became: {paid_after}"
        return Shown(unpaid.reference, replies, before, after, wrong)


async def _amount_lower(scene: Scene) -> Shown:
    order = await scene.unpaid()
    async with scene.disturbed(withhold_webhooks=True, amount_off=-1):
        await scene.pay(order)
        before = await scene.standing(order.reference)
        reply = await _say(
            scene, order.link.id, order.reference, "SUCCESS", "SUCCESS while the gateway says one cent less was paid"
        )
        after = await scene.settled(order.reference)
    return Shown(order.reference, (reply,), before, after)


async def _failure_after_success(scene: Scene) -> Shown:
    async with scene.lent(paid=True, by="webhook.failure-after-success") as order:
        before = order.standing
        reply = await _say(scene, order.link.id, order.reference, "FAILURE", "FAILURE for a paid and activated order")
        return Shown(order.reference, (reply,), before, await scene.seen_after(order))


async def _success_twice(scene: Scene) -> Shown:
    """The same bytes twice, and then the same news in other bytes: neither may be an activation of its own."""
    path = scene.world.spec.contract.webhook
    async with scene.lent(paid=True, by="webhook.success-twice") as order:
        before = order.standing
        same = scene.webhook(order.link.id, order.reference, "SUCCESS")
        other = scene.signed(changed(same.body, '"responseCode":"00"', '"responseCode":"000"'))
        sent = "SUCCESS for a paid and activated order"
        replies = [
            await scene.post(path, message.body, message.headers, sent=f"{sent}{how}")
            for message, how in ((same, ""), (same, ""), (other, " with another response code, signed so"))
        ]
        return Shown(order.reference, tuple(replies), before, await scene.seen_after(order))


async def _at_once(scene: Scene) -> Shown:
    """The first word of a payment comes fifty times at one moment; the gateway's own is held back where it can be."""
    order = await scene.unpaid()
    async with _held_back(scene):
        await scene.pay(order)
        before = await scene.standing(order.reference)
        signed = scene.webhook(order.link.id, order.reference, "SUCCESS")
        headers = [*signed.headers.items(), ("Content-Type", JSON)]
        together = asyncio.Barrier(AT_ONCE)
        sent = f"the same SUCCESS {AT_ONCE} times at once"
        replies = await asyncio.gather(
            *(scene.send(signed.body, headers, sent=sent, together=together) for _ in range(AT_ONCE))
        )
    await scene.until_active(order)
    return Shown(order.reference, tuple(replies), before, await scene.seen_after(order))


@asynccontextmanager
async def _held_back(scene: Scene) -> AsyncIterator[None]:
    if scene.world.control is None:
        yield
        return
    async with scene.disturbed(withhold_webhooks=True):
        yield


async def _say(scene: Scene, link_id: str, reference: str, status: str, sent: str) -> Reply:
    signed = scene.webhook(link_id, reference, status)
    return await scene.post(scene.world.spec.contract.webhook, signed.body, signed.headers, sent=sent)


ROWS: tuple[Probe, ...] = (
    forged(
        "webhook.status-unknown",
        "signed webhooks for an unpaid order with a status that does not exist",
        _unknown_status,
        fix="Act on SUCCESS and FAILURE alone, and on SUCCESS only after asking the gateway.",
        severity=Severity.HIGH,
        answers=(*TAKEN, *INVALID),
        turn=Turn.ASKING,
        trusts_scheme=False,
    ),
    Probe(
        "webhook.success-for-unknown",
        "a signed SUCCESS for a payment nobody made",
        (*TAKEN, 404),
        Effect.UNCHANGED,
        Severity.CRITICAL,
        "Look the order up first; a webhook never makes one.",
        _unknown,
        Turn.ASKING,
    ),
    forged(
        "webhook.success-for-unpaid",
        "a signed SUCCESS for an order nobody paid",
        _as_it_is,
        fix=_ASK,
        answers=TAKEN,
        turn=Turn.ASKING,
        trusts_scheme=False,
    ),
    Probe(
        "webhook.success-for-failed",
        "a signed SUCCESS for an order whose card was declined",
        TAKEN,
        Effect.NOT_PAID,
        Severity.CRITICAL,
        _ASK,
        _failed,
        Turn.ASKING,
        _CONTROL,
    ),
    Probe(
        "webhook.success-of-other-link",
        "signed SUCCESS with the link of one order and the reference of another",
        (*TAKEN, *INVALID),
        Effect.UNCHANGED,
        Severity.CRITICAL,
        "Require that link and reference belong to one order before anything else is believed.",
        _other_link,
        Turn.ASKING,
        _PAID,
    ),
    Probe(
        "webhook.success-denied",
        "a signed SUCCESS for an order that the gateway calls cancelled",
        TAKEN,
        Effect.NOT_PAID,
        Severity.CRITICAL,
        _ASK,
        _denied,
        Turn.ASKING,
        _CONTROL,
    ),
    Probe(
        "webhook.amount-lower",
        "a signed SUCCESS while the gateway says that one cent less was paid",
        (*TAKEN, *INVALID),
        Effect.NOT_PAID,
        Severity.CRITICAL,
        "Compare the gateway's cents with the order's before activating.",
        _amount_lower,
        Turn.DISTURBED,
        _CONTROL | _PAID,
    ),
    Probe(
        "webhook.failure-after-success",
        "a signed FAILURE for an order that is paid",
        TAKEN,
        Effect.PAID_ONCE,
        Severity.CRITICAL,
        _PAID_IS_PAID,
        _failure_after_success,
        Turn.ASKING,
        _PAID,
    ),
    Probe(
        "webhook.success-twice",
        "the same signed SUCCESS again, twice, and once more with another response code",
        TAKEN,
        Effect.PAID_ONCE,
        Severity.CRITICAL,
        _ONCE,
        _success_twice,
        Turn.ASKING,
        _PAID,
    ),
    Probe(
        "webhook.success-fifty-at-once",
        f"the first SUCCESS of a paid order {AT_ONCE} times at once",
        TAKEN,
        Effect.PAID_ONCE,
        Severity.CRITICAL,
        _ONCE,
        _at_once,
        Turn.ASKING,
        _PAID,
    ),
)
