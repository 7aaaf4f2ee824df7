"""Facts: observed once per run and shared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Facts:
    """Remembers every fact of one phase of a run; a failure to observe is remembered too.

    The proofs after a restore get facts of their own: what was true of the bad release says nothing of the old one.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, asyncio.Task[Any]] = {}

    async def once(self, key: Hashable, gather: Callable[[], Awaitable[T]]) -> T:
        """Returns the fact named `key`, gathering it on the first call. Raises what gathering raised.

        A caller that is cancelled does not take the fact away from the others that wait for it.
        """
        task = self._known.get(key)
        if task is None:
            task = asyncio.ensure_future(_as_coroutine(gather))
            self._known[key] = task
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Cancels what is still being observed; called at the end of the phase."""
        for task in self._known.values():
            task.cancel()
        await asyncio.gather(*self._known.values(), return_exceptions=True)


async def _as_coroutine(gather: Callable[[], Awaitable[T]]) -> T:
    return await gather()
