"""The workflows: they call only `./inv`, hold no more rights than they need, and never drop a deploy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHANGING = [path for path in FILES if path.name in ("deploy.yml", "rollback.yml")]
every_workflow = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
every_changing_workflow = pytest.mark.parametrize("path", CHANGING, ids=lambda path: path.name)


def _read(path: Path) -> Mapping[Any, Any]:
    return yaml.safe_load(path.read_text("utf-8"))  # type: ignore[no-any-return]


def _jobs(path: Path) -> list[Mapping[str, Any]]:
    return list(_read(path)["jobs"].values())


def _steps(path: Path) -> Iterator[Mapping[str, Any]]:
    for job in _jobs(path):
        yield from job["steps"]


def test_the_workflows_are_there() -> None:
    """Tests, deploy, duties and rollback each have a workflow."""
    assert [path.name for path in FILES] == ["ci.yml", "deploy.yml", "duties.yml", "rollback.yml"]


def test_actionlint_finds_nothing() -> None:
    """GitHub will accept the workflows as they are written."""
    actionlint = Path(sys.executable).with_name("actionlint")
    done = subprocess.run([actionlint, *FILES], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@every_workflow
def test_only_inv_is_called(path: Path) -> None:
    """Whatever a job does, a person can do with the same command."""
    commands = [step["run"] for step in _steps(path) if "run" in step]
    assert commands
    for command in commands:
        assert re.fullmatch(r"(?:exec )?(?:\./inv [a-z-]+|\.ci/run)(?: [^\n;|&`<>]*)?", command), command


@every_workflow
def test_no_input_stands_in_a_command(path: Path) -> None:
    """Nobody can write a command into a form field: values reach the shell as variables."""
    for step in _steps(path):
        assert "${{" not in step.get("run", "")
        for variable in re.findall(r"\$\{?([A-Z_]+)", step.get("run", "")):
            assert re.search(rf'"\$\{{?{variable}\}}?"|\$\{{{variable}:\+', step["run"]), variable


@every_workflow
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """A tag that is moved changes nothing here, and the release stands beside the commit."""
    uses = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    assert uses
    for one in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


@every_workflow
def test_jobs_have_few_rights_and_an_end(path: Path) -> None:
    """A job reads the repository and no more, keeps no token in the checkout, and does not run for ever."""
    assert _read(path)["permissions"] == {"contents": "read"}
    for job in _jobs(path):
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 360
    for step in _steps(path):
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


@every_changing_workflow
def test_no_run_is_dropped_or_cut_off(path: Path) -> None:
    """Deploys to one environment wait for each other; none is cancelled by a newer one."""
    for job in _jobs(path):
        assert "inputs.environment" in job["concurrency"]["group"]
        assert job["concurrency"]["cancel-in-progress"] is False
        assert job["concurrency"]["queue"] == "max"


@every_changing_workflow
def test_the_protection_of_the_environment_applies(path: Path) -> None:
    """A deploy to production asks for the approval that the environment demands."""
    assert [job["environment"] for job in _jobs(path)] == ["${{ inputs.environment }}"]


@every_changing_workflow
def test_the_record_survives_the_next_job(path: Path) -> None:
    """Checking out does not delete the journal and the lease, and no cache pretends to be them."""
    uses = [step for step in _steps(path) if "uses" in step]
    assert [step["with"]["clean"] for step in uses if "actions/checkout" in step["uses"]] == [False]
    assert not [step for step in uses if "cache" in step["uses"]]


@every_changing_workflow
def test_the_engine_gets_the_signal_of_a_cancelled_job(path: Path) -> None:
    """Only the step's own process is told of a cancellation, so the engine is that process."""
    changing = [step["run"] for step in _steps(path) if re.search(r"inv (?:deploy|rollback)", step.get("run", ""))]
    assert changing
    assert all(command.startswith("exec ./inv ") for command in changing)


@every_changing_workflow
def test_reports_are_kept_whatever_happened(path: Path) -> None:
    """After a failure, too, the report is there to be read, though its folder is a hidden one."""
    uploads = [step for step in _steps(path) if "actions/upload-artifact" in step.get("uses", "")]
    assert [step["if"] for step in uploads] == ["always()"]
    assert uploads[0]["with"]["path"] == ".tollgate/${{ inputs.environment }}/reports/"
    assert uploads[0]["with"]["include-hidden-files"] is True


@every_changing_workflow
def test_all_settings_are_handed_over_by_name(path: Path) -> None:
    """Each declared setting comes from the environment's secrets or variables; a secret is never a variable."""
    declared = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))["settings"]
    given = next(step["env"] for step in _steps(path) if step.get("run", "").startswith("exec ./inv"))
    for name, setting in declared.items():
        store = "secrets" if setting["type"] == "secret" else "vars"
        assert given[name] == f"${{{{ {store}.{name} }}}}"
    assert not [job for job in _jobs(path) if set(declared) & set(job.get("env", {}))]


@every_changing_workflow
def test_whoever_the_shipped_pipeline_tells_can_be_told_from_a_job(path: Path) -> None:
    """The address of every notice that pipeline.yaml has, or shows how to write, reaches the step that changes."""
    named = set(re.findall(r"address_from: (\w+)", (ROOT / "pipeline.yaml").read_text("utf-8")))
    given = next(step["env"] for step in _steps(path) if step.get("run", "").startswith("exec ./inv"))
    called = _read(path)[True].get("workflow_call", {}).get("secrets", named)
    assert named
    assert named <= set(called)
    assert {name: given.get(name) for name in named} == {name: f"${{{{ secrets.{name} }}}}" for name in named}
