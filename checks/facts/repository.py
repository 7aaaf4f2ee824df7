"""git, asked about a checkout: bounded in time and size, steered by nothing but the operator's own configuration.

Only reading commands belong here. What git cannot tell is GitFailed, or a finding INCONCLUSIVE raised as Unjudged.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from checks.judging import Unjudged
from pipeline.verdict import Finding, inconclusive

LIMIT_S = 60.0
LIMIT_BYTES = 256_000_000
"""What git may print before it counts as no answer; the list of a large repository's files has a tenth of it."""

_ERRORS_BYTES = 64 * 1024
_PIECE = 64 * 1024
_READER = 1024 * 1024
_HARMLESS = ("core.fsmonitor=false", "core.pager=cat", "log.showSignature=false", "log.showRoot=true")
"""A repository's own configuration must neither make a reading command start another program nor hide a commit."""


class GitFailed(Exception):
    """Why git could not answer: what it said itself, or that it is missing, too slow or says too much."""


@dataclass(frozen=True)
class Told:
    """Exit code, stdout and the beginning of stderr."""

    code: int
    out: bytes
    err: str

    def why(self) -> str:
        """The first line of what git complained of."""
        return next(iter(self.err.strip().splitlines()), f"it ended with {self.code}")


@dataclass(frozen=True)
class Running:
    """A git process. Its stderr is read as it comes, so that it never waits for a reader."""

    process: Process
    stdout: StreamReader
    complaint: asyncio.Task[tuple[bytes, bool]]

    async def end(self) -> tuple[int, str]:
        """Exit code and the beginning of stderr, once stdout was read to its end."""
        said, _ = await asyncio.shield(self.complaint)
        return await self.process.wait(), said.decode("utf-8", "replace").strip()


def inside_checkout(folder: Path) -> bool:
    return any((above / ".git").exists() for above in (folder, *folder.parents))


@asynccontextmanager
async def running(folder: Path | str, *words: str, stdin: int = DEVNULL) -> AsyncIterator[Running]:
    """A git process with its output piped; it and what it started are gone when the block is left. Raises GitFailed."""
    settings = (part for setting in _HARMLESS for part in ("-c", setting))
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            "--no-replace-objects",
            *settings,
            *words,
            cwd=folder,
            env=environment(os.environ),
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            limit=_READER,
            start_new_session=True,
        )
    except OSError as error:
        raise GitFailed(error.strerror or type(error).__name__) from error
    assert process.stdout and process.stderr  # noqa: S101 - both are pipes
    complaint = asyncio.create_task(bounded(process.stderr, _ERRORS_BYTES))
    try:
        yield Running(process, process.stdout, complaint)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.stdin:
            process.stdin.close()
        # What is still in the pipes is read away, so that they are closed.
        await asyncio.gather(bounded(process.stdout, 0), complaint, return_exceptions=True)
        await process.wait()


async def bounded(stream: StreamReader, limit: int) -> tuple[bytes, bool]:
    """The first `limit` bytes, read to the end, and whether there were more."""
    pieces: list[bytes] = []
    size = 0
    while piece := await stream.read(_PIECE):
        if size < limit:
            pieces.append(piece[: limit - size])
        size += len(piece)
    return b"".join(pieces), size > limit


def environment(given: Mapping[str, str]) -> Mapping[str, str]:
    """Ours without what would point git to another repository, as inside a hook; no fetching, no question, English.

    The operator's configuration stays: where a checkout belongs to another user, `safe.directory` is in it.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith("GIT_") or (name.startswith("GIT_CONFIG_") and name != "GIT_CONFIG_PARAMETERS")
    }
    return kept | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


async def told(folder: Path | str, *words: str, limit_s: float = LIMIT_S) -> Told:
    """What `git WORDS` says in `folder`. Raises GitFailed when git is missing, too slow or says too much."""
    async with running(folder, *words) as git:
        try:
            async with asyncio.timeout(limit_s):
                out, more = await bounded(git.stdout, LIMIT_BYTES)
                code, err = await git.end()
        except TimeoutError:
            raise GitFailed(f"git took longer than {limit_s:g} s") from None
    if more:
        raise GitFailed(f"it printed more than {LIMIT_BYTES // 1_000_000} MB")
    return Told(code, out, err)


async def output(folder: Path | str, *words: str, limit_s: float = LIMIT_S) -> bytes:
    """What git prints. Raises GitFailed, also when it ends badly."""
    answered = await told(folder, *words, limit_s=limit_s)
    if answered.code != 0:
        raise GitFailed(answered.why())
    return answered.out


# ---- for checks that can say nothing without git ------------------------------------------------------------


async def ask(folder: Path, *args: str, timeout: float = LIMIT_S) -> str:
    """What `git ARGS` prints in `folder`; bytes that are no UTF-8 are replaced. Raises Unjudged when it fails."""
    code, out, err = await answer(folder, *args, timeout=timeout)
    if code != 0:
        raise Unjudged(unanswered(folder, args, Told(code, b"", err).why()))
    return out


async def answer(folder: Path, *args: str, timeout: float = LIMIT_S) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `git ARGS`. Raises Unjudged when git is missing, too slow or says too much."""
    try:
        answered = await told(folder, *args, limit_s=timeout)
    except GitFailed as error:
        raise Unjudged(unanswered(folder, args, str(error))) from error
    return answered.code, answered.out.decode("utf-8", "replace"), answered.err


def unanswered(folder: Path, args: tuple[str, ...], why: str) -> Finding:
    return inconclusive(
        f"`git {' '.join(args)[:80]}` says nothing about {folder}: {why[:300]}",
        "Deploy from a git checkout that the deploying user owns (or names as `safe.directory`), with git installed.",
    )
