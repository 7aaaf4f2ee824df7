"""Webhooks as nobody at the gateway sends them: made from a right one, so that one thing alone is wrong with each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from checks.probes.orders import Order
from checks.probes.probe import INVALID, REFUSED, TAKEN, Effect, Moot, Need, Probe, Reply, Severity, Shown, Turn
from checks.probes.scene import Scene
from pipeline.contracts import SignedWebhook

HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Sent:
    """One message. `how` completes "SUCCESS for an unpaid order ..."; `path` '' is the webhook's own."""

    how: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    method: str = "POST"


@dataclass(frozen=True)
class Right:
    """What the gateway would send if `order` had been paid; everything forged is made from it."""

    scene: Scene
    order: Order
    success: SignedWebhook

    @property
    def path(self) -> str:
        return self.scene.world.spec.contract.webhook

    @property
    def random(self) -> Random:
        return self.scene.world.random

    @property
    def signature(self) -> str:
        return self.success.headers[self.scene.world.gateway.scheme.headers.signature]

    def signed_as(self, how: str, signature: str) -> Sent:
        """The right message with another signature."""
        name = self.scene.world.gateway.scheme.headers.signature
        return Sent(how, self.success.body, {**self.success.headers, name: signature})

    def signed_by(self, how: str, signed: SignedWebhook) -> Sent:
        """The right bytes with the headers of another message."""
        return Sent(how, self.success.body, signed.headers)

    def of(self, how: str, body: bytes, *, like: bytes | None = None) -> Sent:
        """Other bytes with the right signature of `like`, the order's own message by default."""
        signed = self.success if like is None else self.scene.signed(like)
        return Sent(how, body, signed.headers)


Make = Callable[[Right], Sequence[Sent]]


def forged(
    name: str,
    sends: str,
    make: Make,
    *,
    fix: str,
    severity: Severity = Severity.CRITICAL,
    answers: Sequence[int] = REFUSED,
    effect: Effect = Effect.UNCHANGED,
    turn: Turn = Turn.FORGED,
    needs: frozenset[Need] = frozenset(),
    trusts_scheme: bool = True,
) -> Probe:
    """A row about messages for an unpaid order of the prober's own, none of which may have an effect.

    `trusts_scheme`: a message that the signing scheme itself accepts is not sent, for then nothing is wrong with it.
    """
    play = partial(_play_forged, name=name, make=make, trusts_scheme=trusts_scheme)
    return Probe(name, sends, answers, effect, severity, fix, play, turn, needs)


async def _play_forged(scene: Scene, *, name: str, make: Make, trusts_scheme: bool) -> Shown:
    async with scene.lent(by=name) as order:
        before = order.standing
        right = Right(scene, order, scene.webhook(order.link.id, order.reference, "SUCCESS"))
        messages = [one for one in make(right) if not (trusts_scheme and accepted_by_scheme(scene, one))]
        if not messages:
            raise Moot("the signing scheme itself accepts what this probe sends, so there is nothing wrong with it")
        replies = [await posted(scene, one) for one in messages]
        return Shown(order.reference, tuple(replies), before, await scene.seen_after(order))


async def posted(scene: Scene, one: Sent, *, about: str = "SUCCESS for an unpaid order") -> Reply:
    path = one.path or scene.world.spec.contract.webhook
    return await scene.post(path, one.body, one.headers, sent=f"{about} {one.how}".rstrip(), method=one.method)


def accepted_by_scheme(scene: Scene, one: Sent) -> bool:
    """Whether the signing scheme's own rules let these bytes in at the webhook's path."""
    world = scene.world
    headers = {name.lower(): value for name, value in one.headers.items()}
    return world.gateway.scheme.verify(world.spec.contract.webhook, one.body, headers, at=world.clock.now()).accepted


# ---- correctly signed messages about a payment that nobody made ---------------------------------------------


def odd(
    name: str,
    sends: str,
    make: Callable[[Scene, bytes], Sequence[Sent]],
    *,
    fix: str,
    severity: Severity = Severity.MEDIUM,
    answers: Sequence[int] = (*TAKEN, *INVALID),
    as_scheme_says: bool = False,
    turn: Turn = Turn.ASKING,
) -> Probe:
    """A row about odd bytes that say FAILURE of a payment nobody made; `make` gets the plain ones.

    `as_scheme_says`: what the signing scheme accepts must be taken, and what it does not must be refused.
    """
    play = partial(_play_odd, make=make, as_scheme_says=as_scheme_says)
    return Probe(name, sends, answers, Effect.UNCHANGED, severity, fix, play, turn)


async def _play_odd(scene: Scene, *, make: Callable[[Scene, bytes], Sequence[Sent]], as_scheme_says: bool) -> Shown:
    reference = scene.reference()
    plain = scene.webhook(scene.link_id(), reference, "FAILURE").body
    before = await scene.standing(reference)
    messages = list(make(scene, plain))
    replies = [await posted(scene, one, about="FAILURE for a payment nobody made") for one in messages]
    wrong = ""
    if as_scheme_says:
        told = [_unlike_scheme(scene, one, reply) for one, reply in zip(messages, replies, strict=True)]
        wrong = next((one for one in told if one), "")
    return Shown(reference, tuple(replies), before, await scene.settled(reference), wrong)


def _unlike_scheme(scene: Scene, one: Sent, reply: Reply) -> str:
    if accepted_by_scheme(scene, one):
        if reply.status in REFUSED:
            return (
                f"a webhook {one.how} was refused ({reply.status}), though by its canonical form it is signed rightly"
            )
    elif reply.status in TAKEN:
        return f"a webhook {one.how} was accepted ({reply.status}), though other bytes were signed"
    return ""


def signed_or_as(scene: Scene, how: str, sent: bytes, canonical: bytes) -> Sent:
    """`sent` signed rightly: over these very bytes where the scheme signs bytes, else over the canonical form."""
    raw = Sent(how, sent, scene.signed(sent).headers)
    return raw if accepted_by_scheme(scene, raw) else Sent(how, sent, scene.signed(canonical).headers)


# ---- small changes ------------------------------------------------------------------------------------------


def changed(body: bytes, old: str, new: str) -> bytes:
    """The body with one piece of text replaced. Raises Moot where this gateway's webhooks have no such text."""
    made = body.replace(old.encode(), new.encode(), 1)
    if made == body:
        raise Moot(f"this gateway's webhooks hold no {old}")
    return made


def with_member(body: bytes, member: str) -> bytes:
    """The body with a member of JSON text added at its end."""
    return body.rstrip().removesuffix(b"}") + b"," + member.encode() + b"}"


def reordered(body: bytes) -> bytes:
    """The same members, the last one first, written compactly."""
    members = list(json.loads(body).items())
    return json.dumps(dict([members[-1], *members[:-1]]), separators=(",", ":"), ensure_ascii=False).encode()


def spaced(body: bytes) -> bytes:
    """The same members with white space wherever JSON allows it."""
    return b" \r\n" + json.dumps(json.loads(body), indent="\t", ensure_ascii=False).encode() + b"\n "


def made_up(signature: str, random: Random) -> str:
    """As long as the real one and of the same kind of characters."""
    alphabet = "0123456789abcdef" if set(signature) <= HEX else "ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789"
    head, comma, tail = signature.rpartition(",")  # `v1,` and the like stays
    return head + comma + "".join(random.choice(alphabet) if c.isalnum() else c for c in tail)
