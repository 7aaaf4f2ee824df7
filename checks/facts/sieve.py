"""Finding known secrets in many bytes, quickly: what is promised, and how.

Promise. Every place is found where a value of 8 characters or more stands in one of `pipeline.secrets.spellings`, or
where 12 characters in a row of a value of 16 or more do: as they are, or with quotes, plus signs, commas, backslashes
and white space between them (also as `\\n` in JSON). Nothing else is found: each suspicion is compared with the form.

How. Capitals are made small and all that may stand between the parts of a value is left out, in one `bytes.translate`.
From each form, treated likewise, anchors of five to eight bytes are taken, so many that every twelve characters hold
one. One automaton finds all anchors; what is around an anchor is held against the form, byte for byte. Few anchors
make a small automaton, which stays in the processor's cache: that is what makes it quick.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.secrets import BETWEEN, LONG, PART, SHORTEST, Hit, Redactor, Secret, secret_texts, spellings

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

_SMALL = bytes(range(256)).lower()
_WIDTHS = {
    "hex": 2 * PART,
    "base64": 15,
    "base64url": 15,
    "utf-16": 2 * PART,
    "\\x escapes": 4 * PART,
    "\\u escapes": 6 * PART,
    "url, every byte": 3 * PART,
    "html, every character": 4 * PART,
}
"""How many bytes of a form twelve characters take at least; twelve where nothing is said."""
_ANY_CASE = frozenset({"hex", "\\x escapes", "\\u escapes", "url, every byte", "html, every character"})
_LENGTHS = ((30, 8), (20, 6), (0, 5))
"""How long an anchor is where so many bytes are left of twelve characters: hex and the like say less in a byte."""
_SHORTEST_ANCHOR = 3
"""Where less is left of twelve characters, anchors would be found everywhere."""
_LINE_BREAK = re.compile(rb"\\+[nrt]")
_BLOCK = 4096


@dataclass(frozen=True)
class _Form:
    """One way in which a value may stand in a file. `kept`: the indexes in `spelt` of the bytes not left out."""

    name: str
    text: str
    encoding: str
    spelt: bytes
    width: int
    kept: Sequence[int]

    def least(self) -> int:
        """The fewest bytes that are left of any `width` bytes in a row."""
        if len(self.kept) == len(self.spelt):
            return self.width
        starts = range(len(self.spelt) - self.width + 1)
        return min(bisect_right(self.kept, at + self.width - 1) - bisect_right(self.kept, at - 1) for at in starts)

    def stretch(self, first: int, last: int) -> bytes:
        """The kept bytes from `first` up to `last`, with what is left out between and around them."""
        left = self.kept[first - 1] + 1 if first else 0
        right = self.kept[last] if last < len(self.kept) else len(self.spelt)
        return self.spelt[left:right]

    def around(self, data: bytes, at: int, place: int) -> tuple[int, int]:
        """From where to where the form stands unbroken in the data, when its byte `at` is laid on `place`."""
        spelt = self.spelt
        if self.encoding in _ANY_CASE:
            spelt, data = spelt.lower(), data[max(place - at, 0) : place + len(spelt)].lower()
            place = min(place, at)
        first = last = at
        while first and place - at + first and spelt[first - 1] == data[place - at + first - 1]:
            first -= 1
        while last < len(spelt) and place - at + last < len(data) and spelt[last] == data[place - at + last]:
            last += 1
        return first, last

    def reads(self, piece: bytes, first: int, last: int, *, escaped: bool) -> str | None:
        """The encoding in which `piece` spells that stretch of the form; None when it does not."""
        form = self.spelt[self.kept[first] : self.kept[last - 1] + 1]
        if self.encoding in _ANY_CASE:
            piece, form = piece.lower(), form.lower()
        if piece == form:
            return self.encoding
        if escaped:
            piece = _LINE_BREAK.sub(b"", piece)
        return f"{self.encoding} (split)" if _joined(piece) == _joined(form) else None


def _joined(data: bytes) -> bytes:
    return data.translate(None, BETWEEN)


@dataclass(frozen=True)
class _Run:
    """Where what is left of a form and of the data agree: `first` up to `last` of the form's group, laid on `base`."""

    group: int
    first: int
    last: int
    base: int

    @property
    def middle(self) -> int:
        return (self.first + self.last) // 2

    @property
    def ends(self) -> tuple[int, int, int]:
        """The first, the last and a middle byte of the data."""
        return self.base + self.first, self.base + self.last - 1, self.base + self.middle


class Sieve:
    """Searches for all secrets of a run. Building it takes some milliseconds a secret, so one is used for all files."""

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        names: dict[str, list[str]] = {}
        for name, secret in secrets.items():
            if secret.reveal():
                names.setdefault(secret.reveal(), []).append(name)
        self.too_short = tuple(", ".join(those) for value, those in names.items() if len(value) < SHORTEST)
        self._values = {value: ", ".join(those) for value, those in names.items() if len(value) >= SHORTEST}

    def found(self, data: bytes) -> tuple[Hit, ...]:
        """Every place where a secret stands in `data`, in order."""
        hits = list((self._where_escaped if _has_line_escapes(data) else self._plain).found(data))
        hits += self._odd.found(data, parts=True) if self._odd else ()
        return tuple(sorted(hits, key=lambda hit: (hit.offset, hit.name, hit.encoding)))

    @cached_property
    def _plain(self) -> _Net:
        return _Net(self._values, BETWEEN)

    @cached_property
    def _where_escaped(self) -> _Net:
        """For JSON and source maps, where a line break is written `\\n`: those letters are left out, too."""
        return _Net(self._values, BETWEEN + b"nrtNRT", escaped=True)

    @cached_property
    def _odd(self) -> Redactor | None:
        """Values with too few letters and digits for anchors are searched for in the slow way, which is complete."""
        odd = sorted({*self._plain.without_anchors, *self._where_escaped.without_anchors})
        return Redactor({self._values[value]: Secret(value) for value in odd}) if odd else None


def _has_line_escapes(data: bytes) -> bool:
    """Whether a line break is escaped anywhere here. Most bytes are of files without any backslash: that is quicker."""
    return b"\\" in data and b"\\n" in data


class _Net:
    """An automaton over the anchors of all forms, with one choice of what is left out."""

    def __init__(self, values: Mapping[str, str], dropped: bytes, *, escaped: bool = False) -> None:
        self._dropped = dropped
        self._escaped = escaped
        self._groups: list[tuple[bytes, tuple[_Form, ...]]] = []
        """Forms that look alike once small and left out, with what they look like."""
        self._anchors: list[list[tuple[int, int]]] = []
        """For each pattern: in which group it stands, and at which byte of what is left."""
        self._parts: dict[str, frozenset[bytes]] = {}
        """For each text that was suspected somewhere: its parts in all spellings."""
        self._automaton: BytesAhoCorasick | None = None
        self.without_anchors = {value for value in values if not self._add(value, values[value])}
        patterns = self._patterns()
        if patterns:
            from ahocorasick_rs import BytesAhoCorasick, Implementation

            self._anchors = list(patterns.values())
            # A table of all transitions is three times as quick as the default, and some megabytes large.
            self._automaton = BytesAhoCorasick(list(patterns), implementation=Implementation.DFA)

    def _add(self, value: str, name: str) -> bool:
        groups: dict[bytes, list[_Form]] = {}
        for text in dict.fromkeys(secret_texts(value)):
            if len(text) < SHORTEST:
                continue
            for spelt, encoding in spellings(text).items():
                kept = [at for at, byte in enumerate(spelt) if byte not in self._dropped]
                width = len(spelt) if len(text) < LONG else min(_WIDTHS.get(encoding, PART), len(spelt))
                form = _Form(name, text, encoding, spelt, width, range(len(spelt)) if len(kept) == len(spelt) else kept)
                groups.setdefault(self._left(spelt), []).append(form)
        found = [(left, tuple(forms)) for left, forms in groups.items()]
        if not all(any(_anchors(left, forms, {})) for left, forms in found):
            return False
        self._groups += found
        return True

    def _left(self, data: bytes) -> bytes:
        return data.translate(_SMALL, self._dropped)

    def _patterns(self) -> dict[bytes, list[tuple[int, int]]]:
        patterns: dict[bytes, list[tuple[int, int]]] = {}
        for number, (left, forms) in enumerate(self._groups):
            for anchor, at in _anchors(left, forms, patterns):
                patterns.setdefault(anchor, []).append((number, at))
        return patterns

    def found(self, data: bytes) -> Iterator[Hit]:
        if self._automaton is None:
            return
        left = self._left(data)
        matches = self._automaton.find_matches_as_indexes(left, overlapping=True)
        if not matches:
            return
        runs = list(dict.fromkeys(self._runs(left, matches)))
        places = _places(data, self._dropped, sorted({at for run in runs for at in run.ends}))
        taken: dict[str, list[tuple[int, int]]] = {}
        for run in sorted(runs, key=lambda run: run.first - run.last):
            start, end, middle = (places[at] for at in run.ends)
            stop = end + 1
            forms = self._groups[run.group][1]
            spans = taken.setdefault(forms[0].name, [])
            # One place of a value agrees with several forms; the longest, which comes first, is enough.
            if any(start < after and before < stop for before, after in spans):
                continue
            reading = self._reading(forms, data[start:stop], run.first, run.last)
            if reading := reading or self._exact(forms, data, run.middle, middle):
                spans.append((start, stop))
                yield Hit(forms[0].name, reading, start)

    def _exact(self, forms: Sequence[_Form], data: bytes, at: int, place: int) -> str | None:
        """The encoding of what stands unbroken around byte `at` of what is left of a form, laid on `place`.

        What is left may agree beyond a print's end by chance, in a capital or past a byte left out; the data does not.
        """
        for form in forms:
            first, last = form.around(data, form.kept[at], place)
            if last - first >= form.width and self._holds(form, form.spelt[first:last]):
                return form.encoding
        return None

    def _runs(self, left: bytes, matches: list[tuple[int, int, int]]) -> Iterator[_Run]:
        """Stretches long enough to be told of, as far as what is left can show."""
        until: dict[tuple[int, int], int] = {}
        for pattern, start, _ in matches:
            for number, at in self._anchors[pattern]:
                shape, forms = self._groups[number]
                base = start - at
                if at < until.get((number, base), 0):
                    continue
                first, last = _stretch(shape, left, base, at)
                until[number, base] = last
                if any(len(form.stretch(first, last)) >= form.width for form in forms):
                    yield _Run(number, first, last, base)

    def _reading(self, forms: Sequence[_Form], piece: bytes, first: int, last: int) -> str | None:
        """The encoding the piece is in, whole before split; None when only capitals and small letters agree."""
        readings = [(form.reads(piece, first, last, escaped=self._escaped), form) for form in forms]
        likely = sorted(
            ((encoding, form) for encoding, form in readings if encoding),
            key=lambda reading: reading[0].endswith("(split)"),
        )
        return next((encoding for encoding, form in likely if self._enough(form, first, last)), None)

    def _enough(self, form: _Form, first: int, last: int) -> bool:
        """Whether the stretch holds twelve characters of a long value: escapes make many bytes of few of them."""
        return self._holds(form, form.stretch(first, last))

    def _holds(self, form: _Form, stretch: bytes) -> bool:
        text = form.text
        if stretch == form.spelt or len(text) < LONG:
            return stretch == form.spelt
        if text not in self._parts:
            parts = (text[at : at + PART] for at in range(len(text) - PART + 1))
            self._parts[text] = frozenset(spelt for part in parts for spelt in spellings(part))
        return any(part in stretch for part in self._parts[text])


def _anchors(left: bytes, forms: Sequence[_Form], known: Container[bytes]) -> Iterator[tuple[bytes, int]]:
    """Anchors of a form and where they begin in what is left of it, so that each stretch that counts holds one.

    One that is `known` already is taken before another: most forms of a value share most of their bytes.
    """
    inside = min(form.least() for form in forms)
    if inside < _SHORTEST_ANCHOR:
        return
    length = min(inside, next(length for least, length in _LENGTHS if inside >= least))
    same = min(2, length - 2)  # a run of zeros is in every image
    begin, last = 0, len(left) - length
    while begin <= last:
        choice = range(min(begin + inside - length, last), begin - 1, -1)
        telling = [at for at in choice if len(set(left[at : at + length])) > same]
        shared = (at for at in telling if left[at : at + length] in known)
        chosen = next(shared, telling[0] if telling else None)
        if chosen is not None:
            yield left[chosen : chosen + length], chosen
        begin = (choice[0] if chosen is None else chosen) + 1


def _stretch(shape: bytes, left: bytes, base: int, at: int) -> tuple[int, int]:
    """How far, around byte `at`, the form laid on the data at `base` agrees with it: (first, last) of the form."""
    if base >= 0 and left.startswith(shape, base):
        return 0, len(shape)
    first = last = at
    while first > 0 and base + first > 0 and shape[first - 1] == left[base + first - 1]:
        first -= 1
    while last < len(shape) and base + last < len(left) and shape[last] == left[base + last]:
        last += 1
    return first, last


def _places(data: bytes, dropped: bytes, wanted: Sequence[int]) -> Mapping[int, int]:
    """Where in `data` the bytes stand that have the numbers `wanted` (ascending) once `dropped` is left out."""
    places: dict[int, int] = {}
    numbers = iter(wanted)
    number = next(numbers, None)
    before = 0
    for at in range(0, len(data), _BLOCK):
        if number is None:
            break
        block = data[at : at + _BLOCK]
        size = len(block.translate(None, dropped))
        if number < before + size:
            kept = [index for index, byte in enumerate(block) if byte not in dropped]
            while number is not None and number < before + size:
                places[number] = at + kept[number - before]
                number = next(numbers, None)
        before += size
    return places
