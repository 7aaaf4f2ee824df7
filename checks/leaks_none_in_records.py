"""leaks.none_in_records: the journals and reports of this project hold none of the run's secrets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from checks.facts import leaks
from checks.facts.credentials import searched_for
from checks.facts.folders import unlisted
from checks.facts.leaks import Search
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, skipped

_STATE = ".tollgate"
_NO_RECORD = frozenset({"cache"})
"""What can be made again at any time."""
_HOLDS_SECRETS = frozenset({"settings.env", "tls", "gateway", "target"})
"""What an environment's folder holds beside its records: settings, keys, and areas that releases run in."""


@or_finding
async def gather(world: World, _params: NoParams) -> Search:
    state = world.root / _STATE
    no_record = _NO_RECORD - world.spec.environments.keys()
    files = await asyncio.to_thread(lambda: list(_records(state, no_record)) if state.exists() else [])
    if not files:
        raise Unjudged(skipped(f"{_STATE} holds no journal and no report yet", files=0))
    return await asyncio.to_thread(leaks.search, files, searched_for(world), "the record of earlier runs")


def _records(state: Path, no_record: Collection[str]) -> Iterator[tuple[str, str]]:
    """(printed name, path) of every file of every environment, but for what holds secrets on purpose. Links are
    followed: reports are kept on another disk. Raises Unjudged for a folder that cannot be listed."""
    skipped_characters = len(os.fspath(state.parent)) + 1
    seen = {os.path.realpath(state)}
    for folder, folders, files in os.walk(state, onerror=unlisted, followlinks=True):
        depth = len(Path(folder).relative_to(state).parts)
        left_out = (no_record, _HOLDS_SECRETS)[depth] if depth < 2 else ()
        inside = {os.path.realpath(f"{folder}/{name}"): name for name in sorted(folders) if name not in left_out}
        folders[:] = [name for path, name in inside.items() if path not in seen]
        seen |= inside.keys()
        for name in sorted(files):
            if not (depth == 1 and name in _HOLDS_SECRETS):
                path = f"{folder}/{name}"
                yield path[skipped_characters:], os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114


@unless_finding
def judge(found: Search, _params: NoParams) -> Finding:
    return leaks.verdict(
        found,
        "Make a new credential at the gateway, then move the file out of .tollgate into a place only you can read. The "
        "record is redacted as it is written: see which version wrote this one, and report it.",
    )


CHECK = Check(
    name="leaks.none_in_records",
    promise="No journal and no report of this project holds one of the run's secrets.",
    rows=("G3", "G12", "T4", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    why="Reports are passed on and journals are kept for years, by people who may not know the credentials.",
    pci=("8.6.2",),
    acceptable=False,
    looks_at="The journal, the reports and every other file below `.tollgate/`, for all environments, except for the "
    "settings, keys and release areas that hold secrets on purpose; links are followed. It is skipped while there is "
    "no record.",
    fix="Make a new credential at the gateway and move the file out of `.tollgate/`.",
    see_it_fail="Write the value of a secret into a file in `.tollgate/sandbox/reports/`, then run `./inv validate`.",
)
