"""This machine as a host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pipeline.contracts import Completed
from pipeline.errors import CommandFailed

OUTPUT_LIMIT_BYTES = 8_000_000
"""More of a command's output is read, counted and thrown away."""
_CHUNK_BYTES = 65_536


class LocalHost:
    """Runs commands here and keeps files here. `redact` is applied to everything a command printed."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self._redact = redact

    async def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes = b"") -> Completed:
        """Runs an argv list in a process group of its own, which also ends when the caller is cancelled."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=PIPE if stdin else DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(
                f"{argv[0]}: cannot be started on this machine ({error.strerror})",
                f"Install what provides `{argv[0]}`, or put it on the PATH.",
            ) from error
        try:
            async with asyncio.timeout(timeout):
                _, out, err = await asyncio.gather(
                    _feed(process, stdin), _drain(process.stdout), _drain(process.stderr)
                )
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

    async def put(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        await asyncio.to_thread(_put, Path(path), content, mode)

    async def rename(self, old: PurePosixPath, new: PurePosixPath) -> None:
        await asyncio.to_thread(_rename, Path(old), Path(new))

    async def read(self, path: PurePosixPath) -> bytes:
        return await asyncio.to_thread(Path(path).read_bytes)


def _environment() -> dict[str, str]:
    """Commands see no setting and no secret of ours, and answer in one language."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8"}


async def _feed(process: asyncio.subprocess.Process, content: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(content)
            await process.stdin.drain()
        process.stdin.close()


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
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _rename(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _rename(old: Path, new: Path) -> None:
    old.replace(new)
    folder = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
