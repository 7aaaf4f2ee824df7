"""The JSON Schema of pipeline.yaml for editors, from the same types and names the loader judges by."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.contracts import NAMED
from pipeline.names import Names
from pipeline.shape import DURATION, SHARE
from pipeline.spec import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def render(names: Names) -> str:
    """The schema as the text of a file: the same for the same names, ends in a newline."""
    return json.dumps(json_schema(names), indent=2, ensure_ascii=False) + "\n"


def json_schema(names: Names) -> dict[str, Any]:
    """The schema as JSON values. The loader refuses what it refuses, and more: it also knows order and references."""
    schema = Spec.model_json_schema()
    definitions = schema["$defs"]
    schema["properties"]["gateway"] = {"enum": sorted(names.gateways), "description": "Who takes the money."}
    for step in ("CheckStep", "RunStep", "ActStep"):
        properties = definitions[step]["properties"]
        properties["name"]["description"] = "What `needs` and the report call it; by default what it does."
    definitions["CheckStep"]["properties"]["check"] = {
        "enum": sorted(names.checks),
        "description": "`./inv checks` tells what each one promises.",
    }
    definitions["Accepted"]["properties"]["check"] = {"enum": sorted(set(names.checks) - names.unacceptable)}
    definitions["ActStep"]["properties"]["act"] = {"enum": sorted(names.acts)}
    definitions["ActStep"]["properties"]["checkpoints"]["items"] = _checkpoints(names)
    for step, key, models in (("CheckStep", "check", names.checks), ("ActStep", "act", names.acts)):
        branches, shared = _params(key, models)
        if branches:
            definitions[step]["allOf"] = branches
        definitions.update(shared)
    tidy = _tidy(schema)
    return {"$schema": DIALECT, "title": "pipeline.yaml", **tidy}


def _checkpoints(names: Names) -> dict[str, Any]:
    """A kind as it is, or with the name that `checkpoints` gives one of its own."""
    named = {kind for kind, section in names.sections.items() if section == NAMED}
    plain = {"enum": sorted(names.checkpoints - named)}
    if not named:
        return plain
    kinds = "|".join(sorted(map(re.escape, named)))
    return {"anyOf": [plain, {"type": "string", "pattern": rf"^({kinds}):[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}$"}]}


def _params(key: str, models: Mapping[str, type[BaseModel]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `with` may hold for each name: one branch for all names that share a model, and the definitions it needs."""
    users: dict[type[BaseModel], list[str]] = defaultdict(list)
    for name in sorted(models):
        users[models[name]].append(name)
    branches, shared = [], {}
    for model, named in users.items():
        prefix = f"{key}.{named[0]}."
        params = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
        shared.update({prefix + name: definition for name, definition in params.pop("$defs", {}).items()})
        then: dict[str, Any] = {"properties": {"with": params}}
        if params.get("required"):
            then["required"] = ["with"]
        branches.append({"if": {"properties": {key: {"enum": named}}, "required": [key]}, "then": then})
    return branches, shared


def _tidy(node: Any) -> Any:
    """Without generated titles, and with defaults as one would write them in the file."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items() if key != "title" or not isinstance(value, str)}
    default = node.get("default")
    if isinstance(default, float) and node.get("pattern") in (DURATION, SHARE):
        tidy["default"] = f"{default:g} s" if node["pattern"] == DURATION else f"{default * 100:g}%"
    elif default is None or (isinstance(default, dict) and "$ref" in node):
        tidy.pop("default", None)  # None is not written in a file; a part's own defaults stand at its keys
    return tidy
