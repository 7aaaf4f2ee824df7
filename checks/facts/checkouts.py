"""Asking git about the checkout that pipeline.yaml lies in, without anything of the environment steering it."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 60.0


class GitFailed(Exception):
    """Why git could not answer: what it said itself, or that it is missing or too slow."""


@dataclass(frozen=True)
class Kept:
    """Every file git tracks or would add, as paths below `folder`, and each checkout they lie in (nested ones too)."""

    folder: str
    files: tuple[str, ...]
    checkouts: tuple[str, ...]


def inside_checkout(folder: Path) -> bool:
    return any((above / ".git").exists() for above in (folder, *folder.parents))


def environment() -> Mapping[str, str]:
    """The environment git runs in: no variable that points it elsewhere, no fetching, no question, plain English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


@asynccontextmanager
async def running(folder: Path | str, *words: str, stdin: int = DEVNULL) -> AsyncIterator[Process]:
    """A git process with its output piped; it is gone when the block is left. Raises GitFailed."""
    argv = ("git", "--no-replace-objects", "-c", "core.fsmonitor=false", "-c", "log.showRoot=true", *words)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=folder, env=environment(), stdin=stdin, stdout=PIPE, stderr=PIPE, limit=1024 * 1024
        )
    except OSError as error:
        raise GitFailed(str(error)) from error
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        # What is still in the pipes is read away, so that they are closed.
        await process.communicate()


async def output(folder: Path | str, *words: str, limit_s: float = LIMIT_S) -> bytes:
    """What git prints. Raises GitFailed, also when it ends badly or takes longer than `limit_s`."""
    async with running(folder, *words) as process:
        try:
            async with asyncio.timeout(limit_s):
                out, err = await process.communicate()
        except TimeoutError:
            raise GitFailed(f"git took longer than {limit_s:g} s") from None
        if process.returncode != 0:
            raise GitFailed(err.decode("utf-8", "replace").strip() or f"git ended with {process.returncode}")
        return out


async def kept(folder: Path | str) -> Kept:
    """What belongs to the source below `folder`, submodules and nested checkouts included. Raises GitFailed."""
    listed = os.fsdecode(await output(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    top = os.fspath(folder)
    files: list[str] = []
    checkouts = [top]
    for name in dict.fromkeys(listed.split("\0")):
        path = f"{top}/{name}"
        if not name:
            continue
        if not (name.endswith("/") or _is_folder(path)):
            files.append(name)
        elif Path(path, ".git").exists():
            inner = await kept(path.rstrip("/"))
            files += [f"{name.rstrip('/')}/{file}" for file in inner.files]
            checkouts += inner.checkouts
    return Kept(top, tuple(files), tuple(checkouts))


def _is_folder(path: str) -> bool:
    """Submodules are listed as one name, and so is what lies where git only knows a folder."""
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114 - asked for each file of a tree
