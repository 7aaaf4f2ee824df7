"""What faults are made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..seams import Seams

Break = Callable[[Seams], Seams]


def instead(**members: object) -> Break:
    """A fault that puts these in the place of the careful ones."""

    def put(seams: Seams) -> Seams:
        return replace(seams, **members)  # type: ignore[arg-type]

    return put
