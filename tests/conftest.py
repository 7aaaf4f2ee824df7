"""How tests are spread over workers: those that share one sandbox stay together, all others go where there is room."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_TOGETHER = (
    "tests/checks/test_rate_limits.py",
    "tests/cli/test_commands.py",
    "tests/cli/test_doors.py",
    "tests/cli/test_inv.py",
    "tests/cli/test_notices.py",
    "tests/cli/test_people.py",
    "tests/cli/test_probe.py",
    "tests/cli/test_reconcile.py",
    "tests/cli/test_rollback_screen.py",
    "tests/cli/test_smoke.py",
    "tests/docs/test_incident.py",
    "tests/pipeline/test_reconcile_shops.py",
    "tests/probes/test_pairs.py",
    "tests/sandbox/test_shop.py",
    "tests/sandbox/test_shop_faults.py",
    "tests/sandbox/test_shoppers.py",
)
_LONGEST = (
    "tests/drills/",
    "tests/cli/",
    "tests/fuzz/",
    "tests/crash/",
    "tests/probes/",
    "tests/browser/",
    "tests/load/",
    "tests/targets/",
    "tests/sandbox/",
    "tests/checks/test_rate_limits",
    "tests/pipeline/test_reconcile_shops",
    "tests/docs/test_incident",
)


settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
"""How fast a machine is never decides a test."""


class _Spread(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path in _TOGETHER else nodeid


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that at the end no worker waits for another."""
    items.sort(key=lambda item: next((n for n, part in enumerate(_LONGEST) if part in item.nodeid), len(_LONGEST)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Spread(config, log)
