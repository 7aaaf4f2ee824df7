"""What a drill is: what is broken, what is typed meanwhile, how that must end, and what must stand then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import Exit
from pipeline.events import Kind
from sandbox.drills.scene import Do, Moment, Scene, Strike

WATCH_S = "4"
SWITCHED: Moment = (Kind.STEP_FINISHED, "release.switch")
"""The new release has just taken the traffic."""
WAY_BACK_BEGAN: Moment = (Kind.WAYBACK_STARTED, "")

Words = Callable[[str], Sequence[str]]
"""What is typed after `./inv`, given the name of the live release."""


async def nothing(_: Scene) -> None:
    """Nothing is to be prepared, looked at or mended."""


class Leaves(StrEnum):
    """How the service must stand once the last command has ended (I2)."""

    AS_BEFORE = "the release before is live, verified and open"
    ANOTHER = "another release is live, verified and open"
    CLOSED = "closed: visitors get 503 until one `rollback`"
    A_PERSONS = "the release before is live behind the door that a person closed"
    UNFINISHED = "a run was killed: one `rollback` puts it right"


@dataclass(frozen=True)
class Command:
    """A command as an operator types it. `build` is a fault built into what it deploys; `strike` happens `at`."""

    words: Words
    exit: int
    build: str = ""
    at: Moment = SWITCHED
    strike: Strike | None = None


@dataclass(frozen=True)
class Fault:
    """One drill. `caught_by`: the steps that may catch it; empty where none does, and then `catcher` says who does.

    `prepare` comes before the commands, which are typed one after the other. `holds` raises Amiss where something that
    must stand afterwards does not; `heal` mends what was broken, before the stage is put right again.
    """

    name: str
    promise: str
    commands: tuple[Command, ...]
    leaves: Leaves
    caught_by: frozenset[str] = frozenset()
    catcher: str = "the lease and the journal"
    prepare: Do = nothing
    holds: Do = nothing
    heal: Do = nothing

    @property
    def build(self) -> str:
        """The fault that is built into a release, '' for none."""
        return next((one.build for one in self.commands if one.build), "")


# ---- what is typed -----------------------------------------------------------------------------------------


def typing(*words: str) -> Words:
    return lambda _: words


deploying = typing("deploy", "--watch", WATCH_S)


def to_the_live_one(live: str) -> Sequence[str]:
    """The way back in full, to the release that serves already: nothing of the stage is used up."""
    return "rollback", "--yes", "--to", live


def deploy(exit_code: int, *, build: str = "", at: Moment = SWITCHED, strike: Strike | None = None) -> Command:
    return Command(deploying, exit_code, build, at, strike)


def roll_back(exit_code: int, *, at: Moment = WAY_BACK_BEGAN, strike: Strike | None = None) -> Command:
    return Command(to_the_live_one, exit_code, "", at, strike)


def in_release(name: str, promise: str, *caught_by: str, exit_code: Exit = Exit.RESTORED) -> Fault:
    """A fault that is built into the release that a deploy brings."""
    return Fault(name, promise, (deploy(exit_code, build=name),), Leaves.AS_BEFORE, frozenset(caught_by))
