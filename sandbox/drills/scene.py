"""The stage a drill plays on: a folder with a sandbox of its own, and the commands an operator would type."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import Journal

HOME = Path(__file__).resolve().parents[2]
COMMAND_LIMIT_S = 300.0
_POLL_S = 0.02

Moment = tuple[Kind, str]
"""An entry of the journal to wait for: its kind, and the step it is about."""


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end, or was killed (`code` negative)."""

    code: int
    stdout: str
    stderr: str

    @property
    def data(self) -> Any:
        """The JSON document it printed. Raises TollgateError when it printed something else."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise TollgateError(f"a command printed no JSON document:\n{self.tail()}") from None

    def tail(self) -> str:
        return "\n".join((self.stdout + self.stderr).strip().splitlines()[-25:])


class Scene:
    """One drill folder. Everything printed by its commands is kept in `printed`, to be searched for secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".tollgate" / "sandbox"
        self.area = self.state / "target"
        self.settings = self.state / "settings.env"
        self.printed: list[str] = []

    async def run(
        self,
        *args: str,
        build_fault: str = "",
        at: Moment | None = None,
        strike: Callable[[asyncio.subprocess.Process], Awaitable[None]] | None = None,
    ) -> Ended:
        """Runs `./inv ARGS` on this folder's spec; `strike` is called once its run's journal holds the entry `at`."""
        argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), *args]
        argv += ["--spec", str(self.folder / "pipeline.yaml")]
        env = {**os.environ, "SANDBOX_FAULT": build_fault, "GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": ""}
        begun_after = len(self.entries())
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=self.folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        striking = asyncio.create_task(self._strike(process, begun_after, at, strike)) if at and strike else None
        try:
            async with asyncio.timeout(COMMAND_LIMIT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if striking is not None:
                striking.cancel()
                await asyncio.gather(striking, return_exceptions=True)
        self.printed += [out.decode(errors="replace"), err.decode(errors="replace")]
        return Ended(process.returncode or 0, self.printed[-2], self.printed[-1])

    async def _strike(
        self,
        process: asyncio.subprocess.Process,
        begun_after: int,
        at: Moment,
        strike: Callable[[asyncio.subprocess.Process], Awaitable[None]],
    ) -> None:
        kind, step = at
        # another process writes the journal, so there is no event to wait for
        while not any(entry.kind is kind and entry.data.get("step") == step for entry in self.entries()[begun_after:]):
            await asyncio.sleep(_POLL_S)
        await strike(process)

    def entries(self) -> Sequence[Entry]:
        """The whole journal of this folder's sandbox."""
        path = self.state / "journal.sqlite"
        if not path.exists():
            return ()
        with Journal.read(path) as journal:
            return journal.entries()

    async def status(self) -> Mapping[str, Any]:
        """What `./inv status --json` says."""
        found = (await self.run("status", "--json")).data
        if not isinstance(found, dict):
            raise TollgateError("`status --json` printed no object")
        return found
