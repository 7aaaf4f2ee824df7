"""Load made by wrk while something else is done: how many requests were answered, and what failed."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

LONGEST_S = 180
"""wrk ends by itself after so long, should nobody stop it."""

_REQUESTS = re.compile(r"(\d+) requests in")
_FAILED = re.compile(r"Socket errors: .*|Non-2xx or 3xx responses: .*")


@dataclass
class Load:
    """What wrk reported: its requests, and its lines about failed ones."""

    requests: int = 0
    failed: tuple[str, ...] = ()


@asynccontextmanager
async def load(address: str, headers: Sequence[str], connections: int) -> AsyncIterator[Load]:
    """Requests to `address` for as long as the block takes; the result is complete when the block has ended.

    Raises:
        AssertionError: wrk had ended before the block did, or reported no request.
    """
    argv = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{LONGEST_S}s", "--timeout", "30s"]
    for header in headers:
        argv += ["-H", header]
    process = await asyncio.create_subprocess_exec(*argv, f"{address}/", stdout=asyncio.subprocess.PIPE)
    result = Load()
    try:
        yield result
        assert process.returncode is None, "the load had ended already"
        process.send_signal(signal.SIGINT)  # wrk stops and reports
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = out.decode()
    made = _REQUESTS.search(report)
    assert made is not None and int(made[1]) > 0, report
    result.requests, result.failed = int(made[1]), tuple(_FAILED.findall(report))
