"""What a journal remembers, against real journals that were altered, copied, or are not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import TollgateError
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.past import remembered, whole_record
from pipeline.secrets import Redactor
from pipeline.verdict import Verdict

FOUND: Mapping[str, Any] = {"check": "health.ready", "verdict": "PASS", "evidence": {"took_ms": 4}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A journal of one run in staging and one in production, each with a finding and its end."""
    path = tmp_path / "journal.sqlite"
    with Journal.open(path, clock=SystemClock(), redactor=Redactor()) as journal:
        for name in ("staging", "production"):
            journal.append(f"run-{name}", Kind.RUN_STARTED, {"verb": "rollback", "environment": name})
            journal.append(f"run-{name}", Kind.FINDING, FOUND)
            journal.append(f"run-{name}", Kind.RUN_FINISHED, {"outcome": "done"})
    return path


def test_only_runs_of_the_environment_are_remembered(file: Path) -> None:
    """A journal that was copied from another environment proves nothing here."""
    with Journal.read(file) as journal:
        past = remembered(journal, "production")
        assert [one.run for one in past.runs("rollback")] == ["run-production"]
        assert [(one.run, one.verdict) for one in past.findings("health.ready")] == [("run-production", Verdict.PASS)]
        elsewhere = remembered(journal, "sandbox")
    assert (elsewhere.runs("rollback"), elsewhere.findings("health.ready")) == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE entries SET data = replace(data, 'PASS', 'FAIL') WHERE seq = 2""",
        """UPDATE entries SET at = '2036-01-01T00:00:00.000000+00:00' WHERE seq = 6""",
        "DELETE FROM entries WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 6",
    ],
)
def test_an_altered_record_proves_nothing(file: Path, change: str) -> None:
    """What was changed, moved in time, taken out or cut off is noticed before anything is judged by it."""
    with sqlite3.connect(file) as connection:
        connection.execute(change)
    connection.close()
    with Journal.read(file) as journal, pytest.raises(TollgateError, match="not what was written") as told:
        remembered(journal, "production")
    assert "./inv audit --env production" in told.value.remedy


def test_without_a_journal_nothing_is_remembered() -> None:
    """An environment that was never deployed has no past."""
    assert whole_record(None, "production") == ()
    assert remembered(None, "production").runs("deploy") == []
