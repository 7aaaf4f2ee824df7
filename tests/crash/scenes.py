"""What is struck: a verb, and how the environment stands before it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

import wiring
from sandbox import host
from sandbox.gateway.remote import Control
from tests.crash import child, learned, runs, writes
from tests.crash.runs import Verb
from tests.crash.strikes import At, How, Strike
from tests.sandbox.shops import GOOD_CARD, filled

BUILD = Path(__file__).parents[2] / "sandbox" / "shop" / "build.py"
SPEC = Path(__file__).with_name("pipeline.yaml")
_COURSE, _CENTS = "python-101", 49900


@dataclass(frozen=True)
class Scene:
    """`prepare` puts the environment where the verb can be struck. `fresh`: in a folder in which nothing ran yet."""

    name: str
    verb: Verb
    prepare: Callable[[Path], None]
    back: bool = False
    fresh: bool = False


def build(folder: Path, fault: str = "") -> None:
    """Puts a build of the shop into `folder`/dist; with `fault`, a bad release. Each is built once."""
    built = folder / f"built-{fault or 'good'}"
    if not built.exists():
        env = {"PATH": os.environ["PATH"], "SANDBOX_FAULT": fault}
        subprocess.run([sys.executable, str(BUILD), "--out", str(built)], check=True, env=env, capture_output=True)
    shutil.rmtree(folder / "dist", ignore_errors=True)
    shutil.copytree(built, folder / "dist")


def new_place(folder: Path, *, deployed: bool = True) -> None:
    """A folder with a spec and a good build; `deployed`: its sandbox up, and one verified release live."""
    shutil.copy(SPEC, folder)
    build(folder)
    if deployed and runs.in_a_process(folder, "deploy") != 0:
        raise RuntimeError(f"the first deploy failed:\n{(folder / runs.SAID).read_text()}")


def _bad(folder: Path) -> None:
    build(folder, "ignores-amount")


def _newer(folder: Path) -> None:
    build(folder)
    asyncio.run(runs.make_verified(folder))


def _with_many(folder: Path) -> None:
    """More verified releases than are kept, once one more is deployed."""
    build(folder)
    for _ in range(5):
        asyncio.run(runs.make_verified(folder, keep=9))


def _killed(folder: Path) -> None:
    """A deploy whose release serves already, which is not on record."""
    build(folder)
    label = "release.marked live"
    at = At("before", learned.LEARNED["deploy"].entries.index(label) + 1)
    struck = runs.ran(folder, "deploy", Strike(How.KILL, at))
    if struck.code != -9:
        raise RuntimeError(f"the deploy was not killed before {label}:\n{struck.said}")


def _lost(folder: Path) -> None:
    """A payment that was paid, and whose webhook never came."""
    asyncio.run(_lose_a_webhook(folder))


async def _lose_a_webhook(folder: Path) -> None:
    chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
    running, url = host.status(chosen.state), await wiring.address(chosen)
    if running is None or url is None:
        raise RuntimeError("the sandbox does not run")
    control, reference = Control(running.control, running.token.reveal()), f"lost-{uuid4().hex[:12]}"
    trusted = ssl.create_default_context(cafile=str(running.ca))
    await control.set_faults(withhold_webhooks=True)
    async with httpx.AsyncClient(verify=trusted, trust_env=False, timeout=20) as client:
        order = {"reference": reference, "amount": _CENTS, "currency": "ZAR", "course": _COURSE}
        made = (await client.post(f"{url}/api/payments", json=order)).raise_for_status().json()
        data = chosen.area / "shared" / "data" / "orders.sqlite"
        with closing(sqlite3.connect(data, timeout=20, isolation_level=None)) as shop:  # it asks nobody by itself
            shop.execute("UPDATE orders SET next_check_at = NULL WHERE reference = ?", (reference,))
        form = filled((await client.get(made["paylinkUrl"])).text, GOOD_CARD)
        paid = await client.post(running.gateway + form.action, data=form.fields)
    if paid.status_code != 303:
        raise RuntimeError(f"the gateway did not take the payment: {paid.text}")


async def _deliver_again(folder: Path) -> None:
    running = host.status(folder / writes.STATE)
    if running is not None:
        await Control(running.control, running.token.reveal()).clear_faults()


def heal(folder: Path) -> None:
    """The gateway sends its webhooks again."""
    asyncio.run(_deliver_again(folder))


def _nothing(_folder: Path) -> None:
    pass


SCENES: Mapping[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene("first deploy", "deploy", _nothing, fresh=True),
        Scene("deploy", "deploy", build),
        Scene("deploy that prunes", "deploy", _with_many),
        Scene("way back of a bad deploy", "deploy", _bad, back=True),
        Scene("rollback", "rollback", _newer),
        Scene("rollback of a killed deploy", "rollback", _killed),
        Scene("resume of a killed deploy", "resume", _killed),
        Scene("reconcile --apply", "reconcile", _lost),
    )
}


def trace(folder: Path) -> list[dict[str, object]]:
    """What the last run saw of itself."""
    return [json.loads(line) for line in (folder / child.TRACE).read_text().splitlines()]


def files(folder: Path) -> list[str]:
    """Every file that lies below .tollgate now."""
    below = folder / ".tollgate"
    return [str(path.relative_to(folder)) for path in below.rglob("*") if path.is_file() and not path.is_symlink()]


def unknown_files(folder: Path) -> list[str]:
    """Files that no row of the table of writes knows. What was to be renamed and was not is nobody's, until pruned."""
    whole = [path for path in files(folder) if not Path(path).name.startswith(".")]
    return [path for path in whole if writes.row_of(path, tuple(writes.By)) is None]
