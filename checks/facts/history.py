"""Searching the whole history of a git checkout: every object it holds, reachable or not."""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from checks.facts import leaks
from checks.facts import repository as git
from checks.facts.leaks import Leak
from checks.facts.object_stream import Seen, Stream
from checks.facts.sieve import Sieve
from checks.facts.unpacking import LARGEST, Unreadable

PIECE = 2 * 1024 * 1024
_SHORT = 10
"""Characters of an object's name that are printed."""
_PLACE_LIMIT_S = 5.0
"""A leak without its commit is told sooner than one that is looked for until time is up."""


@dataclass(frozen=True)
class History:
    """What the objects of one checkout hold. `incomplete`: why some of its history is not here."""

    objects: int
    leaks: tuple[Leak, ...]
    unread: tuple[str, ...]
    incomplete: tuple[str, ...]


async def search(checkout: str, label: str, sieve: Sieve) -> History:
    """Searches one checkout; `label` is printed before what was found in it. Raises git.GitFailed."""
    missing = await _missing(checkout, label)
    try:
        seen = await _stream(checkout, sieve)
        found = await _told(checkout, label, seen)
        in_packed, unread = await _in_packed(checkout, label, seen.packed, sieve)
    except git.GitFailed:
        if not missing:
            raise
        return History(0, (), (), missing)  # git stumbles over what is missing: that is the finding
    return History(seen.objects, (*found, *in_packed), unread, missing)


async def _stream(checkout: str, sieve: Sieve) -> Seen:
    stream = Stream(sieve)
    words = ("cat-file", "--batch-all-objects", "--unordered", "--buffer", "--batch")
    async with git.running(checkout, *words) as asked:
        async for piece in _pieces(asked.stdout):
            await asyncio.to_thread(stream.feed, piece)
        code, said = await asked.end()
        if code != 0:
            raise git.GitFailed(said or "git cat-file ended badly")
    return stream.end()


async def _pieces(stdout: StreamReader) -> AsyncIterator[bytes]:
    pieces: list[bytes] = []
    size = 0
    while piece := await stdout.read(PIECE):
        pieces.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


async def _missing(checkout: str, label: str) -> tuple[str, ...]:
    """Why the checkout does not hold all of its history."""
    who = label or "this checkout"
    if (await git.output(checkout, "rev-parse", "--is-shallow-repository")).strip() == b"true":
        return (f"{who} is a shallow clone",)
    told = await git.output(checkout, "config", "--null", "--list")
    if any(line.split(b"\n")[0].endswith((b".promisor", b"extensions.partialclone")) for line in told.split(b"\0")):
        return (f"{who} is a partial clone",)
    return ()


# ---- what was hit ------------------------------------------------------------------------------------------


async def _told(checkout: str, label: str, seen: Seen) -> list[Leak]:
    """Each hit with the commit, path and line it stands in; of very many only the first are looked up."""
    objects = list(dict.fromkeys(hit.object for hit in seen.hits))
    named = objects[: leaks.NAMED_AT_MOST]
    contents: dict[str, bytes] = {}
    async for name, content in _contents(checkout, [one.name for one in named]):
        contents[name] = content or b""
    places = {one.name: await _place(checkout, one.name, one.kind) for one in named}
    return list(
        dict.fromkeys(
            Leak(
                hit.setting,
                label + places.get(hit.object.name, f"{hit.object.kind} {hit.object.name[:_SHORT]}"),
                1 + contents.get(hit.object.name, b"").count(b"\n", 0, hit.offset),
                hit.encoding,
            )
            for hit in seen.hits
        )
    )


async def _place(checkout: str, name: str, kind: str) -> str:
    """`COMMIT:PATH` as `git show` takes it, or what else the object is; its name alone where looking takes too long."""
    try:
        async with asyncio.timeout(_PLACE_LIMIT_S):
            return await _looked_up(checkout, name, kind)
    except (TimeoutError, git.GitFailed):
        return f"{kind} {name[:_SHORT]}"


async def _looked_up(checkout: str, name: str, kind: str) -> str:
    if kind == "blob":
        log = await git.output(
            checkout, "log", "--all", "--reflog", "-m", "--raw", "--no-abbrev", "--no-renames", "-z",
            f"--find-object={name}", "--format=%x00%x00%H",
        )  # fmt: skip
        for commit in reversed(os.fsdecode(log).split("\0\0")):
            id_, *changes = commit.strip("\0\n").split("\0")
            for change, path in zip(changes[::2], changes[1::2], strict=False):
                if change.split(" ")[3:4] == [name]:
                    return f"{id_.strip()[:_SHORT]}:{path}"
        return f"blob {name[:_SHORT]}, which no commit reaches"
    if kind == "commit" and not await git.output(checkout, "for-each-ref", "--count=1", f"--contains={name}"):
        return f"commit {name[:_SHORT]}, which no branch reaches"
    return f"{kind} {name[:_SHORT]}"


async def _in_packed(
    checkout: str, label: str, blobs: Sequence[str], sieve: Sieve
) -> tuple[tuple[Leak, ...], tuple[str, ...]]:
    """What stands in packed blobs. Brotli is known by the name of its file alone."""
    names = dict.fromkeys(blobs, "")
    for line in (await git.output(checkout, "rev-list", "--all", "--reflog", "--objects")).split(b"\n"):
        name, _, path = os.fsdecode(line).partition(" ")
        if path.endswith(".br") or name in names:
            names[name] = path
    found: list[Leak] = []
    unread: list[str] = []
    async for name, content in _contents(checkout, names):
        shown = f"{label}blob {name[:_SHORT]}"
        if content is None:
            unread.append(f"{names[name] or shown}: it is packed and larger than {LARGEST // 2**20} MiB")
            continue
        try:
            suffix = PurePosixPath(names[name]).suffix
            hits = await asyncio.to_thread(lambda: list(leaks.in_members(f"x{suffix}", content, sieve)))  # noqa: B023
        except Unreadable as error:
            unread.append(f"{names[name] or shown}: {error}")
            continue
        if hits:
            place = label + await _place(checkout, name, "blob")
            found += (
                Leak(hit.setting, place + hit.file[hit.file.index("!") :], hit.line, hit.encoding) for hit in hits
            )
    return tuple(dict.fromkeys(found)), tuple(unread)


async def _contents(checkout: str, names: Iterable[str]) -> AsyncIterator[tuple[str, bytes | None]]:
    """The content of each object; None for one that is too large to be looked at whole."""
    wanted = list(names)
    if not wanted:
        return
    async with git.running(checkout, "cat-file", "--batch", stdin=PIPE) as asked:
        stdin, stdout = asked.process.stdin, asked.stdout
        assert stdin  # noqa: S101 - it is a pipe
        for name in wanted:
            stdin.write(f"{name}\n".encode())
            await stdin.drain()
            header = (await stdout.readline()).split()
            if len(header) != 3:
                raise git.GitFailed(f"object {name} cannot be read")
            left = int(header[2])
            keep = left <= LARGEST
            pieces: list[bytes] = []
            while left:
                piece = await stdout.read(min(left, PIECE))
                if not piece:
                    raise git.GitFailed(f"object {name} broke off")
                left -= len(piece)
                if keep:
                    pieces.append(piece)
            await stdout.readexactly(1)
            yield name, b"".join(pieces) if keep else None
