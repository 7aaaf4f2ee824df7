"""`./inv export` and `./inv audit` as a log collector and an operator use them, on a record that runs have left."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.chain import canonical
from pipeline.clock import SystemClock
from pipeline.contracts import SecurityEvent
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.journal_lines import JSON_SCHEMA
from pipeline.secrets import Redactor
from pipeline.security_events import JSON_SCHEMA as SECURITY
from pipeline.security_log import as_data
from tests.cli.cli import HOME, Cli, Ended, on
from tests.cli.standing import GOOD, NEWEST, stands, typed

EXPORT, AUDIT = ("export",), ("audit",)
DOCUMENT = HOME / "docs" / "journal.md"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Two deploys on record, and two security events of a third run."""
    cli = stands(on(tmp_path))
    with opened(cli) as journal:
        for number in range(2):
            event = SecurityEvent(
                datetime.now(UTC), "probe.sent", "webhook.refuses_unsigned", "unsigned", f"r-{number}"
            )
            journal.append("probing", Kind.SECURITY_EVENT, as_data(event))
    return cli


def opened(cli: Cli) -> Journal:
    return Journal.open(cli.state / "journal.sqlite", clock=SystemClock(), redactor=Redactor())


def tamper(cli: Cli, statement: str) -> None:
    with sqlite3.connect(cli.state / "journal.sqlite") as connection:
        connection.execute(statement)


def lines(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.out.splitlines()]


# ---- export ------------------------------------------------------------------------------------------------


def test_every_entry_is_a_line_that_proves_itself(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line follows the schema of docs/journal.md, and its hash is made of the line, as that page says."""
    ended = typed(cli, capsys, *EXPORT)
    assert (ended.code, ended.err) == (0, "")
    told = lines(ended)
    assert [line["seq"] for line in told] == list(range(1, 13))
    previous = "0" * 64
    for line in told:
        Draft202012Validator(dict(JSON_SCHEMA)).validate(line)
        assert line["previous"] == previous
        previous, _ = line.pop("hash"), line.pop("schema")
        assert hashlib.sha256(canonical(line).encode()).hexdigest() == previous
    assert ended.out.isascii()


def test_the_page_shows_this_schema_and_a_line_of_it() -> None:
    """What docs/journal.md shows is what the code writes."""
    example, schema = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert json.loads(schema) == dict(JSON_SCHEMA)
    line = json.loads(example)
    Draft202012Validator(json.loads(schema)).validate(line)
    digest, _ = line.pop("hash"), line.pop("schema")
    assert hashlib.sha256(canonical(line).encode()).hexdigest() == digest


def test_a_collector_goes_on_where_it_stopped(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """`--after` leaves out what it has; with the hash it also proves that its last line is still there."""
    every = lines(typed(cli, capsys, *EXPORT))
    ninth = f"9:{every[8]['hash']}"
    for after in ("9", ninth):
        assert lines(typed(cli, capsys, *EXPORT, "--after", after)) == every[9:]
    assert typed(cli, capsys, *EXPORT, "--after", "12").out == ""
    for after, said in (("13", "entry 13, which you have, is missing"), (f"9:{'ab' * 32}", "entry 9 is not the one")):
        ended = typed(cli, capsys, *EXPORT, "--after", after)
        assert ended.code == 4 and said in ended.err
    for after in ("x", "-1", "9:ab", "٩"):
        assert typed(cli, capsys, *EXPORT, f"--after={after}").code == 2


def test_what_is_exported_can_be_chosen(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """By run and by time; a run that is not on record, a time that is none and an unknown environment are refused."""
    runs = [line["run"] for line in lines(typed(cli, capsys, *EXPORT))]
    one = lines(typed(cli, capsys, *EXPORT, "--run", f"run-of-{GOOD}"))
    assert [line["run"] for line in one] == [f"run-of-{GOOD}"] * runs.count(f"run-of-{GOOD}")
    assert len(lines(typed(cli, capsys, *EXPORT, "--since", "400d"))) == len(runs)
    later = lines(typed(cli, capsys, *EXPORT))[4]["at"]
    assert [line["seq"] for line in lines(typed(cli, capsys, *EXPORT, "--since", later))] == list(range(5, 13))
    for flags in (("--run", "nope"), ("--since", "yesterday"), ("--env", "nowhere")):
        ended = typed(cli, capsys, *EXPORT, *flags)
        assert (ended.code, ended.out) == (2, "")
        assert "at most" not in ended.err  # nothing that is on record is too old to be exported
    nothing = typed(cli, capsys, *EXPORT, "--env", "staging")
    assert nothing.code == 1 and "no journal yet" in nothing.err


def test_security_events_come_in_their_own_form(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """`--security` gives the lines of docs/security-events.md, with the number to go on from."""
    told = lines(typed(cli, capsys, *EXPORT, "--security"))
    for line in told:
        Draft202012Validator(dict(SECURITY)).validate(line)
    assert [(line["seq"], line["run"], line["reference"]) for line in told] == [
        (11, "probing", "r-0"),
        (12, "probing", "r-1"),
    ]
    assert [line["seq"] for line in lines(typed(cli, capsys, *EXPORT, "--security", "--after", "11"))] == [12]
    later = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert len(lines(typed(cli, capsys, *EXPORT, "--security", "--since", later))) == 2


def test_what_is_whole_before_a_break_is_exported_and_the_break_named(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken chain ends the export with 4 and a sentence on stderr; stdout has nothing but whole lines."""
    tamper(cli, "UPDATE entries SET data = '{}' WHERE seq = 7")
    ended = typed(cli, capsys, *EXPORT)
    assert ended.code == 4
    assert [line["seq"] for line in lines(ended)] == [1, 2, 3, 4, 5, 6]
    assert "entry 7 was changed" in ended.err and "./inv audit" in ended.err
    assert typed(cli, capsys, *EXPORT, "--after", "6").out == ""


def test_a_reader_that_goes_away_is_no_error(cli: Cli) -> None:
    """A pipe that closes after the first line changes nothing about how the export ends."""
    with opened(cli) as journal:
        for number in range(300):
            journal.append("long", Kind.FINDING, {"number": number, "text": "x" * 2000})
    process = cli.start(*EXPORT)
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["seq"] == 1
    process.stdout.close()
    told = process.stderr.read()
    assert (process.wait(60), told) == (0, "")
    process.stderr.close()


# ---- audit -------------------------------------------------------------------------------------------------


def test_audit_names_entry_run_kind_what_was_found_and_expected(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """A person reads at once which entry of which run was changed; a job reads the same from `--json`."""
    before = lines(typed(cli, capsys, *EXPORT))
    assert f"Head: {before[-1]['hash']}" in typed(cli, capsys, *AUDIT).out
    tamper(cli, "UPDATE entries SET data = '{}' WHERE seq = 7")
    ended = typed(cli, capsys, *AUDIT)
    assert ended.code == 4
    assert "BROKEN entry 7 was changed: its hash does not fit its content" in ended.out
    assert f"  entry:    7, release.marked of run run-of-{NEWEST}\n  found:    {before[6]['hash']}\n" in ended.out
    (told,) = typed(cli, capsys, *AUDIT, "--json").data["breaks"]
    assert (told["seq"], told["kind"], told["run"]) == (7, "release.marked", f"run-of-{NEWEST}")
    assert told["found"] == before[6]["hash"] != told["expected"]


def test_audit_holds_the_journal_against_the_reports(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """A report of an earlier run is evidence: a journal cut to before its end, or gone altogether, ends with 4."""
    assert typed(cli, capsys, "report", "--run", f"run-of-{NEWEST}").code == 0
    assert "1 report has its head" in typed(cli, capsys, *AUDIT).out
    kept = lines(typed(cli, capsys, *EXPORT))[4]
    (cli.state / "journal.head").unlink()
    tamper(cli, "DELETE FROM entries WHERE seq > 5")
    tamper(cli, f"UPDATE head SET seq = 5, hash = '{kept['hash']}'")  # noqa: S608
    told = typed(cli, capsys, *AUDIT)
    assert told.code == 4
    assert f"entry 10, which the report of run run-of-{NEWEST} has, is missing" in told.out
    (cli.state / "journal.sqlite").unlink()
    assert typed(cli, capsys, *AUDIT).code == 4


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + bytes(9000)])
def test_every_reader_ends_with_a_sentence_on_a_foreign_file(
    cli: Cli, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """No command that reads the record ends in a traceback, and what a rollback would do is still shown."""
    for end in ("", "-wal", "-shm"):
        (cli.state / f"journal.sqlite{end}").unlink(missing_ok=True)
    (cli.state / "journal.sqlite").write_bytes(content)
    codes = {}
    for words in (AUDIT, EXPORT, ("history",), ("report",), ("status",), ("rollback", "--dry-run")):
        ended = typed(cli, capsys, *words)
        codes[words[0]] = ended.code
        assert "bug of Tollgate" not in ended.err and "Traceback" not in ended.out + ended.err
    assert codes["audit"] == 4
    assert (codes["status"], codes["rollback"]) == (0, 0)
    assert codes["export"] in (1, 4)
    assert not (cli.folder / ".tollgate" / "bug.log").exists()
