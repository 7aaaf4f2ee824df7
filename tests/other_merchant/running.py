"""The merchant of another team, in Node, before the sandbox gateway of this process, and the world around them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateways import GATEWAYS
from pipeline.clock import SystemClock
from pipeline.contracts import Addresses, Cents, World
from sandbox import authority
from tests.checks import worlds
from tests.sandbox.gateway_rig import APP_ID, SECRET, Rig, shop_settings

NODE = shutil.which("node")
_HERE = Path(__file__).parent


class Purse:
    """Implements contracts.Purse: what was spent is only remembered."""

    spent = 0

    async def spend(self, cents: Cents, reference: str, *, cap: Cents) -> None:
        assert self.spent + cents <= cap, f"{cents} cents for {reference} would exceed {cap}"
        self.spent += cents


@dataclass(frozen=True)
class Other:
    """A running merchant. `log` is what it wrote on stderr, a line with "crashed" for each request that broke it."""

    world: World
    base: str
    log: Path


@asynccontextmanager
async def other_merchant(
    gateway: Rig, folder: Path, mistake: str = "", *, sources: Sequence[str] = (), body_ms: int = 5000
) -> AsyncIterator[Other]:
    """A Node process on a free port, ended with the block. `folder` is the one the gateway was started with.

    `mistake` is one of mistakes.mjs; `body_ms` how long a body may take to arrive.
    """
    assert NODE is not None
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    log = folder / f"other-merchant-{mistake or 'careful'}.log"
    environment = {
        "PATH": os.environ["PATH"],
        "TLS_CERT": str(certificates.server),
        "TLS_KEY": str(certificates.key),
        "GATEWAY_URL": gateway.base,
        "GATEWAY_CA": str(certificates.ca),
        "IK_APPID": APP_ID,
        "IK_SECRET": SECRET,
        "DATA_FILE": str(log.with_suffix(".orders")),
        "WEBHOOK_SOURCES": ",".join(sources),
        "RELEASE_ID": worlds.RELEASE,
        "BODY_MS": str(body_ms),
        "BROKEN": mistake,
    }
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            NODE, "merchant.mjs", cwd=_HERE, env=environment, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line, log.read_text()
        base = json.loads(line)["listening"]
        yield Other(_world(gateway, folder, base, certificates, sources), base, log)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def _world(
    gateway: Rig, folder: Path, base: str, certificates: authority.Certificates, sources: Sequence[str]
) -> World:
    contract: dict[str, Any] = {
        "courses": [{"id": "bookkeeping-101", "cents": 25000}],
        "webhook_sources": list(sources),
        "answers_within": "10 s",
    }
    trust = ssl.create_default_context(cafile=certificates.ca)
    made = worlds.world(
        folder,
        service=base,
        gateway=gateway.base,
        trust=trust,
        values=shop_settings(gateway.base),
        spec={"contract": contract},
    )
    clock = SystemClock()
    return replace(
        made,
        addresses=Addresses(base, gateway.base, certificates.ca),
        gateway=GATEWAYS["ikhokha"](made.settings, made.http, clock, made.spec.contract),
        clock=clock,
        control=gateway.control,
        purse=Purse(),
    )
