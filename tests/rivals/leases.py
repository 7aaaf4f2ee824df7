"""Processes that all want one lease: each writes down, through the fence, when it owned it; some die as owners."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from pipeline.clock import SystemClock
from pipeline.contracts import Fence
from pipeline.errors import LeaseHeld
from pipeline.lease import Lease, Owner
from targets import fence_file

DIES_EVERY = 20


@dataclass(frozen=True)
class Rivalry:
    """What came of it. `lines` are those the owners wrote, as they stand; `codes` the exit codes."""

    codes: Sequence[int]
    lines: Sequence[tuple[str, int, int]]

    @property
    def tokens(self) -> list[int]:
        return [token for what, token, _ in self.lines if what == "begin"]

    def overlapping(self) -> Iterator[str]:
        """Between a begin and its end stands nothing; an owner that died has no end."""
        for (what, token, number), (then, other, _) in zip(self.lines, [*self.lines[1:], ("", 0, 0)], strict=True):
            ended = (then, other) == ("end", token)
            if what == "begin" and not ended and not dies(number):
                yield f"{number} began with {token}, then came {then} {other}"
            if what == "end" and then == "end":
                yield f"{token} ended, then {other}"


def dies(number: int) -> bool:
    return number % DIES_EVERY == 0


def rivalry(folder: Path, rivals: int) -> Rivalry:
    """Starts `rivals` processes that try at the same moment, and again until each has owned the lease once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rivals.leases"])
    gate = context.Event()
    processes = [context.Process(target=_rival, args=(folder, number, gate)) for number in range(rivals)]
    for process in processes:
        process.start()
    gate.set()
    for process in processes:
        process.join()
    words = [line.split() for line in (folder / "owners").read_text().splitlines()]
    lines = [(what, int(token), int(number)) for what, token, number in words]
    return Rivalry([process.exitcode or 0 for process in processes], lines)


def _rival(folder: Path, number: int, gate: Any) -> None:
    chance = Random(number)  # noqa: S311
    owner = Owner.this_process(f"run-{number}", "rival")
    gate.wait()
    path = folder / "lease.sqlite"
    lease = None
    while lease is None:
        try:
            beyond = fence_file.highest(folder / "fence")
            lease = Lease.take(path, owner=owner, clock=SystemClock(), beyond=beyond, wait_s=60)
        except LeaseHeld:
            time.sleep(chance.uniform(0.05, 0.6))
    fence = Fence(PurePosixPath(folder / "fence"), lease.token)
    _write(folder, fence, "begin", number)
    if dies(number):
        os.kill(os.getpid(), signal.SIGKILL)
    _write(folder, fence, "end", number)
    lease.release()
    os._exit(0)


def _write(folder: Path, fence: Fence, what: str, number: int) -> None:
    held = fence_file.entered_in_thread(fence)
    try:
        with (folder / "owners").open("a") as file:
            file.write(f"{what} {fence.token} {number}\n")
    finally:
        held.close()
