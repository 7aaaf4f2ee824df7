"""`./inv`: the environment it makes, when it makes it anew, and what it passes on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
TASKS = """
from invoke import task

@task
def where(c):
    import os, sys
    print(os.getcwd(), sys.prefix)

@task
def report(c, run="", json=False):
    print(f"run={run} json={json}")
"""


def only_invoke(lock: Path) -> str:
    """The lines of a lock file that pin Invoke, hashes included."""
    found = re.search(r"^invoke==.*?(?=^\S)", lock.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real `inv`, a lock that holds Invoke alone, and two small tasks."""
    home = tmp_path_factory.mktemp("a home with spaces")
    shutil.copy(HOME / "inv", home)
    (home / "tasks.py").write_text(TASKS)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (home / name).write_text(only_invoke(HOME / "requirements.txt"))
    return home


def inv(home: Path, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(home / "inv"), *args], cwd=cwd or home, capture_output=True, text=True, timeout=100)


def test_first_call_makes_the_environment_and_the_next_finds_it(home: Path, tmp_path: Path) -> None:
    """The first call makes .venv beside `inv`; the next ones, from any folder, install nothing."""
    first, second = inv(home, "where"), inv(home, "where", cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "making .venv" in first.stderr
    assert second.stderr == ""
    assert second.stdout.split("\n")[0] == f"{tmp_path} {home / '.venv'}"


def test_changed_lock_makes_the_environment_anew(home: Path) -> None:
    """When the lock file changed, .venv is made anew before anything runs."""
    assert inv(home, "where").returncode == 0
    (home / ".venv" / "left-behind").touch()
    with (home / "requirements.txt").open("a") as lock:
        lock.write("# changed\n")
    again = inv(home, "where")
    assert again.returncode == 0
    assert "making .venv" in again.stderr
    assert not (home / ".venv" / "left-behind").exists()


def test_wrong_hash_installs_nothing_and_is_tried_again(home: Path, tmp_path: Path) -> None:
    """A package whose hash is not the locked one is refused, nothing runs, and the next call tries again."""
    other = tmp_path / "other"
    shutil.copytree(home, other, ignore=shutil.ignore_patterns(".venv*"))
    lock = other / "requirements.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    for _ in range(2):
        refused = inv(other, "where")
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert "installing requirements.txt failed" in refused.stderr


def test_run_of_a_report_may_stand_alone(home: Path) -> None:
    """`./inv report RUN` and `./inv report --run RUN` are the same."""
    assert inv(home, "report", "20260101-000000-abcd", "--json").stdout == "run=20260101-000000-abcd json=True\n"
    assert inv(home, "report", "--run", "x").stdout == "run=x json=False\n"
    assert inv(home, "report").stdout == "run= json=False\n"


def test_exit_code_of_invoke_is_passed_on(home: Path) -> None:
    """What Invoke ends with, `./inv` ends with."""
    assert inv(home, "no-such-task").returncode == 1
