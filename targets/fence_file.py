"""The fence of a target on this machine: a file with the highest token it was shown, under a lock of the system.

A change holds the lock shared for as long as it lasts, and so does the command that makes it, through the descriptor it
inherits; a new owner raises the token with the lock to itself, so it waits for changes in progress and lets none begin
with a lower token. The lock ends with the last process that holds it, so nothing is ever left locked. The file needs no
sync: after a reboot no process is left that could show a lower token.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Self

from pipeline.contracts import Fence
from pipeline.errors import LeaseHeld, LeaseLost, TargetError

WAIT_S = 25.0
"""How long a new owner waits for a change of the one before it."""
_PAUSE_S = 0.01
_MOST_NAMED = 4


class Held:
    """The fence's lock, held until `close` here and until the end of every process that inherited it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    @classmethod
    def of(cls, path: Path, *, alone: bool) -> Self | None:
        """The lock of the file that `path` names; None while others hold it."""
        while True:
            descriptor = _opened(path)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                if _is_at(descriptor, path):  # else it was removed or replaced meanwhile
                    return cls(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def token(self, path: Path) -> int:
        text = os.pread(self._descriptor, 100, 0)
        try:
            return int(text or b"0")
        except ValueError:
            raise TargetError(
                f"{path}: this file says who may change the target, and holds {text[:20]!r} in place of a number",
                "See `./inv status`; when no run is at work, remove that file, then repeat the command.",
            ) from None

    def raise_to(self, token: int) -> None:
        """At one length and in one write, so that a reader or a crash never meets half a number."""
        os.pwrite(self._descriptor, f"{token:020}\n".encode(), 0)


async def entered(fence: Fence) -> Held:
    """The lock for one change. Raises LeaseLost when the target was shown a higher token."""
    for wait in _waits(fence.path, WAIT_S):
        if (held := _tried(fence)) is not None:
            return held
        await asyncio.sleep(wait)
    raise AssertionError


def entered_in_thread(fence: Fence) -> Held:
    """The same where a thread waits."""
    for wait in _waits(fence.path, WAIT_S):
        if (held := _tried(fence)) is not None:
            return held
        time.sleep(wait)
    raise AssertionError


async def advance(path: Path, token: int, wait_s: float = WAIT_S) -> None:
    """Raises the token to `token`, once every change in progress has ended."""
    for wait in _waits(path, wait_s):
        if _raised(path, token):
            return
        await asyncio.sleep(wait)


def highest(path: Path) -> int:
    """Read without the lock: it only ever rises."""
    with _explained(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        with contextlib.closing(Held(descriptor)) as held:
            return held.token(path)


def _tried(fence: Fence) -> Held | None:
    path = Path(fence.path)
    with contextlib.ExitStack() as undone, _explained(path):
        held = Held.of(path, alone=False)
        if held is None:
            return None
        undone.callback(held.close)
        found = held.token(path)
        if found > fence.token:
            raise _too_late(path, found)
        if found == fence.token:
            undone.pop_all()
            return held
    _raised(path, fence.token)  # somebody removed the file: it is made anew before anything is changed
    return None


def _raised(path: Path, token: int) -> bool:
    """Whether the fence stands at `token` now; False while changes are in progress."""
    with _explained(path):
        held = Held.of(path, alone=True)
        if held is None:
            return False
        with contextlib.closing(held):
            found = held.token(path)
            if found > token:
                raise _too_late(path, found)
            held.raise_to(token)
    return True


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(
            f"{path}: {error.strerror or error}",
            "Look at space and permissions of that folder, then repeat the command.",
        ) from error


def _too_late(path: Path, found: int) -> LeaseLost:
    return LeaseLost(
        f"{path}: this run no longer holds the lease and changes nothing more: the target was shown the lease of a "
        f"later run (number {found})",
        "See `./inv status`. When no other run works, end this one: `./inv rollback` or `./inv deploy --resume`.",
    )


def _waits(path: PurePath, wait_s: float) -> Iterator[float]:
    """Pauses until `wait_s` have passed; then raises LeaseHeld with the processes that would not end."""
    until = time.monotonic() + wait_s
    while True:
        yield _PAUSE_S
        if time.monotonic() > until:
            raise _in_progress(Path(path), wait_s)


def _in_progress(path: Path, wait_s: float) -> LeaseHeld:
    found = list(_holders(path))
    named = ", ".join(found[:_MOST_NAMED]) or f"a process that this user cannot see (`fuser {path}` names it)"
    stopped = any("stopped" in one for one in found)
    cure = "`kill -CONT PID` lets a stopped one go on, `kill -9 PID` ends it" if stopped else "`kill -9 PID` ends it"
    return LeaseHeld(
        f"{path}: a change of an earlier run did not come to its end within {wait_s:g} s: {named}; "
        "nothing was changed by this one",
        f"Let it end, or end it: {cure}. Then repeat the command.",
    )


def _holders(path: Path) -> Iterator[str]:
    """Other processes that have the file open: `process 4711 (tar)`. Those of other users stay unseen."""
    try:
        wanted = path.stat()
    except OSError:
        return
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        if int(folder.name) == os.getpid():
            continue
        try:
            if any(os.path.samestat(wanted, link.stat()) for link in (folder / "fd").iterdir()):
                name, _, rest = (folder / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
                yield f"process {folder.name} ({name}{', stopped' if rest.split()[0] in 'Tt' else ''})"
        except (OSError, IndexError):
            continue


def _opened(path: Path) -> int:
    """The file, made when it is missing; so is its folder, before the first deploy."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
