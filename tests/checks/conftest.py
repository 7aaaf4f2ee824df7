"""Fixtures of the checks' tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.contracts import World
from sandbox import authority
from sandbox.authority import Certificates
from tests.checks.worlds import Merchant, Till, random_text, shop


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return authority.ensure(tmp_path_factory.mktemp("tls"), datetime.now(UTC))


@pytest.fixture
async def shopping(certificates: Certificates, tmp_path: Path) -> AsyncIterator[tuple[Merchant, Till, World]]:
    async with shop(certificates, tmp_path, random_text()) as parts:
        yield parts


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name `localhost` leads to two addresses of loopback, as a shop's name leads to two machines."""
    looked_up = asyncio.BaseEventLoop.getaddrinfo

    async def both(loop: asyncio.BaseEventLoop, host: str | None, port: int | None, **options: int) -> list[object]:
        names = ["127.0.0.1", "127.0.0.2"] if host == "localhost" else [host]
        return [one for name in names for one in await looked_up(loop, name, port, **options)]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)
