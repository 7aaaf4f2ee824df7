"""The scripts of the payment pages, each with what is served, what the inventory says of it and what was built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from checks.csp.policy import policies
from checks.facts.assets import Asset, assets
from checks.facts.built import Built, built
from checks.facts.html import INLINE, ScriptElement, sha384
from checks.facts.pages import Page, pages
from checks.facts.recorded import Recorded, recorded
from pipeline.contracts import World
from pipeline.spec import Script

_SCRIPTS = ("script-src-elem", "script-src", "default-src")

BUILT = "built"
"""The integrity of a script that must equal the file the build made."""


@dataclass(frozen=True)
class Used:
    """A script as the pages use it. `hashes` are of the served bytes, or of the text of an inline one; () where it
    could not be read, and `problem` says why. `pinned` is the page's integrity attribute; pages may differ in it."""

    src: str
    pages: tuple[str, ...]
    line: int
    home: bool
    hashes: tuple[str, ...]
    pinned: tuple[str, ...]
    name: str = ""
    problem: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """How the record names it: its address, or for an inline one its hash."""
        return self.src if self.src != INLINE else f"{INLINE} {sha384(self.hashes)}"


@dataclass(frozen=True)
class Inventory:
    used: tuple[Used, ...]
    entries: tuple[Script, ...]
    built: Built
    pages: tuple[str, ...]
    told: str
    unread: tuple[str, ...]
    questionnaire: str
    release: str
    recorded: Recorded | None
    hosts: tuple[tuple[str, str], ...] = ()
    """Pages, and the foreign hosts that their policies let scripts come from, whoever puts them into the page."""
    asked: str = ""


async def inventory(world: World, check: str) -> Inventory:
    """`check` names the record to compare with."""
    found, served = await pages(world), await assets(world)
    uses: dict[tuple[str, str], list[tuple[str, ScriptElement]]] = {}
    for page in found.pages:
        for script in page.document.scripts:
            key = (INLINE, sha384(script.hashes)) if script.src == INLINE else (script.url or script.src, "")
            uses.setdefault(key, []).append((page.path, script))
    used = [_used(several, served) for several in uses.values()]
    used += [_imported(asset) for asset in served.values() if asset.by and (asset.url, "") not in uses]
    return Inventory(
        tuple(used),
        world.spec.scripts,
        await built(world, (one.name for one in used if _from_the_build(one, world.spec.scripts))),
        tuple(found.paths),
        found.told,
        found.unread,
        world.spec.questionnaire or "",
        str(world.run.release or ""),
        recorded(world, check),
        tuple(dict.fromkeys((page.path, host) for page in found.pages for host in _hosts(page))),
        found.asked,
    )


def _hosts(page: Page) -> Iterator[str]:
    """The hosts of the sources for scripts, in whichever directive they stand; schemes and keywords are no hosts."""
    for policy in policies(page.served.all("content-security-policy")):
        named = next((name for name in _SCRIPTS if name in policy.directives), "")
        for source in policy.directives.get(named, ()):
            host = host_of(source)
            if host and host != host_of(page.served.url):
                yield host


def host_of(source: str) -> str:
    """The host of a source of a policy or of an address, lower case, `*.` kept; '' where there is none."""
    if source.startswith("'") or re.fullmatch(r"[A-Za-z][\w+.-]*:", source):
        return ""
    return re.sub(r"^[A-Za-z][\w+.-]*://|^//", "", source).partition("/")[0].partition(":")[0].lower()


def speaks_of(entry: Script, host: str) -> bool:
    """Whether an entry of the inventory is of a script from that host; `*.` stands for any subdomain."""
    if "//" not in entry.src:
        return False
    mine = host_of(entry.src)
    return mine == host or (host.startswith("*.") and mine.endswith(host[1:]))


def _used(several: Sequence[tuple[str, ScriptElement]], served: Mapping[str, Asset]) -> Used:
    script = several[0][1]
    on = tuple(dict.fromkeys(path for path, _ in several))
    if script.src == INLINE:
        return Used(INLINE, on, script.line, True, script.hashes, ())
    asset = served.get(script.url)
    path = urlsplit(script.url).path
    return Used(
        script.src,
        on,
        script.line,
        asset.home if asset else False,
        asset.hashes if asset else (),
        tuple(dict.fromkeys(each.integrity for _, each in several)),
        PurePosixPath(unquote(path)).name,
        asset.problem if asset else f"{script.src[:120]!a} is no address that a browser loads a script from",
        (script.src, script.url, *((path,) if asset and asset.home else ())),
    )


def _imported(asset: Asset) -> Used:
    """A module that a script imports: no page names it, so nothing pins it but the one that imports it."""
    parts = urlsplit(asset.url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    src = path if asset.home else asset.url
    name = PurePosixPath(unquote(parts.path)).name
    by = f"imported by {urlsplit(asset.by).path or asset.by}"
    return Used(src, (by,), 0, asset.home, asset.hashes, ("",), name, asset.problem, (src, asset.url, parts.path))


def _from_the_build(used: Used, entries: Sequence[Script]) -> bool:
    return used.home and any(entry.integrity == BUILT for entry in matching(used, entries))


def matching(used: Used, entries: Sequence[Script]) -> list[Script]:
    """The entries that speak of a script; those of inline ones by their hash."""
    if used.src == INLINE:
        return [entry for entry in entries if entry.src == INLINE and entry.integrity in used.hashes]
    return [entry for entry in entries if any(fits(entry.src, address) for address in used.addresses)]


def fits(pattern: str, address: str) -> bool:
    """Whether an address is one of a pattern's; `*` stands for any run of characters but `/`."""
    return re.fullmatch("[^/]*".join(re.escape(part) for part in pattern.split("*")), address) is not None
