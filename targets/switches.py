"""The switch files a service reads on each request, on any host."""

from __future__ import annotations

import json
from dataclasses import asdict

from pipeline.contracts import SwitchName, SwitchOn
from targets import layout
from targets.area import AreaOnHost


class SwitchesOnHost:
    """Implements `contracts.Switches`. A file that cannot be read is a switch that is on."""

    def __init__(self, area: AreaOnHost) -> None:
        self._area = area

    async def read(self, name: SwitchName) -> SwitchOn | None:
        path = self._area.at.shared / name.value
        if await self._area.read(path) is None:
            return None
        found = await self._area.read_json(path) or {}
        return SwitchOn(
            who=str(found.get("who", "unknown")),
            why=str(found.get("why", "the switch file cannot be read")),
            since=str(found.get("since", "")),
            proof=str(found.get("proof", "")),
            run=str(found.get("run", "")),
        )

    async def write(self, name: SwitchName, value: SwitchOn | None) -> None:
        shared = self._area.at.shared
        await self._area.change(layout.make_folders([shared]))
        if value is not None:
            await self._area.put(shared / name.value, json.dumps(asdict(value)).encode())
            return
        await self._area.change(layout.remove([shared / name.value]))
        await self._area.durable([shared])
