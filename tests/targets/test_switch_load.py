"""No request fails while releases are switched: thousands of requests over TLS, with kept-alive and new connections."""

from __future__ import annotations

import asyncio
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.contracts import ReleaseId
from targets import service_address
from tests.targets.areas import TestArea, opened, stopped_after

A, B = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")
WANTED = 10_000
ROUND_S = 5
_REQUESTS = re.compile(r"(\d+) requests in")
_FAILED = re.compile(r"Socket errors: .*|Non-2xx or 3xx responses: .*")

pytestmark = [pytest.mark.load, pytest.mark.timeout(300)]


def certificate(folder: Path) -> dict[str, str]:
    """A certificate of its own for 127.0.0.1, as the variables of a process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"TLS_CERT": str(folder / "server.pem"), "TLS_KEY": str(folder / "server.key")}


async def load(address: str, *headers: str) -> str:
    """What wrk reports of one round."""
    argv = ["wrk", "-t", "1", "-c", "16", "-d", f"{ROUND_S}s", "--timeout", "30s"]
    for header in headers:
        argv += ["-H", header]
    process = await asyncio.create_subprocess_exec(*argv, f"{address}/", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


async def under_load(area: TestArea, *headers: str) -> tuple[int, list[str]]:
    """Switches to B and back to A in every round of load; requests made, and what wrk says went wrong."""
    address = await service_address(area.path)
    assert address is not None
    requests, failed = 0, []
    while requests < WANTED:
        running = asyncio.ensure_future(load(address, *headers))
        for release in (B, A):
            await area.target.traffic.activate(release)
        assert not running.done(), "the load ended before the switches did: make the round longer"
        report = await running
        match = _REQUESTS.search(report)
        assert match is not None, report
        assert int(match[1]) > 0, report
        requests += int(match[1])
        failed += _FAILED.findall(report)
    return requests, failed


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk, a Debian package")
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "new connections"])
async def test_no_request_fails_in_a_switch(tmp_path: Path, headers: tuple[str, ...]) -> None:
    """Of 10,000 requests and more over TLS, none fails while B replaces A and A is put back again and again."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", process=certificate(tmp_path), drain_within=30.0)
        await area.stage(B)
        await area.live(A)
        requests, failed = await under_load(area, *headers)
        assert (requests >= WANTED, failed) == (True, [])
