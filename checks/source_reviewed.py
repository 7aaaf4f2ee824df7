"""source.reviewed: what is deployed is what git has, on a branch, and others than its authors have seen it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from checks.facts import commits, repository, tree
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, ReleaseState, World
from pipeline.spec import Frozen
from pipeline.verdict import Finding, Place, Verdict, inconclusive

_SHOWN = 10
_OURS = ".tollgate/"
"""The record of the runs, written while they judge; it is never part of the source."""
_REVISION = re.compile(r"-(?P<revision>[0-9a-f]{7,40})(?:-edited)?$")
Revision = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]{0,199})?$")]


class Review(Frozen):
    """What is asked of the source."""

    dirty: Literal["fail", "advice"] = Field("fail", description="What uncommitted files are.")
    branches: tuple[Revision, ...] = Field((), description="HEAD must be on one of these; none: on any branch or tag.")
    reviewers: int = Field(0, ge=0, le=10, description="How many others must have seen each commit; 0: not asked.")
    since: Revision = Field("", description="Where review begins as long as no release is verified; all by default.")


@dataclass(frozen=True)
class Unseen:
    """A commit that too few others have seen."""

    id: str
    author: str
    subject: str
    seen_by: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """`dirty`: paths from the folder of pipeline.yaml and what is wrong with each. `on`: branches and tags with HEAD.

    `begin` is the revision after which commits were judged, '' for all; `judged` counts them, None: not asked.
    """

    revision: str
    dirty: tuple[tuple[str, str], ...]
    on: tuple[str, ...]
    begin: str = ""
    judged: int | None = None
    unseen: tuple[Unseen, ...] = ()


@or_finding
async def gather(world: World, params: Review) -> Source:
    root = world.root
    if not any((folder / ".git").exists() for folder in (root, *root.resolve().parents)):
        raise Unjudged(repository.unanswered(root, ("status",), "it is in no git checkout"))
    revision = (await repository.ask(root, "rev-parse", "--verify", "HEAD^{commit}")).strip()
    dirty = tuple(one for one in await tree.changes(root) if not one[0].startswith(_OURS))
    on = await tree.with_head(root, params.branches)
    if not params.reviewers:
        return Source(revision, dirty, on)
    begin = await _begin(world, params)
    judged = await commits.between(root, begin, "HEAD")
    own = await commits.with_own_content(root, begin, "HEAD") if any(one.is_merge for one in judged) else frozenset()
    seen = commits.reviewers(judged, own)
    unseen = tuple(
        Unseen(one.id, one.author, one.subject[:100], seen[one.id])
        for one in judged
        if one.id in seen and len(seen[one.id]) < params.reviewers
    )
    return Source(revision, dirty, on, begin, len(judged), unseen)


async def _begin(world: World, params: Review) -> str:
    """The revision of the last verified release, else `since`. Raises Unjudged where this checkout does not have it."""
    if (await repository.ask(world.root, "rev-parse", "--is-shallow-repository")).strip() == "true":
        raise Unjudged(
            inconclusive(
                f"the checkout {world.root} is shallow, so the commits since the last release cannot be listed",
                "Fetch all of the history: `git fetch --unshallow`, or `fetch-depth: 0` in the workflow.",
            )
        )
    previous = world.run.previous or await _last_verified(world)
    begin = params.since
    if previous is not None:
        match = _REVISION.search(previous)
        if match is None:
            raise Unjudged(
                inconclusive(
                    f"release {previous}, the last verified one, does not say which revision it was built from",
                    "Deploy once from a git checkout with `reviewers: 0`, or sign the change off by another check.",
                )
            )
        begin = match["revision"]
    if not begin:
        return ""
    code, out, _ = await repository.answer(world.root, "rev-parse", "--verify", "--quiet", f"{begin}^{{commit}}")
    if previous is not None and not out.startswith(begin):
        code = 1  # a branch or tag of that name goes before the revision it is the beginning of
    if code != 0:
        raise Unjudged(
            inconclusive(
                f"this checkout does not have {begin}, the revision of {previous or 'the parameter `since`'}",
                "Fetch the branch it was deployed from, and remove a branch or tag that is named like the revision; a "
                "revision that is nowhere any more was never reviewed.",
            )
        )
    return out.strip()


async def _last_verified(world: World) -> str | None:
    """For `validate`, which has no release before it. A target that is another machine is not asked by this check."""
    if world.target.kind != "local":
        return None
    known = await world.target.releases.all()
    return next((one.id for one in known if one.state is ReleaseState.VERIFIED), None)


@unless_finding
def judge(source: Source, params: Review) -> Finding:
    problems: list[tuple[Verdict, str, str]] = []
    if source.dirty:
        verdict = Verdict.FAIL if params.dirty == "fail" else Verdict.ADVICE
        names = _some([f"{path} ({what})" for path, what in source.dirty])
        problems.append(
            (
                verdict,
                f"{counted(len(source.dirty), 'file')} that git has not as they are here: {names}",
                "Commit them, or put them away (`git stash -u`), so that the release is what the revision says. What a "
                "build makes belongs in .gitignore; a hidden file comes back with `git update-index "
                "--no-assume-unchanged --no-skip-worktree FILE`.",
            )
        )
    if not source.on:
        where = " or ".join(params.branches) or "any branch or tag"
        problems.append(
            (
                Verdict.FAIL,
                f"revision {source.revision[:12]} is not on {where}",
                f"Merge it into {where} and fetch, or check out what is there: only what a branch has can be kept, "
                "reviewed and built again.",
            )
        )
    if source.unseen:
        told = [f"{one.id[:12]} {one.subject!r} by {one.author}" for one in source.unseen]
        problems.append(
            (
                Verdict.FAIL,
                f"{counted(len(source.unseen), 'commit')} of {source.judged} since "
                f"{source.begin[:12] or 'the beginning'} not seen by {counted(params.reviewers, 'other')} than the "
                f"author: {_some(told)}",
                "Let somebody else review them: a trailer `Reviewed-by: NAME <MAIL>` in the commit, or a merge commit "
                "made by the reviewer.",
            )
        )
    evidence = {
        "revision": source.revision,
        "on": list(source.on[:_SHOWN]),
        "dirty": [path for path, _ in source.dirty[:50]],
        "commits_judged": source.judged,
        "since": source.begin,
        "unreviewed": [{"commit": one.id, "author": one.author, "seen_by": list(one.seen_by)} for one in source.unseen][
            :50
        ],
    }
    if not problems:
        return Finding(Verdict.PASS, _good(source, params), evidence=evidence)
    places = tuple(Place(path, 1, f"{what}: not what the revision says") for path, what in source.dirty[:50])
    verdict = Verdict.FAIL if any(one[0] is Verdict.FAIL for one in problems) else Verdict.ADVICE
    return Finding(
        verdict, "; ".join(one[1] for one in problems), "\n".join(one[2] for one in problems), evidence, places
    )


def _good(source: Source, params: Review) -> str:
    told = f"revision {source.revision[:12]} is clean and on {_some(list(source.on))}"
    if source.judged is None:
        return f"{told}; review is not asked for (`reviewers: 0`)"
    judged = f"{counted(source.judged, 'commit')} since {source.begin[:12] or 'the beginning'}"
    return f"{told}; {judged}, each seen by {counted(params.reviewers, 'other')}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


CHECK = Check(
    name="source.reviewed",
    promise="The release is built from a committed revision on a branch, reviewed by others where that is asked.",
    rows=("G12", "G20", "T9", "T16"),
    gather=gather,
    judge=judge,
    params=Review,
    why="What only one person has seen, or only one laptop has, cannot be trusted, explained or built again.",
    pci=("6.2.3", "6.5.1"),
    looks_at=(
        "`git status` with untracked files, submodules and files hidden from it; the branches and tags that have HEAD; "
        "and with `reviewers`, each commit since the revision of the last verified release: its Reviewed-by and "
        "Approved-by trailers, and who merged it. Authors and co-authors never count. A trailer is a statement, not a "
        "proof: protect the branch as well, so that nobody can push what nobody saw."
    ),
    fix=(
        "Commit or put away what is uncommitted, merge to the branch that is deployed, and have the named commits "
        "reviewed."
    ),
    see_it_fail="`touch unknown-file` beside pipeline.yaml, then `./inv validate --env production`.",
)
