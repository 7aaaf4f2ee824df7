"""Searching files for the run's own secrets, in every encoding, also inside compressed members.

A hit names file, line and encoding, never the value. What could not be read is said, for it was not searched.
"""

from __future__ import annotations

import json
import os
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from checks.facts.databases import opened
from checks.facts.sieve import Sieve
from checks.facts.unpacking import DEEPEST, LARGEST, Unreadable, members, packed
from pipeline.secrets import SHORTEST, Hit, Redactor, Secret
from pipeline.verdict import Finding, Place, Verdict, failed, inconclusive, passed

CHUNK = 1024 * 1024
OVERLAP = 64 * 1024
"""Bytes that two neighbouring chunks share, so that no value falls between them."""

_APART = "\x01"
"""Stands between things that are searched in one go; nothing that the search leaves out."""
_ESCAPES = frozenset(b"\\%&")


@dataclass(frozen=True)
class Leak:
    """A secret that was found: whose it is, in which file (and member), on which line, in which encoding."""

    setting: str
    file: str
    line: int
    encoding: str

    def __str__(self) -> str:
        return f"{self.setting} in {self.file}:{self.line} ({self.encoding})"


@dataclass(frozen=True)
class Search:
    """What a search saw. `unread` are files that could not be searched, with the reason; `too_short` are settings
    whose values have fewer than 8 characters and cannot be searched. `placed`: the files' names start at the folder
    of pipeline.yaml, so that a review can point at them. `noun`: what was counted."""

    files: int
    leaks: tuple[Leak, ...]
    unread: tuple[str, ...]
    too_short: tuple[str, ...]
    secrets: int
    where: str
    placed: bool = False
    noun: str = "files"


def search(
    files: Iterable[tuple[str, str | Path]], secrets: Mapping[str, Secret], where: str, *, placed: bool = False
) -> Search:
    """Searches files given as (printed name, path). A file that has gone since it was listed is left out."""
    sieve = Sieve(secrets)
    names: list[str] = []
    leaks: list[Leak] = []
    unread: list[str] = []
    for name, path in files:
        try:
            leaks += _in_file(name, os.fspath(path), sieve)
        except FileNotFoundError:
            continue
        except (OSError, Unreadable) as error:
            unread.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
        names.append(name)
    leaks += _in_names(names, sieve)
    found = Search(len(names), tuple(dict.fromkeys(leaks)), tuple(unread), sieve.too_short, len(secrets), where, placed)
    return with_names_hidden(found, secrets, sieve)


def with_names_hidden(found: Search, secrets: Mapping[str, Secret], sieve: Sieve) -> Search:
    """The same without the values that stand in the names of files and members themselves."""
    names = dict.fromkeys([*(leak.file for leak in found.leaks), *found.unread])
    text = _APART.join(names).encode("utf-8", "surrogatepass")
    # The redactor takes longer to make than many files to search, and sees more than the sieve in escapes only.
    if not names or not (sieve.found(text) or _ESCAPES.intersection(text)):
        return found
    redacted = Redactor(secrets).text
    return replace(
        found,
        leaks=tuple(dict.fromkeys(replace(leak, file=redacted(leak.file)) for leak in found.leaks)),
        unread=tuple(map(redacted, found.unread)),
    )


def _in_names(names: Sequence[str], sieve: Sieve) -> Iterator[Leak]:
    """A value in a file's own name is one too."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    starts, at = [], 0
    for name in encoded:
        starts.append(at)
        at += len(name) + len(_APART)
    for hit in sieve.found(_APART.encode().join(encoded)):
        yield Leak(hit.name, names[bisect_right(starts, hit.offset) - 1], 1, hit.encoding)


def _in_file(name: str, path: str, sieve: Sieve) -> Iterator[Leak]:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        yield from in_bytes(name, os.fsencode(Path(path).readlink()), sieve)
        return
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("not a regular file")
    file = opened(path)
    try:
        begin = os.read(file, min(CHUNK, found.st_size + 1))
        more = os.read(file, CHUNK)
        if more:
            yield from _told(name, file, _hits_of_large(file, begin, more, sieve), sieve)
        else:
            yield from _told_of_small(name, begin, sieve)
        if packed(name, begin[:16]):
            if os.fstat(file).st_size > LARGEST:
                raise Unreadable(f"it is packed and larger than {LARGEST // 2**20} MiB")
            yield from in_members(name, _all_of(file) if more else begin, sieve)
    finally:
        os.close(file)


def _told_of_small(name: str, data: bytes, sieve: Sieve) -> Iterator[Leak]:
    leaks = in_bytes(name, data, sieve)
    first = next(leaks, None)
    if first:
        yield from (name.endswith(".map") and list(_in_sources(name, data, sieve))) or (first, *leaks)


def _hits_of_large(file: int, begin: bytes, more: bytes, sieve: Sieve) -> list[Hit]:
    """The hits in a file of which so much was read; the rest is read piece by piece."""
    hits, window, at = list(sieve.found(begin)), begin, len(begin)
    while more:
        kept = window[-OVERLAP:]
        window = kept + more
        hits += (Hit(hit.name, hit.encoding, at - len(kept) + hit.offset) for hit in sieve.found(window))
        at += len(more)
        more = os.read(file, CHUNK)
    return hits


def _all_of(file: int) -> bytes:
    with open(os.dup(file), "rb") as whole:  # noqa: PTH123 - an open file has no path
        whole.seek(0)
        return whole.read()


def _told(name: str, file: int, hits: Sequence[Hit], sieve: Sieve) -> Iterator[Leak]:
    """The leaks with their lines; of a source map, with the source and the line in it."""
    if not hits:
        return
    if name.endswith(".map") and (inside := list(_in_sources(name, _all_of(file), sieve))):
        yield from inside
        return
    wanted = sorted({hit.offset for hit in hits})
    lines: dict[int, int] = {}
    line, at = 1, 0
    with open(os.dup(file), "rb") as whole:  # noqa: PTH123 - an open file has no path
        whole.seek(0)
        for offset in wanted:
            while at < offset:
                chunk = whole.read(min(CHUNK, offset - at))
                if not chunk:
                    break
                line += chunk.count(b"\n")
                at += len(chunk)
            lines[offset] = line
    for hit in hits:
        yield Leak(hit.name, name, lines[hit.offset], hit.encoding)


def _in_sources(name: str, data: bytes, sieve: Sieve) -> Iterator[Leak]:
    """What stands in the sources that a map carries; nothing for what is no map."""
    try:
        told = json.loads(data)
        contents = told["sourcesContent"]
        sources = dict(enumerate(told.get("sources") or ()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    for number, content in enumerate(contents if isinstance(contents, list) else ()):
        if isinstance(content, str):
            source = f"{name}!{sources.get(number, number)}"
            yield from in_bytes(source, content.encode("utf-8", "surrogatepass"), sieve)


def in_bytes(name: str, data: bytes, sieve: Sieve) -> Iterator[Leak]:
    """What a piece of data in memory holds; `name` is printed for it."""
    line, counted = 1, 0
    for at in range(0, max(len(data), 1), CHUNK):
        begin = max(at - OVERLAP, 0)
        for hit in sieve.found(data[begin : at + CHUNK]):
            place = begin + hit.offset
            line += data.count(b"\n", counted, place) - data.count(b"\n", place, counted)
            counted = place
            yield Leak(hit.name, name, line, hit.encoding)


def in_members(name: str, data: bytes, sieve: Sieve, limit: int = LARGEST) -> Iterator[Leak]:
    """What the members of packed data hold, and their members, `limit` bytes of them. Raises Unreadable."""
    yield from _in_members(name, data, sieve, [limit], 1)


def _in_members(name: str, data: bytes, sieve: Sieve, left: list[int], depth: int) -> Iterator[Leak]:
    """`left`: the bytes that all of it together may still unpack to."""
    for member, content in members(name, data, max(left[0], 0)):
        left[0] -= len(content)
        inner = f"{name}!{member}"
        yield from in_bytes(inner, content, sieve)
        if packed(member, content[:16]):
            if depth == DEEPEST:
                raise Unreadable(f"{member} is packed more than {DEEPEST} times over")
            yield from _in_members(inner, content, sieve, left, depth + 1)


NAMED_AT_MOST = 20
"""Leaks and files a finding names; the rest is counted."""


def verdict(found: Search, remedy: str) -> Finding:
    """What every search for secrets comes to. Pure; `remedy` is what to do about a leak."""
    evidence = {
        "files": found.files,
        "secrets": found.secrets,
        "leaks": [
            {"setting": leak.setting, "file": leak.file, "line": leak.line, "encoding": leak.encoding}
            for leak in found.leaks[:NAMED_AT_MOST]
        ],
    }
    if found.leaks:
        first = {"file": found.leaks[0].file, "line": found.leaks[0].line}
        return Finding(
            Verdict.FAIL,
            f"{found.where} holds secrets: {some(found.leaks)}",
            remedy,
            {**evidence, **first},
            tuple(_places(found)),
        )
    if not found.secrets:
        return inconclusive(
            f"the settings hold no secret, so {found.where} was not searched for any",
            "Declare the credentials under `settings:` with `type: secret` and name a source that has them.",
            **evidence,
        )
    if found.too_short:
        return failed(
            f"{', '.join(found.too_short)}: fewer than {SHORTEST} characters, too short to search for",
            "Use credentials of 16 characters or more: short ones can be guessed, too.",
            **evidence,
        )
    if not found.files:
        return inconclusive(
            f"{found.where} has no file, so nothing was searched",
            "See that the folder is the right one and is not empty.",
            **evidence,
        )
    if found.unread:
        return inconclusive(
            f"{found.where}: {len(found.unread)} {found.noun} could not be searched: {some(found.unread)}",
            "Make them readable, or remove them; what was not searched is not clean.",
            **evidence,
        )
    return passed(
        f"{found.files} {found.noun} of {found.where} hold none of {found.secrets} secrets, in any encoding", **evidence
    )


def _places(found: Search) -> Iterator[Place]:
    for leak in found.leaks[:NAMED_AT_MOST] if found.placed else ():
        file, inside, _ = leak.file.partition("!")
        yield Place(file, 1 if inside else leak.line, f"holds {leak.setting} ({leak.encoding})")


def some(things: Sequence[object]) -> str:
    """The first of them, and how many more there are."""
    rest = len(things) - NAMED_AT_MOST
    return "; ".join(map(str, things[:NAMED_AT_MOST])) + (f"; and {rest} more" if rest > 0 else "")
