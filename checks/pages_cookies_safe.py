"""pages.cookies_safe: cookies of the payment pages travel over https alone, and scripts cannot read sessions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from checks.facts.page_problems import Problem, shown, verdict_of
from checks.facts.pages import Pages, pages
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict

_SESSION = re.compile(r"sess|sid$|^sid|auth|token|jwt|login|remember|identity|^id$|user", re.IGNORECASE)
_FOR_SCRIPTS = re.compile(r"csrf|xsrf", re.IGNORECASE)
"""Double-submit tokens are made to be read by the page's own script."""


@dataclass(frozen=True)
class Cookie:
    """One Set-Cookie header as browsers read it (RFC 6265bis); the value is not kept. `attributes` by lower name."""

    page: str
    name: str
    attributes: Mapping[str, str]

    @property
    def session(self) -> bool:
        return bool(_SESSION.search(self.name)) and not _FOR_SCRIPTS.search(self.name)

    @property
    def removed(self) -> bool:
        """Whether it only takes a cookie away: `Max-Age` counts before `Expires`, which is then of 1970."""
        age = self.attributes.get("max-age")
        if age is not None:
            return re.fullmatch(r"0+|-\d+", age, re.ASCII) is not None
        return re.search(r"\b1970\b", self.attributes.get("expires", "")) is not None


@dataclass(frozen=True)
class Cookies:
    cookies: tuple[Cookie, ...]
    pages: tuple[str, ...]
    unread: tuple[str, ...]
    told: str = ""
    asked: str = ""


@or_finding
async def gather(world: World, _params: NoParams) -> Cookies:
    return cookies_of(await pages(world))


def cookies_of(found: Pages) -> Cookies:
    answers = ((page.path, served) for page in found.pages for served in (*page.moved, page.served))
    cookies = (cookie(path, header) for path, served in answers for header in served.all("set-cookie"))
    return Cookies(tuple(cookies), tuple(found.paths), found.unread, found.told, found.asked)


def cookie(page: str, header: str) -> Cookie:
    """Reads a Set-Cookie header. Any text is answered; of an attribute given twice the last counts."""
    pair, *rest = header.split(";")
    name, equals, _ = pair.partition("=")
    attributes = {}
    for part in rest:
        key, _, value = part.partition("=")
        attributes[key.strip().lower()] = value.strip()
    return Cookie(page, name.strip() if equals else "", MappingProxyType(attributes))


def problems_of(cookie: Cookie) -> Iterator[Problem]:
    """What speaks against a cookie. Pure."""
    told, given = f"the cookie {shown(cookie.name, 40)}", cookie.attributes
    if cookie.removed:
        return
    same_site, lowered = given.get("samesite", "").lower(), cookie.name.lower()

    def problem(verdict: Verdict, what: str, fix: str) -> Problem:
        return Problem(verdict, cookie.page, f"{told} {what}", fix)

    if "secure" not in given:
        yield problem(Verdict.FAIL, "has no Secure: it also travels over http", "Set `Secure` on every cookie.")
    if "httponly" not in given and cookie.session:
        yield problem(
            Verdict.FAIL, "looks like a session and has no HttpOnly: scripts can read it", "Set `HttpOnly` on sessions."
        )
    if same_site == "none" and cookie.session:
        yield problem(
            Verdict.FAIL, "looks like a session and has SameSite=None: other sites send it", "Set `SameSite=Lax`."
        )
    elif same_site not in ("lax", "strict", "none"):
        what = f"has SameSite {shown(same_site)}, which browsers do not know" if same_site else "has no SameSite"
        yield problem(Verdict.FAIL if cookie.session else Verdict.ADVICE, what, "Set `SameSite=Lax` or `Strict`.")
    if lowered.startswith("__host-") and (given.get("domain") or given.get("path") != "/" or "secure" not in given):
        yield problem(
            Verdict.FAIL,
            "breaks the rules of __Host- (Secure, Path=/, no Domain), so browsers drop it",
            "Set Secure and Path=/ and no Domain, or use another name.",
        )
    if lowered.startswith("__secure-") and "secure" not in given:
        yield problem(Verdict.FAIL, "breaks the rule of __Secure- (Secure), so browsers drop it", "Set Secure.")
    if not cookie.name:
        yield problem(Verdict.ADVICE, "has no name", "Give it a name.")
    if cookie.session and given.get("domain"):
        yield problem(Verdict.ADVICE, "is a session for all subdomains", "Leave `Domain` out, or name it `__Host-...`.")


@unless_finding
def judge(fact: Cookies, _params: NoParams) -> Finding:
    measured = {"pages": list(fact.pages), "cookies": sorted({cookie.name[:80] for cookie in fact.cookies})}
    problems = [problem for cookie in fact.cookies for problem in problems_of(cookie)]
    fine = (
        f"{counted(len(fact.cookies), 'cookie')} on {fact.told}, each with Secure and SameSite, sessions with HttpOnly"
    )
    fine = fine if fact.cookies else f"no cookie is set on {fact.told}"
    return verdict_of(problems, fact.unread, fine, measured, fact.asked)


CHECK = Check(
    name="pages.cookies_safe",
    promise="Cookies of the payment pages travel over https alone, and no script reads a session.",
    rows=("G3", "G7", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="A session that leaks is a customer's account in somebody else's hands.",
    looks_at="Every Set-Cookie header of the payment pages and of the redirects before them: Secure, HttpOnly for "
    "names that look like sessions, SameSite, the rules of the prefixes __Host- and __Secure-. A header "
    "that only takes a cookie away is not judged. Values are not kept.",
    fix="Set cookies as `__Host-session=...; Secure; HttpOnly; SameSite=Lax; Path=/`.",
    see_it_fail="Set a cookie `session=1` without Secure on a page of the service.",
)
