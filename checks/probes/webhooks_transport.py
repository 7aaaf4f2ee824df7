"""Webhooks by another way: other methods and paths, no TLS, a slow body, a connection that breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from checks.facts.plain_http import plain_port
from checks.facts.smoke import on_loopback
from checks.probes.forging import Right, Sent, forged
from checks.probes.probe import CLOSED, INVALID, Effect, Moot, Probe, Reply, Severity, Shown, Turn
from checks.probes.scene import JSON, Scene
from checks.probes.sending import UNCONNECTED, Line
from pipeline.contracts import SignedWebhook, World

_METHODS = ("GET", "PUT", "DELETE")
_MOVED = (301, 302, 307, 308)
_ONE_DOOR = (
    "Verify in the handler itself, whatever path led there, not in something that is bound to one spelling of it; "
    "answer 404 to other spellings."
)


def _methods(right: Right) -> list[Sent]:
    return [Sent(f"by {m}", right.success.body, right.success.headers, method=m) for m in _METHODS]


async def _plain_http(scene: Scene) -> Shown:
    service = urlsplit(scene.world.service.base)
    https_port = service.port or 443
    ports = dict.fromkeys((plain_port(https_port), https_port))
    async with scene.lent(by="webhook.plain-http") as order:
        before = order.standing
        signed = scene.webhook(order.link.id, order.reference, "SUCCESS")
        headers = [*in_the_clear(scene.world, signed).items(), ("Content-Type", JSON)]
        replies = [
            await scene.send(
                signed.body,
                headers,
                sent=f"SUCCESS for an unpaid order without TLS to port {port}",
                line=Line(service.hostname or "", port, None),
            )
            for port in ports
        ]
        # A port where nothing speaks, or nothing listens, takes no webhook either.
        quiet = [_closed(one) for one in replies]
        return Shown(order.reference, tuple(quiet), before, await scene.seen_after(order))


def in_the_clear(world: World, signed: SignedWebhook) -> Mapping[str, str]:
    """The headers that may travel without TLS: the sender's is the account's API key, and that leaves no machine so."""
    if on_loopback(world.service.base):
        return signed.headers
    sender = world.gateway.scheme.headers.sender
    return {name: value for name, value in signed.headers.items() if name != sender}


def _closed(reply: Reply) -> Reply:
    lost = "nothing listens there" if reply.lost.startswith(UNCONNECTED) else reply.lost
    return replace(reply, status=CLOSED, lost=lost) if reply.status <= 0 else reply


def slashed(path: str) -> Sequence[str]:
    """With a slash more at its end, and with one less where it has one."""
    if path == "/":
        return ()
    return (path.rstrip("/"), f"{path}/") if path.endswith("/") else (f"{path}/", f"{path}//")


def encoded(path: str) -> Sequence[str]:
    """One letter of the last segment written as %XX, and the last slash."""
    at = next((n for n in range(len(path) - 1, -1, -1) if path[n].isalpha() and path[n].isascii()), None)
    letter = () if at is None else (f"{path[:at]}%{ord(path[at]):02X}{path[at + 1 :]}",)
    head, _, tail = path.rpartition("/")
    return (*letter, f"{head}%2F{tail}") if head else letter


def other_case(path: str) -> Sequence[str]:
    return tuple(p for p in dict.fromkeys((path.upper(), path.title())) if p != path)


async def _variants(scene: Scene, *, name: str, how: str) -> Shown:
    spell = {"slash": slashed, "encoded": encoded, "case": other_case}[how]
    paths = spell(scene.world.spec.contract.webhook)
    if not paths:
        raise Moot("the webhook's path has no such spelling")
    async with scene.lent(by=name) as order:
        before = order.standing
        body = scene.webhook(order.link.id, order.reference, "SUCCESS").body
        replies = [
            await scene.send(
                body, [("Content-Type", JSON)], path=path, sent=f"unsigned SUCCESS for an unpaid order to {path}"
            )
            for path in paths
        ]
        return Shown(order.reference, tuple(replies), before, await scene.seen_after(order))


def _spelling(name: str, sends: str, how: str) -> Probe:
    play = partial(_variants, name=name, how=how)
    return Probe(name, sends, (*INVALID, *_MOVED), Effect.UNCHANGED, Severity.CRITICAL, _ONE_DOOR, play)


async def _slow(scene: Scene) -> Shown:
    reference = scene.reference()
    before = await scene.standing(reference)
    signed = scene.webhook(scene.link_id(), reference, "FAILURE")
    headers = [*signed.headers.items(), ("Content-Type", JSON), ("Content-Length", str(len(signed.body)))]
    reply = await scene.send(
        signed.body[:10], headers, sent="ten bytes of a body, and then nothing", within_s=scene.patience_s
    )
    return Shown(reference, (reply,), before, await scene.settled(reference))


async def _dropped(scene: Scene) -> Shown:
    async with scene.lent(by="webhook.connection-dropped") as order:
        before = order.standing
        signed = scene.webhook(order.link.id, order.reference, "FAILURE")
        headers = [*signed.headers.items(), ("Content-Type", JSON), ("Content-Length", str(len(signed.body) + 100))]
        sent = "a signed FAILURE for an unpaid order, cut off before the length it announced"
        reply = await scene.send(signed.body, headers, sent=sent, drop=True)
        return Shown(order.reference, (reply,), before, await scene.seen_after(order))


ROWS: tuple[Probe, ...] = (
    forged(
        "webhook.method-other",
        "a signed SUCCESS for an unpaid order by GET, PUT and DELETE",
        _methods,
        fix="Serve POST alone at the webhook's path and answer 405 to all else.",
        severity=Severity.MEDIUM,
        answers=INVALID,
        trusts_scheme=False,
    ),
    Probe(
        "webhook.plain-http",
        "a signed SUCCESS for an unpaid order without TLS; a redirect is not followed",
        (CLOSED, 301, 308, *INVALID),
        Effect.UNCHANGED,
        Severity.HIGH,
        "Let nothing but a redirect answer without TLS, at this port and at port 80.",
        _plain_http,
        within_s=5.0,
    ),
    _spelling("webhook.path-trailing-slash", "unsigned SUCCESS to the webhook's path with slashes at its end", "slash"),
    _spelling(
        "webhook.path-encoded", "unsigned SUCCESS to the webhook's path with a character written as %XX", "encoded"
    ),
    _spelling("webhook.path-other-case", "unsigned SUCCESS to the webhook's path in other case", "case"),
    Probe(
        "webhook.body-slow",
        "the beginning of a body, and never the rest",
        (CLOSED, *INVALID),
        Effect.UNCHANGED,
        Severity.HIGH,
        "Give a body a few seconds to arrive, then answer 408 or close the connection.",
        _slow,
        within_s=15.0,
    ),
    Probe(
        "webhook.connection-dropped",
        "a signed FAILURE for an unpaid order, cut off before the length it announced",
        (CLOSED,),
        Effect.UNCHANGED,
        Severity.MEDIUM,
        "Act on a body only when all of it has arrived.",
        _dropped,
        Turn.ASKING,
    ),
)
