"""leaks.none_in_source: what git keeps, or would keep with the next commit, holds none of the run's secrets."""

from __future__ import annotations

import asyncio

from checks.facts import leaks
from checks.facts.credentials import searched_for
from checks.facts.leaks import Search
from checks.facts.source_tree import source_tree
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding


@or_finding
async def gather(world: World, _params: NoParams) -> Search:
    tree = await source_tree(world)
    return await asyncio.to_thread(leaks.search, tree.named(), searched_for(world), tree.where, placed=True)


@unless_finding
def judge(found: Search, _params: NoParams) -> Finding:
    return leaks.verdict(
        found,
        "Take the value out of the file, read it from a source under settings_from, and make a new credential at the "
        "gateway: what was once committed or copied is known.",
    )


CHECK = Check(
    name="leaks.none_in_source",
    promise="No file that git keeps or would keep holds one of the run's secrets, plain or encoded.",
    rows=("G3", "G12", "T4", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    why="A credential in version control is a credential everybody has who ever cloned it.",
    pci=("8.6.2",),
    acceptable=False,
    looks_at="Every file that git tracks or would add, nested checkouts and submodules included, and what is packed in "
    "them; where no git is, every file but the dotenv sources and what the build makes. It looks for the values of "
    "this run's secrets, plain, in every usual encoding, split over string literals, and cut to 12 characters.",
    fix="Take the value out of the file, read it from a source under `settings_from`, and make a new credential at the "
    "gateway.",
    see_it_fail="Write the value of a secret into a file of the checkout that git does not ignore, then run "
    "`./inv validate`.",
)
