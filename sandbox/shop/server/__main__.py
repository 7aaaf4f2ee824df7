"""Starts the shop: `python -m shop` in a release's folder. Ends with 0 after SIGTERM, with 1 when it cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable

from . import logs
from .app import Shop, build, runner
from .clock import SystemClock
from .config import ARTIFACT, Config, ConfigInvalid, read_config, read_courses
from .drain import HARD_LIMIT_S, Connections, drained, inherited_or_bound, notify
from .faults import read as read_faults
from .gateway import new_client
from .pages import Pages
from .seams import Seams
from .store import Store

_AGAIN_AFTER_S = 5


def main() -> int:
    os.umask(0o077)
    logs.start(os.environ.get("RELEASE_ID", ""))
    try:
        config = read_config(os.environ)
        asyncio.run(_serve(config, _seams()))
    except ConfigInvalid as error:
        for mistake in error.mistakes:
            logs.error("configuration.invalid", mistake=mistake)
        return 1
    except Exception as error:  # the supervisor shows this line to a person
        logs.error("start.failed", exc_info=True, found=str(error)[:200])
        return 1
    return 0


def _seams() -> Seams:
    """The careful answers, unless this release is faulty on purpose; only then its faults are even loaded."""
    names = read_faults(ARTIFACT / "faults.json")
    if not names:
        return Seams()
    from .faulty import broken

    return broken(names)


async def _serve(config: Config, seams: Seams) -> None:
    seams.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    courses = read_courses(ARTIFACT / "courses.json")
    pages = Pages(ARTIFACT / "public")
    tls = _tls(config)
    connections = Connections(time.monotonic)
    store = Store(config.data_dir / "orders.sqlite", time.time)
    try:
        async with new_client(config) as http:
            shop = build(config, seams, courses, pages, store, http, connections, SystemClock())
            await _until_stopped(shop, connections, tls, stop)
    finally:
        store.close()


async def _until_stopped(shop: Shop, connections: Connections, tls: ssl.SSLContext | None, stop: asyncio.Event) -> None:
    serving = runner(shop)
    await serving.setup()
    background: list[asyncio.Task[None]] = []
    try:
        server = await shop.seams.listen(serving, connections, inherited_or_bound(os.environ), tls)
        background = [asyncio.create_task(_forever(name, work)) for name, work in shop.background.items()]
        background.append(asyncio.create_task(_tidy(connections)))
        if shop.seams.says_ready:
            notify(os.environ, "READY=1")
        logs.info("started")
        await stop.wait()
        server.close()
        connections.draining = True
        notify(os.environ, "STOPPING=1")
        logs.info("stopping")
        deadline = time.monotonic() + HARD_LIMIT_S
        if not await drained(serving, connections, time.monotonic, deadline):
            logs.warn("drain.cut_short")
        await shop.payments.finish(within_s=deadline - time.monotonic())
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await serving.cleanup()
    logs.info("ended")


async def _forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """A background loop that crashes is started again: orders must go on being settled."""
    while True:
        try:
            await work()
            return
        except Exception:
            logs.error("background.crashed", exc_info=True, name=name)
            await asyncio.sleep(_AGAIN_AFTER_S)


async def _tidy(connections: Connections) -> None:
    while True:
        connections.drop_silent()
        await asyncio.sleep(1)


def _tls(config: Config) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


if __name__ == "__main__":
    sys.exit(main())
