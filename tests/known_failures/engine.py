"""Runs of the real engine in processes of their own, which something happens to right after one of their entries."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal, Self

import wiring
from pipeline import plan, rolling_back, runner
from pipeline.errors import TollgateError
from pipeline.events import Entry, Event, Kind
from pipeline.journal import Journal
from pipeline.lease import Owner
from pipeline.run_record import Outcome
from pipeline.session import Session

Verb = Literal["deploy", "rollback"]
Happens = Callable[[Path], None]
"""What happens in the run's own process; it gets the folder of its pipeline.yaml."""
LIMIT_S = 60.0
_LOADED = ["tests.known_failures.engine", "checks", "rollback", "targets.local", "gateways.ikhokha", "pipeline.loader"]


@dataclass(frozen=True)
class At:
    """Right after an entry is on record: its kind, and how the step or checkpoint it is about begins; '' for any."""

    kind: Kind
    begins: str
    happens: Happens


def signals(number: signal.Signals) -> Happens:
    """The run sends itself a signal: it arrives exactly there, however busy the machine is."""
    return _SIGNALS[number]


def _stop(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _interrupt(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _kill(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_SIGNALS: dict[signal.Signals, Happens] = {
    signal.SIGSTOP: _stop,
    signal.SIGINT: _interrupt,
    signal.SIGKILL: _kill,
}


def lose_settings(folder: Path) -> None:
    """What a way back needs is gone: the settings, in force and kept, of the last verified release."""
    for path in _settings(folder):
        path.rename(path.with_name(f"{path.name}.lost"))


def find_settings(folder: Path) -> None:
    for path in _settings(folder):
        path.with_name(f"{path.name}.lost").rename(path)


def _settings(folder: Path) -> tuple[Path, Path]:
    marked = [entry.data for entry in entries(folder) if entry.kind is Kind.RELEASE_MARKED]
    good = next(data["release"] for data in reversed(marked) if data["state"] == "verified")
    area = folder / ".tollgate" / "sandbox" / "target"
    return area / "releases" / good / "settings.json", area / "settings" / f"{good}.json"


class Run:
    """A run that was started. `end` waits for its exit code, minus the signal where one ended it.

    As a context it leaves no process behind, not even one that is stopped.
    """

    def __init__(self, folder: Path, verb: Verb, at: At | None = None, to: str | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_LOADED)
        self._process: ForkServerProcess = context.Process(target=_child, args=(folder, verb, at, to))
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def sleeps(self) -> None:
        """Waits until it has stopped itself."""
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self._state() != "T":
                assert self._process.is_alive(), f"it ended with {self._process.exitcode} before it was stopped"
                await asyncio.sleep(0.01)

    def _state(self) -> str:
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wakes(self) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> int:
        self._process.join(LIMIT_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"it did not end within {LIMIT_S:g} s")
        return self._process.exitcode


def run(folder: Path, verb: Verb, at: At | None = None, *, to: str | None = None) -> int:
    """Runs a verb to its end; its exit code as the command line has it."""
    return Run(folder, verb, at, to).end()


def entries(folder: Path) -> tuple[Entry, ...]:
    with Journal.read(folder / ".tollgate" / "sandbox" / "journal.sqlite") as journal:
        return journal.entries()


def of_last_run(folder: Path, kind: Kind) -> list[Entry]:
    found = entries(folder)
    last = next(entry.run for entry in reversed(found) if entry.kind is Kind.RUN_FINISHED)
    return [entry for entry in found if entry.run == last and entry.kind is kind]


# ---- in the process of the run ------------------------------------------------------------------------------


def _child(folder: Path, verb: Verb, at: At | None, to: str | None) -> None:
    try:
        code = asyncio.run(_verb(folder, verb, at, to))
    except TollgateError as error:
        code = int(error.exit_code)
    os._exit(code)


async def _verb(folder: Path, verb: Verb, at: At | None, to: str | None) -> int:
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    checks = chosen.tables.checks
    happened: list[Event] = []

    def listen(event: Event) -> None:
        if at is None or happened or not isinstance(event, Entry) or event.kind is not at.kind:
            return
        if any(str(event.data.get(key, "")).startswith(at.begins) for key in ("step", "name")):
            happened.append(event)
            at.happens(folder)

    async def act(session: Session) -> Outcome:
        owner = Owner.this_process(session.recorder.run, "test")
        if verb == "deploy":
            forward = plan.make(chosen.spec, chosen.name, checks, verb="deploy")
            return await runner.deploy(session, forward, owner)
        back = plan.make(chosen.spec, chosen.name, checks, verb="rollback", stages=("prove",))
        return await rolling_back.rollback(session, back, owner, to=to, reason="test")

    back_again = verb == "rollback"
    async with wiring.opened(
        chosen, lambda _: [listen], changes=True, release=not back_again, goes_back=back_again
    ) as session:
        return int((await act(session)).exit)
