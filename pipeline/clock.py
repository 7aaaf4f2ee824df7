"""The clock of the machine. Everything else takes a `contracts.Clock` as an argument."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """Implements `contracts.Clock`. `monotonic` counts seconds on one scale for all processes of one boot."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
