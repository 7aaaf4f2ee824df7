"""Plays one case: strikes, judges from the world, lets one command put it right, and judges again."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import mounts, runs, scenes
from tests.crash.cases import KILLED, OWN_DISKS, Case
from tests.crash.scenes import SCENES
from tests.crash.strikes import How

DISK_MB = 24
_BUGS = ("Traceback", "bug of Tollgate")


@dataclass(frozen=True)
class Result:
    """`ended`: the exit of the struck run, negative for a signal; `by`: the command that put it right, with its exit,
    or '' where nothing was left to do; `problems`: what does not hold.
    """

    case: Case
    ended: int
    by: str
    problems: tuple[str, ...]


@dataclass
class Place:
    """A folder in whose sandbox cases are played one after the other; made when it is first needed.

    `disks`: record and target lie on small disks of their own; needs a mount namespace.
    """

    folder: Path
    disks: bool = False
    _now: Path | None = field(default=None)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Ends the sandbox; the next case begins in a new one."""
        now, self._now = self._now, None
        if now is not None:
            runs.stop(now)

    def ready(self, *, fresh: bool) -> Path:
        if fresh:
            self.leave()
        if self._now is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            now = Path(tempfile.mkdtemp(dir=self.folder))
            if self.disks:
                mounts.small_disk(now / ".tollgate" / "sandbox", DISK_MB)
                mounts.small_disk(now / ".tollgate" / "sandbox" / "target", DISK_MB)
            self._now = now
            scenes.new_place(now, deployed=not fresh)
        return self._now


def play(place: Place, case: Case) -> Result:
    """What came of it. A place in which something does not hold is left."""
    scene = SCENES[case.scene]
    folder = place.ready(fresh=scene.fresh)
    after_a_lie = case.strike.how in (How.HOUR_BACK, How.DAY_AHEAD)
    scene.prepare(folder)
    struck = runs.ran(folder, scene.verb, case.strike)
    problems = _of_the_strike(folder, case, struck)
    if case.strike.how is How.TORN_LOG:
        _tear(folder / ".tollgate" / "sandbox" / "journal.sqlite-wal")
    if struck.code != KILLED:
        problems += asyncio.run(runs.half_states(folder))
    mounts.free(folder / ".tollgate" / "sandbox")
    mounts.free(folder / ".tollgate" / "sandbox" / "target")
    by = ""
    if after_a_lie and scene.verb == "reconcile":  # what is lost after a run whose clock was wrong is found as well
        scene.prepare(folder)
    if runs.unfinished(folder) or scene.verb == "reconcile":
        by = case.by
    elif scene.fresh and not runs.is_live(folder):
        by = "deploy"
    elif after_a_lie and case.scene == "deploy":
        by, problems = "rollback", problems + leads_back(folder)
    if by:
        righted = runs.ran(folder, by)  # type: ignore[arg-type]
        problems += [f"`{by}` ended with {righted.code}:\n{righted.said[-1500:]}"] if righted.code else []
        by = f"{by}: {righted.code}"
    problems += asyncio.run(runs.broken_invariants(folder))
    if scene.verb == "reconcile":
        scenes.heal(folder)
    problems += [f"left behind: {path}" for path in scenes.unknown_files(folder)]
    if problems:
        place.leave()
    return Result(case, struck.code, by, tuple(problems))


def _of_the_strike(folder: Path, case: Case, struck: runs.Ended) -> list[str]:
    found = []
    if not any("struck" in line for line in scenes.trace(folder)):
        found.append("its moment never came: `python -m tests.crash.matrix --learn`")
    if struck.code not in case.ends:
        found.append(f"ended with {struck.code}, allowed {sorted(case.ends)}:\n{struck.said[-1500:]}")
    return found + [f"it said {word!r}:\n{struck.said[-1500:]}" for word in _BUGS if word in struck.said]


def _tear(log: Path) -> None:
    """Half of the last frame is missing, as when its writer was killed: that entry never was."""
    frame = 4096 + 24
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - frame // 2)


def leads_back(folder: Path) -> list[str]:
    """A rollback leads to the release that was live before, whatever a clock said."""
    before, goal = runs.previous_and_goal(folder)
    return [] if before == goal else [f"{before} was live before, and a rollback leads to {goal}"]


def needs_disks(case: Case) -> bool:
    return case.strike.how in OWN_DISKS


def cleared(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
