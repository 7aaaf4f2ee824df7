"""The files that belong to the source: what git keeps or would keep with the next commit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checks.facts import checkouts as git
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
    """Gathered once per run. Raises Unjudged when git cannot list the files."""
    return await world.facts.once(("source tree", world.root), lambda: _gather(world))


async def _gather(world: World) -> SourceTree:
    root = os.fspath(world.root)
    if not git.inside_checkout(world.root):
        sources = {world.root / s.dotenv for s in world.environment.settings_from if isinstance(s, FromDotenv)}
        built = world.root / world.spec.release.produces
        files = [path for path in _walk(world.root) if path not in sources and built not in path.parents]
        where = "the source tree (no git checkout: every file but the dotenv sources and what the build makes)"
        return SourceTree(root, tuple(str(path.relative_to(world.root)) for path in files), where)
    try:
        kept = await git.kept(root)
    except git.GitFailed as error:
        raise Unjudged(_no_list(world.root, str(error))) from error
    return SourceTree(root, kept.files, "the source tree (git)", kept.checkouts)


def _no_list(folder: Path, why: str) -> Finding:
    return inconclusive(
        f"git could not list the files of {folder}: {why}",
        "Make `git ls-files` work there (git installed; the folder yours, or a `safe.directory`), then run again.",
    )


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _NOT_SOURCE)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in sorted(files + links))
