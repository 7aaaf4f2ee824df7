"""Asking from elsewhere: a command of the operator's that looks at the service from another place.

What runs is an argv list of pipeline.yaml (`[ssh, probe.example.com, curl, ...]`), with a time limit, in a process
group of its own, with no variable of ours but what ssh and locale need. All it has to do is print an HTTP status.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass

LIMIT_S = 20.0
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "SSH_AUTH_SOCK", "TMPDIR")
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Seen:
    """The status that was printed, 0 when none was; then `why` says what happened instead."""

    status: int
    why: str = ""


async def look(argv: Sequence[str], *, stdin: bytes = b"", limit_s: float = LIMIT_S) -> Seen:
    """Runs `argv` and reads the last HTTP status it prints. Raises nothing for what the command does."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=PIPE if stdin else DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Seen(0, f"{argv[0]} cannot be started ({type(error).__name__})")
    try:
        async with asyncio.timeout(limit_s):
            printed = await _talk(process, stdin)
            code = await process.wait()
    except TimeoutError:
        return Seen(0, f"{argv[0]} did not end within {limit_s:g} s")
    finally:
        await _end(process)
    return status_of(printed, f"{argv[0]} ended with {code}")


async def _talk(process: Process, stdin: bytes) -> bytes:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(stdin)
            await process.stdin.drain()
        process.stdin.close()
    if process.stdout is None:
        return b""
    printed = b""
    while chunk := await process.stdout.read(_MOST_BYTES):
        printed = (printed + chunk)[-_MOST_BYTES:]
    return printed


async def _end(process: Process) -> None:
    """Nothing of it is left behind, not even when we are cancelled."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    # asyncio closes a subprocess' pipes only when it has read them to their end.
    process._transport.close()  # type: ignore[attr-defined]


def status_of(printed: bytes, otherwise: str) -> Seen:
    """The last word that is an HTTP status. `000` is curl's word for no answer. Pure and total."""
    words = printed.decode("utf-8", "replace").split()
    found = [word for word in words if re.fullmatch(r"[1-5][0-9]{2}|000", word, re.ASCII)]
    if not found:
        return Seen(0, f"{otherwise} and printed no HTTP status")
    return Seen(int(found[-1]), "no answer there" if found[-1] == "000" else "")


def curl_config(url: str, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
    """A POST as `curl --config -` reads it from stdin: so no argument list, shell or log on the way has the request."""
    lines = [
        f'url = "{_quoted(url)}"',
        'request = "POST"',
        *(f'header = "{_quoted(f"{name}: {value}")}"' for name, value in headers),
        f'data-binary = "{_quoted(body.decode("utf-8"))}"',
        'output = "/dev/null"',
        r'write-out = "%{http_code}\n"',
        "silent",
        "max-time = 15",
    ]
    return ("\n".join(lines) + "\n").encode()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
