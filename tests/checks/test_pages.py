"""Which pages are judged: the named ones, and those that are found from them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import (
    pages_cookies_safe,
    pages_csp_strict,
    pages_errors_tell_nothing,
    pages_headers_safe,
    pages_no_source_maps,
    pages_scripts_inventoried,
)
from checks.facts.document import read
from checks.facts.html import absolute, hashes, imported
from checks.facts.pages import DEEPEST, MOST_PAGES, pages
from pipeline.contracts import Check, World
from pipeline.facts import Facts
from pipeline.service import PROOF_HEADER
from pipeline.verdict import Verdict
from sandbox.authority import Certificates
from tests.checks.sites import Reply, Site, met
from tests.checks.worlds import ask, world
from tests.servers.loopback import speaking

CHECKED: tuple[Check, ...] = (
    pages_csp_strict.CHECK,
    pages_headers_safe.CHECK,
    pages_cookies_safe.CHECK,
    pages_no_source_maps.CHECK,
)


async def paths(made: World) -> list[str]:
    return sorted((await pages(made)).paths)


async def test_pages_are_found_from_the_named_ones(certificates: Certificates, tmp_path: Path) -> None:
    """A page with a form or a script, at most two links away, is judged too; one of text alone is not."""
    site = Site()
    site.replies["/"] = Reply('<a href="/course">c</a><a href="/about">a</a><a href="https://127.0.0.2/x">far</a>')
    site.replies["/about"] = Reply("<p>text</p><a href='/deep?of=1#top'>d</a>")
    site.replies["/course"] = Reply("<form method=post action=/api/payments></form>")
    site.replies["/deep?of=1"] = Reply("<script>go()</script><a href=/deeper>x</a>")
    site.replies["/deeper"] = Reply("<form></form>")
    async with met(certificates, tmp_path, site) as made:
        assert await paths(made) == ["/", "/cancel", "/course", "/deep?of=1", "/failure", "/success"]
    asked = {request.path for request in site.seen}
    assert "/about" in asked
    assert "/deeper" not in asked, f"more than {DEEPEST} links away"


async def test_a_walk_is_bounded_and_says_what_it_left_out(certificates: Certificates, tmp_path: Path) -> None:
    """Of a shop with a thousand courses 25 pages are read, and every finding says how many links were not followed."""
    site = Site()
    site.replies["/"] = Reply("".join(f"<a href=/course/{n}>c</a>" for n in range(1000)))
    site.missing = Reply("<form></form>")
    async with met(certificates, tmp_path, site) as made:
        assert len(await paths(made)) == MOST_PAGES == len(site.seen)
        for check in CHECKED:
            finding = await ask(check, made)
            assert (finding.verdict, "25 pages (979 further links not followed)" in finding.reason) == (
                Verdict.PASS,
                True,
            ), finding


async def test_links_that_change_something_are_not_followed(certificates: Certificates, tmp_path: Path) -> None:
    """Neither a link that logs out or deletes, nor a file to download, nor a mail address is asked for."""
    site = Site()
    links = ("/logout", "/orders/1/delete", "/sign-out?now", "/terms.pdf", "/pic.jpeg", "mailto:a@b", "javascript:x()")
    site.replies["/"] = Reply("".join(f'<a href="{link}">x</a>' for link in links))
    async with met(certificates, tmp_path, site) as made:
        await pages(made)
    assert sorted(request.path for request in site.seen) == ["/", "/cancel", "/failure", "/success"]
    assert {request.method for request in site.seen} == {"GET"}


async def test_redirects_are_followed_within_the_service(certificates: Certificates, tmp_path: Path) -> None:
    """A named page may move within the service; one that leads to another host was not judged, and says where to."""
    site = Site()
    site.replies["/success"] = Reply(status=302, headers={"Location": "/thanks"})
    site.replies["/thanks"] = Reply("<p>thanks")
    site.replies["/cancel"] = Reply(status=302, headers={"Location": "http://127.0.0.2/elsewhere"})
    async with met(certificates, tmp_path, site) as made:
        found = await pages(made)
    assert {page.path: len(page.moved) for page in found.pages} == {"/": 0, "/failure": 0, "/success": 1}
    assert len(found.unread) == 1
    assert "http://127.0.0.2/elsewhere" in found.unread[0]


async def test_a_redirect_that_never_ends_is_no_page(certificates: Certificates, tmp_path: Path) -> None:
    """A page that always moves on was not read."""
    site = Site()
    site.replies["/success"] = Reply(status=302, headers={"Location": "/success?again"})
    async with met(certificates, tmp_path, site) as made:
        assert any("/success" in what for what in (await pages(made)).unread)


async def test_a_named_page_that_is_not_there_blocks(certificates: Certificates, tmp_path: Path) -> None:
    """Where one of the contract's pages answers 404, no check over pages passes."""
    site = Site()
    del site.replies["/cancel"]
    async with met(certificates, tmp_path, site) as made:
        for check in CHECKED:
            finding = await ask(check, made)
            assert (finding.verdict, "/cancel: answered 404" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_without_any_page_nothing_is_judged(certificates: Certificates, tmp_path: Path) -> None:
    """A service without pages, or one that is down, passes no check over pages."""
    async with met(certificates, tmp_path, Site({})) as made:
        for check in CHECKED:
            assert (await ask(check, made)).verdict is Verdict.INCONCLUSIVE, check.name
    for check in CHECKED:
        finding = await ask(check, world(tmp_path, service="https://127.0.0.1:9"))
        assert (finding.verdict, "127.0.0.1:9" in finding.reason) == (Verdict.FAIL, True), finding


async def test_the_pages_are_asked_for_once(certificates: Certificates, tmp_path: Path) -> None:
    """However many checks look at a page, the service is asked for it once."""
    site = Site()
    async with met(certificates, tmp_path, site) as made:
        for check in CHECKED:
            assert (await ask(check, made)).verdict is Verdict.PASS
    assert sorted(request.path for request in site.seen) == ["/", "/cancel", "/failure", "/success"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: \xff';;,\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=no-such\r\nConnection: close\r\n\r\n<script src=//[>\xff",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1:x/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"hello",
        b"",
    ],
)
async def test_no_answer_is_too_odd_to_judge(tmp_path: Path, answer: bytes) -> None:
    """A service that speaks broken HTTP gets a finding that blocks, and never an exception."""
    async with speaking(answer) as port:
        made = world(tmp_path, service=f"http://127.0.0.1:{port}")
        for check in (*CHECKED[:2], pages_errors_tell_nothing.CHECK, pages_scripts_inventoried.CHECK):
            finding = await ask(check, made)
            odd_but_harmless = check not in CHECKED[:2] and finding.verdict is Verdict.PASS
            assert finding.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) or odd_but_harmless, finding


@pytest.mark.parametrize(
    ("coding", "pack", "word"),
    [
        ("gzip", gzip.compress, ""),
        ("gzip", lambda body: gzip.compress(body)[:-9], "no end"),
        ("gzip", lambda body: gzip.compress(body) + b"more", "something behind it"),
        ("gzip", lambda body: body, "cannot be unpacked"),
        ("br", lambda body: body, "packed as 'br'"),
        ("gzip", lambda body: gzip.compress(body + bytes(64 * 2**20), 9), "what follows its first"),
    ],
)
async def test_packed_pages_are_read_whole_or_not_judged(
    certificates: Certificates, tmp_path: Path, coding: str, pack: Callable[[bytes], bytes], word: str
) -> None:
    """A page may come compressed; one that breaks off, or swells beyond all bounds, does not pass."""
    site = Site()
    site.replies["/"] = Reply(pack(b"<!doctype html><form>"), headers={"Content-Encoding": coding})
    async with met(certificates, tmp_path, site) as made:
        finding = await ask(pages_headers_safe.CHECK, made)
    assert (finding.verdict is Verdict.PASS, word in finding.reason) == (not word, True), finding


async def test_a_page_that_was_turned_away_for_haste_is_not_left_out(
    certificates: Certificates, tmp_path: Path
) -> None:
    """A linked page that a rate limit answers in place of is not judged, so nothing passes."""
    site = Site()
    site.replies |= {"/": Reply("<a href=/pay>"), "/pay": Reply("slower", 429)}
    async with met(certificates, tmp_path, site) as made:
        finding = await ask(pages_headers_safe.CHECK, made)
    assert (finding.verdict, "/pay: answered 429" in finding.reason) == (Verdict.INCONCLUSIVE, True)


async def test_only_the_service_sees_the_run_s_proof(certificates: Certificates, tmp_path: Path) -> None:
    """The token that passes a closed door goes to the service itself and to no host that its pages name."""
    foreign = Site({"/far.js": Reply("far()", type="text/javascript")})
    async with met(certificates, tmp_path, foreign) as elsewhere:
        site = Site()
        address = elsewhere.addresses.service.replace("127.0.0.1", "localhost")
        site.replies["/"] = Reply(f"<script src='{address}/far.js'></script>")
        async with met(certificates, tmp_path, site) as made:
            await ask(pages_no_source_maps.CHECK, made)
            token = made.run.proof_token.reveal()
    assert {request.headers.get(PROOF_HEADER) for request in site.seen} == {token}
    assert [request.headers.get(PROOF_HEADER) for request in foreign.seen] == [None]


async def test_no_cookie_is_kept(certificates: Certificates, tmp_path: Path) -> None:
    """Every page is asked for as a new visitor would ask."""
    site = Site(every={"Set-Cookie": "__Host-session=1; Secure; HttpOnly; SameSite=Lax; Path=/"})
    async with met(certificates, tmp_path, site) as made:
        await pages(made)
        await pages(replace(made, facts=Facts()))
    assert not [request for request in site.seen if "Cookie" in request.headers]


def test_scripts_are_read_as_browsers_read_them() -> None:
    """Elements, handlers, preloaded modules and scripts within SVG count; data in script elements does not."""
    html = """<base href="/shop/"><script src="a.js" integrity="sha384-x"></script>
    <script src="first.js" src="second.js"></script><link rel=modulepreload href=m.js><script type="application/json">{}
    </script><svg><script href="/s.js"></script></svg><script/>late()</script><a href=" java\tscript:x()" onclick="y()">
    <script>one()</script><script>  </script><SCRIPT>two()</SCRIPT><script>cut("""
    document = read(html, "https://shop.test/")
    base = "https://shop.test/shop/"
    loaded = [f"{base}a.js", f"{base}first.js", f"{base}m.js", "https://shop.test/s.js"]
    assert [script.url for script in document.scripts if script.url] == loaded
    inline = [script.hashes for script in document.scripts if not script.url]
    expected = (b"late()", b" java\tscript:x()", b"y()", b"one()", b"two()")
    assert inline == [hashes(text) for text in expected]
    assert not document.problem


@pytest.mark.parametrize(
    "html",
    [
        "<!--><script src=/x.js></script>-->",
        "<!---><script src=/x.js></script>-->",
        "<!-- a --!><script src=/x.js></script> -->",
        "<![CDATA[ > <script src=/x.js></script> ]]>",
        "<script src=/a.js></script x><script src=/x.js></script>",
        "<script src=/a.js></SCRIPT/><script src=/x.js></script>",
        "<style></style\n><script src=/x.js></script>",
        "<script>a('</ script>')</script><script src=/x.js></script>",
        "<script>a('</scripted>')</script><script src=/x.js></script>",
        "<div/><p a=1 a=2 / ><ScRiPt\tSRC = '/x.js'/></sCript>",
        "<?php ?><script src=/x.js></script>",
        "<!doctype html><!unknown><script src=/x.js></script>",
        "<p a='><script src=/x.js></script>",
        "<title><!--</title><script src=/x.js></script>-->",
        "<noscript><!--</noscript><script src=/x.js></script>-->",
        "<textarea><!-- </TEXTAREA ><script src=/x.js></script>",
        "<iframe><!--</iframe><script src=/x.js></script>",
        "<svg><style><script src=/x.js></script></style></svg>",
        "<svg><title><script src=/x.js></script></title></svg>",
        "<svg><title/></svg><script src=/x.js></script>",
        "<svg><![CDATA[ > <!-- ]]><script src=/x.js></script> -->",
        "<iframe srcdoc='<script src=/x.js></script>'></iframe>",
        "<iframe srcdoc='<iframe srcdoc=\"&lt;script src=/x.js>&lt;/script>\">'></iframe>",
    ],
)
def test_no_script_hides_behind_odd_markup(html: str) -> None:
    """Where a browser sees a script, so does the inventory."""
    urls = [script.url for script in read(html, "https://shop.test/").scripts]
    assert "https://shop.test/x.js" in urls


@pytest.mark.parametrize("html", ["<!-- <script src=/x.js></script> -->", "<!-- <script src=/x.js>", "<script src=/x"])
def test_a_script_that_no_browser_runs_is_none(html: str) -> None:
    """What stands in a comment or is cut off is no script."""
    assert read(html, "https://shop.test/").scripts == ()


def test_markup_within_markup_without_end_is_not_read() -> None:
    """A page that hides markup in texts within texts is not taken for one that was read."""
    assert read("<title>" * 50 + "<script src=/x.js></script>", "https://shop.test/").problem
    assert read("<svg><![CDATA[ > ]]>" * 50_000 + "</a " * 500_000, "https://shop.test/").problem
    assert not read("<title>Pay &lt;b> a < b</title><style>a>b{}</style>" * 50, "https://shop.test/").problem


def test_frames_and_refreshes_lead_to_pages() -> None:
    """What a page shows in a frame, or moves on to by itself, is on the way to a payment as well."""
    html = """<iframe src=pay></iframe><object data='/o'></object><frame src=/f>
    <meta http-equiv=Refresh content="0; URL='/later'"><meta http-equiv=refresh content=5>
    <meta name=x content='0;/no'>"""
    base = "https://shop.test/"
    assert read(html, base).links == (f"{base}pay", f"{base}o", f"{base}f", f"{base}later")


def test_an_import_map_names_scripts() -> None:
    """What bare names stand for is imported."""
    mapped = '{"imports": {"vue": "https://cdn.test/vue.js", "a/": "./a/", "b": "/b.js"}}'
    html = f"<script type=importmap>{mapped}</script>"
    found = read(html, "https://shop.test/x/").scripts
    assert found[0].imports == ("https://cdn.test/vue.js", "https://shop.test/x/a/", "https://shop.test/b.js")


def test_forms_and_their_buttons_lead_somewhere() -> None:
    """Where a form goes is made absolute, also where a button says otherwise."""
    document = read("<form action=pay method=POST><button formaction='https://evil.test/x'>", "https://shop.test/a/b")
    assert [form.action for form in document.forms] == ["https://shop.test/a/pay", "https://evil.test/x"]


PIECES = (
    "<script|</script|>|<!--|-->|<![CDATA[|]]>|<![if|<!doctype |<?| src=|'|/>|<form action=|<base href=|<a href=|"
    "<title>|<iframe srcdoc=|"
    + ('http://[|//|:99999999|&#x110000;|&#xd800;|\0|on=|"|javascript:|<link rel=stylesheet href=')
)
HTML = st.lists(st.sampled_from(PIECES.split("|")) | st.text(max_size=8)).map("".join)


@given(HTML)
def test_any_html_is_read(html: str) -> None:
    """Whatever a page holds, it is read without an exception, and every address found is one."""
    document = read(html, "https://shop.test/")
    for address in (*document.links, *document.styles, *(form.action for form in document.forms)):
        assert not address or address.startswith(("https://", "http://"))


@given(
    st.binary()
    | st.lists(st.sampled_from([b"import", b" ", b"(", b"'", b'"./', b"from", b"/a", b"https://[", b"`"])).map(b"".join)
)
def test_any_script_is_searched_for_imports(script: bytes) -> None:
    """Whatever a script holds, what it imports is found without an exception, and every import is an address."""
    assert all(address.startswith(("http:", "https:")) for address in imported(script, "https://shop.test/a.js"))


@given(st.text(), st.text())
def test_any_address_is_resolved_or_left_out(base: str, address: str) -> None:
    """A hostile href is an address or nothing."""
    assert absolute(f"https://shop.test/{base}", address).startswith(("http", ""))
