"""Secrets: a type that never prints its value, and the redactor every output passes.

How a value is found. Each secret is written in every encoding of `forms`, and the text is searched for all of them at
once, in three views: as it stands; without the bytes that line-wrapping and string literals put between the parts
(`"ab" + "cd"`, wrapped base64, UTF-16); and the same with the escapes of JSON, URLs and HTML taken back, whichever
characters were escaped. Long values are searched for by every part of `PART` characters, so that a truncated print is
redacted too.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import html
import json
import re
import string
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

MARK = "[redacted]"
SHORTEST = 8
"""Shorter values, in characters, would be found everywhere; they cannot be searched."""
LONG = 16
"""From this length on, in characters, a part of the value counts as the value."""
PART = 12
"""The length of such a part, in characters of the value (not of its encoding)."""


class Secret:
    """A value that must not leave: prints `[redacted]`, compares by value, is revealed only by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def fingerprint(self) -> str:
        """Eight hex characters that tell two secrets apart and give neither away."""
        return hashlib.sha256(b"tollgate-fingerprint:" + _bytes(self._value)).hexdigest()[:8]

    def __repr__(self) -> str:
        return MARK

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return MARK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")

    __getstate__ = __reduce__


# ---- encodings ---------------------------------------------------------------------------------------------

_PUNCTUATION = "".join(sorted(set(string.punctuation + " ") - set("-._,")))
"""What encoders that know no better escape; they all leave `-._,` as they are."""


def forms(value: str) -> frozenset[str]:
    """Every way `value` may be written: raw, hex, base64, URL, JSON, `\\x` and `\\u`, HTML, reversed, UTF-16."""
    return frozenset(form for _, form in _encodings(value))


def spellings(value: str) -> Mapping[bytes, str]:
    """The same as the bytes that a file holds, each with the name of its encoding."""
    named: dict[bytes, str] = {}
    for encoding, form in _encodings(value):
        for spelt in (_utf8(form), _bytes(form)):
            named.setdefault(spelt, encoding)
    named.setdefault(value.encode("utf-16-le", "surrogatepass"), "utf-16")
    return named


def _encodings(value: str) -> Iterator[tuple[str, str]]:
    raw = _bytes(value)
    plain = value.isascii() and value.isalnum()
    yield "raw", value
    yield "raw", raw.decode("utf-8", "replace")
    yield "hex", raw.hex()
    yield "hex", raw.hex().upper()
    for offset in (0, 1, 2):
        yield "base64", _base64_inside(raw, offset, b"+/")
        yield "base64url", _base64_inside(raw, offset, b"-_")
    quoted = quote(raw, safe="")
    for url in (quoted, quote(raw, safe="/"), quote(raw, safe="-_.!~*'()"), quote(raw, safe=";,/?:@&=+$-_.!~*'()#")):
        yield "url", url
        yield "url", _lower_hex(url)
    yield "url", quoted.replace("%20", "+")
    yield "url, twice", quote(quoted, safe="")
    yield "url, every byte", "".join(f"%{byte:02X}" for byte in raw)
    yield "url, every byte", "".join(f"%{byte:02x}" for byte in raw)
    escaped = json.dumps(value)[1:-1]
    for text in (escaped, json.dumps(value, ensure_ascii=False)[1:-1]):
        yield "json", text
        yield "json", text.replace("/", "\\/")
        for characters in ("<", "<>", "<>&"):
            yield "json", text.translate(_escapes(characters, "\\u{:04x}"))
            yield "json", text.translate(_escapes(characters, "\\u{:04X}"))
        yield "json", text.translate(_escapes("<>&'+`", "\\u{:04X}"))
    for form in () if plain else ("\\x{:02x}", "\\x{:02X}", "\\u{:04x}", "\\u{:04X}"):
        yield "js", value.translate(_escapes(_PUNCTUATION, form))
    units = value.encode("utf-16-be", "surrogatepass")
    pairs = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    yield "\\u escapes", "".join(f"\\u{pair}" for pair in pairs)
    yield "\\u escapes", "".join(f"\\u{pair.upper()}" for pair in pairs)
    yield "\\x escapes", "".join(f"\\x{byte:02x}" for byte in raw)
    yield "\\x escapes", "".join(f"\\x{byte:02X}" for byte in raw)
    for quotes in ("&#x27;", "&#39;", "&apos;", "'"):
        page = html.escape(value, quote=False).replace("'", quotes)
        yield "html", page
        yield "html", page.replace('"', "&quot;")
        yield "html", page.replace('"', "&#34;")
    for form in () if plain else ("&#{};", "&#x{:x};", "&#x{:X};"):
        yield "html", value.translate(_escapes(_PUNCTUATION, form))
        yield "html", html.escape(value, quote=False).translate(_escapes("\"'/`=", form))
    yield "html, every character", "".join(f"&#{ord(char)};" for char in value)
    yield "html, every character", "".join(f"&#x{ord(char):x};" for char in value)
    yield "html, every character", "".join(f"&#x{ord(char):X};" for char in value)
    yield "reversed", value[::-1]
    yield "utf-16", "".join(f"{char}\0" for char in value)


@cache
def _escapes(characters: str, form: str) -> Mapping[int, str]:
    return {ord(char): form.format(ord(char)) for char in characters}


def _base64_inside(raw: bytes, offset: int, altchars: bytes) -> str:
    """The characters that depend on `raw` alone, where `offset` bytes (mod 3) are encoded before it."""
    whole = base64.b64encode(b"\0" * offset + raw, altchars).decode()
    return whole[(0, 2, 3)[offset] : (offset + len(raw)) * 8 // 6]


def _lower_hex(url: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), url)


def _bytes(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def searched(value: str) -> Iterator[str]:
    """The texts that give `value` away: itself, and for one of several lines (PEM) its body and each longer line."""
    yield value
    if value.strip() != value:
        yield value.strip()
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        secret = [line for line in lines if not re.fullmatch(r"-----(BEGIN|END) [^-]*-----", line)]
        yield "\n".join(secret).strip()
        yield "\r\n".join(secret).strip()
        yield from (line for line in secret if len(line) >= LONG)


def secret_texts(value: str) -> list[str]:
    """Those of them that are secret in every part: without the public lines of a PEM file."""
    texts = list(searched(value))
    if "\n" in value.strip():
        texts = [text for text in texts if not text.lstrip().startswith("-----BEGIN ")]
    return texts


def _parts(value: str) -> Iterator[str]:
    """What is redacted for `value`: for a long one every part of it."""
    for text in secret_texts(value):
        if len(text) < LONG:
            yield text
        else:
            yield from (text[at : at + PART] for at in range(len(text) - PART + 1))


# ---- views of the searched bytes ---------------------------------------------------------------------------

BETWEEN = b" \t\r\n\v\f\0\"'`+\\,"
"""What may stand between the parts of one value; left out of the text and of the forms alike."""
_ESCAPE = re.compile(
    rb"\\+(?:u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|([nrtfv]))"
    rb"|%([0-9a-fA-F]{2})|&(?:#[xX]([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(amp|lt|gt|quot|apos));"
)
_ESCAPE_BEGUN = re.compile(
    rb"(?:\\+(?:u[0-9a-fA-F]{0,3}|u\{[0-9a-fA-F]{0,6}|x[0-9a-fA-F]?)?"
    rb"|%[0-9a-fA-F]?|&(?:[a-z]{0,4}|#[0-9xX]?[0-9a-fA-F]{0,6}))\Z"
)
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}

Places = tuple[Sequence[int], Sequence[int]]
"""Where each byte of a view begins and ends in the data."""


def _meaning(escape: re.Match[bytes]) -> bytes:
    """What an escape stands for; an escaped line break, which may split a value, for a blank."""
    u, braced, x, blank, url, html_hex, html_decimal, entity = escape.groups()
    if blank:
        return b" "
    if entity:
        return _ENTITIES[entity]
    if x or url:
        return bytes.fromhex((x or url).decode())
    point = int(html_decimal) if html_decimal else int(u or braced or html_hex, 16)
    return chr(point).encode("utf-8", "surrogatepass") if point <= 0x10FFFF else escape[0]


def _see_as_is(data: bytes) -> bytes:
    return data


def _see_joined(data: bytes) -> bytes:
    return data.translate(None, BETWEEN)


def _see_unescaped(data: bytes) -> bytes:
    return _see_joined(_ESCAPE.sub(_meaning, data))


def _places_as_is(data: bytes) -> Places:
    return range(len(data)), range(1, len(data) + 1)


def _places_joined(data: bytes) -> Places:
    starts = [at for at, byte in enumerate(data) if byte not in BETWEEN]
    return starts, [at + 1 for at in starts]


def _places_unescaped(data: bytes) -> Places:
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for escape in [*_ESCAPE.finditer(data), None]:
        begin, end = escape.span() if escape else (len(data), len(data))
        plain = [place for place in range(at, begin) if data[place] not in BETWEEN]
        meant = len(_see_joined(_meaning(escape))) if escape else 0
        starts += [*plain, *[begin] * meant]
        ends += [*(place + 1 for place in plain), *[end] * meant]
        at = end
    return starts, ends


@dataclass(frozen=True)
class _View:
    """`see` leaves out or replaces bytes; `places` tells where they stood. `split`: it joins what was apart."""

    see: Callable[[bytes], bytes]
    places: Callable[[bytes], Places]
    split: bool


_VIEWS = (
    _View(_see_as_is, _places_as_is, split=False),
    _View(_see_joined, _places_joined, split=True),
    _View(_see_unescaped, _places_unescaped, split=True),
)


# ---- patterns ----------------------------------------------------------------------------------------------

_HEAD = 4
"""A line that ends in fewer bytes of a form than this is not held back; the rest of the form still is redacted."""


class _Patterns:
    """A set of byte strings that are searched for at once."""

    def __init__(self, named: Mapping[bytes, tuple[str, str]]) -> None:
        self.names = list(named.values())
        self.longest = max(map(len, named), default=0)
        self._sorted = sorted(named)
        self._starts = frozenset(pattern[:length] for pattern in named for length in range(1, _HEAD + 1))
        self._automaton: BytesAhoCorasick | None = None
        if named:
            from ahocorasick_rs import BytesAhoCorasick

            self._automaton = BytesAhoCorasick(list(named))

    def find(self, data: bytes) -> list[tuple[int, int, int]]:
        """Every occurrence, overlapping ones too: (number of the pattern, start, end)."""
        if self._automaton is None or not data:
            return []
        return list(self._automaton.find_matches_as_indexes(data, overlapping=True))

    def begun(self, data: bytes, inline: int) -> int | None:
        """Where the end of `data` could begin a pattern. Only its last `inline` bytes stand on a line that is open."""
        size = len(data)
        for at in range(max(0, size - self.longest + 1), size):
            enough = 1 if size - at <= inline else _HEAD
            if size - at >= enough and data[at : at + _HEAD] in self._starts and self._continues(data[at:]):
                return at
        return None

    def _continues(self, start: bytes) -> bool:
        at = bisect_left(self._sorted, start)
        if at < len(self._sorted) and self._sorted[at] == start:
            at += 1
        return at < len(self._sorted) and self._sorted[at].startswith(start)


def _patterns(values: Mapping[str, str], texts: Callable[[str], Iterator[str]]) -> tuple[_Patterns, _Patterns]:
    """The forms as they are, and joined. `values`: name by value. Each pattern has the name and encoding it is for."""
    exact: dict[bytes, tuple[str, str]] = {}
    joined: dict[bytes, tuple[str, str]] = {}
    for value, name in values.items():
        for text in texts(value):
            for encoding, form in _encodings(text):
                for spelt in {_utf8(form), _bytes(form)}:
                    for named, pattern in ((exact, spelt), (joined, _see_joined(spelt))):
                        if len(pattern) >= SHORTEST:
                            named.setdefault(pattern, (name, encoding))
    return _Patterns(exact), _Patterns(joined)


@dataclass(frozen=True)
class Hit:
    """A secret that was found: the name it was given, how it was written, and at which byte it begins."""

    name: str
    encoding: str
    offset: int


# ---- the redactor ------------------------------------------------------------------------------------------

Secrets = Iterable[Secret] | Mapping[str, Secret]


class Redactor:
    """Replaces every known secret, in every encoding, by `[redacted]`.

    Secrets come as a mapping from name to secret, or nameless (then they are called `secret 1` and so on).
    """

    def __init__(self, secrets: Secrets = ()) -> None:
        self._names: dict[str, list[str]] = {}
        self._count = 0
        self._views: tuple[tuple[_View, _Patterns], ...] | None = None
        self._whole: tuple[tuple[_View, _Patterns], ...] | None = None
        self.add(secrets)

    def add(self, secrets: Secrets) -> None:
        """Secrets learned later. Streams that are open look for them from their next chunk on."""
        pairs = secrets.items() if isinstance(secrets, Mapping) else ((None, secret) for secret in secrets)
        for name, secret in pairs:
            self._count += 1
            value = secret.reveal()
            if value:
                names = self._names.setdefault(value, [])
                if (name is None and names) or name in names:
                    continue
                names.append(name if name is not None else f"secret {self._count}")
                self._views = self._whole = None

    @property
    def too_short(self) -> tuple[str, ...]:
        """The names of the secrets that are not searched for, because they have fewer than 8 characters."""
        return tuple(", ".join(names) for value, names in self._names.items() if len(value) < SHORTEST)

    def text(self, text: str) -> str:
        """`text` with every secret in it replaced; text without one is returned unchanged."""
        spans = self._spans(text)
        data = _utf8(text)
        return _replaced(data, spans, 0, len(data)) if spans else text

    def data(self, value: Any) -> Any:
        """The same for JSON-like values, keys of objects included. What is no JSON value is returned as it is."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Secret):
            return MARK
        if isinstance(value, Mapping):
            return self._object(value)
        if isinstance(value, list | tuple):
            return self._array(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MARK if self._spans(repr(value)) else value
        return value

    def stream(self) -> Stream:
        """A redactor for text that comes in chunks."""
        return Stream(self)

    def found(self, data: bytes, *, parts: bool = False) -> tuple[Hit, ...]:
        """Every place where a secret stands in `data`, in order; with `parts` parts of long ones count as well.

        An encoding that ends in `(split)` had quotes, plus signs or white space between its pieces.
        """
        hits: dict[tuple[str, int], Hit] = {}
        for view, patterns in self._searching() if parts else self._searching_whole():
            matches = patterns.find(view.see(data))
            starts = view.places(data)[0] if matches else ()
            for number, start, _ in matches:
                name, encoding = patterns.names[number]
                offset = starts[start]
                hits.setdefault((name, offset), Hit(name, f"{encoding} (split)" if view.split else encoding, offset))
        return tuple(sorted(hits.values(), key=lambda hit: (hit.offset, hit.name)))

    def _searching(self) -> tuple[tuple[_View, _Patterns], ...]:
        if self._views is None:
            self._views = self._views_of(_parts)
        return self._views

    def _searching_whole(self) -> tuple[tuple[_View, _Patterns], ...]:
        if self._whole is None:
            self._whole = self._views_of(searched)
        return self._whole

    def _views_of(self, texts: Callable[[str], Iterator[str]]) -> tuple[tuple[_View, _Patterns], ...]:
        values = {value: ", ".join(names) for value, names in self._names.items() if len(value) >= SHORTEST}
        exact, joined = _patterns(values, texts)
        return tuple((view, joined if view.split else exact) for view in _VIEWS)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        data = _utf8(text)
        spans: list[tuple[int, int]] = []
        for view, patterns in self._searching():
            spans += _Look(view, patterns, b"", data).spans()
        return _union(spans)

    def _object(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        redacted: dict[Any, Any] = {}
        for key, member in value.items():
            name = first = self.data(key)
            count = 1
            while name in redacted:
                count += 1
                name = f"{first} {count}"
            redacted[name] = self.data(member)
        return redacted

    def _array(self, value: list[Any] | tuple[Any, ...]) -> list[Any]:
        """Lines of one text often come as a list: a secret that runs over several of them is found as well."""
        lines = [member if isinstance(member, str) else "" for member in value]
        text = "\n".join(lines)
        spans = self._spans(text)
        if not spans:
            return [member if isinstance(member, str) else self.data(member) for member in value]
        data, at, redacted = _utf8(text), 0, []
        for member, line in zip(value, lines, strict=True):
            end = at + len(_utf8(line))
            redacted.append(_replaced(data, spans, at, end) if isinstance(member, str) else self.data(member))
            at = end + 1
        return redacted


class Stream:
    """Redacts text that comes in chunks. What `feed` and `end` return, joined, is the redacted whole.

    `feed` holds back only an end that could be the beginning of a secret. A complete line that ends in fewer than four
    characters of one is let go at once; should the secret follow on the next lines, the rest of it is redacted.
    """

    _MOST_HELD = 65_536
    """Bytes. When more is held (a secret begun, then white space without end), it is redacted and let go."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._reset()

    def _reset(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""
        self._before = [b""] * len(_VIEWS)
        """For each view the end of what was let go: a secret may have begun in it."""
        self._marked = False
        """What was let go last ended in a mark; a secret that continues gets no second one."""

    def feed(self, chunk: str | bytes) -> str:
        return self._let_go(chunk if isinstance(chunk, str) else self._decoder.decode(chunk), last=False)

    def end(self) -> str:
        """The rest. Afterwards the stream is as new."""
        rest = self._let_go(self._decoder.decode(b"", True), last=True)
        self._reset()
        return rest

    def _let_go(self, text: str, *, last: bool) -> str:
        data = self._held + _utf8(text)
        if not data:
            return ""
        looks = [
            _Look(view, patterns, before, data)
            for (view, patterns), before in zip(self._redactor._searching(), self._before, strict=True)
        ]
        spans = _union(span for look in looks for span in look.spans())
        hold = len(data) if last else _whole_escapes(data, min(look.hold(spans) for look in looks), spans)
        if len(data) - hold > self._MOST_HELD:
            spans, hold = _union([*spans, (hold, len(data))]), len(data)
        ready = [span for span in spans if span[1] <= hold]
        released = _replaced(data, ready, 0, hold, marked=self._marked)
        if hold:
            self._marked = bool(ready) and ready[-1][1] == hold
        self._before = [look.before_after(hold) for look in looks]
        self._held = data[hold:]
        return released


class _Look:
    """One view of a chunk, with what was let go before it."""

    def __init__(self, view: _View, patterns: _Patterns, before: bytes, data: bytes) -> None:
        self._view = view
        self._patterns = patterns
        self._before = before
        self._data = data
        self._seen = before + view.see(data)

    @cached_property
    def _places(self) -> Places:
        return self._view.places(self._data)

    def spans(self) -> Iterator[tuple[int, int]]:
        """What must be replaced, as (start, end) in the chunk."""
        old = len(self._before)
        for _, start, end in self._patterns.find(self._seen):
            if end > old:
                starts, ends = self._places
                yield starts[max(start - old, 0)], ends[end - old - 1]

    def hold(self, spans: list[tuple[int, int]]) -> int:
        """From where on the chunk must wait for the next one. What is replaced anyway need not wait."""
        inline = len(self._view.see(self._data[self._data.rfind(b"\n") + 1 :]))
        begun = self._patterns.begun(self._seen, inline)
        if begun is None or len(self._seen) == len(self._before):
            return len(self._data)
        starts, _ = self._places
        at = starts[max(begun - len(self._before), 0)]
        covering = next((end for start, end in spans if start <= at < end), at)
        rest = bisect_left(starts, covering)
        return starts[rest] if rest < len(starts) else len(self._data)

    def before_after(self, hold: int) -> bytes:
        """The `before` of the next chunk, when this one is let go up to `hold`."""
        size = max(self._patterns.longest - 1, 0)
        return (self._before + self._view.see(self._data[:hold]))[-size:] if size else b""


def _whole_escapes(data: bytes, hold: int, spans: list[tuple[int, int]]) -> int:
    """The nearest place at or before `hold` that cuts neither an escape nor a span."""
    begun = _ESCAPE_BEGUN.search(data)
    if begun:
        hold = min(hold, begun.start())
    escapes = [found.span() for found in _ESCAPE.finditer(data)]
    for start, end in sorted([*escapes, *spans], reverse=True):
        if start < hold < end:
            hold = start
    return hold


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places as few ordered spans; touching ones are one."""
    union: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


def _replaced(data: bytes, spans: list[tuple[int, int]], start: int, end: int, *, marked: bool = False) -> str:
    """`data[start:end]` with each span replaced by a mark; none for a span at the start when one was just written."""
    pieces: list[bytes] = []
    at = start
    for first, last in spans:
        if last <= start or first >= end:
            continue
        pieces.append(data[at : max(first, start)])
        if not (marked and first <= start):
            pieces.append(MARK.encode())
        at = min(last, end)
    pieces.append(data[at:end])
    return b"".join(pieces).decode("utf-8", "surrogatepass")
