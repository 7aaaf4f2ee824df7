"""The quick search, held against encoders that are not its own and against bundles without any secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.facts import leaks
from checks.facts.sieve import Sieve
from pipeline.secrets import Redactor, Secret, spellings
from tests.checks.leak_planting import ENCODERS, letters, part, pieces, twenty_secrets, vite_like

VALUES = twenty_secrets()
SIEVE = Sieve({name: Secret(value) for name, value in VALUES.items()})
BEFORE, AFTER = b"let first = 1\nlet second = ", b" ;\nlet third = 3\n"


@pytest.mark.parametrize("name", ENCODERS)
def test_each_secret_is_found_in_each_encoding(name: str) -> None:
    """Every one of twenty secrets is found, as itself alone, where it begins, and its value is not in the hit."""
    for setting, value in VALUES.items():
        planted = ENCODERS[name](value)
        hits = SIEVE.found(BEFORE + planted + AFTER)
        assert {hit.name for hit in hits} == {setting}, (name, setting, hits)
        assert all(len(BEFORE) <= hit.offset < len(BEFORE) + len(planted) for hit in hits)
        assert value not in repr(hits)


@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_a_value_in_pieces_over_lines_of_a_map_is_found(size: int) -> None:
    """String concatenation over several lines is found in the JSON of a source map, where line breaks are escaped."""
    for setting, value in VALUES.items():
        source = " +\n\t\t".join(json.dumps(piece, ensure_ascii=False) for piece in pieces(value, size))
        data = json.dumps({"sourcesContent": [f"const k = {source};\nrun(k)\n"]}, ensure_ascii=False).encode()
        assert {hit.name for hit in SIEVE.found(data)} == {setting}, (setting, size)


def test_every_part_of_twelve_characters_is_found() -> None:
    """Wherever a print was cut, twelve characters are enough, plain or in Base64; eleven are not."""
    assert not SIEVE.found(b"key=" + VALUES["SECRET_0"][2:13].encode() + b"...")
    for setting, value in VALUES.items():
        for at in range(len(value) - 11 if len(value) >= 16 else 0):
            cut = value[at : at + 12].encode()
            for shown in (cut, base64.b64encode(cut), base64.b64encode(b"x" + cut), cut.hex().encode()):
                for before in (b"key=", b'{"a": "\\n", "key": "'):
                    assert {hit.name for hit in SIEVE.found(before + shown + b"...")} == {setting}, (setting, at)


@pytest.mark.parametrize("at", [21, 22])
def test_what_stands_beside_a_print_by_chance_hides_nothing(at: int) -> None:
    """In JSON, a neighbour that agrees with the value but for a capital or a letter left out does no harm."""
    value = "MIuzMNqQ3sp4r6LoOjVJu8BTkpds2HzfxsxwnDWF5665"
    shown = base64.b64encode(b"x" + value[at : at + 12].encode())
    assert Sieve({"KEY": Secret(value)}).found(b'{"a": "\\n", "key": "' + shown + b'"}')


def test_a_hit_names_its_encoding() -> None:
    """How a value was written is told, and whether it was in pieces."""
    value = letters(30)
    sieve = Sieve({"KEY": Secret(value)})
    for name, encoding in {
        "raw": "raw", "hex": "hex", "HEX": "hex", "reversed": "reversed", "base64": "base64", "utf-16": "utf-16",
        "x escapes": "\\x escapes", "u escapes": "\\u escapes", "html hex": "html, every character",
        "url, every byte": "url, every byte", "string literals": "raw (split)", "lines": "raw (split)",
    }.items():  # fmt: skip
        assert [hit.encoding for hit in sieve.found(ENCODERS[name](value))] == [encoding]


@pytest.mark.parametrize("escaped", ["<", "<>", "<>&", "/", "</"])
def test_json_is_made_safe_for_a_page_in_more_ways_than_one(escaped: str) -> None:
    """A short value counts whole, whichever of its characters the program that wrote the page escaped."""
    text = json.dumps("q<Z&7>/x")
    for char in escaped:
        text = text.replace(char, "\\/" if char == "/" else f"\\u{ord(char):04x}")
    assert Sieve({"KEY": Secret("q<Z&7>/x")}).found(f"<script>a = {text}</script>".encode())


def test_escaped_line_breaks_are_seen_wherever_they_stand() -> None:
    """A value that is cut by `\\n` in the one JSON text of a large minified file is found."""
    value = letters(40)
    filler = b"var a=1;function f(){return 42};" * 9000
    assert SIEVE.found(filler + filler) == ()
    cut = "\\n".join(pieces(value, 8)).encode()
    hits = Sieve({"KEY": Secret(value)}).found(filler + b'{"k":"' + cut + b'"}' + filler + filler)
    assert [(hit.name, hit.encoding) for hit in hits] == [("KEY", "raw (split)")]


def test_a_clean_bundle_raises_no_alarm(tmp_path: Path) -> None:
    """Minified scripts, unicode tables, inlined images and maps with their sources hold no secret."""
    vite_like(tmp_path / "dist")
    files = [(path.name, path) for path in (tmp_path / "dist").rglob("*") if path.is_file()]
    found = leaks.search(files, {name: Secret(value) for name, value in VALUES.items()}, "the bundle")
    assert (found.files, found.leaks, found.unread) == (len(files), (), ())


def test_what_only_resembles_a_value_is_no_hit() -> None:
    """Other capitals, eleven characters of it, its characters in another order, and its escapes alone are no leak."""
    value = 'Prod-Key<&"' + letters(8) + "'<>&\"'x"
    sieve = Sieve({"KEY": Secret(value)})
    for other in (
        value.swapcase(),
        value[:11] + "?" + value[12:19],
        "".join(sorted(value)),
        "&lt;&gt;&amp;&quot;&#x27;",
    ):
        assert not sieve.found(f"a {other} b".encode()), other


@given(st.text(min_size=8, max_size=60), st.sampled_from(["raw", "json", "html", "url", "hex", "base64"]))
@settings(max_examples=60, deadline=None)
def test_any_value_is_found(value: str, name: str) -> None:
    """Whatever a value consists of, line breaks, quotes and repetitions included, it is found."""
    if len(value.strip()) < 8 or len(set(value)) < 4:
        return
    sieve = Sieve({"KEY": Secret(value)})
    assert sieve.found(BEFORE + ENCODERS[name](value) + AFTER)


@given(st.binary(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_any_bytes_can_be_searched(data: bytes) -> None:
    """No data makes the search fail or find something."""
    assert SIEVE.found(data) == ()


def test_every_part_of_twelve_characters_is_found_in_every_spelling() -> None:
    """However a cut print was encoded, and with quotes between its bytes, twelve characters are enough."""
    for setting, value in VALUES.items():
        for at in range(0, len(value) - 11 if len(value) >= 16 else 0, 7):
            for spelt, encoding in spellings(value[at : at + 12]).items():
                for shown in (spelt, b'" + "'.join(spelt[begin : begin + 5] for begin in range(0, len(spelt), 5))):
                    hits = SIEVE.found(BEFORE + shown + b"...")
                    assert {hit.name for hit in hits} == {setting}, (setting, at, encoding)


ALIKE = "abAB01-_/="
"""Few characters, so that what stands beside a value agrees with it by chance."""
WORDS = st.builds(
    lambda shuffled, size: "".join(char for chars in shuffled for char in chars)[:size],
    st.lists(st.permutations(ALIKE), min_size=4, max_size=4),
    st.integers(8, 40),
)


@given(WORDS, st.data(), st.sampled_from([b"", b'" + "', b"\n ", b","]), st.integers(1, 12), st.text(ALIKE, max_size=5))
@settings(max_examples=80, deadline=None)
def test_the_quick_search_finds_what_the_slow_one_finds(
    value: str, data: st.DataObject, between: bytes, size: int, beside: str
) -> None:
    """Cut anywhere, in pieces and among what resembles it, a value is found by both ways or, too short, by neither."""
    spelt = data.draw(st.sampled_from([one for one in spellings(value) if not set(one) & set(b"\\%&")]))
    begin = data.draw(st.integers(0, len(spelt) - 1))
    cut = spelt[begin : data.draw(st.integers(begin, len(spelt)))]
    shown = between.join(cut[at : at + size] for at in range(0, len(cut), size))
    text = b"key: " + beside.encode() + shown + beside.encode() + b"."
    secrets = {"KEY": Secret(value)}
    assert bool(Sieve(secrets).found(text)) == bool(Redactor(secrets).found(text, parts=True))


@pytest.mark.parametrize(
    "value", ["!\"#$%&'()*+,-./:;<=>?@", "nrtnrtnrtrnt", "-----BEGIN-----END-----", "ntntnt+rnrt/nttt=="]
)
def test_a_value_of_nothing_telling_is_found(value: str) -> None:
    """A value of punctuation, or of letters that are left out, is found as any other."""
    sieve = Sieve({"KEY": Secret(value)})
    for name, encode in ENCODERS.items():
        if "part" not in name:
            assert sieve.found(BEFORE + encode(value) + AFTER), name
    assert not sieve.found(BEFORE + AFTER)


def test_a_place_is_told_once() -> None:
    """Of a value that repeats itself each place is one hit."""
    value = letters(8) * 3
    hits = Sieve({"KEY": Secret(value)}).found(value.encode() + value[:16].encode() + AFTER)
    assert [hit.offset for hit in hits] == [0, 24]


def test_hex_may_mix_its_capitals() -> None:
    """Capitals and small letters make no difference where they mean none, and the encoding is named all the same."""
    hits = Sieve({"KEY": Secret("mnopqrstuvwxyzMNO")}).found(b"6d6E6f707172737475767778797a4d4E4f")
    assert [hit.encoding for hit in hits] == ["hex"]


def test_zeros_are_no_part_of_a_value() -> None:
    """A value with a run of zeros is found whole, and such a run alone raises no alarm."""
    value = "live_" + "0" * 20 + letters(12)
    sieve = Sieve({"KEY": Secret(value)})
    assert sieve.found(f"a {value} b".encode())
    assert sieve.found(value[-14:].encode())
    assert not sieve.found(b"0" * 100 + b"\0" * 100 + b"30" * 100)


def test_a_file_full_of_a_value_is_told_completely() -> None:
    """Each of many places is told once, and none is hidden by its neighbours."""
    value = VALUES["SECRET_0"]
    line = f"key: {value}\n".encode()
    assert [hit.offset for hit in SIEVE.found(line * 3000)] == [5 + at * len(line) for at in range(3000)]


def test_a_private_key_is_found_by_its_lines() -> None:
    """A value of several lines is found by each longer line, whatever the line breaks became; its header is not."""
    lines = [letters(64) for _ in range(4)]
    sieve = Sieve({"PEM": Secret("\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""]))})
    assert sieve.found(lines[2].encode())
    assert sieve.found("\\r\\n".join(lines).encode())
    assert not sieve.found(b"-----BEGIN PRIVATE KEY-----\n")


def test_short_values_are_named_and_shared_ones_are_one() -> None:
    """Under eight characters a value is named as not searched; settings with one value are named together."""
    value = letters(20)
    sieve = Sieve({"PIN": Secret("1234567"), "A": Secret(value), "B": Secret(value), "NONE": Secret("")})
    assert sieve.too_short == ("PIN",)
    assert [hit.name for hit in sieve.found(value.encode())] == ["A, B"]
    assert part(value) in value
