"""One sandbox for each worker, with a verified release live, in which runs are killed one after the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import runs

HERE = Path(__file__).parent
BUILD = Path(__file__).parents[2] / "sandbox" / "shop" / "build.py"


def build(folder: Path, fault: str = "") -> None:
    """Puts a build of the shop into `folder`/dist; with `fault`, a bad release. Each is built once."""
    built = folder / f"built-{fault or 'good'}"
    if not built.exists():
        env = {"PATH": os.environ["PATH"], "SANDBOX_FAULT": fault}
        subprocess.run([sys.executable, str(BUILD), "--out", str(built)], check=True, env=env, capture_output=True)
    shutil.rmtree(folder / "dist", ignore_errors=True)
    shutil.copytree(built, folder / "dist")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a spec, a good build, its sandbox up, and one verified release live."""
    folder = tmp_path_factory.mktemp("crash")
    shutil.copy(HERE / "pipeline.yaml", folder)
    build(folder)
    try:
        assert runs.in_a_process(folder, "deploy") == 0
        yield folder
    finally:
        runs.stop(folder)
