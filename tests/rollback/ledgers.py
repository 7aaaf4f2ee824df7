"""The engine over a real target whose releases keep their orders in a real SQLite file, and migrate it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from checks import CHECKS
from pipeline.contracts import ReleaseId, ReleaseState, World
from pipeline.secrets import Secret
from pipeline.spec import Database
from pipeline.verdict import Finding, failed, passed
from targets import TARGETS, up_local
from tests.pipeline.rooms import _AT_WORK as AT_WORK
from tests.pipeline.rooms import ALL, OLD, STORY, Shop, Yard

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "tests" / "targets" / "ledger"
GATE = "database.old_release_works"
DEPLOY = [
    {"act": "release.stage"},
    {"act": "database.migrate", "needs": ["release.stage"], "checkpoints": ["release", "settings", "database"]},
    {"check": GATE, "needs": ["database.migrate"]},
    {"act": "release.switch", "needs": [GATE], "checkpoints": ALL},
]
SCHEMA = ["python", "-m", "ledger.schema"]
REVERSIBLE: Mapping[str, Any] = {
    "migrate": [*SCHEMA, "up"],
    "revert": [*SCHEMA, "down", "{version}"],
    "version": [*SCHEMA, "version"],
}
IRREVERSIBLE = {**REVERSIBLE, "revert": None, "irreversible": "the notes of customers would be lost"}
TOTAL = 34_900


class RealShop(Shop):
    """The visitors of a service that is really there."""

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(trust_env=False, timeout=10)


@dataclass
class Ledger:
    """A yard on a real target. The release OLD is live and verified, and its schema is at version 1."""

    yard: Yard
    area: Path

    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.data / "ledger.sqlite", isolation_level=None)

    @property
    def data(self) -> Path:
        return self.area / "shared" / "data"

    @property
    def version(self) -> int:
        (found,) = self.database().execute("PRAGMA user_version").fetchone()
        return int(found)

    @property
    def columns(self) -> list[str]:
        return [row[1] for row in self.database().execute("PRAGMA table_info(orders)")]

    def builds(self, **traits: Any) -> None:
        """What the build of the next deploy leaves."""
        (self.data / "half-way").unlink(missing_ok=True)
        build(self.yard.folder / "dist", {"column": "price", "migration": "adds", **traits})

    def said(self, **members: Any) -> None:
        """What pipeline.yaml says of the database."""
        database = Database.model_validate_json(json.dumps({**REVERSIBLE, **members}))
        self.yard.spec = self.yard.spec.model_copy(update={"database": database})

    async def live(self) -> ReleaseId | None:
        assert self.yard.carrier is not None
        return await self.yard.carrier.traffic.live()

    async def states(self) -> dict[str, str]:
        assert self.yard.carrier is not None
        return {one.id: one.state.value for one in await self.yard.carrier.releases.all()}

    async def answer(self, path: str = "/total") -> tuple[int, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            answer = await client.get(self.yard.address + path)
            return answer.status_code, answer.json()


def build(dist: Path, traits: Mapping[str, Any]) -> None:
    shutil.rmtree(dist, ignore_errors=True)
    shutil.copytree(LEDGER, dist / "ledger", ignore=shutil.ignore_patterns("__pycache__"))
    (dist / "ledger" / "release.json").write_text(json.dumps(dict(traits)))


async def serves(world: World) -> Finding:
    """A proof: the service answers with the total of what was ordered."""
    answer = await world.service.request("GET", "/total")
    if answer.status == 200 and answer.json()["total"] == TOTAL:
        return passed("the total is right")
    return failed(f"GET /total: {answer.status}", "mend it")


async def guard() -> int | None:
    """The lease of the run at work; what a test does itself needs none."""
    at_work = AT_WORK.get(None)
    return await at_work[0].guard() if at_work else None


async def opened(folder: Path) -> Ledger:
    """What earlier runs left in `folder`."""
    yard, area = Yard(folder, {**STORY, "deploy": DEPLOY}), folder / "area"
    yard.checks[GATE] = CHECKS[GATE]
    yard.says["proof.one"] = serves
    yard.shop = RealShop(yard.ground)
    yard.carrier = await TARGETS["local"](
        area=area,
        start=("python", "-m", "ledger"),
        process={},
        public_url=None,
        ready_within=20.0,
        drain_within=5.0,
        idle=0.0,
        activity=folder / "activity",
        guard=guard,
    )
    yard.address = await up_local(yard.carrier)
    made = Ledger(yard, area)
    made.said()
    return made


async def ledger(folder: Path, *, first: bool = False, **old: Any) -> Ledger:
    """`old`: traits of the release that is live; `first`: none is."""
    made = await opened(folder)
    with made.database() as database:
        database.execute("CREATE TABLE orders (reference TEXT PRIMARY KEY, price INTEGER)")
        database.execute("INSERT INTO orders VALUES ('order-1', 34900)")
        database.execute("PRAGMA user_version = 1")
    target = made.yard.carrier
    if target is not None and not first:
        build(folder / "old", {"column": "price", "migration": "adds", **old})
        await target.releases.stage(OLD, folder / "old", {"API_SECRET": Secret("of " + OLD)})
        await target.traffic.activate(OLD)
        await target.releases.mark(OLD, ReleaseState.VERIFIED, "proven before")
    return made


def deploys_in_a_process(folder: Path) -> subprocess.Popen[bytes]:
    """A deploy of what was built, by a process that a test may kill."""
    code = f"import asyncio; from tests.rollback import ledgers; asyncio.run(ledgers.deploys({str(folder)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)


async def deploys(folder: str) -> None:
    await (await opened(Path(folder))).yard.deploy(run="run-of-another-process")
