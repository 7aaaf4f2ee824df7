"""Asking a service for payments it should refuse: how a request is made wrong, and how its traces are read again.

Every request speaks of a smoke reference of the prober's own; what it would buy is the smoke course.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checks.facts.payments import Standing, standing
from checks.probes.probe import Reply, Shown
from pipeline.contracts import World
from pipeline.errors import ServiceGarbled

if TYPE_CHECKING:
    from checks.probes.scene import Scene

_LONGEST_ASKED_FOR = 1000

Wanted = Mapping[str, Any]
"""The members of a request for a payment."""


@dataclass(frozen=True)
class Wrong:
    """One way to make a good request wrong. `sent` completes "a payment request"; `body` gets the good one."""

    sent: str
    body: Callable[[Wanted], bytes]


def wanted(world: World, reference: str) -> dict[str, Any]:
    """A request that any service takes: the smoke course at its price."""
    course = world.spec.contract.smoke_course
    return {"reference": reference, "amount": course.cents, "currency": "ZAR", "course": course.id}


def as_json(members: object) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def members(sent: str, **changed: Any) -> Wrong:
    """Members put in place of the good ones."""
    return Wrong(sent, lambda good: as_json({**good, **changed}))


def amount(sent: str, of_price: Callable[[int], object]) -> Wrong:
    """Another amount, made from the price in cents."""
    return Wrong(sent, lambda good: as_json({**good, "amount": of_price(good["amount"])}))


def literal(sent: str, number: str) -> Wrong:
    """An amount written as no JSON library of ours would write it."""
    return Wrong(sent, lambda good: as_json({**good, "amount": "@"}).replace(b'"@"', number.encode()))


def without(sent: str, member: str) -> Wrong:
    return Wrong(sent, lambda good: as_json({name: value for name, value in good.items() if name != member}))


def asks(*wrongs: Wrong, within_s: float = 10.0) -> Callable[[Scene], Awaitable[Shown]]:
    """Plays each wrong request under a reference of its own, after a good one was taken; each within `within_s`."""

    async def play(scene: Scene) -> Shown:
        await good_one_taken(scene)
        replies: list[Reply] = []
        after: list[tuple[str, Standing]] = []
        for wrong in wrongs:
            reference = scene.reference()
            sent = f"a payment request {wrong.sent}"
            body = wrong.body(wanted(scene.world, reference))
            replies.append(await scene.ask(body, sent=sent, within_s=within_s))
            after.append((reference, await scene.standing(reference)))
        reference, left = worst(after)
        made = await _held_by_gateway(scene.world, [one for one, _ in after])
        return Shown(reference, tuple(replies), None, left, made)

    return play


async def good_one_taken(scene: Scene) -> None:
    """A service that takes no payment at all refuses the wrong ones, too, and that proves nothing. Raises NoPayment."""
    await scene.world.facts.once("a payment the probes may be compared with", scene.unpaid)


def worst(after: Sequence[tuple[str, Standing]]) -> tuple[str, Standing]:
    """The reference that shows most of what must not be: an enrolment, else a payment, else the last."""
    return max(after, key=lambda one: (one[1].enrolled, one[1].status in ("paid", "pending"), bool(one[1].status)))


async def odd_standing(world: World, reference: str) -> Standing | None:
    """The state of a reference that no service can have: a refusal of the question is a reference never seen.

    None for one too long for an address: it cannot be asked for.
    """
    if len(reference) > _LONGEST_ASKED_FOR:
        return None
    answers = [await world.service.payment(reference), await world.service.enrolment(reference)]
    if all(400 <= answer.status < 500 and answer.status != 429 for answer in answers):
        return Standing("", False, 0)
    return await standing(world, reference)


def as_text(reference: str) -> str:
    """A reference for people and records: no control characters, and not all of a long one."""
    plain = "".join(char if char.isprintable() else "?" for char in reference)
    return plain if len(plain) <= 64 else f"{plain[:40]}... ({len(plain)} characters)"


@dataclass(frozen=True)
class Kept:
    """What the service keeps of a payment beside its status."""

    amount: object
    currency: object
    course: object
    link: object


async def kept(world: World, reference: str) -> Kept:
    """Raises ServiceGarbled where there is no such payment."""
    answer = await world.service.payment(reference)
    data = answer.json()
    if answer.status != 200 or not isinstance(data, dict):
        raise ServiceGarbled(f"GET {answer.path}: answered {answer.status}; the payment is expected")
    return Kept(data.get("amount"), data.get("currency"), data.get("course"), data.get("paylinkID"))


async def at_gateway(world: World, reference: str) -> Sequence[Mapping[str, Any]] | None:
    """The gateway's own payments under a reference; None where nobody may look."""
    if world.control is None:
        return None
    return [row for row in await world.control.payments() if row.get("reference") == reference]


async def _held_by_gateway(world: World, references: Sequence[str]) -> str:
    """What is wrong where the gateway knows a payment that the service refused; '' also where nobody may look."""
    if world.control is None:
        return ""
    rows = await world.control.payments()
    held = next((row["reference"] for row in rows if row.get("reference") in references), "")
    return f"the gateway holds a payment under {held}, which the service should have refused before" if held else ""


def link_of(reply: Reply) -> str:
    """The paylinkID of an answer, '' for none. Total."""
    try:
        data = json.loads(reply.body)
    except (ValueError, RecursionError):
        return ""
    link = data.get("paylinkID") if isinstance(data, dict) else None
    return link if isinstance(link, str) else ""
