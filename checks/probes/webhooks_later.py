"""webhook.replayed-later: what was true an hour ago is sent again, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from checks.facts.payments import Standing
from checks.probes.probe import TAKEN, Effect, Need, Probe, Severity, Shown, Turn
from checks.probes.scene import Scene
from pipeline.contracts import World

RECORDS = ("webhook.withstands_probes", "webhook.arrives")
"""Whose findings name a paid smoke payment: `reference` and `paylink`."""
LATER = timedelta(hours=1)
_MOST_TRIED = 5


@dataclass(frozen=True)
class Earlier:
    """A smoke payment that an earlier run paid."""

    reference: str
    paylink: str
    at: datetime


def earlier(world: World) -> Iterator[Earlier]:
    """Those at least an hour old, newest first; what a record holds is not trusted to have any shape."""
    past, latest = world.past(world.environment_name), world.clock.now() - LATER
    for check in RECORDS:
        for finding in past.findings(check):
            reference, paylink = finding.evidence.get("reference"), finding.evidence.get("paylink")
            ours = isinstance(reference, str) and reference.startswith(world.spec.contract.smoke_prefix)
            if ours and isinstance(reference, str) and isinstance(paylink, str) and paylink and finding.at <= latest:
                yield Earlier(reference, paylink, finding.at)


async def _replayed(scene: Scene) -> Shown:
    for tried, one in enumerate(earlier(scene.world)):
        if tried == _MOST_TRIED:
            break
        before = await scene.standing(one.reference)
        if before == Standing("paid", True, 1):
            age = scene.world.clock.now() - one.at
            about = f"the SUCCESS of a payment of {age.total_seconds() / 3600:.1f} h ago"
            return await _again(scene, one, before, about)
    async with scene.lent(paid=True, by="webhook.replayed-later") as order:
        one = Earlier(order.reference, order.link.id, scene.world.clock.now())
        about = "the SUCCESS of a payment of this very run (none of an hour ago is on record)"
        shown = await _again(scene, one, order.standing, about)
        order.standing = shown.after or order.standing
        return shown


async def _again(scene: Scene, one: Earlier, before: Standing, about: str) -> Shown:
    """Signed as it was then: a scheme without time stamp makes the same bytes, one with a stamp that old one."""
    path = scene.world.spec.contract.webhook
    body = scene.webhook(one.paylink, one.reference, "SUCCESS").body
    signed = scene.world.gateway.scheme.sign(path, body, at=one.at)
    reply = await scene.post(path, signed.body, signed.headers, sent=about)
    return Shown(one.reference, (reply,), before, await scene.settled(one.reference))


ROWS: tuple[Probe, ...] = (
    Probe(
        "webhook.replayed-later",
        "the SUCCESS of a payment of an hour ago again, byte for byte",
        (*TAKEN, 400, 401, 403, 404),
        Effect.PAID_ONCE,
        Severity.CRITICAL,
        "Keep what was activated for ever, by a unique constraint on paylinkID, not in a memory that forgets.",
        _replayed,
        Turn.LAST,
        frozenset({Need.PAID}),
    ),
)
