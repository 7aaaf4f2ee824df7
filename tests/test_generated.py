"""The files that are made from the code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

import generated
from checks import CHECKS
from pipeline.contracts import Check
from pipeline.spec import Duration, Frozen, NoParams, Share

FILES = generated.files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    """What an editor and a reader are told is what the code says; `./inv docs` writes it anew."""
    assert path.read_text(encoding="utf-8") == FILES[path]


def test_every_check_has_its_page_and_no_page_is_left_behind() -> None:
    """A reader finds one page for each check, in the index too, and none of a check that is gone."""
    assert {path.stem for path in FILES if path.parent == generated.PAGES} == {*CHECKS, "README"}
    assert generated.stale(FILES) == []
    index = FILES[generated.PAGES / "README.md"]
    assert [name for name in CHECKS if f"]({name}.md)" not in index] == []


def test_a_page_of_a_check_that_is_gone_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./inv docs` writes what is there and takes away what is not."""
    gone = tmp_path / "docs" / "checks" / "gone.check.md"
    (tmp_path / "pipeline").mkdir()
    gone.parent.mkdir(parents=True)
    gone.write_text("# gone.check\n")
    monkeypatch.setattr(generated, "PAGES", gone.parent)
    monkeypatch.setattr(generated.wiring, "HOME", tmp_path)
    written = generated.write()
    assert sorted(gone.parent.iterdir()) == sorted(path for path in written if path.parent == gone.parent)
    assert not gone.exists() and len(written) == len(CHECKS) + 5


class Params(Frozen):
    """What such a check takes."""

    mode: Literal["one", "two"] = "one"
    wait: Duration = Field(90.0, description="How long | it waits.")
    pause: Duration | None = None
    under: Share = 0.05
    count: Annotated[int, Field(ge=1, le=9)]
    hosts: tuple[str, ...] = ("a.test", "b.test")
    strict: bool = True


def page(check: Check) -> str:
    return "\n".join(generated._page(check))


def test_a_page_says_all_that_a_check_says_of_itself() -> None:
    """Promise, reason, fix, the way to see it fail, parameters, rows and PCI numbers stand on the page."""
    check = Check(
        name="demo.holds",
        promise="It holds, whatever happens.",
        rows=("G3", "T7"),
        gather=CHECKS["health.ready"].gather,
        judge=CHECKS["health.ready"].judge,
        params=Params,
        why="Because it must.",
        pci=("6.4.3",),
        looks_at="The thing itself.",
        fix="Mend the thing.",
        see_it_fail="Break the thing.",
        says=("Webhook signature mismatch",),
    )
    text = page(check)
    for part in (check.promise, check.why, check.looks_at, check.fix, check.see_it_fail, "G3, T7", "v4.0.1: 6.4.3"):
        assert part in text
    assert "word for word: `Webhook signature mismatch`" in text
    assert "may be [accepted]" in text and "`validate --offline` asks it too" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `mode` | `one`, `two` | `one` |  |",
        "| `wait` | duration | `90 s` | How long \\| it waits. |",
        "| `pause` | duration | none |  |",
        "| `under` | percentage | `5%` |  |",
        "| `count` | whole number from 1 to 9 | required |  |",
        "| `hosts` | list of text | `[a.test, b.test]` |  |",
        "| `strict` | `true`, `false` | `true` |  |",
    ]
    assert "is never accepted" in page(replace(check, acceptable=False, network=True))


def test_a_check_that_says_little_still_has_a_page() -> None:
    """A part that a check leaves out is left out of its page."""
    ready = CHECKS["health.ready"]
    text = page(Check("demo.bare", "It holds.", ("G3",), ready.gather, ready.judge, NoParams))
    assert "It takes no parameters." in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## In pipeline.yaml",
        "## What it is evidence for",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500 ms"), (20.0, "20 s"), (90.0, "90 s"), (300.0, "5 min"), (7200.0, "2 h"), (2592000.0, "30 d")],
)
def test_a_default_is_written_as_in_the_file(seconds: float, text: str) -> None:
    """A duration stands in the largest unit that needs no fraction."""
    assert generated._duration(seconds) == text
