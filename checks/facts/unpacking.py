"""Opening compressed data: gzip, zip, brotli, bzip2 and xz, within bounds, whatever the data claims to be."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import IO

LARGEST = 256 * 1024 * 1024
"""Bytes. What unpacks to more, all that is packed inside it together, was not searched."""
DEEPEST = 3
"""How often something may be packed inside something packed."""

_GZIP, _ZIP, _XZ = b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ\x00"
_CLOSED = {
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"\x04\x22\x4d\x18": "LZ4",
}
"""What nothing here can unpack, by how it begins. To search it as it stands would find nothing, whatever it holds."""
_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, RuntimeError, NotImplementedError)
_BROKEN_NAMES = (ValueError, UnicodeError, KeyError, IndexError, OverflowError)
"""What zipfile raises for headers that lie."""


_TOO_LARGE = f"it unpacks to more than {LARGEST // 2**20} MiB"


class Unreadable(Exception):
    """Why something could not be searched, in words for a finding."""


def packed(name: str, head: bytes) -> bool:
    """Whether data called `name` that begins with `head` (16 bytes are enough) is opened by `members`."""
    return head.startswith((_GZIP, _ZIP, _XZ, *_CLOSED)) or _is_bzip2(head) or name.endswith(".br")


def members(name: str, data: bytes, limit: int = LARGEST) -> Iterator[tuple[str, bytes]]:
    """The members of packed data, one at a time, `limit` bytes together; none of other data. Raises Unreadable."""
    try:
        if data.startswith(_GZIP):
            yield "gzip", _gunzipped(data, limit)
        elif data.startswith(_ZIP):
            yield from _zipped(data, limit)
        elif data.startswith(_XZ):
            with lzma.open(io.BytesIO(data)) as file:
                yield "xz", _bounded(file, limit)
        elif _is_bzip2(data):
            with bz2.open(io.BytesIO(data)) as file:
                yield "bzip2", _bounded(file, limit)
        elif closed := next((what for begin, what in _CLOSED.items() if data.startswith(begin)), ""):
            raise Unreadable(f"{closed} data cannot be unpacked here")
        elif name.endswith(".br"):
            yield "brotli", _unbrotlied(data, limit)
    except (*_BROKEN, *_BROKEN_NAMES) as error:
        raise Unreadable(f"it cannot be unpacked ({type(error).__name__})") from error


def _is_bzip2(data: bytes) -> bool:
    return data.startswith(b"BZh") and data[4:10] == b"1AY&SY"


def _gunzipped(data: bytes, limit: int) -> bytes:
    """Nearly every file is of one part, which is opened at once: five times as quickly as by `gzip`."""
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    content = unpacking.decompress(data, limit + 1)
    if len(content) > limit:
        raise Unreadable(_TOO_LARGE)
    if unpacking.eof and not unpacking.unused_data:
        return content
    with gzip.open(io.BytesIO(data)) as file:
        return _bounded(file, limit)


def _zipped(data: bytes, left: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as file:
                    content = _bounded(file, left)
                left -= len(content)
                yield info.filename, content


def _bounded(file: IO[bytes] | gzip.GzipFile, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(_TOO_LARGE)
    return data


def _unbrotlied(data: bytes, limit: int) -> bytes:
    brotli = import_module("brotli")
    decoder = brotli.Decompressor()
    pieces: list[bytes] = []
    process: Callable[..., bytes] = decoder.process
    try:
        pieces.append(process(data, output_buffer_limit=limit + 1))
        while not decoder.is_finished() and not decoder.can_accept_more_data() and sum(map(len, pieces)) <= limit:
            pieces.append(process(b"", output_buffer_limit=limit + 1))
        if sum(map(len, pieces)) > limit:
            raise Unreadable(_TOO_LARGE)
    except brotli.error as error:
        raise Unreadable("it cannot be unpacked (brotli)") from error
    if not decoder.is_finished():
        raise Unreadable("it cannot be unpacked (brotli, cut off)")
    return b"".join(pieces)
