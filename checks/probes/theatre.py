"""One play at a time: checks that are asked side by side are played as one, for a disturbed gateway disturbs all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from checks.probes.playing import Run, Settings, play
from checks.probes.probe import Probe
from pipeline.contracts import World

_GATHERING_S = 0.2
"""How long the first waits for others that begin at the same moment."""


@dataclass(eq=False)
class _Part:
    probes: Sequence[Probe]
    settings: Settings
    run: Run | None = None


class Theatre:
    """Shared by the checks of a run through its facts."""

    def __init__(self) -> None:
        self._waiting: list[_Part] = []
        self._stage = asyncio.Lock()

    async def play(self, world: World, probes: Sequence[Probe], settings: Settings) -> Run:
        """Plays these probes, together with those of whoever asks meanwhile with the same settings."""
        part = _Part(probes, settings)
        self._waiting.append(part)
        try:
            async with self._stage:
                if part.run is None:
                    await world.clock.sleep(_GATHERING_S)
                    await self._play(
                        world, [one for one in self._waiting if one.run is None and one.settings == settings]
                    )
        finally:
            self._waiting.remove(part)
        if part.run is None:
            raise RuntimeError("a play ended without a result")
        return part.run

    async def _play(self, world: World, parts: Sequence[_Part]) -> None:
        wanted: Mapping[str, Probe] = {probe.name: probe for part in parts for probe in part.probes}
        whole = await play(world, list(wanted.values()), parts[0].settings)
        by_name = {one.probe.name: one for one in whole.played}
        for part in parts:
            names = {probe.name for probe in part.probes}
            late = tuple(one for one in whole.late if names & set(one.probes))
            part.run = replace(whole, played=tuple(by_name[probe.name] for probe in part.probes), late=late)


async def played(world: World, probes: Sequence[Probe], settings: Settings) -> Run:
    """As `playing.play`, one at a time in a run, whoever asks."""

    async def opened() -> Theatre:
        return Theatre()

    theatre = await world.facts.once("probes", opened)
    return await theatre.play(world, probes, settings)
