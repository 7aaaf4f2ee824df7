"""No probe without a fault it catches, no fault without a probe, and a careful shop that passes them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from checks.probes.judging import finding
from checks.probes.playing import Settings, play
from checks.probes.probe import Need
from checks.probes.scene import Scene
from checks.probes.table import PROBES
from pipeline.contracts import NoPast, PastFinding, World
from pipeline.verdict import Finding, Verdict
from sandbox.drills.faults import FAULTS as DRILLS
from sandbox.shop.server.faults import FAULTS
from tests.probes.shop_rig import ShopRig, Till, Time, gateway, shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBED = {fault: row.caught_by for fault, row in FAULTS.items() if row.caught_by}
UNPROBED = {
    "secret-in-bundle",
    "webhook-500",
    "slow-initialisation",
    "error-rate-30",
    "rate-limit-shuts-out-gateway",
    "never-ready",
    "crash-on-start",
}
"""Faults of the bundle and the start, and those that other proofs and the watch see: no bad input shows them."""
PAID = {"webhook.replayed-later"}
__all__ = ["gateway"]

PACE = 6.0
"""The clock runs fast, so what is waited for in its time gets more of it."""
_ALL = Settings(mode="card", cap=10_000, patience_s=1.5)


@dataclass(frozen=True)
class Earlier(NoPast):
    """A run that paid a smoke payment and kept it on record."""

    at: datetime
    evidence: Mapping[str, Any]

    def findings(self, check: str) -> Sequence[PastFinding]:
        return [PastFinding(self.at, "run-0", check, Verdict.PASS, self.evidence)]


async def an_hour_later(rig: ShopRig) -> World:
    """The world in which a payment of an earlier run is an hour old."""
    scene = Scene(rig.world, mode="card", cap=1000)
    try:
        order = await scene.paid()
    finally:
        await scene.close()
    record = Earlier(rig.time.now(), {"reference": order.reference, "paylink": order.link.id})
    rig.time.move(3700)
    return replace(rig.world, past=lambda _environment: record)


async def probed(
    gateway: Till, names: Sequence[str], *faults: str, scheme: str = "ikhokha", answers_within: str = "1 s"
) -> Finding:
    """What the prober finds at a shop with these faults, asked by these probes alone."""
    made = shop(
        gateway.rig,
        gateway.folder,
        *faults,
        scheme=scheme,
        sources=["127.0.0.1"],
        contract={"answers_within": answers_within, "enrolment_within": "600 s"},
        time=Time(PACE),
        tolerance_s=3600.0,
        body_within_s=0.3,
        answer_within_s=1.5,
    )
    async with made as rig:
        world = await an_hour_later(rig) if PAID & set(names) else rig.world
        return finding(await play(world, [PROBES[name] for name in names], _ALL))


def verdicts(found: Finding) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in found.evidence["probes"]}


@pytest.mark.parametrize("fault", PROBED)
async def test_each_fault_is_caught_by_its_probes(gateway: Till, fault: str) -> None:
    """A shop with the fault gets past none of the probes that are said to catch it."""
    names = PROBED[fault]
    stamped = any(Need.STAMP in PROBES[name].needs for name in names)
    scheme = "standard-webhooks" if stamped else "ikhokha"
    found = await probed(gateway, names, fault, scheme=scheme, answers_within="0.1 s")
    assert verdicts(found) == dict.fromkeys(names, "FAIL"), found.reason
    assert found.verdict is Verdict.FAIL
    assert found.evidence["control"] == ["200", "200"]  # nothing else is wrong with the shop
    assert found.remedy


@pytest.mark.parametrize("scheme", ["ikhokha", "standard-webhooks"])
async def test_a_careful_shop_passes_every_probe(gateway: Till, scheme: str) -> None:
    """The prober has nothing to say against the careful shop, whichever way its webhooks are signed."""
    names = [name for name in PROBES if scheme == "ikhokha" or name.startswith("webhook.")]
    found = await probed(gateway, names, scheme=scheme)
    assert found.verdict is Verdict.PASS, found.reason
    kept_out = {Need.STAMP} if scheme == "ikhokha" else {Need.SENDER}
    for row in found.evidence["probes"]:
        assert row["verdict"] in ("PASS", "SKIPPED"), row
        if row["verdict"] == "SKIPPED":
            assert row["reason"]
            assert scheme != "ikhokha" or PROBES[row["name"]].needs & kept_out, row


async def test_no_probe_is_without_a_fault_and_no_fault_without_a_probe() -> None:
    """Each row of the table has been seen to find what it looks for."""
    assert {probe for probes in PROBED.values() for probe in probes} == set(PROBES)
    assert set(FAULTS) - set(PROBED) == UNPROBED
    drilled = {drill.build for drill in DRILLS.values()}
    assert UNPROBED - drilled == {"rate-limit-shuts-out-gateway"}  # rate_limits.in_force is tried against it
