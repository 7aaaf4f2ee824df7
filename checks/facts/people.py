"""What people put on record: the state of every sign-off and every attested duty of the environment, looked up once."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.attestations import Attestation, Shelf, items, standing
from pipeline.contracts import World


async def attested(world: World) -> Mapping[str, Attestation]:
    """Every item of the spec by its name."""

    async def look() -> Mapping[str, Attestation]:
        shelf = Shelf(world.root, world.spec.service, world.environment_name, world.spec_digest, world.clock.now())
        return await standing(shelf, items(world.spec).values())

    return await world.facts.once("attestations", look)
