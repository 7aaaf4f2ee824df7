"""One sandbox for each file of these tests, with a verified release live, on the small pipeline of the crash tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import runs
from tests.crash.scenes import SPEC, build
from tests.known_failures.engine import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("known-failures")
    text = SPEC.read_text("utf-8")
    (folder / "pipeline.yaml").write_text(text.replace("produces: dist,", "produces: dist, keep: 2,"), "utf-8")
    build(folder)
    try:
        assert run(folder, "deploy") == 0
        yield folder
    finally:
        runs.stop(folder)
