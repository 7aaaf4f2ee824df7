"""What a check that waits tells: a link to scan, a countdown, what was seen; on the console and in the report."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import console, qr, report
from pipeline.console import ConsoleKind
from pipeline.contracts import World
from pipeline.events import Entry, Event, Kind, Output
from pipeline.secrets import Redactor
from pipeline.stages import Done, run_stage
from pipeline.telling import Manner
from pipeline.verdict import Finding, passed
from tests.pipeline.rooms import NEW, OLD, Yard
from tests.pipeline.runs import Tale

LINK = "https://securepay.example.test/pay/2zh1zj6y8xpb0g3"
EPOCH = datetime(2026, 3, 14, 9, 31, tzinfo=UTC)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MODULES = {"█": (True, True), "▀": (True, False), "▄": (False, True), " ": (False, False)}


class Screen(io.StringIO):
    """A terminal that keeps what was written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def told(kind: ConsoleKind, *events: Event, now: Callable[[], datetime] = lambda: EPOCH, **environment: str) -> str:
    """All that a console of a kind writes while a step runs in which these events happen."""
    tale, screen = Tale(), Screen()
    tale.starts("smoke")
    tale.begins("prove", "payment.is_paid")
    shown = console.listener(
        kind, screen, redactor=Redactor(), environment={"COLUMNS": "80", **environment}, width=80, now=now
    )
    with shown as tell:
        for event in (*tale.entries, *events):
            tell(event)
        if isinstance(tell, console.Terminal):
            tell.refresh()
    return screen.getvalue()


def line(text: str, manner: Manner | None = Manner.SAID) -> Output:
    return Output("prove", "payment.is_paid", text, manner)


# ---- on the console ----------------------------------------------------------------------------------------


def test_a_terminal_shows_the_code_dark_on_light_within_its_width() -> None:
    """Whatever the terminal's colours, a phone finds black on white; the link stands there to be copied."""
    written = told("terminal", line(LINK, Manner.SCAN), TERM="xterm-256color")
    drawn = [row for row in written.splitlines() if "█" in row]
    assert len(drawn) > 10
    assert all("\x1b[38;5;16;48;5;231m" in row for row in drawn)
    assert max(len(_ANSI.sub("", row)) for row in drawn) <= 80
    assert LINK in _ANSI.sub("", written)


@pytest.mark.parametrize("kind", ["plain", "github"])
def test_a_log_holds_the_link_and_no_picture(kind: ConsoleKind) -> None:
    """Nobody scans a log: it has the link as a line."""
    written = told(kind, line(LINK, Manner.SCAN))
    assert LINK in written
    assert not set(written) & set("█▀▄")


def test_times_of_a_log_never_go_back() -> None:
    """What is told while a check waits has the time of now; a line without a time of its own is not earlier."""
    late = EPOCH + timedelta(seconds=40)
    written = told("plain", line("9 s left"), line("interrupted", manner=None), now=lambda: late)
    times = [float(at) for at in re.findall(r"^\[ *([\d.]+) s\]", written, re.MULTILINE)]
    assert times == sorted(times)
    assert times[-2] == times[-1]


def test_without_colours_the_code_is_drawn_in_light_modules() -> None:
    """NO_COLOR is obeyed; most terminals are dark, so that light is what is drawn."""
    written = told("terminal", line(LINK, Manner.SCAN), NO_COLOR="1")
    assert "48;2;255" not in written
    drawn = [row for row in _ANSI.sub("", written).splitlines() if "█" in row]
    assert drawn[0].strip(" ") == "█" * (len(qr.modules(LINK)[0]))


@pytest.mark.parametrize("kind", ["terminal", "plain", "github"])
def test_a_link_too_long_for_the_screen_is_told_without_a_code(kind: ConsoleKind) -> None:
    """What cannot be drawn within 80 columns is a link alone, unbroken."""
    long = LINK + "?" + "x" * 900
    written = _ANSI.sub("", told(kind, line(long, Manner.SCAN)))
    assert long in written.replace("\n", "").replace("\r", "")
    assert not set(written) & set("█▀▄")


def test_a_countdown_takes_its_own_place_in_a_terminal() -> None:
    """Only the last of it is seen, and it never pushes the lines of the step away."""
    lines = [line(f"{left} s left", Manner.PASSING) for left in (12, 11, 10)]
    written = _ANSI.sub("", told("terminal", line("a line that stays"), *lines))
    assert "10 s left" in written
    assert "12 s left" not in written
    assert "a line that stays" in written


@pytest.mark.parametrize("kind", ["plain", "github"])
def test_a_countdown_is_a_line_every_15_seconds_in_a_log(kind: ConsoleKind) -> None:
    """A job that waits five minutes shows that it lives and does not fill its log."""
    clock = itertools.count()
    lines = [line(f"{left} s left", Manner.PASSING) for left in range(60, 0, -1)]
    written = told(kind, *lines, now=lambda: EPOCH + timedelta(seconds=next(clock)))
    assert re.findall(r"(\d+) s left", written) == ["60", "45", "30", "15"]


@pytest.mark.parametrize("kind", ["terminal", "plain", "github"])
def test_what_is_told_cannot_forge_a_line_or_move_the_cursor(kind: ConsoleKind) -> None:
    """A link comes from a service: it is text like any other."""
    for manner in Manner:
        written = told(kind, line("\x1b[2Jx\n::error::y", manner))
        assert "\x1b[2J" not in written
        assert "\n::error" not in written


async def test_a_check_tells_under_its_own_step(tmp_path: Path) -> None:
    """What a check tells while it is asked reaches whoever follows the run, redacted, with its stage and step."""
    heard: list[Event] = []
    yard = Yard(tmp_path)
    yard.verified(OLD)

    async def waits(world: World) -> Finding:
        world.tell(f"open {yard.secret.reveal()}", Manner.SCAN)
        world.tell("9 s left", Manner.PASSING)
        return passed("told")

    yard.says = {"proof.one": waits}
    with yard.opened(release=NEW, listeners=[heard.append]) as session:
        await run_stage(session, session.world, yard.plan().stage("prove"), Done(), to_the_end=True)
        await session.world.facts.stop()
    told = [event for event in heard if isinstance(event, Output) and event.step == "proof.one"]
    assert [(one.stage, one.line, one.manner) for one in told] == [
        ("prove", "open [redacted]", Manner.SCAN),
        ("prove", "9 s left", Manner.PASSING),
    ]


# ---- the code itself ---------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=90))
def test_every_link_is_drawn_as_the_same_modules_everywhere(link: str) -> None:
    """Half blocks and the SVG path say module for module what the code says; no text breaks the drawing."""
    rows = qr.modules(link)
    assert rows, "a link of this length can be scanned"
    assert all(len(row) == len(rows) for row in rows)
    assert not any(any(row) for row in (*rows[: qr.QUIET], *rows[-qr.QUIET :]))
    drawn = [half for text in qr.as_lines(rows) for half in zip(*(_MODULES[one] for one in text), strict=True)]
    assert tuple(drawn[: len(rows)]) == rows
    assert _painted(qr.as_path(rows), len(rows)) == rows


def _painted(path: str, side: int) -> tuple[tuple[bool, ...], ...]:
    dark = set()
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path):
        dark |= {(int(x) + step, int(y)) for step in range(int(length))}
    return tuple(tuple((x, y) in dark for x in range(side)) for y in range(side))


@pytest.mark.parametrize("link", ["", "x" * 1001])
def test_what_cannot_be_scanned_is_not_drawn(link: str) -> None:
    """No link, or one that no phone reads from a screen, gives no code and no error."""
    assert (qr.modules(link), qr.as_lines(()), qr.as_path(())) == ((), [], "")


# ---- the report --------------------------------------------------------------------------------------------


def waited(mode: str, **evidence: Any) -> list[Entry]:
    """A run that spent money on one payment, as its journal would hold it."""
    tale = Tale()
    tale.starts("smoke")
    told = {"reference": "smoke-pay-1", "mode": mode, "link": LINK, **evidence}
    with tale.stage("prove"):
        tale.begins("prove", "payment.is_paid")
        tale.tell(Kind.MONEY_SPENT, reference="smoke-pay-1", cents=150, cap_cents=300)
        tale.judged("prove", "payment.is_paid", evidence=told)
    tale.ends("done", 0, "smoke of sandbox passed")
    return tale.entries


def test_the_report_holds_amount_link_code_and_times() -> None:
    """What a person paid can be read, scanned and counted afterwards, from the page alone."""
    moments = [{"what": "paid", "after_ms": 14_200}, {"what": "enrolment active", "after_ms": 15_900}]
    built = report.build(waited("operator", moments=moments))
    html, markdown = report.as_html(built), report.as_markdown(built)
    for words in ("R 1.50", "R 3.00", LINK, "14.2 s", "15.9 s"):
        assert words in html
        assert words in markdown
    assert qr.as_path(qr.modules(LINK)) in html
    assert "<script" not in html
    assert "src=" not in html


def test_money_that_the_run_did_not_follow_to_its_end_is_to_be_looked_for() -> None:
    """Who breaks off while a person pays is told, in the report and in what to do, that it may have been paid."""
    tale = Tale()
    tale.starts("smoke")
    with tale.stage("prove"):
        tale.begins("prove", "payment.is_paid")
        tale.tell(Kind.MONEY_SPENT, reference="smoke-pay-1", cents=150, cap_cents=300)
    tale.ends("interrupted", 130, "interrupted by a signal")
    built = report.build(tale.entries)
    assert built.answers.todo[0] == "Look at the gateway whether smoke-pay-1 was paid."
    for page in (report.as_html(built), report.as_markdown(built)):
        assert "look at the gateway whether it was paid" in page


def test_a_card_payment_needs_no_code() -> None:
    """A code that nobody is to scan is not drawn; the payment is told all the same."""
    html = report.as_html(report.build(waited("card", moments=[])))
    assert 'class="qr"' not in html
    assert "smoke-pay-1" in html


@pytest.mark.parametrize("moments", [None, "x", [1], [{"what": 3}], [{"after_ms": "soon"}], {"paid": 3}])
def test_evidence_of_any_shape_gives_a_report(moments: object) -> None:
    """The record may be older or newer than the report that reads it."""
    built = report.build(waited("operator", moments=moments))
    assert built.smoke[0].moments == ()
    assert "nobody paid" in report.as_html(built)


def test_a_link_in_the_record_cannot_break_the_page() -> None:
    """What a service called its pay link is shown as text."""
    html = report.as_html(report.build(waited("operator", link='https://x/"><script>alert(1)</script>')))
    assert "<script" not in html
