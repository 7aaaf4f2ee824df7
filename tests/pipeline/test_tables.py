"""What a command prints that is not a run: plans, tables, findings, a status, a history, one JSON document."""

from __future__ import annotations

import io
import json
import secrets
from pathlib import Path

import pytest
from rich.cells import cell_len

from pipeline import tables
from pipeline.secrets import Secret
from pipeline.verdict import Finding, Verdict, advice, failed, passed
from tests.pipeline import runs


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [100, 80, 40])
def test_plan_shows_every_step_with_limit_and_way_back(width: int) -> None:
    """A printed plan names each step, its time limit, what it waits for and its way back, within the width."""
    out = io.StringIO()
    tables.print_plan(runs.plan(), out, width=width)
    lines = out.getvalue().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    text = squeezed(out.getvalue())
    for stage in runs.plan()["stages"]:
        for step in stage["steps"]:
            assert squeezed(step["does"]) in text
    assert text.count(squeezed("way back:")) == sum(len(stage["steps"]) for stage in runs.plan()["stages"])
    assert squeezed("at most 1 min 30 s; after release.stage, rollback.rehearsed") in text
    assert squeezed("restores release, settings, maintenance, payments") in text


@pytest.mark.parametrize("width", [100, 60, 30])
def test_tables_keep_to_the_width_and_lose_nothing(width: int) -> None:
    """A table is folded, or told in blocks, but never cut and never wider than the terminal."""
    rows = [("webhook.refuses_unsigned", "A webhook without a signature has no effect.", 3), ("b", None, True)]
    out = io.StringIO()
    tables.print_table(rows, ("check", "promise", "count"), out, width=width)
    assert all(cell_len(line) <= width for line in out.getvalue().splitlines())
    for piece in ("webhook.", "refuses_", "unsigned", "without", "signature", "effect.", "3", "yes"):
        assert piece in out.getvalue()


def test_table_without_rows_shows_its_headers() -> None:
    """An empty table is still a table."""
    out = io.StringIO()
    tables.print_table([], ("check", "promise"), out, width=40)
    assert out.getvalue().splitlines()[0] == "check  promise"


def test_findings_print_verdict_reason_and_fix() -> None:
    """Named findings are printed in their order, each with its fix where it has one."""
    out = io.StringIO()
    findings: list[tuple[str, Finding]] = [
        ("settings.valid", passed("9 settings from the environment")),
        ("settings.test_mode_off", failed(runs.TEST_MODE, "set VITE_IKHOKHA_TEST_MODE=false")),
        ("target.has_room", advice("12% is free", "free some")),
    ]
    tables.print_findings(findings, out, width=60)
    assert [line for line in out.getvalue().splitlines() if not line.startswith(" ")] == [
        "PASS settings.valid",
        "FAIL settings.test_mode_off",
        "ADVICE target.has_room",
    ]
    assert "    Fix: set VITE_IKHOKHA_TEST_MODE=false" in out.getvalue().splitlines()


@pytest.mark.parametrize("width", [90, 30])
def test_status_prints_members_and_tables(width: int) -> None:
    """A status is told member by member, with its lists as tables, within the width."""
    out = io.StringIO()
    releases = [{"release": runs.RELEASE, "state": Verdict.PASS, "since": runs.START, "why": "proven " * 12}]
    status = {
        "environment": "sandbox",
        "live": runs.RELEASE,
        "unfinished": [],
        "releases": releases,
        "lease": {"by": "x"},
    }
    tables.print_status(status, out, width=width)
    text = out.getvalue()
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert runs.RELEASE in text and "2026-03-14" in text and "PASS" in text


def test_history_lists_runs_and_calls_an_open_one_unfinished() -> None:
    """A run without an outcome is listed as not finished, and no run at all is said in words."""
    out = io.StringIO()
    run = {
        "id": "r1",
        "verb": "deploy",
        "environment": "sandbox",
        "started": runs.START,
        "release": None,
        "outcome": None,
    }
    tables.print_history([run], out, width=120)
    assert "not finished" in out.getvalue() and "2026-03-14 09:30:00 UTC" in out.getvalue()
    empty = io.StringIO()
    tables.print_history([], empty)
    assert empty.getvalue() == "No run is on record.\n"


def test_json_is_one_document_without_secrets() -> None:
    """Values of the pipeline print as one JSON document, a secret as [redacted]."""
    value = secrets.token_urlsafe(24)
    out = io.StringIO()
    data = {
        "at": runs.START,
        "key": Secret(value),
        "path": Path("a/b"),
        "finding": passed("fine", n=1),
        "set": {"b", "a"},
    }
    tables.print_json(data, out)
    assert value not in out.getvalue()
    read = json.loads(out.getvalue())
    assert (read["key"], read["path"], read["set"]) == ("[redacted]", "a/b", ["a", "b"])
    assert read["finding"]["verdict"] == "PASS" and read["finding"]["evidence"] == {"n": 1}
