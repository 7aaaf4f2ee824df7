"""The sandbox host signs webhooks the way it is asked to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from dotenv import dotenv_values

from gateways import GATEWAYS, SCHEMES
from pipeline.clock import SystemClock
from pipeline.contracts import Cents, PaymentRequest
from pipeline.secrets import Secret
from pipeline.settings import Settings, SettingValue
from pipeline.spec import Contract
from sandbox import authority, host
from tests.sandbox.gateway_rig import CALLBACK, CARD, Merchant, served


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose host is ended after the test."""
    yield tmp_path / "sandbox"
    host.down(tmp_path / "sandbox")


async def test_a_host_that_signs_another_way_is_started_anew_and_keeps_what_it_owes(folder: Path) -> None:
    """A payment made under one scheme is paid under the next, and its webhook is signed with the settings' secret."""
    first = await asyncio.to_thread(host.up, folder)
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    trust = ssl.create_default_context(cafile=first.ca)
    texts = dotenv_values(first.settings, interpolate=False)
    settings = Settings({k: SettingValue(k, Secret(v or ""), "") for k, v in texts.items()}, (), ())
    now = SystemClock().now

    def http() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=trust, trust_env=False)

    merchant = Merchant("")
    app = web.Application()
    app.router.add_post(CALLBACK, merchant.webhook)
    async with served(app, certificates) as merchant.base:
        client = GATEWAYS["ikhokha"](settings, http, SystemClock(), Contract())
        back = [f"{merchant.base}/{page}" for page in ("success", "failure", "cancel")]
        addresses = (merchant.base, merchant.base + CALLBACK, *back)
        link = await client.create(PaymentRequest("order-1", Cents(49900), "Python 101", *addresses))
        second = await asyncio.to_thread(host.up, folder, scheme="standard-webhooks")
        async with http() as browser:
            await browser.post(link.url, data={"card": CARD, "expiry": "12/34", "cvc": "123"})
        [webhook] = await merchant.has(1)
        scheme = SCHEMES["standard-webhooks"](settings, 300.0)
        assert scheme.verify(webhook.path, webhook.body, webhook.headers, at=now()).accepted
        assert not scheme.with_secret("another").verify(webhook.path, webhook.body, webhook.headers, at=now()).accepted
    assert (first.scheme, second.scheme) == ("ikhokha", "standard-webhooks")
    assert (first.gateway, first.pid == second.pid) == (second.gateway, False)
    for same in (None, "standard-webhooks"):
        assert (await asyncio.to_thread(host.up, folder, scheme=same)).pid == second.pid


def test_a_scheme_that_does_not_exist_starts_nothing(tmp_path: Path) -> None:
    """The error names the schemes there are, and no folder is made."""
    with pytest.raises(host.HostFailed) as failed:
        host.up(tmp_path / "sandbox", scheme="md5")
    assert all(name in failed.value.remedy for name in SCHEMES)
    assert not (tmp_path / "sandbox").exists()
