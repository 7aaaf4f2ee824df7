"""The list of exposed credentials, and adding to it."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import secrets
from datetime import date
from pathlib import Path

import pytest

from pipeline import exposed
from pipeline.errors import Refused, Usage

DAY = date(2026, 5, 3)
WHY = "pasted into a chat"


def hash_of(value: str) -> str:
    return hashlib.sha256(b"tollgate-exposed:" + value.encode()).hexdigest()


def test_a_value_is_listed_as_its_hash_with_day_and_reason(tmp_path: Path) -> None:
    """The list says when and why, and never the value."""
    value, path = secrets.token_hex(16), tmp_path / "exposed.txt"
    added = exposed.add(path, f" {value}\n", WHY, on=DAY)
    text = path.read_text()
    assert text.endswith(f"# 2026-05-03: {WHY}\n{hash_of(value)}\n")
    assert value not in text
    assert (added.hash, exposed.parse(text).hashes) == (hash_of(value), {hash_of(value)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["exposed.txt"]


def test_what_stood_on_the_list_stays(tmp_path: Path) -> None:
    """Adding appends: earlier lines, comments and the file's mode are kept, a missing line end is made good."""
    first, path = secrets.token_hex(16), tmp_path / "exposed.txt"
    path.write_text(f"# ours\n{hash_of(first).upper()}")
    path.chmod(0o640)
    exposed.add(path, secrets.token_hex(16), WHY, on=DAY)
    assert path.read_text().startswith(f"# ours\n{hash_of(first).upper()}\n# 2026")
    assert len(exposed.parse(path.read_text()).hashes) == 2
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_list_behind_a_link_is_changed_where_it_lies(tmp_path: Path) -> None:
    """A list kept elsewhere is not replaced by a copy here."""
    real, link = tmp_path / "shared.txt", tmp_path / "exposed.txt"
    real.write_text("")
    link.symlink_to(real)
    exposed.add(link, secrets.token_hex(16), WHY, on=DAY)
    assert link.is_symlink()
    assert exposed.parse(real.read_text()).hashes


def test_what_is_listed_already_is_refused(tmp_path: Path) -> None:
    """A value that this list or the one that ships has is not added again."""
    value, path, shipped = secrets.token_hex(16), tmp_path / "exposed.txt", tmp_path / "shipped.txt"
    exposed.add(path, value, WHY, on=DAY)
    before = path.read_bytes()
    with pytest.raises(Refused, match="already"):
        exposed.add(path, value, WHY, on=DAY)
    other = secrets.token_hex(16)
    shipped.write_text(f"{hash_of(other)}\n")
    with pytest.raises(Refused, match=r"shipped\.txt already"):
        exposed.add(path, other, WHY, on=DAY, also=[shipped])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("value", "why", "word"),
    [
        ("short77", WHY, "7 characters"),
        ("  short77  ", WHY, "7 characters"),
        ("long-enough", "", "reason"),
        ("long-enough", "two\nlines", "reason"),
        ("long-enough", "x" * 201, "reason"),
        ("long-enough", "it was long-enough in the log", "holds the value"),
        ("long-enough", "bG9uZy1lbm91Z2g= in the log", "holds the value"),
    ],
)
def test_what_must_not_be_listed_is_refused(tmp_path: Path, value: str, why: str, word: str) -> None:
    """A value short enough to be found from its hash, and a reason that gives the value away, change nothing."""
    with pytest.raises(Refused, match=word) as refused:
        exposed.add(tmp_path / "exposed.txt", value, why, on=DAY)
    assert refused.value.remedy
    assert "long-enough" not in f"{refused.value} {refused.value.remedy}"
    assert not list(tmp_path.iterdir())


def test_a_list_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    """A value somebody pasted into the list, and a file that is no text, are told without being shown."""
    value, path = secrets.token_hex(12), tmp_path / "exposed.txt"
    for content in (f"# ours\n{value}\n".encode(), b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(Refused) as refused:
            exposed.add(path, secrets.token_hex(16), WHY, on=DAY)
        assert value not in f"{refused.value} {refused.value.remedy}"
        assert path.read_bytes() == content
    with pytest.raises(Refused, match="cannot be opened"):
        exposed.add(tmp_path / "nowhere" / "exposed.txt", secrets.token_hex(16), WHY, on=DAY)


def _add(path: str, value: str) -> None:
    exposed.add(Path(path), value, WHY, on=DAY)


def test_two_at_once_both_get_in(tmp_path: Path) -> None:
    """Nothing is lost when several people list a credential at the same moment."""
    path, values = tmp_path / "exposed.txt", [secrets.token_hex(16) for _ in range(4)]
    context = multiprocessing.get_context("fork")
    people = [context.Process(target=_add, args=(str(path), value)) for value in values]
    for person in people:
        person.start()
    for person in people:
        person.join()
        person.close()
    assert exposed.parse(path.read_text()).hashes == {hash_of(value) for value in values}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_value_comes_from_a_pipe_or_is_typed_unseen() -> None:
    """It is asked for where there is a terminal, and read where there is none."""
    asked: list[str] = []

    def prompt(question: str) -> str:
        asked.append(question)
        return " typed-value "

    assert exposed.ask(io.StringIO("piped-value\n"), prompt) == "piped-value"
    assert not asked
    assert exposed.ask(Terminal(), prompt) == "typed-value"
    assert "not shown" in asked[0]


def test_no_value_is_bad_usage() -> None:
    """An empty pipe, one without end, one that is no text and Ctrl-D at the prompt are told with what to type."""

    def nobody(_question: str) -> str:
        raise EOFError

    binary = io.TextIOWrapper(io.BytesIO(b"\xff\xff"), encoding="utf-8")
    for stdin in (io.StringIO(" \n"), io.StringIO("x" * 100_000), binary, Terminal()):
        with pytest.raises(Usage) as refused:
            exposed.ask(stdin, nobody)
        assert "./inv expose" in refused.value.remedy


def test_the_list_that_ships_is_whole() -> None:
    """Every line of the shipped list is a hash or a comment, and the published credentials stand on it."""
    from checks.facts.credentials import SHIPPED

    listed = exposed.parse(SHIPPED.read_text("utf-8"))
    assert listed.broken == ()
    assert len(listed.hashes) >= 2
