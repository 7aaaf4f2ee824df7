"""Runs of the real engine in processes of their own, which kill themselves at one entry of the journal."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import wiring
from pipeline import plan, rolling_back, runner
from pipeline.contracts import ReleaseId, ReleaseState, SwitchName
from pipeline.events import Entry, Event, Kind
from pipeline.lease import Owner
from pipeline.run_record import Outcome
from pipeline.session import Session
from pipeline.standing import open_runs
from sandbox import host
from sandbox.drills import judge
from sandbox.drills.scene import Scene

Verb = Literal["deploy", "resume", "rollback"]
When = Literal["before", "after"]
NOT_KILLED = 99
_ROOMS = ("checks", "rollback", "targets", "gateways.ikhokha")
_LATER = ("targets.local", "pipeline.sources", "ahocorasick_rs", "httpcore", "h11", "anyio._backends._asyncio")
_TARGET = ("targets.releases", "targets.switches", "targets.traffic", "targets.vault", "tarfile")
_SMALL = ("gateways.ikhokha_signing", "pipeline.security_log", "pydantic.type_adapter", "concurrent.futures.thread")
_LOADED = ("tests.crash.runs", *_ROOMS, "pipeline.loader", "pipeline.asking", *_LATER, *_TARGET, *_SMALL)
"""Loaded once, before each run is forked: what a run loads is not what is tested."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL before or after the n-th entry that the run writes, counted from 1. n 0: it is left alone.

    `on_the_way_back`: counted from the entry that follows the first error, because how many entries a stage writes
    before its failing step has cancelled the others is not fixed.
    """

    when: When
    n: int
    on_the_way_back: bool = False

    def __str__(self) -> str:
        return f"{self.when}-{self.n}"


NEVER = Kill("before", 0)


def in_a_process(folder: Path, verb: Verb, kill: Kill = NEVER) -> int:
    """Runs a verb; returns its exit code, or minus the signal that ended it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_LOADED])
    process = context.Process(target=_child, args=(folder, verb, kill))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{verb} killed at {kill} did not end within 60 s")
    return process.exitcode


def _child(folder: Path, verb: Verb, kill: Kill) -> None:
    os._exit(asyncio.run(_verb(folder, verb, kill)))


async def _verb(folder: Path, verb: Verb, kill: Kill) -> int:
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")

    failed_at: list[int] = []
    written = [0]

    def around(when: str, n: int) -> None:
        written[0] = n
        first = failed_at[0] if failed_at else 0
        counts = bool(failed_at) or not kill.on_the_way_back
        if counts and (when, n - first) == (kill.when, kill.n):
            os.kill(os.getpid(), signal.SIGKILL)

    def listen(event: Event) -> None:
        if kill.on_the_way_back and isinstance(event, Entry) and event.kind is Kind.RUN_FAILED:
            failed_at.append(written[0])

    def owner(session: Session) -> Owner:
        return Owner.this_process(session.recorder.run, "test")

    forward = plan.make(chosen.spec, chosen.name, chosen.tables.checks, verb="deploy")
    back = plan.make(chosen.spec, chosen.name, chosen.tables.checks, verb="rollback", stages=("prove",))
    acts: dict[Verb, Callable[[Session], Coroutine[Any, Any, Outcome]]] = {
        "deploy": lambda session: runner.deploy(session, forward, owner(session)),
        "rollback": lambda session: rolling_back.rollback(session, back, owner(session), to=None, reason="test"),
    }
    opening: dict[str, Any] = {"changes": True, "release": verb == "deploy"}
    if verb == "resume":
        with wiring.recorded(chosen) as journal:
            unfinished = open_runs(journal.entries() if journal else [])[0]
        opening = {"changes": True, "continues": unfinished}
        acts["resume"] = lambda session: runner.resume(session, forward, owner(session), unfinished)
    async with wiring.opened(chosen, lambda _: [listen], around=around, **opening) as session:
        return int((await acts[verb](session)).exit)


def unfinished(folder: Path) -> list[Any]:
    """The runs an operator would still have to put right, newest first."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    with wiring.recorded(chosen) as journal:
        return list(open_runs(journal.entries() if journal else []))


def entries_of_last_run(folder: Path, since: Kind | None = None) -> int:
    """How many entries it wrote; with `since`, how many after the first of that kind."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    with wiring.recorded(chosen) as journal:
        assert journal is not None
        entries = journal.entries()
    kinds = [entry.kind for entry in entries if entry.run == entries[-1].run]
    return len(kinds) if since is None else len(kinds) - kinds.index(since) - 1


async def make_verified(folder: Path, release: str) -> None:
    """Puts a second release live and verified, by the target alone, so that there is something to roll back from."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")

    async def anyone() -> None:
        return None

    target = await wiring.open_target(chosen, anyone)
    settings = await wiring.settings_of(chosen)
    values = {name: found.value for name, found in settings.values.items()}
    await target.releases.stage(ReleaseId(release), folder / "dist", values)
    await target.traffic.activate(ReleaseId(release))
    await target.releases.mark(ReleaseId(release), ReleaseState.VERIFIED, "made for a test")
    await target.releases.prune(3)


async def broken_invariants(folder: Path) -> list[str]:
    """I1 and I2 and the record, read from the world and not from what the run said."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    target = await wiring.looking_at(chosen)
    live = await target.traffic.live()
    states = {record.id: record for record in await target.releases.all()}
    found = []
    if live is None or states[live].state is not ReleaseState.VERIFIED:
        found.append(f"I2: {live} is live, which is {states[live].state if live else 'nothing'}")
    elif not (await target.settings.in_force(live) == await target.settings.kept(live) == states[live].settings):
        found.append(f"I2: {live} runs with other settings than it was verified with")
    found += [f"I2: {name} is on" for name in SwitchName if await target.switches.read(name) is not None]
    with wiring.recorded(chosen) as journal:
        assert journal is not None
        found += [f"I5: {one}" for one in journal.verify()]
        found += [f"unfinished: {one.run} at {one.stands_at}" for one in open_runs(journal.entries())]
    return found + await judge.problems_of_books(Scene(folder))


def stop(folder: Path) -> None:
    """Ends the sandbox of a folder."""
    from targets import stop_local

    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    asyncio.run(stop_local(chosen.area))
    host.down(chosen.state)
