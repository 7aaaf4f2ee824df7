"""One sandbox for each worker, with a verified release live, that runs fight over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import runs
from tests.crash.conftest import HERE, build


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a spec, a good build, its sandbox up, and one verified release live."""
    folder = tmp_path_factory.mktemp("rivals")
    shutil.copy(HERE / "pipeline.yaml", folder)
    build(folder)
    os.mkfifo(folder / "pipe")
    try:
        assert runs.in_a_process(folder, "deploy") == 0
        yield folder
    finally:
        runs.stop(folder)
