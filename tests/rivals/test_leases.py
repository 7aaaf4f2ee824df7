"""Two hundred rivals for one lease."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.rivals import leases

RIVALS = 200


@pytest.mark.timeout(180)
def test_two_hundred_rivals_own_the_lease_one_after_the_other(tmp_path: Path) -> None:
    """Of 200 processes that want the lease at once exactly one owns it at a time, some of them dying as owners: no two
    times of ownership overlap, and every owner shows the target a higher token than all before it."""
    found = leases.rivalry(tmp_path, RIVALS)
    deaths = [-signal.SIGKILL if leases.dies(number) else 0 for number in range(RIVALS)]
    assert list(found.codes) == deaths
    assert list(found.overlapping()) == []
    assert len(found.tokens) == RIVALS
    assert all(one < other for one, other in zip(found.tokens, found.tokens[1:], strict=False))
