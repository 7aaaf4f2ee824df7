"""The shipped pipeline.yaml against the real tables."""

from __future__ import annotations

import wiring
from pipeline import plan
from pipeline.loader import load
from tests.cli.cli import HOME


def test_shipped_pipeline_loads_with_the_real_names() -> None:
    """pipeline.yaml has no mistake for the checks, checkpoints, acts and gateways there are."""
    tables = wiring.catalogue()
    spec = load(HOME / "pipeline.yaml", wiring.names(tables))
    assert list(spec.environments) == ["sandbox", "staging", "production"]
    for environment in spec.environments:
        stages = [stage.name for stage in plan.make(spec, environment, tables.checks, verb="deploy").stages]
        assert stages == ["gates", "build", "deploy", "prove", "watch", plan.FINISH]
