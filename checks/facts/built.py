"""The files that the build made: in the build's folder, and in the release's own at the target."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from checks.facts.html import hashes
from pipeline.contracts import World
from pipeline.errors import TollgateError

_LIMIT_S = 20.0
_LARGEST = 16 * 1024 * 1024
_MOST = 500


@dataclass(frozen=True)
class Built:
    """For each name of a file, the hashes of the files of that name: in the build's folder and in the release's.

    `problem` says why the release could not be read; '' when it was.
    """

    built: Mapping[str, tuple[tuple[str, ...], ...]]
    released: Mapping[str, tuple[tuple[str, ...], ...]]
    problem: str = ""


async def built(world: World, names: Iterable[str]) -> Built:
    """Looks for files by their names. The build's folder may be gone, or be another release's: so both are read."""
    wanted = sorted({name for name in names if name})
    local = await asyncio.to_thread(_local, world.run.artifact, wanted)
    try:
        return Built(local, await _released(world, wanted))
    except (TollgateError, OSError) as error:
        return Built(local, {}, f"{type(error).__name__}: {error}"[:200])


def _local(folder: Path | None, names: list[str]) -> Mapping[str, tuple[tuple[str, ...], ...]]:
    if folder is None or not folder.is_dir():
        return {}
    found: dict[str, list[tuple[str, ...]]] = {}
    for file in sorted(folder.rglob("*")):
        if file.name in names and file.is_file() and not file.is_symlink() and file.stat().st_size <= _LARGEST:
            found.setdefault(file.name, []).append(hashes(file.read_bytes()))
    return {name: tuple(several) for name, several in found.items()}


async def _released(world: World, names: list[str]) -> Mapping[str, tuple[tuple[str, ...], ...]]:
    if world.run.release is None or not names:
        return {}
    folder = world.target.area / "releases" / str(world.run.release)
    either = [word for name in names for word in ("-o", "-name", _literally(name))][1:]
    argv = ["find", str(folder), "-type", "f", "(", *either, ")"]
    listed = await world.target.host.run(argv, timeout=_LIMIT_S)
    found: dict[str, list[tuple[str, ...]]] = {}
    for path in map(PurePosixPath, listed.stdout.splitlines()[:_MOST] if listed.returncode == 0 else ()):
        content = await world.target.host.read(path)
        found.setdefault(path.name, []).append(await asyncio.to_thread(hashes, content))
    return {name: tuple(several) for name, several in found.items()}


def _literally(name: str) -> str:
    """A pattern of `find` that stands for this name alone."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in name)
