"""What is done to an environment during a storm, by the command line as an operator types it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pipeline.errors import Exit
from pipeline.standing import open_runs
from sandbox.drills.fault import WATCH_S
from sandbox.drills.scene import HOME, Scene

LIMIT_S = 240.0
KEPT = 5
"""`release.keep` of the pipeline: more verified releases than that are never there."""
_POLL_S = 0.02
_MOST_COMMANDS = 5
_KNOWN_GOOD = (Exit.DONE, Exit.REFUSED, Exit.RESTORED)

Ended = tuple[int, str]
"""An exit code (minus the signal that ended it), and the end of what was said."""


@dataclass(frozen=True)
class Change:
    """One change. `build` is the fault that is built into the release; `killed_after` how many entries of the journal
    the run writes before it gets SIGKILL, 0: it is left alone; `then` is what puts it right.
    """

    verb: str
    exits: tuple[Exit, ...]
    build: str = ""
    killed_after: int = 0
    pause_s: float = 0.0
    then: str = ""

    def __str__(self) -> str:
        bad = f" of a release with {self.build}" if self.build else ""
        killed = f", killed after entry {self.killed_after}, then {self.then}" if self.killed_after else ""
        return f"{self.verb}{bad}{killed}"


@dataclass(frozen=True)
class Made:
    """A change that was made: how each of its commands ended, and after how long."""

    change: Change
    codes: tuple[int, ...]
    took_s: float
    said: str

    @property
    def surprise(self) -> str:
        """'' when it ended as it was to. A machine that cannot carry the load makes good releases fail their proofs."""
        if self.codes[-1] in self.change.exits and Exit.PERSON_NEEDED not in self.codes:
            return ""
        return (
            f"{self.change}: exit {told(self.codes)}, {' or '.join(str(int(one)) for one in self.change.exits)} wanted"
        )

    @property
    def problem(self) -> str:
        """'' when it ended known good, by itself or after what a person does after exit 4."""
        return "" if self.codes[-1] in _KNOWN_GOOD else f"I2: {self.surprise}\n{self.said}"


def told(codes: Sequence[int]) -> str:
    """The exit codes of the commands of one change."""
    return ", ".join("killed" if code < 0 else str(code) for code in codes)


def planned(seed: int, count: int, faults: Sequence[str], entries: int) -> list[Change]:
    """Changes in an order that the seed alone decides. A rollback comes only where there is something to go back to.

    `entries` is about how many a deploy writes: it is killed at any of them.
    """
    random, verified, found = Random(seed), 1, list[Change]()  # noqa: S311 - an order, no secret
    while len(found) < count:
        kinds = ["good", "bad", "crash", *(["rollback", "crashed rollback"] if verified > 1 else [])]
        kind, moment, pause_s = random.choice(kinds), random.randint(1, entries), random.uniform(0, 0.3)
        then = random.choice(("rollback", "resume"))
        if kind == "good":
            found.append(Change("deploy", (Exit.DONE,)))
            verified = min(verified + 1, KEPT)
        elif kind == "bad":
            found.append(Change("deploy", (Exit.RESTORED,), build=random.choice(list(faults))))
        elif kind == "crash":
            found.append(Change("deploy", (Exit.DONE,), killed_after=moment, pause_s=pause_s, then=then))
        elif kind == "rollback":
            found.append(Change("rollback", (Exit.DONE,)))
            verified -= 1
        else:
            moment = 1 + moment % 20
            found.append(Change("rollback", (Exit.DONE,), killed_after=moment, pause_s=pause_s, then="rollback"))
            verified -= 1
    return found


async def make(folder: Path, change: Change) -> Made:
    """Makes one change, puts it right where its run was killed, and does what a person does after exit 4."""
    begun = time.monotonic()
    verb = ("deploy", "--watch", WATCH_S) if change.verb == "deploy" else ("rollback", "--yes")
    ended = [await _command(folder, *verb, build=change.build, killed_after=change.killed_after, pause=change.pause_s)]
    if change.killed_after and ended[0][0] < 0:
        ended.append(await _put_right(folder, change.then))
    while ended[-1][0] == Exit.PERSON_NEEDED and len(ended) < _MOST_COMMANDS:
        ended.append(await _command(folder, "rollback", "--yes"))
    return Made(change, tuple(code for code, _ in ended), time.monotonic() - begun, ended[-1][1])


async def _put_right(folder: Path, then: str) -> Ended:
    """One command: what was planned, or `rollback` where the run that was killed was on its way back already."""
    unfinished = open_runs(Scene(folder).entries())
    if not unfinished:
        return 0, "nothing was left unfinished"
    if then == "resume" and unfinished[0].resumable:
        return await _command(folder, "deploy", "--resume", "--watch", WATCH_S)
    return await _command(folder, "rollback", "--yes")


async def _command(folder: Path, *args: str, build: str = "", killed_after: int = 0, pause: float = 0) -> Ended:
    """`./inv ARGS` on the folder's spec."""
    argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), *args]
    argv += ["--spec", str(folder / "pipeline.yaml")]
    env = {**os.environ, "SANDBOX_FAULT": build, "GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": ""}
    before = _entries(folder)
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    killing = asyncio.create_task(_kill(process, folder, before + killed_after, pause)) if killed_after else None
    try:
        async with asyncio.timeout(LIMIT_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if killing is not None:
            killing.cancel()
    return process.returncode or 0, "\n".join(out.decode(errors="replace").strip().splitlines()[-30:])


async def _kill(process: asyncio.subprocess.Process, folder: Path, at: int, pause: float) -> None:
    while _entries(folder) < at:  # another process writes the journal: there is no event to wait for
        await asyncio.sleep(_POLL_S)
    await asyncio.sleep(pause)
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _entries(folder: Path) -> int:
    path = folder / ".tollgate/sandbox/journal.sqlite"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as journal:
        return int(journal.execute("SELECT count(*) FROM entries").fetchone()[0])
