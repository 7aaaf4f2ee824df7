"""What pipeline.yaml says of the way back: databases, commands, checkpoints fit together, or each mistake is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import wiring
from pipeline.contracts import NAMED, When
from pipeline.loader import SpecInvalid, load
from pipeline.spec import NoParams, Spec
from tests.pipeline.standin import EXAMPLE, NAMES

GATE = "database.old_release_works"
ALL = replace(
    NAMES,
    checks={**NAMES.checks, GATE: NoParams},
    check_when={**NAMES.check_when, GATE: When.BUILT},
    acts={**NAMES.acts, "database.migrate": NoParams},
    checkpoints=NAMES.checkpoints | {"database", "command", "traffic"},
    sections={"database": "database", "command": NAMED},
)
DATABASE: dict[str, Any] = {
    "migrate": ["shop-migrate"],
    "revert": ["shop-migrate", "--to", "{version}"],
    "version": ["v"],
}
CDN: dict[str, Any] = {"capture": ["cdn", "get"], "restore": ["cdn", "put"], "confirm": ["cdn", "same"]}
MIGRATE: dict[str, Any] = {
    "act": "database.migrate",
    "needs": ["release.stage"],
    "checkpoints": ["release", "settings", "database"],
}
PROVE: dict[str, Any] = {"check": GATE, "needs": ["database.migrate"]}
SWITCH: dict[str, Any] = {
    "act": "release.switch",
    "needs": ["release.stage", GATE],
    "checkpoints": ["release", "settings", "traffic", "command:cdn"],
}


def written(folder: Path, **changed: Any) -> Path:
    """example.yaml with a migration and a command checkpoint; a key with None is left out."""
    data = yaml.safe_load(EXAMPLE.read_text())
    steps = changed.pop("steps", [{"act": "release.stage"}, MIGRATE, PROVE, SWITCH])
    data["stages"]["deploy"] = steps
    data["stages"]["prove"] += changed.pop("prove", [])
    data |= {"database": DATABASE, "checkpoints": {"cdn": CDN}, **changed}
    path = folder / "pipeline.yaml"
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    return path


def loaded(folder: Path, **changed: Any) -> Spec:
    return load(written(folder, **changed), ALL)


def test_a_migration_and_a_command_are_read(tmp_path: Path) -> None:
    """Both sections arrive typed, with their limits in seconds."""
    spec = loaded(tmp_path)
    assert spec.database is not None
    assert (spec.database.revert, spec.database.timeout) == (("shop-migrate", "--to", "{version}"), 300.0)
    assert (spec.checkpoints["cdn"].capture, spec.checkpoints["cdn"].timeout) == (("cdn", "get"), 30.0)


def without(step: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key not in keys}


STAGE = {"act": "release.stage"}
CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "neither": (
        {"database": without(DATABASE, "revert")},
        "database", "neither `revert` nor `irreversible`", "exactly one of them",
    ),
    "both": (
        {"database": {**DATABASE, "irreversible": "It drops a column."}},
        "database", "`revert` and `irreversible`", "exactly one of them",
    ),
    "no reason": (
        {"database": {**without(DATABASE, "revert"), "irreversible": ""}},
        "database.irreversible", "''", "text of 3 to 500 characters",
    ),
    "no version": ({"database": without(DATABASE, "version")}, "database.version", "no key `version`", "a list"),
    "a line": ({"database": {**DATABASE, "migrate": "up"}}, "database.migrate", "'up'", "a list of at least 1"),
    "no section": ({"database": None}, "stages.deploy[1].act", "without the section `database`", "migrate: [...]"),
    "no step": (
        {"steps": [STAGE, {**SWITCH, "needs": ["release.stage"]}]},
        "database", "a database that no step migrates", "a step `act: database.migrate`",
    ),
    "not armed": (
        {"steps": [STAGE, {**MIGRATE, "checkpoints": ["release"]}, PROVE, SWITCH]},
        "stages.deploy[1].checkpoints", "without the checkpoint database", "at least database",
    ),
    "twice": (
        {"steps": [STAGE, MIGRATE, {**MIGRATE, "name": "again"}, PROVE, SWITCH]},
        "stages.deploy[2].act", "`act: database.migrate` again", "at most once",
    ),
    "beside the staging": (
        {"steps": [STAGE, without(MIGRATE, "needs"), PROVE, SWITCH]},
        "stages.deploy[1].act", "database.migrate beside release.stage", "needs: [release.stage]",
    ),
    "not proven": (
        {"steps": [STAGE, MIGRATE, {**SWITCH, "needs": ["database.migrate"]}]},
        "stages.deploy[1].act", "without the check database.old_release_works", "needs: [database.migrate]",
    ),
    "proven too early": (
        {"steps": [STAGE, MIGRATE, without(PROVE, "needs"), {**SWITCH, "needs": [GATE, "database.migrate"]}]},
        "stages.deploy[2].check", "database.old_release_works beside database.migrate", "needs: [database.migrate]",
    ),
    "proven too late": (
        {"steps": [STAGE, MIGRATE, PROVE, {**SWITCH, "needs": ["database.migrate"]}]},
        "stages.deploy[3].needs", "release.switch beside database.old_release_works", f"needs: [{GATE}]",
    ),
    "migrated too late": (
        {"steps": [STAGE, MIGRATE, without(PROVE, "needs"), SWITCH]},
        "stages.deploy[3].needs", "release.switch beside database.migrate", "needs: [database.migrate]",
    ),
    "only elsewhere": (
        {"steps": [STAGE, {**MIGRATE, "only": ["sandbox"]}, without(PROVE, "needs"), {**SWITCH, "needs": [GATE]}]},
        "stages.deploy[2].check", "without database.migrate: no schema is migrated (in staging, production)",
        "`only` as the act has it",
    ),
    "another stage": (
        {"prove": [{"check": GATE}]},
        "stages.prove[11].check", "database.old_release_works in stage prove", "stage deploy only",
    ),
    "an unknown kind": (
        {"steps": [STAGE, MIGRATE, PROVE, {**SWITCH, "checkpoints": ["release", "comand:cdn", "command:cdn"]}]},
        "stages.deploy[3].checkpoints[1]", "'comand:cdn'", "command, database, maintenance",
    ),
    "which command": (
        {"steps": [STAGE, MIGRATE, PROVE, {**SWITCH, "checkpoints": ["release", "command", "command:cdn"]}]},
        "stages.deploy[3].checkpoints[1]", "'command', which does not say which one", "command:cdn",
    ),
    "an unknown command": (
        {"steps": [STAGE, MIGRATE, PROVE, {**SWITCH, "checkpoints": ["release", "command:cnd", "command:cdn"]}]},
        "stages.deploy[3].checkpoints[1]", "'command:cnd'", "command:cdn",
    ),
    "only one release": (
        {"steps": [STAGE, MIGRATE, PROVE, {**SWITCH, "checkpoints": ["release:old", "release", "command:cdn"]}]},
        "stages.deploy[3].checkpoints[0]", "'release:old': there is only one release", "release",
    ),
    "an idle command": (
        {"checkpoints": {"cdn": CDN, "dns": CDN}},
        "checkpoints.dns", "'dns', which no step arms", 'checkpoints: ["command:dns"]',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "path", "found", "allowed"), CASES.values(), ids=CASES)
def test_each_mistake_names_its_place_and_its_fix(
    tmp_path: Path, changed: dict[str, Any], path: str, found: str, allowed: str
) -> None:
    """A way back that could not be gone is refused before anything is touched, in one line each."""
    with pytest.raises(SpecInvalid) as refused:
        loaded(tmp_path, **changed)
    told = [one for one in refused.value.mistakes if one.path == path and found in one.found]
    assert told, refused.value
    assert allowed in told[0].allowed


def test_the_names_of_the_tables_are_those_a_file_may_use() -> None:
    """The kinds that pipeline.yaml must describe are known by the section that does."""
    assert wiring.names(wiring.catalogue()).sections == {"database": "database", "command": "checkpoints"}
