"""The sandbox gateway serves clients that know nothing but the protocol: each is a program of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from sandbox import authority
from tests.sandbox.gateway_rig import APP_ID, CALLBACK, SECRET, Rig, rig

REFERENCE = "order-0001"
CLIENTS = Path(__file__).with_name("plain_clients")
needs = {
    tool: pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}, a Debian package")
    for tool in ("bash", "curl", "openssl", "node")
}


SOLD = {
    "forged": "IK-001",
    "code": "00",
    "before": "PENDING",
    "page": "form",
    "back": "/ok",
    "after": "PAID",
    "listed": "1",
}
HEARD = {"webhook": "accepted", "tampered": "refused", "event": "SUCCESS", "sender": APP_ID}


@needs["bash"]
@needs["curl"]
@needs["openssl"]
async def test_a_shop_of_curl_and_openssl_sells(tmp_path: Path) -> None:
    """A shell script makes, pays and finds a payment, and tells the right webhook from one that was changed."""
    async with rig(tmp_path) as at:
        script = ("bash", str(CLIENTS / "client.sh"))
        sold = await _run(at, tmp_path, *script, "pay")
        _is_sale(at, sold)
        [webhook] = await at.merchant.has(1)
        for body, said in ((webhook.body, "accepted"), (webhook.body.replace(b"SUCCESS", b"FAILURE"), "refused")):
            verify = (*script, "verify", webhook.path, webhook.headers["ik-sign"])
            assert await _run(at, tmp_path, *verify, stdin=body) == {"webhook": said}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(("node", str(CLIENTS / "client.mjs")), marks=needs["node"], id="node"),
        pytest.param((sys.executable, "-I", str(CLIENTS / "client.py")), id="python"),
    ],
)
async def test_a_shop_in_another_language_sells_and_hears_of_it(tmp_path: Path, program: tuple[str, ...]) -> None:
    """A program makes, pays and finds a payment, takes the webhook over TLS and verifies it by itself."""
    async with rig(tmp_path) as at:
        told = await _run(at, tmp_path, *program)
        assert {name: told.pop(name, None) for name in HEARD} == HEARD
        _is_sale(at, told)
        while at.gateway.store.owed():
            await asyncio.sleep(0)
        last, *_ = await at.control.deliveries()
        assert (last["status"], last["state"]) == (200, "delivered")


def _is_sale(at: Rig, told: dict[str, str]) -> None:
    [payment] = at.gateway.store.payments()
    assert told == SOLD | {"id": payment.id, "found": payment.id}
    assert (payment.amount, payment.reference, payment.status) == (12345, REFERENCE, "PAID")
    assert payment.description == 'Thabo\'s "caf\u00e9" \\ <a&b>'


async def _run(at: Rig, folder: Path, *argv: str, stdin: bytes = b"") -> dict[str, str]:
    """What a program says as name=value. It sees nothing of this one but the environment below."""
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    environment = {
        "PATH": os.environ["PATH"],
        "BASE": at.base,
        "APP_ID": APP_ID,
        "SECRET": SECRET,
        "REFERENCE": REFERENCE,
        "SHOP": at.merchant.base,
        "HOOK": CALLBACK,
        "CA_FILE": str(certificates.ca),
        "CERT_FILE": str(certificates.server),
        "KEY_FILE": str(certificates.key),
    }
    process = await asyncio.create_subprocess_exec(
        *argv, env=environment, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        said, complained = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complained.decode()
    return dict(line.split("=", 1) for line in said.decode().splitlines())
