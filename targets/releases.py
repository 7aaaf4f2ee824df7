"""Release folders and their states, on any host."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState
from pipeline.errors import ReleaseNotReady, TargetError
from pipeline.secrets import Secret
from targets import layout
from targets.area import COPY_S, AreaOnHost, manifest_digest

_RESERVED = (layout.MANIFEST, layout.SETTINGS)
_GOOD = (ReleaseState.STAGED, ReleaseState.LIVE, ReleaseState.VERIFIED)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Packed:
    """An artifact, read once: a tar archive of it, and what its manifest.json says (path to SHA-256)."""

    archive: bytes
    files: Mapping[str, str]

    def manifest(self, running: Mapping[str, Any]) -> bytes:
        """`running`: how the release is started; it is as much part of it as its files."""
        value = {"version": 1, "files": dict(self.files), "running": dict(running)}
        return json.dumps(value, indent=1, sort_keys=True).encode()


def pack(artifact: Path) -> Packed:
    """Reads a folder. Only plain files and folders are allowed in an artifact; executable files stay executable."""
    files: dict[str, str] = {}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(artifact.rglob("*")):
            name = path.relative_to(artifact).as_posix()
            _judge(name, path)
            member = tarfile.TarInfo(name)
            member.mtime = int(path.stat().st_mtime)
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
                continue
            content = path.read_bytes()
            files[name] = hashlib.sha256(content).hexdigest()
            member.size, member.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
            tar.addfile(member, io.BytesIO(content))
    if not files:
        raise TargetError(f"artifact {artifact}: no file in it", "Build first; `release.produces` names the folder.")
    return Packed(archive.getvalue(), files)


def _judge(name: str, path: Path) -> None:
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        raise TargetError(
            f"artifact: {name} is a link or a special file; plain files and folders are allowed",
            "Let the build copy what the link names.",
        )
    if name in _RESERVED:
        raise TargetError(
            f"artifact: {name} is a name the target uses itself", "Let the build name that file otherwise."
        )
    if not name.isprintable() or "\\" in name:
        raise TargetError(
            f"artifact: the file name {name!r} has a control character or a backslash",
            "Let the build rename that file.",
        )


class ReleasesOnHost:
    """Implements `contracts.Releases`, and `reread`, which rollback uses to confirm."""

    def __init__(self, area: AreaOnHost) -> None:
        self._area = area

    async def stage(self, release: ReleaseId, artifact: Path, settings: Mapping[str, Secret | str]) -> ReleaseRecord:
        area, at = self._area, self._area.at
        packed = await asyncio.to_thread(pack, artifact)
        plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in settings.items()}
        content = json.dumps(plain, indent=1, sort_keys=True).encode()
        manifest = packed.manifest(area.running.started_as())
        before = await self._record(release)
        if before is not None and before.state != ReleaseState.BUILDING:
            if await self._is_the_same(before, manifest, content):
                return before
            await self._may_be_replaced(before)

        await area.install()
        await self.mark(release, ReleaseState.BUILDING, "being staged")
        folder = at.release(release)
        await area.change(layout.remove([folder]), timeout=COPY_S)
        await area.change(layout.make_folders([folder]))
        await area.change(layout.unpack(folder), stdin=packed.archive, timeout=COPY_S)
        await area.put(at.manifest(release), manifest)
        await area.put(at.settings(release), content, mode=0o600)
        await area.put(at.kept_settings(release), content, mode=0o600)
        folders = {folder, *(folder / path for name in packed.files for path in layout.parents(name))}
        await area.durable([*(folder / name for name in packed.files), *sorted(folders), at.releases])

        digest = manifest_digest(manifest)
        await area.check_files(release, digest)
        (salted,) = await area.ctl.digests([at.settings(release)])
        return await self._write(release, ReleaseState.STAGED, "every byte read again", digest, salted)

    async def all(self) -> Sequence[ReleaseRecord]:
        names = sorted(await self._area.names(self._area.at.releases, "d"), reverse=True)
        found = await asyncio.gather(*(self._record(ReleaseId(name)) for name in names))
        return [record or _half_built(ReleaseId(name)) for name, record in zip(names, found, strict=True)]

    async def mark(self, release: ReleaseId, state: ReleaseState, why: str) -> None:
        """Writes the new state beside the old ones. The digests of a release never change after it was staged."""
        before = await self._record(release)
        if before is None and state != ReleaseState.BUILDING:
            raise TargetError(
                f"release {release}: has no record, so it cannot become {state}", "`./inv status` lists the releases."
            )
        if before is not None and (before.state, before.why) == (state, why):
            return
        same = before is not None and state != ReleaseState.BUILDING
        manifest, settings = (before.manifest, before.settings) if before is not None and same else ("", "")
        await self._write(release, state, why, manifest, settings)

    async def prune(self, keep: int) -> Sequence[ReleaseId]:
        """Removes bad releases, older ones that never were verified, and verified ones beyond the newest `keep`.

        Never what serves or is linked, never the newest `keep` verified, and nothing newer than the live one that is
        being staged. Older means older than the live one. What only the link names, or only runs, counts as in use.
        """
        records = await self.all()
        in_use = await self._in_use()
        verified = [r.id for r in records if r.state == ReleaseState.VERIFIED]
        safe = in_use | set(verified[: max(keep, 1)])
        line = max(in_use or set(verified[:1]), default=ReleaseId(""))
        gone = [r.id for r in records if r.id not in safe and (r.id < line or r.state == ReleaseState.BAD)]
        for release in gone:
            await self._remove(release)
        await self._remove_leftovers({r.id for r in records})
        return gone

    async def reread(self, release: ReleaseId) -> str:
        """Reads a release again: its files, its settings, what its process was started with. Returns its manifest.

        Raises ReleaseNotReady that names what is not as it was staged.
        """
        area, at = self._area, self._area.at
        record = await self._record(release)
        if record is None:
            raise ReleaseNotReady(
                f"release {release}: has no readable record", "Deploy again, or roll back to another."
            )
        await area.check_files(release, record.manifest)
        status = await area.ctl.status()
        for process in status.get("serving", []):
            if process["release"] == release and process["drifted"]:
                raise ReleaseNotReady(
                    f"release {release}: pid {process['pid']} runs with other settings than {at.settings(release)}",
                    "`./inv rollback` starts it anew with the settings kept for it.",
                )
        return record.manifest

    # -- records

    async def _record(self, release: ReleaseId) -> ReleaseRecord | None:
        """The record on disk; None when there is none, or none that can be read."""
        found = await self._area.read_json(self._area.at.state(release))
        if found is None:
            return None
        try:
            return ReleaseRecord(
                id=ReleaseId(found["id"]),
                state=ReleaseState(found["state"]),
                since=datetime.fromisoformat(found["since"]),
                why=found["why"],
                manifest=found["manifest"],
                settings=found["settings"],
            )
        except (KeyError, ValueError, TypeError):
            return None

    async def _write(
        self, release: ReleaseId, state: ReleaseState, why: str, manifest: str, settings: str
    ) -> ReleaseRecord:
        path = self._area.at.state(release)
        before: Mapping[str, Any] = await self._area.read_json(path) or {}
        since = self._area.now()
        entry = {"state": state.value, "since": since.isoformat(), "why": why}
        history = before.get("history")
        value = {
            "id": release,
            **entry,
            "manifest": manifest,
            "settings": settings,
            "history": [*(history if isinstance(history, list) else []), entry],
        }
        await self._area.put(path, json.dumps(value, indent=1).encode())
        return ReleaseRecord(release, state, since, why, manifest, settings)

    async def _is_the_same(self, before: ReleaseRecord, manifest: bytes, settings: bytes) -> bool:
        """True when exactly this was staged before and nothing touched it since: a repeated step has nothing to do."""
        at = self._area.at
        if before.state not in _GOOD or before.manifest != manifest_digest(manifest):
            return False
        if await self._area.read(at.settings(before.id)) != settings:
            return False
        if await self._area.read(at.kept_settings(before.id)) != settings:
            return False
        try:
            await self._area.check_files(before.id, before.manifest)
        except ReleaseNotReady:
            return False
        return True

    async def _may_be_replaced(self, before: ReleaseRecord) -> None:
        if before.state != ReleaseState.STAGED or before.id in await self._in_use():
            raise TargetError(
                f"release {before.id}: is {before.state} already, with other content; a release never changes",
                "Deploy under a new release name.",
            )

    # -- removing

    async def _in_use(self) -> set[ReleaseId]:
        """What the link names and what runs."""
        status = await self._area.ctl.status()
        if not status["ok"]:
            raise TargetError(f"{self._area.at.area}: the supervisor did not say what runs: {status['error']}")
        running = [p["release"] for kind in ("serving", "draining", "starting") for p in status.get(kind, [])]
        return {ReleaseId(name) for name in (status["link"], *running) if name is not None}

    async def _remove(self, release: ReleaseId) -> None:
        """Record first: a folder that is only half removed is no release any more."""
        at = self._area.at
        await self._area.change(layout.remove([at.state(release)]))
        await self._area.durable([at.states])
        log = at.log(release)
        gone = [at.release(release), at.kept_settings(release), log, log.with_suffix(".log.1")]
        await self._area.change(layout.remove(gone), timeout=COPY_S)

    async def _remove_leftovers(self, releases: set[ReleaseId]) -> None:
        """Records and kept settings whose folder is gone: an earlier removal, or a staging, ended half-way.

        And what a write left that was killed before its rename (`.NAME...`): settings among them, which are secret.
        """
        at = self._area.at
        for folder in (at.states, at.kept):
            names = [
                name for name in await self._area.names(folder, "f") if name.startswith(".") or name.endswith(".json")
            ]
            lost = [folder / name for name in names if name.removesuffix(".json") not in releases]
            if lost:
                await self._area.change(layout.remove(lost))


def _half_built(release: ReleaseId) -> ReleaseRecord:
    return ReleaseRecord(release, ReleaseState.BUILDING, _EPOCH, "it has no readable record", "", "")
