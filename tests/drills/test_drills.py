"""The drills: every fault is caught, and what judges them fails when it must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Exit
from pipeline.events import Entry, Kind
from sandbox.drills.faults import FAULTS, Fault
from sandbox.drills.judge import Standing, caught_by, compare, problems_of_run, problems_of_secrets
from sandbox.drills.scene import Ended, Scene

HOME = Path(__file__).resolve().parents[2]
OF_THE_ISSUE = {
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
GOOD = Standing("1-old", "verified", False, 200)
CLOSED = Standing("1-old", "verified", True, 503)
PROOF = Fault("f", "It is broken.", frozenset({"proof.one", "proof.two"}), int(Exit.RESTORED))


def fault(exit_code: int, *caught: str) -> Fault:
    return Fault("f", "It is broken.", frozenset(caught), exit_code)


def ended(code: int) -> Ended:
    return Ended(code, "what it printed", "")


# ---- judging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "code", "step", "after", "problems"),
    [
        (PROOF, 3, "proof.one", GOOD, []),
        (PROOF, 3, "proof.two", GOOD, []),
        (PROOF, 0, "proof.one", GOOD, ["exit 0, expected 3"]),
        (PROOF, 3, "watch.one", GOOD, ["caught by watch.one, expected proof.one or proof.two"]),
        (PROOF, 3, "", GOOD, ["caught by nothing"]),
        (PROOF, 3, "proof.one", Standing("2-new", "verified", False, 200), ["I2: 1-old should be live"]),
        (PROOF, 3, "proof.one", Standing("1-old", "bad", False, 200), ["I2: 1-old should be live"]),
        (PROOF, 3, "proof.one", Standing("1-old", "verified", False, 0), ["I2: 1-old should be live"]),
        (PROOF, 3, "proof.one", CLOSED, ["I2: 1-old should be live"]),
        (fault(1, "gate"), 1, "gate", GOOD, []),
        (fault(1, "gate"), 1, "gate", CLOSED, ["I2: 1-old should be live"]),
        (fault(4, "proof"), 4, "proof", CLOSED, []),
        (fault(4, "proof"), 4, "proof", GOOD, ["I2: the service should be closed"]),
        (fault(4, "proof"), 4, "proof", Standing("1-old", "verified", True, 200), ["I2: the service should be closed"]),
        (fault(-9), -9, "", CLOSED, []),
        (fault(-9), 0, "", GOOD, ["exit 0, expected -9"]),
    ],
)
def test_judging_a_run(given: Fault, code: int, step: str, after: Standing, problems: Sequence[str]) -> None:
    """A drill is as it must be only with the right exit code, the right catcher, and the service as I2 says."""
    found = problems_of_run(given, ended(code), step, GOOD, after)
    assert len(found) == len(problems)
    for told, expected in zip(found, problems, strict=True):
        assert told.startswith(expected)


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
    """All faults have a drill, a sentence, and a way to be caught; only a struck runner catches nothing itself."""
    assert set(FAULTS) == OF_THE_ISSUE
    for name, one in FAULTS.items():
        assert one.name == name
        assert one.promise.endswith(".")
        assert one.caught_by or one.strike is not None


# ---- all of them -------------------------------------------------------------------------------------------


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_every_fault_is_caught(tmp_path: Path) -> None:
    """`drill --all` ends with 0: every fault caught, the service known good or closed, I1 and I3 hold."""
    spec = tmp_path / "pipeline.yaml"
    spec.write_bytes((HOME / "pipeline.yaml").read_bytes())
    argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), "drill", "--all", "--json"]
    argv += ["--spec", str(spec)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=880, check=False)
    table = json.loads(done.stdout)
    problems = {row["fault"]: row["problems"] for row in table["drills"] if row["problems"]}
    assert (problems, done.returncode, table["ok"]) == ({}, 0, True), done.stderr
    assert {row["fault"] for row in table["drills"]} == OF_THE_ISSUE
    assert all(row["caught_by"] for row in table["drills"])
