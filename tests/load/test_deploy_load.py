"""No request of the shop's visitors fails while it is deployed and taken back by the real pipeline."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

import wiring
from targets import service_address
from tests.crash import runs
from tests.crash.conftest import build, folder

__all__ = ["folder"]

WANTED = 10_000
LOAD_S = 12
"""Long enough for a deploy and a rollback; that they ended before the load did is asserted."""

pytestmark = [pytest.mark.load, pytest.mark.timeout(240)]


async def wrk(address: str, *headers: str) -> str:
    argv = ["wrk", "-t", "1", "-c", "8", "-d", f"{LOAD_S}s", "--timeout", "30s"]
    for header in headers:
        argv += ["-H", header]
    process = await asyncio.create_subprocess_exec(*argv, f"{address}/", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk, a Debian package")
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "new connections"])
async def test_no_request_fails_across_a_deploy_and_a_rollback(folder: Path, headers: tuple[str, ...]) -> None:
    """Of 10,000 requests to the shop over TLS, none fails while it is deployed and rolled back."""
    build(folder)
    address = await service_address(wiring.choose(str(folder / "pipeline.yaml"), "sandbox").area)
    assert address is not None
    requests = 0
    while requests < WANTED:
        load = asyncio.ensure_future(wrk(address, *headers))
        for verb in ("deploy", "rollback"):
            assert await asyncio.to_thread(runs.in_a_process, folder, verb) == 0
        assert not load.done(), "the load ended before the rollback did: make it longer"
        report = await load
        made = re.search(r"(\d+) requests in", report)
        assert made is not None and int(made[1]) > 0, report
        assert re.findall(r"Socket errors: .*|Non-2xx or 3xx responses: .*", report) == []
        requests += int(made[1])
