"""The JSON Schema that editors complete pipeline.yaml with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import wiring
from pipeline.schema import DIALECT, json_schema, render
from pipeline.yaml_strict import read
from tests.pipeline.standin import EXAMPLE, NAMES

SCHEMA = json_schema(NAMES)
DATA = read(EXAMPLE.read_bytes()).data


def test_it_is_a_schema_of_its_dialect() -> None:
    """The document is valid JSON Schema, draft 2020-12."""
    assert SCHEMA["$schema"] == DIALECT
    Draft202012Validator.check_schema(SCHEMA)


def test_it_accepts_the_shipped_file() -> None:
    """An editor shows no error in the pipeline.yaml that ships, nor in another good one."""
    shipped = json_schema(wiring.names(wiring.catalogue()))
    data = read((wiring.HOME / "pipeline.yaml").read_bytes()).data
    for schema, good in ((shipped, data), (SCHEMA, DATA)):
        assert [error.message for error in Draft202012Validator(schema).iter_errors(good)] == []


def _at(*path: str | int) -> Callable[[Any], tuple[Any, str | int]]:
    def find(data: Any) -> tuple[Any, str | int]:
        for part in path[:-1]:
            data = data[part]
        return data, path[-1]

    return find


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (_at("version"), 2),
        (_at("gateway"), "ikoka"),
        (_at("unknown"), 1),
        (_at("settings", "VITE_NODE_ENV", "type"), "txt"),
        (_at("release", "keep"), 1),
        (_at("release", "ready_within"), 20),
        (_at("release", "start"), "python -m shop"),
        (_at("thresholds", "payment_success", "target"), 0.95),
        (_at("contract", "create"), "api/payments"),
        (_at("stages", "gates", 0, "check"), "settings.vald"),
        (_at("stages", "gates", 0), "settings.valid"),
        (_at("stages", "gates", 0, "run"), ["a"]),
        (_at("stages", "gates"), []),
        (_at("stages", "deploy", 0, "act"), "release.stge"),
        (_at("stages", "deploy", 2, "checkpoints", 0), "relase"),
        (_at("stages", "prove", 1, "with", "mode"), "cash"),
        (_at("stages", "prove", 1, "with"), {}),
        (_at("stages", "gates", 0, "with"), {"anything": 1}),
        (_at("environments", "sandbox", "settings_from", 0), "env"),
        (_at("environments", "sandbox", "target", "kind"), "moon"),
    ],
)
def test_it_refuses_what_the_loader_refuses(where: Callable[[Any], tuple[Any, str | int]], value: object) -> None:
    """An editor marks wrong names, wrong types and wrong parameters while they are typed."""
    data = copy.deepcopy(DATA)
    parent, key = where(data)
    parent[key] = value
    assert list(Draft202012Validator(SCHEMA).iter_errors(data))


def test_a_check_that_needs_parameters_is_refused_without_them() -> None:
    """A missing `with` is marked where a check cannot do without it."""
    data = copy.deepcopy(DATA)
    del data["stages"]["prove"][1]["with"]
    assert list(Draft202012Validator(SCHEMA).iter_errors(data))


def test_its_text_is_stable() -> None:
    """The file is the same on every run, so that a test can hold it against the types."""
    assert render(NAMES) == render(NAMES)
    assert render(NAMES).endswith("}\n")


def test_defaults_are_written_as_in_the_file() -> None:
    """An editor that inserts a default inserts a value with its unit."""
    assert SCHEMA["$defs"]["CheckStep"]["properties"]["timeout"]["default"] == "60 s"
    assert "default" not in SCHEMA["properties"]["thresholds"]
