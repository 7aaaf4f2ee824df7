"""leaks.no_public_secrets: no client code reads a secret under a name that bundlers make public."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from checks.facts.client_code import PREFIXES, SUFFIXES, Sighting, Trap, is_config, prefixes_of, sightings
from checks.facts.leaks import NAMED_AT_MOST, some
from checks.facts.source_tree import source_tree
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.spec import Frozen
from pipeline.verdict import Finding, Place, Verdict, inconclusive, passed, skipped

_LARGEST = 8 * 1024 * 1024
_ONLY_ADVICE = frozenset({Trap.LOAD_ALL, Trap.MAPS})
_TAKES_ALL = frozenset({Trap.COMPUTED, Trap.WHOLE})

Glob = Annotated[str, StringConstraints(min_length=1)]


class ClientCode(Frozen):
    """Which files are not client code."""

    server: tuple[Glob, ...] = Field(
        (), description="Paths of server code and of scripts, from the folder of pipeline.yaml; `*` for any characters."
    )


@dataclass(frozen=True)
class Public:
    """What client code does with public variables. `server`: how many files pipeline.yaml says are server code.
    `secrets`: settings that are secret and public by their prefix."""

    files: int
    server: int
    secrets: tuple[str, ...]
    found: tuple[Sighting, ...]
    unread: tuple[str, ...]


@or_finding
async def gather(world: World, params: ClientCode) -> Public:
    tree = await source_tree(world)
    if not tree.files:
        raise Unjudged(
            inconclusive(
                f"{tree.where} has no file, so no client code was looked at",
                "See that the folder of pipeline.yaml holds the source, and that git does not ignore all of it.",
            )
        )
    code = [(name, path) for name, path in tree.named() if name.endswith(SUFFIXES) and "node_modules/" not in name]
    client = [(name, path) for name, path in code if not any(fnmatchcase(name, pattern) for pattern in params.server)]
    return await asyncio.to_thread(_read, client, len(code) - len(client), secret_names(world))


def secret_names(world: World) -> frozenset[str]:
    """The settings that are declared secret, and those that hold the same value as one that is."""
    declared = {name for name, setting in world.spec.settings.items() if setting.type == "secret"}
    values = world.settings.values
    held = {v.value.reveal() for v in values.values() if isinstance(v.value, Secret)} - {""}
    return frozenset(declared | {name for name in values if world.settings.text(name) in held})


def _read(files: list[tuple[str, str]], server: int, secrets: frozenset[str]) -> Public:
    sources: dict[str, str] = {}
    unread: list[str] = []
    for name, path in files:
        try:
            found = Path(path).stat()
            if not stat.S_ISREG(found.st_mode):
                unread.append(f"{name}: not a regular file")
                continue
            if found.st_size > _LARGEST:
                unread.append(f"{name}: larger than {_LARGEST // 2**20} MiB")
                continue
            sources[name] = Path(path).read_text("utf-8", "replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            unread.append(f"{name}: {error.strerror}")
    own = (prefix for name, source in sources.items() if is_config(name) for prefix in prefixes_of(source))
    public = frozenset(name for name in secrets if name.startswith((*PREFIXES, *own)))
    seen = [one for name, source in sources.items() for one in sightings(name, source, public, secrets)]
    return Public(len(sources), server, tuple(sorted(public)), tuple(dict.fromkeys(seen)), tuple(unread))


@unless_finding
def judge(public: Public, _params: ClientCode) -> Finding:
    bad = [one for one in public.found if not _harmless(one, public)]
    notes = [one for one in public.found if _harmless(one, public)]
    measured = {
        "files": public.files,
        "public_secrets": list(public.secrets),
        "found": [{"file": one.file, "line": one.line, "what": str(one.trap), "name": one.name} for one in bad],
    }
    if bad:
        return Finding(
            Verdict.FAIL,
            f"client code makes secrets public: {some(bad)}",
            "Read secrets on the server only, under names without a public prefix, and let client code ask the server. "
            "Read public variables one by one: `import.meta.env.VITE_NAME`. Code that never reaches a browser is "
            "listed under `with: {server: [PATHS]}`.",
            measured,
            _places(bad),
        )
    if public.unread:
        return inconclusive(
            f"{counted(len(public.unread), 'file')} of client code could not be read: {some(public.unread)}",
            "Make them readable, or list what is not client code under `with: {server: [PATHS]}`.",
            **measured,
        )
    if not public.files:
        listed = f" beside the {counted(public.server, 'file')} listed as server code" if public.server else ""
        return skipped(
            f"the source holds no JavaScript, TypeScript or page that could be client code{listed}", **measured
        )
    if notes:
        return Finding(
            Verdict.ADVICE,
            f"no secret is public now, but: {some(notes)}",
            "Read public variables one by one, keep `loadEnv` away from `define`, set `build.sourcemap` to 'hidden'.",
            measured,
            _places(notes),
        )
    return passed(f"{counted(public.files, 'file')} of client code read no secret under a public name", **measured)


def _harmless(one: Sighting, public: Public) -> bool:
    """Taking all public variables is only a leak while one of them is secret."""
    return one.trap in _ONLY_ADVICE or (one.trap in _TAKES_ALL and not public.secrets)


def _places(found: list[Sighting]) -> tuple[Place, ...]:
    return tuple(
        Place(one.file, one.line, f"{one.trap}: {one.name}" if one.name else str(one.trap))
        for one in found[:NAMED_AT_MOST]
    )


CHECK = Check(
    name="leaks.no_public_secrets",
    promise="No client code reads a secret under a name that bundlers make public.",
    rows=("G3", "G12", "T4", "T7"),
    gather=gather,
    judge=judge,
    params=ClientCode,
    why="A bundler writes the value of such a variable into JavaScript that every visitor loads.",
    pci=("6.2.4", "8.6.2"),
    acceptable=False,
    looks_at="Scripts, components and pages that git keeps, outside of node_modules and of what `server` lists. It "
    "looks for reads of secrets whose name begins with VITE_, NEXT_PUBLIC_, REACT_APP_, NUXT_PUBLIC_, GATSBY_, "
    "EXPO_PUBLIC_, PUBLIC_ or the own envPrefix; for `import.meta.env` by a computed name or as a whole; and in the "
    "configuration of the bundler for `define`, `envPrefix`, `loadEnv` and source maps. Comments do not count, strings "
    "do.",
    fix="Read the secret on the server, under a name without a public prefix, and let client code ask the server.",
    see_it_fail="Write `fetch(url, {headers: {key: import.meta.env.VITE_IKHOKHA_API_SECRET}})` into a script of the "
    "client, then run `./inv validate`.",
)
