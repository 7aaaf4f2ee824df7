"""One build at a time in a checkout: all its environments build into the same folder."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pipeline.contracts import Clock

_POLL_S = 0.2


@asynccontextmanager
async def one_build_at_a_time(root: Path, clock: Clock, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Waits until no other run of this checkout builds or stages what it built; `tell` says so to a person once.

    The lock is the kernel's: it goes with the process that held it.
    """
    folder = root / ".tollgate"
    folder.mkdir(exist_ok=True)
    with (folder / "build.lock").open("a") as lock:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    tell("another run builds in this checkout; waiting until its release is staged")
                    told = True
                await clock.sleep(_POLL_S)
        yield
