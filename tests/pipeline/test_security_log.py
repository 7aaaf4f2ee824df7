"""Security events: their form, what never gets into one, and how they are read out of a real journal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import security_events
from pipeline.clock import SystemClock
from pipeline.contracts import SecurityEvent
from pipeline.events import Entry, Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor, Secret
from pipeline.security_events import JSON_SCHEMA, KINDS, SCHEMA, members, named, shown, without_cards
from pipeline.security_log import as_data, lines

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security-events.md"
AT = datetime(2026, 1, 31, 23, 59, 59, 999_900, tzinfo=UTC)
VALID = jsonschema.Draft202012Validator(dict(JSON_SCHEMA))


def probe(**changed: Any) -> SecurityEvent:
    """An event of the prober's, with members changed."""
    usual = {"at": AT, "kind": "probe.sent", "source": "webhook.refuses_unsigned", "reason": "a webhook unsigned"}
    return SecurityEvent(**{**usual, "reference": "smoke-0123456789abcdef", **changed})


def entry(data: Mapping[str, Any], kind: Kind = Kind.SECURITY_EVENT) -> Entry:
    return Entry(1, "run-1", AT, kind, data, "", "")


def test_the_form_of_a_line_is_what_version_1_promised() -> None:
    """Whoever reads the lines finds these members, in this order, with these meanings, as long as `schema` is 1."""
    assert list(lines([entry(as_data(probe()))])) == [
        '{"schema": 1, "time": "2026-01-31T23:59:59.999Z", "kind": "probe.sent", "source": "webhook.refuses_unsigned", '
        '"reason": "a webhook unsigned", "reference": "smoke-0123456789abcdef", "seq": 1, "run": "run-1"}'
    ]
    assert SCHEMA == 1
    assert tuple(JSON_SCHEMA["required"]) == ("schema", "time", "kind", "source", "reason", "reference")
    assert {"webhook.refused", "webhook.malformed", "webhook.denied", "webhook.unknown", "payment.refused"} <= set(
        KINDS
    )
    assert {"rate.limited", "probe.sent"} <= set(KINDS)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"time": "2026-01-31T23:59:59+00:00"},
        {"kind": "webhook.odd"},
        {"source": ""},
        {"reason": "two\nlines"},
        {"reason": "x" * 201},
        {"reference": "order 1"},
        {"reference": None},
    ],
)
def test_the_json_schema_refuses_what_is_no_event(change: dict[str, Any]) -> None:
    """The schema is no formality: another version, another form of time, control characters are not of it."""
    usual = members(at=AT, kind="rate.limited", source="127.0.0.1", reason="over the limit")
    VALID.validate(usual)
    assert not VALID.is_valid({**usual, **change})
    for name in usual:
        assert not VALID.is_valid({other: value for other, value in usual.items() if other != name})


def test_times_are_told_in_utc() -> None:
    """Lines from machines in different time zones sort by their text."""
    local = AT.astimezone(timezone(timedelta(hours=2)))
    assert as_data(probe(at=local))["at"] == "2026-01-31T23:59:59.999Z"


def test_a_kind_that_nobody_knows_is_not_recorded() -> None:
    """The list of kinds is closed: a slip of the pen is noticed where it is made."""
    with pytest.raises(ValueError, match=r"webhook\.refused"):
        as_data(probe(kind="webhook.refsued"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("card 4242424242424242 was typed", "card ************4242 was typed"),
        ("4242 4242 4242 4242", "**** **** **** 4242"),
        ("4242-4242-4242-4242", "****-****-****-4242"),
        ("4242 - 4242 - 4242 - 4242", "**** - **** - **** - 4242"),
        ("378282246310005", "***********0005"),
        ("order-5555555555554444-x", "order-************4444-x"),
        ("2223003122003222", "************3222"),
        ("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "*" * 12 + "٤٢٤٢"),
        ("14242424242424242", "1************4242"),
        ("6000000000000000", "6000000000000000"),
        ("20260131T235959 smoke-0123456789abcdef", "20260131T235959 smoke-0123456789abcdef"),
        ("2026-01-31-235959-001", "2026-01-31-235959-001"),
        ("0000000000000000", "0000000000000000"),
    ],
)
def test_card_numbers_are_hidden(text: str, expected: str) -> None:
    """A number with a card's length, beginning and check digit shows its last four digits; dates stay."""
    assert without_cards(text) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("", ""),
        ("order-1", "order-1"),
        ("smoke-0123456789abcdef", "smoke-0123456789abcdef"),
        ("4242424242424242", "************4242"),
        ("4242 4242 4242 4242", "19 characters, not shown"),
        ("<script>", "8 characters, sha256 5b63e5b2097fc690"),
        ("x" * 10_000, "10000 characters, not shown"),
        ("order\0", "6 characters, sha256 "),
        ("19 characters, not shown", "24 characters, sha256 "),
        ("\ud800", "1 characters, sha256 "),
    ],
)
def test_a_reference_is_named_without_being_repeated(reference: str, expected: str) -> None:
    """What is no reference is told by its length and hash; a card number not even by its hash."""
    assert named(reference).startswith(expected)
    assert bool(named(reference)) == bool(reference)


@given(
    st.tuples(*[st.text(max_size=300) | st.from_regex(r"[0-9 -]{13,40}")] * 3),
    st.sampled_from(sorted(KINDS)),
    st.datetimes(timezones=st.just(UTC)),
)
def test_whatever_a_stranger_sends_is_an_event_of_the_form(
    texts: tuple[str, str, str], kind: str, at: datetime
) -> None:
    """Any text becomes one valid line, and cleaning it again changes nothing: what is recorded is what is exported."""
    source, reason, reference = texts
    data = as_data(SecurityEvent(at, kind, source, reason, reference))
    (line,) = lines([entry(data)])
    assert line.isascii()
    assert "\n" not in line
    told = json.loads(line)
    VALID.validate(told)
    assert all(without_cards(told[name]) == told[name] for name in ("source", "reason"))
    assert {**data, "schema": 1, "seq": 1, "run": "run-1"} == {"at": told.pop("time"), **told}


@given(st.binary(max_size=40))
def test_a_text_of_bytes_that_are_none_is_shown(raw: bytes) -> None:
    """Undecodable bytes of a header neither break an event nor reach a terminal."""
    assert shown(raw.decode("utf-8", "surrogateescape"), 64).isprintable()


def test_the_journal_keeps_events_and_gives_them_back_as_lines(tmp_path: Path) -> None:
    """Events of all runs are read out of a real journal, in order, from a time on, without what is no event."""
    secret = "made-up-" + "secret-value-1"
    path = tmp_path / "journal.sqlite"
    with Journal.open(path, clock=SystemClock(), redactor=Redactor({"A": Secret(secret)})) as journal:
        journal.append("run-1", Kind.RUN_STARTED, {"verb": "deploy"})
        for number, reference in enumerate(("smoke-1", "smoke-2", secret), 1):
            journal.append(f"run-{number}", Kind.SECURITY_EVENT, as_data(probe(reference=reference)))
    with Journal.read(path) as journal:
        assert not journal.verify()
        entries = journal.entries()
    told = [json.loads(line) for line in lines(entries)]
    assert [event["reference"] for event in told[:2]] == ["smoke-1", "smoke-2"]
    assert secret not in "".join(lines(entries))
    assert len(told) == 3
    assert list(lines(entries, since=entries[-1].at)) == list(lines(entries))[2:]
    for event in told:
        VALID.validate(event)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, {"time": "2026-01-31T23:59:59.999Z", "kind": "", "source": "unknown", "reason": "not said"}),
        ({"at": "yesterday", "kind": "probe.sent", "source": 5, "reason": None}, {"kind": "probe.sent", "source": "5"}),
        ({"at": "2026-01-01T00:00:00", "kind": "login.failed"}, {"kind": "login.failed"}),
    ],
)
def test_an_event_of_another_version_is_not_left_out(data: dict[str, Any], told: dict[str, Any]) -> None:
    """What a newer Tollgate recorded, or half of an event, is shown with what it has."""
    (line,) = lines([entry(data)])
    assert told.items() <= json.loads(line).items()
    assert json.loads(line)["time"] == "2026-01-31T23:59:59.999Z"


def test_entries_of_other_kinds_are_no_events() -> None:
    """A finding is not a security event."""
    assert not list(lines([entry(as_data(probe()), kind=Kind.FINDING)]))


# ---- the page ----------------------------------------------------------------------------------------------


def test_the_page_and_the_code_say_the_same() -> None:
    """docs/security-events.md names every member and every kind with its meaning, no other, and shows a valid line."""
    page = PAGE.read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z.]+)` \| (.+?) \|$", page, re.MULTILINE))
    assert {name: text for name, text in rows.items() if "." in name} == KINDS
    assert [name for name in rows if "." not in name] == list(JSON_SCHEMA["required"])
    examples = re.findall(r"^\{.+\}$", page, re.MULTILINE)
    assert examples
    for example in examples:
        VALID.validate(json.loads(example))
    assert f"`schema` is {security_events.SCHEMA}" in page
