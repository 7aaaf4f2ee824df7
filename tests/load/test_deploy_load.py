"""No request of the shop's visitors fails while it is deployed and taken back by the real pipeline."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

import wiring
from targets import service_address
from tests.crash import runs
from tests.crash.conftest import build, folder
from tests.load.wrk import load

__all__ = ["folder"]

WANTED = {(): 10_000, ("Connection: close",): 3_000}
"""A new connection costs a handshake: fewer of them still meet every moment of a switch."""

pytestmark = [pytest.mark.load, pytest.mark.timeout(240)]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk, a Debian package")
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "new connections"])
async def test_no_request_fails_across_a_deploy_and_a_rollback(folder: Path, headers: tuple[str, ...]) -> None:
    """Of 10,000 requests to the shop over TLS (3,000 on new connections) none fails in a deploy and a rollback."""
    build(folder)
    address = await service_address(wiring.choose(str(folder / "pipeline.yaml"), "sandbox").area)
    assert address is not None
    requests = 0
    while requests < WANTED[headers]:
        async with load(address, headers, connections=8) as made:
            for verb in ("deploy", "rollback"):
                assert await asyncio.to_thread(runs.in_a_process, folder, verb) == 0
        assert made.failed == ()
        requests += made.requests
