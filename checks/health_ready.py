"""health.ready: the release being deployed is the one that answers, and all its parts are well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import Frozen
from pipeline.verdict import Finding, failed, inconclusive, passed

if TYPE_CHECKING:
    from pipeline.service import Answer

PARTS = ("database", "webhook", "configuration")
"""Parts of the ready answer that are the service's own; `gateway` stands beside them."""


class Health(Frozen):
    """How many fresh connections must all meet the new release."""

    connections: int = Field(5, ge=1, le=50)


@dataclass(frozen=True)
class Asked:
    """One question on a connection of its own. `body` is what `ready` said, {} when it was no JSON object."""

    live: int
    ready: int
    body: Mapping[str, object]
    took_ms: float
    live_ms: float = 0.0


@dataclass(frozen=True)
class Answers:
    release: str
    live_path: str
    ready_path: str
    asked: tuple[Asked, ...]


@or_finding
async def gather(world: World, params: Health) -> Answers:
    if world.run.release is None:
        raise Unjudged(inconclusive("no release is deployed here, so none can be ready", "Deploy one: `./inv deploy`."))
    contract = world.spec.contract
    asked = []
    for _ in range(params.connections):
        live = await world.service.request("GET", contract.live)
        ready = await world.service.request("GET", contract.ready)
        asked.append(Asked(live.status, ready.status, _object(ready), ready.took_ms, live.took_ms))
    return Answers(str(world.run.release), contract.live, contract.ready, tuple(asked))


def _object(answer: Answer) -> Mapping[str, object]:
    body = answer.json()
    return body if isinstance(body, dict) else {}


@unless_finding
def judge(fact: Answers, _params: Health) -> Finding:
    slowest = max((asked.took_ms for asked in fact.asked), default=0.0)
    measured = {"release": fact.release, "connections": len(fact.asked), "slowest_ms": slowest}
    if not fact.asked:
        return inconclusive("the service was not asked", "Set `connections` to 1 or more.", **measured)
    for asked in fact.asked:
        finding = _wrong(fact, asked, measured)
        if finding is not None:
            return finding
    return passed(
        f"GET {fact.live_path} and {fact.ready_path}: release {fact.release} answered 200, live and ready, on "
        f"{len(fact.asked)} fresh connections, the slowest in {slowest:g} ms",
        **measured,
    )


def _wrong(fact: Answers, asked: Asked, measured: Mapping[str, object]) -> Finding | None:
    ill = {part: asked.body.get(part, "missing") for part in PARTS if asked.body.get(part) != "ok"}
    if asked.live != 200:
        return failed(
            f"GET {fact.live_path}: answered {asked.live} in {asked.live_ms:g} ms, expected 200",
            "Look at the service's log for why it is not alive.",
            **measured,
        )
    if asked.body.get("release") != fact.release:
        return failed(
            f"GET {fact.ready_path}: answered {asked.ready} in {asked.took_ms:g} ms as release "
            f"{asked.body.get('release')!r}, expected {fact.release} on every new connection",
            "An old release still takes connections, or the service does not pass on RELEASE_ID.",
            **measured,
        )
    if asked.ready != 200 or ill:
        told = ", ".join(f"{part}: {reason}" for part, reason in ill.items()) or "every part ok"
        return failed(
            f"GET {fact.ready_path}: answered {asked.ready} in {asked.took_ms:g} ms with {told}; "
            "expected 200 and all ok",
            "Put right the part that is named; its reason is the service's own.",
            **measured,
        )
    if asked.body.get("gateway") != "ok":
        return inconclusive(
            f"GET {fact.ready_path}: answered {asked.ready} in {asked.took_ms:g} ms: the service is ready, but its "
            f"gateway is {asked.body.get('gateway', 'missing')!r}",
            "Payments cannot be proven while the gateway is away: check its status and the gateway's credentials "
            "and address in the settings, then run again.",
            gateway=str(asked.body.get("gateway", "missing")),
            **measured,
        )
    return None


CHECK = Check(
    name="health.ready",
    promise="Every new connection meets the new release, and it says that all its parts are well.",
    rows=("G7", "G8", "T8", "T9", "T10", "T19"),
    gather=gather,
    judge=judge,
    params=Health,
    acceptable=False,
    network=True,
    when=When.LIVE,
    why="A proof against the old release says nothing of the new one.",
    pci=("6.5.2",),
    looks_at=(
        "`contract.live` and `contract.ready`, on several new connections: the status, the release that answers, and "
        "what it says of its database, its webhook, its configuration and the gateway."
    ),
    fix=(
        "Put right the part that the finding names; its reason is the service's own. Another release than the one that "
        "was deployed: an old process still takes connections, or `RELEASE_ID` is not passed on."
    ),
    see_it_fail="`./inv drill --fault gateway-down-during-proof` takes the gateway away right after the switch.",
)
