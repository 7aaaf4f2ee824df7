"""docs/checkpoints.md: its example can be used as it stands, and its table tells of every kind in its order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

import wiring
from pipeline import plan
from pipeline.loader import load
from rollback import CHECKPOINTS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")


def test_the_example_fits_the_shipped_file(tmp_path: Path) -> None:
    """Whoever puts the example into the shipped pipeline.yaml has a plan that migrates, proves and then switches."""
    shown = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[0])
    data = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))
    data["stages"] |= shown.pop("stages")
    path = tmp_path / "pipeline.yaml"
    path.write_text(json.dumps({**data, **shown}))
    tables = wiring.catalogue()
    made = plan.make(load(path, wiring.names(tables)), "sandbox", tables.checks, verb="deploy")
    steps = {step.name: step for step in made.stage("deploy").steps}
    migrate = steps["database.migrate"]
    assert migrate.way_back.startswith(
        "reverts the schema: python -m shop.schema down '{version}'; restores settings, release"
    )
    assert steps["release.switch"].needs == ("database.old_release_works",)


def test_every_kind_stands_in_the_order_it_is_restored_in() -> None:
    """A reader who follows a way back finds its checkpoints in the order of the table."""
    told = re.findall(r"^\| `(\w+)", TEXT.partition("|---")[2].partition("\n\n")[0], re.MULTILINE)
    shut = [name for name, checkpoint in CHECKPOINTS.items() if not checkpoint.reopens]
    assert told[: len(shut)] == [*reversed(shut)]
    assert {name for name in CHECKPOINTS if f"`{name}" not in TEXT} == set()
