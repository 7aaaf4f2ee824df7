"""The pages on the way to a payment, as served.

A page counts when `contract:` names it, or when it is found within two same-origin links of a named one and holds a
form or a script: a shop's own script may open a payment from any page that loads it, and so may a foreign one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from checks.facts.document import read
from checks.facts.html import Document
from checks.facts.web import Served, Visitor, visiting
from checks.judging import Unjudged, counted
from pipeline.contracts import World
from pipeline.errors import ServiceUnreachable
from pipeline.verdict import inconclusive

MOST_PAGES = 25
DEEPEST = 2
LARGEST_PAGE = 2 * 1024 * 1024

_WITHIN_S = 30.0
_REDIRECTS = 3
_HTML = ("text/html", "application/xhtml+xml")
_NO_PAGE = re.compile(r"\.(?!html?$|php$|aspx?$|jsp$)[a-z0-9]{1,5}$", re.IGNORECASE)
_CHANGES = re.compile(r"log-?out|sign-?out|delete|remove|unsubscribe|revoke", re.IGNORECASE)
"""Links that a careless service may act upon; they are not followed."""


@dataclass(frozen=True)
class Page:
    """One page. `path` is how findings name it; `why` says why it counts; `moved` are the answers before it."""

    path: str
    why: str
    served: Served
    document: Document
    moved: tuple[Served, ...] = ()


@dataclass(frozen=True)
class Pages:
    """`unread` says, for each page that should have been judged and was not, why; so nothing passes.

    `beyond` are links that were not followed, for `MOST_PAGES` had been read: it is told, and no more than that, as
    following is a help and naming is the promise.
    """

    service: str
    pages: tuple[Page, ...]
    unread: tuple[str, ...]
    beyond: int = 0

    @property
    def paths(self) -> list[str]:
        return [page.path for page in self.pages]

    @property
    def told(self) -> str:
        """How many pages a judgement is about."""
        beyond = f" ({counted(self.beyond, 'further link')} not followed)" if self.beyond else ""
        return f"{counted(len(self.pages), 'page')}{beyond}"

    @property
    def asked(self) -> str:
        """What was sent, what came back, and in how many ms."""
        statuses = ", ".join(map(str, sorted({page.served.status for page in self.pages})))
        slowest_ms = max((page.served.took_ms for page in self.pages), default=0)
        return f"{counted(len(self.pages), 'GET')} answered {statuses}, the slowest in {slowest_ms} ms"


async def pages(world: World) -> Pages:
    """Once per run. Raises ServiceUnreachable when nothing answers at all, Unjudged when there is no page."""
    found = await world.facts.once("pages", lambda: _walk(world))
    if not found.pages:
        raise Unjudged(
            inconclusive(
                f"no page of the payment path could be read: {'; '.join(found.unread)[:600]}",
                "Set `contract.pages` and the contract's success, failure and cancel pages to what the service serves.",
            )
        )
    return found


async def _walk(world: World) -> Pages:
    async with visiting(world) as visitor:
        walk = _Walk(world, visitor)
        try:
            async with asyncio.timeout(_WITHIN_S):
                await walk.go()
        except TimeoutError:
            walk.unread.append(f"the pages took more than {_WITHIN_S:g} s; those not read by then are not judged")
    if not walk.pages and walk.silent:
        raise ServiceUnreachable(walk.unread[0], "Look at the service's own log; `./inv status` shows what runs.")
    return Pages(walk.base, tuple(walk.pages.values()), tuple(walk.unread), walk.beyond)


class _Walk:
    def __init__(self, world: World, visitor: Visitor) -> None:
        contract = world.spec.contract
        self.base = world.addresses.service.rstrip("/")
        self._named = tuple(
            dict.fromkeys((*contract.pages, contract.success_page, contract.failure_page, contract.cancel_page))
        )
        self._visitor = visitor
        self.pages: dict[str, Page] = {}
        self.unread: list[str] = []
        self.silent = True
        self._seen: set[str] = set()
        self._beyond: set[str] = set()

    async def go(self) -> None:
        links = await self._visit([self.base + path for path in self._named], "named by the contract")
        for depth in range(1, DEEPEST + 1):
            fresh = [url for url in dict.fromkeys(links) if self._worth(url)]
            room = MOST_PAGES - len(self._seen)
            self._beyond.update(fresh[max(0, room) :])
            links = await self._visit(fresh[: max(0, room)], f"{depth} links away, and it holds a form or a script")

    @property
    def beyond(self) -> int:
        return len(self._beyond - self._seen)

    def _worth(self, url: str) -> bool:
        path = urlsplit(url).path
        return (
            url not in self._seen
            and self._visitor.is_home(url)
            and not _NO_PAGE.search(path)
            and not _CHANGES.search(url)
        )

    async def _visit(self, urls: Iterable[str], why: str) -> list[str]:
        """Reads pages side by side; returns what they link to."""
        fresh = [url for url in dict.fromkeys(urls) if url not in self._seen]
        self._seen.update(fresh)
        links: list[str] = []
        for page in await asyncio.gather(*(self._read(url, why) for url in fresh)):
            self.silent &= page.served.status == 0
            links += page.document.links
            self._sort(page)
        return links

    def _sort(self, page: Page) -> None:
        named = page.path in self._named
        if page.served.media_type in _HTML and 200 <= page.served.status < 300:
            holds = page.document.scripts or page.document.forms
            if named or holds:
                self.pages.setdefault(page.served.url, page)
                self._doubt(page)
        elif named or page.served.status in (0, 429) or page.served.status >= 500:
            leads = f" leads to {page.served.target[:120]}," if page.served.target else ""
            kind = page.served.media_type or "no type"
            self.unread.append(f"{page.served},{leads} {kind}; a page of the service is expected")

    def _doubt(self, page: Page) -> None:
        if page.served.cut:
            self.unread.append(f"{page.path}: what follows its first {LARGEST_PAGE} bytes")
        if page.document.problem:
            self.unread.append(f"{page.path}: {page.document.problem}")

    async def _read(self, url: str, why: str) -> Page:
        moved: list[Served] = []
        served = await self._visitor.ask(url, largest=LARGEST_PAGE)
        while len(moved) < _REDIRECTS and (target := served.target) and self._visitor.is_home(target):
            moved.append(served)
            self._seen.add(target)
            served = await self._visitor.ask(target, largest=LARGEST_PAGE)
        document = Document()
        if served.media_type in _HTML:
            document = await asyncio.to_thread(read, _text(served), served.url)
        return Page(_path(url, self.base), why, served, document, tuple(moved))


def _path(url: str, base: str) -> str:
    return url.removeprefix(base) or "/"


def _text(served: Served) -> str:
    match = re.search(r"charset=[\"']?([\w-]+)", next(iter(served.all("content-type")), ""), re.IGNORECASE)
    try:
        return served.body.decode(match[1] if match else "utf-8", "replace")
    except (LookupError, UnicodeError):
        return served.body.decode("utf-8", "replace")
