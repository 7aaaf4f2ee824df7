"""This machine as a host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import BinaryIO, ParamSpec

from pipeline import whole_file
from pipeline.contracts import Completed, Fence
from pipeline.errors import CommandFailed
from targets import fence_file

P = ParamSpec("P")

OUTPUT_LIMIT_BYTES = 8_000_000
"""More of a command's output is read, counted and thrown away."""
_CHUNK_BYTES = 65_536


class LocalHost:
    """Runs commands here and keeps files here. `redact` is applied to everything a command printed."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self._redact = redact

    async def run(
        self, argv: Sequence[str], *, timeout: float, stdin: bytes = b"", fence: Fence | None = None
    ) -> Completed:
        """Runs an argv list in a process group of its own, which also ends when the caller is cancelled.

        The command of a change holds the fence's lock itself, and has its whole input from the start: it goes on
        without this process, so whoever takes over waits for it and not for us.
        """
        process = await _started(argv, stdin, fence)
        try:
            async with asyncio.timeout(timeout):
                out, err = await asyncio.gather(_drain(process.stdout), _drain(process.stderr))
                returncode = await process.wait()
        except TimeoutError:
            raise CommandFailed(
                f"{argv[0]}: did not end within {timeout:g} s and was stopped",
                "Look at what it waits for; `./inv status` shows the state of the target.",
            ) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Completed(tuple(argv), returncode, self._redact(out), self._redact(err))

    async def put(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644, fence: Fence | None = None) -> None:
        await asyncio.to_thread(_fenced, fence, _put, Path(path), content, mode)

    async def rename(self, old: PurePosixPath, new: PurePosixPath, *, fence: Fence | None = None) -> None:
        await asyncio.to_thread(_fenced, fence, _rename, Path(old), Path(new))

    async def read(self, path: PurePosixPath) -> bytes:
        return await asyncio.to_thread(Path(path).read_bytes)


def _environment() -> dict[str, str]:
    """Commands see no setting and no secret of ours, and answer in one language."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8"}


async def _started(argv: Sequence[str], stdin: bytes, fence: Fence | None) -> asyncio.subprocess.Process:
    with contextlib.ExitStack() as ours:
        lock = None if fence is None else ours.enter_context(closing(await fence_file.entered(fence)))
        given = ours.enter_context(_as_a_file(stdin)) if stdin else None
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=DEVNULL if given is None else given,
                stdout=PIPE,
                stderr=PIPE,
                env=_environment(),
                start_new_session=True,
                pass_fds=() if lock is None else (lock.fileno(),),
            )
        except OSError as error:
            raise CommandFailed(
                f"{argv[0]}: cannot be started on this machine ({error.strerror})",
                f"Install what provides `{argv[0]}`, or put it on the PATH.",
            ) from error


def _as_a_file(content: bytes) -> BinaryIO:
    """In memory: the reader needs nobody to feed it."""
    file = os.fdopen(os.memfd_create("stdin"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def _fenced(fence: Fence | None, change: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    with contextlib.nullcontext() if fence is None else closing(fence_file.entered_in_thread(fence)):
        change(*args, **kwargs)


async def _drain(stream: asyncio.StreamReader | None) -> str:
    """All a stream says, up to the limit; what was left out is named at the end."""
    kept, left_out = bytearray(), 0
    while stream is not None and (chunk := await stream.read(_CHUNK_BYTES)):
        room = max(OUTPUT_LIMIT_BYTES - len(kept), 0)
        kept += chunk[:room]
        left_out += len(chunk[room:])
    text = kept.decode("utf-8", "replace")
    return f"{text}\n[{left_out} bytes left out]" if left_out else text


def _put(path: Path, content: bytes, mode: int) -> None:
    whole_file.put_in_place(whole_file.beside(path, content, mode=mode), path, durable=True)


def _rename(old: Path, new: Path) -> None:
    old.replace(new)
    whole_file.sync_folder(new.parent)
