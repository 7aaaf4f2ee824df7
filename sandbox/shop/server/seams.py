"""Where a release can be faulty on purpose: each question the shop asks itself, and its careful answer.

A fault replaces one or two of these; the shop's own code knows no fault. `faults.py` is the table, `faulty/` the
replacements.
"""

from __future__ import annotations

import operator
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import answers, drain, events, gateway, limits, reading, schemes, wanted
from .config import Config
from .gateway import Addresses, GatewayClient, GatewayError, Link
from .store import Order, Store
from .wanted import Wanted

Monotonic = Callable[[], float]


class Listening(Protocol):
    def close(self) -> None: ...


Listen = Callable[
    [web.AppRunner, drain.Connections, socket.socket, ssl.SSLContext | None],
    Awaitable[Listening],
]


@dataclass(frozen=True)
class Limits:
    """What one source may send, and what anybody may wait for, in s (None: for ever)."""

    bounds: reading.Bounds = field(default_factory=reading.Bounds)
    burst: int = limits.BURST
    per_second: float = limits.PER_SECOND
    answer_within_s: float | None = 4.0
    """Whatever the gateway does, a customer is answered by then; the creation goes on behind the answer."""


async def claim(store: Store, wanted: Wanted, until_settled_s: float) -> tuple[Order, bool]:
    """The order of the reference, and whether it is new and ours to create at the gateway."""
    claimed = (wanted.reference, wanted.course.id, wanted.amount, until_settled_s)
    return await store.run(store.claim, *claimed, test=wanted.test)


async def link(client: GatewayClient, wanted: Wanted, addresses: Addresses) -> Link:
    """Asks the gateway for a paylink, once. Raises GatewayError."""
    about = f"Course {wanted.course.title}"
    return await client.create(wanted.reference, wanted.amount, about, addresses, test=wanted.test)


def addresses(config: Config, wanted: Wanted) -> Addresses:
    """Where the gateway sends its webhook and the customer: never what a request says."""
    return gateway.own_addresses(config.public_url, wanted.reference)


def listed(config: Config, address: str) -> bool:
    """Whether webhooks are taken from this source."""
    return config.takes_webhooks_from(address)


def start() -> None:
    """Nothing is wrong with the start."""


@dataclass(frozen=True)
class Seams:
    """The careful answers are the defaults."""

    limits: Limits = field(default_factory=Limits)
    source: Callable[[web.Request], str] = answers.source
    read: reading.Read = reading.json_body
    # webhooks
    listed: Callable[[Config, str], bool] = listed
    verify: schemes.Verify = schemes.verify
    parse: events.Parse = events.parse
    conclude: events.Conclude = events.conclude
    same_cents: Callable[[int, int | None], bool] = operator.eq
    # payments
    judge: wanted.Judge = wanted.judge
    claim: Callable[[Store, Wanted, float], Awaitable[tuple[Order, bool]]] = claim
    addresses: Callable[[Config, Wanted], Addresses] = addresses
    link: Callable[[GatewayClient, Wanted, Addresses], Awaitable[Link]] = link
    trouble: Callable[[GatewayError], web.Response] = answers.trouble
    # the server
    start: Callable[[], None] = start
    listen: Listen = drain.listen
    says_ready: bool = True
    middlewares: Sequence[Callable[[Monotonic], Middleware]] = ()
    """Innermost, before the handlers."""
    routes: Callable[[Mapping[str, Handler]], Sequence[web.RouteDef]] = lambda _handlers: ()
    """More ways to the handlers `webhook` and `create`."""
