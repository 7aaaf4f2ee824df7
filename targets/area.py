"""One area on one host: the commands every part of a target is made of."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.contracts import Completed, Fence, Fencing, Host, ReleaseId
from pipeline.errors import ReleaseNotReady, TargetError, disk_error
from targets import layout
from targets.ctl import PROTOCOL, QUICK_S, SupervisorClient, indented
from targets.layout import Layout

SUPERVISOR = Path(__file__).with_name("supervisor.py")
CLIENT = Path(__file__).with_name("supervisor_client.py")
COPY_S = 600.0


@dataclass(frozen=True)
class Running:
    """How releases are started: what `run/config.json` says, and how the supervisor itself is. Times are seconds."""

    start: tuple[str, ...]
    process: Mapping[str, str]
    public_url: str | None
    ready_path: str
    ready_within: float
    drain_within: float
    listen: str
    idle: float
    activity: Path
    closed_page: Callable[[], bytes] = bytes
    """What customers read while the service is closed; b'': nothing is kept, and the built-in page serves."""

    def config(self) -> bytes:
        """The content of `run/config.json`: for the closed page, and for releases staged without their own."""
        return json.dumps(self.started_as(), indent=1, sort_keys=True).encode()

    def started_as(self) -> dict[str, Any]:
        """How a release is started: kept in its manifest, so that it comes up as it was verified."""
        return {
            "start": list(self.start),
            "process": dict(self.process),
            "public_url": self.public_url,
            "ready_path": self.ready_path,
            "ready_within": self.ready_within,
            "drain_within": self.drain_within,
        }


@dataclass(frozen=True)
class AreaOnHost:
    """What all parts of a target share. Every change is made under the fence that `fencing` gives, or refuses.

    `salt` makes a new random salt, as text.
    """

    host: Host
    at: Layout
    ctl: SupervisorClient
    running: Running
    fencing: Fencing
    now: Callable[[], datetime]
    salt: Callable[[], str]

    async def do(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = QUICK_S, fence: Fence | None = None
    ) -> Completed:
        """Runs a command that must succeed. Raises TargetError with what it said."""
        done = await self.host.run(argv, timeout=timeout, stdin=stdin, fence=fence)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise TargetError(
                f"{self.at.area}: `{' '.join(argv[:4])}` ended with {done.returncode}: {said or 'it said nothing'}",
                "Look at space and permissions of that folder, then repeat the command.",
            )
        return done

    async def change(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = QUICK_S) -> None:
        """A command that changes the target, if this run still may."""
        await self.do(argv, stdin=stdin, timeout=timeout, fence=await self.fencing.ours())

    async def put(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        fence = await self.fencing.ours()
        try:
            await self.host.put(path, content, mode=mode, fence=fence)
        except OSError as error:
            raise _disk(path, error) from error

    async def rename(self, old: PurePosixPath, new: PurePosixPath) -> None:
        fence = await self.fencing.ours()
        try:
            await self.host.rename(old, new, fence=fence)
        except OSError as error:
            raise _disk(new, error) from error

    async def read(self, path: PurePosixPath) -> bytes | None:
        """A file's bytes, None when there is no such file."""
        try:
            return await self.host.read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk(path, error) from error

    async def read_json(self, path: PurePosixPath) -> Mapping[str, Any] | None:
        """The JSON object in a file; None when the file is missing, torn or something else."""
        try:
            found = json.loads(await self.read(path) or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    async def durable(self, paths: Sequence[PurePosixPath]) -> None:
        for some in layout.in_chunks(paths):
            await self.do(layout.make_durable(some), timeout=COPY_S)

    async def names(self, folder: PurePosixPath, kind: str) -> list[str]:
        """The names right under a folder; none when there is no folder. `kind` as find's -type."""
        done = await self.host.run(layout.list_names(folder, kind), timeout=QUICK_S)
        if done.returncode != 0 and "No such file" not in done.stderr:
            raise TargetError(f"{folder}: cannot be listed: {done.stderr.strip()[-300:]}")
        return done.stdout.split("\n")[:-1]

    # -- releases

    async def check_files(self, release: ReleaseId, manifest: str) -> None:
        """Reads every file of a release again. Raises ReleaseNotReady that names the first one that is not as staged.

        `manifest` is the SHA-256 of manifest.json.
        """
        folder = self.at.release(release)
        remedy = f"Its folder was changed since it was staged. Deploy it anew; mark {release} bad if it stays."
        content = await self.read(self.at.manifest(release)) or b""
        if manifest_digest(content) != manifest:
            raise ReleaseNotReady(f"release {release}: {layout.MANIFEST} is missing or not the one staged", remedy)
        files: Mapping[str, str] = json.loads(content)["files"]
        listed = await self.do(layout.list_files(folder))
        found = set(listed.stdout.split("\n")[:-1]) - {layout.MANIFEST, layout.SETTINGS}
        odd = sorted(found ^ set(files))
        if odd:
            what = "is missing" if odd[0] in files else "is not part of it"
            raise ReleaseNotReady(f"release {release}: the file {odd[0]!r} {what}", remedy)
        lines = layout.sum_lines(folder, sorted(files.items()))
        sums = await self.host.run(layout.check_sums(), timeout=COPY_S, stdin=lines)
        if sums.returncode != 0:
            first = (sums.stdout or sums.stderr).strip().split("\n")[0].removeprefix(f"{folder}/")
            raise ReleaseNotReady(f"release {release}: {first}: its bytes are not those that were staged", remedy)

    # -- the supervisor

    async def install(self, *, anew: bool = True) -> None:
        """Folders, the supervisor's copy, its configuration and the salt; what is already so stays.

        `anew` False: a file that is there stays, whatever it says. Who holds no lease changes nothing.
        """
        await self.change(layout.make_folders([self.at.area, self.at.releases, self.at.states, self.at.shared]))
        await self.change(layout.make_folders([self.at.data, self.at.kept, self.at.run], mode="700"))
        if await self.read(self.at.salt) is None:
            await self.put(self.at.salt, self.salt().encode(), mode=0o600)
        await self._keep(self.at.supervisor, await asyncio.to_thread(SUPERVISOR.read_bytes), anew)
        await self._keep(self.at.client, await asyncio.to_thread(CLIENT.read_bytes), anew)
        await self._keep(self.at.config, self.running.config(), anew)
        if page := self.running.closed_page():
            await self._keep(self.at.closed_page, page, anew, mode=0o644)

    async def _keep(self, path: PurePosixPath, content: bytes, anew: bool, *, mode: int = 0o600) -> None:
        found = await self.read(path)
        if found is None or (anew and found != content):
            await self.put(path, content, mode=mode)

    async def up(self, *, settle: bool = False, anew: bool = True) -> Mapping[str, Any]:
        """Starts the supervisor when none runs; its status, with `settle` once it brings nothing back any more."""
        await self.install(anew=anew)
        fence = await self.fencing.ours()
        arguments = (
            *(self.running.listen, str(self.running.activity), str(self.running.idle)),
            *(("settle",) if settle else ()),
        )
        reply = await self.ctl.up(arguments, timeout=self.running.ready_within * 10, fence=fence)
        if not reply["ok"]:
            raise TargetError(
                f"{self.at.area}: {reply['error']}{indented(reply['tail'])}",
                f"Read {self.at.run}/supervisor.log; when a port is taken, free it, then repeat the command.",
            )
        if reply["protocol"] != PROTOCOL:
            raise TargetError(
                f"{self.at.area}: a supervisor of another version runs (protocol {reply['protocol']}, not {PROTOCOL})",
                "Stop it in a quiet moment (`./inv sandbox.down` for the sandbox), then repeat the command.",
            )
        return reply


def manifest_digest(content: bytes) -> str:
    """What a record keeps of manifest.json."""
    return hashlib.sha256(content).hexdigest()


def _disk(path: PurePosixPath, error: OSError) -> TargetError:
    if (known := disk_error(error, str(path))) is not None:
        return TargetError(str(known), known.remedy)
    return TargetError(
        f"{path}: {error.strerror or error}",
        "Look at space and permissions of that folder, then repeat the command.",
    )
