"""A shop in this process, faulty on request, before the sandbox gateway in this process, and the world around them.

    async with till(folder) as gateway:
        async with shop(gateway, folder, "ignores-amount") as rig:
            ...  # rig.world is what a check or a probe meets

Both speak TLS on 127.0.0.1 through real sockets. One gateway serves any number of shops; each has orders of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateways import GATEWAYS
from pipeline.clock import SystemClock
from pipeline.contracts import Addresses, Cents, SecurityEvent, SigningScheme, World
from pipeline.errors import CapReached
from sandbox import authority
from sandbox.shop import build as building
from sandbox.shop.server import app
from sandbox.shop.server.config import Config, read_courses
from sandbox.shop.server.drain import Connections
from sandbox.shop.server.faulty import broken
from sandbox.shop.server.gateway import new_client
from sandbox.shop.server.pages import Pages
from sandbox.shop.server.seams import Seams
from sandbox.shop.server.store import Store
from tests.checks import worlds
from tests.sandbox.gateway_rig import APP_ID, SECRET, Rig, shop_settings
from tests.sandbox.gateway_rig import rig as till

__all__ = ["ShopRig", "Time", "shop", "till"]


class Time(SystemClock):
    """The machine's clock, moved on by hand. Implements contracts.Clock.

    `pace`: so many times faster than the machine a sleep passes; the clock moves on by all of it. That is right for
    one sleeper at a time.
    """

    def __init__(self, pace: float = 1.0) -> None:
        self._pace = pace
        self._moved_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._moved_s)

    def monotonic(self) -> float:
        return super().monotonic() + self._moved_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._pace)
        self._moved_s += seconds - seconds / self._pace

    def move(self, seconds: float) -> None:
        self._moved_s += seconds


@dataclass
class Purse:
    """Implements contracts.Purse in memory."""

    spent: int = 0

    async def spend(self, cents: Cents, reference: str, *, cap: Cents) -> None:
        if self.spent + cents > cap:
            raise CapReached(f"{cents} cents for {reference} would exceed {cap}")
        self.spent += cents


@dataclass(frozen=True)
class ShopRig:
    """A running shop. `time` is the clock of shop and world alike; `events` what the world put on record."""

    world: World
    shop: app.Shop
    store: Store
    config: Config
    time: Time
    gateway: Rig
    events: list[SecurityEvent]

    @property
    def base(self) -> str:
        """The shop's address."""
        return self.config.public_url


@dataclass(frozen=True)
class Till:
    """A gateway that the tests of a module share, and the folder of the shops at it."""

    rig: Rig
    folder: Path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Till]:
    folder = tmp_path_factory.mktemp("till")
    async with till(folder) as rig:
        yield Till(rig, folder)


@asynccontextmanager
async def shop(
    gateway: Rig,
    folder: Path,
    *faults: str,
    scheme: str = "ikhokha",
    sources: Sequence[str] = (),
    contract: Mapping[str, Any] | None = None,
    time: Time | None = None,
    tolerance_s: float = 300.0,
    body_within_s: float = 5.0,
    answer_within_s: float = 4.0,
) -> AsyncIterator[ShopRig]:
    """A shop with these faults, its data in a new folder below `folder`; ended when the block ends.

    `folder` must be the one the gateway was started with: its certificates lie there. `contract` is what the world's
    spec says beyond scheme, sources and courses. How long the shop waits for a body and for the gateway can be cut
    short. Raises KeyError for a fault that does not exist, or that shows only in a build.
    """
    area = folder / f"shop-{secrets.token_hex(4)}"
    (area / "data").mkdir(parents=True)
    certificates = authority.ensure(folder / "tls", SystemClock().now())
    time = time or Time()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        base = f"https://127.0.0.1:{sock.getsockname()[1]}"
        config = replace(_config(gateway, area, base, certificates), **_webhooks(scheme, sources, tolerance_s))
        connections = Connections(time.monotonic)
        store = Store(area / "data" / "orders.sqlite", lambda: time.now().timestamp())
        try:
            async with new_client(config) as http:
                built = app.build(
                    config,
                    _quick(broken(faults), body_within_s, answer_within_s),
                    _courses(),
                    Pages(_site(folder)),
                    store,
                    http,
                    connections,
                    time,
                )
                world, events = _world(gateway, config, contract or {}, time)
                with _signing(gateway, world.gateway.scheme):
                    async with _served(built, connections, sock, certificates):
                        yield ShopRig(world, built, store, config, time, gateway, events)
        finally:
            store.close()


@asynccontextmanager
async def _served(
    built: app.Shop, connections: Connections, sock: socket.socket, certificates: authority.Certificates
) -> AsyncIterator[None]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.server, certificates.key)
    runner = app.runner(built, shutdown_timeout_s=0.2)
    await runner.setup()
    stop = asyncio.Event()
    settling = asyncio.create_task(_settled(built, stop))
    try:
        server = await built.seams.listen(runner, connections, sock.dup(), tls)
        try:
            yield
        finally:
            server.close()
            await built.payments.finish(within_s=0.0)
    finally:
        stop.set()
        await settling
        await runner.cleanup()


async def _settled(built: app.Shop, stop: asyncio.Event) -> None:
    """What the shop does in the background, every second; it ends between two rounds and leaves no question open."""
    while not stop.is_set():
        await built.settler.tick()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await stop.wait()


def _webhooks(scheme: str, sources: Sequence[str], tolerance_s: float) -> dict[str, Any]:
    networks = tuple(ip_network(source) for source in sources)
    return {"webhook_scheme": scheme, "webhook_sources": networks, "webhook_tolerance_s": tolerance_s}


def _config(gateway: Rig, area: Path, base: str, certificates: authority.Certificates) -> Config:
    return Config(
        release=worlds.RELEASE,
        node_env="production",
        test_mode=False,
        public_url=base,
        data_dir=area / "data",
        shared_dir=area,
        gateway_url=gateway.base,
        app_id=APP_ID,
        api_secret=SECRET,
        webhook_secret=SECRET,
        timeout_s=30.0,
        retry_attempts=3,
        retry_delay_s=0.1,
        ca_file=str(certificates.ca),
        tls_cert=str(certificates.server),
        tls_key=str(certificates.key),
    )


def _world(gateway: Rig, config: Config, contract: Mapping[str, Any], time: Time) -> tuple[World, list[SecurityEvent]]:
    courses = [{"id": course.id, "cents": course.cents} for course in _courses().values() if course.listed]
    said = {
        "courses": courses,
        "webhook_scheme": config.webhook_scheme,
        "webhook_sources": [str(network) for network in config.webhook_sources],
        "webhook_tolerance": f"{config.webhook_tolerance_s:g} s",
        **contract,
    }
    events: list[SecurityEvent] = []
    world = worlds.world(
        config.shared_dir,
        service=config.public_url,
        gateway=gateway.base,
        trust=ssl.create_default_context(cafile=config.ca_file),
        values=shop_settings(gateway.base),
        spec={"contract": said},
    )
    world = replace(
        world,
        addresses=Addresses(config.public_url, gateway.base, Path(str(config.ca_file))),
        gateway=GATEWAYS["ikhokha"](world.settings, world.http, time, world.spec.contract),
        clock=time,
        control=gateway.control,
        purse=Purse(),
        security=events.append,
    )
    return world, events


@contextmanager
def _signing(gateway: Rig, scheme: SigningScheme) -> Iterator[None]:
    """The gateway's own webhooks are signed so meanwhile, for all shops before it."""
    sender = gateway.gateway.sender
    before, sender.scheme = sender.scheme, scheme
    try:
        yield
    finally:
        sender.scheme = before


def _quick(seams: Seams, body_within_s: float, answer_within_s: float) -> Seams:
    """The same seams with less patience, where they have any."""
    limits = seams.limits
    if limits.bounds.within_s is not None:
        limits = replace(limits, bounds=replace(limits.bounds, within_s=body_within_s))
    if limits.answer_within_s is not None:
        limits = replace(limits, answer_within_s=answer_within_s)
    return replace(seams, limits=limits)


@cache
def _courses() -> Mapping[str, Any]:
    return read_courses(building.HERE / "site" / "courses.json")


def _site(folder: Path) -> Path:
    """The shop's pages, built once for each folder."""
    out = folder / "site"
    if not out.exists():
        building.build(out, {})
    return out / "public"
