"""The files that are made from the code: the JSON Schema of pipeline.yaml and the catalogue of checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import wiring
from pipeline.contracts import Catalogue
from pipeline.schema import render


def files() -> Mapping[Path, str]:
    """What each generated file must contain."""
    tables = wiring.catalogue()
    return {
        wiring.HOME / "pipeline" / "schema.json": render(wiring.names(tables)),
        wiring.HOME / "docs" / "checks.md": _catalogue(tables),
    }


def write() -> list[Path]:
    """Writes them; returns their paths."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files())


def _catalogue(tables: Catalogue) -> str:
    lines = [
        "# The checks",
        "",
        "Made from the code by `./inv docs`. A check that passes makes its name a true sentence. `validate --offline`",
        "leaves out those that need the network. The rows are those of [requirements](requirements.md).",
        "",
    ]
    for check in tables.checks.values():
        fields = check.params.model_fields
        takes = ", ".join(f"`{name}`" for name in fields) or "nothing"
        lines += [
            f"## {check.name}",
            "",
            check.promise,
            "",
            *([check.why, ""] if check.why else []),
            f"- Needs: {'the network' if check.network else 'no network'}; {_WHEN[check.when.value]}",
            f"- Takes under `with:`: {takes}",
            f"- Rows: {', '.join(check.rows)}",
            "",
        ]
    return "\n".join(lines)


_WHEN = {"any": "any stage", "built": "after the build", "live": "after the switch"}
