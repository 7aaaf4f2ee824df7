"""The stage a drill plays on: a folder with a sandbox of its own, and the commands an operator would type."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import Journal

HOME = Path(__file__).resolve().parents[2]
COMMAND_LIMIT_S = 300.0
_POLL_S = 0.02

Process = asyncio.subprocess.Process
Do = Callable[["Scene"], Awaitable[None]]
Strike = Callable[["Scene", Process], Awaitable[None]]
Moment = tuple[Kind, str]
"""An entry of the journal to wait for: its kind, and how its step or its checkpoint begins; '' for any."""


class Amiss(TollgateError):
    """Something that a drill saw is not as it must be."""


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end, or was killed (`code` negative). `problems`: what its strike saw amiss."""

    code: int
    stdout: str
    stderr: str
    problems: tuple[str, ...] = ()

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
        self.journal = self.state / "journal.sqlite"
        self.printed: list[str] = []

    async def run(self, *args: str) -> Ended:
        """Runs `./inv ARGS` on this folder's spec, and nothing strikes it."""
        return await self.struck(args)

    async def struck(
        self, args: Sequence[str], *, build_fault: str = "", at: Moment | None = None, strike: Strike | None = None
    ) -> Ended:
        """Runs `./inv ARGS`; `strike` is called once its run's journal holds the entry `at`.

        A moment that never came, and a strike that saw something amiss, are problems: nothing struck is nothing shown.
        """
        argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), *args]
        argv += ["--spec", str(self.folder / "pipeline.yaml")]
        env = {**os.environ, "SANDBOX_FAULT": build_fault, "GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": ""}
        begun_after = self.last()
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=self.folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        came = asyncio.Event()
        striking = asyncio.create_task(self._strike(process, begun_after, at, strike, came)) if at and strike else None
        problems: tuple[str, ...] = ()
        try:
            async with asyncio.timeout(COMMAND_LIMIT_S):
                out, err = await process.communicate()
                if striking is not None and came.is_set():
                    problems = await striking
                elif striking is not None and at is not None:
                    problems = (f"it ended before the moment to strike: {at[0].value} {at[1]}".rstrip(),)
        except TimeoutError:
            raise TollgateError(
                f"`./inv {' '.join(args)}` did not end within {COMMAND_LIMIT_S:g} s and was killed",
                "Play this one drill again when the machine has less to do: `./inv drill --fault NAME`.",
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if striking is not None:
                striking.cancel()
                await asyncio.gather(striking, return_exceptions=True)
        printed = [out.decode(errors="replace"), err.decode(errors="replace")]
        self.printed += printed
        return Ended(process.returncode or 0, printed[0], printed[1], problems)

    async def _strike(
        self, process: Process, begun_after: int, at: Moment, strike: Strike, came: asyncio.Event
    ) -> tuple[str, ...]:
        # another process writes the journal, so there is no event to wait for
        while not self._holds(at, begun_after):
            await asyncio.sleep(_POLL_S)
        came.set()
        try:
            await strike(self, process)
        except ProcessLookupError:
            return ("it ended before it could be struck",)
        except Amiss as amiss:
            return (str(amiss),)
        except Exception as error:
            return (f"the strike failed: {type(error).__name__}: {error}",)
        return ()

    def last(self) -> int:
        """The number of the journal's last entry, 0 where there is none."""
        rows = self._rows("SELECT coalesce(max(seq), 0) FROM entries")
        return int(rows[0][0]) if rows else 0

    def _holds(self, at: Moment, after: int) -> bool:
        kind, begins = at
        rows = self._rows("SELECT data FROM entries WHERE seq > ? AND kind = ?", after, kind.value)
        about = [json.loads(data) for (data,) in rows]
        return any(str(data.get(key, "")).startswith(begins) for data in about for key in ("step", "name"))

    def _rows(self, query: str, *values: object) -> list[Any]:
        """Asked many times a second while a run writes: only the entries in question are read."""
        if not self.journal.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True, timeout=5.0)) as journal:
            try:
                return journal.execute(query, values).fetchall()
            except sqlite3.OperationalError:  # its tables are being made
                return []

    def entries(self, *, after: int = 0) -> Sequence[Entry]:
        """The journal of this folder's sandbox, or only the entries after the one of that number."""
        if not self.journal.exists():
            return ()
        with Journal.read(self.journal) as journal:
            return journal.entries(after=after)

    def live(self) -> str:
        """The release that `current` names."""
        return (self.area / "current").readlink().name

    async def status(self) -> Mapping[str, Any]:
        """What `./inv status --json` says."""
        found = (await self.run("status", "--json")).data
        if not isinstance(found, dict):
            raise TollgateError("`status --json` printed no object")
        return found


async def eventually(what: str, holds: Callable[[], Awaitable[bool]], *, within_s: float) -> None:
    """Waits until `holds`; raises Amiss when it does not within the time."""
    try:
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(_POLL_S * 5)
    except TimeoutError:
        raise Amiss(f"{what}: not within {within_s:g} s") from None
