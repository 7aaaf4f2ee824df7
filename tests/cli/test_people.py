"""Signing, duties and the checklist as a person types them, in a git checkout with a pipeline.yaml of its own."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import people
from checks.guide import LINES
from commands import Flags
from pipeline.events import Kind
from tests.cli.cli import Cli, Ended, on, production
from tests.pipeline import runs
from tests.pipeline.desk import THANDI, git, make_key, needs_ssh, signers

pytestmark = needs_ssh

PRODUCTION = ("--env", "production")
PEOPLE = {
    "sign_offs": {
        "pci-dss": {"title": "The questionnaire is filled in", "valid_for": "90 d"},
        "documentation-current": {"title": "The documents are current", "bound_to": "revision"},
    },
    "duties": {
        "review-payment-logs": {"title": "Read the payment logs | all of them", "every": "7 d"},
        "test-webhooks": {"title": "Test the webhooks", "every": "30 d", "proven_by": "settings.valid"},
        "rotate-credentials": {"title": "Make new credentials", "every": "92 d"},
    },
}


@dataclass(frozen=True)
class Story:
    """What the commands said, in their order; `duties` is a job of a workflow."""

    cli: Cli
    key: Path
    signed: Ended
    validated: Ended
    checklist: Ended
    duties: Ended
    summary: Path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A checkout in which nobody may sign yet."""
    cli = on(tmp_path_factory.mktemp("people"))
    spec = yaml.safe_load(cli.spec.read_text("utf-8"))
    spec["environments"]["production"]["target"]["path"] = "target"
    cli.spec.write_text(json.dumps({**spec, **PEOPLE}), "utf-8")
    (cli.folder / ".gitignore").write_text(".tollgate/\ntarget/\n", "utf-8")
    git(cli.folder, "init", "-q", "-b", "main")
    git(cli.folder, "config", "user.email", THANDI)
    git(cli.folder, "add", "-A")
    git(cli.folder, "commit", "-q", "-m", "first")
    yield cli


@pytest.fixture(scope="module")
def story(checkout: Cli, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("keys")
    key = make_key(folder, "thandi")
    attest = ("attest", "pci-dss", *PRODUCTION, "--evidence", "SAQ A, in the finance folder", "--key", str(key.file))
    (checkout.folder / "attestations").mkdir()
    (checkout.folder / "attestations" / "allowed_signers").write_text(signers({THANDI: key}), "utf-8")
    git(checkout.folder, "add", "-A")
    git(checkout.folder, "commit", "-q", "-m", "signers")
    signed = checkout.run(*attest)
    how = {"evidence": "nothing odd", "key": str(key.file), "valid_for": "3d"}
    assert people.attest(Flags("production", str(checkout.spec)), "review-payment-logs", **how) == 0
    summary = folder / "summary.md"
    narrow = {"COLUMNS": "80"}
    job = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    return Story(
        checkout,
        key.file,
        signed,
        checkout.run("validate", *PRODUCTION, "--offline", env=production()),
        checkout.run("checklist", *PRODUCTION, env=narrow),
        checkout.run("duties", *PRODUCTION, env={**narrow, **job}),
        summary,
    )


def data(verb: Callable[[], int], code: int, capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON document that a verb prints, in this process; it ends with `code`."""
    capsys.readouterr()
    assert verb() == code
    return json.loads(capsys.readouterr().out)


def test_signing_says_what_was_signed_and_where_it_lies(story: Story) -> None:
    """The signer sees the words, the end and the files, and the record holds what was typed."""
    assert story.signed.code == 0, story.signed.err
    for word in ("The questionnaire is filled in", THANDI, "attestations/production/pci-dss.json"):
        assert word in story.signed.out
    record = json.loads((story.cli.folder / "attestations/production/pci-dss.json").read_text("utf-8"))
    assert record["evidence"] == {"text": "SAQ A, in the finance folder"}


def test_whoever_may_not_sign_is_told_how_to(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unlisted key is refused before anything is written, with the line that would allow it."""
    code, err = attest(story.cli.spec, "documentation-current", capsys, key=str(make_key(tmp_path, "other").file))
    assert code == 1
    assert re.search(rf'{THANDI} namespaces="tollgate-attestation" ssh-ed25519 \S+', err)
    assert not (story.cli.folder / "attestations/production/documentation-current.json").exists()


def test_the_checklist_shows_every_line_with_its_answer(story: Story) -> None:
    """Every line of the guide is there, evidenced, signed or open; what is open says what to do, in 80 columns."""
    assert story.checklist.code == 0, story.checklist.err
    lines = story.checklist.out.splitlines()
    assert max(map(len, lines)) <= 80
    starts = [n for n, line in enumerate(lines) if re.match(r"  (evidenced|signed   |OPEN     )  \S", line)]
    assert len(starts) == len(LINES)
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        block = lines[start:end]
        assert len(block) > 1, block
        assert not block[0].startswith("  OPEN") or any(line.strip().startswith("Do: ") for line in block), block
    assert f"signed for pci-dss: by {THANDI}" in story.checklist.out
    assert re.search(r"PASS \(\d{4}-\d\d-\d\d \[1\]\) settings\.valid", story.checklist.out)


def test_the_checklist_as_data_says_the_same(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each line has its status and what it rests on; with --strict an open line is exit 1."""
    flags = Flags("production", str(story.cli.spec), json=True)
    found = data(lambda: people.checklist(flags, strict=True), 1, capsys)
    assert found["evidenced"] + found["signed"] + found["open"] == len(found["lines"]) == len(LINES)
    assert {line["row"] for line in found["lines"]} == {f"G{number}" for number in range(1, 22)}
    for line in found["lines"]:
        assert line["by"], line
        assert line["status"] == "open" or all(part["holds"] for part in line["by"]), line
        assert all(part["do"] for part in line["by"] if not part["holds"]), line
    signed = [line for line in found["lines"] if line["status"] == "signed"]
    assert [part["name"] for line in signed for part in line["by"]] == ["pci-dss"]


def test_before_the_first_run_every_line_says_what_to_do(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """The checklist of an environment without any record starts nothing; no line is left unexplained."""
    flags = Flags("sandbox", str(story.cli.spec), json=True)
    found = data(lambda: people.checklist(flags), 0, capsys)
    assert len(found["lines"]) == len(LINES)
    for line in found["lines"]:
        assert line["status"] in ("evidenced", "open")
        assert line["status"] == "evidenced" or any(part["do"] for part in line["by"]), line
    assert not story.cli.state.exists()


def test_duties_are_listed_overdue_first(story: Story) -> None:
    """What is late stands on top with how to put it on record, and the exit code says that something is."""
    assert story.duties.code == 1
    table = [line.split()[:2] for line in story.duties.out.splitlines() if re.match(r"(OVERDUE|ok) ", line)]
    assert table == [["OVERDUE", "rotate-credentials"], ["ok", "review-payment-logs"], ["ok", "test-webhooks"]]
    assert "settings.valid" in story.duties.out
    assert "./inv attest rotate-credentials --env production" in story.duties.out
    assert max(map(len, story.duties.out.splitlines())) <= 80


def test_a_workflow_gets_the_duties_as_its_summary(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """A scheduled job leaves the table and the warnings; text of pipeline.yaml cannot break the table."""
    found = data(lambda: people.duties(Flags("production", str(story.cli.spec), json=True)), 1, capsys)
    assert (found["overdue"], found["duties"][0]["duty"]) == (1, "rotate-credentials")
    text = story.summary.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(PEOPLE["duties"])
    assert "::warning title=Duty overdue::rotate-credentials" in story.duties.err


def attest(spec: Path, item: str, capsys: pytest.CaptureFixture[str], **how: str) -> tuple[int, str]:
    """`./inv attest` from its flags on, in this process; its exit code and what it said on stderr."""
    code = people.attest(Flags("production", str(spec)), item, **{"evidence": "seen it", **how})
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("item", "how", "code", "said"),
    [
        ("pci-ds", {}, 2, "Did you mean pci-dss?"),
        ("pci-dss", {"evidence": ""}, 2, "--evidence has 0 characters"),
        ("pci-dss", {"evidence": "no-such.pdf"}, 2, "there is no such file"),
        ("pci-dss", {"valid_for": "91d"}, 2, "allows 1 min to 90 d"),
        ("pci-dss", {"key": "nowhere"}, 1, "there is no key"),
    ],
)
def test_mistakes_are_told_and_nothing_is_signed(
    story: Story, capsys: pytest.CaptureFixture[str], item: str, how: dict[str, str], code: int, said: str
) -> None:
    """A wrong name, missing evidence, too long a time or no key ends before anything is written."""
    before = (story.cli.folder / "attestations/production/pci-dss.json").read_bytes()
    ended, err = attest(story.cli.spec, item, capsys, **how)
    assert (ended, said in err) == (code, True), err
    assert (story.cli.folder / "attestations/production/pci-dss.json").read_bytes() == before


def test_what_is_bound_to_a_revision_is_signed_for_in_a_clean_tree_only(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody signs for a revision while looking at files that differ from it."""
    text = story.cli.spec.read_text("utf-8")
    story.cli.spec.write_text(text + " ", "utf-8")
    code, err = attest(story.cli.spec, "documentation-current", capsys, key=str(story.key))
    story.cli.spec.write_text(text, "utf-8")
    assert (code, "since the last commit" in err) == (1, True), err
    assert attest(story.cli.spec, "documentation-current", capsys, key=str(story.key)) == (0, "")


def test_outside_git_nothing_is_signed(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record without a revision would be bound to nothing."""
    spec = tmp_path / "pipeline.yaml"
    spec.write_bytes(story.cli.spec.read_bytes())
    code, err = attest(spec, "pci-dss", capsys, key=str(story.key))
    assert (code, "revision" in err) == (1, True), err
    assert not (tmp_path / "attestations").exists()


def test_an_offline_validation_is_not_the_validation_of_the_guide(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row G4 stays open while only the gates that need no network were asked."""
    found = data(lambda: people.checklist(Flags("production", str(story.cli.spec), json=True)), 0, capsys)
    (line,) = [line for line in found["lines"] if line["row"] == "G4"]
    assert (line["status"], line["by"][0]["run"]) == ("open", "")
    assert "./inv validate --env production" in line["by"][0]["do"]


def test_nothing_is_answered_from_an_altered_record(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once an entry of the journal was changed, the checklist and the duties refuse and name the entry."""
    kept = Path(".tollgate/production/journal.sqlite")
    (tmp_path / kept).parent.mkdir(parents=True)
    shutil.copy(story.cli.folder / kept, tmp_path / kept)
    spec = tmp_path / "pipeline.yaml"
    shutil.copy(story.cli.spec, spec)
    assert people.checklist(Flags("production", str(spec))) == 0
    with closing(sqlite3.connect(tmp_path / kept)) as connection, connection:
        connection.execute("UPDATE entries SET data = replace(data, 'ADVICE', 'PASS') WHERE kind = 'finding'")
    capsys.readouterr()
    for verb in (people.checklist, people.duties):
        assert verb(Flags("production", str(spec))) == 1
        said = capsys.readouterr()
        assert (said.out, "was changed" in said.err, "./inv audit --env production" in said.err) == ("", True, True)


def test_a_signer_is_told_what_else_must_be_committed(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that only this machine has would leave the record void everywhere else."""
    clone = Cli(tmp_path / "clone")
    git(tmp_path, "clone", "-q", str(story.cli.folder), str(clone.folder))
    git(clone.folder, "config", "user.email", THANDI)
    (clone.folder / "review.md").write_text("Looked at everything", "utf-8")
    how = {"evidence": str(clone.folder / "review.md"), "key": str(story.key)}
    signed = data(lambda: people.attest(Flags("production", str(clone.spec), json=True), "pci-dss", **how), 0, capsys)
    assert signed["to_commit"] == [*signed["files"], "review.md"]


@pytest.mark.parametrize(("outcome", "proven"), [("done", True), ("restored", False)])
def test_what_a_deploy_proved_of_a_release_that_is_gone_is_no_evidence(outcome: str, proven: bool) -> None:
    """Proofs of a release that was taken back say nothing of the one that serves; gates and the way back do."""
    tale = runs.Tale()
    tale.starts(environment="production")
    tale.check("gates", "settings.valid")
    tale.check("prove", "health.ready")
    tale.check("prove", "payment.is_paid", "PASS" if proven else "FAIL")
    if not proven:
        tale.tell(Kind.WAYBACK_STARTED, why="payment.is_paid failed", release=runs.PREVIOUS)
        tale.found("prove", "webhook.refuses_unsigned")
    tale.ends(outcome, 0 if proven else 3, "ended")
    found = people._last_findings(tale.entries, "production")
    assert ("health.ready" in found, "payment.is_paid" in found) == (proven, proven)
    assert found["settings.valid"].verdict.promotes
    assert ("webhook.refuses_unsigned" in found) is not proven
    assert people._last_findings(tale.entries, "staging") == {}
