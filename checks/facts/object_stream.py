"""The stream in which git prints all its objects, searched as it comes; a hit is laid to the object it stands in.

Objects are not cut out of the stream one by one: that would take longer than the search. Memory is bounded by the
pieces it is fed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from checks.facts.leaks import OVERLAP
from checks.facts.repository import GitFailed
from checks.facts.sieve import Sieve
from checks.facts.unpacking import packed

_HEAD = 16
"""Bytes of an object that tell whether it is packed."""
_HEADER_AT_MOST = 256


@dataclass(frozen=True)
class Object:
    """One object of git: its name, its type, and where its content begins and ends in the stream."""

    name: str
    kind: str
    begin: int
    end: int


@dataclass(frozen=True)
class ObjectHit:
    """A secret in an object, at a byte of its content."""

    object: Object
    setting: str
    encoding: str
    offset: int


@dataclass
class Seen:
    """What a stream held. `packed`: the blobs that must be opened to be searched."""

    objects: int = 0
    hits: list[ObjectHit] = field(default_factory=list)
    packed: list[str] = field(default_factory=list)


class Stream:
    """Reads what `git cat-file --batch` prints, in any pieces, and searches it."""

    def __init__(self, sieve: Sieve) -> None:
        self.seen = Seen()
        self._sieve = sieve
        self._objects: list[Object] = []
        """Those that reach into what is kept of the stream."""
        self._window = b""
        self._start = 0
        """Where the window begins in the stream."""
        self._next = 0
        """Where the next header begins in the stream."""
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Takes the next piece. Raises GitFailed for what is no such stream."""
        self._window += data
        self._read_headers()
        self._search()
        kept = min(self._searched - OVERLAP, self._next)
        if kept > self._start:
            self._window = self._window[kept - self._start :]
            self._start = kept
            self._objects = [one for one in self._objects if one.end > kept]

    def end(self) -> Seen:
        """What was seen. Raises GitFailed when the stream broke off."""
        if self._next != self._start + len(self._window):
            raise GitFailed("its list of objects broke off")
        return self.seen

    def _read_headers(self) -> None:
        end = self._start + len(self._window)
        while self._next < end:
            at = self._next - self._start
            stop = self._window.find(b"\n", at, at + _HEADER_AT_MOST)
            if stop < 0:
                if len(self._window) - at > _HEADER_AT_MOST:
                    raise GitFailed("its list of objects is garbled")
                return
            words = self._window[at:stop].split(b" ")
            if len(words) != 3 or not words[2].isdigit():
                said = self._window[at:stop][:80].decode("ascii", "replace")
                raise GitFailed(f"an object cannot be read: {said}")
            begin = self._start + stop + 1
            size = int(words[2])
            if len(self._window) - (stop + 1) < min(size, _HEAD):
                return
            one = Object(words[0].decode("ascii", "replace"), words[1].decode("ascii", "replace"), begin, begin + size)
            self._objects.append(one)
            self.seen.objects += 1
            if one.kind == "blob" and packed("", self._window[stop + 1 : stop + 1 + min(size, _HEAD)]):
                self.seen.packed.append(one.name)
            self._next = one.end + 1

    def _search(self) -> None:
        begin = max(self._searched - OVERLAP, self._start)
        starts = [one.begin for one in self._objects]
        for hit in self._sieve.found(self._window[begin - self._start :]):
            at = begin + hit.offset
            number = bisect_right(starts, at) - 1
            if number >= 0 and at < self._objects[number].end:
                one = self._objects[number]
                self.seen.hits.append(ObjectHit(one, hit.name, hit.encoding, at - one.begin))
        self._searched = self._start + len(self._window)
