"""pages.headers_safe, pages.cookies_safe and pages.csp_strict on the same served pages."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from checks import pages_cookies_safe, pages_csp_strict, pages_headers_safe
from checks.facts.html import Document
from checks.facts.page_headers import problems_of as header_problems
from checks.facts.pages import Page, Pages
from checks.facts.web import Served
from checks.pages_cookies_safe import cookie, cookies_of, problems_of
from pipeline.contracts import Check
from pipeline.facts import Facts
from pipeline.spec import NoParams
from pipeline.verdict import Verdict
from sandbox.authority import Certificates
from tests.checks.sites import CSP, GOOD, Reply, Site, met, remembering, trusting
from tests.checks.worlds import ask, world
from tests.servers.nginx import needs_nginx, nginx

FAIL, ADVICE, PASS = Verdict.FAIL, Verdict.ADVICE, Verdict.PASS
Headers = Mapping[str, str | Sequence[str] | None]


async def surprises(
    check: Check, cases: Iterable[tuple[Headers, Verdict, str]], certificates: Certificates, root: Path
) -> list[str]:
    """Serves each case's headers in turn; the cases whose finding is another than expected."""
    site, found = Site(), []
    async with met(certificates, root, site) as made:
        for sent, verdict, word in cases:
            site.every = sent
            finding = await ask(check, replace(made, facts=Facts()))
            if finding.verdict is not verdict or word not in finding.reason:
                found.append(f"{sent}: expected {verdict} {word!r}, found {finding.verdict}: {finding.reason}")
    return found


HEADERS: tuple[tuple[Headers, Verdict, str], ...] = (
    ({}, PASS, "4 pages"),
    ({"Strict-Transport-Security": None}, FAIL, "no Strict-Transport-Security"),
    ({"Strict-Transport-Security": "max-age=15552000; includeSubDomains"}, PASS, ""),
    ({"Strict-Transport-Security": "max-age=15551999; includeSubDomains"}, FAIL, "179 days"),
    ({"Strict-Transport-Security": 'MAX-AGE="31536000" ; INCLUDESUBDOMAINS;;'}, PASS, ""),
    ({"Strict-Transport-Security": "max-age=31536000"}, ADVICE, "leaves subdomains out"),
    ({"Strict-Transport-Security": ["max-age=0", "max-age=31536000; includeSubDomains"]}, FAIL, "lasts 0 days"),
    ({"Strict-Transport-Security": ["max-age=31536000; includeSubDomains", "max-age=0"]}, PASS, ""),
    ({"Strict-Transport-Security": "max-age=1; max-age=31536000"}, FAIL, "browsers do not take"),
    ({"Strict-Transport-Security": "max-age=٣١٥٣٦٠٠٠"}, FAIL, "browsers do not take"),
    ({"Strict-Transport-Security": "includeSubDomains"}, FAIL, "browsers do not take"),
    ({"X-Content-Type-Options": None}, FAIL, "no X-Content-Type-Options"),
    ({"X-Content-Type-Options": "none"}, FAIL, "`nosniff` is allowed"),
    ({"X-Content-Type-Options": ["nosniff", "none"]}, PASS, ""),
    ({"X-Content-Type-Options": "NoSniff, whatever"}, PASS, ""),
    ({"X-Frame-Options": None}, PASS, ""),
    ({"X-Frame-Options": None, "Content-Security-Policy": "default-src 'none'"}, FAIL, "neither X-Frame-Options nor"),
    ({"X-Frame-Options": "ALLOWALL", "Content-Security-Policy": "default-src 'none'"}, FAIL, "X-Frame-Options is"),
    ({"X-Frame-Options": ["DENY", "SAMEORIGIN"], "Content-Security-Policy": None}, FAIL, "X-Frame-Options is"),
    ({"X-Frame-Options": ["DENY", "deny"], "Content-Security-Policy": None}, PASS, ""),
    ({"Referrer-Policy": None}, ADVICE, "no Referrer-Policy"),
    ({"Referrer-Policy": "unsafe-url"}, FAIL, "unsafe-url"),
    ({"Referrer-Policy": "no-referrer-when-downgrade"}, FAIL, "allowed"),
    ({"Referrer-Policy": "unsafe-url, strict-origin-when-cross-origin"}, PASS, ""),
    ({"Referrer-Policy": "strict-origin, future-value"}, PASS, ""),
    ({"Referrer-Policy": "future-value"}, FAIL, "allowed"),
    ({"Permissions-Policy": None}, ADVICE, "no Permissions-Policy"),
    ({"Cross-Origin-Opener-Policy": None}, ADVICE, "no Cross-Origin-Opener-Policy"),
    ({"Cross-Origin-Opener-Policy": "unsafe-none"}, ADVICE, "allowed: same-origin"),
    ({"Cross-Origin-Opener-Policy": 'same-origin; report-to="x"'}, PASS, ""),
    ({"Cross-Origin-Resource-Policy": "cross-origin"}, ADVICE, "allowed: same-origin"),
    ({"Cross-Origin-Resource-Policy": ["same-origin", "same-origin"]}, ADVICE, "allowed: same-origin"),
    ({"Cache-Control": None}, ADVICE, "forbids no cache"),
    ({"Cache-Control": "public, max-age=600"}, FAIL, "shared caches may keep"),
    ({"Cache-Control": "private, max-age=0"}, PASS, ""),
    ({"Cache-Control": "public, max-age=0, must-revalidate"}, PASS, ""),
    ({"Cache-Control": "public, max-age=0, must-revalidate, s-maxage=60"}, FAIL, "shared caches may keep"),
    ({"Server": "nginx/1.25.3"}, FAIL, "tells a version"),
    ({"Server": "nginx"}, PASS, ""),
    ({"X-Powered-By": "PHP/8.1.2"}, FAIL, "tells a version"),
    ({"X-Powered-By": "Express"}, ADVICE, "X-Powered-By tells"),
)


async def test_headers(certificates: Certificates, tmp_path: Path) -> None:
    """Headers are judged as browsers read them: the first HSTS counts, of conflicting values none does."""
    cases = HEADERS
    assert await surprises(pages_headers_safe.CHECK, cases, certificates, tmp_path) == []


async def test_one_careless_page_is_enough(certificates: Certificates, tmp_path: Path) -> None:
    """The page that lacks a header is named, the others are not."""
    site = Site()
    site.replies["/failure"] = Reply(headers={"X-Content-Type-Options": None})
    async with met(certificates, tmp_path, site) as made:
        finding = await ask(pages_headers_safe.CHECK, made)
    assert finding.verdict is FAIL
    assert finding.reason.startswith("/failure: ")
    assert "/success" not in finding.reason
    assert finding.remedy == "Send `X-Content-Type-Options: nosniff`."


COOKIES: tuple[tuple[Sequence[str], Verdict, str], ...] = (
    ((), PASS, "no cookie is set"),
    (("__Host-session=x; Secure; HttpOnly; SameSite=Lax; Path=/",), PASS, "4 cookies"),
    (("theme=dark; Secure; SameSite=Strict",), PASS, ""),
    (("theme=dark; SameSite=Strict",), FAIL, "no Secure"),
    (("session=x; Secure; SameSite=Lax",), FAIL, "no HttpOnly"),
    (("PHPSESSID=x; Secure; HttpOnly",), FAIL, "no SameSite"),
    (("theme=x; Secure",), ADVICE, "no SameSite"),
    (("sid=x; secure; httponly; samesite=none",), FAIL, "SameSite=None"),
    (("sid=x; Secure; HttpOnly; SameSite=Sometimes",), FAIL, "browsers do not know"),
    (("csrftoken=x; Secure; SameSite=Lax",), PASS, ""),
    (("__Host-a=x; Secure; SameSite=Lax",), FAIL, "rules of __Host-"),
    (("__Host-a=x; Secure; SameSite=Lax; Path=/; Domain=shop.test",), FAIL, "rules of __Host-"),
    (("__SECURE-a=x; SameSite=Lax",), FAIL, "rule of __Secure-"),
    (("auth=x; Secure; HttpOnly; SameSite=Lax; Domain=shop.test",), ADVICE, "for all subdomains"),
    (("good=x; Secure; SameSite=Lax", "bad=x"), FAIL, "'bad' has no Secure"),
    (("nameless; Secure; SameSite=Lax",), ADVICE, "has no name"),
)


async def test_cookies(certificates: Certificates, tmp_path: Path) -> None:
    """Cookies are judged by their attributes, sessions more strictly, prefixes by the rules that browsers keep."""
    cases = [({"Set-Cookie": sent}, verdict, word) for sent, verdict, word in COOKIES]
    assert await surprises(pages_cookies_safe.CHECK, cases, certificates, tmp_path) == []


async def test_a_cookie_of_a_redirect_counts_and_its_value_is_not_kept(
    certificates: Certificates, tmp_path: Path
) -> None:
    """What the answer before a page sets is judged too; no value of a cookie is in the finding."""
    site = Site()
    moved = {"Location": "/thanks", "Set-Cookie": "session=zq8-zq8-zq8"}
    site.replies |= {"/success": Reply(status=302, headers=moved), "/thanks": Reply()}
    async with met(certificates, tmp_path, site) as made:
        finding = await ask(pages_cookies_safe.CHECK, made)
    assert finding.verdict is FAIL
    assert "'session'" in finding.reason
    assert "zq8" not in repr(finding)


STRICT = "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
POLICIES: tuple[tuple[Headers, Verdict, str], ...] = (
    ({}, PASS, "4 pages under an enforced"),
    ({"Content-Security-Policy": None}, FAIL, "no Content-Security-Policy header"),
    ({"Content-Security-Policy": ""}, FAIL, "no Content-Security-Policy header"),
    (
        {"Content-Security-Policy": None, "Content-Security-Policy-Report-Only": CSP},
        FAIL,
        "only Content-Security-Policy-Report-Only",
    ),
    ({"Content-Security-Policy": f"default-src 'none'; script-src 'unsafe-inline'; {STRICT}"}, FAIL, "'unsafe-inline'"),
    ({"Content-Security-Policy": f"default-src 'none'; script-src https:; {STRICT}"}, FAIL, "https:"),
    ({"Content-Security-Policy": f"default-src *; {STRICT}"}, FAIL, "should not allow '*'"),
    ({"Content-Security-Policy": f"script-src 'self'; {STRICT}"}, FAIL, "Missing object-src"),
    ({"Content-Security-Policy": f"default-src 'none'; script-src 'unsafe-eval'; {STRICT}"}, ADVICE, "'unsafe-eval'"),
    (
        {"Content-Security-Policy": f"default-src 'none'; script-src https://ajax.googleapis.com; {STRICT}"},
        FAIL,
        "known to host",
    ),
    (
        {"Content-Security-Policy": f"default-src 'none'; script-src https://pay.shop.test; {STRICT}"},
        ADVICE,
        "No bypass found",
    ),
    ({"Content-Security-Policy": f"default-src 'none'; script-src 'nonce-abc'; {STRICT}"}, FAIL, "at least 8"),
    ({"Content-Security-Policy": f"default-src 'none'; script-src self; {STRICT}"}, FAIL, "single-ticks"),
    ({"Content-Security-Policy": f"default-src 'none' script-src; {STRICT}"}, FAIL, "semicolon"),
    ({"Content-Security-Policy": f"default-src 'none'; made-up x; {STRICT}"}, ADVICE, "not a known CSP directive"),
    (
        {"Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors *; form-action 'self'"},
        FAIL,
        "any",
    ),
    ({"Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"}, FAIL, "form-action"),
    ({"Content-Security-Policy": "default-src 'none'; form-action 'none'; frame-ancestors 'none'"}, FAIL, "base-uri"),
    ({"Content-Security-Policy": f"default-src 'none'; img-src https://x:99999; {STRICT}"}, ADVICE, "no source"),
    ({"Content-Security-Policy": f"default-src 'none'; default-src *; {STRICT}"}, ADVICE, "the first counts"),
    # Several policies are all enforced: one alone may close a hole that the others leave.
    ({"Content-Security-Policy": ["default-src 'none'", STRICT]}, PASS, ""),
    ({"Content-Security-Policy": f"default-src 'none', {STRICT}"}, PASS, ""),
    ({"Content-Security-Policy": ["script-src 'unsafe-inline'; object-src 'none'", CSP]}, PASS, ""),
    ({"Content-Security-Policy": ["script-src 'unsafe-inline'", f"script-src *; {STRICT}"]}, FAIL, "'unsafe-inline'"),
    ({"Content-Security-Policy": ["default-src self", CSP]}, FAIL, "single-ticks"),
)


async def test_policies(certificates: Certificates, tmp_path: Path) -> None:
    """A policy that lets foreign scripts run, or lacks what a payment page needs, is refused with its directive."""
    cases = POLICIES
    assert await surprises(pages_csp_strict.CHECK, cases, certificates, tmp_path) == []


async def test_a_policy_in_the_page_is_not_enough(certificates: Certificates, tmp_path: Path) -> None:
    """A policy in a meta element alone is refused, and the finding says that it is weaker."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{CSP}">'
    site = Site(every={"Content-Security-Policy": None})
    site.replies["/"] = Reply(meta)
    async with met(certificates, tmp_path, site) as made:
        finding = await ask(pages_csp_strict.CHECK, made)
    assert finding.verdict is FAIL
    assert "/: the policy is only in a meta element; it is weaker" in finding.reason


def test_a_policy_too_long_to_evaluate_is_no_pass() -> None:
    """A policy beyond what is evaluated is inconclusive, with the number of its characters."""
    long = f"{CSP}; img-src " + " ".join(f"https://h{n}.test" for n in range(2000))
    served = Served("GET", "https://shop.test/", 200, (("content-security-policy", long),))
    finding = pages_csp_strict.judge(pages_csp_strict.evaluated((Page("/", "", served, Document()),), ()), NoParams())
    assert (finding.verdict, "16384 are evaluated at most" in finding.reason) == (Verdict.INCONCLUSIVE, True)


async def test_a_nonce_is_for_one_answer(certificates: Certificates, tmp_path: Path) -> None:
    """A nonce that is the same in two answers fails; one made for each answer passes."""
    fixed = f"default-src 'none'; script-src 'nonce-zq8zq8zq8zq8'; {STRICT}"
    async with met(certificates, tmp_path, Site(every={"Content-Security-Policy": fixed})) as made:
        finding = await ask(pages_csp_strict.CHECK, made)
    assert (finding.verdict, "the nonce is the same in two answers" in finding.reason) == (FAIL, True)

    class Fresh(Site):
        async def answer(self, request: web.Request) -> web.Response:
            nonce = secrets.token_urlsafe(16)
            self.every = {"Content-Security-Policy": f"default-src 'none'; script-src 'nonce-{nonce}'; {STRICT}"}
            return await super().answer(request)

    async with met(certificates, tmp_path, Fresh()) as made:
        assert (await ask(pages_csp_strict.CHECK, made)).verdict is PASS


async def test_headers_that_changed_are_told(certificates: Certificates, tmp_path: Path) -> None:
    """What the pages send otherwise than in the last passing run is told, and a fresh nonce is no change."""
    site = Site()
    async with met(certificates, tmp_path, site) as made:
        for check, header, key in (
            (pages_headers_safe.CHECK, "Referrer-Policy", "Referrer-Policy"),
            (pages_csp_strict.CHECK, "Content-Security-Policy", "/"),
        ):
            first = await ask(check, replace(made, facts=Facts()))
            before = remembering(made, check.name, PASS, **first.evidence)
            again = await ask(check, before)
            assert (again.verdict, "since run" in again.reason) == (PASS, False)
            site.every = {header: "same-origin" if header == "Referrer-Policy" else f"{CSP}; img-src 'self'"}
            other = await ask(check, replace(before, facts=Facts()))
            assert (other.verdict, "changed since run run-0" in other.reason) == (PASS, True), other
            assert key in dict(other.evidence)["changed"]["changed"]  # type: ignore[index]
    nonces = f"default-src 'none'; script-src 'nonce-{'a' * 22}'; {STRICT}", "default-src 'none'; script-src 'NONCE-b'"
    assert {pages_csp_strict.without_nonces(text).count("'nonce-...'") for text in nonces} == {1}


async def test_a_nonce_that_was_seen_once_is_not_known_to_be_fresh(certificates: Certificates, tmp_path: Path) -> None:
    """Where the second look at a page is turned away, whether its nonce is another each time is not known."""

    class Once(Site):
        async def answer(self, request: web.Request) -> web.Response:
            if any(seen.path == request.path for seen in self.seen):
                self.replies[request.path] = Reply("slower", 429, headers={"Content-Security-Policy": None})
            return await super().answer(request)

    policy = f"default-src 'none'; script-src 'nonce-{secrets.token_urlsafe(16)}'; {STRICT}"
    async with met(certificates, tmp_path, Once(every={"Content-Security-Policy": policy})) as made:
        finding = await ask(pages_csp_strict.CHECK, made)
    assert (finding.verdict, "a second look met this" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


@needs_nginx
async def test_nginx_as_it_comes_and_as_it_should_be(certificates: Certificates, tmp_path: Path) -> None:
    """A plain nginx fails for its headers and its policy; with the headers that the findings name it passes."""
    page = tmp_path / "site"
    page.mkdir()
    for name in ("index.html", "success", "failure", "cancel"):
        (page / name).write_text("<!doctype html><title>shop</title>")
    sent = " ".join(f'add_header {name} "{value}" always;' for name, value in GOOD.items())
    tls = f"ssl_certificate {certificates.server}; ssl_certificate_key {certificates.key}; default_type text/html;"
    careful = f"server {{ listen LISTEN_2 ssl; {tls} root {page}; server_tokens off; {sent} }}"
    with nginx(tmp_path, f"server {{ listen LISTEN_1 ssl; {tls} root {page}; }} {careful}") as running:
        plain = trusting(certificates, tmp_path, f"https://127.0.0.1:{running.ports[1]}")
        finding = await ask(pages_headers_safe.CHECK, plain)
        assert finding.verdict is FAIL
        for word in ("tells a version", "no Strict-Transport-Security", "no X-Content-Type-Options"):
            assert word in finding.reason
        assert (await ask(pages_csp_strict.CHECK, plain)).verdict is FAIL
        assert (await ask(pages_cookies_safe.CHECK, plain)).verdict is PASS
        good = trusting(certificates, tmp_path, f"https://127.0.0.1:{running.ports[2]}")
        for check in (pages_headers_safe.CHECK, pages_csp_strict.CHECK, pages_cookies_safe.CHECK):
            assert (await ask(check, good)).verdict is PASS, await ask(check, good)


async def test_http_is_no_way_to_pay(tmp_path: Path) -> None:
    """A page over plain http fails, whatever it promises by Strict-Transport-Security."""
    headers = (("strict-transport-security", "max-age=31536000; includeSubDomains"),)
    page = Page("/", "named", Served("GET", "http://shop.test/", 200, headers), Document())
    failures = [problem.what for problem in header_problems(page) if problem.verdict is FAIL]
    assert any("served over http" in what for what in failures)
    assert (await ask(pages_headers_safe.CHECK, world(tmp_path))).verdict is FAIL


NAMES = st.sampled_from([name.lower() for name in GOOD] + ["server", "x-powered-by", "set-cookie"])
VALUES = st.text(st.characters(max_codepoint=255)) | st.sampled_from(
    ["max-age", "max-age=", "max-age=9" * 30, "=;=;=", ",,,;;;", "nosniff,", "'none' 'none'", "default-src", ";,;,"]
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_any_headers_are_judged(headers: list[tuple[str, str]]) -> None:
    """Whatever bytes stand in headers, doubled or broken, there is a verdict and no exception."""
    page = Page("/", "named", Served("GET", "https://shop.test/", 200, tuple(headers)), Document())
    found = Pages("https://shop.test", (page,), ())
    assert pages_headers_safe.judge(pages_headers_safe.Headed(found), NoParams()).verdict in (PASS, ADVICE, FAIL)
    assert pages_cookies_safe.judge(cookies_of(found), NoParams()).verdict in (PASS, ADVICE, FAIL)


@given(st.text())
def test_any_cookie_is_read(header: str) -> None:
    """Any Set-Cookie header is read, and a cookie that is not Secure never passes, unless it is taken away."""
    read = cookie("/", header)
    assert isinstance(read.attributes, MappingProxyType)
    failed = any(problem.verdict is FAIL for problem in problems_of(read))
    assert failed or read.removed or "secure" in read.attributes


@pytest.mark.parametrize(
    ("header", "removed"),
    [
        ("session=; Path=/; Max-Age=0", True),
        ("session=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT", True),
        ("session=; Max-Age=-1; Expires=Fri, 01 Jan 2027 00:00:00 GMT", True),
        ("session=zq8; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("session=1970", False),
        ("session=zq8; Max-Age=soon", False),
    ],
)
def test_a_cookie_that_is_taken_away_is_none(header: str, removed: bool) -> None:
    """Frameworks clear a cookie without its attributes; that sets none, and nothing else is let through so."""
    assert (list(problems_of(cookie("/", header))) == []) is removed
