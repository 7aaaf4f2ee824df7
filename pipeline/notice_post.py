"""What carries notices: a process of its own that speaks to Apprise, and can be ended whatever it hangs in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from pipeline.notice_addresses import hide
from pipeline.secrets import Secret

SENDER = Path(__file__).with_name("notice_sender.py")
LIMIT_S = 10.0
"""How long one attempt may take; one that took as long may have arrived, so it is not repeated."""
ATTEMPTS = 2
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_LONGEST = 300

Sleep = Callable[[float], Awaitable[None]]


class Post:
    """Sends notices, several at once. The process is started by the first and ended by `close`.

    `environment` is ours: a proxy and authorities are passed on from it, nothing else. `sender` is the program that is
    run, `limit` how long one attempt may take, in s.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        random: Random,
        sleep: Sleep,
        *,
        sender: Path = SENDER,
        limit: float = LIMIT_S,
    ) -> None:
        self._sender, self._limit = sender, limit
        self._environment = {name: environment[name] for name in _PASSED_ON if name in environment}
        self._random, self._sleep = random, sleep
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._starting = asyncio.Lock()
        self._count = 0

    async def send(self, address: Secret, title: str, body: str, *, kind: str) -> str:
        """'' when it was taken, else what went wrong, without any part of the address. Repeats once what failed."""
        from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_incrementing

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_incrementing(1 + self._random.random()),
            retry=retry_if_result(lambda error: error not in ("", self._not_in_time)),
            sleep=self._sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else "",
        )
        notice = {"address": address.reveal(), "title": title, "body": body, "kind": kind}
        error: str = await retrying(self._try, notice)
        return hide(error, address)[:_LONGEST]

    @property
    def _not_in_time(self) -> str:
        return f"no answer within {self._limit:g} s"

    async def _try(self, notice: Mapping[str, str]) -> str:
        try:
            async with asyncio.timeout(self._limit):
                return await self._asked(notice)
        except TimeoutError:
            return self._not_in_time
        except (OSError, RuntimeError) as error:  # it cannot be started, or ended while it was written to
            return f"the process that sends notices: {getattr(error, 'strerror', '') or type(error).__name__}"

    async def _asked(self, notice: Mapping[str, str]) -> str:
        process = await self._running()
        self._count += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[self._count] = answer
        if process.stdin is None:
            return "the process that sends notices has no input"
        process.stdin.write(json.dumps({"id": self._count, **notice}).encode() + b"\n")
        await process.stdin.drain()
        return await answer

    async def _running(self) -> Process:
        async with self._starting:
            if self._process is None or self._process.returncode is not None or self._reader is None:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", str(self._sender)),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    env=self._environment,
                    start_new_session=True,  # a Ctrl-C is for the run, which tells how it ended
                )
                self._reader = asyncio.create_task(self._read(self._process))
            return self._process

    async def _read(self, process: Process) -> None:
        try:
            while process.stdout is not None and (line := await process.stdout.readline()):
                self._answered(line)
        except ValueError:
            _kill(process)  # a line without end: it is not ours any more
        await process.wait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result("the process that sends notices ended")
        self._waiting.clear()

    def _answered(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError):
            said: dict[str, Any] = json.loads(line)
            waiting = self._waiting.pop(said["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(str(said["error"]))

    async def close(self) -> None:
        """Ends the process, with whatever it is still sending."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            await process.wait()
        if self._reader is not None:
            await self._reader


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
