"""What becomes of a pipeline.yaml when people and machines damage it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pipeline.loader import SpecInvalid, load
from pipeline.spec import Spec
from tests.pipeline.standin import EXAMPLE, NAMES

TEXT = EXAMPLE.read_text()
ROUNDS = 12

Mutation = Callable[[list[str], Random], None]
_SCALARS = ("NO", "12:30", "010", "3.7", "[]", "{}", "null", "~", "'x'", "-1", "1e999", "[a, {b: c}]", '"\\u0007"', "")


def _row(lines: list[str], random: Random) -> int:
    """A line that says something."""
    return random.choice([n for n, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")])


def delete(lines: list[str], random: Random) -> None:
    del lines[_row(lines, random)]


def duplicate(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines.insert(row, lines[row])


def swap(lines: list[str], random: Random) -> None:
    a, b = _row(lines, random), _row(lines, random)
    lines[a], lines[b] = lines[b], lines[a]


def rename_key(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    key, colon, rest = lines[row].partition(":")
    at = random.randrange(len(key.rstrip()))
    lines[row] = key[:at] + random.choice("xX_é") + key[at + 1 :] + colon + rest


def retitle_key(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    key, colon, rest = lines[row].partition(":")
    lines[row] = key.upper() + colon + rest


def other_value(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row] = lines[row].partition(":")[0] + ": " + random.choice(_SCALARS)


def slip_in_value(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    key, colon, rest = lines[row].partition(":")
    at = random.randrange(len(rest) + 1)
    lines[row] = key + colon + rest[:at] + random.choice("abz019 ,:{}[]\"'#&*!|>%@`") + rest[at + 1 :]


def indent(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row] = random.choice((" ", "  ", "    ")) + lines[row]


def outdent(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row] = lines[row][random.choice((1, 2)) :] if lines[row].startswith("  ") else lines[row]


def tab(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row] = lines[row].replace("  ", "\t", 1)


def truncate(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row] = lines[row][: random.randrange(len(lines[row]))]
    del lines[row + 1 :]


def huge_number(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row] = lines[row].partition(":")[0] + ": " + "9" * random.choice((18, 19, 400, 5000))


def strange_character(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    at = random.randrange(len(lines[row]) + 1)
    lines[row] = lines[row][:at] + random.choice("\x00\x1b\u2028\u202e\ufeff\u00a0\u0301😀ä") + lines[row][at:]


def anchor(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    key, _, rest = lines[row].partition(":")
    lines[row] = key + ": " + random.choice(("&a", "*a", "!!str", "!!python/name:os.system", "<<: *a")) + rest


def wrong_name(lines: list[str], random: Random) -> None:
    row = random.choice([n for n, line in enumerate(lines) if "check:" in line or "act:" in line])
    lines[row] = lines[row] + random.choice(("x", ".y", "_", "s"))


def join(lines: list[str], random: Random) -> None:
    row = _row(lines, random)
    lines[row : row + 2] = [" ".join(lines[row : row + 2])]


def two_at_once(lines: list[str], random: Random) -> None:
    for mutation in random.sample((delete, rename_key, other_value, wrong_name), 2):
        mutation(lines, random)


MUTATIONS: tuple[Mutation, ...] = (
    delete, duplicate, swap, rename_key, retitle_key, other_value, slip_in_value, indent, outdent, tab, truncate,
    huge_number, strange_character, anchor, wrong_name, join, two_at_once,
)  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_damaged_file_is_a_spec_or_refused_with_places(tmp_path: Path, mutation: Mutation) -> None:
    """More than 200 damaged files each give a valid spec, or mistakes that all have a place and what is allowed."""
    assert len(MUTATIONS) * ROUNDS > 200
    for round_number in range(ROUNDS):
        lines = TEXT.splitlines()
        mutation(lines, Random(f"{mutation.__name__}-{round_number}"))  # noqa: S311 (the same damage on every run)
        path = tmp_path / f"{round_number}.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            assert isinstance(load(path, NAMES), Spec)
        except SpecInvalid as refused:
            assert refused.mistakes
            for mistake in refused.mistakes:
                assert 1 <= mistake.line <= len(lines) + 1, mistake
                assert mistake.column >= 1, mistake
                assert mistake.path, mistake
                assert mistake.found, mistake
                assert mistake.allowed, mistake
                assert len(str(mistake).splitlines()) == 1, mistake
            assert all(times == 1 for times in Counter(refused.mistakes).values())


@pytest.mark.parametrize("line", range(1, len(TEXT.splitlines()) + 1))
def test_a_file_that_ends_too_early_is_refused_with_places(tmp_path: Path, line: int) -> None:
    """A file cut off after any line is a spec only when it is whole; otherwise it is refused with places."""
    path = tmp_path / "cut.yaml"
    path.write_text("\n".join(TEXT.splitlines()[:line]) + "\n")
    environments = TEXT.splitlines().index("environments: # all that differs, and nothing else") + 1
    try:
        load(path, NAMES)
        assert line > environments
    except SpecInvalid as refused:
        assert all(mistake.line <= line + 1 and mistake.allowed for mistake in refused.mistakes)
