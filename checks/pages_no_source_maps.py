"""pages.no_source_maps: no stranger can download the sources from which the pages' scripts and styles were built."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass

from checks.facts.assets import MOST_ASSETS, Asset, assets
from checks.facts.html import absolute
from checks.facts.page_problems import Problem, shown, verdict_of
from checks.facts.pages import pages
from checks.facts.web import Served, visiting
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict

_LARGEST = 64 * 1024
_MOST = 2 * MOST_ASSETS
_KEYS = (b'"mappings"', b'"sources"', b'"sections"', b'"sourcesContent"')
_VERSION = re.compile(rb'\{\s{0,99}"version"\s{0,99}:\s{0,99}3\s{0,99},')
"""How most maps begin; of one with many names nothing else may stand in the part that is read."""


@dataclass(frozen=True)
class Map:
    """An address where a source map may lie, and what answered there. `inline` ones are in the file itself."""

    asset: str
    address: str
    status: int
    served: bool
    problem: str = ""
    inline: bool = False


@dataclass(frozen=True)
class Maps:
    """`assets` are the service's own scripts and styles that were read, `unread` what could not be.

    `slowest_ms`: the slowest answer where a source map may lie.
    """

    assets: tuple[str, ...]
    maps: tuple[Map, ...]
    unread: tuple[str, ...]
    told: str
    asked: str = ""
    slowest_ms: int = 0


@or_finding
async def gather(world: World, _params: NoParams) -> Maps:
    found = await pages(world)
    known = await assets(world)
    async with visiting(world) as visitor:
        own = [asset for asset in known.values() if visitor.is_home(asset.url)]
        wanted = list(dict.fromkeys(pair for asset in own for pair in _addresses(asset)))
        home = [(asset, address) for asset, address in wanted if visitor.is_home(address)]
        answers = await asyncio.gather(*(visitor.follow(url, largest=_LARGEST) for _, url in home[:_MOST]))
    maps = [_map(asset, url, got[-1]) for (asset, url), got in zip(home[:_MOST], answers, strict=True)]
    maps += [Map(a.url, "data:", 200, True, inline=True) for a in own if any(_is_data(m) for m in a.maps)]
    over = [f"{len(home) - _MOST} further addresses of source maps"] if len(home) > _MOST else []
    return Maps(
        tuple(asset.url for asset in own if not asset.problem),
        tuple(maps),
        (*found.unread, *(asset.problem for asset in own if asset.problem), *over),
        found.told,
        found.asked,
        max((answer.took_ms for got in answers for answer in got), default=0),
    )


def _addresses(asset: Asset) -> Iterator[tuple[str, str]]:
    """Where the maps of a file may lie: as it says itself, and beside it, where build tools put them."""
    plain = asset.url.partition("?")[0]
    for address in (*(absolute(asset.url, named) for named in asset.maps if not _is_data(named)), f"{plain}.map"):
        if address:
            yield asset.url, address


def _is_data(named: str) -> bool:
    return named.lower().startswith("data:")


def _map(asset: str, address: str, answer: Served) -> Map:
    problem = str(answer) if not answer.status or answer.status == 429 or answer.status >= 500 else ""
    return Map(asset, address, answer.status, is_map(answer), problem)


def is_map(answer: Served) -> bool:
    """Whether a source map was served. A service that answers everything with its first page serves none. Pure."""
    if answer.status != 200:
        return False
    body = answer.body.lstrip(b"\xef\xbb\xbf \t\r\n")
    opened = body.partition(b"\n")[2].lstrip() if body.startswith(b")]}") else body
    begins = opened.startswith(b"{")
    return begins and (any(key in opened for key in _KEYS) or _VERSION.match(opened) is not None)


@unless_finding
def judge(fact: Maps, _params: NoParams) -> Finding:
    measured: dict[str, object] = {
        "files": list(fact.assets),
        "asked": [{"address": one.address, "status": one.status} for one in fact.maps],
    }
    problems = [problem for one in fact.maps if (problem := _problem(one)) is not None]
    fine = f"no source map of {counted(len(fact.assets), 'file')} on {fact.told} is served"
    statuses = ", ".join(map(str, sorted({one.status for one in fact.maps if not one.inline})))
    beside = (
        f"; beside them {counted(len(fact.maps), 'source map')} asked for: {statuses}, at most {fact.slowest_ms} ms"
    )
    return verdict_of(problems, fact.unread, fine, measured, fact.asked + (beside if statuses else ""))


def _problem(one: Map) -> Problem | None:
    if one.inline:
        return Problem(Verdict.FAIL, one.asset, "holds its source map as a data: address; none is allowed", _FIX)
    if one.served:
        what = f"its source map is served at {shown(one.address, 160)}; none may be"
        return Problem(Verdict.FAIL, one.asset, what, _FIX)
    if one.problem:
        what = f"whether its source map is served is unknown: {one.problem}"
        return Problem(Verdict.INCONCLUSIVE, one.asset, what, "Run again once the service answers that address.")
    return None


_FIX = "Build without source maps (Vite: `build.sourcemap: false`), or keep `*.map` out of what is served."

CHECK = Check(
    name="pages.no_source_maps",
    promise="No stranger can download the sources from which the pages' scripts were built.",
    rows=("G3", "G7", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="A source map is the whole source, comments and all, and shows where to attack.",
    looks_at="Every script and style of the service's own that a payment page loads or a script imports: its SourceMap "
    "headers, its sourceMappingURL comments, and the address beside it that ends in `.map`. What answers there is a "
    "finding when it is a source map; a service that answers every address with its first page has none.",
    fix="Build for production without source maps, or upload them to the error tracker and keep them from the release.",
    see_it_fail="Build with `sourcemap: true` and serve the folder as it is.",
)
