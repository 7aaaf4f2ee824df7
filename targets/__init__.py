"""Where releases run. A target that is not in `TARGETS` does not exist.

Opening a target starts nothing and writes nothing: the first change installs the supervisor and starts it.
`up_local` starts it before, for whoever needs the service's address.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.contracts import Host, Target
    from targets.ctl import SupervisorClient


async def open_local(
    *,
    area: Path,
    start: Sequence[str],
    process: Mapping[str, str],
    public_url: str | None,
    ready_within: float,
    drain_within: float,
    idle: float,
    activity: Path,
    guard: Callable[[], Awaitable[int | None]],
    listen: str = "127.0.0.1:0",
    ready_path: str = "/health/ready",
    redact: Callable[[str], str] = str,
    closed_page: Callable[[], bytes] = bytes,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    host: Host | None = None,
) -> Target:
    """Releases on this machine, in the folder `area`. Reads and writes nothing yet.

    `start` and `process` are the command and further variables of a release's process, paths in them absolute;
    `public_url` None is the supervisor's own address. `ready_within`, `drain_within` and `idle` are seconds (`idle` 0:
    the supervisor stays for ever), `activity` is the file whose modification time says when it was last used.
    `closed_page` makes what customers read while no release serves (b'': a built-in text).
    `guard` is awaited before every change: it returns the token of this run's lease, None for who needs no lease, and
    raises LeaseLost when this run may change nothing any more. `host`: what runs commands and keeps files here, instead
    of one of its own.
    """
    from pipeline.contracts import Target
    from targets.area import AreaOnHost, Running
    from targets.commands import CommandsOnHost
    from targets.fencing import LocalFencing
    from targets.local import LocalHost
    from targets.releases import ReleasesOnHost
    from targets.switches import SwitchesOnHost
    from targets.traffic import TrafficOnHost
    from targets.vault import VaultOnHost
    from targets.weights import AllToOne

    running = Running(
        start=tuple(start),
        process=dict(process),
        public_url=public_url,
        ready_path=ready_path,
        ready_within=ready_within,
        drain_within=drain_within,
        listen=listen,
        idle=idle,
        activity=activity,
        closed_page=closed_page,
    )
    ctl = _client(area, host or LocalHost(redact))
    fencing = LocalFencing(ctl.at.fence, guard)
    ours = AreaOnHost(ctl.host, ctl.at, ctl, running, fencing, now, lambda: token_hex(32))
    releases = ReleasesOnHost(ours)
    traffic = TrafficOnHost(ours, releases)
    return Target(
        kind="local",
        host=ctl.host,
        area=ctl.at.area,
        releases=releases,
        traffic=traffic,
        switches=SwitchesOnHost(ours),
        settings=VaultOnHost(ours),
        fencing=fencing,
        commands=CommandsOnHost(ours),
        weights=AllToOne(traffic),
    )


TARGETS: Mapping[str, Callable[..., Awaitable[Target]]] = {"local": open_local}


# ---- the supervisor of a local target ----------------------------------------------------------------------


async def up_local(target: Target) -> str:
    """Starts the supervisor when none runs, with what `current` names or the closed page; the service's address."""
    from targets.traffic import TrafficOnHost

    if not isinstance(target.traffic, TrafficOnHost):
        raise TypeError(f"a target of kind {target.kind} has no supervisor")
    return await target.traffic.up()


async def service_address(area: Path) -> str | None:
    """Where the service of an area answers, e.g. `https://127.0.0.1:41234`; None when no supervisor runs."""
    address = (await status_local(area)).get("address")
    return None if address is None else str(address)


async def status_local(area: Path) -> Mapping[str, Any]:
    """What an area's supervisor says: up, link, address, serving, draining, starting, gave_up. Starts nothing."""
    return await _client(area).status()


async def stop_local(area: Path, *, grace: float = 5.0) -> bool:
    """Drains and ends the supervisor and its releases, killing what is left after `grace` seconds.

    Returns once all have ended; False when none ran. The link stays: the next start brings the same release up.
    """
    client = _client(area)
    if not (await client.status())["up"]:
        return False
    await client.order("stop", str(grace), timeout=grace * 2)
    return True


def _client(area: Path, host: Host | None = None) -> SupervisorClient:
    from targets.ctl import SupervisorClient
    from targets.layout import Layout
    from targets.local import LocalHost

    return SupervisorClient(host or LocalHost(), Layout(PurePosixPath(area.absolute())), sys.executable)
