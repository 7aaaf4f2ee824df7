"""How the checks ask git, with a stand-in for git where it must misbehave."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from checks.facts import repository
from checks.facts.repository import GitFailed


def test_git_keeps_the_operators_configuration_alone() -> None:
    """`safe.directory` may be given by the environment; another repository, or a command of a hook's, may not."""
    given = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_GLOBAL": "/c",
        "GIT_CONFIG_PARAMETERS": "p",
        "GIT_DIR": "/d",
        "A": "b",
    }
    kept = repository.environment(given)
    assert {name: kept.get(name) for name in given} == {**given, "GIT_CONFIG_PARAMETERS": None, "GIT_DIR": None}


@pytest.fixture
def odd_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is called in place of git, once a test has written it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    git = tmp_path / "git"
    git.touch()
    git.chmod(0o755)
    return git


async def test_a_git_that_is_given_up_is_ended_with_all_it_started(odd_git: Path) -> None:
    """A program that git started and that holds its output open keeps no check waiting."""
    child = odd_git.with_name("child")
    odd_git.write_text("#!/bin/sh\nsleep 300 & echo $! > new; mv new child; wait\n")
    asked = asyncio.create_task(repository.output(odd_git.parent, "status"))
    async with asyncio.timeout(60):
        while not child.exists():
            await asyncio.sleep(0.02)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        state = Path(f"/proc/{child.read_text().strip()}/stat")
        while state.exists() and ") Z " not in state.read_text():
            await asyncio.sleep(0.02)


async def test_a_git_that_does_not_end_is_no_answer(odd_git: Path) -> None:
    """Past its time limit git has said nothing."""
    odd_git.write_text("#!/bin/sh\nexec sleep 300\n")
    with pytest.raises(GitFailed, match="longer than"):
        await repository.output(odd_git.parent, "status", limit_s=0.1)


async def test_a_git_that_complains_at_length_is_heard(odd_git: Path) -> None:
    """More than a pipe holds on stderr does not stop git; the first line of it is told."""
    odd_git.write_text("#!/bin/sh\necho first >&2\nyes complaint | head -c 300000 >&2\nexit 128\n")
    with pytest.raises(GitFailed) as raised:
        await repository.output(odd_git.parent, "status")
    assert str(raised.value) == "first"
