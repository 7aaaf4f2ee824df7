"""Commands, run as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as randomness
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.command import run, shell_line, succeeded
from pipeline.errors import CommandFailed
from pipeline.secrets import MARK, Redactor, Secret

NOTHING = Redactor()
TREE = shell_line("sleep 600 & echo $$ $!; wait")
DEAF_TREE = shell_line("trap '' TERM; sleep 600 & echo $$ $!; wait")
"""What the shell ignores, its child ignores as well."""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    """A process that ended and was not yet reaped by init counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Seen:
    """Collects lines, and knows when a number of them has come."""

    def __init__(self, awaited: int) -> None:
        self.lines: list[str] = []
        self.complete = asyncio.Event()
        self._awaited = awaited

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) >= self._awaited:
            self.complete.set()

    @property
    def pids(self) -> list[int]:
        return [int(word) for line in self.lines for word in line.split() if word.isdigit()]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Lines with the pids of processes; what a failing test leaves alive is killed."""
    seen = Seen(awaited=1)
    yield seen
    for pid in seen.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_a_command_gives_its_outputs_and_its_exit_code() -> None:
    """A command's outputs, input, folder, environment and exit code are what they were."""
    line = shell_line('cat; pwd; echo "$A"; echo no >&2; exit 3')
    done = await run(line, timeout=20, redactor=NOTHING, cwd=Path("/"), env={"A": "b"}, stdin="né ".encode())
    assert (done.returncode, done.stdout, done.stderr) == (3, "né /\nb\n", "no\n")


async def test_a_bad_exit_code_is_an_error_only_when_asked() -> None:
    """`succeeded` turns a bad exit code or a signal into CommandFailed with the last words of the command."""
    with pytest.raises(CommandFailed, match=r"exit code 4; 0 is expected. Its last words: out of paper") as failed:
        succeeded(await run(shell_line("echo out of paper >&2; exit 4"), timeout=20, redactor=NOTHING))
    assert failed.value.returncode == 4
    with pytest.raises(CommandFailed, match="was ended by SIGKILL"):
        succeeded(await run(shell_line("kill -9 $$"), timeout=20, redactor=NOTHING))
    assert succeeded(await run(["true"], timeout=20, redactor=NOTHING)).returncode == 0


async def test_an_argument_never_reaches_a_shell() -> None:
    """An argv list is passed on as it is, and a shell line stops at its first failure."""
    done = await run(["echo", "$HOME; `id` > x", "*"], timeout=20, redactor=NOTHING)
    assert done.stdout == "$HOME; `id` > x *\n"
    done = await run(shell_line("echo $((1+1)); false; echo after"), timeout=20, redactor=NOTHING)
    assert (done.stdout, done.returncode) == ("2\n", 1)


async def test_output_is_redacted_everywhere() -> None:
    """A secret appears in no output, live line, argument or message, even when it is printed in pieces."""
    value = randomness.token_urlsafe(24)
    lines: list[str] = []
    code = "import sys; [print(char, end='', flush=True) for char in sys.argv[1]]; sys.exit(sys.argv[1])"
    redactor = Redactor([Secret(value)])
    done = await run([*python(code), value], timeout=20, redactor=redactor, on_line=lines.append)
    assert lines == [MARK, MARK]
    assert value not in repr(done)
    assert (done.stdout, done.stderr) == (MARK, f"{MARK}\n")
    for argv in (
        [value],
        ["sleep", value],
        [*python("import time, sys; print(sys.argv, flush=True); time.sleep(60)"), value],
    ):
        with pytest.raises(CommandFailed) as failed:
            succeeded(await run(argv, timeout=1, redactor=redactor))
        assert value not in f"{failed.value} {failed.value.remedy}"


async def test_lines_come_while_the_command_runs(seen: Seen, tmp_path: Path) -> None:
    """Output is shown line by line while the command still runs, not at its end."""
    wait = shell_line("echo first; echo second; while [ ! -e go ]; do sleep 0.01; done; printf last")
    task = asyncio.create_task(run(wait, timeout=20, redactor=NOTHING, on_line=seen, cwd=tmp_path))
    await seen.complete.wait()
    assert seen.lines[0] == "first"
    (tmp_path / "go").touch()
    assert (await task).stdout == "first\nsecond\nlast"
    assert seen.lines == ["first", "second", "last"]


async def test_long_output_is_bounded() -> None:
    """Of output beyond the limit the beginning and the end are kept, and it says how many bytes are missing."""
    code = "print('begin'); print('x' * 999 + '\\n' * 1, end='') \nfor _ in range(400): print('y' * 999)\nprint('end')"
    done = await run(python(code), timeout=20, redactor=NOTHING, limit_bytes=50_000)
    assert done.stdout.startswith("begin\n")
    assert done.stdout.endswith("y\nend\n")
    assert len(done.stdout) <= 50_100
    left_out = int(done.stdout.partition("[... ")[2].partition(" bytes left out")[0])
    kept = len(done.stdout) - len(f"\n[... {left_out} bytes left out ...]\n")
    assert kept + left_out == len("begin\n") + 401 * 1000 + len("end\n")


@pytest.mark.parametrize("tree", [TREE, DEAF_TREE])
async def test_a_time_limit_ends_the_whole_group(seen: Seen, tree: tuple[str, ...]) -> None:
    """When time runs out nothing of the command is left, not even a child that ignores SIGTERM."""
    with pytest.raises(CommandFailed, match=r"did not end within 1 s and was stopped. Its last words: ") as failed:
        await run(tree, timeout=1, redactor=NOTHING, on_line=seen, grace=0.3)
    assert failed.value.returncode is None
    assert "timeout:" in failed.value.remedy
    assert len(seen.pids) == 2
    assert not any(map(alive, seen.pids))


@pytest.mark.parametrize(("tree", "times", "grace"), [(TREE, 1, 60), (DEAF_TREE, 1, 0.3), (DEAF_TREE, 3, 60)])
async def test_cancellation_ends_the_whole_group(seen: Seen, tree: tuple[str, ...], times: int, grace: float) -> None:
    """A cancelled caller leaves no process behind, however often it is cancelled, and stays cancelled."""
    task = asyncio.create_task(run(tree, timeout=60, redactor=NOTHING, on_line=seen, grace=grace))
    await seen.complete.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(seen.pids) == 2
    assert not any(map(alive, seen.pids))


async def test_a_command_cancelled_at_its_start_is_ended() -> None:
    """A caller that is cancelled while its command is being started leaves nothing behind either."""
    before = set(Path("/proc").glob("[0-9]*"))
    word = randomness.token_hex(8)
    for turns in range(6):
        task = asyncio.create_task(run(["sleep", "600", word], timeout=60, redactor=NOTHING))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    started = set(Path("/proc").glob("[0-9]*")) - before
    assert not [pid for pid in started if word.encode() in _arguments(pid)]


def _arguments(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


async def test_what_a_command_leaves_behind_is_ended(seen: Seen) -> None:
    """A command that ends but leaves a child in its group does not leave it running, nor keeps the caller waiting."""
    done = await run(shell_line("sleep 600 & echo $$ $!"), timeout=60, redactor=NOTHING, on_line=seen)
    assert done.returncode == 0
    assert len(seen.pids) == 2
    assert not any(map(alive, seen.pids))


async def test_a_daemon_may_stay(seen: Seen) -> None:
    """A child that made a group of its own lives on, and its hold on the output does not hang the command."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    done = await run(python(code), timeout=60, redactor=NOTHING, on_line=seen)
    assert alive(int(done.stdout))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["no-such-program-0"], "no program `no-such-program-0`"),
        (["./plain"], "may not be executed"),
        (["echo", "a\0b"], "NUL character"),
        (["echo", "x" * 4_000_000], "Argument list too long"),
    ],
)
async def test_what_cannot_be_started_is_explained(argv: list[str], message: str, tmp_path: Path) -> None:
    """A command that cannot be started says why and what to do, without a traceback."""
    (tmp_path / "plain").touch(0o644)
    with pytest.raises(CommandFailed, match=message) as failed:
        await run(argv, timeout=20, redactor=NOTHING, cwd=tmp_path)
    assert failed.value.remedy
    assert len(str(failed.value)) < 1000


async def test_a_missing_folder_is_not_a_missing_program(tmp_path: Path) -> None:
    """A command whose folder is missing says so."""
    with pytest.raises(CommandFailed, match="there is no folder"):
        await run(["true"], timeout=20, redactor=NOTHING, cwd=tmp_path / "gone")


async def test_input_that_is_not_read_is_no_failure() -> None:
    """A command may end without reading its input."""
    done = await run(["true"], timeout=20, redactor=NOTHING, stdin=b"x" * 5_000_000)
    assert done.returncode == 0


async def test_a_listener_that_fails_is_heard_of() -> None:
    """An error in the listener ends nothing half-way: the command runs to its end, then the error is raised."""

    def broken(_line: str) -> None:
        raise KeyError("listener")

    with pytest.raises(KeyError, match="listener"):
        await run(["echo", "x"], timeout=20, redactor=NOTHING, on_line=broken)
