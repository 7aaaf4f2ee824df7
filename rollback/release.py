"""Checkpoint `release`: which release serves. Put back by starting it beside the other one, or by closing."""

from __future__ import annotations

from pipeline.contracts import Captured, Confirmation, ReleaseId, Rereads, RestoreContext
from pipeline.errors import TargetError


class ReleaseCheckpoint:
    """Captured: `release`, None when the service is closed, and the SHA-256 of its manifest."""

    name = "release"
    reopens = False

    async def capture(self, context: RestoreContext) -> Captured:
        release = context.goal or await context.target.traffic.live()
        if release is None:
            return {"release": None, "manifest": ""}
        for record in await context.target.releases.all():
            if record.id == release:
                return {"release": release, "manifest": record.manifest}
        raise TargetError(
            f"release {release} is live, but has no folder on the target: there would be no way back to it",
            "`./inv rollback` goes to the last verified release first.",
        )

    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        """What serves already, as it should, is left alone by the target."""
        release = captured["release"]
        if release is None:
            await context.target.traffic.close()
        else:
            await context.target.traffic.activate(ReleaseId(release))

    def in_words(self, captured: Captured) -> str:
        release = captured["release"]
        return f"{release} serves, every byte of it read again" if release else "the service is closed: nothing served"

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        release, manifest = captured["release"], captured["manifest"]
        expected = "closed, no release serves" if release is None else f"{release} serves, manifest {manifest[:12]}"
        try:
            live = await context.target.traffic.live()
            if live != release:
                return Confirmation(False, f"{live} serves" if live else "closed, no release serves", expected)
            if live is None:
                return Confirmation(True, expected, expected)
            found = await reread(context, live)
        except TargetError as error:
            return Confirmation(False, str(error), expected)
        return Confirmation(found == manifest, f"{live} serves, manifest {found[:12]}", expected)


async def reread(context: RestoreContext, release: ReleaseId) -> str:
    """The SHA-256 of its manifest, every byte of it read again. Raises TargetError where one differs."""
    releases = context.target.releases
    if not isinstance(releases, Rereads):
        raise TargetError(f"a target of kind {context.target.kind} cannot read its releases again")
    return await releases.reread(release)


CHECKPOINT = ReleaseCheckpoint()
