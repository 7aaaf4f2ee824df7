"""Checkpoint `settings`: what a release is started with. Put back from the copy kept when it was staged."""

from __future__ import annotations

from pipeline.contracts import Captured, Confirmation, ReleaseId, RestoreContext
from pipeline.errors import TargetError

_CLOSED = "closed, no settings in force"


class SettingsCheckpoint:
    """Captured: `release` and the salted `digest` of the settings it was staged with; both empty when closed.

    The way back leads to the settings a release was verified with. Where the file in force was edited by hand since,
    that edit is not what is gone back to.
    """

    name = "settings"
    reopens = False

    async def capture(self, context: RestoreContext) -> Captured:
        release = context.goal or await context.target.traffic.live()
        if release is None:
            return {"release": None, "digest": ""}
        digest = await context.target.settings.kept(release)
        if not digest:
            raise TargetError(
                f"release {release}: no copy of its settings was kept, so there would be no way back to them",
                "Roll back to, or deploy, a release that has its settings kept beside it.",
            )
        return {"release": release, "digest": digest}

    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        """Only writes the file; the release checkpoint, restored after it, starts the process anew when it must."""
        if captured["release"] is None:
            return
        release = ReleaseId(captured["release"])
        if await context.target.settings.in_force(release) != captured["digest"]:
            await context.target.settings.put_back(release)

    def in_words(self, captured: Captured) -> str:
        release = captured["release"]
        return f"those kept with {release} come into force" if release else "none: no release was live"

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        release, digest = captured["release"], captured["digest"]
        if release is None:
            return Confirmation(True, _CLOSED, _CLOSED)
        found = await context.target.settings.in_force(ReleaseId(release))
        return Confirmation(found == digest, _said(release, found), _said(release, digest))


def _said(release: str, digest: str) -> str:
    return f"settings {digest[:12]} in force for {release}" if digest else f"no settings in force for {release}"


CHECKPOINT = SettingsCheckpoint()
