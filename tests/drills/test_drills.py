"""The drills: every fault is caught, and what judges them fails when it must."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.events import Entry, Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor
from sandbox.drills.fault import Fault, Leaves, deploy, nothing
from sandbox.drills.faults import FAULTS
from sandbox.drills.judge import Standing, caught_by, compare, problems_of_run, problems_of_secrets
from sandbox.drills.scene import Amiss, Ended, Scene

HOME = Path(__file__).resolve().parents[2]
OF_A_DEPLOY = {
    "secret-in-bundle",
    "wrong-api-secret",
    "test-mode-on",
    "accepts-unsigned-webhook",
    "webhook-not-idempotent",
    "webhook-500",
    "activates-without-payment",
    "ignores-amount",
    "slow-initialisation",
    "error-rate-30",
    "never-ready",
    "crash-on-start",
    "runner-killed",
    "restore-of-settings-fails",
    "gateway-down-during-proof",
}
OF_THE_WAY_BACK = {
    "killed-between-settings-and-release",
    "killed-before-reopening",
    "reconcile-killed",
    "lost-webhook",
    "duplicate-webhook-across-the-switch",
    "late-webhook-while-closed",
    "closed-by-a-person",
    "disk-full",
    "rival-deploy",
    "rival-rollback",
    "paused-owner",
    "settings-drifted",
    "release-damaged",
    "half-built-newest",
    "switch-broken",
    "way-back-fails-too",
    "gateway-down-in-rollback",
    "supervisor-killed",
    "live-process-killed",
    "sigterm-in-the-middle",
    "ctrl-c-in-the-gates",
    "rollback-of-a-running-deploy",
    "journal-altered",
    "journal-cut-off",
}
STAGES = 4
"""On so many stages of their own the faults are played, so that workers share them."""
GOOD = Standing("1-old", "verified", False, 200)
NEWER = Standing("2-new", "verified", False, 200)
CLOSED = Standing("1-old", "verified", True, 503)


def fault(exit_code: int, leaves: Leaves, *caught: str) -> Fault:
    return Fault("f", "It is broken.", (deploy(exit_code),), leaves, frozenset(caught))


PROOF = fault(3, Leaves.AS_BEFORE, "proof.one", "proof.two")
BEFORE = "I2: expected the release before is live"


def ended(code: int, *problems: str) -> Ended:
    return Ended(code, "what it printed", "", problems)


# ---- judging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "code", "step", "after", "problems"),
    [
        (PROOF, 3, "proof.one", GOOD, []),
        (PROOF, 3, "proof.two", GOOD, []),
        (PROOF, 0, "proof.one", GOOD, ["exit 0, expected 3"]),
        (PROOF, 3, "watch.one", GOOD, ["caught by watch.one, expected proof.one or proof.two"]),
        (PROOF, 3, "", GOOD, ["caught by nothing"]),
        (PROOF, 3, "proof.one", NEWER, [BEFORE]),
        (PROOF, 3, "proof.one", Standing("1-old", "bad", False, 200), [BEFORE]),
        (PROOF, 3, "proof.one", Standing("1-old", "verified", False, 0), [BEFORE]),
        (PROOF, 3, "proof.one", CLOSED, [BEFORE]),
        (fault(1, Leaves.AS_BEFORE, "gate"), 1, "gate", GOOD, []),
        (fault(1, Leaves.AS_BEFORE, "gate"), 1, "gate", CLOSED, [BEFORE]),
        (fault(4, Leaves.CLOSED, "proof"), 4, "proof", CLOSED, []),
        (fault(4, Leaves.CLOSED, "proof"), 4, "proof", GOOD, ["I2: expected closed"]),
        (fault(4, Leaves.CLOSED), 4, "", Standing("1-old", "verified", True, 200), ["I2: expected closed"]),
        (fault(0, Leaves.ANOTHER), 0, "", NEWER, []),
        (fault(0, Leaves.ANOTHER), 0, "", GOOD, ["I2: expected another release"]),
        (fault(0, Leaves.A_PERSONS), 0, "", CLOSED, []),
        (fault(0, Leaves.A_PERSONS), 0, "", GOOD, ["I2: expected the release before is live behind the door"]),
        (fault(0, Leaves.A_PERSONS), 0, "", Standing("2-new", "verified", True, 503), ["I2: expected the release"]),
        (fault(-9, Leaves.UNFINISHED), -9, "", CLOSED, []),
        (fault(-9, Leaves.UNFINISHED), 0, "", GOOD, ["exit 0, expected -9"]),
    ],
)
def test_judging_a_run(given: Fault, code: int, step: str, after: Standing, problems: Sequence[str]) -> None:
    """A drill is as it must be only with the right exit code, the right catcher, and the service as I2 says."""
    found = problems_of_run(given, [ended(code)], step, GOOD, after)
    assert len(found) == len(problems)
    for told, expected in zip(found, problems, strict=True):
        assert told.startswith(expected)


def test_every_command_of_a_drill_is_judged() -> None:
    """A first command that ends otherwise, and what a strike saw amiss, are problems although the last one is right;
    so is a stage that was not good before."""
    two = Fault("f", "It is broken.", (deploy(1), deploy(0)), Leaves.AS_BEFORE)
    assert problems_of_run(two, [ended(1), ended(0)], "", GOOD, GOOD) == []
    (told,) = problems_of_run(two, [ended(0), ended(0)], "", GOOD, GOOD)
    assert told.startswith("exit 0, expected 1")
    assert problems_of_run(two, [ended(1, "never struck"), ended(0)], "", GOOD, GOOD) == ["never struck"]
    (told,) = problems_of_run(fault(4, Leaves.CLOSED), [ended(4)], "", CLOSED, CLOSED)
    assert told.startswith("I2: the stage should have been known good before")


async def test_a_moment_that_never_came_is_told(tmp_path: Path) -> None:
    """A fault that struck nothing has shown nothing, however well the command ended."""

    async def strike(_scene: Scene, _process: asyncio.subprocess.Process) -> None:
        raise AssertionError("there was nothing to strike")

    scene = Scene(tmp_path)
    (tmp_path / "pipeline.yaml").write_bytes((HOME / "pipeline.yaml").read_bytes())
    done = await scene.struck(["checks", "--json"], at=(Kind.STEP_FINISHED, "release.switch"), strike=strike)
    assert (done.code, done.problems) == (0, ("it ended before the moment to strike: step.finished release.switch",))


@pytest.mark.parametrize("error", [Amiss("it is open"), OSError("no such process")])
async def test_what_a_strike_saw_amiss_is_told(tmp_path: Path, error: Exception) -> None:
    """What goes wrong while a fault strikes is a problem of the drill, and never lost."""

    async def strike(_scene: Scene, process: asyncio.subprocess.Process) -> None:
        process.send_signal(signal.SIGCONT)
        raise error

    async def record() -> None:
        await asyncio.to_thread(append)

    def append() -> None:
        with Journal.open(scene.journal, clock=SystemClock(), redactor=Redactor([])) as journal:
            journal.append("run-1", Kind.STEP_FINISHED, {"step": "release.switch"})

    scene = Scene(tmp_path)
    scene.state.mkdir(parents=True)
    (tmp_path / "pipeline.yaml").write_bytes((HOME / "pipeline.yaml").read_bytes())
    at = (Kind.STEP_FINISHED, "release.switch")
    done, _ = await asyncio.gather(scene.struck(["checks", "--json"], at=at, strike=strike), record())
    assert len(done.problems) == 1
    assert str(error) in done.problems[0]


@pytest.mark.parametrize(
    ("payments", "active", "problems"),
    [
        ([("a", "PAID")], {"a": 1}, 0),
        ([("a", "PAID"), ("b", "PENDING")], {"a": 1}, 0),
        ([("a", "PAID")], {}, 1),
        ([("a", "PAID")], {"a": 2}, 1),
        ([("a", "PENDING")], {"a": 1}, 1),
        ([("a", "PAID"), ("a", "PAID")], {"a": 1}, 1),
        ([("a", "PAID"), ("b", "PAID")], {"c": 1}, 3),
        ([("a", "PENDING")], {"stranger": 1}, 1),
        ([], {}, 1),
    ],
)
def test_judging_the_books(payments: Sequence[tuple[str, str]], active: Mapping[str, int], problems: int) -> None:
    """I1 holds when paid and activated agree one to one; with no payment at all nothing was measured."""
    rows = [{"reference": reference, "status": status} for reference, status in payments]
    found = compare(rows, active)
    assert len(found) == problems
    assert all(problem.startswith("I1: ") for problem in found)


def entry(kind: Kind, after_s: float, **data: Any) -> Entry:
    return Entry(1, "run", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=after_s), kind, data, "", "")


def test_who_caught_it() -> None:
    """The first error of a run names the step and its time; a run without one was caught by nobody."""
    started, failed = entry(Kind.RUN_STARTED, 1.0), entry(Kind.RUN_FAILED, 3.5, step="proof.one")
    assert caught_by([started, failed, entry(Kind.RUN_FAILED, 9.0, step="later")]) == ("proof.one", 2.5)
    assert caught_by([started]) == caught_by([]) == ("", None)


@pytest.mark.parametrize("where", ["printed", "log", "nowhere"])
def test_judging_secrets(tmp_path: Path, where: str) -> None:
    """I3: a secret that was printed or left in a file is found; in the places where it belongs it is no problem."""
    scene, secret = Scene(tmp_path), os.urandom(16).hex()
    scene.settings.parent.mkdir(parents=True)
    scene.settings.write_text(f"VITE_IKHOKHA_API_SECRET={secret}\n")
    log = scene.area / "run" / "release.log"
    log.parent.mkdir(parents=True)
    log.write_text(secret[::-1] if where == "log" else "nothing")
    scene.printed.append(secret.upper() if where == "nowhere" else secret if where == "printed" else "")
    found = problems_of_secrets(scene)
    assert [problem.split(":")[0] for problem in found] == ([] if where == "nowhere" else ["I3"])


def test_without_a_known_secret_nothing_was_searched(tmp_path: Path) -> None:
    """A drill that knows no secret has not shown that none leaked."""
    assert problems_of_secrets(Scene(tmp_path)) == ["I3: no secret was known, so nothing was searched"]


def test_every_fault_of_the_guide_is_in_the_table() -> None:
    """All faults have a drill, a sentence, commands with their exits, and somebody who catches them."""
    assert set(FAULTS) == OF_A_DEPLOY | OF_THE_WAY_BACK
    for name, one in FAULTS.items():
        assert one.name == name
        assert one.promise.endswith(".")
        assert one.commands
        assert one.caught_by or one.catcher
        assert len(one.commands) > 1 or one.caught_by or one.prepare is not nothing or one.commands[0].strike


def test_the_page_of_the_drills_names_every_fault() -> None:
    """Whoever wants to know what was rehearsed finds each fault with what is typed and how it must end."""
    page = (HOME / "docs" / "drills.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE) == list(FAULTS)


# ---- all of them -------------------------------------------------------------------------------------------


def test_every_fault_is_played() -> None:
    """The stages below leave none out."""
    assert sorted(name for number in range(STAGES) for name in on_stage(number)) == sorted(FAULTS)


def on_stage(number: int) -> list[str]:
    return list(FAULTS)[number::STAGES]


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(STAGES))
def test_every_fault_is_caught(tmp_path: Path, number: int) -> None:
    """`drill` ends with 0: every fault caught, the service known good or closed, I1 and I3 hold."""
    spec = tmp_path / "pipeline.yaml"
    spec.write_bytes((HOME / "pipeline.yaml").read_bytes())
    argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), "drill", "--json", "--spec", str(spec)]
    argv += ["--fault", ",".join(on_stage(number))]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=880, check=False)
    table = json.loads(done.stdout)
    problems = {row["fault"]: row["problems"] for row in table["drills"] if row["problems"]}
    assert (problems, done.returncode, table["ok"]) == ({}, 0, True), done.stderr
    assert [row["fault"] for row in table["drills"]] == on_stage(number)
    assert all(row["caught_by"] and row["commands"] for row in table["drills"])
