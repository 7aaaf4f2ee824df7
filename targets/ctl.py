"""What is said to an area's supervisor, and what it answers. Nothing here starts or writes anything by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.contracts import Fence, Host, ReleaseId
from pipeline.errors import CommandFailed, ReleaseNotReady, TargetError
from targets import layout
from targets.layout import Layout

PROTOCOL = 1
"""What `supervisor.PROTOCOL` must be for its replies to be understood here."""
QUICK_S = 30.0
"""For commands that only look or change a few files."""
MARGIN_S = 15.0
"""What a command of the supervisor may take beyond the limits it keeps itself."""
_TOOL = "import sys; sys.path.insert(0, sys.argv[1]); import supervisor_client as c; sys.exit(c.main(sys.argv[2:]))"
"""Imported, not run as a script: Python keeps a module compiled, and a switch calls the tool several times."""


@dataclass(frozen=True)
class SupervisorClient:
    """Speaks to the supervisor through its own tool, the copy in the area. `python` is Python 3.11 or newer there."""

    host: Host
    at: Layout
    python: str

    async def status(self) -> Mapping[str, Any]:
        """What the supervisor says, with `link`; `{"up": False}` when none runs."""
        if not await self._installed():
            return {"ok": True, "up": False, "link": await self.link()}
        return await self._ask(["ctl", str(self.at.area), "status"], timeout=QUICK_S)

    async def order(
        self, command: str, argument: str = "", *, timeout: float, fence: Fence | None = None
    ) -> Mapping[str, Any]:
        """A command to the running supervisor; `ok` of the reply says whether it was done."""
        return await self._ask(["ctl", str(self.at.area), command, argument], timeout=timeout + MARGIN_S, fence=fence)

    async def up(self, arguments: Sequence[str], *, timeout: float, fence: Fence | None = None) -> Mapping[str, Any]:
        """Starts the supervisor when none runs; its status."""
        return await self._ask(["up", str(self.at.area), *arguments], timeout=timeout + MARGIN_S, fence=fence)

    async def digests(self, paths: Iterable[PurePosixPath]) -> list[str]:
        """Salted digests of files, in their order, '' for a file that is missing. The content stays on the host."""
        wanted = [str(path) for path in paths]
        if not await self._installed():
            return ["" for _ in wanted]
        reply = await self._ask(["digest", str(self.at.area), *wanted], timeout=QUICK_S)
        return [str(reply["digests"][path]) for path in wanted]

    async def link(self) -> ReleaseId | None:
        """The release that `current` names."""
        done = await self.host.run(layout.read_link(self.at.current), timeout=QUICK_S)
        return ReleaseId(PurePosixPath(done.stdout.strip()).name) if done.returncode == 0 else None

    async def _installed(self) -> bool:
        try:
            await self.host.read(self.at.client)
        except FileNotFoundError:
            return False
        return True

    async def _ask(self, arguments: Sequence[str], *, timeout: float, fence: Fence | None = None) -> Mapping[str, Any]:
        argv = (self.python, "-I", "-S", "-c", _TOOL, str(self.at.run), *arguments)
        try:
            done = await self.host.run(argv, timeout=timeout, fence=fence)
        except CommandFailed as error:
            raise TargetError(f"{self.at.area}: the supervisor did not answer: {error}", error.remedy) from error
        try:
            reply = json.loads(done.stdout)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            said = (done.stderr or done.stdout).strip()[-500:]
            raise TargetError(
                f"{self.at.area}: the supervisor's tool ended with {done.returncode}: {said or 'it said nothing'}",
                f"Python 3.11 or newer must run on the host as {self.python}.",
            )
        return reply


def not_ready(reply: Mapping[str, Any], remedy: str) -> ReleaseNotReady:
    """A refusal of the supervisor, with the end of the release's log."""
    return ReleaseNotReady(f"{reply['error']}{indented(reply.get('tail', ''))}", remedy)


def indented(tail: str) -> str:
    """The end of a log, set off from the sentence before it."""
    return "".join(f"\n  | {line}" for line in tail.splitlines())
