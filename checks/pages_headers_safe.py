"""pages.headers_safe: the pages on the way to a payment tell the browser to be careful."""

from __future__ import annotations

from dataclasses import dataclass

from checks.facts.page_headers import RULES, problems_of
from checks.facts.page_problems import verdict_of
from checks.facts.pages import Pages, pages
from checks.facts.recorded import Recorded, change, recorded
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding

_NAME = "pages.headers_safe"


@dataclass(frozen=True)
class Headed:
    """The pages, and what the last passing run saw of their headers."""

    pages: Pages
    recorded: Recorded | None = None


@or_finding
async def gather(world: World, _params: NoParams) -> Headed:
    return Headed(await pages(world), recorded(world, _NAME))


@unless_finding
def judge(fact: Headed, _params: NoParams) -> Finding:
    found = fact.pages
    sent = {rule.header: _sent(found, rule.header.lower()) for rule in RULES}
    changed = change(sent, fact.recorded, "headers")
    problems = [problem for page in found.pages for problem in problems_of(page)]
    fine = f"{found.told} with every header that a browser needs to be careful{changed}"
    measured = {"pages": found.paths, "headers": sent, "changed": dict(changed.keys)}
    return verdict_of(problems, found.unread, fine, measured, found.asked)


def _sent(found: Pages, header: str) -> str:
    """What the pages send under a name, each value once."""
    values = {", ".join(page.served.all(header)) for page in found.pages}
    return " | ".join(sorted(value[:300] or "nothing" for value in values))


CHECK = Check(
    name=_NAME,
    promise="The pages on the way to a payment carry the headers that keep a browser careful.",
    rows=("G3", "G7", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="Without them a browser may guess a type, keep a page, show it in a frame, or go back to http.",
    pci=("6.4.3", "11.6.1"),
    looks_at="The headers of the pages that `contract:` names and of those they link to that hold a form or a script, "
    "read as browsers read them: Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options or "
    "frame-ancestors, Referrer-Policy, Permissions-Policy, the cross-origin policies, Cache-Control, told versions. "
    "What changed since the last passing run is told.",
    fix="Send the header that the finding names, from the service or from the proxy in front, once and on every page.",
    see_it_fail="Serve a page without X-Content-Type-Options, or with `Strict-Transport-Security: max-age=60`.",
)
