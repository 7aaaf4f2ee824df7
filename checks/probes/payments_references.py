"""Payment requests with references that are odd or used, and with addresses that are not the service's to take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from checks.probes.payments_asking import (
    Kept,
    as_json,
    as_text,
    at_gateway,
    good_one_taken,
    kept,
    link_of,
    odd_standing,
    wanted,
)
from checks.probes.payments_members import WRONG
from checks.probes.probe import TAKEN, Effect, Probe, Severity, Shown, Turn

if TYPE_CHECKING:
    from checks.probes.scene import Scene

_ELSEWHERE = "elsewhere.invalid"
"""A host nobody can have, where an address that a stranger chose would lead."""
_ALLOWED = "Allow a reference only letters, digits, `.`, `_` and `-`, at most 64 of them, before anything is stored."


# ---- odd ones ----------------------------------------------------------------------------------------------


def _odd(sent: str, more: str) -> Callable[[Scene], Awaitable[Shown]]:
    """A smoke reference with `more` at its end, which makes it one that no service may take."""

    async def play(scene: Scene) -> Shown:
        await good_one_taken(scene)
        reference = scene.reference() + more
        reply = await scene.ask(as_json(wanted(scene.world, reference)), sent=sent)
        after = await odd_standing(scene.world, reference)
        wrong = "the gateway holds a payment under it" if await at_gateway(scene.world, reference) else ""
        return Shown(as_text(reference), (reply,), None, after, wrong)

    return play


_AT_A_FRONT = (*WRONG, 403)
"""A firewall in front may refuse before the service can."""
_MARKUP = Probe(
    name="payment.reference-markup",
    sends="a payment request with a script in its reference",
    answers=_AT_A_FRONT,
    effect=Effect.NO_ORDER,
    severity=Severity.HIGH,
    fix=_ALLOWED,
    play=_odd("a payment request with a script in its reference", "<script>alert(1)</script>"),
    turn=Turn.ASKING,
)

ODD = (
    replace(
        _MARKUP,
        name="payment.reference-long",
        sends="a payment request with a reference of 10 kB",
        answers=(*WRONG, 413),
        effect=None,  # no address holds so much, so the service cannot be asked for it
        severity=Severity.MEDIUM,
        play=_odd("a payment request with a reference of 10 kB", "a" * 10_000),
    ),
    _MARKUP,
    replace(
        _MARKUP,
        name="payment.reference-quotes",
        sends="a payment request with quotes, a semicolon and a comment mark of SQL in its reference",
        play=_odd("a payment request with quotes in its reference", "'\"\\`;--"),
    ),
    replace(
        _MARKUP,
        name="payment.reference-nul",
        sends="a payment request with a NUL and a line break in its reference",
        severity=Severity.MEDIUM,
        fix=f"{_ALLOWED} A control character must break neither the store nor the log.",
        play=_odd("a payment request with a NUL in its reference", "\x00\r\n"),
    ),
)


# ---- used ones ---------------------------------------------------------------------------------------------


async def _used(scene: Scene) -> Shown:
    """Another course under a reference that has its payment."""
    order = await scene.unpaid()
    before = await kept(scene.world, order.reference)
    other = _other_purchase(scene)
    reply = await scene.ask(
        as_json({**wanted(scene.world, order.reference), **other}), sent="a payment request for another course"
    )
    after = await kept(scene.world, order.reference)
    wrong = _changed(before, after)
    wrong = wrong or await _several(scene, order.reference)
    return Shown(order.reference, (reply,), order.standing, await scene.standing(order.reference), wrong)


def _changed(before: Kept, after: Kept) -> str:
    """What of a payment is not as it was; '' for nothing."""
    old, new = vars(before), vars(after)
    told = [f"{name} {new[name]!r} in place of {old[name]!r}" for name in old if old[name] != new[name]]
    return f"the service keeps another payment now: {', '.join(told)}" if told else ""


def _other_purchase(scene: Scene) -> Mapping[str, Any]:
    """An ordinary course of the contract at its price; where it names none, the smoke course at another price."""
    contract = scene.world.spec.contract
    other = next((course for course in contract.courses if course.id != contract.smoke_course.id), None)
    if other is None:
        return {"amount": contract.smoke_course.cents + 1}
    return {"course": other.id, "amount": other.cents}


async def _asked_again(scene: Scene) -> Shown:
    """The same request once more, as if by another customer who was given the same reference."""
    order = await scene.unpaid()
    reply = await scene.ask(as_json(wanted(scene.world, order.reference)), sent="the same payment request once more")
    link = link_of(reply)
    wrong = f"a second link was given: {link} beside {order.link.id}" if link not in ("", order.link.id) else ""
    wrong = wrong or await _several(scene, order.reference)
    return Shown(order.reference, (reply,), order.standing, await scene.standing(order.reference), wrong)


async def _several(scene: Scene, reference: str) -> str:
    rows = await at_gateway(scene.world, reference)
    return f"the gateway holds {len(rows)} payments under it; one is allowed" if rows and len(rows) > 1 else ""


USED = (
    Probe(
        name="payment.reference-used",
        sends="a payment request for another course under the reference of an unpaid payment",
        answers=(409, *WRONG),
        effect=Effect.FIRST_KEPT,
        severity=Severity.CRITICAL,
        fix="Claim a reference in the same transaction that stores it; answer 409 to another payment under it.",
        play=_used,
        turn=Turn.ASKING,
    ),
    Probe(
        name="payment.reference-of-another",
        sends="the request of an unpaid payment once more, unchanged",
        answers=(*TAKEN, 409),
        effect=Effect.FIRST_KEPT,
        severity=Severity.HIGH,
        fix="Answer the identical request with the link that exists, or with 409; never make a second payment.",
        play=_asked_again,
        turn=Turn.ASKING,
    ),
)


# ---- addresses ---------------------------------------------------------------------------------------------


def _address(path: str) -> str:
    return f"https://{_ELSEWHERE}/{path}"


def _addresses(path: str, names: Sequence[str], nested: str) -> dict[str, Any]:
    """The same address under every name that a service might read it from."""
    return {**{name: _address(path) for name in names}, "urls": {nested: _address(path)}}


_SUCCESS = _addresses(
    "paid",
    ("successUrl", "success_url", "successPageUrl", "returnUrl", "return_url", "redirectUrl", "redirect_url"),
    "successPageUrl",
)
_CALLBACK = _addresses(
    "webhook",
    ("callbackUrl", "callback_url", "webhookUrl", "webhook_url", "notifyUrl", "notify_url"),
    "callbackUrl",
)


def _injected(sent: str, addresses: Mapping[str, Any]) -> Callable[[Scene], Awaitable[Shown]]:
    async def play(scene: Scene) -> Shown:
        await good_one_taken(scene)
        reference = scene.reference()
        reply = await scene.ask(as_json({**wanted(scene.world, reference), **addresses}), sent=sent)
        rows = await at_gateway(scene.world, reference) or ()
        told = sorted({name for row in rows for name, value in row.items() if _ELSEWHERE in str(value)})
        wrong = f"the gateway was told the stranger's address as {', '.join(told)}" if told else ""
        if not wrong and _ELSEWHERE.encode() in reply.body:
            wrong = "the answer holds the stranger's address"
        return Shown(reference, (reply,), None, await scene.standing(reference), wrong)

    return play


ADDRESSES = (
    Probe(
        name="payment.success-url-injected",
        sends="a payment request that names another host to come back to, under several usual names",
        answers=(*TAKEN, *WRONG),
        effect=Effect.NOT_PAID,
        severity=Severity.HIGH,
        fix="Make the addresses for the gateway from your own settings; never take one from a request.",
        play=_injected("a payment request with a success address of another host", _SUCCESS),
        turn=Turn.ASKING,
    ),
    Probe(
        name="payment.callback-url-injected",
        sends="a payment request that names another host for the webhook, under several usual names",
        answers=(*TAKEN, *WRONG),
        effect=Effect.NOT_PAID,
        severity=Severity.CRITICAL,
        fix="Make the webhook's address from your own settings; who may choose it hears of payments in your place.",
        play=_injected("a payment request with a webhook address of another host", _CALLBACK),
        turn=Turn.ASKING,
    ),
)
