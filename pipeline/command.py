"""Subprocesses: an argv list in its own process group, its output streamed, redacted and bounded, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from pipeline.contracts import Completed
from pipeline.errors import CommandFailed
from pipeline.secrets import Redactor

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""
_LINGER = 0.5
"""Seconds to wait for the end of the output when a daemon, which has left the process group, holds on to it."""
_KILLED_WITHIN = 5.0
"""Seconds to wait for the kernel after SIGKILL; a process stuck in a device may take longer, and nothing can end it."""
_LONGEST_PAUSE = 0.02
_CHUNK = 65_536
_LONGEST_LINE = 16_384
_LAST_WORDS = 600
_LONGEST_SHOWN = 300

T = TypeVar("T")
Line = Callable[[str], None]


def shell_line(line: str) -> tuple[str, ...]:
    """The argv that gives `line` to a shell, which stops at the first command that fails. The only way to a shell."""
    return ("/bin/sh", "-ec", line)


async def run(
    argv: Sequence[str],
    *,
    timeout: float,
    redactor: Redactor,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    on_line: Line | None = None,
    limit_bytes: int = 1_000_000,
    grace: float = GRACE,
) -> Completed:
    """Runs `argv` to its end; a bad exit code is an outcome, `succeeded` makes an error of it.

    `env` is the whole environment of the process; None passes ours on. `on_line` gets each redacted line of stdout and
    stderr as it comes. `limit_bytes` bounds what is kept of each of the two: the middle is left out, and the text says
    how much. When `timeout` (s) runs out or the caller is cancelled, the process group gets SIGTERM, and `grace`
    seconds later SIGKILL. What a command leaves in its process group is ended too; a daemon has a group of its own.

    Raises CommandFailed when the command cannot be started or does not end in time.
    """
    command = _shown(argv, redactor)
    outputs = [_Output(redactor, on_line, limit_bytes) for _ in ("stdout", "stderr")]
    async with contextlib.AsyncExitStack() as stack:
        ends = [await _pipe_into(output, stack) for output in outputs]
        process = await _start(argv, redactor, cwd, env, ends, stdin=bool(stdin))
        for end in ends:
            end.close()
        try:
            async with asyncio.timeout(timeout):
                await _give(process, stdin)
                await process.wait()
        except TimeoutError:
            await _end(process, grace)
            await _rest(outputs)
            raise CommandFailed(
                f"`{command}` did not end within {timeout:g} s and was stopped.{_last_words(outputs)}",
                "See what it waits for; when it only needs longer, give its step a larger `timeout:` in pipeline.yaml.",
            ) from None
        except BaseException:
            await _end(process, grace)
            raise
        await _end(process, grace)
        await _rest(outputs)
    stdout, stderr = (output.text() for output in outputs)
    return Completed(tuple(map(redactor.text, argv)), _exit_code(process), stdout, stderr)


def succeeded(completed: Completed) -> Completed:
    """Returns `completed`. Raises CommandFailed, with the last lines of output, when its exit code is not 0."""
    if completed.returncode == 0:
        return completed
    code = completed.returncode
    ended = f"ended with exit code {code}" if code > 0 else f"was ended by {_signal_name(-code)}"
    said = (completed.stderr.strip() or completed.stdout.strip())[-_LAST_WORDS:]
    raise CommandFailed(
        f"`{shlex.join(completed.argv)}` {ended}; 0 is expected." + (f" Its last words: {said}" if said else ""),
        "Run it by hand in the same folder to see why; nothing after it was done.",
        returncode=code,
    )


# ---- output ------------------------------------------------------------------------------------------------


class _Output:
    """One of the two outputs: redacts it, hands out lines, and keeps its beginning and its end."""

    def __init__(self, redactor: Redactor, on_line: Line | None, limit: int) -> None:
        self.ended = asyncio.Event()
        self.failure: Exception | None = None
        self._stream = redactor.stream()
        self._on_line = on_line
        self._line = ""
        self._room = limit // 2
        self._first: list[str] = []
        self._last: deque[str] = deque()
        self._last_size = 0
        self._last_room = limit - limit // 2
        self._left_out = 0

    def feed(self, chunk: bytes) -> None:
        self._take(self._stream.feed(chunk))

    def close(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self._take(self._stream.end())
            if self._line:
                self._show(self._line)

    def text(self) -> str:
        gap = [f"\n[... {self._left_out} bytes left out ...]\n"] if self._left_out else []
        return "".join([*self._first, *gap, *self._last])

    def _take(self, text: str) -> None:
        for at in range(0, len(text), 4096):
            self._keep(text[at : at + 4096])
        if self._on_line is None:
            return
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._show(line)
        while len(self._line) > _LONGEST_LINE:
            self._show(self._line[:_LONGEST_LINE])
            self._line = self._line[_LONGEST_LINE:]

    def _show(self, line: str) -> None:
        """A listener that fails does not stop the command or its output; `run` raises its error at the end."""
        if self._on_line is not None and self.failure is None:
            try:
                self._on_line(line.rstrip("\r"))
            except Exception as error:
                self.failure = error

    def _keep(self, text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        if size <= self._room:
            self._first.append(text)
            self._room -= size
            return
        self._room = 0
        self._last.append(text)
        self._last_size += size
        while self._last_size > self._last_room:
            out = len(self._last.popleft().encode("utf-8", "replace"))
            self._last_size -= out
            self._left_out += out


class _Reader(asyncio.Protocol):
    def __init__(self, output: _Output) -> None:
        self._output = output

    def data_received(self, data: bytes) -> None:
        self._output.feed(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._output.close()


async def _pipe_into(output: _Output, stack: contextlib.AsyncExitStack) -> BinaryIO:
    """The writing end of a pipe whose other end feeds `output`. All three are closed with `stack` at the latest."""
    stack.callback(output.close)
    reading, writing = (os.fdopen(end, mode, 0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    stack.callback(writing.close)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Reader(output), reading)
    stack.callback(transport.close)
    return cast("BinaryIO", writing)


async def _rest(outputs: Sequence[_Output]) -> None:
    """Waits for what was written before the process ended. Raises what a listener raised."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            for output in outputs:
                await output.ended.wait()
    for output in outputs:
        output.close()
        if output.failure is not None:
            raise output.failure


def _last_words(outputs: Sequence[_Output]) -> str:
    said = next((text for output in reversed(outputs) if (text := output.text().strip())), "")
    return f" Its last words: {said[-_LAST_WORDS:]}" if said else " It printed nothing."


# ---- the process -------------------------------------------------------------------------------------------


def _shown(argv: Sequence[str], redactor: Redactor) -> str:
    """The command as a person would type it, without secrets and not too long."""
    line = redactor.text(shlex.join(argv))
    return line if len(line) <= _LONGEST_SHOWN else line[:_LONGEST_SHOWN] + " ..."


async def _start(
    argv: Sequence[str],
    redactor: Redactor,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    ends: Sequence[BinaryIO],
    *,
    stdin: bool,
) -> Process:
    command, program = _shown(argv, redactor), redactor.text(argv[0])
    if cwd is not None and not os.path.isdir(cwd):  # noqa: PTH112 - a look at the local disk
        raise CommandFailed(
            f"`{command}` was not started: there is no folder {cwd}", "Correct `cwd:` or make the folder."
        )
    spawning = asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=env,
        stdin=PIPE if stdin else DEVNULL,
        stdout=ends[0],
        stderr=ends[1],
        start_new_session=True,
    )
    task = asyncio.ensure_future(spawning)
    try:
        return await _to_the_end(task, hurry=lambda: None)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await _end(task.result(), grace=0.0)
        raise
    except FileNotFoundError:
        raise CommandFailed(
            f"`{command}` was not started: there is no program `{program}`, or no interpreter for it",
            "Install it, or correct its name or the PATH.",
        ) from None
    except PermissionError:
        raise CommandFailed(
            f"`{command}` was not started: `{program}` may not be executed", "Make it executable: chmod +x."
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "an argument or variable contains a NUL character"
        raise CommandFailed(f"`{command}` was not started: {why}", "Correct the command.") from None


async def _give(process: Process, stdin: bytes) -> None:
    """A program may end without reading its input."""
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()


async def _end(process: Process, grace: float) -> None:
    """Ends all of the process group and waits for it. A second cancellation skips the grace."""
    ending = asyncio.ensure_future(_end_group(process, grace))
    await _to_the_end(ending, hurry=lambda: _signal_group(process, signal.SIGKILL))


async def _end_group(process: Process, grace: float) -> None:
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILLED_WITHIN)):
        if seconds > 0 and _signal_group(process, number):
            await _until_gone(process, seconds)
    await process.wait()


async def _until_gone(process: Process, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + seconds, 0.001
    while _group_lives(process) and loop.time() < until:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _signal_group(process: Process, number: int) -> bool:
    """Sends the signal to the group that `process` leads. False when nothing of the group is left."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return process.returncode is None
    return True


def _group_lives(process: Process) -> bool:
    """Corpses do not count: where nobody reaps orphans (a container without init) they stay for ever."""
    if process.returncode is None:
        return True
    if not _signal_group(process, 0):
        return False
    states = [_state_in_group(stat, process.pid) for stat in Path("/proc").glob("[0-9]*/stat")]
    return not states or any(state not in ("", "Z", "X") for state in states)


def _state_in_group(stat: Path, group: int) -> str:
    """The state letter of a process when it belongs to `group`, else ''."""
    try:
        state, _parent, its_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return ""
    return state if int(its_group) == group else ""


async def _to_the_end(task: asyncio.Future[T], *, hurry: Callable[[], object]) -> T:
    """Waits for `task` even when the caller is cancelled, once or more; then the cancellation goes on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is not None:
                hurry()
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


def _exit_code(process: Process) -> int:
    if process.returncode is None:
        raise AssertionError("a process that was waited for has an exit code")
    return process.returncode


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
