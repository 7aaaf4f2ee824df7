"""The operator's page of an incident: what it tells to type does what it says."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from pipeline import console, incident
from pipeline.errors import Exit
from pipeline.secrets import Redactor
from tests.cli.cli import Cli, on
from tests.cli.standing import NEWEST, stands, typed
from tests.pipeline import runs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "incident.md").read_text("utf-8")
SHOWN = [
    shlex.split(line)
    for line in dict.fromkeys(
        re.findall(r"`\./inv ([^`]+)`", PAGE) + re.findall(r"^\$ \./inv (.+)$", PAGE, re.MULTILINE)
    )
]
LOOKING = [words for words in SHOWN if words[0] in ("status", "history", "report") or "--dry-run" in words]
ACTING = {"rollback", "deploy", "verify", "reconcile", "close", "open"}
"""Run against a service that is up: see tests/cli/test_commands.py and the tests of each verb."""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    return stands(on(tmp_path_factory.mktemp("page")))


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_command_that_looks_runs(standing: Cli, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """Each command of the page that changes nothing can be typed at any time, even when nothing runs: exit 0."""
    here = [word for word in words if word not in ("--env", "production")]
    ended = typed(standing, capsys, *here)
    assert ended.code == 0, ended.err
    assert NEWEST.partition("-")[0] in ended.out


def test_every_command_is_one_or_the_other() -> None:
    """No command of the page escapes a test by being of a kind that nobody thought of."""
    assert len(LOOKING) >= 5
    assert {words[0] for words in SHOWN if words not in LOOKING} == ACTING


def test_exit_codes_are_explained() -> None:
    """Whatever code a rollback or a failed deploy ends with, the page says what it means."""
    section = PAGE.partition("## How it ended")[2].partition("\n## ")[0]
    told = re.findall(r"^\| (\d+) \|", section, re.MULTILINE) + re.findall(r"Exit (\d+)", section)
    assert sorted(map(int, told)) == sorted(map(int, Exit))


def test_words_to_look_for_are_printed() -> None:
    """What an operator is told to look for after exit 4 is what the console and the incident's own page say."""
    out, entries = io.StringIO(), runs.RUNS["not closed"]()
    with console.listener("plain", out, redactor=Redactor([])) as listen:
        for entry in entries:
            listen(entry)
    page = incident.build(entries, entries[0].run)
    assert page is not None
    for words, where in (("a person must do this now", out.getvalue()), ("NOT CLOSED", out.getvalue())):
        assert words in " ".join(PAGE.split()) and words in where
    assert '"What is left to do"' in PAGE and "## What is left to do" in incident.as_markdown(page)
