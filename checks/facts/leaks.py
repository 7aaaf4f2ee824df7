"""Searching files for the run's own secrets, in every encoding, also inside compressed members.

A hit names file, line and encoding, never the value. What could not be read is said, for it was not searched.
"""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO

from pipeline.contracts import World
from pipeline.secrets import SHORTEST, Redactor, Secret
from pipeline.verdict import Finding, failed, inconclusive, passed

CHUNK = 8 * 1024 * 1024
OVERLAP = 64 * 1024
"""Bytes that two neighbouring chunks share, so that no value falls between them."""

_LARGEST_MEMBER = 256 * 1024 * 1024
_DEEPEST = 3


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
    whose values have fewer than 8 characters and cannot be searched."""

    files: int
    leaks: tuple[Leak, ...]
    unread: tuple[str, ...]
    too_short: tuple[str, ...]
    secrets: int
    where: str


def held(world: World) -> Mapping[str, Secret]:
    """The secrets of the run's settings by the names of their settings; empty ones are settings.valid's business."""
    values = world.settings.values.items()
    return {name: v.value for name, v in values if isinstance(v.value, Secret) and v.value.reveal()}


def search(files: Iterable[tuple[str, Path]], secrets: Mapping[str, Secret], where: str) -> Search:
    """Searches files given as (printed name, path). A file that has gone since it was listed is left out."""
    redactor = Redactor(secrets)
    count = 0
    leaks: list[Leak] = []
    unread: list[str] = []
    for name, path in files:
        try:
            leaks += _in_file(name, path, redactor)
        except FileNotFoundError:
            continue
        except (OSError, _Unreadable) as error:
            unread.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
        count += 1
    return Search(count, tuple(dict.fromkeys(leaks)), tuple(unread), redactor.too_short, len(secrets), where)


class _Unreadable(Exception):
    pass


def _in_file(name: str, path: Path, redactor: Redactor) -> Iterator[Leak]:
    if path.is_symlink():
        yield from _in_bytes(name, str(path.readlink()).encode(), redactor)
        return
    if not stat.S_ISREG(path.stat().st_mode):
        raise _Unreadable("not a regular file")
    yield from _in_bytes(name, name.encode(), redactor)  # a value in a file's own name is one too
    line, window = 1, b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            kept = window[-OVERLAP:]
            line += window.count(b"\n", 0, len(window) - len(kept))
            window = kept + chunk
            yield from _in_bytes(name, window, redactor, line)
        file.seek(0)
        if _compressed(file.read(4)) or (name.endswith(".br") and not _plain_beside(path)):
            file.seek(0)
            yield from _in_members(name, _opened(name, _bounded(file)), redactor, 1)


def _plain_beside(path: Path) -> bool:
    """Brotli data whose plain original is searched too needs no unpacking."""
    return path.with_suffix("").is_file()


def _in_bytes(name: str, data: bytes, redactor: Redactor, first_line: int = 1) -> Iterator[Leak]:
    for hit in redactor.found(data, parts=True):
        yield Leak(hit.name, name, first_line + data.count(b"\n", 0, hit.offset), hit.encoding)


def _in_members(name: str, members: Iterable[tuple[str, bytes]], redactor: Redactor, depth: int) -> Iterator[Leak]:
    for member, data in members:
        inner = f"{name}!{member}"
        yield from _in_bytes(inner, data, redactor)
        if depth < _DEEPEST:
            yield from _in_members(inner, _opened(inner, data), redactor, depth + 1)
        elif _compressed(data):
            raise _Unreadable(f"{member} is compressed more than {_DEEPEST} times over")


def _compressed(data: bytes) -> bool:
    return data.startswith((b"\x1f\x8b", b"PK\x03\x04"))


def _opened(name: str, data: bytes) -> list[tuple[str, bytes]]:
    """The members of gzip, zip and brotli data; [] for anything else. Raises _Unreadable for what should open."""
    try:
        if data.startswith(b"\x1f\x8b"):
            return [("gzip", _bounded(gzip.GzipFile(fileobj=io.BytesIO(data))))]
        if data.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return [(i.filename, _bounded(archive.open(i))) for i in archive.infolist() if not i.is_dir()]
        if name.endswith(".br"):
            return [("brotli", _unbrotlied(data))]
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise _Unreadable(f"it cannot be unpacked ({type(error).__name__})") from error
    return []


def _bounded(file: IO[bytes] | gzip.GzipFile) -> bytes:
    data = file.read(_LARGEST_MEMBER + 1)
    if len(data) > _LARGEST_MEMBER:
        raise _Unreadable(f"it unpacks to more than {_LARGEST_MEMBER // 2**20} MiB")
    return data


def _unbrotlied(data: bytes) -> bytes:
    try:
        brotli = import_module("brotli")
    except ImportError:
        raise _Unreadable("brotli data cannot be unpacked here and no plain file lies beside it") from None
    try:
        plain: bytes = brotli.decompress(data)
    except brotli.error as error:
        raise _Unreadable("it cannot be unpacked (brotli)") from error
    return plain


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
        return failed(f"{found.where} holds secrets: {_some(found.leaks)}", remedy, **evidence, **first)
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
            f"{found.where}: {len(found.unread)} files could not be searched: {_some(found.unread)}",
            "Make them readable, or remove them; what was not searched is not clean.",
            **evidence,
        )
    return passed(
        f"{found.files} files of {found.where} hold none of {found.secrets} secrets, in any encoding", **evidence
    )


def _some(things: Sequence[object]) -> str:
    rest = len(things) - NAMED_AT_MOST
    return "; ".join(map(str, things[:NAMED_AT_MOST])) + (f"; and {rest} more" if rest > 0 else "")
