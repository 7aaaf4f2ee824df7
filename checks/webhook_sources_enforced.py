"""webhook.sources_enforced: where the spec lists the gateway's addresses, webhooks from any other are refused.

What is sent is correctly signed and harmless: it speaks of a payment that nobody made.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from pydantic import Field

from checks.facts import vantage
from checks.facts.callbacks import parsed, private
from checks.facts.harmless import harmless_webhook
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, SignedWebhook, When, World
from pipeline.errors import ServiceUnreachable
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, advice, failed, inconclusive, passed, skipped

REFUSED = (401, 403)
_RESOLVED_WITHIN_S = 10.0

Network = IPv4Network | IPv6Network


class Sources(Frozen):
    """Where else the same webhook can be sent from, and which address this machine is seen with."""

    elsewhere: tuple[str, ...] = Field(
        (),
        description="A command that sends what `curl --config -` reads on stdin, from the other side of the list.",
    )
    elsewhere_within: Duration = Field(vantage.LIMIT_S, description="The longest that command may take.")
    seen_as: str = Field(
        "", pattern=r"^[0-9a-fA-F:.]*$", description="The address the service sees this machine with, behind NAT."
    )


@dataclass(frozen=True)
class Tried:
    """A correctly signed webhook, sent from here. `status` 0: no answer."""

    how: str
    status: int
    why: str = ""
    took_ms: float = 0.0

    @property
    def told(self) -> str:
        if not self.status:
            return f"{self.how}: no answer ({self.why})"
        return f"{self.how}: {self.status} in {self.took_ms:g} ms"


@dataclass(frozen=True)
class Enforced:
    """`own` is this machine's address as the service sees it, '' when unknown; `listed` whether the list has it."""

    sources: tuple[str, ...]
    own: str
    listed: bool
    plain: Tried
    forged: tuple[Tried, ...]
    elsewhere: vantage.Seen | None
    elsewhere_ms: int = 0
    """How long the command took that sent it from elsewhere."""


@or_finding
async def gather(world: World, params: Sources) -> Enforced:
    sources = world.spec.contract.webhook_sources
    networks = _networks(sources)
    own = params.seen_as or await _own(world)
    address = parsed(own) if own else None
    listed = address is not None and any(address in network for network in networks)
    webhook = harmless_webhook(world, "webhook.sources_enforced")
    plain = await _send(world, webhook, "from this machine", {})
    forged = [] if listed else [await _send(world, webhook, *forge) for forge in forgeries(str(networks[0][0]))]
    elsewhere, begun = None, world.clock.monotonic()
    if params.elsewhere:
        url, headers = world.service.base + world.spec.contract.webhook, [*webhook.headers.items(), _JSON]
        config = vantage.curl_config(url, webhook.body, headers)
        elsewhere = await vantage.look(params.elsewhere, stdin=config, limit_s=params.elsewhere_within)
    took_ms = round((world.clock.monotonic() - begun) * 1000)
    return Enforced(sources, own, listed, plain, tuple(forged), elsewhere, took_ms)


_JSON = ("Content-Type", "application/json")


def _networks(sources: Sequence[str]) -> list[Network]:
    """Raises Unjudged where there is no list, or one that means nothing or everybody."""
    if not sources:
        raise Unjudged(
            skipped("contract.webhook_sources lists no address: the signature and the gateway's own word decide alone")
        )
    networks: list[Network] = []
    for source in sources:
        try:
            networks.append(ip_network(source, strict=False))
        except ValueError:
            fix = "Write addresses or networks of the gateway: 198.51.100.7, 198.51.100.0/24, 2001:db8::/48."
            raise Unjudged(failed(f"contract.webhook_sources: {source!r} is no address or network", fix)) from None
    if any(network.prefixlen == 0 for network in networks):
        fix = "List the gateway's own addresses, or leave contract.webhook_sources out."
        raise Unjudged(failed("contract.webhook_sources lists every address there is", fix))
    return networks


async def _own(world: World) -> str:
    """The address this machine speaks to the service from, where that is the one the service sees; else ''."""
    parts = urlsplit(world.service.base)
    try:
        async with asyncio.timeout(_RESOLVED_WITHIN_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM
            )
    except (TimeoutError, OSError, UnicodeError):
        return ""
    family, _, _, _, there = found[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(there)  # sends nothing: it only asks the kernel which address it would take
            here = str(probe.getsockname()[0])
        except OSError:
            return ""
    local, remote = parsed(here), parsed(str(there[0]))
    if local is None or remote is None or (private(local) and not private(remote)):
        return ""  # behind NAT the service sees another
    return here


def forgeries(listed: str) -> Sequence[tuple[str, dict[str, str]]]:
    """Headers by which anybody may claim a listed address."""
    node = f'"[{listed}]"' if ":" in listed else listed
    others = ("X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Cluster-Client-IP")
    return (
        ("with X-Forwarded-For of a listed address", {"X-Forwarded-For": listed}),
        ("with X-Forwarded-For twice the listed address", {"X-Forwarded-For": f"{listed}, {listed}"}),
        ("with Forwarded and the like", {"Forwarded": f"for={node}", **dict.fromkeys(others, listed)}),
    )


async def _send(world: World, webhook: SignedWebhook, how: str, headers: dict[str, str]) -> Tried:
    try:
        answer = await world.service.post_webhook(webhook.body, {**webhook.headers, **headers})
    except ServiceUnreachable as error:
        return Tried(how, 0, str(error)[:200])
    return Tried(how, answer.status, took_ms=answer.took_ms)


# ---- judging -----------------------------------------------------------------------------------------------


@unless_finding
def judge(fact: Enforced, _params: Sources) -> Finding:
    tried = [fact.plain, *fact.forged]
    measured = {
        "sources": list(fact.sources),
        "own_address": fact.own,
        "own_address_listed": fact.listed,
        "answers": {one.how: one.status for one in tried},
        "took_ms": {one.how: one.took_ms for one in tried},
        "elsewhere_status": None if fact.elsewhere is None else fact.elsewhere.status,
        "elsewhere_took_ms": fact.elsewhere_ms,
    }
    if fact.listed:
        return _from_inside(fact, measured)
    believed = [one for one in tried if _accepted(one.status)]
    if believed:
        return _let_in(fact, believed, measured)
    unclear = [one for one in tried if one.status not in REFUSED]
    if unclear:
        return _unclear(unclear, measured)
    told = "; ".join(one.told for one in tried)
    if fact.elsewhere is None:
        return advice(
            f"signed webhooks from an address that is not listed were refused ({told}); that the same one is accepted "
            "from a listed address was not seen",
            "Give a command that sends from a listed address, `with: {elsewhere: [...]}`; docs/service.md. Until then "
            "webhook.arrives shows that the gateway's own get in.",
            **measured,
        )
    if _got_in(fact.elsewhere.status):
        return passed(
            f"signed webhooks from an address that is not listed were refused ({told}), and from a listed one "
            f"accepted ({fact.elsewhere.status}, the command took {fact.elsewhere_ms} ms)",
            **measured,
        )
    return _no_control(fact.elsewhere, "from a listed address", measured)


def _accepted(status: int) -> bool:
    return 200 <= status < 300


def _got_in(status: int) -> bool:
    """404 is as good for an unknown order, where the other side of the list is answered something else."""
    return _accepted(status) or status == 404


def _from_inside(fact: Enforced, measured: dict[str, object]) -> Finding:
    """This machine is listed: what it sends must be accepted, and what the other place sends refused."""
    if fact.elsewhere is None:
        return inconclusive(
            f"this machine's address {fact.own} is in contract.webhook_sources, so from here no refusal can be seen "
            f"({fact.plain.told})",
            "Give a command that sends from an address that is not listed, `with: {elsewhere: [...]}`; "
            "docs/service.md.",
            **measured,
        )
    if _accepted(fact.elsewhere.status) or fact.elsewhere.status == fact.plain.status == 404:
        return failed(
            f"a signed webhook from an address that is not listed was answered {fact.elsewhere.status} (the command "
            f"took {fact.elsewhere_ms} ms); 403 is expected",
            "Refuse webhooks from addresses outside contract.webhook_sources, by the address of the connection.",
            **measured,
        )
    if not _got_in(fact.plain.status):
        return _no_control(vantage.Seen(fact.plain.status, fact.plain.why), "from this machine", measured)
    if fact.elsewhere.status in REFUSED:
        return passed(
            f"a signed webhook was accepted from {fact.own}, which is listed ({fact.plain.told}), and refused from "
            f"elsewhere ({fact.elsewhere.status}, the command took {fact.elsewhere_ms} ms)",
            **measured,
        )
    return _no_control(fact.elsewhere, "from elsewhere", measured)


def _let_in(fact: Enforced, believed: Sequence[Tried], measured: dict[str, object]) -> Finding:
    told = "; ".join(one.told for one in believed)
    if _accepted(fact.plain.status):
        known = f"its address {fact.own} is not in" if fact.own else "its address is not known to be in"
        return failed(
            f"a signed webhook {told}; 403 is expected, for {known} contract.webhook_sources",
            "Refuse webhooks from addresses outside the list, by the address of the connection. If the service sees "
            "this machine with a listed address, say which: `with: {seen_as: ADDRESS}`.",
            **measured,
        )
    return failed(
        f"a signed webhook {told}; 403 is expected: the header is anybody's claim",
        "Take the source from the connection, and X-Forwarded-For only from your own front: let the front replace "
        "what a stranger sent.",
        **measured,
    )


def _unclear(unclear: Sequence[Tried], measured: dict[str, object]) -> Finding:
    told = "; ".join(one.told for one in unclear)
    broken = [one for one in unclear if one.status >= 500]
    if broken:
        return failed(
            f"a signed webhook {told}; 403 is expected", "See the service's log for what broke it.", **measured
        )
    return inconclusive(
        f"a signed webhook {told}; 401 or 403 would be a refusal, this is none",
        "Answer 403 to an address that is not listed; after a 429 wait a minute; see that contract.webhook is right.",
        **measured,
    )


def _no_control(seen: vantage.Seen, where: str, measured: dict[str, object]) -> Finding:
    found = f"answered {seen.status}" if seen.status else f"no status ({seen.why})"
    return inconclusive(
        f"a signed webhook {where}: {found}, so the refusals prove nothing",
        "Compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application Secret; see that `elsewhere` is on the "
        "other side of the list and prints the HTTP status.",
        **measured,
    )


CHECK = Check(
    name="webhook.sources_enforced",
    promise="Where the spec lists the gateway's addresses, a webhook from any other is refused, whatever it claims.",
    rows=("G11", "G14", "T6"),
    gather=gather,
    judge=judge,
    params=Sources,
    network=True,
    when=When.LIVE,
    why="A list that is not enforced, or that believes a header, protects nothing once the secret has leaked.",
    looks_at=(
        "What correctly signed, harmless webhooks from an address that is not in contract.webhook_sources are "
        "answered, plain and with headers that claim a listed address. Without a list there is nothing to look at."
    ),
    fix=(
        "Compare the address of the connection with the list and answer 403. Behind a front of your own, let the "
        "front overwrite X-Forwarded-For, and trust that header from the front alone."
    ),
    see_it_fail="Put `198.51.100.7` into `contract.webhook_sources` of a new sandbox and deploy: its shop is not told.",
)
