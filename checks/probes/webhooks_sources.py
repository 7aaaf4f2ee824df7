"""Where the spec lists the gateway's addresses: a correctly signed webhook from another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from checks.probes.probe import REFUSED, Effect, Moot, Need, Probe, Severity, Shown
from checks.probes.scene import JSON, Scene

_FIX = "Compare the address of the connection with contract.webhook_sources and answer 403 to any other."
_CLAIMED = "Believe X-Forwarded-For and its kin from your own front alone, and let that replace what a stranger sent."


def unlisted(sources: tuple[str, ...]) -> str:
    """An address of loopback that is not listed. Raises Moot where all of them are."""
    networks = [ip_network(source, strict=False) for source in sources]
    for last in range(2, 255):
        address = ip_address(f"127.0.0.{last}")
        if not any(address in network for network in networks):
            return str(address)
    raise Moot("contract.webhook_sources lists every address of this machine")


async def _plain(scene: Scene) -> Shown:
    return await _from_elsewhere(scene, {"": {}})


async def _claiming(scene: Scene) -> Shown:
    listed = scene.world.spec.contract.webhook_sources[0].partition("/")[0]
    return await _from_elsewhere(scene, dict(claims(listed)))


def claims(listed: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Headers by which anybody may claim an address."""
    node = f'"[{listed}]"' if ":" in listed else listed
    yield " that claims a listed one in X-Forwarded-For", {"X-Forwarded-For": listed}
    yield " that claims a listed one in Forwarded", {"Forwarded": f"for={node}"}
    yield (
        " that claims a listed one in X-Real-IP",
        {"X-Real-IP": listed, "X-Client-IP": listed, "True-Client-IP": listed},
    )


async def _from_elsewhere(scene: Scene, ways: Mapping[str, Mapping[str, str]]) -> Shown:
    line = await scene.line(source=unlisted(scene.world.spec.contract.webhook_sources))
    reference = scene.reference()
    before = await scene.standing(reference)
    replies = []
    for how, more in ways.items():
        signed = scene.webhook(scene.link_id(), reference, "FAILURE")
        headers = [*signed.headers.items(), ("Content-Type", JSON), *more.items()]
        sent = f"a signed FAILURE of a payment nobody made from the unlisted address {line.source}{how}"
        replies.append(await scene.send(signed.body, headers, sent=sent, line=line))
    return Shown(reference, tuple(replies), before, await scene.settled(reference))


_SOURCES = frozenset({Need.SOURCES})
ROWS: tuple[Probe, ...] = (
    Probe(
        "webhook.source-unlisted",
        "a correctly signed webhook from an address that is not listed",
        REFUSED,
        Effect.UNCHANGED,
        Severity.HIGH,
        _FIX,
        _plain,
        needs=_SOURCES,
    ),
    Probe(
        "webhook.source-claimed",
        "a correctly signed webhook from such an address, with headers that claim a listed one",
        REFUSED,
        Effect.UNCHANGED,
        Severity.HIGH,
        _CLAIMED,
        _claiming,
        needs=_SOURCES,
    ),
)
