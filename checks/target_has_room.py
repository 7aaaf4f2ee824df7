"""target.has_room: the machine that carries releases has space for another one and lets us write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import Field

from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import Frozen
from pipeline.verdict import Finding, Verdict, advice, failed, passed

_LIMIT_S = 15.0


class Room(Frozen):
    """Free space below which a deploy is refused, and below which it is advised against; in MiB."""

    free_mib: int = Field(200, ge=1)
    advise_mib: int = Field(1000, ge=1)


@dataclass(frozen=True)
class Place:
    """`folder` is the area, or the nearest folder above it that exists; `free_kib` of the file system it is on."""

    area: str
    folder: str
    writable: bool
    free_kib: int


@or_finding
async def gather(world: World, _params: Room) -> Place:
    area = world.target.area
    folder = await _existing(world, area)
    writable = await world.target.host.run(["test", "-w", str(folder)], timeout=_LIMIT_S)
    df = await world.target.host.run(["df", "-Pk", str(folder)], timeout=_LIMIT_S)
    return Place(str(area), str(folder), writable.returncode == 0, free_kib(df.stdout if df.returncode == 0 else ""))


async def _existing(world: World, area: PurePosixPath) -> PurePosixPath:
    for folder in (area, *area.parents):
        if (await world.target.host.run(["test", "-d", str(folder)], timeout=_LIMIT_S)).returncode == 0:
            return folder
        if (await world.target.host.run(["test", "-e", str(folder)], timeout=_LIMIT_S)).returncode == 0:
            raise Unjudged(
                failed(
                    f"{folder} on the target is not a folder; releases are to lie in {area}",
                    f"Move {folder} away, or set another target.path.",
                )
            )
    raise Unjudged(_unreadable(f"no folder above {area} exists on the target"))


def free_kib(df: str) -> int:
    """The fourth column of the last line of `df -Pk`, in KiB."""
    lines = [line.split() for line in df.splitlines() if line.strip()]
    if len(lines) < 2 or len(lines[-1]) < 6 or not lines[-1][3].isdecimal():
        raise Unjudged(_unreadable(f"`df -Pk` on the target printed {df[:120]!r}"))
    return int(lines[-1][3])


def _unreadable(what: str) -> Finding:
    return Finding(Verdict.ERROR, f"free space is unknown: {what}", "Run `df -Pk` on the target by hand.")


@unless_finding
def judge(place: Place, params: Room) -> Finding:
    free = place.free_kib // 1024
    measured = {"area": place.area, "folder": place.folder, "free_mib": free, "writable": place.writable}
    if not place.writable:
        return failed(
            f"{place.folder} on the target is not writable for the deploying user",
            f"Give the deploying user write permission: `chown` or `chmod u+w {place.folder}`.",
            **measured,
        )
    if free < params.free_mib:
        return failed(
            f"{free} MiB free for {place.area} on the target, at least {params.free_mib} MiB are required",
            "Free space on that file system, or lower `release.keep` so that fewer releases are kept.",
            **measured,
        )
    if free < params.advise_mib:
        return advice(
            f"{free} MiB free for {place.area} on the target, {params.advise_mib} MiB are recommended",
            "Free space before it runs out in the middle of a deploy.",
            **measured,
        )
    return passed(f"{free} MiB free for {place.area} on the target, and it is writable", **measured)


CHECK = Check(
    name="target.has_room",
    promise="The target has space for a release and lets the deploying user write it.",
    rows=("G7", "T9"),
    gather=gather,
    judge=judge,
    params=Room,
    network=True,
    why="A full disk in the middle of a deploy also takes the database of orders with it.",
    looks_at=(
        "The file system that holds the target's area, or would hold it: free space by `df -Pk`, and whether the "
        "deploying user may write there."
    ),
    fix="Free space, lower `release.keep`, or give the deploying user write permission on the area.",
    see_it_fail="Set `free_mib` of this step above what `df -Pm` shows, then `./inv validate`.",
)
