"""The judges of other people that are installed beside this file by `npm ci`, run by node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

needs_peers = pytest.mark.skipif(
    shutil.which("node") is None or not (HERE / "node_modules" / "csp_evaluator").is_dir(),
    reason="needs node, and `npm ci --ignore-scripts` in tests/peers",
)


def _major() -> int:
    """The version of node; 0 without one."""
    if shutil.which("node") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60).stdout
    return int(said.removeprefix("v").partition(".")[0] or 0)


needs_node_20 = pytest.mark.skipif(_major() < 20, reason="the Observatory needs node 20 or newer")


def node(script: str, *arguments: str, given: object = None, **environment: str) -> Any:
    """What a script of this folder prints as JSON. Raises AssertionError with its own words when it fails."""
    done = subprocess.run(
        ["node", str(HERE / script), *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
