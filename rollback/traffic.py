"""Checkpoint `traffic`: how the traffic is shared among releases."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contracts import Captured, Confirmation, ReleaseId, RestoreContext


class TrafficCheckpoint:
    """Captured: `shares`, percent by release; empty when the service is closed."""

    name = "traffic"
    reopens = False
    section = ""

    async def capture(self, context: RestoreContext) -> Captured:
        if context.goal is not None:
            return {"shares": {context.goal: 100}}
        return {"shares": dict(await context.target.weights.shares())}

    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        await context.target.weights.share(_shares(captured))

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        found, expected = await context.target.weights.shares(), _shares(captured)
        return Confirmation(dict(found) == expected, said(found), said(expected))

    def in_words(self, captured: Captured) -> str:
        return said(_shares(captured))


def _shares(captured: Captured) -> dict[ReleaseId, int]:
    return {ReleaseId(release): int(percent) for release, percent in captured["shares"].items()}


def said(shares: Mapping[ReleaseId, int]) -> str:
    """`90% to 1-old, 10% to 2-new`"""
    told = ", ".join(f"{percent}% to {release}" for release, percent in sorted(shares.items()))
    return told or "no release has traffic"


CHECKPOINT = TrafficCheckpoint()
