"""Fixtures of the checks' tests."""

from __future__ import annotations

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
