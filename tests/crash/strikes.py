"""What strikes a run, as values: where, and how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

When = Literal["before", "after"]


class How(StrEnum):
    """What happens at a moment. The text is what the crash matrix calls it."""

    KILL = "SIGKILL"
    KILL_BOTH = "SIGKILL, of the supervisor too"
    BETWEEN = "killed with a whole new file beside the old one"
    HALF = "killed after half of the bytes"
    AFTER = "killed right after the rename"
    LOST = "killed, and the rename was lost"
    TORN_LOG = "killed in the middle of an entry's bytes"
    TERM = "SIGTERM"
    INT = "SIGINT"
    HUP = "SIGHUP"
    TWICE = "SIGINT, then SIGTERM"
    NO_SPACE = "no space left for one file"
    NO_WRITING = "one file may not be written"
    FULL_STATE = "full disk under the record"
    FULL_TARGET = "full disk under the target"
    READ_ONLY_STATE = "read-only disk under the record"
    READ_ONLY_TARGET = "read-only disk under the target"
    HOUR_BACK = "the clock jumps back an hour"
    DAY_AHEAD = "the clock jumps ahead a day"
    JOURNAL_AWHILE = "journal locked for a moment"
    JOURNAL_FOR_GOOD = "journal locked for good"
    LEASE_AWHILE = "lease locked for a moment"
    LEASE_FOR_GOOD = "lease locked for good"


@dataclass(frozen=True)
class At:
    """Before or after the n-th entry that the run writes, counted from 1.

    `back`: counted from the entry of the first error, because how many entries a stage writes before its failing step
    has cancelled the others is not fixed.
    """

    when: When
    n: int
    back: bool = False

    def __str__(self) -> str:
        return f"{self.when}-{self.n}"


@dataclass(frozen=True)
class Write:
    """The n-th write of a file, counted from 1; `row` is its name in `tests.crash.writes.ROWS`."""

    row: str
    n: int

    def __str__(self) -> str:
        return f"{self.row.replace(' ', '_')}-{self.n}"


@dataclass(frozen=True)
class Strike:
    """`at` None: before the run begins."""

    how: How
    at: At | Write | None

    def __str__(self) -> str:
        return f"{self.how.name.lower()}-{self.at or 'at-the-start'}"
