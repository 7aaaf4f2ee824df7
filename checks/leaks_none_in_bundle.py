"""leaks.none_in_bundle: what is about to be served to every visitor holds none of the run's secrets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from checks.facts import leaks
from checks.facts.credentials import searched_for
from checks.facts.folders import below
from checks.facts.leaks import Search
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, inconclusive

_REMEDY = (
    "Vite puts every VITE_ variable that client code reads into the public JavaScript: one `import.meta.env.NAME` is "
    "enough, `import.meta.env[key]` takes all of them. Read the secret on the server only, take the reference out of "
    "the client code, build again; if such a bundle was ever served, make a new credential at the gateway."
)


@or_finding
async def gather(world: World, _params: NoParams) -> Search:
    artifact = world.run.artifact
    if artifact is None or not artifact.is_dir():
        raise Unjudged(
            inconclusive(
                f"no built bundle to search: {artifact or 'nothing was built in this run'}",
                "See that the build leaves the folder that `release.produces` names.",
            )
        )
    placed = artifact.is_relative_to(world.root)
    above = world.root if placed else artifact.parent
    return await asyncio.to_thread(
        leaks.search, _named(artifact, above), searched_for(world), "the built bundle", placed=placed
    )


def _named(artifact: Path, above: Path) -> Iterator[tuple[str, str]]:
    skipped = len(os.fspath(above)) + 1
    return ((path[skipped:], path) for path in below(artifact))


@unless_finding
def judge(found: Search, _params: NoParams) -> Finding:
    return leaks.verdict(found, _REMEDY)


CHECK = Check(
    name="leaks.none_in_bundle",
    promise="No file of the built bundle holds one of the run's secrets, plain, encoded or compressed.",
    rows=("G3", "G6", "G12", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    when=When.BUILT,
    why="The names begin with VITE_, and whatever client code reads under such a name is public.",
    pci=("8.6.2",),
    acceptable=False,
    looks_at="Every file of the folder that the build left: scripts, pages, source maps with the sources in them, and "
    "what is packed as gzip, bzip2, xz, brotli or zip; an archive of another kind is not taken for clean. It looks for "
    "the values of this run's secrets, plain, in every usual encoding, split over string literals, and cut to 12 "
    "characters.",
    fix="Read the secret on the server only, take the reference out of the client code and build again. If such a "
    "bundle was ever served, make a new credential at the gateway.",
    see_it_fail="Write `console.log(import.meta.env.VITE_IKHOKHA_API_SECRET)` into client code and build it, then run "
    "`./inv validate`.",
)
