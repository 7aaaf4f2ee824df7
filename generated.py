"""The files made from the code: the JSON Schema of pipeline.yaml, a page for each check, those of probes and drills."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import wiring
from pipeline.contracts import Catalogue, Check
from pipeline.schema import render
from pipeline.shape import DURATION, SHARE

PAGES = wiring.HOME / "docs" / "checks"
_WHEN = {
    "any": "any stage",
    "built": "after the build, in `build` or a later stage",
    "live": "after the switch, in `prove` or `watch`",
}
_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


def files() -> Mapping[Path, str]:
    """What each generated file must contain."""
    from checks.probes import pages
    from pipeline import recovery
    from sandbox.drills import page

    tables = wiring.catalogue()
    return {
        wiring.HOME / "pipeline" / "schema.json": render(wiring.names(tables)),
        wiring.HOME / "docs" / "probes.md": pages.page(),
        wiring.HOME / "docs" / "drills.md": page.page(),
        wiring.HOME / "docs" / "errors.md": recovery.page(),
        PAGES / "README.md": "\n".join(_index(tables)),
        **{PAGES / f"{check.name}.md": "\n".join(_page(check)) for check in tables.checks.values()},
    }


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """Pages of checks that are in the table no more."""
    return sorted(path for path in PAGES.glob("*.md") if path not in wanted)


def write() -> list[Path]:
    """Writes them and removes stale pages; returns the paths of what is there."""
    wanted = files()
    for path, text in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in stale(wanted):
        path.unlink()
    return list(wanted)


# ---- the pages -----------------------------------------------------------------------------------------------


def _index(tables: Catalogue) -> Iterator[str]:
    yield from (
        "# The checks",
        "",
        "Made from the code by `./inv docs`. A check that passes makes its name a true sentence. `validate --offline`",
        "leaves out those that need the network. Each page tells what its check looks at, how to mend what it finds",
        "and how to see it fail. The rows are those of [requirements](../requirements.md).",
        "",
        "| check | promise | network | rows |",
        "|---|---|---|---|",
    )
    for check in tables.checks.values():
        network = "yes" if check.network else ""
        yield f"| [{check.name}]({check.name}.md) | {check.promise} | {network} | {', '.join(check.rows)} |"
    never = ", ".join(f"`{check.name}`" for check in tables.checks.values() if not check.acceptable)
    yield from ("", f"Never accepted under `accepted` in pipeline.yaml: {never}.", "")


def _page(check: Check) -> Iterator[str]:
    yield from (f"# {check.name}", "", check.promise, "", *([check.why, ""] if check.why else []))
    fix = [check.fix, *(f"Its findings say, word for word: `{line}`" for line in check.says)]
    for title, paragraphs in (
        ("What it looks at", [check.looks_at]),
        ("How to mend what it finds", fix),
        ("How to see it fail", [check.see_it_fail]),
    ):
        told = [paragraph for paragraph in paragraphs if paragraph]
        if told:
            yield from (f"## {title}", "")
            for paragraph in told:
                yield from (paragraph, "")
    yield from ("## In pipeline.yaml", "")
    yield f"- Stands in: {_WHEN[check.when.value]}"
    yield f"- Needs: {'the network' if check.network else 'no network; `validate --offline` asks it too'}"
    yield "- Its finding: " + (
        "may be [accepted](../pipeline.md#accepted) for a time" if check.acceptable else "is never accepted"
    )
    yield from ("", *_parameters(check))
    yield from ("## What it is evidence for", "")
    yield f"- Rows of [requirements](../requirements.md): {', '.join(check.rows)}"
    if check.pci:
        yield f"- PCI DSS v4.0.1: {', '.join(check.pci)}. Evidence is mapped; compliance is never claimed."
    yield ""


def _parameters(check: Check) -> Iterator[str]:
    schema = check.params.model_json_schema()
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        yield from ("It takes no parameters.", "")
        return
    yield from ("| under `with` | type | default | meaning |", "|---|---|---|---|")
    for name, field in properties.items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        meaning = " ".join(str(field.get("description", "")).split()).replace("|", "\\|")
        yield f"| `{name}` | {_type(field, schema.get('$defs', {}))} | {default} | {meaning} |"
    about = " ".join(str(schema.get("description", "")).split())
    yield from ("", *([about, ""] if about else []))


# ---- types and defaults, as one writes them ------------------------------------------------------------------


def _type(field: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """A JSON Schema as a few words; `parts` are its `$defs`."""
    match field:
        case {"$ref": str(ref)}:
            return _type(parts.get(ref.rpartition("/")[2], {}), parts)
        case {"anyOf": [*options]} | {"oneOf": [*options]}:
            return " or ".join(dict.fromkeys(_type(one, parts) for one in options if one.get("type") != "null"))
        case {"enum": [*values]}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"pattern": pattern} if pattern == DURATION:
            return "duration"
        case {"pattern": pattern} if pattern == SHARE:
            return "percentage"
        case {"type": "array"}:
            return f"list of {_type(field.get('items', {}), parts)}"
        case {"type": "object", "properties": dict(members)}:
            return "mapping of " + ", ".join(f"`{name}`" for name in members)
        case {"type": "object"}:
            return f"mapping to {_type(inner, parts)}" if (inner := _inner(field)) else "mapping"
        case {"type": "integer" | "number"}:
            return ("whole number" if field["type"] == "integer" else "number") + _limits(field)
        case {"type": "boolean"}:
            return "`true`, `false`"
    return "text"


def _inner(field: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = field.get("additionalProperties")
    return inner if isinstance(inner, Mapping) else {}


def _limits(field: Mapping[str, Any]) -> str:
    words = (("minimum", "from"), ("exclusiveMinimum", "over"), ("maximum", "to"), ("exclusiveMaximum", "under"))
    return "".join(f" {word} {field[key]}" for key, word in words if key in field)


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    options = [field, *field.get("anyOf", ())]
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, float) and any(one.get("pattern") == DURATION for one in options):
        return f"`{_duration(value)}`"
    if isinstance(value, float) and any(one.get("pattern") == SHARE for one in options):
        return f"`{value * 100:g}%`"
    if isinstance(value, list):
        return "`[" + ", ".join(str(one) for one in value) + "]`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _duration(seconds: float) -> str:
    """In the largest unit that needs no fraction: `30 d`, `90 s`, `500 ms`."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds and seconds % size == 0), ("ms", 0.001))
    return f"{seconds / size:g} {unit}"
