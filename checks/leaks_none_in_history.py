"""leaks.none_in_history: no object that git holds, however old or forgotten, holds one of the run's secrets."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from checks.facts import history, leaks
from checks.facts import repository as git
from checks.facts.credentials import searched_for
from checks.facts.leaks import Search
from checks.facts.sieve import Sieve
from checks.facts.source_tree import source_tree
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, failed, inconclusive

_REMEDY = (
    "Make a new credential at the gateway at once: what is in a history is in every clone of it. Then take it out of "
    "the history (`git filter-repo --replace-text`), have every clone made anew, and in this one run `git reflog "
    "expire --expire=now --all` and `git gc --prune=now`."
)


class Patience(Frozen):
    """How long reading the whole history may take."""

    within: Duration = 300.0


@dataclass(frozen=True)
class Histories:
    """`search` counts objects in place of files. `incomplete`: checkouts that do not hold all of their history."""

    search: Search
    incomplete: tuple[str, ...]


@or_finding
async def gather(world: World, params: Patience) -> Histories:
    tree = await source_tree(world)
    if not tree.checkouts:
        raise Unjudged(
            inconclusive(
                f"{world.root} is in no git checkout, so there is no history to search",
                "Deploy from a full clone: `git clone`, not a copy of the files.",
            )
        )
    secrets = searched_for(world)
    sieve = await asyncio.to_thread(Sieve, secrets)
    found = []
    try:
        async with asyncio.timeout(params.within):
            for checkout in tree.checkouts:
                label = "" if checkout == tree.root else f"{os.path.relpath(checkout, tree.root)} "
                found.append(await history.search(checkout, label, sieve))
    except git.GitFailed as error:
        raise Unjudged(_unread(str(error))) from error
    except TimeoutError:
        raise Unjudged(_unread(f"it took longer than {params.within:g} s")) from None
    search = Search(
        sum(one.objects for one in found),
        tuple(leak for one in found for leak in one.leaks),
        tuple(what for one in found for what in one.unread),
        sieve.too_short,
        len(secrets),
        "the git history",
        noun="objects",
    )
    search = leaks.with_names_hidden(search, secrets, sieve)
    return Histories(search, tuple(why for one in found for why in one.incomplete))


def _unread(why: str) -> Finding:
    return inconclusive(
        f"the git history could not be searched: {why}",
        "Make `git fsck` pass there, or raise `within`; what was not searched is not clean.",
    )


@unless_finding
def judge(found: Histories, _params: Patience) -> Finding:
    if found.incomplete and not found.search.leaks:
        return failed(
            f"{'; '.join(found.incomplete)}: the rest of the history was not searched, all of it must be",
            "Run `git fetch --unshallow`, or clone anew without --depth and --filter; in a workflow set "
            "`fetch-depth: 0` for actions/checkout.",
            objects=found.search.files,
        )
    return leaks.verdict(found.search, _REMEDY)


CHECK = Check(
    name="leaks.none_in_history",
    promise="No object in the whole git history holds one of the run's secrets, commit messages included.",
    rows=("G3", "G12", "T4", "T7"),
    gather=gather,
    judge=judge,
    params=Patience,
    why="A credential that was committed once is in every clone, also when a later commit took it out.",
    pci=("8.6.2",),
    acceptable=False,
    looks_at="Every object of the checkout and of the checkouts nested in it: files of all commits, commit messages, "
    "tags and what no branch reaches any more. It looks for the values of this run's secrets, plain and in every usual "
    "encoding, also in packed files. A shallow or partial clone fails.",
    fix="Make a new credential at the gateway first. Then remove the old one from the history with `git filter-repo` "
    "and have every clone made anew.",
    see_it_fail="In a copy of the repository commit a file with the value of a secret, delete it with the next "
    "commit, then run `./inv validate`.",
)
