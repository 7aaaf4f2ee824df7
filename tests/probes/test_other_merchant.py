"""The prober against a shop that nobody here wrote for it: another language, another framework, other habits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from checks.probes.judging import finding, result
from checks.probes.playing import Settings, play
from checks.probes.probe import Need
from checks.probes.table import PROBES
from pipeline.verdict import Verdict
from tests.other_merchant.running import NODE, other_merchant
from tests.sandbox.gateway_rig import rig

pytestmark = pytest.mark.skipif(NODE is None, reason="needs node, a Debian package")

CARD = Settings(mode="card", cap=2000)
ABOUT_WEBHOOKS = [probe for name, probe in PROBES.items() if name.startswith("webhook.")]

CAUGHT: Mapping[str, frozenset[str]] = {
    "rebuilds-the-body": frozenset({"webhook.body-key-order", "webhook.body-byte-changed"}),
    "verifies-raw-bytes": frozenset({"webhook.body-white-space", "webhook.body-unicode-escapes"}),
    "believes-the-webhook": frozenset(
        {
            "webhook.success-for-unpaid",
            "webhook.success-for-failed",
            "webhook.success-denied",
            "webhook.body-duplicate-keys",
            "webhook.amount-lower",
        }
    ),
    "looks-then-waits": frozenset({"webhook.success-fifty-at-once"}),
}
"""For each mistake of mistakes.mjs, the probes that find it, and no other."""


async def test_a_careful_merchant_of_another_team_withstands_every_probe(tmp_path: Path) -> None:
    """A shop in Node, written from the protocol and the contract alone, passes all probes its scheme has a use for."""
    async with rig(tmp_path) as gateway, other_merchant(gateway, tmp_path, sources=["127.0.0.1"]) as other:
        run = await play(other.world, list(PROBES.values()), CARD)
        found = finding(run)
        assert found.verdict is Verdict.PASS, found.reason
        skipped = {one.probe.name for one in run.played if one.skipped}
        assert skipped == {probe.name for probe in PROBES.values() if Need.STAMP in probe.needs}
        assert '"crashed"' not in other.log.read_text()


async def test_each_mistake_is_found_by_its_probes_and_by_no_other(tmp_path: Path) -> None:
    """A mistake that teams make fails the probes about it, and what is right about that shop still passes."""

    async def failing(mistake: str) -> Mapping[str, str]:
        folder = tmp_path / mistake
        folder.mkdir()
        async with rig(folder) as gateway, other_merchant(gateway, folder, mistake) as other:
            run = await play(other.world, ABOUT_WEBHOOKS, CARD)
            return {one.probe.name: one.reason for one in map(result, run.played) if not one.verdict.promotes}

    found = await asyncio.gather(*map(failing, CAUGHT))
    for (mistake, caught), reasons in zip(CAUGHT.items(), found, strict=True):
        assert set(reasons) == caught, (mistake, reasons)
