"""What the wiring hands over."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

import wiring
from pipeline.clock import SystemClock
from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState
from pipeline.errors import Usage
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.kept_spec import FOLDER, RUNS, keep
from pipeline.secrets import Redactor

NOON = datetime(2026, 3, 1, 12, 0, 0, 5000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("names", "stamp"),
    [
        ([], "20260301T120000005Z"),
        (["20260301T115959999Z-abc1234"], "20260301T120000005Z"),
        (["20260301T130000999Z-abc1234", "20260301T110000000Z-abc1234"], "20260301T130001000Z"),
        (["20260301T120000005Z-abc1234"], "20260301T120000006Z"),
        (["20269999T120000005Z-abc1234", "by-hand"], "20260301T120000005Z"),
    ],
    ids=["none", "older", "newer", "the same instant", "by hand"],
)
def test_new_release_is_named_after_all_others(names: list[str], stamp: str) -> None:
    """Newest first by name is true although the clock was set back: no rollback leads past the release before."""
    there = [ReleaseRecord(ReleaseId(name), ReleaseState.VERIFIED, NOON, "", "", "") for name in names]
    assert wiring._stamp(NOON, there) == stamp


def test_rollback_reaches_an_environment_that_pipeline_yaml_has_lost(tmp_path: Path) -> None:
    """A commit that renames an environment does not take away the way back of what runs there."""
    text, today, said = (wiring.HOME / "pipeline.yaml").read_bytes(), tmp_path / "pipeline.yaml", list[str]()
    today.write_bytes(text.replace(b"staging", b"stage").replace(b"tried_in_stage", b"tried_in_staging"))
    digest, state = hashlib.sha256(text).hexdigest(), tmp_path / ".tollgate" / "staging"
    keep(state, text)
    with Journal.open(state / "journal.sqlite", clock=SystemClock(), redactor=Redactor([])) as journal:
        journal.append("run-1", Kind.RUN_STARTED, {"verb": "deploy", "spec_digest": digest})
    chosen = wiring.choose_to_go_back(str(today), "staging", said.append)
    assert (chosen.digest, chosen.root, chosen.name) == (digest, tmp_path, "staging")
    assert "it has no staging" in said[0] and "run-1" in said[0]
    with pytest.raises(Usage, match="no such environment"):
        wiring.choose_to_go_back(str(today), "prod", said.append)


async def test_run_that_may_change_something_prunes_the_copies_of_pipeline_yaml(tmp_path: Path) -> None:
    """The folder of kept copies does not grow with every edit: whoever opens the environment for a change prunes it."""
    spec, state = tmp_path / "pipeline.yaml", tmp_path / ".tollgate" / "staging"
    spec.write_bytes((wiring.HOME / "pipeline.yaml").read_bytes())
    keep(state, b"forgotten")
    (forgotten,) = (state / FOLDER).iterdir()
    os.utime(forgotten, (0, 0))
    with Journal.open(state / "journal.sqlite", clock=SystemClock(), redactor=Redactor([])) as journal:
        for number in range(RUNS):
            text = f"edit {number}".encode()
            keep(state, text)
            began = {"verb": "deploy", "spec_digest": hashlib.sha256(text).hexdigest()}
            journal.append(f"run-{number}", Kind.RUN_STARTED, began)
    chosen = wiring.choose(str(spec), "staging")
    async with wiring.opened(chosen, lambda _redactor: [], changes=True, goes_back=True):
        assert not forgotten.exists()
    assert len(list((state / FOLDER).iterdir())) == RUNS + 1
