"""leaks.no_secret_patterns: no file of the source looks as if it held a credential, whoever's it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from checks.facts.databases import readable
from checks.facts.leaks import NAMED_AT_MOST, some
from checks.facts.source_tree import source_tree
from checks.facts.unpacking import Unreadable
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import Frozen, Sentence
from pipeline.verdict import Finding, Place, Verdict, advice, inconclusive, passed

if TYPE_CHECKING:
    from kingfisher_sdk import Scanner

_RULES_CACHE = ".tollgate/cache"
"""Compiling the rules takes seconds, loading them compiled a fraction of one."""
_FILE_LIMIT_S = 60.0
_CONFIDENCE = ("low", "medium", "high")

Glob = Annotated[str, StringConstraints(min_length=1)]


class Allowed(Frozen):
    """A false alarm, with the reason why it is one."""

    path: Glob = Field(description="Of the file, from the folder of pipeline.yaml; `*` for any characters.")
    rule: Glob = Field("*", description="As the finding names it.")
    reason: Sentence


class Patterns(Frozen):
    """How sure the scanner must be, and what it is wrong about."""

    confidence: Literal["low", "medium", "high"] = "medium"
    allow: tuple[Allowed, ...] = ()


@dataclass(frozen=True)
class Resemblance:
    """Something that looks like a credential. `confidence` is the scanner's own; the value stays with the scanner."""

    file: str
    line: int
    rule: str
    confidence: str

    def __str__(self) -> str:
        return f"{self.rule} in {self.file}:{self.line}"


@dataclass(frozen=True)
class Scan:
    """What the scanner saw in the files of the source. `unread`: the files it could not scan, with the reason."""

    files: int
    rules: int
    found: tuple[Resemblance, ...]
    unread: tuple[str, ...]
    where: str


@or_finding
async def gather(world: World, _params: Patterns) -> Scan:
    tree = await source_tree(world)
    return await asyncio.to_thread(_scan, tuple(tree.named()), world.root / _RULES_CACHE, tree.where)


def _scan(files: tuple[tuple[str, str], ...], cache: Path, where: str) -> Scan:
    """Scans in this process; the scanner's validation, which asks the providers, is never used. Raises Unjudged."""
    try:
        from kingfisher_sdk import Rules, Scanner

        rules = Rules(confidence="low", cache_dir=cache)
        scanner = Scanner(rules, redact=True)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise Unjudged(
            inconclusive(
                f"the pattern scanner does not start: {type(error).__name__}",
                "Install requirements.txt again: remove .venv and run `./inv`. It needs a wheel for this machine.",
            )
        ) from error
    found: list[Resemblance] = []
    unread: list[str] = []
    count = 0
    for name, path in files:
        if Path(path).is_symlink() or not Path(path).exists():
            continue
        count += 1
        try:
            found += _in_file(scanner, name, path)
        except Unreadable as error:
            unread.append(f"{name}: {error}")
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            unread.append(f"{name}: {type(error).__name__}")
    return Scan(count, len(rules), tuple(found), tuple(unread), where)


def _in_file(scanner: Scanner, name: str, path: str) -> Iterator[Resemblance]:
    if not Path(path).is_file():
        raise Unreadable("not a regular file")
    with readable(path) as safe:
        found = scanner.scan_file(safe, timeout=_FILE_LIMIT_S)
    for one in found:
        if one.visible:
            yield Resemblance(name, int(one.location["line"]), one.rule_id.split(".", 1)[-1], str(one.confidence))


@unless_finding
def judge(scan: Scan, params: Patterns) -> Finding:
    sure = [one for one in scan.found if _CONFIDENCE.index(one.confidence) >= _CONFIDENCE.index(params.confidence)]
    fits = [allowed for allowed in params.allow if any(_fits(allowed, one) for one in scan.found)]
    left = [one for one in sure if not any(_fits(allowed, one) for allowed in params.allow)]
    measured = {
        "files": scan.files,
        "rules": scan.rules,
        "found": [{"file": one.file, "line": one.line, "rule": one.rule} for one in left[:NAMED_AT_MOST]],
        "allowed": [{"path": one.path, "rule": one.rule, "reason": one.reason} for one in fits],
    }
    if left:
        return Finding(
            Verdict.FAIL,
            f"{scan.where} holds what looks like credentials: {some(left)}",
            "Take it out of the file and revoke it where it was issued. If it is none, say so under `with:`: "
            f"`allow: [{{path: {left[0].file}, rule: {left[0].rule}, reason: why it is no credential}}]`.",
            measured,
            tuple(Place(one.file, one.line, f"looks like a credential: {one.rule}") for one in left[:NAMED_AT_MOST]),
        )
    if not scan.files or not scan.rules:
        return inconclusive(
            f"{counted(scan.files, 'file')} and {counted(scan.rules, 'rule')}: nothing was scanned",
            "See that the folder of pipeline.yaml holds the source.",
            **measured,
        )
    if scan.unread:
        return inconclusive(
            f"{scan.where}: {counted(len(scan.unread), 'file')} could not be scanned: {some(scan.unread)}",
            "Make them readable, or remove them; what was not scanned is not clean.",
            **measured,
        )
    stale = [allowed for allowed in params.allow if allowed not in fits]
    if stale:
        return advice(
            f"nothing looks like a credential, and {counted(len(stale), 'exception')} of this check fits nothing: "
            + some([f"{one.rule} in {one.path}" for one in stale]),
            "Remove them from `allow`, so that they do not hide what comes later.",
            **measured,
        )
    return passed(
        f"{counted(scan.files, 'file')} of {scan.where} hold nothing that looks like a credential ({scan.rules} rules)",
        **measured,
    )


def _fits(allowed: Allowed, one: Resemblance) -> bool:
    return fnmatchcase(one.file, allowed.path) and fnmatchcase(one.rule, allowed.rule)


CHECK = Check(
    name="leaks.no_secret_patterns",
    promise="No file that git keeps or would keep looks as if it held a credential of anybody.",
    rows=("G3", "G12", "T7"),
    gather=gather,
    judge=judge,
    params=Patterns,
    why="The search for known values cannot know the credentials of other services, or those of last year.",
    pci=("8.6.2",),
    acceptable=False,
    looks_at="Every file that git tracks or would add, with the rules of the scanner kingfisher for the keys of some "
    "four hundred services and for private keys. It runs in this process and asks nobody. Packed files are not opened. "
    "No scanner knows every form: known values are searched for by leaks.none_in_source.",
    fix="Take the credential out of the file and revoke it where it was issued. A false alarm is listed under `allow` "
    "with its path, the rule and the reason.",
    see_it_fail="Write a private key into a file of the checkout (`openssl genpkey -algorithm RSA > key.pem`), then "
    "run `./inv validate`.",
)
