"""Whether a drill's run ended as the invariants say, seen from outside: over HTTP, in the books, in every file left."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from pipeline.events import Entry, Kind
from pipeline.secrets import Redactor, Secret
from sandbox import host
from sandbox.drills.fault import Fault, Leaves
from sandbox.drills.scene import Ended, Scene
from sandbox.gateway.remote import Control

SETTLE_S = 20.0
"""How long payments of a drill may take until the books agree."""

_SECRET_FILES = ("settings.env", "settings.json", "settings.aside")
"""Where the secrets belong: the source of the settings and the releases' own copies."""


@dataclass(frozen=True)
class Standing:
    """What an environment looks like from outside."""

    live: str | None
    state: str | None
    closed: bool
    status: int

    @property
    def known_good(self) -> bool:
        return self.state == "verified" and not self.closed and self.status == 200


async def standing(scene: Scene) -> Standing:
    status = await scene.status()
    live = status["live"]
    states = {one["release"]: one["state"] for one in status["releases"]}
    closed = status["maintenance"] != "off" or status["payments"] != "open"
    return Standing(live, states.get(live), closed, await _page(scene, status["address"]))


async def _page(scene: Scene, address: str | None) -> int:
    """The status a visitor gets for the first page; 0 when nobody answers."""
    if address is None:
        return 0
    trusted = ssl.create_default_context(cafile=str(scene.state / "tls" / "ca.pem"))
    try:
        async with httpx.AsyncClient(verify=trusted, trust_env=False, timeout=5.0) as client:
            return (await client.get(address + "/")).status_code
    except httpx.HTTPError:
        return 0


def caught_by(entries: Iterable[Entry]) -> tuple[str, float | None]:
    """The step whose failure a run reported first, and how many seconds after its start."""
    started = None
    for entry in entries:
        if entry.kind is Kind.RUN_STARTED:
            started = entry.at
        if entry.kind is Kind.RUN_FAILED and started is not None:
            return str(entry.data["step"]), (entry.at - started).total_seconds()
    return "", None


def problems_of_run(fault: Fault, ended: Sequence[Ended], step: str, before: Standing, after: Standing) -> list[str]:
    """What did not go as the table says: how each command ended, who caught it, and I2. Pure."""
    found: list[str] = []
    for command, one in zip(fault.commands, ended, strict=True):
        found += one.problems
        if one.code != command.exit:
            found.append(f"exit {one.code}, expected {int(command.exit)}:\n{one.tail()}")
    if fault.caught_by and step not in fault.caught_by:
        found.append(f"caught by {step or 'nothing'}, expected {' or '.join(sorted(fault.caught_by))}")
    if not before.known_good:
        found.append(f"I2: the stage should have been known good before, found {before}")
    if not _stands(fault.leaves, before, after):
        found.append(f"I2: expected {fault.leaves.value} ({before.live} was live), found {after}")
    return found


def _stands(leaves: Leaves, before: Standing, after: Standing) -> bool:
    match leaves:
        case Leaves.AS_BEFORE:
            return after.known_good and after.live == before.live
        case Leaves.ANOTHER:
            return after.known_good and after.live != before.live
        case Leaves.CLOSED:
            return after.closed and after.status == 503
        case Leaves.A_PERSONS:
            return (after.closed, after.status, after.live, after.state) == (True, 503, before.live, before.state)
        case Leaves.UNFINISHED:
            return True  # what must stand is what one `rollback` makes of it


async def problems_of_books(scene: Scene) -> list[str]:
    """I1: the gateway's payments against the activations in the service's own database, once they have settled."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        running = host.status(scene.state)
        if running is None:
            return ["I1: the gateway does not run, so nothing was compared"]
        found = compare(
            await Control(running.control, running.token.reveal()).payments(),
            activations(scene.area / "shared/data/orders.sqlite"),
        )
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.25)


def activations(database: Path) -> Mapping[str, int]:
    """How often each reference is activated, read from the service's database."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as books:
        return Counter(row[0] for row in books.execute("SELECT reference FROM activations"))


def compare(payments: Sequence[Mapping[str, Any]], active: Mapping[str, int]) -> list[str]:
    """Every paid payment has one activation, and there is no other: a test payment has none. Pure."""
    paid = Counter(one["reference"] for one in payments if one["status"] == "PAID" and one.get("mode") != "test")
    if not payments:
        return ["I1: the gateway has no payment, so nothing was compared"]
    return [
        f"I1: {reference} was paid {paid[reference]} times and activated {active.get(reference, 0)} times"
        for reference in sorted(paid.keys() | active.keys())
        if (paid[reference], active.get(reference, 0)) != (1, 1)
    ]


def problems_of_secrets(scene: Scene) -> list[str]:
    """I3: no secret in anything printed or left behind, whatever its encoding."""
    values = {
        name: Secret(value)
        for path in (scene.settings, scene.state / "settings.aside")
        if path.exists()
        for name, value in dotenv_values(path, interpolate=False).items()
        if value and ("SECRET" in name or "KEY" in name)
    }
    redactor = Redactor(values.values())
    found = [f"I3: a secret was printed: {hit}" for text in scene.printed for hit in redactor.found(text.encode())]
    for path in _left_behind(scene):
        found += [f"I3: {path.relative_to(scene.folder)}: {hit}" for hit in redactor.found(path.read_bytes())]
    return found if values else ["I3: no secret was known, so nothing was searched"]


def _left_behind(scene: Scene) -> Iterator[Path]:
    """Every file of the drill's folder but the places where secrets belong and a build that was refused."""
    for path in sorted(scene.folder.rglob("*")):
        inside = path.relative_to(scene.folder).parts
        if path.is_symlink() or not path.is_file() or inside[0] == "dist":
            continue
        if path.name in _SECRET_FILES or path.name.endswith(".lost") or path.parent == scene.area / "settings":
            continue
        yield path
