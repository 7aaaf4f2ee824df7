"""Runs of the real engine in processes of their own that are paused, killed or held up at one change of the target."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, Literal

import wiring
from pipeline import plan, rolling_back, runner
from pipeline.contracts import Completed, Fence
from pipeline.errors import Exit, TollgateError
from pipeline.lease import Owner
from tests.crash import runs as crash

Verb = Literal["deploy", "rollback"]
How = Literal["stopped before", "stopped inside", "killed inside", "held up"]
LATE_S = 90.0
_LOADED = (*crash._LOADED, "tests.rivals.runs")


@dataclass(frozen=True)
class Moment:
    """The first change whose command or path has `mark` in it: `stopped before` it means after the lease was asked."""

    how: How
    mark: str

    def __str__(self) -> str:
        return f"{self.how} {self.mark}".replace(" ", "-")


_INSIDE: Mapping[How | None, signal.Signals | None] = {
    "stopped inside": signal.SIGSTOP,
    "killed inside": signal.SIGKILL,
    "held up": None,
}


class HeldUp:
    """A host that does what `moment` says, once. A command it comes `inside` waits until the pipe is written to."""

    def __init__(self, moment: Moment, pipe: Path) -> None:
        from targets.local import LocalHost

        self._host = LocalHost()
        self._moment: Moment | None = moment
        self._pipe = pipe

    def _comes(self, fence: Fence | None, *words: str) -> How | None:
        moment = self._moment
        if moment is None or fence is None or not any(moment.mark in word for word in words):
            return None
        self._moment = None
        if moment.how == "stopped before":
            os.kill(os.getpid(), signal.SIGSTOP)
        return moment.how

    async def run(
        self, argv: Sequence[str], *, timeout: float, stdin: bytes = b"", fence: Fence | None = None
    ) -> Completed:
        how = self._comes(fence, *argv[-3:])
        if how not in _INSIDE or fence is None:
            return await self._host.run(argv, timeout=timeout, stdin=stdin, fence=fence)
        waits = ["sh", "-c", 'cat "$0" && exec "$@"', str(self._pipe), *argv]
        running = asyncio.ensure_future(self._host.run(waits, timeout=LATE_S, stdin=stdin, fence=fence))
        while not is_read(self._pipe) or _has_open(Path(fence.path)):
            await asyncio.sleep(0.005)
        if (number := _INSIDE[how]) is not None:
            os.kill(os.getpid(), number)
        return await running

    async def put(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644, fence: Fence | None = None) -> None:
        self._comes(fence, str(path))
        await self._host.put(path, content, mode=mode, fence=fence)

    async def rename(self, old: PurePosixPath, new: PurePosixPath, *, fence: Fence | None = None) -> None:
        self._comes(fence, str(old), str(new))
        await self._host.rename(old, new, fence=fence)

    async def read(self, path: PurePosixPath) -> bytes:
        return await self._host.read(path)


def begun(folder: Path, verb: Verb, moment: Moment | None = None, gate: Any = None, tries: int = 1) -> BaseProcess:
    """A verb in a process of its own; its exit code is the verb's. `gate`: a barrier that all pass together; `tries`:
    how often it is started when another run holds the lease.
    """
    process: BaseProcess = context().Process(target=_child, args=(folder, verb, moment, gate, tries))
    process.start()
    return process


def context() -> Any:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([*_LOADED])
    return found


def ended(process: BaseProcess, late_s: float = LATE_S) -> int:
    process.join(late_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{process.name} did not end within {late_s:g} s")
    return process.exitcode


def _child(folder: Path, verb: Verb, moment: Moment | None, gate: Any, tries: int) -> None:
    chance, code = Random(os.getpid()), int(Exit.LEASE_HELD)  # noqa: S311
    while tries > 0 and code == Exit.LEASE_HELD:
        code = _once(folder, verb, moment, gate)
        gate, tries = None, tries - 1
        if tries > 0:
            time.sleep(chance.uniform(0.5, 6.0))  # as people do who are refused
    os._exit(code)


def _once(folder: Path, verb: Verb, moment: Moment | None, gate: Any) -> int:
    try:
        return asyncio.run(_verb(folder, verb, moment, gate))
    except TollgateError as error:
        with (folder / "refusals").open("a") as file:
            file.write(f"{os.getpid()} {verb} {int(error.exit_code)} {error}\n")
        return int(error.exit_code)


async def _verb(folder: Path, verb: Verb, moment: Moment | None, gate: Any) -> int:
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    if moment is not None:
        targets = dict(chosen.tables.targets)
        targets["local"] = partial(targets["local"], host=HeldUp(moment, folder / "pipe"))
        chosen = replace(chosen, tables=replace(chosen.tables, targets=targets))
    forward = plan.make(chosen.spec, chosen.name, chosen.tables.checks, verb="deploy")
    back = plan.make(chosen.spec, chosen.name, chosen.tables.checks, verb="rollback", stages=("prove",))
    if gate is not None:
        gate.wait()
    back_again = verb == "rollback"
    async with wiring.opened(
        chosen, lambda _: [], changes=True, release=not back_again, goes_back=back_again
    ) as session:
        owner = Owner.this_process(session.recorder.run, "test")
        if verb == "deploy":
            return int((await runner.deploy(session, forward, owner)).exit)
        return int((await rolling_back.rollback(session, back, owner, to=None, reason="test")).exit)


def _has_open(path: Path) -> bool:
    """Whether this process itself holds a file: the command of a change holds it alone, as soon as it runs."""
    return any(one.is_symlink() and one.readlink() == path for one in Path("/proc/self/fd").iterdir())


def is_read(pipe: Path) -> bool:
    """Whether a `cat` waits for the pipe."""
    return any(_cmdline(one) == ["cat", str(pipe)] for one in Path("/proc").glob("[0-9]*"))


def _cmdline(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


@contextmanager
def held_up(folder: Path) -> Iterator[Callable[[], None]]:
    """Keeps what waits for the pipe waiting; what it gives lets it go."""
    end = os.open(folder / "pipe", os.O_RDWR)
    left = [end]

    def let_go() -> None:
        while left:
            os.close(left.pop())

    try:
        yield let_go
    finally:
        let_go()


# ---- looking from outside ----------------------------------------------------------------------------------


def until(condition: Callable[[], Any], what: str) -> Any:
    late = time.monotonic() + LATE_S
    while not (found := condition()):
        if time.monotonic() > late:
            raise TimeoutError(what)
        time.sleep(0.01)
    return found


def lease_file(folder: Path) -> Path:
    return folder / ".tollgate" / "sandbox" / "target" / "lease.sqlite"


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(lease_file(folder), timeout=20)) as connection:
        return connection.execute(query).fetchall()


def is_stopped(process: BaseProcess) -> bool:
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def asked_for(folder: Path, pid: int | None) -> bool:
    """Whether a rollback asked for the lease that this process holds."""
    query = "SELECT lease.pid FROM lease JOIN takeover ON takeover.token = lease.token AND standing = 1"
    return rows(folder, query) == [(pid,)]


def owner(folder: Path) -> int:
    """The process that holds the lease; 0 for none."""
    return next((pid for (pid,) in rows(folder, "SELECT pid FROM lease WHERE held = 1")), 0)


def run_out(folder: Path) -> None:
    """As if nobody had renewed the lease for as long as it lasts: a test waits for nothing that only takes time."""
    with closing(sqlite3.connect(lease_file(folder), timeout=20)) as connection, connection:
        connection.execute("UPDATE lease SET renewed_monotonic = renewed_monotonic - expires_s")


def area(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file, link and folder of the target's area, but logs and what SQLite and the fence keep."""
    root = folder / ".tollgate" / "sandbox" / "target"
    left_out = (".log", ".log.1", "-wal", "-shm", "lease.sqlite")
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, _content(path))
        for path in sorted(root.rglob("*"))
        if not path.name.endswith(left_out) and not path.is_socket()
    }


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return str(path.readlink()).encode()
    return hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""


# ---- all at once -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fight:
    """How rivals ended. `overlapping`: runs that took the lease while another held it, as the record has it."""

    codes: list[int]
    overlapping: list[str]


def fight(folder: Path, rivals: int, begun_here: list[BaseProcess], tries: int = 3) -> Fight:
    """Deploys and rollbacks in turn, all let go at the same moment; who is refused tries again."""
    gate = context().Barrier(rivals)
    for number in range(rivals):
        begun_here.append(begun(folder, "deploy" if number % 2 else "rollback", gate=gate, tries=tries))
    codes = [ended(process, LATE_S + 5 * rivals) for process in begun_here[-rivals:]]
    return Fight(codes, list(_overlapping(folder)))


def _overlapping(folder: Path) -> Any:
    """A run holds the lease from its taking to its end on record: nobody else's taking lies in between, and tokens
    rise."""
    from pipeline.events import Kind

    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    with wiring.recorded(chosen) as journal:
        entries = journal.entries() if journal else ()
    owner, token = "", 0
    ends = {entry.run: entry.seq for entry in entries if entry.kind is Kind.RUN_FINISHED}
    for entry in entries:
        if entry.kind is Kind.LEASE_TAKEN:
            if entry.data["token"] <= token:
                yield f"{entry.run}: token {entry.data['token']} after {token}"
            if owner and ends.get(owner, 0) > entry.seq and not entry.data["from_dead_owner"]:
                yield f"{entry.run} took the lease that {owner} held"
            owner, token = entry.run, entry.data["token"]
