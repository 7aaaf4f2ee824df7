"""`Retry-After` in both its forms (RFC 9110, 10.2.3), read strictly: what a server says is a stranger's text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

LONGEST_S = 3600.0
"""A limit that shuts a customer out for longer than an hour is told as absurd."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH, _DAY, _TIME = "|".join(_MONTHS), "|".join(_DAYS), r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
_FORMS = (
    re.compile(rf"(?:{_DAY}), (?P<day>[0-9]{{2}}) (?P<month>{_MONTH}) (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?:{_DAY})[a-z]*day, (?P<day>[0-9]{{2}})-(?P<month>{_MONTH})-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?:{_DAY}) (?P<month>{_MONTH}) (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
"""IMF-fixdate, and the two obsolete forms that a recipient must accept."""

_MOST_DIGITS = 12


@dataclass(frozen=True)
class RetryAfter:
    """What was said. `seconds` from when it was said, below 0 for a date that has passed; None when unreadable."""

    form: Literal["none", "seconds", "date", "unreadable"]
    seconds: float | None = None

    @property
    def flaw(self) -> str:
        """What is wrong with it, '' when a client can obey it."""
        if self.form == "none":
            return "without Retry-After"
        if self.seconds is None:
            return "with a Retry-After that is neither a number of seconds nor an HTTP date"
        if self.seconds <= 0:
            return f"with Retry-After {self}, which asks for the next request at once"
        if self.seconds > LONGEST_S:
            return f"with Retry-After {self}, which is longer than {LONGEST_S:g} s"
        return ""

    def __str__(self) -> str:
        if self.seconds is None:
            return self.form
        return f"{self.seconds:g} s" + (" (as a date)" if self.form == "date" else "")


NOT_SAID = RetryAfter("none")


def parse(value: str | None, now: datetime) -> RetryAfter:
    """Reads the header's value. `now` (aware) is when the answer was made: its own `Date`, where it has one."""
    if value is None:
        return NOT_SAID
    text = value.strip(" \t")
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        digits = text.lstrip("0") or "0"
        return RetryAfter("seconds", float(digits) if len(digits) <= _MOST_DIGITS else float("1e12"))
    until = http_date(text, now)
    if until is None:
        return RetryAfter("unreadable")
    return RetryAfter("date", round((until - now).total_seconds(), 3))


def http_date(text: str, now: datetime) -> datetime | None:
    """An HTTP date in any of the three forms, None for anything else. `now` decides the century of two digits."""
    found = next((match for form in _FORMS if (match := form.fullmatch(text)) is not None), None)
    if found is None:
        return None
    hour, minute, second = (int(part) for part in found["time"].split(":"))
    year, month, day = int(found["year"]), _MONTHS.index(found["month"]) + 1, int(found["day"])
    if len(found["year"]) == 2:
        year += now.year // 100 * 100
        year -= 100 if year > now.year + 50 else 0
    try:
        return datetime(year, month, day, hour, minute, min(second, 59) if second == 60 else second, tzinfo=UTC)
    except ValueError:
        return None
