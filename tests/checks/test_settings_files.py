"""settings.files_private, on real files and in real git checkouts."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checks.settings_files_private import CHECK, File, judge
from pipeline.contracts import World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict
from tests.checks.production import environments, production
from tests.checks.worlds import ask

NAME = ".env.production"
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git, a Debian package")


def dotenv(root: Path, mode: int = 0o600, name: str = NAME) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("A=1\n")
    path.chmod(mode)
    return path


def git(root: Path, *argv: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", *argv], cwd=root, env=environment, check=True, capture_output=True)


def checkout(root: Path, ignored: str = ".env*\n") -> None:
    git(root, "init", "-q")
    (root / ".gitignore").write_text(ignored)


def reading(root: Path, *sources: Any) -> World:
    return production(root, environments(production={"settings_from": list(sources)}))


async def asked(root: Path) -> Finding:
    return await ask(CHECK, production(root))


@pytest.mark.parametrize(
    ("mode", "verdict"),
    [
        (0o600, Verdict.PASS),
        (0o400, Verdict.PASS),
        (0o700, Verdict.PASS),
        (0o640, Verdict.FAIL),
        (0o604, Verdict.FAIL),
        (0o620, Verdict.FAIL),
        (0o601, Verdict.FAIL),
    ],
)
async def test_a_settings_file_is_its_owners_alone(tmp_path: Path, mode: int, verdict: Verdict) -> None:
    """No bit for group or others, whichever; the finding names the file, its mode and the command that mends it."""
    dotenv(tmp_path, mode)
    finding = await asked(tmp_path)
    assert finding.verdict is verdict, finding
    if verdict is Verdict.FAIL:
        assert f"{mode:04o}" in finding.reason
        assert finding.remedy == f"chmod 600 {NAME}"
        assert [(place.file, place.line) for place in finding.places] == [(NAME, 1)]
    else:
        assert NAME in finding.reason


async def test_a_file_that_is_not_there_is_no_pass(tmp_path: Path) -> None:
    """Without a file there is nothing to guard, and without a dotenv source nothing to look for: skipped, with why."""
    missing = await asked(tmp_path)
    assert (missing.verdict, f"{NAME}: not on this machine" in missing.reason) == (Verdict.SKIPPED, True)
    none = await ask(CHECK, reading(tmp_path, "environment"))
    assert (none.verdict, "reads no dotenv file" in none.reason) == (Verdict.SKIPPED, True)


async def test_one_of_two_files_may_be_missing(tmp_path: Path) -> None:
    """A file that another source replaces is fine; the one that is there is judged."""
    dotenv(tmp_path)
    finding = await ask(CHECK, reading(tmp_path, {"dotenv": ".env.other"}, {"dotenv": NAME}))
    assert finding.verdict is Verdict.PASS
    dotenv(tmp_path, 0o644, ".env.other")
    finding = await ask(CHECK, reading(tmp_path, {"dotenv": ".env.other"}, {"dotenv": NAME}))
    assert (finding.verdict, finding.remedy) == (Verdict.FAIL, "chmod 600 .env.other")


async def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    """A folder and a pipe hold no settings that could be guarded."""
    (tmp_path / NAME).mkdir(0o700)
    assert "no ordinary file" in (await asked(tmp_path)).reason
    (tmp_path / NAME).rmdir()
    os.mkfifo(tmp_path / NAME, 0o600)
    finding = await asked(tmp_path)
    assert (finding.verdict, "no ordinary file" in finding.reason) == (Verdict.FAIL, True)


async def test_a_folder_open_to_everybody_is_refused(tmp_path: Path) -> None:
    """Where everybody may rename files, everybody may put another file in its place; a sticky folder is right."""
    dotenv(tmp_path)
    tmp_path.chmod(0o777)
    assert (await asked(tmp_path)).verdict is Verdict.FAIL
    tmp_path.chmod(0o1777)
    assert (await asked(tmp_path)).verdict is Verdict.PASS


async def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    """A link to a file that others can read gives it away; one that leads nowhere is a missing file."""
    real = dotenv(tmp_path, 0o644, "kept/elsewhere")
    (tmp_path / NAME).symlink_to(real)
    assert (await asked(tmp_path)).verdict is Verdict.FAIL
    real.chmod(0o600)
    assert (await asked(tmp_path)).verdict is Verdict.PASS
    real.unlink()
    assert (await asked(tmp_path)).verdict is Verdict.SKIPPED
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to(NAME)
    assert (await asked(tmp_path)).verdict is Verdict.INCONCLUSIVE


def test_a_file_of_another_user_is_refused() -> None:
    """Who owns a file can change it; which user that is, is read from the file itself."""
    file = File(NAME, 0o600, regular=True, own=False, folder_open=False, git="no repository")
    finding = judge((file,), NoParams())
    assert (finding.verdict, "belongs to another user" in finding.reason) == (Verdict.FAIL, True)
    assert judge((replace(file, own=True),), NoParams()).verdict is Verdict.PASS


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
async def test_the_owner_is_read_from_the_file(tmp_path: Path) -> None:
    """A file that was given to somebody else is refused."""
    os.chown(dotenv(tmp_path), 12345, 12345)
    assert "belongs to another user" in (await asked(tmp_path)).reason


@needs_git
async def test_git_must_ignore_it(tmp_path: Path) -> None:
    """Ignored passes; not ignored fails with the line to add; tracked fails and says that the history keeps it."""
    checkout(tmp_path)
    dotenv(tmp_path)
    finding = await asked(tmp_path)
    assert (finding.verdict, "ignored by git" in finding.reason) == (Verdict.PASS, True)
    (tmp_path / ".gitignore").write_text("")
    finding = await asked(tmp_path)
    assert (finding.verdict, finding.remedy) == (Verdict.FAIL, f"add {NAME} to .gitignore")
    git(tmp_path, "add", "-f", NAME)
    (tmp_path / ".gitignore").write_text(".env*\n")
    finding = await asked(tmp_path)
    assert (finding.verdict, "is tracked by git" in finding.reason) == (Verdict.FAIL, True)
    assert "new credentials" in finding.remedy


@needs_git
async def test_a_file_to_come_must_be_ignored_before_it_comes(tmp_path: Path) -> None:
    """A missing file that git would take is advised against; one that git ignores is skipped."""
    checkout(tmp_path, "")
    assert (await asked(tmp_path)).verdict is Verdict.ADVICE
    (tmp_path / ".gitignore").write_text(".env*\n")
    assert (await asked(tmp_path)).verdict is Verdict.SKIPPED


@needs_git
async def test_a_file_below_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """The sandbox's file is judged before the sandbox first starts."""
    checkout(tmp_path, ".tollgate/\n")
    made = reading(tmp_path, {"dotenv": ".tollgate/sandbox/settings.env"})
    assert (await ask(CHECK, made)).verdict is Verdict.SKIPPED
    dotenv(tmp_path, name=".tollgate/sandbox/settings.env")
    assert (await ask(CHECK, made)).verdict is Verdict.PASS


@needs_git
async def test_a_link_into_the_tree_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    """An ignored link to a file that git takes hides nothing."""
    checkout(tmp_path)
    real = dotenv(tmp_path, name="settings.txt")
    (tmp_path / NAME).symlink_to(real)
    finding = await asked(tmp_path)
    assert (finding.verdict, "not ignored" in finding.reason) == (Verdict.FAIL, True)


@needs_git
async def test_odd_names_are_paths_and_no_patterns(tmp_path: Path) -> None:
    """A name that git could take for a pattern or a flag is judged as the file it is."""
    checkout(tmp_path, "")
    for name in ("-q.env", ":(top)x.env", "[a]*.env"):
        dotenv(tmp_path, name=name)
        finding = await ask(CHECK, reading(tmp_path, {"dotenv": name}))
        assert (finding.verdict, finding.remedy) == (Verdict.FAIL, f"add {name} to .gitignore"), finding
    dotenv(tmp_path, name="a1.env")
    git(tmp_path, "add", "a1.env")
    finding = await ask(CHECK, reading(tmp_path, {"dotenv": "[a]*.env"}))
    assert "is not ignored by git" in finding.reason


async def test_a_checkout_that_git_cannot_read_is_no_pass(tmp_path: Path) -> None:
    """With a broken repository, or git not installed, nobody can say what git would take."""
    (tmp_path / ".git").mkdir()
    dotenv(tmp_path)
    finding = await asked(tmp_path)
    assert (finding.verdict, bool(finding.remedy)) == (Verdict.INCONCLUSIVE, True)
