"""The commits of a range of a git repository, and who besides the author saw each: pure but for `between`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from checks.facts import repository
from checks.judging import Unjudged
from pipeline.verdict import inconclusive

_MOST = 20_000
_TRAILERS = "%(trailers:key={},valueonly=true,unfold=true,separator=%x1f)"
_REVIEWED, _TOGETHER = ("Reviewed-by", "Approved-by"), ("Co-authored-by",)
_FORMAT = "%x00".join(
    (
        *("%H", "%P", "%an", "%ae", "%aN", "%aE", "%cn", "%ce", "%s"),
        *(_TRAILERS.format(",key=".join(keys)) for keys in (_REVIEWED, _TOGETHER)),
    )
)
_MEMBERS = 11
_PERSON = re.compile(r"\s*(?P<name>[^<>]*?)\s*(?:<\s*(?P<mail>[^<>\s]*)\s*>)?\s*")


@dataclass(frozen=True)
class Person:
    """Somebody as git names them. `known_as`: every spelling in lower case by which they may be told from others."""

    name: str
    known_as: frozenset[str]


@dataclass(frozen=True)
class Commit:
    """`authors`: who wrote it, co-authors among them. `named`: who the trailers say reviewed it."""

    id: str
    parents: tuple[str, ...]
    subject: str
    author: str
    authors: frozenset[str]
    mergers: frozenset[str]
    """For a merge: who made it, author and committer."""
    merger: Person
    named: tuple[Person, ...]

    @property
    def is_merge(self) -> bool:
        return len(self.parents) > 1


async def between(folder: Path, old: str, new: str) -> tuple[Commit, ...]:
    """The commits of `new` that `old` does not have, newest first; all of `new` where `old` is ''. Raises Unjudged."""
    what = f"{old}..{new}" if old else new
    args = ("log", "-z", f"--max-count={_MOST}", f"--format={_FORMAT}", what, "--")
    found = parse(await repository.ask(folder, *args, timeout=60.0))
    counted = (await repository.ask(folder, "rev-list", "--count", what, "--", timeout=60.0)).strip()
    if counted != str(len(found)):
        raise Unjudged(
            inconclusive(
                f"{counted} commits of {what} are to be judged, {len(found)} could be read; {_MOST} are allowed",
                "Say with `since:` from which revision on review is asked for.",
            )
        )
    return found


async def with_own_content(folder: Path, old: str, new: str) -> frozenset[str]:
    """Merges of the range that hold more than what merging by itself makes of their parents. Raises Unjudged."""
    what = f"{old}..{new}" if old else new
    flags = ("--merges", "--remerge-diff", "--name-only", "--no-ext-diff", "--no-renames", "--format=%x00%H")
    out = await repository.ask(folder, "log", f"--max-count={_MOST}", *flags, what, "--", timeout=60.0)
    return merges_with_files(out)


def merges_with_files(out: str) -> frozenset[str]:
    """The ids that are followed by at least one line that names a file. Total."""
    parts = (part.strip("\n").split("\n") for part in out.split("\0"))
    return frozenset(lines[0] for lines in parts if len(lines) > 1 and any(lines[1:]))


def parse(out: str) -> tuple[Commit, ...]:
    """What `between` asked git for; what does not come in whole records is left out. Total."""
    members = out.split("\0")
    records = [members[at : at + _MEMBERS] for at in range(0, len(members) - _MEMBERS + 1, _MEMBERS)]
    return tuple(_commit(record) for record in records)


def _commit(record: Sequence[str]) -> Commit:
    id_, parents, name, mail, mapped_name, mapped_mail, committer, committer_mail, subject, reviewed, together = record
    author = _known_as(name, mail) | _known_as(mapped_name, mapped_mail)
    return Commit(
        id=id_.strip(),
        parents=tuple(parents.split()),
        subject=subject,
        author=mapped_name or name or mail,
        authors=author.union(*(person.known_as for person in people(together))),
        mergers=author | _known_as(committer, committer_mail),
        merger=Person(mapped_name or name or mail, author),
        named=people(reviewed),
    )


def people(trailers: str) -> tuple[Person, ...]:
    """The people in the values of trailers, joined by U+001F; a value that names nobody is left out. Total."""
    found = []
    for value in trailers.split("\x1f"):
        match = _PERSON.fullmatch(value.replace("\n", " "))
        if match and (known := _known_as(match["name"], match["mail"] or "")):
            found.append(Person(match["name"] or match["mail"], known))
    return tuple(found)


def _known_as(name: str, mail: str) -> frozenset[str]:
    """One person often has several addresses, but seldom two names."""
    return frozenset(" ".join(text.lower().split()) for text in (name, mail) if text.strip())


def reviewers(commits: Sequence[Commit], own_content: frozenset[str] = frozenset()) -> Mapping[str, tuple[str, ...]]:
    """For each commit the names of those who saw it and did not write it. Pure; `commits` newest first.

    They are whom its trailers name, and whoever merged it into the line that is deployed. A merge elsewhere (main into
    somebody's own branch) is no review of what it brings. A merge of two that adds nothing of its own needs no reviewer
    and is left out; `own_content` are those that add something.
    """
    by_id = {commit.id: commit for commit in commits}
    seen: dict[str, list[Person]] = {commit.id: list(commit.named) for commit in commits}
    before: set[str] = set()
    for one in reversed(_line(commits, by_id)):
        brought = _reach(by_id, one.parents[1:], but=before)
        for id_ in brought:
            if not one.mergers & by_id[id_].authors:
                seen[id_].append(one.merger)
        before |= brought | {one.id}
    return {
        commit.id: _others(seen[commit.id], commit.authors)
        for commit in commits
        if len(commit.parents) != 2 or commit.id in own_content
    }


def _line(commits: Sequence[Commit], by_id: Mapping[str, Commit]) -> Sequence[Commit]:
    """The newest commit, its first parent, the first parent of that, and so on to the end of the range."""
    line: dict[str, Commit] = {}
    commit = commits[0] if commits else None
    while commit is not None and commit.id not in line:
        line[commit.id] = commit
        commit = by_id.get(commit.parents[0]) if commit.parents else None
    return tuple(line.values())


def _others(people: Iterable[Person], authors: frozenset[str]) -> tuple[str, ...]:
    """Each person once, by any of their spellings, without the authors."""
    counted: list[Person] = []
    for person in people:
        if not person.known_as & authors and not any(person.known_as & other.known_as for other in counted):
            counted.append(person)
    return tuple(person.name for person in counted)


def _reach(by_id: Mapping[str, Commit], starts: Iterable[str], but: Set[str]) -> set[str]:
    """The commits of the range that can be reached from `starts`; `but`, and what lies behind them, is left out."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        id_ = waiting.pop()
        if id_ in by_id and id_ not in reached and id_ not in but:
            reached.add(id_)
            waiting += by_id[id_].parents
    return reached
