"""How values read to a person: durations, instants, lines that fit, text without control characters. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.cells import cell_len

NOT_RECORDED = "not recorded"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_LAST_GOOD_BREAK = re.compile(r".*[._/,:;=&?@-]", re.DOTALL)


class Redacts(Protocol):
    """What every output passes; `pipeline.secrets.Redactor` is one."""

    def text(self, text: str, /) -> str: ...


def took(seconds: float | None) -> str:
    """A duration with its unit: `40 ms`, `0.4 s`, `2 min 05 s`, `1 h 03 min`."""
    if seconds is None:
        return NOT_RECORDED
    if 0 < seconds < 0.095:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 59.95:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def instant(at: datetime | None) -> str:
    """An instant to the second, in UTC."""
    return NOT_RECORDED if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def to_the_millisecond(at: datetime) -> str:
    """An instant in UTC as a timeline needs it; the zone stands above it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def share(value: float) -> str:
    """A share of 1 as a percentage: `95%`, `99.5%`."""
    return f"{value * 100:.1f}".removesuffix(".0") + "%"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(text: str) -> str:
    """The text with a full stop where it has no end of its own."""
    text = text.strip()
    return text if not text or text[-1] in ".!?:" else text + "."


def printable(text: str) -> str:
    """The text without terminal escapes and control characters, which could hide or forge what a person reads."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\r\n", "\n").expandtabs(4))


def one_line(text: str) -> str:
    return " ".join(text.split())


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON-like value with `change` applied to every text in it, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {each_text(key, change): each_text(member, change) for key, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [each_text(member, change) for member in value]
    return value


def fold(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, broken at spaces, in long words after punctuation, else anywhere.

    Line breaks of the text are kept. There is always at least one line.
    """
    lines = [line for part in text.split("\n") for line in _fold_line(part, max(width, 2))]
    return lines or [""]


def _fold_line(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) <= width:
            line += " " + word
            continue
        if line:
            yield line
        line = word
        while cell_len(line) > width:
            head = _head(line, width)
            yield head
            line = line[len(head) :]
    if line:
        yield line


def _head(word: str, width: int) -> str:
    """The first piece of a word that is wider than `width`: up to its last punctuation, if that is not too early."""
    end = len(word)
    while cell_len(word[:end]) > width:
        end -= 1
    piece = word[: max(end, 1)]
    match = _LAST_GOOD_BREAK.match(piece)
    return match.group() if match and len(match.group()) * 3 >= len(piece) else piece
