"""The files that are made from the code."""

from __future__ import annotations

from pathlib import Path

import pytest

import generated

FILES = generated.files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    """What an editor and a reader are told is what the code says; `./inv docs` writes it anew."""
    assert path.read_text(encoding="utf-8") == FILES[path]
