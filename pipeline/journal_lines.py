"""The form of an exported entry, as a JSON Schema: what a log collector may rely on (docs/journal.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipeline.chain import LINE_SCHEMA

_HASH = "^[0-9a-f]{64}$"

JSON_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An entry of Tollgate's journal",
        "type": "object",
        "required": ["schema", "seq", "run", "at", "kind", "data", "previous", "hash"],
        "properties": {
            "schema": {"const": LINE_SCHEMA},
            "seq": {"type": "integer", "minimum": 1},
            "run": {"type": "string", "minLength": 1},
            "at": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$"},
            "kind": {"type": "string", "pattern": "^[a-z]+([._][a-z]+)*$"},
            "data": {"type": "object"},
            "previous": {"type": "string", "pattern": _HASH},
            "hash": {"type": "string", "pattern": _HASH},
        },
        "additionalProperties": True,
    }
)
