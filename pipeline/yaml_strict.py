"""YAML read strictly: 1.2 core scalars, no duplicate keys, tags, anchors, aliases or merges; every place is kept.

PyYAML's own loaders take the last of duplicate keys in silence and read `NO` as false, `12:30` as 750 and `010` as 8.
This reader uses PyYAML's parser for the syntax alone and gives the values their meaning itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from yaml import events

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_DIGITS = 18
LARGEST = 10**MAX_DIGITS - 1
"""Fits the 64 bits of every database and reader that such a number may reach."""

YamlPath = tuple[str | int, ...]
"""The way to a value from the top of the file: keys and, from 0, list indices."""


class Mark(NamedTuple):
    """A place in the file, both counted from 1; columns count characters."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One thing this reader refuses. `hole`: the value could not be read and stands as None in the data."""

    path: YamlPath
    mark: Mark
    found: str
    allowed: str
    hole: bool = False


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) with the place of every key and value.

    `complete` is False when reading had to stop; `problems` then says why, and `data` is None.
    """

    data: Any
    keys: Mapping[YamlPath, Mark]
    values: Mapping[YamlPath, Mark]
    problems: tuple[Problem, ...]
    complete: bool

    def place(self, path: YamlPath, *, key: bool = False) -> Mark:
        """Where `path` stands: its value, or with `key` its key; where there is none, its nearest parent."""
        if path in self.values and not (key and path in self.keys):
            return self.values[path]
        for length in range(len(path), -1, -1):
            parent = path[:length]
            if parent in self.keys:
                return self.keys[parent]
            if parent in self.values:
                return self.values[parent]
        return Mark(1, 1)


def read(content: bytes) -> Document:
    """Reads one YAML document. Never raises: what is wrong with it is in `problems`."""
    reader = _Reader()
    try:
        data = reader.document(_text(content))
    except _Stop as stop:
        return Document(None, reader.keys, reader.values, (*reader.problems, stop.problem), complete=False)
    return Document(data, reader.keys, reader.values, tuple(reader.problems), complete=True)


# ---- characters ---------------------------------------------------------------------------------------------

_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029"  # line breaks to some readers and none to others
    "\u202a-\u202e\u2066-\u2069"  # they make a line look other than it reads
    "\ud800-\udfff\ufffe\uffff\ufeff]"
)
_UNFIT_ALLOWED = "printable characters, spaces, tabs and ordinary line breaks"


class _Stop(Exception):
    def __init__(self, path: YamlPath, mark: Mark, found: str, allowed: str) -> None:
        super().__init__(found)
        self.problem = Problem(path, mark, found, allowed, hole=True)


def _text(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise _Stop((), Mark(1, 1), f"a file of {len(content)} bytes", f"at most {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        found = f"the byte 0x{content[error.start]:02x}, which is not UTF-8 here"
        raise _Stop((), _mark_after(before), found, "text in UTF-8; save the file in that encoding") from None
    unfit = _UNFIT.search(text)
    if unfit is not None:
        raise _Stop((), _mark_after(text[: unfit.start()]), f"the character {_code(unfit[0])}", _UNFIT_ALLOWED)
    return text


def _mark_after(before: str) -> Mark:
    lines = re.split("\r\n|\r|\n", before)
    return Mark(len(lines), len(lines[-1]) + 1)


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


# ---- scalars ------------------------------------------------------------------------------------------------

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_PREFIXED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Unfit(Exception):
    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(found)
        self.found = found
        self.allowed = allowed


def _plain(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar by the YAML 1.2 core schema; what it does not name is text."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return _whole(text, 10)
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        return _whole(prefixed[1], 8) if prefixed[1] else _whole(prefixed[2], 16)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise _Unfit("a number too large to be told from infinity", "a finite number")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise _Unfit(f"`{text}`", "a finite number")
    return text


def _whole(digits: str, base: int) -> int:
    written = len(digits.lstrip("+-"))
    number = int(digits, base) if written <= MAX_DIGITS else LARGEST + 1
    if abs(number) > LARGEST:
        raise _Unfit(f"a number of {written} digits", f"at most {LARGEST}; quotes around it if it is text")
    return number


# ---- structure ----------------------------------------------------------------------------------------------

_WRITE_OUT = "the value itself, written out at each place; this file has no anchors, aliases, merges or tags"
_KEY = "text as a key; quotes around it if it looks like a number, true, false or null"

_HINTS = (
    ("'\\t'", "spaces: YAML does not indent with tabs"),
    ("cannot start any token", "quotes around a text that begins with this character"),
    (
        "mapping values are not allowed",
        "one `key: value` on a line, in the column of its neighbours; quotes around a text that holds `: `",
    ),
    ("expected <block end>", "one column for all keys of a mapping or items of a list; look at the lines above too"),
    ("could not find expected ':'", "`key: value`; a key stands on one line"),
    ("unexpected end of stream", "the closing quote of the text that begins above"),
    ("expected ',' or", "a comma between items, and a closing bracket at the end"),
    ("block sequence entries are not allowed", "`- item` on a line of its own"),
    ("escape", "the escapes of JSON, or single quotes around the text"),
)
_SYNTAX = "YAML: `key: value` in mappings, `- item` in lists, indented with spaces"


@dataclass
class _Reader:
    """Builds the data of one document from the parser's events. Its recursion is bounded by MAX_DEPTH."""

    keys: dict[YamlPath, Mark] = field(default_factory=dict)
    values: dict[YamlPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _at: YamlPath = ()

    def document(self, text: str) -> Any:
        parser = yaml.SafeLoader(text)
        try:
            return self._document(_events(parser))
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except (yaml.YAMLError, ValueError, OverflowError):
            # PyYAML lets chr() and int() raise on escapes and versions beyond every limit.
            mark = Mark(parser.line + 1, parser.column + 1)
            raise _Stop(self._at, mark, "an escape or a number beyond every limit", _SYNTAX) from None
        finally:
            parser.dispose()

    def _document(self, stream: Iterator[events.Event]) -> Any:
        next(stream)  # StreamStart
        first = next(stream)
        if isinstance(first, events.StreamEndEvent):
            raise _Stop((), Mark(1, 1), "an empty file", "a mapping, beginning with `version: 1`")
        if isinstance(first, events.DocumentStartEvent) and (first.version or first.tags):
            self._refuse((), first, "a % directive", "YAML 1.2 without directives")
        data = self._node(next(stream), stream, ())
        next(stream)  # DocumentEnd
        after = next(stream)
        if not isinstance(after, events.StreamEndEvent):
            self._refuse((), after, "a second document", "one document; remove `---` and what follows it")
        return data

    def _node(self, event: events.Event, stream: Iterator[events.Event], path: YamlPath) -> Any:
        self._at = path
        self.values.setdefault(path, _mark(event))
        if len(path) > MAX_DEPTH:
            raise _Stop(path, _mark(event), f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels")
        if isinstance(event, events.AliasEvent):
            self._refuse(path, event, f"the alias *{event.anchor}", _WRITE_OUT, hole=True)
            return None
        self._no_anchor_or_tag(event, path)
        if isinstance(event, events.MappingStartEvent):
            return self._mapping(event, stream, path)
        if isinstance(event, events.SequenceStartEvent):
            return self._sequence(stream, path)
        assert isinstance(event, events.ScalarEvent)  # noqa: S101 (the parser has no other node)
        return self._scalar(event, path)

    def _mapping(self, start: events.Event, stream: Iterator[events.Event], path: YamlPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := next(stream), events.MappingEndEvent):
            key, counts = self._key(event, stream, path)
            here = (*path, key)
            if counts and key in data:
                found = f"the key `{shown(key)}` a second time; it stands at line {self.keys[here].line} already"
                self._refuse(here, event, found, "each key once in a mapping; remove or rename one")
                counts = False
            if counts:
                self.keys[here] = _mark(event)
            value = self._node(next(stream), stream, here)
            if counts:
                data[key] = value
        return data

    def _key(self, event: events.Event, stream: Iterator[events.Event], path: YamlPath) -> tuple[str, bool]:
        """The key as text, and whether its value counts."""
        if not isinstance(event, events.ScalarEvent):
            what = "an alias" if isinstance(event, events.AliasEvent) else "a list or mapping"
            raise _Stop(path, _mark(event), f"{what} as a key", _KEY)
        self._no_anchor_or_tag(event, (*path, event.value))
        if event.style is None and event.value == "<<":
            self._refuse((*path, "<<"), event, "the merge key `<<`", _WRITE_OUT)
            return "<<", False
        value = self._scalar(event, (*path, event.value), key=True)
        if not isinstance(value, str):
            self._refuse((*path, event.value), event, f"`{shown(event.value)}` as a key", _KEY)
            return event.value, False
        return value, True

    def _sequence(self, stream: Iterator[events.Event], path: YamlPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(stream), events.SequenceEndEvent):
            items.append(self._node(event, stream, (*path, len(items))))
        return items

    def _scalar(self, event: events.ScalarEvent, path: YamlPath, *, key: bool = False) -> Any:
        unfit = _UNFIT.search(event.value)
        if unfit is not None:
            self._refuse(path, event, f"the escaped character {_code(unfit[0])}", _UNFIT_ALLOWED, hole=True)
            return _UNFIT.sub("?", event.value) if key else None
        if event.style is not None:
            return event.value
        try:
            return _plain(event.value)
        except _Unfit as error:
            self._refuse(path, event, error.found, error.allowed, hole=True)
            return None

    def _no_anchor_or_tag(self, event: events.Event, path: YamlPath) -> None:
        if isinstance(event, events.NodeEvent) and event.anchor is not None:
            self._refuse(path, event, f"the anchor &{event.anchor}", _WRITE_OUT)
        if isinstance(event, events.ScalarEvent | events.CollectionStartEvent) and event.tag is not None:
            self._refuse(path, event, f"the tag {shown(event.tag)}", _WRITE_OUT)

    def _refuse(self, path: YamlPath, event: events.Event, found: str, allowed: str, *, hole: bool = False) -> None:
        self.problems.append(Problem(path, _mark(event), found, allowed, hole))

    def _syntax(self, error: yaml.MarkedYAMLError) -> _Stop:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "no YAML").removeprefix("found ")
        hint = next((hint for sign, hint in _HINTS if sign in problem), _SYNTAX)
        began = error.context_mark
        if began is not None and error.context and error.problem and mark is not None and began.line != mark.line:
            problem += f" ({error.context}, which began at line {began.line + 1})"
        place = Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)
        return _Stop(self._at, place, shown(problem, 200), hint)


def _events(parser: yaml.SafeLoader) -> Iterator[events.Event]:
    while parser.check_event():
        yield parser.get_event()  # type: ignore[no-untyped-call]


def _mark(event: events.Event) -> Mark:
    mark = event.start_mark
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)


def shown(text: str, limit: int = 60) -> str:
    """A text as one printable line of at most `limit` characters, cut at `...`."""
    line = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 3] + "..."
