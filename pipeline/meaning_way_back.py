"""Do the parts of a pipeline.yaml that say how to go back make sense: checkpoints, a database, the steps they need?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pipeline.contracts import NAMED
from pipeline.mistakes import Mistakes
from pipeline.names import Names, listed, nearest
from pipeline.yaml_strict import YamlPath, shown

MIGRATE = "database.migrate"
OLD_WORKS = "database.old_release_works"
DATABASE = "database"


class Step(Protocol):
    """A step as far as its data can be read."""

    @property
    def path(self) -> YamlPath: ...
    @property
    def kind(self) -> str: ...
    @property
    def does(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Tell(Protocol):
    def __call__(self, path: YamlPath, found: str, allowed: str, /) -> None: ...


# ---- sections and the steps that use them -------------------------------------------------------------------


def sections(data: Mapping[str, Any], steps: Sequence[Step], names: Names, mistakes: Mistakes) -> None:
    """What a section describes is used, and what a step uses is described. Names that do not exist are told as well."""
    described = data.get(NAMED)
    own = [name for name in described if isinstance(name, str)] if isinstance(described, Mapping) else []
    armed = {name for step in steps for _, name in _checkpoints(step)}
    for step in steps:
        for index, name in _checkpoints(step):
            _checkpoint((*step.path, "checkpoints", index), name, own, data, names, mistakes)
    kinds = [kind for kind, section in names.sections.items() if section == NAMED]
    for name in own:
        ways = [f"{kind}:{name}" for kind in kinds]
        if kinds and not armed & set(ways):
            found = f"'{shown(name)}', which no step arms"
            mistakes.add((NAMED, name), found, f'an act with `checkpoints: ["{shown(ways[0])}"]`', key=True)
    migrating = [step for step in steps if _migrates(step)]
    for step in migrating:
        _migration(step, data, mistakes)
    if DATABASE in data and not migrating and MIGRATE in names.acts:
        found = "a database that no step migrates"
        mistakes.add((DATABASE,), found, f"a step `act: {MIGRATE}` in stage deploy; else take it out", key=True)


def _checkpoint(
    path: YamlPath, name: str, own: Sequence[str], data: Mapping[str, Any], names: Names, mistakes: Mistakes
) -> None:
    kind, colon, which = name.partition(":")
    section = names.sections.get(kind, "")
    if kind not in names.checkpoints:
        mistakes.add(path, f"'{shown(name)}'", listed(names.checkpoints), nearest(kind, names.checkpoints))
    elif section == NAMED and which not in own:
        found = f"'{shown(name)}'" + ("" if colon else ", which does not say which one")
        near = nearest(which, own)
        allowed = listed(f"{kind}:{shown(one)}" for one in own) if own else f"one that stands under `{NAMED}`"
        mistakes.add(path, found, allowed, f"{kind}:{near}" if near else "")
    elif colon and section != NAMED:
        mistakes.add(path, f"'{shown(name)}': there is only one {kind}", kind, kind)
    elif section and section != NAMED and section not in data:
        mistakes.add(path, f"'{kind}' without the section `{section}`", f"`{section}:`, which says how it goes back")


def _migration(step: Step, data: Mapping[str, Any], mistakes: Mistakes) -> None:
    if DATABASE not in data:
        found = f"{MIGRATE} without the section `{DATABASE}`"
        allowed = f"`{DATABASE}: {{migrate: [...], revert: [...], version: [...]}}` beside `stages`"
        mistakes.add((*step.path, "act"), found, allowed)
    if all(name != DATABASE for _, name in _checkpoints(step)):
        found = f"{MIGRATE} without the checkpoint {DATABASE}: nothing would take it back"
        at = "checkpoints" if "checkpoints" in step.data else "act"
        mistakes.add((*step.path, at), found, f"checkpoints: [release, settings, {DATABASE}], at least {DATABASE}")


# ---- the order of a deploy ----------------------------------------------------------------------------------


def order(present: Sequence[Step], stage: str, switch: str, before: Callable[[Step], set[str]], tell: Tell) -> None:
    """Staged, migrated, the old release proven on the new schema, switched. `before`: names of steps done before one.

    `stage` and `switch` are the acts that come first and last.
    """
    migrating = [step for step in present if _migrates(step)]
    proving = [step for step in present if step.kind == "check" and step.does == OLD_WORKS]
    if not migrating:
        for step in proving:
            found = f"{OLD_WORKS} without {MIGRATE}: no schema is migrated"
            tell((*step.path, "check"), found, f"a step `act: {MIGRATE}`, or take it out (`only` as the act has it)")
        return
    for step in migrating[1:]:
        tell((*step.path, "act"), f"`act: {MIGRATE}` again", f"`act: {MIGRATE}` at most once")
    migrate, staging = migrating[0], [step.name for step in present if step.does == stage and step.kind == "act"]
    if not before(migrate) & set(staging):
        found = f"{MIGRATE} beside {stage}: its commands are those of the staged release"
        tell((*migrate.path, "needs" if "needs" in migrate.data else "act"), found, f"needs: [{stage}]")
    if not proving:
        found = f"{MIGRATE} without the check {OLD_WORKS}: nothing shows that the old release works with the new schema"
        tell((*migrate.path, "act"), found, f"`- check: {OLD_WORKS}` with `needs: [{MIGRATE}]` before {switch}")
    for step in proving:
        if migrate.name not in before(step):
            found = f"{OLD_WORKS} beside {MIGRATE}: it asks the old release on the migrated schema"
            tell((*step.path, "needs" if "needs" in step.data else "check"), found, f"needs: [{migrate.name}]")
    for step in (step for step in present if step.kind == "act" and step.does == switch):
        late = [one for one in (*proving, migrate) if one.name not in before(step)]
        if late:
            found = f"{switch} beside {late[0].does}: steps of a stage run at once"
            tell((*step.path, "needs" if "needs" in step.data else "act"), found, f"needs: [{late[0].name}]")


def _migrates(step: Step) -> bool:
    return step.kind == "act" and step.does == MIGRATE


def _checkpoints(step: Step) -> list[tuple[int, str]]:
    value = step.data.get("checkpoints")
    return [(n, item) for n, item in enumerate(value) if isinstance(item, str)] if isinstance(value, list) else []
