"""What a probe works with: the world, and smoke payments of its own."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.contracts import World


@dataclass(frozen=True)
class Scene:
    """Handed to each probe's `play`."""

    world: World
