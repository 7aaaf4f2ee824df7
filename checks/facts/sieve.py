"""Finding known secrets in many bytes, quickly: what is promised, and how.

Promise. Every place is found where a value of 8 characters or more stands in one of `pipeline.secrets.spellings`, or
where 12 characters in a row of a value of 16 or more do: as they are, or with quotes, plus signs, commas, backslashes
and white space between them (also as `\\n` in JSON). Twelve that are but one or two different ones, say zeros, do not
count: they are everywhere. Nothing else is found: each suspicion is compared with the form.

How. All that may stand between the parts of a value is left out in one `bytes.translate`. In what is left one automaton
finds the anchors of all values (`checks.facts.anchors`): each stretch that counts holds one. What is around an anchor
is held against what is left of the value, and, where enough agrees, against its forms (`checks.facts.readings`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from checks.facts.anchors import LEFT_OUT, NoAnchor, Shape, anchors, left, shapes
from checks.facts.readings import agreeing, best
from pipeline.secrets import SHORTEST, Hit, Redactor, Secret

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

_BLOCK = 512


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
        hits = list(self._search.found(data))
        hits += self._odd.found(data, parts=True) if self._odd else ()
        return tuple(sorted(hits, key=lambda hit: (hit.offset, hit.name, hit.encoding)))

    @cached_property
    def _search(self) -> _Search:
        return _Search(self._values)

    @cached_property
    def _odd(self) -> Redactor | None:
        """Values that say too little for anchors are searched for in the slow way, which is complete."""
        odd = self._search.without_anchors
        return Redactor({name: Secret(value) for value, name in odd.items()}) if odd else None


@dataclass(frozen=True)
class _Suspicion:
    """What is left of the data agrees with the shape from `first` up to `last`, laid on `base`, around symbol `at`."""

    shape: Shape
    base: int
    first: int
    last: int
    at: int

    @property
    def places(self) -> tuple[int, int, int]:
        """What is left of the data: where it last disagreed before, the anchor, where it disagrees again."""
        return self.base + self.first - 1, self.base + self.at, self.base + self.last


class _Search:
    """An automaton over the anchors of all values that have such."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.without_anchors: dict[str, str] = {}
        patterns: dict[bytes, list[tuple[Shape, int]]] = {}
        known: set[bytes] = set()
        for value, name in values.items():
            try:
                found = [(shape, *one) for shape in shapes(value, name) for one in anchors(shape, known)]
            except NoAnchor:
                self.without_anchors[value] = name
                continue
            for shape, anchor, at in found:
                patterns.setdefault(anchor, []).append((shape, at))
        self._anchors = list(patterns.values())
        self._automaton: BytesAhoCorasick | None = None
        if patterns:
            from ahocorasick_rs import BytesAhoCorasick, Implementation

            # A table of all transitions is three times as quick as the default.
            self._automaton = BytesAhoCorasick(list(patterns), implementation=Implementation.DFA)

    def found(self, data: bytes) -> Iterator[Hit]:
        if self._automaton is None:
            return
        remains = left(data)
        matches = self._automaton.find_matches_as_indexes(remains, overlapping=True)
        if not matches:
            return
        suspicions = sorted(self._suspicions(remains, matches), key=lambda one: one.first - one.last)
        places = _places(data, sorted({at for one in suspicions for at in one.places if at >= 0}))
        taken: dict[str, _Spans] = {}
        for one in suspicions:
            before, anchor, after = (places.get(at, len(data) if at > 0 else -1) for at in one.places)
            spans = taken.setdefault(one.shape.name, _Spans())
            # One place of a value agrees with several forms; the longest, which comes first, is enough.
            if spans.meet(anchor, anchor + 1):
                continue
            laid = [(form, form.kept[one.at]) for form in one.shape.forms]
            found = best(laid, data[before + 1 : after], anchor - before - 1)
            if found and not spans.meet(before + 1 + found.start, before + 1 + found.stop):
                spans.add(before + 1 + found.start, before + 1 + found.stop)
                yield Hit(one.shape.name, found.encoding, before + 1 + found.start)

    def _suspicions(self, remains: bytes, matches: Sequence[tuple[int, int, int]]) -> Iterator[_Suspicion]:
        """Where enough of what is left agrees with a shape around an anchor."""
        for pattern, start, _ in matches:
            for shape, at in self._anchors[pattern]:
                first, last = agreeing(shape.symbols, remains, at, start)
                if last - first >= shape.least:
                    yield _Suspicion(shape, start - at, first, last, at)


class _Spans:
    """Ranges that do not meet."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        insort(self._starts, start)
        insort(self._stops, stop)

    def meet(self, start: int, stop: int) -> bool:
        """Whether any of them has a place in common with this one."""
        return bisect_right(self._stops, start) < bisect_left(self._starts, stop)


def _places(data: bytes, wanted: Sequence[int]) -> Mapping[int, int]:
    """Where in `data` the bytes stand that have the numbers `wanted` (ascending) of what is left."""
    places: dict[int, int] = {}
    numbers = iter(wanted)
    number = next(numbers, None)
    before = 0
    for at in range(0, len(data), _BLOCK):
        if number is None:
            break
        block = data[at : at + _BLOCK]
        size = len(block.translate(None, LEFT_OUT))
        if number < before + size:
            kept = [index for index, byte in enumerate(block) if byte not in LEFT_OUT]
            while number is not None and number < before + size:
                places[number] = at + kept[number - before]
                number = next(numbers, None)
        before += size
    return places
