"""A target's area with real processes behind it, for the tests of every room that needs one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from pipeline.contracts import ReleaseId, ReleaseState, RestoreContext, Target
from pipeline.secrets import Secret
from targets import TARGETS, service_address, stop_local

SERVICE = Path(__file__).with_name("service")


class RealClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Lease:
    """Says whether this run may change the target, and by which token; `asked` counts how often it was asked."""

    lost: Exception | None = None
    asked: int = 0
    token: int | None = 1

    async def guard(self) -> int | None:
        self.asked += 1
        if self.lost is not None:
            raise self.lost
        return self.token


@dataclass
class TestArea:
    """One area, its target, and what a test wants to know of both."""

    __test__ = False

    path: Path
    target: Target
    lease: Lease = field(default_factory=Lease)

    @property
    def context(self) -> RestoreContext:
        return RestoreContext(self.target, RealClock(), "a test", "to see whether it works")

    async def stage(self, release: str, behaviour: str = "good", **settings: str) -> ReleaseId:
        """An artifact of the test service, staged with a secret of its own."""
        artifact = artifact_in(self.path.parent / f"artifact-{release}")
        values: dict[str, Secret | str] = {"GREETING": f"hello from {release}", "BEHAVIOUR": behaviour, **settings}
        values["TILL_KEY"] = Secret(f"till-key-of-{release}-{os.urandom(8).hex()}")
        return (await self.target.releases.stage(ReleaseId(release), artifact, values)).id

    async def live(self, release: str, behaviour: str = "good") -> ReleaseId:
        """A staged release that serves and was verified."""
        staged = await self.stage(release, behaviour)
        await self.target.traffic.activate(staged)
        await self.target.releases.mark(staged, ReleaseState.VERIFIED, "a test says so")
        return staged

    async def status(self) -> Mapping[str, Any]:
        from targets import status_local

        return await status_local(self.path)

    async def ask(self, path: str = "/") -> httpx.Response:
        """One request on a connection of its own."""
        address = await service_address(self.path)
        async with httpx.AsyncClient(verify=trusting_anything(), trust_env=False, timeout=10) as client:
            return await client.get(f"{address}{path}")


def trusting_anything() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def artifact_in(folder: Path) -> Path:
    """What a build leaves: the package `service`, a page in a folder, and a program."""
    if not folder.exists():
        shutil.copytree(SERVICE, folder / "service", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "public" / "empty").mkdir(parents=True)
        (folder / "public" / "index.html").write_text("<h1>caf\u00e9</h1>", encoding="utf-8")
        (folder / "tool.sh").write_text("#!/bin/sh\n")
        (folder / "tool.sh").chmod(0o755)
    return folder


async def opened(
    path: Path,
    *,
    kind: str = "local",
    process: Mapping[str, str] | None = None,
    ready_within: float = 15.0,
    drain_within: float = 10.0,
    idle: float = 0.0,
    closed_page: bytes = b"",
) -> TestArea:
    """A target whose release is the test service. It starts nothing by itself."""
    lease = Lease()
    target = await TARGETS[kind](
        area=path,
        start=("python", "-m", "service"),
        process=process or {},
        public_url=None,
        ready_within=ready_within,
        drain_within=drain_within,
        idle=idle,
        activity=path.parent / "activity",
        guard=lease.guard,
        closed_page=lambda: closed_page,
    )
    return TestArea(path, target, lease)


@contextlib.asynccontextmanager
async def stopped_after(path: Path) -> AsyncIterator[None]:
    """Leaves no process of the area behind, whatever happened."""
    try:
        yield
    finally:
        try:
            await stop_local(path, grace=0.1)
        finally:
            kill_recorded(path)


def kill_recorded(path: Path) -> None:
    """SIGKILL to the supervisor and to everything it wrote down as started, where it still runs."""
    with contextlib.suppress(OSError, ValueError):
        state = json.loads((path / "run" / "supervisor.json").read_text())
        for pid, start in [[state["pid"], state["started"]], *state["children"]]:
            if pid and started(pid) == start:
                os.kill(pid, signal.SIGKILL)


def started(pid: int) -> str:
    """What tells a process from a later one with its pid; '' when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


async def until(condition: Any, within: float = 15.0) -> Any:
    """Waits for an async condition to become true; returns its value."""
    async with asyncio.timeout(within):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.02)
