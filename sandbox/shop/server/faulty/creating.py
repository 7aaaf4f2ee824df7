"""Payments that are made twice, too late or not at all, and what is told of it."""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from ..answers import problem
from ..gateway import Addresses, GatewayClient, GatewayError, Link, Refused
from ..metrics import is_smoke
from ..seams import Seams
from ..store import Order, Store
from ..wanted import Wanted
from .kit import Break, instead

_SLOW_S = 6.0


class _Unlucky(Refused):
    pass


def _slow(seams: Seams) -> Seams:
    async def claim(store: Store, wanted: Wanted, until_settled_s: float) -> tuple[Order, bool]:
        await asyncio.sleep(_SLOW_S)
        return await seams.claim(store, wanted, until_settled_s)

    return replace(seams, claim=claim)


def _three_in_ten(seams: Seams) -> Seams:
    """The first, fourth and seventh of every ten new references; one that was unlucky stays so. No smoke payment."""
    unlucky: dict[str, bool] = {}

    async def link(client: GatewayClient, wanted: Wanted, addresses: Addresses) -> Link:
        reference = wanted.reference
        if not is_smoke(reference) and unlucky.setdefault(reference, len(unlucky) % 10 in (0, 3, 6)):
            raise _Unlucky("the release is faulty")
        return await seams.link(client, wanted, addresses)

    def trouble(error: GatewayError) -> web.Response:
        return problem(500, "something went wrong") if isinstance(error, _Unlucky) else seams.trouble(error)

    return replace(seams, link=link, trouble=trouble)


def _once_more(seams: Seams) -> Seams:
    async def claim(store: Store, wanted: Wanted, until_settled_s: float) -> tuple[Order, bool]:
        order, _ = await seams.claim(store, wanted, until_settled_s)
        return replace(order, course=wanted.course.id, amount=wanted.amount), True

    return replace(seams, claim=claim)


def _patient(seams: Seams) -> Seams:
    return replace(seams, limits=replace(seams.limits, answer_within_s=None))


def _in_full(error: GatewayError) -> web.Response:
    told = "".join(traceback.format_exception(error))
    return problem(500, f"{type(error).__name__}: {error}\n{told}")


def _whatever_the_code(seams: Seams) -> Seams:
    async def link(client: GatewayClient, wanted: Wanted, addresses: Addresses) -> Link:
        try:
            return await seams.link(client, wanted, addresses)
        except Refused:
            link_id = secrets.token_hex(8)[:15]
            return Link(link_id, f"{addresses.home}/pay/{link_id}")

    return replace(seams, link=link)


BREAKS: Mapping[str, Break] = {
    "slow-initialisation": _slow,
    "error-rate-30": _three_in_ten,
    "repeats-creation": _once_more,
    "waits-for-gateway": _patient,
    "tells-internals": instead(trouble=_in_full),
    "takes-refusal-for-success": _whatever_the_code,
}
