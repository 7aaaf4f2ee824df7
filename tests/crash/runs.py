"""Runs of the real verbs in processes of their own, which are struck at one moment; and what is read afterwards."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import commands
import wiring
from commands import Flags
from pipeline import plan, reconciling, rolling_back, runner
from pipeline.clock import SystemClock
from pipeline.contracts import ReleaseId, ReleaseState, SwitchName
from pipeline.errors import Exit, TollgateError
from pipeline.events import Kind
from pipeline.lease import Owner
from pipeline.run_record import Outcome
from pipeline.session import Session
from pipeline.standing import open_runs
from sandbox import host
from sandbox.drills import judge
from sandbox.drills.scene import Scene
from tests.crash.child import Struck, said_into
from tests.crash.strikes import Strike

Verb = Literal["deploy", "resume", "rollback", "reconcile"]
SAID = "said.txt"
LIMIT_S = 120
_ROOMS = ("checks", "rollback", "targets", "gateways.ikhokha")
_LATER = ("targets.local", "pipeline.sources", "ahocorasick_rs", "httpcore", "h11", "anyio._backends._asyncio")
_TARGET = ("targets.releases", "targets.switches", "targets.traffic", "targets.vault", "tarfile")
_SMALL = ("gateways.ikhokha_signing", "pipeline.security_log", "pydantic.type_adapter", "concurrent.futures.thread")
_TOLD = ("pipeline.console", "pipeline.report", "pipeline.incident", "pipeline.sarif", "pipeline.tables", "jinja2")
_LOADED = ("tests.crash.runs", *_ROOMS, "pipeline.loader", "pipeline.asking", *_LATER, *_TARGET, *_SMALL, *_TOLD)
"""Loaded once, before each run is forked: what a run loads is not what is tested."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, or minus the signal that ended it; and what it printed."""

    code: int
    said: str


def in_a_process(folder: Path, verb: Verb) -> int:
    """Runs a verb that nothing strikes; returns its exit code."""
    return ran(folder, verb).code


def ran(folder: Path, verb: Verb, strike: Strike | None = None) -> Ended:
    """Runs a verb in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_LOADED])
    process = context.Process(target=_child, args=(folder.resolve(), verb, strike))
    process.start()
    process.join(LIMIT_S)
    said = folder / SAID
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{verb}, struck by {strike}, did not end within {LIMIT_S} s:\n{said.read_text()[-2000:]}")
    return Ended(process.exitcode, said.read_text(errors="replace"))


def _child(folder: Path, verb: Verb, strike: Strike | None) -> None:
    with (folder / SAID).open("wb") as said:
        said_into(said)
    struck = Struck(folder, strike)
    struck.begin()
    sys.addaudithook(struck.audit)
    code = commands.ended(Flags("sandbox", str(folder / "pipeline.yaml")), lambda: _verb(folder, verb, struck))
    struck.end()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _verb(folder: Path, verb: Verb, struck: Struck) -> Exit:
    """What `commands` does for that verb, with a moment to be struck at."""
    flags = Flags("sandbox", str(folder / "pipeline.yaml"))
    chosen = wiring.choose(flags.spec, flags.env)

    def owner(session: Session) -> Owner:
        return Owner.this_process(session.recorder.run, "test")

    forward = plan.make(chosen.spec, chosen.name, chosen.tables.checks, verb="deploy")
    back = plan.make(chosen.spec, chosen.name, chosen.tables.checks, verb="rollback", stages=("prove",))
    books, again = reconciling.Books(), reconciling.planned(chosen.spec, chosen.name, apply=True)
    acts: dict[Verb, Callable[[Session], Coroutine[Any, Any, Outcome]]] = {
        "deploy": lambda session: runner.deploy(session, forward, owner(session)),
        "rollback": lambda session: rolling_back.rollback(session, back, owner(session), to=None, reason="test"),
        "reconcile": lambda session: reconciling.apply(session, again, owner(session), None, books),
    }
    opening: dict[str, Any] = {"changes": True, "release": verb == "deploy", "goes_back": verb == "rollback"}
    if verb == "resume":
        begun = commands._unfinished(chosen)
        opening = {"changes": True, "continues": begun}
        acts["resume"] = lambda session: runner.resume(session, forward, owner(session), begun)
    return await commands.run(flags, chosen, acts[verb], around=struck.around, clock=struck.clock, **opening)


def unfinished(folder: Path) -> list[Any]:
    """The runs an operator would still have to put right, newest first."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    with wiring.recorded(chosen) as journal:
        return list(open_runs(journal.entries() if journal else []))


def labels_of_last_run(folder: Path) -> list[str]:
    """What each entry that it wrote is about: its stage where steps run side by side, else its kind and its step."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    with wiring.recorded(chosen) as journal:
        entries = journal.entries() if journal else ()
    began = max(n for n, entry in enumerate(entries) if entry.kind is Kind.RUN_STARTED)
    return [_label(entry.kind.value, entry.data) for entry in entries[began:]]


def _label(kind: str, data: Any) -> str:
    if kind == "run.failed":
        return kind
    if data.get("stage") in ("gates", "prove", "watch"):
        return str(data["stage"])
    if kind in ("money.spent", "finding"):
        return "prove"
    named = next((str(data[key]) for key in ("step", "name", "state", "stage") if data.get(key)), "")
    return f"{kind} {named.split(' of ')[0]}".strip()


_made = itertools.count()


async def make_verified(folder: Path, release: str = "", *, keep: int = 3) -> str:
    """Puts one more release live and verified, by the target alone, so that there is something to roll back from.

    Its name, unless given, is the newest.
    """
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")

    async def anyone() -> None:
        return None

    target = await wiring.open_target(chosen, anyone)
    settings = await wiring.settings_of(chosen)
    values = {name: found.value for name, found in settings.values.items()}
    newest = max((one.id for one in await target.releases.all()), default="")
    last = datetime.strptime(f"{newest[:15]}+0000", "%Y%m%dT%H%M%S%z") if newest else datetime.now(UTC)
    later = last + timedelta(seconds=1)
    release = release or f"{later:%Y%m%dT%H%M%S}{next(_made) % 1000:03d}Z-test"
    await target.releases.stage(ReleaseId(release), folder / "dist", values)
    await target.traffic.activate(ReleaseId(release))
    await target.releases.mark(ReleaseId(release), ReleaseState.VERIFIED, "made for a test")
    await target.releases.prune(keep)
    return release


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


async def half_states(folder: Path) -> list[str]:
    """I2 right after a run that was struck and not killed: known good, or closed for customers."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    target = await wiring.looking_at(chosen)
    try:
        live, half = await target.traffic.live(), ""
    except TollgateError as error:
        live, half = None, str(error)
    record = next((one for one in await target.releases.all() if one.id == live), None)
    if record is not None and record.state is ReleaseState.VERIFIED:
        digests = await target.settings.in_force(record.id), await target.settings.kept(record.id)
        if digests == (record.settings, record.settings):
            return []
    address = await wiring.address(chosen)
    page = await judge._page(Scene(folder), address)
    found = half or f"{live} is live, {record and record.state}"
    return [] if page == 503 else [f"I2: {found}, and visitors see {page}"]


def is_live(folder: Path) -> bool:
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")

    async def live() -> bool:
        return await (await wiring.looking_at(chosen)).traffic.live() is not None

    return asyncio.run(live())


def previous_and_goal(folder: Path) -> tuple[str, str]:
    """What the last deploy would have gone back to, and what a rollback would go back to now."""
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")

    async def look() -> tuple[str, str]:
        target, said = await wiring.looking_at(chosen), list[str]()
        with wiring.recorded(chosen) as journal:
            entries = journal.entries() if journal else ()
        previous = [str(one.data["previous"]) for one in entries if one.kind is Kind.RUN_STARTED][-1]
        seen = rolling_back.Look(
            "sandbox", target, SystemClock(), "test", chosen.tables.checkpoints, entries, said.append
        )
        return previous, str((await rolling_back.choose(seen, None)).release)

    return asyncio.run(look())


def stop(folder: Path) -> None:
    """Ends the sandbox of a folder."""
    from targets import stop_local

    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    try:
        asyncio.run(stop_local(chosen.area))
    finally:
        host.down(chosen.state)
