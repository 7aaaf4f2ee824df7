"""YAML as this pipeline reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.yaml_strict import LARGEST, MAX_BYTES, MAX_DEPTH, Mark, read
from tests.pipeline.standin import EXAMPLE, FUZZ, ROOT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *[(word, word) for word in ("NO", "no", "yes", "Yes", "on", "off", "y", "n")],
        ("12:30", "12:30"),
        ("1:30:00", "1:30:00"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("2026-01-31", "2026-01-31"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("=", "="),
        ("-7", -7),
        ("+7", 7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("95%", "95%"),
        (str(LARGEST), LARGEST),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(written: str, meant: object) -> None:
    """`NO` is text, `12:30` is no number of seconds, `010` is ten and a date is no object."""
    document = read(f"key: {written}\n".encode())
    assert document.problems == ()
    assert document.data == {"key": meant}
    assert type(document.data["key"]) is type(meant)


@pytest.mark.parametrize(
    ("text", "line", "column", "path", "found"),
    [
        (b"a: 1\nb: 2\na: 3\n", 3, 1, ("a",), "a second time; it stands at line 1"),
        (b"x:\n  - {a: 1, a: 2}\n", 2, 12, ("x", 0, "a"), "a second time"),
        (b"a: &anchor 1\n", 1, 4, ("a",), "the anchor &anchor"),
        (b"a: *alias\n", 1, 4, ("a",), "the alias *alias"),
        (b"<<: {a: 1}\n", 1, 1, ("<<",), "the merge key"),
        (b"a: !!int 3\n", 1, 4, ("a",), "the tag"),
        (b"a: !!python/object/apply:os.system [x]\n", 1, 4, ("a",), "the tag"),
        (b"a: ! 3\n", 1, 4, ("a",), "the tag !"),
        (b"1: a\n", 1, 1, ("1",), "`1` as a key"),
        (b"null: a\n", 1, 1, ("null",), "`null` as a key"),
        (b"? [a]\n: b\n", 1, 3, (), "a list or mapping as a key"),
        (b"a: .inf\n", 1, 4, ("a",), "`.inf`"),
        (b"a: 1e999\n", 1, 4, ("a",), "too large"),
        (b"a: " + b"9" * 5000, 1, 4, ("a",), "a number of 5000 digits"),
        (b"a: 0xFFFFFFFFFFFFFFFF\n", 1, 4, ("a",), "a number of 16 digits"),
        (b'a: "\\0"\n', 1, 4, ("a",), "the escaped character U+0000"),
        (b'a: "\\uD800"\n', 1, 4, ("a",), "the escaped character U+D800"),
        (b"a: b\n---\nc: d\n", 2, 1, (), "a second document"),
        (b"%YAML 1.1\n---\na: 1\n", 1, 1, (), "directive"),
        (b"", 1, 1, (), "an empty file"),
        (b"# only a comment\n", 1, 1, (), "an empty file"),
        (b"a:\n\tb: 1\n", 2, 1, (), "character '\\t'"),
        (b"a: b: c\n", 1, 5, ("a",), "mapping values are not allowed"),
        (b"a: 'open\n", 2, 1, (), "unexpected end of stream"),
        (b"a: [1, 2\nb: 3\n", 2, 2, ("a", 1), "expected ',' or ']'"),
        (b"a: @b\n", 1, 4, (), "cannot start any token"),
        (b'a: "\\UFFFFFFFF"\n', 1, 7, (), "beyond every limit"),
        (b"a: 1\nb: x\x00y\n", 2, 5, (), "the character U+0000"),
        ("a: 1\nb: x\u2028y\n".encode(), 2, 5, (), "the character U+2028"),
        ("a: x\u202ey\n".encode(), 1, 5, (), "the character U+202E"),
        (b"a: 1\nb: \xff\n", 2, 4, (), "the byte 0xff"),
        (b"a: " + b"x" * MAX_BYTES, 1, 1, (), f"a file of {MAX_BYTES + 3} bytes"),
    ],
)
def test_what_is_refused_has_its_place(
    text: bytes, line: int, column: int, path: tuple[str | int, ...], found: str
) -> None:
    """Whatever two readers could understand in two ways is refused, at its line and column."""
    (problem,) = read(text).problems
    assert (problem.mark, problem.path) == (Mark(line, column), path)
    assert found in problem.found
    assert problem.allowed


def test_all_refusals_are_told_at_once() -> None:
    """One reading tells of every duplicate, alias and tag, not of the first."""
    document = read(b"a: &x 1\na: 2\nb: *x\nc: !t 3\n")
    assert [problem.mark.line for problem in document.problems] == [1, 2, 3, 4]
    assert document.data == {"a": 1, "b": None, "c": 3}, "the first of two keys stands, an alias is a hole"


def test_depth_is_bounded() -> None:
    """Deep nesting is refused where it begins to be too deep, and is no crash."""
    assert read(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH).problems == ()
    (problem,) = read(b"[" * 5000 + b"]" * 5000).problems
    assert problem.mark == Mark(1, MAX_DEPTH + 2)


def test_every_key_and_value_has_its_place() -> None:
    """Lines and columns count from 1; what does not exist stands where its nearest parent stands."""
    document = read(b"a:\n  - b: 1\n    c: {d: x}\n")
    assert document.keys["a", 0, "c"] == Mark(3, 5)
    assert document.values["a", 0, "c", "d"] == Mark(3, 12)
    assert document.place(("a", 0, "b")) == Mark(2, 8)
    assert document.place(("a", 0, "b"), key=True) == Mark(2, 5)
    assert document.place(("a", 0, "c", "missing")) == Mark(3, 5)
    assert document.place(("a", 7)) == Mark(1, 1)
    assert document.place(("nowhere", "at", "all")) == Mark(1, 1)


@pytest.mark.parametrize("path", [EXAMPLE, ROOT / "pipeline.yaml"], ids=["example", "shipped"])
def test_a_file_reads_as_other_readers_read_it(path: Path) -> None:
    """A pipeline.yaml uses nothing that readers of YAML understand differently."""
    content = path.read_bytes()
    assert read(content).data == yaml.safe_load(content)


@FUZZ
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b"%YAML 1." + b"9" * 5000 + b"\n---\n")
@example(b"!<%FF> a")
@example(b"? \n")
@example(b"a: |2\n  b\n")
@example(b"- - - -\n")
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """No content makes the reader raise; refused content has a place and what is allowed instead."""
    document = read(content)
    assert document.complete or document.problems
    for problem in document.problems:
        assert problem.mark >= Mark(1, 1)
        assert problem.found
        assert problem.allowed
    json.dumps(document.data, allow_nan=False).encode()


_YAMLISH = st.text(alphabet="ab:-?[]{},&*!|>'\"%@`#~<0x.\\ \n\t\r", max_size=60)


@FUZZ
@given(_YAMLISH)
def test_any_punctuation_is_read_or_refused(text: str) -> None:
    """Nor does any arrangement of YAML's own characters."""
    document = read(text.encode())
    assert document.complete or document.problems
