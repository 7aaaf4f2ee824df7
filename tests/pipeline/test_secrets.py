"""The redactor, held against encoders that are not its own."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import re
import secrets as randomness
import string
import textwrap
import urllib.parse
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.secrets import MARK, Redactor, Secret, forms

ENCODERS: dict[str, Callable[[str], str]] = {
    "raw": lambda value: value,
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 after one byte": lambda value: base64.b64encode(b"u" + value.encode() + b"zz").decode(),
    "base64 after two bytes": lambda value: base64.b64encode(b"u:" + value.encode() + b"z").decode(),
    "urlsafe base64": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "wrapped base64": lambda value: "\n".join(textwrap.wrap(base64.b64encode(value.encode()).decode(), 5)),
    "wrapped base64 in JSON": lambda value: json.dumps("\r\n".join(textwrap.wrap(value.encode().hex(), 6))),
    "url": lambda value: urllib.parse.quote(value, safe=""),
    "url path": urllib.parse.quote,
    "url form": urllib.parse.quote_plus,
    "partly escaped": lambda value: "".join(f"&#{ord(char)};" if char in "+&" else char for char in value),
    "partly escaped script": lambda value: re.sub("[a-f<]", lambda char: f"\\\\x{ord(char[0]):02x}", value),
    "partly escaped url": lambda value: re.sub("[^a-z]", lambda char: f"%{ord(char[0]):02X}", value),
    "url in a url": lambda value: urllib.parse.quote(urllib.parse.quote(value, safe=""), safe=""),
    "every byte of a url": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "json": json.dumps,
    "json, not ascii": lambda value: json.dumps(value, ensure_ascii=False),
    "json in json": lambda value: json.dumps(json.dumps({"a": value})),
    "json for a script": lambda value: json.dumps(value).replace("/", r"\/").replace("<", r"\u003c"),
    "every character of json": lambda value: "".join(f"\\u{ord(char):04x}" for char in value),
    "python bytes": lambda value: "".join(f"\\x{byte:02x}" for byte in value.encode()),
    "html": html.escape,
    "every character of html": lambda value: "".join(f"&#x{ord(char):x};" for char in value),
    "html decimal": lambda value: "".join(f"&#{ord(char)};" for char in value),
    "reversed": lambda value: value[::-1],
    "utf-16": lambda value: value.encode("utf-16-le").decode("latin-1"),
    "string literals": lambda value: '"' + '" + "'.join(re.findall("(?s).{1,4}", value)) + '"',
    "lines": lambda value: "\n".join(re.findall("(?s).{1,3}", value)),
}
_GAPS = re.compile(r"\\+[nrt]|[\s\0\"'`+\\,]")

ascii_values = st.text(string.ascii_letters + string.digits + "-_/+=<&%.:~", min_size=12, max_size=60).filter(
    lambda value: len(set(_GAPS.sub("", value))) >= 8
)
unlikely = st.text(string.punctuation + " \n\tqé€😀", max_size=30)


def survives(text: str, value: str) -> list[str]:
    """The encodings in which `value` can still be read from `text` when gaps are closed: a measure of our own."""
    closed = _GAPS.sub("", text)
    readable = {name: _GAPS.sub("", encode(value)) for name, encode in ENCODERS.items()}
    return [name for name, shown in readable.items() if shown in closed]


def value_of(length: int = 32) -> str:
    return randomness.token_urlsafe(length)[:length]


@pytest.mark.parametrize("name", ENCODERS)
def test_each_encoding_is_redacted(name: str) -> None:
    """A secret does not survive in any encoding."""
    value = f"{value_of(20)}/<&+{value_of(20)}"
    shown = Redactor([Secret(value)]).text(f"before {ENCODERS[name](value)} after")
    assert MARK in shown
    assert not survives(shown, value)
    assert shown.startswith("before ")
    assert shown.endswith(" after")


@given(ascii_values, st.sampled_from(sorted(ENCODERS)), unlikely, unlikely, st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_survives_any_chunking(value: str, name: str, before: str, after: str, data: st.DataObject) -> None:
    """However the output is cut into chunks, nothing of a secret survives."""
    text = before + ENCODERS[name](value) + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    redactor = Redactor([Secret(value)])
    stream = redactor.stream()
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown = "".join(stream.feed(chunk) for chunk in chunks) + stream.end()
    assert not survives(shown, value)
    assert not survives(redactor.text(text), value)


@given(st.text(max_size=200), st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=100, deadline=None)
def test_other_text_is_unchanged(text: str, cuts: list[int]) -> None:
    """Text without a secret passes unchanged, whole and in chunks."""
    redactor = Redactor([Secret("Zr8vK2mQ9xTw4LpN7cJd"), Secret("0p9o8i7u6y5t")])
    assert redactor.text(text) == text
    stream = redactor.stream()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert "".join(stream.feed(text[a:b]) for a, b in pairwise(edges)) + stream.end() == text


def test_bytes_are_cut_anywhere() -> None:
    """Bytes may be cut inside a character and are put together again."""
    value, text = value_of(), "naïve € 😀 "
    stream = Redactor([Secret(value)]).stream()
    raw = (text + value + text).encode()
    shown = "".join(stream.feed(raw[at : at + 1]) for at in range(len(raw))) + stream.end()
    assert shown == text + MARK + text


def test_live_output_flows() -> None:
    """A complete line without a secret is shown at once, not when the next one comes."""
    value = value_of()
    stream = Redactor([Secret(value)]).stream()
    assert stream.feed("compiling\n") == "compiling\n"
    assert stream.feed(f"ends in {value[:2]}\n") == f"ends in {value[:2]}\n"
    assert stream.feed(f"key={value}\n") == f"key={MARK}\n"
    assert stream.feed(f"key={value[:10]}\n") == "key="
    assert stream.end() == f"{value[:10]}\n"


def test_a_secret_written_in_short_lines_is_caught_on_the_way() -> None:
    """Of a secret printed a character a line, at most three characters are seen."""
    value = value_of()
    stream = Redactor([Secret(value)]).stream()
    shown = "".join(stream.feed(f"{char}\n") for char in value) + stream.end()
    assert len(shown.replace(MARK, "").replace("\n", "")) <= 3


def test_endless_blanks_do_not_fill_the_memory() -> None:
    """A secret that is begun and then left open is redacted rather than held for ever."""
    value = value_of()
    stream = Redactor([Secret(value)]).stream()
    shown = stream.feed(value[:9]) + "".join(stream.feed(" " * 10_000) for _ in range(20)) + stream.feed(value[9:])
    assert value[:9] not in shown + stream.end()


def test_truncated_prints_are_redacted() -> None:
    """Twelve characters of a long secret count as the secret."""
    value = value_of(40)
    redactor = Redactor([Secret(value)])
    assert redactor.text(f"'{value[5:25]}...'") == f"'{MARK}...'"
    assert not survives(redactor.text(base64.b64encode(value[:20].encode()).decode()), value[:20])
    assert redactor.text(value[:8]) == value[:8]


def test_each_line_of_a_pem_file_is_a_secret() -> None:
    """The body of a private key is redacted line by line; its public header stays."""
    lines = [value_of(64) for _ in range(5)]
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "Ab3=", "-----END PRIVATE KEY-----", ""])
    redactor = Redactor({"key": Secret(pem)})
    assert redactor.text(f"line: {lines[2]}") == f"line: {MARK}"
    assert redactor.text(pem) == f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----\n"
    for line in lines:
        assert line not in redactor.text(json.dumps({"pem": pem}))
        assert line not in redactor.text(pem.replace("\n", "\r\n    "))
    assert [hit.name for hit in redactor.found(lines[4].encode())] == ["key"]


def test_data_is_redacted_everywhere() -> None:
    """JSON values are redacted in members, keys, numbers and across the lines of a list; two redacted keys stay two."""
    value, number = value_of(), randomness.randbelow(10**12) + 10**12
    redactor = Redactor([Secret(value), Secret(str(number))])
    shown = redactor.data({
        value: 1, f"{value}!": 2, value.encode().hex(): 3,
        "list": ["a", value[:16], value[16:], {"b": (value, True, None, 1.5)}], "number": number, "secret": Secret("x"),
    })  # fmt: skip
    assert not survives(json.dumps(shown), value)
    assert shown == {
        MARK: 1, f"{MARK}!": 2, f"{MARK} 2": 3,
        "list": ["a", MARK, MARK, {"b": [MARK, True, None, 1.5]}], "number": MARK, "secret": MARK,
    }  # fmt: skip


def test_a_find_says_who_how_and_where() -> None:
    """A leak is reported by the secret's name, its encoding and the byte where it begins, never by its value."""
    first, second = value_of(), value_of()
    redactor = Redactor({"API_KEY": Secret(first), "API_SECRET": Secret(second), "WEBHOOK_SECRET": Secret(second)})
    data = b"\xff\x00" + first.encode() + b" " + base64.b64encode(second.encode()) + b' "' + first[:9].encode()
    data += b'" + "' + first[9:].encode() + b'"'
    hits = redactor.found(data)
    assert [(hit.name, hit.encoding, hit.offset) for hit in hits] == [
        ("API_KEY", "raw", 2),
        ("API_SECRET, WEBHOOK_SECRET", "base64", 35),
        ("API_KEY", "raw (split)", data.index(b'"') + 1),
    ]
    assert first not in repr(hits)
    assert redactor.found(b"nothing here") == ()
    assert [hit.name for hit in redactor.found(first[:14].encode(), parts=True)] == ["API_KEY"] * 3


def test_short_and_empty_secrets() -> None:
    """A secret under 8 characters is named as one that cannot be searched; an empty one is none."""
    redactor = Redactor({"PIN": Secret("1234567"), "EMPTY": Secret(""), "OK": Secret("12345678")})
    assert redactor.too_short == ("PIN",)
    assert redactor.text("1234567") == "1234567"
    assert redactor.text("a12345678b") == f"a{MARK}b"


def test_secrets_learned_later() -> None:
    """A secret learned during a run is redacted from then on, in open streams too."""
    value = value_of()
    redactor = Redactor()
    stream = redactor.stream()
    assert stream.feed(f"{value}\n") == f"{value}\n"
    redactor.add([Secret(value)])
    assert stream.feed(f"{value}\n") == f"{MARK}\n"
    assert redactor.text(value) == MARK


def test_the_forms_are_those_of_the_invariant() -> None:
    """`forms` lists every encoding of a value that invariant I3 names."""
    value = "pa/ss<wörd>&'0123"
    listed = forms(value)
    expected = {
        value, value[::-1], value.encode().hex(), value.encode().hex().upper(), urllib.parse.quote(value, safe=""),
        json.dumps(value)[1:-1], json.dumps(value)[1:-1].replace("/", r"\/"), html.escape(value),
        "".join(f"\\u{ord(char):04x}" for char in value), "".join(f"%{byte:02X}" for byte in value.encode()),
    }  # fmt: skip
    assert expected <= listed
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + value.encode() + b"yy").decode()
        assert any(form in encoded for form in listed if len(form) >= 16)


def test_a_secret_shows_nothing() -> None:
    """A Secret prints, formats, copies and fails without its value, and refuses to be pickled."""
    value = value_of()
    secret = Secret(value)
    assert f"{secret} {secret!r} {secret!s} {secret:>40} {[secret]} {copy.deepcopy(secret)}".count(MARK) == 6
    assert copy.deepcopy(secret) == copy.copy(secret) == secret == Secret(value)
    assert secret.reveal() == value
    assert secret.fingerprint() not in value
    for wrong in (pickle.dumps, json.dumps, lambda it: it + "x", len, str.strip):
        with pytest.raises(TypeError) as raised:
            wrong(secret)  # type: ignore[operator]
        assert value not in str(raised.value)


def test_any_environment_variable_can_be_a_secret() -> None:
    """Bytes that are no UTF-8, as they come from an environment, do not break the redactor or give the value away."""
    odd = b"caf\xe9-0123456789-\xff".decode("utf-8", "surrogateescape")
    redactor = Redactor([Secret(odd), Secret("\ud800-lone-surrogate")])
    assert Secret(odd).fingerprint()
    assert redactor.text(f"a {odd} b") == f"a {MARK} b"
    assert redactor.found(b"a caf\xe9-0123456789-\xff b")
