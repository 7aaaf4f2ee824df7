"""What a known value looks like once what may stand between its parts is left out, and what to look for then.

What remains is taken for one of 31 symbols: capitals for small letters, and other bytes for some letter. What a value
looks like then is its shape; several encodings share one. Anchors are short pieces of shapes, so chosen that every
stretch that counts holds one whole: the value, or of a long one what twelve characters in a row take in that encoding.

Why so few symbols: an automaton's table then has 32 columns, and most of what is used of it stays in the processor's
first cache. Anchors begin alike where they can, for the same reason.
"""

from __future__ import annotations

import re
import string
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, cycle

from pipeline.secrets import BETWEEN, LONG, PART, SHORTEST, secret_texts, spellings

ANY_CASE = frozenset({"hex", "\\x escapes", "\\u escapes", "url, every byte", "html, every character"})
"""Encodings whose letters may be capitals or not."""

_WIDTHS = {"base64": 15, "base64url": 15, "utf-16": 2 * PART}
"""How many bytes twelve characters take at least, where no units can be told apart; twelve where nothing is said."""
_UNITS = {
    encoding: re.compile(unit + rb"|.", re.DOTALL)
    for encoding, unit in {
        "hex": rb"..",
        "url": rb"%..",
        "url, every byte": rb"%..",
        "url, twice": rb"%25..",
        "json": rb"\\u....|\\.",
        "js": rb"\\u....|\\x..",
        "\\u escapes": rb"\\u....",
        "\\x escapes": rb"\\x..",
        "html": rb"&[^;]*;",
        "html, every character": rb"&[^;]*;",
    }.items()
}
"""What spells at most one character: twelve characters are twelve of these or more, each of them whole."""

_DIGITS = 10
_SYMBOLS = 31
_DIGIT_BITS, _LETTER_BITS = 3, 5
_TELLING_BITS = 23
"""How much an anchor says: it is then found by chance once in some million bytes."""
_BEGINNING = 2
"""How many symbols anchors have in common where they can."""
_FEWEST_BITS = 19
"""Where no stretch says so much, less must do; with fewer than four letters anchors would be found everywhere."""

LEFT_OUT = BETWEEN + b"nrt"
"""In JSON and source maps a line break is written `\\n`: those letters are left out, too."""


def _symbols() -> bytes:
    small = bytes(range(256)).lower()
    digits, letters = string.digits.encode(), string.ascii_lowercase.encode()
    others = bytes(byte for byte in range(256) if byte not in digits + letters)
    symbols = dict(zip(letters + others, cycle(range(_DIGITS, _SYMBOLS)), strict=False))
    symbols |= {byte: number for number, byte in enumerate(digits)}
    return bytes(symbols[byte] for byte in small)


_TABLE = _symbols()


def left(data: bytes) -> bytes:
    """What is left of data or of a form, as symbols."""
    return data.translate(_TABLE, LEFT_OUT)


class Joined:
    """Bytes without what may stand between the parts of a value. `places`: where each of the others stood."""

    def __init__(self, data: bytes) -> None:
        self.text = data.translate(None, BETWEEN)
        self.places = [place for place, byte in enumerate(data) if byte not in BETWEEN]


@dataclass(frozen=True)
class Form:
    """One way in which a value may stand in a file. `kept`: the indexes in `spelt` of what is left of it."""

    name: str
    text: str
    encoding: str
    spelt: bytes
    kept: Sequence[int]

    @cached_property
    def joined(self) -> Joined:
        return Joined(self.spelt)

    def windows(self) -> Iterator[tuple[int, int]]:
        """The stretches that count, as ranges of `kept`; none that holds another one is needed."""
        for begin, end in self._windows():
            yield bisect_left(self.kept, begin), bisect_left(self.kept, end)

    def _windows(self) -> Iterable[tuple[int, int]]:
        whole = len(self.spelt)
        if len(self.text) < LONG:
            return ((0, whole),)
        if units := _UNITS.get(self.encoding):
            begins = [*(unit.start() for unit in units.finditer(self.spelt)), whole]
            return zip(begins, begins[PART:], strict=False)
        width = min(_WIDTHS.get(self.encoding, PART), whole)
        return ((begin, begin + width) for begin in range(whole - width + 1))


@dataclass(frozen=True)
class Shape:
    """Forms of one value that look alike. `least`: how many symbols each stretch that counts has."""

    symbols: bytes
    forms: Sequence[Form]
    windows: Sequence[tuple[int, int]]

    @cached_property
    def least(self) -> int:
        return min(high - low for low, high in self.windows)

    @property
    def name(self) -> str:
        return self.forms[0].name


def shapes(value: str, name: str) -> list[Shape]:
    """All that the value may look like."""
    alike: dict[bytes, list[Form]] = {}
    for text in dict.fromkeys(secret_texts(value)):
        if len(text) >= SHORTEST:
            for spelt, encoding in spellings(text).items():
                kept = [at for at, byte in enumerate(spelt) if byte not in LEFT_OUT]
                alike.setdefault(left(spelt), []).append(Form(name, text, encoding, spelt, kept))
    return [Shape(symbols, forms, _in_order(forms)) for symbols, forms in alike.items()]


def _in_order(forms: Iterable[Form]) -> list[tuple[int, int]]:
    windows = {window for form in forms for window in form.windows()}
    return sorted(windows, key=lambda window: (window[1], -window[0]))


class NoAnchor(Exception):
    """A stretch that counts says too little."""


def anchors(shape: Shape, known: set[bytes]) -> Iterator[tuple[bytes, int]]:
    """Anchors and where in the shape they begin: each window that tells something holds one. Raises NoAnchor.

    One that is `known` already is taken before another, and one that begins like a known one before the last.
    """
    symbols = shape.symbols
    said = [0, *accumulate(_DIGIT_BITS if symbol < _DIGITS else _LETTER_BITS for symbol in symbols)]
    ends = [bisect_left(said, told + _TELLING_BITS) for told in said]
    newest = -1
    for low, high in shape.windows:
        if newest >= low:
            continue
        choice = [at for at in range(high - 1, low - 1, -1) if ends[at] <= high and _tells(symbols[at : ends[at]])]
        if choice:
            same = (at for at in choice if symbols[at : ends[at]] in known)
            alike = (at for at in choice if symbols[at : at + _BEGINNING] in known)
            newest = next(same, next(alike, choice[0]))
            anchor = symbols[newest : ends[newest]]
        elif said[high] - said[low] < _FEWEST_BITS:
            raise NoAnchor
        elif _tells(symbols[low:high]):
            newest, anchor = low, symbols[low:high]
        else:
            continue
        known |= {anchor, anchor[:_BEGINNING]}
        yield anchor, newest
    if newest < 0:
        raise NoAnchor


def _tells(piece: bytes) -> bool:
    """A run of zeros, or of two symbols, is in every image."""
    return len(set(piece)) > 2
