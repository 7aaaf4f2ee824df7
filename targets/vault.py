"""The settings a release was staged with, on any host."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contracts import ReleaseId
from pipeline.errors import TargetError
from targets import layout
from targets.area import AreaOnHost


class VaultOnHost:
    """Implements `contracts.SettingsVault`. Only digests leave the host, except through `values`."""

    def __init__(self, area: AreaOnHost) -> None:
        self._area = area

    async def in_force(self, release: ReleaseId) -> str:
        (digest,) = await self._area.ctl.digests([self._area.at.settings(release)])
        return digest

    async def kept(self, release: ReleaseId) -> str:
        (digest,) = await self._area.ctl.digests([self._area.at.kept_settings(release)])
        return digest

    async def values(self, release: ReleaseId) -> Mapping[str, str]:
        found = await self._area.read_json(self._area.at.kept_settings(release))
        if found is None:
            raise TargetError(
                f"release {release}: the kept copy of its settings, {self._area.at.kept_settings(release)}, is missing",
                "Name another verified release, or deploy again.",
            )
        return {name: str(value) for name, value in found.items()}

    async def put_back(self, release: ReleaseId) -> None:
        area, at = self._area, self._area.at
        kept = await self.kept(release)
        record = await area.read_json(at.state(release)) or {}
        if not kept or kept != record.get("settings"):
            found = "is not what the release was staged with" if kept else "is missing"
            raise TargetError(
                f"release {release}: the kept copy of its settings, {at.kept_settings(release)}, {found}",
                "Roll back to another verified release, or deploy again.",
            )
        new = at.kept / f".{release}.new"  # not in the release's folder, where a left-over would be a changed release
        await area.change(layout.copy_private(at.kept_settings(release), new))
        await area.durable([new])
        await area.rename(new, at.settings(release))
