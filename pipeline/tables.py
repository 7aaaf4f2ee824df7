"""What a command prints that is not a run: a plan, a table, findings, a status, one JSON document.

Each function takes values and a stream, colours nothing that words do not also say, and keeps to the terminal's width.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from typing import Any, TextIO

from rich.cells import cell_len

from pipeline.verdict import Finding
from pipeline.words import NOT_RECORDED, count, fold, instant, one_line, printable, took

_GAP = 2
_NARROWEST = 8
"""A column is never made narrower than this; a table that still does not fit is printed as one block for each row."""


def print_json(value: object, stream: TextIO | None = None) -> None:
    """Prints one JSON document and nothing else. Secrets print as `[redacted]`, instants in ISO 8601."""
    out = stream or sys.stdout
    out.write(json.dumps(value, indent=2, ensure_ascii=False, default=as_json) + "\n")
    out.flush()


def as_json(value: object) -> object:
    """The JSON value of what `json` does not know by itself; for anything else its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)


def print_table(
    rows: Iterable[Sequence[object]], headers: Sequence[str], stream: TextIO | None = None, *, width: int | None = None
) -> None:
    """Prints rows under headers; long cells are folded, and a table too wide for the terminal becomes blocks."""
    out, room = stream or sys.stdout, _width(width)
    cells = [[_cell(value) for value in row] for row in rows]
    for line in _table(cells, headers, room):
        out.write(line + "\n")


def print_plan(plan: Mapping[str, Any], stream: TextIO | None = None, *, width: int | None = None) -> None:
    """Prints every step of `Plan.as_data()` with its time limit and its way back."""
    out, room = stream or sys.stdout, _width(width)
    steps = sum(len(stage["steps"]) for stage in plan["stages"])
    what = (
        f"{plan['verb']} {plan['service']} to {plan['environment']}: {count(steps, 'step')}; nothing is changed by this"
    )
    for line in [*fold(what, room), ""]:
        out.write(line + "\n")
    for stage in plan["stages"]:
        out.write(f"{stage['name']}\n")
        for step in stage["steps"]:
            out.writelines(line + "\n" for line in _planned(step, room))
        out.write("\n")


def _planned(step: Mapping[str, Any], room: int) -> list[str]:
    notes = [f"at most {took(step['limit_s'])}"]
    if step.get("retries"):
        notes.append(count(step["retries"] + 1, "attempt"))
    if step.get("needs"):
        notes.append("after " + ", ".join(step["needs"]))
    does = printable(str(step["does"]))
    title = does if does.endswith(step["name"]) else f"{step['name']}: {does}"
    lines = [f"  {line}" for line in fold(title, room - 2)]
    lines += [f"    {line}" for line in fold("; ".join(notes), room - 4)]
    if step.get("way_back"):
        lines += [f"    {line}" for line in fold(f"way back: {step['way_back']}", room - 4)]
    return lines


def print_findings(
    findings: Iterable[tuple[str, Finding]], stream: TextIO | None = None, *, width: int | None = None
) -> None:
    """Prints named findings in their order: verdict, reason, and for what does not pass the fix."""
    out, room = stream or sys.stdout, _width(width)
    for name, finding in findings:
        for line in fold(f"{finding.verdict.value} {name}", room):
            out.write(line + "\n")
        for line in fold(printable(finding.reason), room - 4):
            out.write(f"    {line}\n")
        if finding.remedy:
            for line in fold(f"Fix: {printable(finding.remedy)}", room - 4):
                out.write(f"    {line}\n")


def print_status(status: Mapping[str, Any], stream: TextIO | None = None, *, width: int | None = None) -> None:
    """Prints a JSON-like mapping for a person: members under each other, lists of mappings as tables."""
    out, room = stream or sys.stdout, _width(width)
    for line in _status(status, room):
        out.write(line + "\n")


def _status(status: Mapping[str, Any], room: int) -> list[str]:
    plain = {_title(key): _cell(value) for key, value in status.items() if not _nested(value)}
    label = max((cell_len(key) for key in plain), default=0) + _GAP
    lines = []
    for key, value in plain.items():
        if room - label < 20:
            lines += [key, *(f"  {line}" for line in fold(value, room - 2))]
            continue
        first, *more = fold(value, room - label)
        lines += [f"{key:<{label}}{first}", *(" " * label + line for line in more)]
    for key, value in status.items():
        if not _nested(value):
            continue
        lines += ["", _title(key)]
        if isinstance(value, Mapping):
            lines += [f"  {line}".rstrip() for line in _status(value, room - 2)]
        else:
            headers = list(dict.fromkeys(name for row in value for name in row))
            cells = [[_cell(row.get(name)) for name in headers] for row in value]
            lines += [f"  {line}" for line in _table(cells, [_title(name) for name in headers], room - 2)]
    return lines


def print_history(runs: Iterable[object], stream: TextIO | None = None, *, width: int | None = None) -> None:
    """Prints run summaries (mappings or values with `id, verb, started, environment, release, outcome`), as given."""
    rows = [
        (
            _member(run, "id"),
            _member(run, "verb"),
            _member(run, "environment"),
            _member(run, "started"),
            _member(run, "release"),
            _member(run, "outcome") or "not finished",
        )
        for run in runs
    ]
    if not rows:
        (stream or sys.stdout).write("No run is on record.\n")
        return
    print_table(rows, ("run", "verb", "environment", "started", "release", "outcome"), stream, width=width)


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _nested(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(member, Mapping) for member in value)


def _title(key: str) -> str:
    return key.replace("_", " ")


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return instant(value)
        case Enum():
            return str(value.value)
        case list() | tuple():
            return ", ".join(_cell(member) for member in value) or "-"
        case Mapping():
            return ", ".join(f"{key} {_cell(member)}" for key, member in value.items()) or "-"
        case PurePath() | str():
            return one_line(printable(str(value)))
        case _:
            return one_line(printable(str(value))) or NOT_RECORDED


def _table(cells: Sequence[Sequence[str]], headers: Sequence[str], room: int) -> list[str]:
    widths = _widths([headers, *cells], room)
    if widths is None:
        return _blocks(cells, headers, room)
    lines = _table_row(headers, widths)
    lines.append("  ".join("-" * width for width in widths))
    for row in cells:
        lines += _table_row(row, widths)
    return lines


def _table_row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    folded = [fold(cell, width) for cell, width in zip(row, widths, strict=True)]
    height = max((len(lines) for lines in folded), default=0)
    rows = []
    for index in range(height):
        parts = [lines[index] if index < len(lines) else "" for lines in folded]
        padded = [part + " " * (width - cell_len(part)) for part, width in zip(parts, widths, strict=True)]
        rows.append((" " * _GAP).join(padded).rstrip())
    return rows


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The width of each column, the widest cut first until all fit; None when they cannot."""
    widths = [max(cell_len(cell) for cell in column) for column in zip(*rows, strict=True)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - room
    while excess > 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= max(_NARROWEST, cell_len(rows[0][widest])):
            return None
        widths[widest] -= 1
        excess -= 1
    return widths


def _blocks(cells: Sequence[Sequence[str]], headers: Sequence[str], room: int) -> list[str]:
    lines: list[str] = []
    for row in cells:
        for header, cell in zip(headers, row, strict=True):
            first, *more = fold(f"{header}: {cell}", room)
            lines += [first, *(f"  {line}" for part in more for line in fold(part, room - 2))]
        lines.append("")
    return lines[:-1]


def _width(width: int | None) -> int:
    return width or shutil.get_terminal_size((100, 24)).columns
