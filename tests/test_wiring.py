"""What the wiring hands over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import wiring
from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState

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
