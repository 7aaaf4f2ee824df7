"""What an https address offers: protocol versions, the certificates it sends, and whether a client would trust them."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from typing import TypeVar
from urllib.parse import urlsplit

from checks.facts.certificates import Certificate, Unreadable, read
from checks.facts.tls_handshake import Verified, accepting, knock, shake, trusting
from checks.facts.tls_hello import OLD_VERSIONS, Attempt, Outcome
from checks.judging import Unjudged
from pipeline.contracts import World
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, inconclusive, worst

Params = TypeVar("Params")

MODERN_VERSIONS: Mapping[str, ssl.TLSVersion] = {
    "TLS 1.2": ssl.TLSVersion.TLSv1_2,
    "TLS 1.3": ssl.TLSVersion.TLSv1_3,
}


class Asked(Frozen):
    """How long one handshake may take."""

    within: Duration = 5.0


@dataclass(frozen=True)
class Endpoint:
    """An https address, asked at `at`. `sent` is the chain as the server sent it, leaf first; () when there was none.

    `verified` is what a client sees. `trusted` leaves host name, time and strength aside: does the chain end at an
    authority that is trusted here? `unsent` are certificates that only this machine could put into that chain.
    `others` is the same of every further address that the host's name leads to.
    """

    address: str
    host: str
    port: int
    at: datetime
    protocols: Mapping[str, Attempt]
    sent: tuple[Certificate, ...]
    unsent: tuple[Certificate, ...]
    verified: Verified
    trusted: Verified
    others: tuple[Endpoint, ...] = ()

    @property
    def shown(self) -> dict[str, object]:
        """The inventory of certificates and protocols, for evidence."""
        return {
            "address": self.address,
            "certificates": [certificate.shown for certificate in self.sent],
            "protocols": {name: f"{a.outcome.value}: {a.said}" for name, a in self.protocols.items()},
        }


async def endpoint(world: World, address: str, params: Asked) -> Endpoint:
    """Gathered once for each address. Raises Unjudged where nothing speaks TLS, or nothing can be verified.

    Old versions are only asked of the service: the gateway is not ours to probe.
    """
    return await world.facts.once(("tls", address, params.within), lambda: _ask(world, address, params.within))


_MOST_ADDRESSES = 8


def at_each(judge: Callable[[Endpoint, Params], Finding]) -> Callable[[Endpoint, Params], Finding]:
    """Makes a judge of one address one of all that the name leads to: the worst finding counts."""

    @wraps(judge)
    def judged(asked: Endpoint, params: Params) -> Finding:
        findings = [judge(one, params) for one in (asked, *asked.others)]
        decides = worst(finding.verdict for finding in findings)
        found = next(finding for finding in findings if finding.verdict is decides)
        others = {"further_addresses": [one.shown for one in asked.others]} if asked.others else {}
        return replace(found, evidence={**found.evidence, **others})

    return judged


async def _ask(world: World, address: str, within: float) -> Endpoint:
    """Customers get any of the service's addresses, so all that can be reached from here are asked."""
    host, port = place(address)
    addresses = await _addresses(host, port, within) if address == world.addresses.service else [host]
    looks = await asyncio.gather(*(_look(world, address, at, within) for at in addresses))
    seen = [(at, look) for at, look in zip(addresses, looks, strict=True) if isinstance(look, Endpoint)]
    silent = [look for look in looks if not isinstance(look, Endpoint)]
    open_still = next((look for look in silent if not look.away or not seen), None)
    if open_still is not None:
        raise Unjudged(open_still.finding)
    if len(seen) == 1:
        return seen[0][1]
    first, *others = (replace(look, address=f"{look.address} at {at}") for at, look in seen)
    return replace(first, others=tuple(others))


async def _addresses(host: str, port: int, within: float) -> Sequence[str]:
    """What the name leads to; the name itself where that cannot be told, so that connecting says why."""
    try:
        async with asyncio.timeout(within):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [host]
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:_MOST_ADDRESSES] or [host]


@dataclass(frozen=True)
class _Silent:
    """An address with which no handshake came about; `away`: not even a connection."""

    finding: Finding
    away: bool


async def _look(world: World, address: str, at: str, within: float) -> Endpoint | _Silent:
    host, port = place(address)
    shown = origin(host, port)
    strict = await _trusting(world, lenient=False)
    shakes = [shake(host, port, accepting(version), within, at) for version in MODERN_VERSIONS.values()]
    old_versions = OLD_VERSIONS if address == world.addresses.service else {}
    knocks = [_knock(world, host, port, version, within, at) for version in old_versions.values()]
    modern, old, verified = await asyncio.gather(
        asyncio.gather(*shakes), asyncio.gather(*knocks), shake(host, port, strict, within, at)
    )
    attempts = (*old, *(shaken.attempt for shaken in modern))
    protocols = dict(zip((*old_versions, *MODERN_VERSIONS), attempts, strict=True))
    if not any(attempt.outcome is Outcome.OFFERED for attempt in attempts):
        return _Silent(_silent(shown, attempts), all(attempt.outcome is Outcome.AWAY for attempt in attempts))
    trusted = verified
    if not verified.verified.ok:
        trusted = await shake(host, port, await _trusting(world, lenient=True), within, at)
    return Endpoint(
        address=shown,
        host=host,
        port=port,
        at=world.clock.now(),
        protocols=protocols,
        sent=_read(shown, next((shaken.sent for shaken in reversed(modern) if shaken.sent), ())),
        unsent=_read(shown, trusted.verified.unsent),
        verified=verified.verified,
        trusted=trusted.verified,
    )


async def _knock(world: World, host: str, port: int, version: int, within: float, at: str) -> Attempt:
    """A server that hangs up is asked once more: it may have been too busy, and that is no refusal."""
    first = await knock(host, port, version, world.random.randbytes(32), within, at)
    if first.outcome is not Outcome.CLOSED:
        return first
    return await knock(host, port, version, world.random.randbytes(32), within, at)


async def _trusting(world: World, *, lenient: bool) -> ssl.SSLContext:
    async def made() -> ssl.SSLContext:
        return await asyncio.to_thread(trusting, world.addresses.ca_file, lenient=lenient)

    return await world.facts.once(("tls trust", lenient), made)


def place(address: str) -> tuple[str, int]:
    """Host and port of an https address. Raises Unjudged for anything else."""
    try:
        parts = urlsplit(address)
        if parts.scheme == "https" and parts.hostname:
            return parts.hostname, parts.port or 443
    except ValueError:
        pass
    raise Unjudged(
        inconclusive(
            f"{re.sub('//[^/@]*@', '//[removed]@', address)!r} is no https address, so no TLS was asked for",
            "Set `url` of the environment to the service's https address.",
        )
    )


def origin(host: str, port: int) -> str:
    """The address without whatever else somebody wrote into it, such as a password."""
    named = f"[{host}]" if ":" in host else host
    return f"https://{named}" if port == 443 else f"https://{named}:{port}"


def _silent(address: str, attempts: Sequence[Attempt]) -> Finding:
    return inconclusive(
        f"{address}: no TLS handshake came about: {'; '.join(sorted({attempt.said for attempt in attempts}))}",
        "Start the service and the proxy in front of it, see that this machine can reach them, then run again.",
        address=address,
    )


def _read(address: str, chain: Sequence[bytes]) -> tuple[Certificate, ...]:
    try:
        return tuple(read(der) for der in chain)
    except Unreadable as unreadable:
        raise Unjudged(
            inconclusive(
                f"{address}: a certificate of its chain cannot be read ({unreadable})",
                "Have it made anew by its authority; X.509 version 3 is expected.",
            )
        ) from unreadable
