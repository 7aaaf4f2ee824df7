"""Fixtures of the probes' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox import authority
from sandbox.authority import Certificates
from tests.probes.small_shop import SmallShop, small_shop


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return authority.ensure(tmp_path_factory.mktemp("tls"), datetime.now(UTC))


@pytest.fixture
async def small(certificates: Certificates, tmp_path: Path) -> AsyncIterator[SmallShop]:
    async with small_shop(tmp_path, certificates) as shop:
        yield shop
