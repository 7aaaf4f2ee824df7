"""Holding the forms of a value against data, byte for byte, where something of them is suspected.

What stands between the parts of a value is left out of both for it, and escaped line breaks out of the data. One byte
is laid on the data, and what agrees around it is what stands there: so it makes no difference where a print was cut, or
what is beside it by chance.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from checks.facts.anchors import ANY_CASE, Form, Joined
from pipeline.secrets import LONG, PART, spellings

_LINE_BREAK = re.compile(rb"\\+[nrt]")


@dataclass(frozen=True)
class Reading:
    """What stands in a piece of data from `start` up to `stop`: `length` bytes of a form, in this encoding."""

    encoding: str
    start: int
    stop: int
    length: int


def best(forms: Sequence[tuple[Form, int]], piece: bytes, anchor: int) -> Reading | None:
    """What stands around byte `anchor` of the piece: a whole form, or else the longest stretch of one that counts.

    With each form is told which of its bytes is laid on the anchor.
    """
    for form, at in forms:
        start, stop = anchor - at, anchor - at + len(form.spelt)
        if start >= 0 and _alike(form, form.spelt, piece[start:stop]):
            return Reading(form.encoding, start, stop, len(form.spelt))
    views = [Joined(view) for view in _views(piece)]
    readings = [reading for form, at in forms for view in views if (reading := _read(form, at, piece, view, anchor))]
    return max(readings, key=lambda one: (one.length, not one.encoding.endswith(")")), default=None)


def _views(piece: bytes) -> Iterator[bytes]:
    yield piece
    if b"\\" in piece:
        yield _LINE_BREAK.sub(lambda escape: b" " * len(escape[0]), piece)


def _read(form: Form, at: int, piece: bytes, seen: Joined, anchor: int) -> Reading | None:
    own = form.joined
    here, there = bisect_left(own.places, at), bisect_left(seen.places, anchor)
    one, other = (own.text.lower(), seen.text.lower()) if form.encoding in ANY_CASE else (own.text, seen.text)
    first, last = agreeing(one, other, here, there)
    begin = own.places[first - 1] + 1 if first else 0
    end = own.places[last] if last < len(own.places) else len(form.spelt)
    if not _counts(form, begin, end):
        return None
    start, stop = seen.places[there - here + first], seen.places[there - here + last - 1] + 1
    whole = _alike(form, form.spelt[own.places[first] : own.places[last - 1] + 1], piece[start:stop])
    return Reading(form.encoding if whole else f"{form.encoding} (split)", start, stop, last - first)


def _alike(form: Form, one: bytes, other: bytes) -> bool:
    return one == other or (form.encoding in ANY_CASE and one.lower() == other.lower())


def _counts(form: Form, begin: int, end: int) -> bool:
    """Whether those bytes of a form are all of it, or hold twelve characters of a long value."""
    stretch, text = form.spelt[begin:end], form.text
    if len(stretch) == len(form.spelt) or len(text) < LONG:
        return len(stretch) == len(form.spelt)
    if end - begin < PART:
        return False
    likely = begin * len(text) // len(form.spelt)
    parts = sorted(range(len(text) - PART + 1), key=lambda at: abs(at - likely))
    return any(part in stretch for at in parts for part in _spelt(text[at : at + PART]))


@lru_cache(maxsize=1024)
def _spelt(part: str) -> tuple[bytes, ...]:
    return tuple(spellings(part))


def agreeing(form: bytes, data: bytes, at: int, place: int) -> tuple[int, int]:
    """From where to where the form agrees with the data when its byte `at` is laid on `place`: (first, last)."""
    base = place - at
    if base >= 0 and data.startswith(form, base):
        return 0, len(form)
    first = last = at
    while first and base + first and form[first - 1] == data[base + first - 1]:
        first -= 1
    while last < len(form) and base + last < len(data) and form[last] == data[base + last]:
        last += 1
    return first, last
