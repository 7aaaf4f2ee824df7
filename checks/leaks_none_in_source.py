"""leaks.none_in_source: what git keeps, or would keep with the next commit, holds none of the run's secrets."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from checks.facts import leaks
from checks.facts.leaks import Search
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import FromDotenv, NoParams
from pipeline.verdict import Finding, inconclusive

_GIT_LIMIT_S = 60.0
_NOT_SOURCE = frozenset({".git", ".venv", ".tollgate", "node_modules"})
"""Folders left out where no git says what belongs to the source."""


@or_finding
async def gather(world: World, _params: NoParams) -> Search:
    if any((folder / ".git").exists() for folder in (world.root, *world.root.parents)):
        files, where = await _kept_by_git(world.root), "the source tree (git)"
    else:
        sources = {world.root / s.dotenv for s in world.environment.settings_from if isinstance(s, FromDotenv)}
        built = world.root / world.spec.release.produces
        files = [path for path in _walk(world.root) if path not in sources and built not in path.parents]
        where = "the source tree (no git checkout: every file but the dotenv sources and what the build makes)"
    named = [(str(path.relative_to(world.root)), path) for path in files]
    return await asyncio.to_thread(leaks.search, named, leaks.held(world), where)


async def _kept_by_git(folder: Path) -> list[Path]:
    """Every file git tracks or would add, submodules and nested checkouts included. Raises Unjudged."""
    argv = ("git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=folder, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
    except OSError as error:
        raise Unjudged(_no_list(folder, str(error))) from error
    try:
        async with asyncio.timeout(_GIT_LIMIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        raise Unjudged(_no_list(folder, f"git took longer than {_GIT_LIMIT_S:g} s")) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Unjudged(_no_list(folder, err.decode("utf-8", "replace").strip()))
    files: list[Path] = []
    for name in dict.fromkeys(os.fsdecode(out).split("\0")):
        path = folder / name
        if name and path.is_dir() and not path.is_symlink():
            files += await _kept_by_git(path) if (path / ".git").exists() else []
        elif name:
            files.append(path)
    return files


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


@unless_finding
def judge(found: Search, _params: NoParams) -> Finding:
    return leaks.verdict(
        found,
        "Take the value out of the file, read it from a source under settings_from, and make a new credential at the "
        "gateway: what was once committed or copied is known.",
    )


CHECK = Check(
    name="leaks.none_in_source",
    promise="No file that git keeps or would keep holds one of the run's secrets, plain or encoded.",
    rows=("G3", "G12", "T4", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    why="A credential in version control is a credential everybody has who ever cloned it.",
)
