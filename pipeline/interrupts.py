"""Ctrl-C, SIGTERM and SIGHUP: they end the stages of a run; the way back that follows is not stopped by them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Self

from pipeline.errors import Exit, TollgateError
from pipeline.lease import Lease

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(TollgateError):
    """A signal ended the run."""

    exit_code = Exit.INTERRUPTED


class Interrupts:
    """Holds the signal handlers for as long as a run lasts; `tell` says to a person what a signal does."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._came = False
        self._stages_over = False

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _interrupt(self) -> None:
        if self._stages_over:
            self._tell("putting things back: a signal does not stop this")
            return
        if self._came:
            self._tell("stopping already: what runs cleans up first")
            return
        self._came = True
        self._tell("interrupted: stopping, then putting back what was changed")
        if self._task is not None:
            self._task.cancel()

    async def until(self, work: Coroutine[Any, Any, None], lease: Lease | None = None) -> BaseException | None:
        """Runs `work`; returns what ended it: None, its error, or Interrupted. Later signals only get an answer.

        With `lease` it ends as well when that is found to be gone or asked for: with LeaseLost or TakenOver.
        """
        self._task = asyncio.create_task(work)
        if self._came:
            self._task.cancel()
        watching = asyncio.create_task(_cancelled_with(lease, self._task)) if lease is not None else None
        try:
            await self._task
        except asyncio.CancelledError:
            ended = lease.why_ended if lease is not None and not self._came else None
            return ended or _interrupted()
        except Exception as error:
            return error
        finally:
            self.stages_over()
            if watching is not None:
                watching.cancel()
        return None

    def stages_over(self) -> None:
        """From here on only the way back runs."""
        self._stages_over = True

    def stop_here(self) -> None:
        """Raises Interrupted when a signal came: nothing has been changed yet."""
        if self._came:
            raise _interrupted()

    def no_return(self) -> None:
        """`stages_over`, unless a signal came already: then raises Interrupted, and nothing may be changed."""
        self.stop_here()
        self.stages_over()


async def _cancelled_with(lease: Lease, work: asyncio.Task[None]) -> None:
    await lease.ended.wait()
    work.cancel()


def _interrupted() -> Interrupted:
    return Interrupted("interrupted by a signal", "Start it again when you are ready.")
