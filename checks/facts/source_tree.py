"""The files that belong to the source: what git keeps or would keep with the next commit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checks.facts import repository as git
from checks.facts.folders import below
from checks.judging import Unjudged
from pipeline.contracts import World
from pipeline.spec import FromDotenv
from pipeline.verdict import Finding, inconclusive

_NOT_SOURCE = frozenset({".git", ".venv", ".tollgate", "node_modules"})
"""Folders left out where no git says what belongs to the source."""


@dataclass(frozen=True)
class SourceTree:
    """`files`: names below `root`, `/` between folders. `checkouts`: the git checkouts they lie in, if any."""

    root: str
    files: tuple[str, ...]
    where: str
    checkouts: tuple[str, ...] = ()

    def named(self) -> Iterator[tuple[str, str]]:
        """(printed name, path) of each file."""
        return ((name, f"{self.root}/{name}") for name in self.files)


async def source_tree(world: World) -> SourceTree:
    """Gathered once per run. Raises Unjudged when the files cannot be listed."""
    return await world.facts.once(("source tree", world.root), lambda: _gather(world))


async def _gather(world: World) -> SourceTree:
    root = os.fspath(world.root)
    if not git.inside_checkout(world.root):
        sources = {_path(root, s.dotenv) for s in world.environment.settings_from if isinstance(s, FromDotenv)}
        built = _path(root, world.spec.release.produces) + "/"
        files = [one for one in below(root, left_out=_NOT_SOURCE) if one not in sources and not one.startswith(built)]
        where = "the source tree (no git checkout: every file but the dotenv sources and what the build makes)"
        return SourceTree(root, tuple(one.removeprefix(f"{root}/") for one in files), where)
    try:
        kept, checkouts = await _kept(root)
    except git.GitFailed as error:
        raise Unjudged(_no_list(world.root, str(error))) from error
    return SourceTree(root, kept, "the source tree (git)", checkouts)


async def _kept(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every file git tracks or would add, as paths below `folder`, and each checkout they lie in (submodules and
    nested ones too). Raises git.GitFailed."""
    listed = os.fsdecode(await git.output(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    files: list[str] = []
    checkouts = [folder]
    for name in dict.fromkeys(listed.split("\0")):
        path = f"{folder}/{name}"
        if not name:
            continue
        if not (name.endswith("/") or _is_folder(path)):
            files.append(name)
        elif Path(path, ".git").exists():
            inner, theirs = await _kept(path.rstrip("/"))
            files += [f"{name.rstrip('/')}/{file}" for file in inner]
            checkouts += theirs
    return tuple(files), tuple(checkouts)


def _path(root: str, name: str) -> str:
    return os.path.normpath(f"{root}/{name}")


def _is_folder(path: str) -> bool:
    """Submodules are listed as one name, and so is what lies where git only knows a folder."""
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114 - asked for each file of a tree


def _no_list(folder: Path, why: str) -> Finding:
    return inconclusive(
        f"git could not list the files of {folder}: {why}",
        "Make `git ls-files` work there (git installed; the folder yours, or a `safe.directory`), then run again.",
    )
