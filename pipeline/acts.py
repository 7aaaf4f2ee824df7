"""The changes a run can make to an environment, each a few lines over the target's contract."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from pipeline.contracts import ReleaseId, ReleaseState, World
from pipeline.errors import LeaseLost, Refused, TollgateError
from pipeline.events import Kind
from pipeline.migrations import done, last_words, version
from pipeline.secrets import Secret
from pipeline.spec import NoParams, Spec

Record = Callable[..., object]
"""`record(kind, **data)`: durable in the journal when it returns."""


@dataclass(frozen=True)
class Said:
    """What pipeline.yaml says of an act outside its step: how it goes back, what it runs, how long (s).

    `of` is the checkpoint whose way back that is.
    """

    way_back: str = ""
    of: str = ""
    argv: tuple[str, ...] = ()
    takes: float = 0.0


@dataclass(frozen=True)
class Act:
    """`perform` may be repeated after a crash. `way_back` says what happens to its effect when a later step fails."""

    name: str
    promise: str
    way_back: str
    perform: Callable[[World, Record], Awaitable[str]]
    params: type[BaseModel] = NoParams
    offered: bool = True
    """False: only the engine places it; pipeline.yaml cannot name it."""
    said: Callable[[Spec], Said] = lambda _spec: Said()


async def mark(world: World, record: Record, release: ReleaseId, state: ReleaseState, why: str) -> None:
    """Changes a release's state, on record first."""
    record(Kind.RELEASE_MARKED, release=release, state=state.value, why=why)
    await world.target.releases.mark(release, state, why)


def _release_of(world: World) -> ReleaseId:
    if world.run.release is None:
        raise Refused("this run deploys no release", "Use `./inv deploy`.")
    return world.run.release


async def _stage(world: World, record: Record) -> str:
    release = _release_of(world)
    artifact: Path | None = world.run.artifact
    if artifact is None or not artifact.is_dir():
        raise Refused(
            f"release.stage: the build left no folder {artifact or 'named'}",
            "Check `release.produces` in pipeline.yaml and the build step above it.",
        )
    record(Kind.RELEASE_MARKED, release=release, state=ReleaseState.BUILDING.value, why=f"run {world.run.id}")
    values: dict[str, Secret | str] = {name: found.value for name, found in world.settings.values.items()}
    staged = await world.target.releases.stage(release, artifact, values)
    record(Kind.RELEASE_MARKED, release=release, state=staged.state.value, why=f"manifest {staged.manifest[:12]}")
    return f"{release} staged, manifest {staged.manifest[:12]}"


async def _switch(world: World, record: Record) -> str:
    release = _release_of(world)
    await world.target.traffic.activate(release)
    await mark(world, record, release, ReleaseState.LIVE, f"run {world.run.id}")
    return f"{release} takes the traffic"


async def _migrate(world: World, _record: Record) -> str:
    database, release = world.spec.database, _release_of(world)
    if database is None:
        raise Refused("database.migrate: pipeline.yaml has no section `database`", "Say there how it is migrated.")
    commands, limit = world.target.commands, database.timeout
    ended = await done(commands, release, database.migrate, limit, what="migrate")
    found = await version(commands, release, database.version, limit)
    said = last_words(ended)
    return f"the schema is at version {found}" + (f"; {said}" if said else "")


_MIGRATING = 4
"""Commands of a migration: the version before, migrate, the version after; and as much again to wait for one."""


def _migration(spec: Spec) -> Said:
    database = spec.database
    if database is None:
        return Said()
    back = f"HAS NO WAY BACK: {(database.irreversible or '').rstrip('.')}"
    if database.revert is not None:
        back = f"reverts the schema: {shlex.join(database.revert)}"
    return Said(back, "database", database.migrate, database.timeout * _MIGRATING)


async def _verify(world: World, record: Record) -> str:
    release = _release_of(world)
    await mark(world, record, release, ReleaseState.VERIFIED, f"all stages of run {world.run.id} passed")
    try:
        removed = await world.target.releases.prune(world.spec.release.keep)
    except LeaseLost:
        raise
    except TollgateError as error:  # a folder that cannot be removed is no reason to take back what was proven
        return f"{release} is verified; old releases could not be removed: {error}"
    return f"{release} is verified" + (f"; removed {', '.join(removed)}" if removed else "")


ACTS: Mapping[str, Act] = {
    act.name: act
    for act in (
        Act(
            "release.stage",
            "The built artifact and its settings lie at the target, every byte checked; nothing serves them yet.",
            "the staged folder is marked bad and never a rollback target",
            _stage,
        ),
        Act(
            "database.migrate",
            "The schema is what the new release needs; the old one still serves, and is proven on it.",
            "needs the checkpoint `database`",
            _migrate,
            said=_migration,
        ),
        Act(
            "release.switch",
            "The new release takes the traffic; no connection is dropped.",
            "needs the checkpoint `release`",
            _switch,
        ),
        Act(
            "release.verify",
            "The release becomes a rollback target; what nothing can go back to is removed.",
            "nothing follows it",
            _verify,
            offered=False,
        ),
    )
}
