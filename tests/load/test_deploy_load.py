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

WANTED = 10_000

pytestmark = [pytest.mark.load, pytest.mark.timeout(240)]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk, a Debian package")
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "new connections"])
async def test_no_request_fails_across_a_deploy_and_a_rollback(folder: Path, headers: tuple[str, ...]) -> None:
    """Of 10,000 requests to the shop over TLS, none fails while it is deployed and rolled back."""
    build(folder)
    address = await service_address(wiring.choose(str(folder / "pipeline.yaml"), "sandbox").area)
    assert address is not None
    requests = 0
    while requests < WANTED:
        async with load(address, headers, connections=8) as made:
            for verb in ("deploy", "rollback"):
                assert await asyncio.to_thread(runs.in_a_process, folder, verb) == 0
        assert made.failed == ()
        requests += made.requests
