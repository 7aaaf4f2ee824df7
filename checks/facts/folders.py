"""The files below a folder, all of them: what cannot be listed is said, for it was not searched."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from checks.judging import Unjudged
from pipeline.verdict import inconclusive


def below(folder: str | Path, *, left_out: Collection[str] = ()) -> Iterator[str]:
    """The path of every file, hidden ones too; a link to a folder counts as a file. Folders called as one of `left_out`
    are not entered. Raises Unjudged where a folder cannot be listed."""
    for inner, folders, files in os.walk(folder, onerror=unlisted):
        folders[:] = sorted(name for name in folders if name not in left_out)
        links = [name for name in folders if os.path.islink(f"{inner}/{name}")]  # noqa: PTH114 - asked very often
        yield from (f"{inner}/{name}" for name in sorted(files + links))


def unlisted(error: OSError) -> None:
    """For os.walk, which leaves out in silence what it cannot list."""
    raise Unjudged(
        inconclusive(
            f"{error.filename} cannot be listed: {error.strerror or type(error).__name__}, so not all was searched",
            "Make the folder readable for this user, or remove it; what was not searched is not clean.",
        )
    )
