"""What the headers of a page should say, one row a header, read as browsers read them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from checks.csp.policy import policies
from checks.facts.page_problems import Problem, shown
from checks.facts.pages import Page
from pipeline.verdict import Verdict

HSTS_DAYS = 180

Said = tuple[Verdict, str] | None
"""What a rule says of one page: None when it holds."""


@dataclass(frozen=True)
class Rule:
    """One header. `says` is pure; `fix` is what to send."""

    header: str
    fix: str
    says: Callable[[Page], Said]


def _hsts(page: Page) -> Said:
    """Only over https, and only the first header counts (RFC 6797, 8.1)."""
    if not page.served.url.startswith("https://"):
        return Verdict.FAIL, "served over http, where Strict-Transport-Security has no effect; https is required"
    headers = page.served.all("strict-transport-security")
    if not headers:
        return Verdict.FAIL, "no Strict-Transport-Security header"
    parts = _hsts_parts(headers[0])
    age = (parts or {}).get("max-age", "").strip('"')
    if parts is None or not re.fullmatch(r"[0-9]{1,18}", age):
        return Verdict.FAIL, f"Strict-Transport-Security is {shown(headers[0])}, which browsers do not take"
    days = int(age) // 86400
    if days < HSTS_DAYS:
        return Verdict.FAIL, f"Strict-Transport-Security lasts {days} days, at least {HSTS_DAYS} are required"
    if "includesubdomains" not in parts:
        return Verdict.ADVICE, "Strict-Transport-Security leaves subdomains out"
    return None


def _hsts_parts(value: str) -> dict[str, str] | None:
    """The directives by lower-case name; None when the header is malformed, for one directive twice makes it so."""
    parts: dict[str, str] = {}
    for part in value.split(";"):
        name, _, given = (piece.strip() for piece in part.partition("="))
        if not name:
            continue
        if name.lower() in parts or re.search(r"[\s,]", name):
            return None
        parts[name.lower()] = given
    return parts


def _nosniff(page: Page) -> Said:
    """The first of the values counts (Fetch, "determine nosniff")."""
    values = _listed(page, "x-content-type-options")
    if not values:
        return Verdict.FAIL, "no X-Content-Type-Options header"
    if values[0].lower() != "nosniff":
        return Verdict.FAIL, f"X-Content-Type-Options is {shown(values[0])}; `nosniff` is allowed"
    return None


def _framing(page: Page) -> Said:
    """`frame-ancestors` takes the place of X-Frame-Options; of several values all must say the same (HTML)."""
    if any("frame-ancestors" in policy.directives for policy in policies(page.served.all("content-security-policy"))):
        return None  # whether it lets anybody in is judged by pages.csp_strict
    values = list(dict.fromkeys(value.lower() for value in _listed(page, "x-frame-options")))
    if not values:
        return Verdict.FAIL, "neither X-Frame-Options nor frame-ancestors"
    if len(values) > 1 or values[0] not in ("deny", "sameorigin"):
        return Verdict.FAIL, f"X-Frame-Options is {shown(', '.join(values))}; DENY or SAMEORIGIN is allowed"
    return None


_REFERRER_SAFE = ("no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin")
_REFERRER_KNOWN = (
    *_REFERRER_SAFE,
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "unsafe-url",
)


def _referrer(page: Page) -> Said:
    """The last value that a browser knows counts (Referrer Policy, 8.1); without one its own default does."""
    values = [value.lower() for value in _listed(page, "referrer-policy")]
    known = [value for value in values if value in _REFERRER_KNOWN]
    if not values:
        return Verdict.ADVICE, "no Referrer-Policy header, so it is left to each browser's own default"
    if not known or known[-1] not in _REFERRER_SAFE:
        return Verdict.FAIL, f"Referrer-Policy is {shown(', '.join(values))}; allowed: {', '.join(_REFERRER_SAFE)}"
    return None


def _permissions(page: Page) -> Said:
    values = page.served.all("permissions-policy")
    return None if any(values) else (Verdict.ADVICE, "no Permissions-Policy header")


def _opener(page: Page) -> Said:
    return _one_of(
        page, "Cross-Origin-Opener-Policy", ("same-origin", "same-origin-allow-popups", "noopener-allow-popups")
    )


def _resource(page: Page) -> Said:
    return _one_of(page, "Cross-Origin-Resource-Policy", ("same-origin", "same-site"))


def _one_of(page: Page, header: str, allowed: tuple[str, ...]) -> Said:
    """A structured field: more than one value is none."""
    values = page.served.all(header.lower())
    if not values:
        return Verdict.ADVICE, f"no {header} header"
    if len(values) > 1 or values[0].partition(";")[0].strip() not in allowed:
        return Verdict.ADVICE, f"{header} is {shown(', '.join(values))}; allowed: {', '.join(allowed)}"
    return None


def _kept(page: Page) -> Said:
    """A shared cache may hand one customer's page to another: what a page says of caching must forbid that.

    A cache that must ask each time does not (RFC 9111, 5.2.2): hosts of static sites send that with `public`.
    """
    given = {part.lower().replace(" ", "") for part in _listed(page, "cache-control")}
    said = {part.partition("=")[0] for part in given}
    asks = "max-age=0" in given and said & {"must-revalidate", "proxy-revalidate"}
    if said & {"no-store", "no-cache", "private"} or (asks and said.isdisjoint({"s-maxage", "stale-while-revalidate"})):
        return None
    if "public" in said or "s-maxage" in said:
        return Verdict.FAIL, f"Cache-Control is {shown(', '.join(sorted(said)))}: shared caches may keep the page"
    return Verdict.ADVICE, "Cache-Control forbids no cache to keep the page"


_VERSION = re.compile(r"\d+(\.\d+)+|/\s*v?\d")
_TELLERS = ("server", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version", "x-generator")


def _versions(page: Page) -> Said:
    told = [f"{name}: {value}" for name in _TELLERS for value in page.served.all(name) if _VERSION.search(value)]
    if told:
        return Verdict.FAIL, f"a header tells a version: {shown('; '.join(told))}"
    powered = page.served.all("x-powered-by")
    return (Verdict.ADVICE, f"X-Powered-By tells {shown(', '.join(powered))}") if any(powered) else None


def _listed(page: Page, header: str) -> list[str]:
    """The values of all headers of that name, split at commas."""
    return [part.strip() for value in page.served.all(header) for part in value.split(",") if part.strip()]


RULES = (
    Rule("Strict-Transport-Security", "max-age=31536000; includeSubDomains", _hsts),
    Rule("X-Content-Type-Options", "nosniff", _nosniff),
    Rule("X-Frame-Options", "DENY", _framing),
    Rule("Referrer-Policy", "strict-origin-when-cross-origin", _referrer),
    Rule("Permissions-Policy", "camera=(), geolocation=(), microphone=()", _permissions),
    Rule("Cross-Origin-Opener-Policy", "same-origin", _opener),
    Rule("Cross-Origin-Resource-Policy", "same-origin", _resource),
    Rule("Cache-Control", "no-store", _kept),
    Rule("Server", "", _versions),
)


def problems_of(page: Page) -> Iterator[Problem]:
    for rule in RULES:
        said = rule.says(page)
        if said is not None:
            fix = f"Send `{rule.header}: {rule.fix}`." if rule.fix else _NO_VERSION
            yield Problem(said[0], page.path, said[1], fix)


_NO_VERSION = "Switch the version off where the header is made, e.g. `server_tokens off` in nginx."
