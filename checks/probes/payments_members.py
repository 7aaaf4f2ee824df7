"""Payment requests whose amount, currency, course or body is wrong. Only the course's own price in ZAR is right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from checks.probes.payments_asking import (
    Wanted,
    Wrong,
    amount,
    as_json,
    asks,
    good_one_taken,
    link_of,
    literal,
    members,
    wanted,
    without,
)
from checks.probes.probe import CLOSED, TAKEN, Effect, Probe, Reply, Severity, Shown, Turn

if TYPE_CHECKING:
    from checks.probes.scene import Scene

WRONG = (400, 422)
"""What a wrong request gets."""
LARGE = 10_000_000
"""Bytes of the largest body sent."""

_PRICE = "Compare the amount with the course's own price on the server: a whole number of cents, and never another."
_WHOLE = "Take an amount only where JSON gives a whole number: no text, no fraction, no boolean, nothing rounded."


def _other_cents(price: int) -> int:
    return price - 1 if price > 1 else price + 2


def _of(*, name: str, sends: str, severity: Severity, fix: str, wrongs: tuple[Wrong, ...]) -> Probe:
    """A probe that is right when each of its requests is refused and no payment comes to be."""
    return Probe(
        name=f"payment.{name}",
        sends=sends,
        answers=WRONG,
        effect=Effect.NO_ORDER,
        severity=severity,
        fix=fix,
        play=asks(*wrongs),
        turn=Turn.ASKING,
    )


AMOUNTS = (
    _of(
        name="amount-zero",
        sends="a payment request for the smoke course with an amount of 0",
        severity=Severity.CRITICAL,
        fix=_PRICE,
        wrongs=(members("with an amount of 0", amount=0),),
    ),
    _of(
        name="amount-negative",
        sends="a payment request with the price below zero",
        severity=Severity.CRITICAL,
        fix=_PRICE,
        wrongs=(amount("with the price below zero", lambda price: -price),),
    ),
    _of(
        name="amount-fraction",
        sends="a payment request with four tenths of a cent more than the price, which rounding would hide",
        severity=Severity.HIGH,
        fix=_WHOLE,
        wrongs=(amount("with 0.4 cents more than the price", lambda price: price + 0.4),),
    ),
    _of(
        name="amount-text",
        sends="a payment request with the price as a text",
        severity=Severity.MEDIUM,
        fix=_WHOLE,
        wrongs=(amount("with the price as a text", str),),
    ),
    _of(
        name="amount-true",
        sends="a payment request with true in place of the amount, which some languages count as 1",
        severity=Severity.MEDIUM,
        fix=_WHOLE,
        wrongs=(members("with the amount true", amount=True),),
    ),
    _of(
        name="amount-huge",
        sends="payment requests with 2^63 cents, with 1e400 and with a number of 5,000 digits",
        severity=Severity.MEDIUM,
        fix="Refuse an amount that is not the price before anything is stored or converted; no number may break it.",
        wrongs=(
            members("with 2^63 cents", amount=2**63),
            literal("with an amount of 1e400", "1e400"),
            literal("with an amount of 5,000 digits", "9" * 5000),
        ),
    ),
    _of(
        name="amount-not-the-price",
        sends="payment requests with one cent less and one cent more than the price",
        severity=Severity.CRITICAL,
        fix=_PRICE,
        wrongs=(
            amount("with one cent less than the price", _other_cents),
            amount("with one cent more than the price", lambda price: price + 1),
        ),
    ),
)

COURSES = (
    _of(
        name="currency-other",
        sends="a payment request with the price's number in US dollars",
        severity=Severity.HIGH,
        fix="Take the currency the price is in (ZAR) and no other, and send the gateway your own, not the request's.",
        wrongs=(members("in USD", currency="USD"),),
    ),
    replace(
        _of(
            name="course-unknown",
            sends="payment requests for courses that do not exist, for null, and with the course in a list",
            severity=Severity.HIGH,
            fix="Look the course up in your own catalogue and refuse what is not in it.",
            wrongs=(
                members("for a course that does not exist", course="tollgate-no-such-course"),
                members("for a course by a name that objects of some languages have", course="constructor"),
                members("with the course null", course=None),
                Wrong("with its course in a list", lambda good: as_json({**good, "course": [good["course"]]})),
            ),
        ),
        answers=(*WRONG, 404),
    ),
)


# ---- bodies ------------------------------------------------------------------------------------------------


def _broken(good: Wanted) -> bytes:
    return as_json(good)[:-1]


async def _twice(scene: Scene) -> Shown:
    """Two amounts in one body, in either order: where a payment is made, it must be of the price."""
    world, price = scene.world, scene.world.spec.contract.smoke_course.cents
    await good_one_taken(scene)
    replies: list[Reply] = []
    for first, last in ((_other_cents(price), price), (price, _other_cents(price))):
        reference = scene.reference()
        good = as_json({**wanted(world, reference), "amount": last})
        body = good.replace(b'"amount":', b'"amount":%d,"amount":' % first)
        reply = await scene.ask(body, sent=f"a payment request with the amounts {first} and {last} cents in one body")
        replies.append(reply)
        if link := link_of(reply):
            charged = (await world.gateway.status(link)).amount
            if charged != price:
                wrong = f"the gateway was told {charged} cents; the price is {price}"
                return Shown(reference, tuple(replies), None, await scene.standing(reference), wrong)
    return Shown(reference, tuple(replies), None, await scene.standing(reference))


_LARGE = Wrong("with a member of 10 MB", lambda good: as_json({**good, "padding": "x" * LARGE}))
_LARGE_WITHIN_S = 30.0
"""So much takes its time on a slow line."""


BODIES = (
    _of(
        name="body-not-json",
        sends="payment requests that break off, are no UTF-8, empty, null, a text, a list, and lists 7,000 deep",
        severity=Severity.MEDIUM,
        fix="Catch whatever the parser raises, deep nesting included, and answer 400; look at the service's log.",
        wrongs=(
            Wrong("as JSON that breaks off", _broken),
            Wrong("as bytes that are no UTF-8", lambda _good: b"\xff\xfe\x00{"),
            Wrong("with an empty body", lambda _good: b""),
            Wrong("as the word null", lambda _good: b"null"),
            Wrong("as a text", lambda _good: b'"pay"'),
            Wrong("as a list", lambda good: as_json([good])),
            Wrong("as lists in lists, 7,000 deep", lambda _good: b"[" * 7_000),
        ),
    ),
    Probe(
        name="payment.body-duplicate-keys",
        sends="payment requests with two amounts, the price and one cent off, in either order",
        answers=(*TAKEN, *WRONG),
        effect=Effect.NOT_PAID,
        severity=Severity.CRITICAL,
        fix="Parse a body once, judge and charge the same value; best refuse duplicate members.",
        play=_twice,
        turn=Turn.ASKING,
    ),
    replace(
        _of(
            name="body-large",
            sends="a good payment request with a member of 10 MB",
            severity=Severity.MEDIUM,
            fix="Limit the size of a body while it is read (some kB are plenty), at the front or in the service; 413.",
            wrongs=(_LARGE,),
        ),
        answers=(400, 413, CLOSED),
        play=asks(_LARGE, within_s=_LARGE_WITHIN_S),
        within_s=_LARGE_WITHIN_S,
    ),
)

REFERENCE_MISSING = Probe(
    name="payment.reference-missing",
    sends="payment requests without a reference, with null, with an empty one and with it in a list",
    answers=WRONG,
    effect=None,
    severity=Severity.MEDIUM,
    fix="Refuse a request without a reference: one you make up cannot be asked for again, so it is paid twice.",
    play=asks(
        without("without a reference", "reference"),
        members("with the reference null", reference=None),
        members("with an empty reference", reference=""),
        Wrong("with its reference in a list", lambda good: as_json({**good, "reference": [good["reference"]]})),
    ),
    turn=Turn.ASKING,
)
