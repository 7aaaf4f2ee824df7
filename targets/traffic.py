"""Which release gets the connections, on any host."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pipeline.contracts import ReleaseId, ReleaseState, Started
from pipeline.errors import ReleaseNotReady, TargetError
from targets import layout
from targets.area import AreaOnHost
from targets.ctl import indented, not_ready
from targets.releases import ReleasesOnHost

_NEVER = (ReleaseState.BUILDING, ReleaseState.BAD)
_REPAIR = "`./inv rollback` puts it right: it starts the last verified release again and stops everything else."


class TrafficOnHost:
    """Implements `contracts.Traffic`. The link says what should serve, the supervisor what does; both must agree."""

    def __init__(self, area: AreaOnHost, releases: ReleasesOnHost) -> None:
        self._area = area
        self._releases = releases

    async def live(self) -> ReleaseId | None:
        """Raises TargetError in a half state. Starts nothing: a link without a supervisor is a half state too."""
        return judge(await self._area.ctl.status(), str(self._area.at.area))

    async def up(self) -> str:
        """Starts the supervisor when none runs; it starts what the link names, else the closed page. Its address."""
        return str((await self._area.up(settle=True, anew=False))["address"])

    async def activate(self, release: ReleaseId) -> None:
        await self._judge(release)
        before = (await self._area.up())["link"]
        served = None if before is None else ReleaseId(before)
        done = await self._start(release)
        if done["ok"]:
            try:
                await self._point_to(release)
            except TargetError:  # a full disk: two releases would serve side by side
                await self._put_back(served)
                raise
            done = await self._retire_others(release)
        if not done["ok"]:
            await self._put_back(served)
            raise not_ready(
                done, f"Read {self._area.at.log(release)}. What served before does so still; `./inv status` shows it."
            )

    async def close(self) -> None:
        """The link goes first: after a reboot in between, the service comes up closed."""
        await self._area.up()
        await self._unlink()
        closed = await self._close()
        if not closed["ok"]:
            raise TargetError(
                f"{self._area.at.area}: the closed page did not start: {closed['error']}{indented(closed['tail'])}",
                "Stop the service by hand, or close it in the proxy in front of it.",
            )

    async def rehearse(self, release: ReleaseId) -> Started:
        await self._judge(release)
        await self._area.up()
        reply = await self._order("rehearse", release, timeout=self._area.running.ready_within * 2)
        if not reply["ok"]:
            raise not_ready(reply, f"Read {self._area.at.log(release)}; nothing that serves was touched.")
        return Started(release, reply["took"], reply["body"])

    async def _judge(self, release: ReleaseId) -> None:
        """Half-built, bad and changed releases never get a connection."""
        for record in await self._releases.all():
            if record.id == release:
                break
        else:
            raise ReleaseNotReady(f"release {release}: is not on this target", "`./inv status` lists the releases.")
        if record.state in _NEVER:
            raise ReleaseNotReady(
                f"release {release}: is {record.state} ({record.why}); staged, live and verified ones may serve",
                "Deploy again, or name a verified release.",
            )
        await self._area.check_files(release, record.manifest)

    async def _point_to(self, release: ReleaseId) -> None:
        """`current` names `release`, by rename: there is no moment without a link."""
        at = self._area.at
        if await self._area.ctl.link() == release:
            return
        new = at.area / ".current.new"
        await self._area.change(layout.make_link(at.release(release), new))
        await self._area.rename(new, at.current)

    async def _unlink(self) -> None:
        """`current` names nothing: whatever starts the supervisor again, it comes up closed."""
        await self._area.change(layout.remove([self._area.at.current]))
        await self._area.durable([self._area.at.area])

    async def _put_back(self, before: ReleaseId | None) -> None:
        """What served before a refused release is linked and serves. Mostly it never stopped, and nothing is done."""
        if before is None:
            await self._unlink()
        else:
            await self._point_to(before)
        with contextlib.suppress(TargetError):  # the refusal is what must be told
            if before is None:
                await self._close()
            elif (await self._start(before))["ok"]:
                await self._retire_others(before)

    # -- orders

    async def _start(self, release: ReleaseId) -> Mapping[str, Any]:
        return await self._order("start", release, timeout=self._area.running.ready_within * 2)

    async def _retire_others(self, release: ReleaseId) -> Mapping[str, Any]:
        return await self._order("retire", release, timeout=self._area.running.drain_within * 2)

    async def _close(self) -> Mapping[str, Any]:
        limit = self._area.running.ready_within + self._area.running.drain_within
        return await self._order("close", timeout=limit * 2)

    async def _order(self, command: str, argument: str = "", *, timeout: float) -> Mapping[str, Any]:
        fence = await self._area.fencing.ours()
        return await self._area.ctl.order(command, argument, timeout=timeout, fence=fence)


def judge(status: Mapping[str, Any], area: str) -> ReleaseId | None:
    """The live release from what the supervisor says, None when the service is closed. Raises TargetError otherwise.

    A release that the supervisor gave up after it died again and again is closed as well, though the link names it.
    """
    if not status["ok"]:
        raise TargetError(f"{area}: the supervisor did not say what runs: {status['error']}", _REPAIR)
    link: str | None = status["link"]
    if not status["up"]:
        if link is None:
            return None
        raise TargetError(
            f"{area}: `current` names {link}, but no supervisor runs, so nothing serves",
            "`./inv deploy` and `./inv rollback` start it again.",
        )
    serving = [process["release"] for process in status["serving"]]
    if serving == [None] and link in (None, status["gave_up"]):
        return None
    if len(serving) == 1 and link is not None and serving[0] == link:
        return ReleaseId(link)
    runs = " and ".join(str(name or "the closed page") for name in serving) or "nothing"
    raise TargetError(f"{area}: half switched: `current` names {link or 'no release'}, but {runs} serves", _REPAIR)
