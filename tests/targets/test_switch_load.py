"""No request fails while releases are switched: thousands of requests over TLS, with kept-alive and new connections."""

from __future__ import annotations

import asyncio
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
from tests.load.wrk import load
from tests.targets.areas import TestArea, opened, stopped_after

A, B = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb")
WANTED = {(): 10_000, ("Connection: close",): 3_000}
"""A new connection costs a handshake: fewer of them still meet every moment of a switch."""
ROUND_S = 2

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


async def under_load(area: TestArea, *headers: str) -> tuple[int, list[str]]:
    """Switches to B and back to A in every round of load; requests made, and what wrk says went wrong."""
    address = await service_address(area.path)
    assert address is not None
    requests, failed = 0, list[str]()
    while requests < WANTED[headers]:
        async with load(address, headers, connections=16) as made:
            for release in (B, A):
                await area.target.traffic.activate(release)
            await asyncio.sleep(ROUND_S)  # what was switched goes on being asked
        requests += made.requests
        failed += made.failed
    return requests, failed


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk, a Debian package")
@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept alive", "new connections"])
async def test_no_request_fails_in_a_switch(tmp_path: Path, headers: tuple[str, ...]) -> None:
    """Of 10,000 requests (3,000 on new connections) none fails while B replaces A and A is put back, time and again."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", process=certificate(tmp_path), drain_within=30.0)
        await area.stage(B)
        await area.live(A)
        requests, failed = await under_load(area, *headers)
        assert (requests >= WANTED[headers], failed) == (True, [])
