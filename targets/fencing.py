"""The fence of one target on this machine, as one run uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath

from pipeline.contracts import Fence
from targets import fence_file


class LocalFencing:
    """Implements `contracts.Fencing`. `guard` returns the token of this run's lease, None for who needs no lease."""

    def __init__(self, path: PurePosixPath, guard: Callable[[], Awaitable[int | None]]) -> None:
        self._path = path
        self._guard = guard

    async def ours(self) -> Fence | None:
        token = await self._guard()
        return None if token is None else Fence(self._path, token)

    async def highest(self) -> int:
        return fence_file.highest(Path(self._path))

    async def advance(self, token: int) -> None:
        await fence_file.advance(Path(self._path), token)
