"""How every command ends: its exit code, and what an operator reads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

import commands
from pipeline.errors import Exit, LeaseHeld, LeaseLost, NothingToRestore, PersonNeeded, Refused, Usage
from tests.cli.cli import kept, on, production


@pytest.fixture
def flags(tmp_path: Path) -> commands.Flags:
    return commands.Flags(spec=str(tmp_path / "pipeline.yaml"))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("it refused", "do this"), 1),
        (NothingToRestore("it refused", "do this"), 1),
        (Usage("it refused", "do this"), 2),
        (PersonNeeded("it refused", "do this"), 4),
        (LeaseLost("it refused", "do this"), 4),
        (LeaseHeld("it refused", "do this"), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_ends_with_its_code(
    error: Exception, code: int, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of error has its exit code; what happened and the fix are said, with --json as one document."""

    async def verb() -> Exit:
        raise error

    assert commands.ended(commands.Flags(json=as_json), verb) == code
    out, err = capsys.readouterr()
    assert err == "it refused\n  Fix: do this\n"
    assert (json.loads(out) if as_json else out) == (
        {"error": "it refused", "remedy": "do this", "exit_code": code} if as_json else ""
    )


def test_bug_is_called_one(flags: commands.Flags, capsys: pytest.CaptureFixture[str]) -> None:
    """A bug of ours ends with 70; its traceback is kept beside the spec, private and without any value."""
    secret = os.urandom(12).hex()

    async def verb() -> Exit:
        raise ZeroDivisionError(secret)

    assert commands.ended(flags, verb) == Exit.BUG
    said = capsys.readouterr().err
    log = Path(flags.spec).parent / ".tollgate" / "bug.log"
    assert str(log) in said
    assert "ZeroDivisionError" in log.read_text()
    assert secret not in said + log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_bug_whose_traceback_cannot_be_kept(flags: commands.Flags, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no file can be written a bug still ends with 70 and a sentence."""
    (Path(flags.spec).parent / ".tollgate").write_text("a file where a folder should be")

    async def verb() -> Exit:
        raise ZeroDivisionError

    assert commands.ended(flags, verb) == Exit.BUG
    said = capsys.readouterr().err
    assert "could not be kept" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_a_run_begins(
    flags: commands.Flags, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C and SIGTERM end a command that is no run with 130 and a sentence."""

    async def verb() -> Exit:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()
        return Exit.DONE

    assert commands.ended(flags, verb) == Exit.INTERRUPTED
    assert capsys.readouterr().err.startswith("interrupted\n")


def test_error_is_an_annotation_in_a_workflow(
    flags: commands.Flags, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under GitHub Actions what ends a command stands on the page of the job, on one line."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    async def verb() -> Exit:
        raise Usage("two\nlines")

    commands.ended(flags, verb)
    assert "::error title=Tollgate::two%0Alines\n" in capsys.readouterr().err


def test_report_that_cannot_be_written_decides_nothing(tmp_path: Path) -> None:
    """A run ends as it ended although its report cannot be written; that is said, and --json still is one document."""
    cli = kept(on(tmp_path))
    (tmp_path / ".tollgate" / "production").mkdir(parents=True)
    (tmp_path / ".tollgate" / "production" / "reports").write_text("a file where a folder should be")
    ended = cli.run("validate", "--env", "production", "--offline", "--json", env=production())
    assert (ended.code, ended.data["exit_code"]) == (0, 0)
    assert "the report could not be written" in ended.err
