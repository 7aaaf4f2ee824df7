"""Payment requests while the gateway is slow, down, talks nonsense or refuses: what a customer is told meanwhile.

Each probe puts the gateway right again, and the service must take payments again soon after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from checks.probes.paying import NoPayment
from checks.probes.payments_asking import as_json, good_one_taken, wanted
from checks.probes.payments_telling import tells
from checks.probes.probe import Effect, Need, Probe, Reply, Severity, Shown, Turn

if TYPE_CHECKING:
    from checks.probes.scene import Scene

AWAY = (502, 503, 504)
"""What a customer gets while the gateway cannot make payments."""
MARGIN_S = 1.5
"""What an answer may take beyond contract.answers_within: the way there and back, a busy machine."""
_LONGER_S = 1.0
"""How much later than that the slow gateway answers."""
_RECOVERS_WITHIN_S = 5.0
_PAUSE_S = 0.5


def _while_gateway(sent: str, **faults: object) -> Callable[[Scene], Awaitable[Shown]]:
    """Asks for a payment while the gateway has these faults; without any, it is slower than a customer may wait."""

    async def play(scene: Scene) -> Shown:
        await good_one_taken(scene)
        within_s = scene.world.spec.contract.answers_within + MARGIN_S
        on = faults or {"slow_s": within_s + _LONGER_S}
        reference = scene.reference()
        async with scene.disturbed(**on):
            reply = await scene.ask(as_json(wanted(scene.world, reference)), sent=sent, within_s=within_s)
            after = await scene.standing(reference)
        wrong = _told(scene, reply) or await _recovered(scene)
        return Shown(reference, (reply,), None, after, wrong)

    return play


def _told(scene: Scene, reply: Reply) -> str:
    kinds = tells(scene.world, reply.body)
    return f"the answer gives away {', '.join(kinds)}" if kinds else ""


async def _recovered(scene: Scene) -> str:
    """'' as soon as the service takes a payment again."""
    clock, within_s = scene.world.clock, max(_RECOVERS_WITHIN_S, scene.world.spec.contract.answers_within)
    begun = clock.monotonic()
    while True:
        try:
            await scene.unpaid()
        except NoPayment as error:
            if clock.monotonic() - begun >= within_s:
                return f"{within_s:g} s after the gateway was well again: {error}"
            await clock.sleep(_PAUSE_S)
        else:
            return ""


def _of(
    name: str, gateway: str, effect: Effect, fix: str, play: Callable[[Scene], Awaitable[Shown]], severity: Severity
) -> Probe:
    return Probe(
        name=f"payment.{name}",
        sends=f"a payment request while the gateway {gateway}",
        answers=AWAY,
        effect=effect,
        severity=severity,
        fix=fix,
        play=play,
        turn=Turn.DISTURBED,
        needs=frozenset({Need.CONTROL}),
    )


_TELL_LESS = "Answer 503 in your own words and keep the exception, hosts and the gateway's text in your log."

DISTURBED = (
    _of(
        "gateway-slow",
        "answers later than contract.answers_within",
        Effect.NOT_PAID,
        "Answer 503 within the limit, go on waiting behind the answer, and ask the gateway for the outcome later.",
        _while_gateway("a payment request while the gateway is slow"),
        Severity.MEDIUM,
    ),
    _of(
        "gateway-down",
        "closes every connection",
        Effect.NO_ORDER,
        _TELL_LESS,
        _while_gateway("a payment request while the gateway is down", outage=True),
        Severity.MEDIUM,
    ),
    _of(
        "gateway-nonsense",
        "answers 200 with a page in place of its protocol",
        Effect.NOT_PAID,
        _TELL_LESS,
        _while_gateway("a payment request while the gateway talks nonsense", garble=True),
        Severity.MEDIUM,
    ),
    _of(
        "gateway-refuses",
        "answers 200 with the code of a failure",
        Effect.NO_ORDER,
        "Read the gateway's responseCode: only 00 with a link is a payment, whatever the HTTP status says.",
        _while_gateway("a payment request while the gateway refuses under 200", refuse=True),
        Severity.HIGH,
    ),
)
