"""Checkpoint `database`: the version of the schema. Put back by the migrated release's own `revert`, or not at all.

Restored after the release: the old one was proven against the migrated schema before the switch.
"""

from __future__ import annotations

from pipeline.contracts import Captured, Confirmation, ReleaseId, RestoreContext
from pipeline.errors import Refused, TargetError
from pipeline.migrations import VERSION, done, version
from rollback.release import reread

_COMMANDS = 4
"""Commands of a whole restoring: version, revert, version, and as much again to wait for one left behind."""


class DatabaseCheckpoint:
    """Captured: `version` as it was, the `release` that migrates with its manifest, and the commands, argv included."""

    name = "database"
    reopens = False
    section = "database"

    async def capture(self, context: RestoreContext) -> Captured:
        wanted, release = context.wanted, context.release
        if not wanted or release is None:
            raise Refused("checkpoint database: no release is being deployed that migrates one", "Use `./inv deploy`.")
        manifest = next((one.manifest for one in await context.target.releases.all() if one.id == release), "")
        timeout = float(wanted["timeout"])
        found = await version(context.target.commands, release, wanted["version"], timeout)
        revert = wanted["revert"] or ()
        return {
            "version": found,
            "release": release,
            "manifest": manifest,
            "read": list(wanted["version"]),
            "revert": [part.replace(VERSION, found) for part in revert],
            "irreversible": wanted["irreversible"] or "",
            "timeout_s": timeout,
            "limit_s": timeout * _COMMANDS,
        }

    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        """Nothing is done where the version is the captured one; a `revert` that was cut off is run again."""
        if captured["irreversible"]:
            return
        release, timeout = ReleaseId(captured["release"]), float(captured["timeout_s"])
        await _unchanged(context, release, captured)
        if await _version(context, captured) != captured["version"]:
            await done(context.target.commands, release, captured["revert"], timeout, what="revert")

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        why, was = captured["irreversible"], captured["version"]
        found = await _version(context, captured)
        if not why:
            return Confirmation(found == was, f"schema version {found}", f"schema version {was}")
        stays = f"schema version {found}, was {was}: it stays, there is no way back: {why}"
        return Confirmation(True, stays, "the schema stays; the proofs show whether the old release works with it")

    def in_words(self, captured: Captured) -> str:
        was, why = captured["version"], captured["irreversible"]
        return f"the schema stays as it is, no way back: {why}" if why else f"the schema goes back to version {was}"


async def _version(context: RestoreContext, captured: Captured) -> str:
    release, timeout = ReleaseId(captured["release"]), float(captured["timeout_s"])
    return await version(context.target.commands, release, captured["read"], timeout)


async def _unchanged(context: RestoreContext, release: ReleaseId, captured: Captured) -> None:
    """Its `revert` is code of the release: it is only run as it was when it migrated."""
    try:
        found = await reread(context, release)
    except TargetError as error:
        raise TargetError(f"database.revert of {release} cannot be run: {error}", error.remedy) from error
    if found != captured["manifest"]:
        raise TargetError(
            f"database.revert of {release} cannot be run: its manifest is {found[:12]}, it migrated as "
            f"{captured['manifest'][:12]}",
            "Bring the schema back by hand, with the files that the release was staged with.",
        )


CHECKPOINT = DatabaseCheckpoint()
