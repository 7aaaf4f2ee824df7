"""Real commands on one sandbox: a good deploy, a bad one, one that is killed, and everything that only looks."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from pipeline.contracts import ReleaseState
from pipeline.events import Kind
from pipeline.lease import Lease, Owner
from tests.cli.cli import LIMIT_S, WATCH, Cli, Ended, kept, on, production
from tests.targets.areas import opened

LOOKING = [
    ("plan",),
    ("validate",),
    ("validate", "--offline"),
    ("config-check",),
    ("verify",),
    ("status",),
    ("history",),
    ("report",),
    ("audit",),
    ("sandbox.status",),
    ("sandbox.up",),
    ("drill", "--list"),
]


@dataclass(frozen=True)
class Story:
    """What the commands of one environment's life said, in their order. The good deploy is a job of a workflow."""

    cli: Cli
    good: Ended
    summary: Path
    bad: Ended
    killed: Ended
    refused: Ended
    rollback: Ended
    interrupted: Ended


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    cli = on(tmp_path_factory.mktemp("cli"))
    try:
        yield cli
    finally:
        assert cli.run("sandbox.down", "--json").data["sandbox"] == "down"


@pytest.fixture(scope="session")
def story(sandbox: Cli, tmp_path_factory: pytest.TempPathFactory) -> Story:
    summary = tmp_path_factory.mktemp("workflow") / "summary.md"
    workflow = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTOR": "thandi"}
    return Story(
        cli=sandbox,
        good=sandbox.run("deploy", *WATCH, env=workflow),
        summary=summary,
        bad=sandbox.run("deploy", "--json", *WATCH, env={"SANDBOX_FAULT": "webhook-500"}),
        killed=struck(sandbox, signal.SIGKILL, Kind.STEP_FINISHED, "release.switch"),
        refused=sandbox.run("deploy", "--json"),
        rollback=sandbox.run("rollback", "--json", "--yes", "--reason", "killed in the middle"),
        interrupted=struck(sandbox, signal.SIGTERM, Kind.STAGE_STARTED, None),
    )


def struck(cli: Cli, number: signal.Signals, kind: Kind, step: str | None) -> Ended:
    """A deploy whose process gets a signal when its journal holds an entry of `kind`."""
    begun, until = len(cli.entries()), time.monotonic() + LIMIT_S
    process = cli.start("deploy", *WATCH)
    while not any(entry.kind is kind and entry.data.get("step") == step for entry in cli.entries()[begun:]):
        if process.poll() is not None or time.monotonic() > until:
            break
        time.sleep(0.02)
    process.send_signal(number)
    return cli.end(process)


# ---- runs --------------------------------------------------------------------------------------------------


def test_deploy_shows_its_way_and_its_report(story: Story) -> None:
    """A good deploy ends with 0, says what is live, and names the report it leaves."""
    assert story.good.code == 0, story.good.out + story.good.err
    assert "is live and verified in sandbox" in story.good.out
    assert Path(story.good.out.rpartition("Report: ")[2].strip()).is_file()


def test_deploy_in_a_workflow_groups_its_output(story: Story) -> None:
    """Under GitHub Actions the stages are groups, and the summary of the job is written."""
    assert story.good.out.count("::group::") == story.good.out.count("::endgroup::") >= 5
    assert "verified" in story.summary.read_text("utf-8")


def test_bad_release_is_taken_back(story: Story) -> None:
    """A release whose webhooks fail ends with 3, and what the run printed with --json is its report."""
    assert story.bad.code == 3, story.bad.err
    assert story.bad.data["exit_code"] == 3


def test_every_proof_says_what_was_sent_what_came_back_and_when(story: Story) -> None:
    """Each finding of the shipped pipeline's proofs, good or bad, holds its milliseconds; a bad one what to do."""
    told = [
        entry.data for entry in story.cli.entries() if entry.kind is Kind.FINDING and entry.data["stage"] == "prove"
    ]
    judged = [one for one in told if one["verdict"] != "SKIPPED"]
    assert {one["verdict"] for one in judged} >= {"PASS", "FAIL"}
    assert len({one["check"] for one in judged}) > 15
    assert [one["check"] for one in judged if not re.search(r"\d ms", one["reason"])] == []
    assert [one["check"] for one in judged if one["verdict"] != "PASS" and not one["remedy"]] == []


def test_killed_run_is_refused_then_rolled_back(story: Story) -> None:
    """After SIGKILL a deploy is refused with 4 and names the ways on; one rollback ends with 0."""
    assert story.killed.code == -signal.SIGKILL
    assert (story.refused.code, story.refused.data["exit_code"]) == (4, 4)
    assert "deploy --resume" in story.refused.data["remedy"]
    assert story.rollback.code == 0, story.rollback.err
    assert story.rollback.data["exit_code"] == 0


def test_run_that_went_back_leaves_an_incident(story: Story) -> None:
    """A deploy that was taken back and a rollback print where their incident.md lies; no other does."""
    for ended in (story.bad, story.rollback):
        path = Path(ended.err.rpartition("Incident: ")[2].strip())
        assert f"run `{ended.data['header']['run']}`" in path.read_text("utf-8")
        assert path.with_name("report.md").is_file()
    assert "Incident: " not in story.good.out + story.interrupted.out


def test_interrupted_run_changes_nothing(story: Story) -> None:
    """SIGTERM before the first change ends a deploy with 130."""
    assert story.interrupted.code == 130, story.interrupted.out + story.interrupted.err
    assert "nothing was changed" in story.interrupted.out


def test_every_run_leaves_its_reports(story: Story) -> None:
    """Each run on record has report.html, report.md, report.json, report.sarif and junit.xml, and they can be read."""
    runs = {entry.run for entry in story.cli.entries() if entry.kind is Kind.RUN_FINISHED}
    assert len(runs) >= 4
    for run in runs:
        folder = story.cli.state / "reports" / run
        assert (folder / "report.html").read_text("utf-8").lstrip().lower().startswith("<!doctype html")
        assert run in (folder / "report.md").read_text("utf-8")
        assert Ended(0, (folder / "report.json").read_text("utf-8"), "").data["header"]["run"] == run
        assert Ended(0, (folder / "report.sarif").read_text("utf-8"), "").data["version"] == "2.1.0"
        assert ET.parse(folder / "junit.xml").getroot().tag in ("testsuites", "testsuite")  # noqa: S314 - our own


def test_no_secret_leaves(story: Story) -> None:
    """I3: after a passing, a failing, a killed and an interrupted run no secret is in anything printed or left."""
    secrets = story.cli.secrets()
    for text in story.cli.printed:
        assert secrets.found(text.encode()) == ()
    for path in story.cli.left_behind():
        assert secrets.found(path.read_bytes()) == (), path
    assert secrets.found(story.summary.read_bytes()) == ()
    assert secrets.found((story.cli.state / "settings.env").read_bytes()) != ()


def test_no_command_shows_a_traceback(story: Story) -> None:
    """Whatever happens to a run, an operator reads sentences."""
    assert not [text for text in story.cli.printed if "Traceback (most recent call last)" in text]


# ---- looking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_command_that_looks(story: Story, command: tuple[str, ...]) -> None:
    """Each command that only looks ends with 0 on a healthy environment, and with --json prints one document alone."""
    ended = story.cli.run(*command, "--json")
    assert ended.code == 0, ended.err
    assert ended.data


@pytest.mark.parametrize("command", ["plan", "config-check", "status", "history", "report", "audit"])
def test_command_that_looks_speaks_to_a_person(story: Story, command: str) -> None:
    """Without --json each prints something to read, and no JSON."""
    ended = story.cli.run(command)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip()[0] not in "[{"


def test_checks_lists_the_catalogue(sandbox: Cli) -> None:
    """`checks` needs no environment and names every check with its promise."""
    ended = sandbox.run("checks", "--json", spec=False)
    assert ended.code == 0
    assert {"check", "promise", "rows"} <= set(ended.data[0])


def test_status_after_the_story(story: Story) -> None:
    """`status` says what is live and open, and that nothing is unfinished."""
    status = story.cli.run("status", "--json").data
    assert (status["maintenance"], status["payments"], status["unfinished"]) == ("off", "open", [])
    states = {one["release"]: one["state"] for one in status["releases"]}
    assert states[status["live"]] == "verified"
    assert status["lease"] is None


def test_history_tells_every_run(story: Story) -> None:
    """`history` lists each run with how it ended, the killed one with who put it right."""
    runs = story.cli.run("history", "--json").data
    deploys = [(run["outcome"], run["exit_code"]) for run in runs if run["verb"] in ("deploy", "rollback")]
    expected = [("done", 0), ("restored", 3), (None, None), ("done", 0), ("interrupted", 130)]
    assert deploys == expected
    killed, rollback = [run for run in runs if run["verb"] in ("deploy", "rollback")][2:4]
    assert killed["superseded_by"] == rollback["id"]


def test_report_of_a_named_run(story: Story) -> None:
    """`report --run RUN` shows any run; the name of one that is not there is refused with the last one's: exit 2."""
    first = story.cli.entries()[0].run
    assert first in story.cli.run("report", "--run", first).out
    ended = story.cli.run("report", "--run", "19990101-000000-0000", "--json")
    assert ended.code == 2
    assert "no run 19990101-000000-0000" in ended.data["error"]


def test_config_check_shows_fingerprints(story: Story) -> None:
    """`config-check` shows every setting with its source, and a secret only as a fingerprint."""
    rows = {row["name"]: row for row in story.cli.run("config-check", "--json").data["settings"]}
    assert len(rows) == 9
    assert rows["VITE_IKHOKHA_API_SECRET"]["value"].startswith("[redacted] fingerprint ")
    assert "settings.env:" in rows["VITE_IKHOKHA_API_SECRET"]["source"]


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("status", "--env", "prodution"), 2, "Did you mean production?"),
        (("plan", "--spec", "nowhere/pipeline.yaml"), 2, "nowhere/pipeline.yaml"),
        (("rollback", "--yes", "--to", "1999"), 1, "1999 is not a verified release of sandbox"),
        (("drill", "--fault", "webhok-500"), 2, "Did you mean webhook-500?"),
        (("drill",), 2, "--fault NAME, --all, or --list"),
        (("deploy", "--resume"), 1, "no deploy to sandbox was left unfinished"),
        (("deploy", "--watch", "soon"), 2, "a whole number of seconds"),
        (("sandbox.up", "--env", "production"), 2, "production is no sandbox"),
        (("audit", "--env", "staging"), 1, "staging has no journal yet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said(story: Story, command: tuple[str, ...], code: int, said: str) -> None:
    """An unknown name, or a command that has nothing to do, is refused with what is allowed."""
    ended = story.cli.run(*command)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_dry_mode_is_refused(sandbox: Cli, how: str) -> None:
    """Under Invoke's dry mode commands would seem to succeed, so it is refused: exit 2."""
    args, env = (("--dry",), {}) if how == "flag" else ((), {"INVOKE_RUN_DRY": "1"})
    ended = sandbox.run(*args, "deploy", env=env)
    assert ended.code == 2
    assert "--dry is refused" in ended.err


def test_second_deploy_is_refused_while_one_runs(story: Story) -> None:
    """While another run holds the lease a deploy ends with 5 and names its owner."""
    owner = Owner.this_process("20260101-000000-abcd", "thandi")
    lease = Lease.take(story.cli.state / "target" / "lease.sqlite", owner=owner, clock=SystemClock(), expires_s=LIMIT_S)
    try:
        ended = story.cli.run("deploy", "--json")
        held = story.cli.run("status", "--json").data["lease"]
    finally:
        lease.release()
    assert (ended.code, ended.data["exit_code"]) == (5, 5)
    assert "20260101-000000-abcd of thandi" in ended.data["error"]
    assert held["owner"]["run"] == "20260101-000000-abcd"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET data = replace(data, 'sandbox', 'sandpit') WHERE seq = 1",
        "DELETE FROM entries WHERE seq = 5",
        "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)",
        "UPDATE entries SET kind = 'no.such.kind' WHERE seq = 3",
        "UPDATE entries SET data = 'not json' WHERE seq = 3",
        "DELETE FROM head",
    ],
)
def test_audit_finds_a_tampered_journal(story: Story, tmp_path: Path, change: str) -> None:
    """`audit` ends with 4 whatever was changed, also when the entries cannot be read any more."""
    copy = on(tmp_path)
    shutil.copytree(story.cli.state, copy.state, ignore=shutil.ignore_patterns("target", "gateway", "reports"))
    with sqlite3.connect(copy.state / "journal.sqlite") as journal:
        journal.execute(change)
    ended = copy.run("audit", "--json")
    assert (ended.code, len(ended.data["breaks"]) >= 1) == (4, True)
    plain = copy.run("audit")
    assert (plain.code, "BROKEN" in plain.out) == (4, True)


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to look like one" * 100])
def test_audit_of_a_file_that_is_no_journal(story: Story, tmp_path: Path, content: bytes) -> None:
    """A journal that was emptied or overwritten is a broken record, not a missing one: exit 4."""
    cli = on(tmp_path)
    shutil.copytree(story.cli.state, cli.state, ignore=shutil.ignore_patterns("target", "gateway", "reports"))
    for left in cli.state.glob("journal.sqlite*"):
        left.unlink()
    (cli.state / "journal.sqlite").write_bytes(content)
    assert cli.run("audit").code == 4


# ---- without a sandbox -------------------------------------------------------------------------------------


def test_plan_changes_nothing(tmp_path: Path) -> None:
    """`plan` shows every step with its limit and way back, starts nothing and writes no file."""
    cli = on(tmp_path)
    ended = cli.run("plan")
    assert ended.code == 0
    assert "restores payments, maintenance, settings, release" in " ".join(ended.out.split())
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


def test_commands_work_from_any_folder(tmp_path: Path) -> None:
    """The paths of a spec start at its own folder, wherever the command is typed."""
    (tmp_path / "app").mkdir()
    (tmp_path / "elsewhere").mkdir()
    cli = kept(on(tmp_path / "app"))
    ended = cli.run("validate", "--env", "production", "--offline", env=production(), cwd=tmp_path / "elsewhere")
    assert ended.code == 0, ended.out
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "app" / ".tollgate" / "production").is_dir()


def test_list_names_every_command(tmp_path: Path) -> None:
    """`--list` shows every command of the guide with a line of help."""
    out = on(tmp_path).run("--list", spec=False).out
    named = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    wanted = "deploy plan validate config-check verify rollback status history report audit checks drill test lint"
    for command in [*wanted.split(), "sandbox.up", "sandbox.down", "sandbox.status"]:
        assert len(named[command].split()) > 3, command


def test_good_production_settings_are_validated(tmp_path: Path) -> None:
    """Row G4: good settings of production print that validation passed, what was left out, and recommendations."""
    settings = production()
    ended = kept(on(tmp_path)).run("validate", "--env", "production", "--offline", env=settings)
    assert ended.code == 0, ended.out
    assert "Production configuration validation passed\n" in ended.out
    assert re.search(r"^Not asked, because of --offline: .*target\.has_room.*\.$", ended.out, re.MULTILINE)
    assert ended.out.partition("Recommendations:")[2].count("  - ") >= 3
    assert settings["VITE_IKHOKHA_API_SECRET"] not in ended.out + ended.err


def test_bad_production_settings_are_all_told(tmp_path: Path) -> None:
    """Row G17: every mistake in the settings of production is told at once, each with its fix: exit 1."""
    settings = production(
        VITE_NODE_ENV="development",
        VITE_IKHOKHA_API_URL="https://pay.ikhokha.com",
        VITE_IKHOKHA_TEST_MODE="true",
        VITE_IKHOKHA_TIMEOUT="45",
        VITE_IKHOKHA_API_KEY="changeme",
    )
    ended = on(tmp_path).run("validate", "--env", "production", "--offline", env=settings)
    assert ended.code == 1
    said = " ".join(ended.out.split())
    for fix in (
        "set VITE_NODE_ENV=production",
        "set VITE_IKHOKHA_API_URL=https://api.ikhokha.com",
        "Test mode must be disabled in production",
        "set VITE_IKHOKHA_TEST_MODE=false",
        "correct VITE_IKHOKHA_TIMEOUT",
        "API key invalid or missing",
    ):
        assert fix in said, fix
    assert "passed" not in ended.out.rpartition("refused")[2]
    assert on(tmp_path).run("config-check", "--env", "production", "--json", env=settings).code == 1


async def test_rollback_outside_the_sandbox_asks_first(tmp_path: Path) -> None:
    """Where nobody is at the keyboard a rollback of production needs --yes; without it nothing is changed: exit 2."""
    cli = on(tmp_path)
    cli.spec.write_text(cli.spec.read_text("utf-8").replace("path: /srv/betaskill,", "path: area,"), "utf-8")
    area = await opened(tmp_path / "area")
    release = await area.stage("20260101T000000000Z-0000000")
    await area.target.releases.mark(release, ReleaseState.VERIFIED, "a test says so")
    ended = cli.run("rollback", "--env", "production", "--json", env=production())
    assert ended.code == 2
    assert ended.data["remedy"] == "Add --yes."
    assert await area.target.traffic.live() is None


def test_rollback_of_an_environment_without_a_release(tmp_path: Path) -> None:
    """Where there is nothing to go back to a rollback says so: exit 1."""
    ended = on(tmp_path).run("rollback", "--env", "production", "--yes", "--json", env=production())
    assert ended.code == 1
    assert "has no verified release" in ended.data["error"]
