"""One sandbox for each worker, with a verified release live, in which runs are struck one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import runs
from tests.crash.playing import Place
from tests.crash.scenes import build, new_place

__all__ = ["HERE", "build", "folder", "place"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a spec, a good build, its sandbox up, and one verified release live."""
    folder = tmp_path_factory.mktemp("crash")
    try:
        new_place(folder)
        yield folder
    finally:
        runs.stop(folder)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where cases are played: a sandbox of this worker's own, made anew after a case that did not end well."""
    with Place(tmp_path_factory.mktemp("place")) as place:
        yield place
