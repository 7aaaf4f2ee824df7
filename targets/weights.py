"""How the traffic is shared, where one release at a time gets all of it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contracts import ReleaseId, Traffic
from pipeline.errors import TargetError


class AllToOne:
    """Implements `contracts.Weights` over a `Traffic`: 100 percent for the live release, or nothing."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    async def shares(self) -> Mapping[ReleaseId, int]:
        live = await self._traffic.live()
        return {} if live is None else {live: 100}

    async def share(self, shares: Mapping[ReleaseId, int]) -> None:
        wanted = {release: percent for release, percent in shares.items() if percent}
        if wanted and list(wanted.values()) != [100]:
            told = ", ".join(f"{percent}% to {release}" for release, percent in sorted(wanted.items()))
            raise TargetError(
                f"this target gives all traffic to one release: found {told}; allowed is 100% to one, or none",
                "A share for a canary needs a target that can split the traffic.",
            )
        if await self.shares() == wanted:
            return
        for release in wanted:
            await self._traffic.activate(release)
        if not wanted:
            await self._traffic.close()
