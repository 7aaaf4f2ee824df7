"""How a checkout differs from what git has: what is uncommitted or hidden, and which branches have its revision."""

from __future__ import annotations

from pathlib import Path

from checks.facts import repository
from checks.judging import Unjudged


async def changes(root: Path) -> tuple[tuple[str, str], ...]:
    """Every file of the repository that is not as git has it: its path from `root`, and what is wrong with it."""
    status = await repository.ask(
        *(root, "status", "--porcelain=v1", "-z", "--untracked-files=normal", "--ignore-submodules=none"),
        *("--no-renames", "--no-ahead-behind"),
    )
    listed = await repository.ask(root, "ls-files", "-v", "-z", "--full-name", ":/")
    here = (await repository.ask(root, "rev-parse", "--show-prefix")).strip("\n")
    return tuple((seen_from(here, path), what) for path, what in (*entries(status), *hidden(listed)))


def entries(out: str) -> tuple[tuple[str, str], ...]:
    """Path and state of each entry of `git status --porcelain=v1 -z --no-renames`. Total."""
    found = (entry for entry in out.split("\0") if len(entry) > 3)
    return tuple((entry[3:], "untracked" if entry.startswith("??") else "changed") for entry in found)


def hidden(out: str) -> tuple[tuple[str, str], ...]:
    """Of `git ls-files -v -z` the files git was told not to look at, so that a change of them shows nowhere. Total."""
    found = (line for line in out.split("\0") if len(line) > 2 and (line[0].islower() or line[0] == "S"))
    return tuple((line[2:], "hidden from git status") for line in found)


def seen_from(here: str, path: str) -> str:
    """A path from the top of the repository, as seen from its folder `here` (`''`, or with a slash at its end)."""
    return path.removeprefix(here) if path.startswith(here) else "../" * here.count("/") + path


async def with_head(root: Path, branches: tuple[str, ...]) -> tuple[str, ...]:
    """Which of `branches` have HEAD; without `branches`, of all there are and of tags. Raises Unjudged."""
    if not branches:
        refs = ("refs/heads", "refs/remotes", "refs/tags")
        out = await repository.ask(
            root, "for-each-ref", "--contains=HEAD", "--format=%(refname:short)", "--count=20", *refs
        )
        return tuple(out.split())
    found = []
    for branch in branches:
        code, _, err = await repository.answer(
            root, "merge-base", "--is-ancestor", "HEAD", await _full_name(root, branch)
        )
        if code == 0:
            found.append(branch)
        elif code != 1:
            raise Unjudged(
                repository.unanswered(root, ("merge-base", "HEAD", branch), err.strip() or f"exit code {code}")
            )
    return tuple(found)


async def _full_name(root: Path, branch: str) -> str:
    """The branch here or of a remote, as git names it in full: by the short name git would take a tag first."""
    if branch.startswith("refs/"):
        return branch
    remote = f"refs/remotes/{branch}"
    there = (await repository.answer(root, "show-ref", "--verify", "--quiet", remote))[0] == 0
    here = (await repository.answer(root, "show-ref", "--verify", "--quiet", f"refs/heads/{branch}"))[0] == 0
    return remote if there and not here else f"refs/heads/{branch}"
