"""The scripts and styles that the payment pages load, as served, and the modules that the scripts import."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from checks.facts.html import hashes, imported
from checks.facts.pages import pages
from checks.facts.web import Served, Visitor, visiting
from pipeline.contracts import World

LARGEST_ASSET = 16 * 1024 * 1024
MOST_ASSETS = 600

_IMPORTS_DEEP = 25
_JAVASCRIPT = re.compile(r"(application|text)/(x-)?(java|ecma|j|live)script")


@dataclass(frozen=True)
class Asset:
    """A script or style as served: `hashes` as in SRI over its bytes, `maps` the source maps it or its headers name.

    `imports` are the absolute addresses of what it imports by a literal, `by` the file that imports this one, '' where
    a page names it. `home`: the service itself serves it, without a detour. `problem` says why it was not read. The
    bytes are not kept, and come from where its redirects end.
    """

    url: str
    home: bool
    status: int
    hashes: tuple[str, ...]
    maps: tuple[str, ...]
    imports: tuple[str, ...] = ()
    by: str = ""
    problem: str = ""


async def assets(world: World) -> Mapping[str, Asset]:
    """Every script and style of the pages by its address, asked for once per run."""
    return await world.facts.once("pages.assets", lambda: _assets(world))


async def _assets(world: World) -> Mapping[str, Asset]:
    documents = [page.document for page in (await pages(world)).pages]
    scripts = [script for document in documents for script in document.scripts]
    styles = [style for document in documents for style in document.styles]
    wanted = {url: "" for url in (*(script.url for script in scripts), *styles) if url}
    for script in scripts:
        for url in script.imports:
            wanted.setdefault(url, script.src)
    known: dict[str, Asset] = {}
    async with visiting(world) as visitor:
        for _ in range(_IMPORTS_DEEP):
            room = max(0, MOST_ASSETS - len(known))
            fresh = list(wanted.items())
            found = await asyncio.gather(*(_asset(visitor, url, by) for url, by in fresh[:room]))
            known |= {asset.url: asset for asset in found if asset is not None}
            known |= {url: _left_out(visitor, url, by) for url, by in fresh[room:]}
            seen = known.keys() | wanted.keys()
            wanted = {url: a.url for a in found if a is not None for url in a.imports if url not in seen}
        known |= {url: _left_out(visitor, url, by) for url, by in wanted.items()}
    return known


def _left_out(visitor: Visitor, url: str, by: str) -> Asset:
    why = f"{url}: {MOST_ASSETS} files and imports {_IMPORTS_DEEP} deep are read at most"
    return Asset(url, visitor.is_home(url), 0, (), (), by=by, problem=why)


async def _asset(visitor: Visitor, url: str, by: str) -> Asset | None:
    """None for an import that no browser runs: text that looks like one leads to no script."""
    answers = await visitor.follow(url, largest=LARGEST_ASSET)
    served, home = answers[-1], all(visitor.is_home(answer.url) for answer in answers)
    runs = bool(_JAVASCRIPT.fullmatch(served.media_type))
    refused = served.status in range(400, 500) and served.status != 429
    if by and (refused or (served.status == 200 and not runs)):
        return None
    found = Asset(url, home, served.status, (), _maps(served), by=by)
    if served.status != 200:
        return replace(found, problem=str(served))
    if served.cut:
        return replace(found, problem=f"{url}: longer than {LARGEST_ASSET // 2**20} MiB")
    hashed = await asyncio.to_thread(hashes, served.body)
    return replace(found, hashes=hashed, imports=imported(served.body, served.url) if runs else ())


_MAP_COMMENT = re.compile(rb"(?://|/\*)[#@]\s{0,9}sourceMappingURL\s{0,9}=\s{0,9}([^\s'\"*]{1,300})")


def _maps(served: Served) -> tuple[str, ...]:
    named = [*served.all("sourcemap"), *served.all("x-sourcemap")]
    named += [found.decode("latin-1") for found in _MAP_COMMENT.findall(served.body)]
    return tuple(dict.fromkeys(named))
