"""How quick a way back was, as every run tells it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pipeline import incident, report
from pipeline.events import Entry, Kind
from pipeline.quickness import Quickness, quickness
from tests.pipeline import runs


def after(entries: list[Entry], kind: Kind, seconds: float, **said: object) -> list[Entry]:
    """The same entries, those of `kind` (and, of a checkpoint, of its name) so long after the way back began."""
    begun = next(entry for entry in entries if entry.kind is Kind.WAYBACK_STARTED)
    at = begun.at + timedelta(seconds=seconds)
    return [
        replace(entry, at=at) if entry.kind is kind and said.items() <= dict(entry.data).items() else entry
        for entry in entries
    ]


def timed() -> list[Entry]:
    back = after(runs.restored(), Kind.CHECKPOINT_CONFIRMED, 0.7, name="release")
    return after(back, Kind.REOPENED, 4.1)


def test_how_quick_a_way_back_was_is_told_in_every_report() -> None:
    """The report, as page and as text, and incident.md say when traffic was back and when all was open."""
    told = f"Traffic back on {runs.PREVIOUS} after 0.7 s; open after 4.1 s"
    built = report.build(timed())
    found = incident.build(timed(), timed()[0].run)
    assert found is not None
    for text in (report.as_html(built), report.as_markdown(built), incident.as_markdown(found)):
        assert told in text.replace("\\", "")


def test_a_release_that_was_not_confirmed_was_not_back() -> None:
    """Traffic is back once the release was read again and confirmed; what stayed closed never opened."""
    refused = [
        replace(entry, data={**entry.data, "ok": False}) if entry.data.get("name") == "release" else entry
        for entry in timed()
    ]
    assert str(quickness(refused)) == ""
    shut = [entry for entry in timed() if entry.kind is not Kind.REOPENED]
    assert str(quickness(shut)) == f"Traffic back on {runs.PREVIOUS} after 0.7 s"
    nothing_live = [
        replace(entry, data={**entry.data, "release": None}) if entry.kind is Kind.WAYBACK_STARTED else entry
        for entry in timed()
    ]
    assert str(quickness(nothing_live)) == ""


def test_a_clock_that_jumped_back_tells_no_time() -> None:
    """Where the clock jumped back between two entries nothing is told rather than a time that cannot be."""
    jumped = after(timed(), Kind.CHECKPOINT_CONFIRMED, -60, name="release")
    assert quickness(jumped) == Quickness(runs.PREVIOUS, None, 4.1)
