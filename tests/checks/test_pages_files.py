"""pages.no_source_maps, pages.errors_tell_nothing and pages.scripts_inventoried, against sites that are wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiohttp import http, web
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
from checks.facts.html import hashes, sha384
from checks.facts.scripts import fits, speaks_of
from checks.facts.telling import told
from pipeline.contracts import World
from pipeline.facts import Facts
from pipeline.spec import Script
from pipeline.verdict import Finding, Verdict
from sandbox.authority import Certificates
from tests.checks.sites import NAMED, Reply, Site, met, remembering, trusting
from tests.checks.worlds import RELEASE, ask, world
from tests.sandbox.shops import Area, sandbox_gateway
from tests.servers.nginx import needs_nginx, nginx

FAIL, ADVICE, PASS, UNKNOWN = Verdict.FAIL, Verdict.ADVICE, Verdict.PASS, Verdict.INCONCLUSIVE
MAP = json.dumps({"version": 3, "sources": ["shop.ts"], "mappings": "AAAA"})


def script(body: str | bytes = "shop()", **headers: str) -> Reply:
    return Reply(body, type="text/javascript", headers=headers)


def with_script(src: str = "/shop.js", body: str = "shop()", **headers: str) -> Site:
    """A site whose first page loads a script of its own."""
    site = Site()
    site.replies |= {"/": Reply(f'<script src="{src}"></script>'), "/shop.js": script(body, **headers)}
    return site


# ---- source maps ---------------------------------------------------------------------------------------------

MAPPED: tuple[tuple[str, Mapping[str, str], Mapping[str, Reply], Verdict, str], ...] = (
    ("shop()", {}, {}, PASS, "1 file on 4 pages"),
    ("shop()", {}, {"/shop.js.map": Reply(MAP, type="application/json")}, FAIL, "/shop.js.map"),
    ("shop()", {}, {"/shop.js.map": Reply(")]}'\n" + MAP, type="text/plain")}, FAIL, "/shop.js.map"),
    ("shop()\n//# sourceMappingURL=maps/a.map", {}, {"/maps/a.map": Reply(MAP)}, FAIL, "/maps/a.map"),
    ("shop()\n//@ sourceMappingURL=maps/a.map", {}, {"/maps/a.map": Reply(MAP)}, FAIL, "/maps/a.map"),
    ("shop()\n//# sourceMappingURL=maps/a.map", {}, {}, PASS, ""),
    ("shop()", {"SourceMap": "/b.map"}, {"/b.map": Reply(MAP)}, FAIL, "/b.map"),
    ("shop()", {"X-SourceMap": "b.map"}, {"/b.map": Reply(MAP)}, FAIL, "/b.map"),
    ("shop()\n//# sourceMappingURL=data:application/json;base64,e30=", {}, {}, FAIL, "data: address"),
    ("shop()", {}, {"/shop.js.map": Reply("<!doctype html>the first page")}, PASS, ""),
    ("shop()", {}, {"/shop.js.map": Reply("{}", type="application/json")}, PASS, ""),
    ("shop()", {}, {"/shop.js.map": Reply("busy", 503)}, UNKNOWN, "is unknown"),
    (
        "shop()",
        {},
        {"/shop.js.map": Reply("", 302, headers={"Location": "/m"}), "/m": Reply(MAP)},
        FAIL,
        "/shop.js.map",
    ),
    ("shop()", {}, {"/shop.js.map": Reply('{"version":3,"names":[' + '"a",' * 40_000)}, FAIL, "/shop.js.map"),
    ("shop()", {}, {"/shop.js": Reply("gone", 404)}, UNKNOWN, "/shop.js: answered 404"),
    ("shop()\n//# sourceMappingURL=https://127.0.0.2/far.map", {}, {}, PASS, ""),
)


async def test_source_maps_are_found(certificates: Certificates, tmp_path: Path) -> None:
    """A map that is named by a comment or a header, or lies beside its script, is found; a first page is no map."""
    surprises = []
    site = Site()
    async with met(certificates, tmp_path, site) as made:
        for body, headers, more, verdict, word in MAPPED:
            site.replies = {**with_script(body=body, **headers).replies, **more}
            finding = await ask(pages_no_source_maps.CHECK, replace(made, facts=Facts()))
            if (finding.verdict, word in finding.reason) != (verdict, True):
                surprises.append(f"{body} {headers} {list(more)}: {finding}")
    assert surprises == []


async def test_styles_have_maps_too(certificates: Certificates, tmp_path: Path) -> None:
    """The map of a style is as much a leak as that of a script."""
    site = Site()
    site.replies["/"] = Reply('<link rel="stylesheet" href="/shop.css">')
    site.replies["/shop.css"] = Reply("a{}/*# sourceMappingURL=shop.css.map */", type="text/css")
    async with met(certificates, tmp_path, site) as made:
        assert (await ask(pages_no_source_maps.CHECK, made)).verdict is PASS
        site.replies["/shop.css.map"] = Reply(MAP)
        finding = await ask(pages_no_source_maps.CHECK, replace(made, facts=Facts()))
    assert (finding.verdict, "shop.css.map" in finding.reason) == (FAIL, True)


async def test_only_the_service_s_own_files_are_asked_for_maps(certificates: Certificates, tmp_path: Path) -> None:
    """A foreign script's map is its owner's business, also where that host does not answer."""
    far = Site({"/far.js": script("far()"), "/far.js.map": Reply(MAP)})
    async with met(certificates, tmp_path, far) as elsewhere:
        address = elsewhere.addresses.service.replace("127.0.0.1", "localhost")
        site = with_script()
        site.replies["/success"] = Reply(f"<script src='{address}/far.js'></script><script src='https://[::1]:9/'>")
        async with met(certificates, tmp_path, site) as made:
            assert (await ask(pages_no_source_maps.CHECK, made)).verdict is PASS
    assert [request.path for request in far.seen] == ["/far.js"]


# ---- errors --------------------------------------------------------------------------------------------------

TELLING: tuple[tuple[str, str], ...] = (
    ('Traceback (most recent call last):\n  File "/srv/shop/app.py", line 3, in pay', "a Python traceback"),
    ("at com.shop.Pay.go(Pay.java:12)", "a Java stack trace"),
    ("TypeError: x\n    at Object.pay (/srv/shop/dist/pay.js:10:5)", "a JavaScript stack trace"),
    ("    at file:///srv/shop/pay.mjs:1:2", "a JavaScript stack trace"),
    ("at System.Web.Pay(Object o)", "a .NET stack trace"),
    ("<b>Fatal error</b>: Uncaught Error in <b>/var/www/pay.php</b> on line <b>3</b>", "a PHP error"),
    ("pay.rb:12:in `go'", "a Ruby stack trace"),
    ("panic: runtime error\n\ngoroutine 1 [running]:", "a Go stack trace"),
    ('{"error":"x","stack":"Error: x"}', "a stack in JSON"),
    ("You're seeing this error because you have <code>DEBUG = True</code>", "a debugger's page"),
    ("You have an error in your SQL syntax near 'x'", "an error of MySQL"),
    ('ERROR: syntax error at or near "x"', "an error of PostgreSQL"),
    ("sqlite3.OperationalError: no such table", "an error of SQLite"),
    ("ORA-01756: quoted string not properly terminated", "an error of a database"),
    ("cannot open /etc/shop/settings.json today", "a path of a file"),
    (r"could not open C:\inetpub\shop\web.config", "a path of a file"),
    ("<center>nginx/1.24.0</center>", "a version of the software"),
    ("Apache Tomcat/9.0.1", "a version of the software"),
)
INNOCENT = (
    "<h1>Not Found</h1>",
    '{"error":"not found"}',
    '<script src="/app/index-4fd.js"></script><link href="/opt/style.css">',
    "<center>nginx</center>",
    "at noon (see our terms: 3:15)",
    "The exception: courses at 12:30 in room 3",
    'fetch("/app/data.json")',
    "version 2 of our courses",
)


@pytest.mark.parametrize(("text", "kind"), TELLING)
def test_what_tells_of_the_inside_is_recognised(text: str, kind: str) -> None:
    """Each kind of error text that frameworks print is recognised by its name."""
    assert kind in told(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_an_honest_error_page_tells_nothing(text: str) -> None:
    """Pages that speak of errors, times and scripts are no false alarm."""
    assert told(text) == ()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's own server tells no version where its HTTP parser answers before the site is asked."""
    monkeypatch.setattr("aiohttp.web_response.SERVER_SOFTWARE", "shop")
    yield


async def errors(made: World) -> Finding:
    return await ask(pages_errors_tell_nothing.CHECK, replace(made, facts=Facts()))


@pytest.mark.usefixtures("quiet")
async def test_errors(certificates: Certificates, tmp_path: Path) -> None:
    """An error that tells, a 5xx for nonsense and a body taken that is no JSON fail; honest refusals pass."""
    site = Site(missing=Reply("not here", 404))
    site.replies["/api/payments"] = Reply('{"error":"no JSON"}', 400, "application/json")
    async with met(certificates, tmp_path, site) as made:
        assert (await errors(made)).verdict is PASS
        sent = [(request.method, body) for request, body in zip(site.seen, site.bodies, strict=True)]
        for body in [body for method, body in sent if method == "POST"]:
            with pytest.raises((ValueError, TypeError)):
                _ = json.loads(body)["reference"]

        site.replies["/api/payments"] = Reply('{"stack":["at pay"]}', 400)
        finding = await errors(made)
        assert (finding.verdict, "a stack in JSON in the body" in finding.reason) == (FAIL, True)

        site.replies["/api/payments"] = Reply("{}", 500)
        finding = await errors(made)
        assert (finding.verdict, "4xx is expected" in finding.reason) == (FAIL, True)

        site.replies["/api/payments"] = Reply("{}", 201)
        finding = await errors(made)
        assert (finding.verdict, "answered 201; 400 or 422" in finding.reason) == (FAIL, True)

        for refusal in (Reply("{}", 429), Reply("{}", 503, headers={"Retry-After": "9"})):
            site.replies["/api/payments"] = refusal
            finding = await errors(made)
            assert (finding.verdict, "the error was not shown" in finding.reason) == (UNKNOWN, True)

        site.replies["/api/payments"] = Reply("{}", 422)
        site.missing = Reply("gone", 404, headers={"Server": "Werkzeug/2.0 Python/3.11"})
        finding = await errors(made)
        assert (finding.verdict, "in the header server" in finding.reason) == (FAIL, True)


async def test_a_parser_s_own_answer_counts(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that shows only where the HTTP parser itself answers is found."""
    monkeypatch.setattr("aiohttp.web_response.SERVER_SOFTWARE", http.SERVER_SOFTWARE)  # the sandbox's shop hides it
    async with met(certificates, tmp_path, Site()) as made:
        finding = await errors(made)
    assert finding.verdict is FAIL
    assert "a method that is not there" in finding.reason


async def test_errors_of_a_service_that_is_down(tmp_path: Path) -> None:
    """Where nobody answers, nothing was told and nothing was proven."""
    assert (await errors(world(tmp_path))).verdict is FAIL


@needs_nginx
async def test_errors_of_nginx(certificates: Certificates, tmp_path: Path) -> None:
    """A plain nginx tells its version on every error page; with `server_tokens off` it tells nothing."""
    tls = f"ssl_certificate {certificates.server}; ssl_certificate_key {certificates.key}; root {tmp_path}/none;"
    quiet = f"server {{ listen LISTEN_2 ssl; {tls} server_tokens off; }}"
    with nginx(tmp_path, f"server {{ listen LISTEN_1 ssl; {tls} }} {quiet}") as running:
        finding = await errors(trusting(certificates, tmp_path, f"https://127.0.0.1:{running.ports[1]}"))
        assert (finding.verdict, "a version of the software in the body" in finding.reason) == (FAIL, True)
        finding = await errors(trusting(certificates, tmp_path, f"https://127.0.0.1:{running.ports[2]}"))
        assert finding.verdict is PASS, finding


@given(
    st.text()
    | st.lists(st.sampled_from(["at ", "/app/", "x" * 300, ".rb:", "(", ":1", "Warning: ", "C:\\"])).map("".join)
)
def test_any_page_is_searched(text: str) -> None:
    """Whatever an answer holds, it is searched to its end."""
    assert isinstance(told(text), tuple)


# ---- scripts -------------------------------------------------------------------------------------------------


def listed(src: str, integrity: str) -> dict[str, str]:
    return {"src": src, "owner": "The shop's team", "reason": "Opens the payment", "integrity": integrity}


def approved(body: str | bytes) -> str:
    return sha384(hashes(body.encode() if isinstance(body, str) else body))


async def scripts(made: World) -> Finding:
    return await ask(pages_scripts_inventoried.CHECK, replace(made, facts=Facts()))


@pytest.mark.parametrize(
    ("site", "entries", "verdict", "word"),
    [
        (Site(), [], PASS, "there is nothing to list"),
        (Site(), [listed("/old.js", "built")], ADVICE, "'/old.js' is used by no page"),
        (with_script(), [], FAIL, "'/shop.js' is not in the inventory"),
        (with_script(), [listed("/shop.js", approved("shop()"))], PASS, "1 script"),
        (with_script(), [listed("/*.js", approved("shop()"))], PASS, "1 script"),
        (with_script(), [listed("/assets/*", approved("shop()"))], FAIL, "not in the inventory"),
        (with_script(), [listed("/shop.js", approved("other()"))], FAIL, f"the inventory allows {approved('other()')}"),
        (
            with_script(),
            [listed("/shop.js", approved("other()")), listed("/*.js", approved("shop()"))],
            PASS,
            "as approved",
        ),
        (with_script(src="/gone.js"), [listed("/gone.js", "built")], UNKNOWN, "answered 404"),
        (with_script(src="javascript:x()"), [listed("javascript:x()", "built")], FAIL, "inline script"),
    ],
)
async def test_scripts_are_held_against_the_inventory(
    certificates: Certificates, tmp_path: Path, site: Site, entries: list[dict[str, str]], verdict: Verdict, word: str
) -> None:
    """An unknown script and one with other bytes fail, one that cannot be read is no pass, an unused entry is told."""
    async with met(certificates, tmp_path, site, {"scripts": entries}) as made:
        finding = await scripts(made)
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_the_lines_to_paste_make_it_pass(certificates: Certificates, tmp_path: Path) -> None:
    """Pasting the lines of the fix into pipeline.yaml, with owner and reason, makes the same pages pass."""
    site = with_script(src="/shop-0123abcdef.js")
    site.replies["/shop-0123abcdef.js"] = script()
    site.replies["/success"] = Reply("<script>inline('once')</script><p onclick='more()'>")
    (tmp_path / "dist" / "deep").mkdir(parents=True)
    (tmp_path / "dist" / "deep" / "shop-0123abcdef.js").write_text("shop()")
    async with met(certificates, tmp_path, site, artifact=tmp_path / "dist") as made:
        finding = await scripts(made)
    assert finding.verdict is FAIL
    lines = [part for part in finding.remedy.split("`") if part.startswith("- {")]
    entries = [entry for line in lines for entry in yaml.safe_load(line)]
    assert [entry["src"] for entry in entries] == ["/shop-*.js", "inline", "inline"]
    async with met(certificates, tmp_path, site, {"scripts": entries}, artifact=tmp_path / "dist") as made:
        assert (await scripts(made)).verdict is PASS


async def test_built_means_the_bytes_that_the_build_made(certificates: Certificates, tmp_path: Path) -> None:
    """`built` holds for the file of the build or of the release at the target, and for nothing else."""
    entries = {"scripts": [listed("/shop.js", "built")]}
    released = tmp_path / "area" / "releases" / RELEASE / "public"
    released.mkdir(parents=True)
    async with met(certificates, tmp_path, with_script(), entries) as made:
        finding = await scripts(made)
        assert (finding.verdict, "no file of its name" in finding.reason) == (FAIL, True)
        (released / "shop.js").write_text("shop()")
        assert (await scripts(made)).verdict is PASS
        (released / "shop.js").write_text("skim()")
        finding = await scripts(made)
        assert (finding.verdict, "differs from the file" in finding.reason) == (FAIL, True)
        (tmp_path / "dist").mkdir()
        (tmp_path / "dist" / "shop.js").write_text("shop()")
        built = replace(made, run=replace(made.run, artifact=tmp_path / "dist"))
        assert (await scripts(built)).verdict is PASS


async def test_a_script_of_another_host_must_be_pinned(certificates: Certificates, tmp_path: Path) -> None:
    """A foreign script needs its hash in the inventory and an integrity attribute that fits, on every page."""
    far = Site({"/far.js": script("far()")})
    async with met(certificates, tmp_path, far) as elsewhere:
        src = elsewhere.addresses.service.replace("127.0.0.1", "localhost") + "/far.js"

        async def judged(attribute: str, integrity: str) -> Finding:
            site = Site()
            site.replies["/"] = Reply(f'<script src="{src}" {attribute} crossorigin="anonymous"></script>')
            async with met(certificates, tmp_path, site, {"scripts": [listed(src, integrity)]}) as made:
                return await scripts(made)

        good = approved("far()")
        assert (await judged(f'integrity="{good}"', good)).verdict is PASS
        for attribute, integrity, word in (
            ("", good, "no integrity attribute"),
            ('integrity="md5-xyz"', good, "no integrity attribute"),
            (f'integrity="{approved("other()")}"', good, "does not fit what is served"),
            (f'integrity="{hashes(b"far()")[0]} {hashes(b"x")[2]}"', good, "does not fit what is served"),
            (f'integrity="{good}"', approved("other()"), "the inventory allows"),
            (f'integrity="{good}"', "built", "comes from another host"),
        ):
            finding = await judged(attribute, integrity)
            assert (finding.verdict, word in finding.reason) == (FAIL, True), finding
            assert finding.remedy


async def test_what_a_script_imports_is_a_script_too(certificates: Certificates, tmp_path: Path) -> None:
    """Modules that scripts import, at once or later, stand in the inventory and are asked for their source maps."""
    site = with_script(body='import{a}from"./one.js";const b=()=>import("/lazy/two.js");a(`from "/not/there.js"`)')
    site.replies["/one.js"] = script('export const a=1;import "./shop.js"')
    site.replies["/lazy/two.js"] = script("export default 2")
    site.replies["/success"] = Reply("<script type=module>import '/three.js'</script>")
    site.replies["/three.js"] = script("3")
    inline = approved("import '/three.js'")
    entries = [listed(f"/{name}.js", approved(site.replies[f"/{name}.js"].body)) for name in ("shop", "one", "three")]
    spec = {"scripts": [*entries, listed("inline", inline)]}
    async with met(certificates, tmp_path, site, spec) as made:
        finding = await scripts(made)
        assert finding.verdict is FAIL
        assert "imported by /shop.js: the script '/lazy/two.js' is not in the inventory" in finding.reason
        assert "one.js" not in finding.reason
        assert "three.js" not in finding.reason
        assert (await ask(pages_no_source_maps.CHECK, made)).verdict is PASS
        site.replies["/lazy/two.js.map"] = Reply(MAP)
        finding = await ask(pages_no_source_maps.CHECK, replace(made, facts=Facts()))
        assert (finding.verdict, "/lazy/two.js.map" in finding.reason) == (FAIL, True)
        del site.replies["/lazy/two.js.map"]
        site.replies["/lazy/two.js"] = Reply("busy", 503)
        assert (await ask(pages_no_source_maps.CHECK, replace(made, facts=Facts()))).verdict is UNKNOWN


async def test_a_script_that_moved_is_the_one_at_the_end_of_its_redirects(
    certificates: Certificates, tmp_path: Path
) -> None:
    """What a browser runs is what is judged, for scripts and imports; one that moves without end is not."""
    site = with_script(body="import './one.js'")
    site.replies["/one.js"] = Reply("", 302, headers={"Location": "/two.js"})
    site.replies["/two.js"] = script("two()")
    entries = [listed("/shop.js", approved("import './one.js'")), listed("/one.js", approved("two()"))]
    async with met(certificates, tmp_path, site, {"scripts": entries}) as made:
        assert (await scripts(made)).verdict is PASS
        site.replies["/two.js"] = script("evil()")
        finding = await scripts(replace(made, facts=Facts()))
        assert (finding.verdict, "'/one.js' is served as" in finding.reason) == (FAIL, True)
        site.replies["/two.js"] = Reply("", 302, headers={"Location": "/one.js"})
        assert (await scripts(replace(made, facts=Facts()))).verdict is UNKNOWN


async def test_a_chain_of_imports_is_bounded(certificates: Certificates, tmp_path: Path) -> None:
    """A script that imports without end is followed a little, and what was not read keeps the check from passing."""

    class Endless(Site):
        async def answer(self, request: web.Request) -> web.Response:
            if request.path.endswith(".js"):
                number = int(request.path.strip("/js."))
                self.replies[request.path] = script(f"import './{number + 1}.js'")
            return await super().answer(request)

    site = Endless()
    site.replies["/"] = Reply("<script src=/1.js></script>")
    async with met(certificates, tmp_path, site, {"scripts": [listed("/*.js", "built")]}) as made:
        finding = await scripts(made)
    assert (finding.verdict, "25 deep are read at most" in finding.evidence["problems"][-1]) == (FAIL, True)  # type: ignore[index]
    assert "/26.js" not in [request.path for request in site.seen]


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        ("script-src 'self' https://js.pay.test", ADVICE),
        ("default-src 'self' https: js.pay.test/v3/", ADVICE),
        ("script-src 'self' https://*.pay.test:443", ADVICE),
        ("script-src 'self' 'nonce-abcdefgh' https: data:", PASS),
        ("script-src 'self'; default-src https://js.pay.test", PASS),
        ("img-src https://js.pay.test", PASS),
        ("script-src 'self' https://127.0.0.1:*", PASS),
    ],
)
async def test_hosts_that_the_policy_lets_in_are_in_the_inventory(
    certificates: Certificates, tmp_path: Path, policy: str, verdict: Verdict
) -> None:
    """A host that scripts may come from and that no entry speaks of is told."""
    async with met(certificates, tmp_path, Site(every={"Content-Security-Policy": policy})) as made:
        finding = await scripts(made)
    assert (finding.verdict, "pay.test" in finding.reason) == (verdict, verdict is ADVICE), finding


@pytest.mark.parametrize(
    ("src", "host", "speaks"),
    [
        ("https://js.pay.test/v3/*.js", "js.pay.test", True),
        ("https://js.pay.test/v3", "*.pay.test", True),
        ("https://js.pay.test:8443/v3", "js.pay.test", True),
        ("https://js.pay.test/v3", "pay.test", False),
        ("https://evilpay.test/v3", "*.pay.test", False),
        ("/js.pay.test/x.js", "js.pay.test", False),
    ],
)
def test_an_entry_speaks_of_a_host(src: str, host: str, speaks: bool) -> None:
    """An entry covers the host of its own address, and no other."""
    assert speaks_of(Script.model_validate(listed(src, "built")), host) is speaks


async def test_what_changed_since_the_last_pass_is_told(certificates: Certificates, tmp_path: Path) -> None:
    """A new release may change a built script, and it is told; within one release the same change is a failure."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "shop.js").write_text("shop()")
    entries = {"scripts": [listed("/shop.js", "built")]}
    before = {"/shop.js": approved("older()"), "/gone.js": approved("gone()")}
    async with met(certificates, tmp_path, with_script(), entries, artifact=tmp_path / "dist") as made:
        first = await scripts(made)
        assert first.evidence["scripts"] == {"/shop.js": approved("shop()")}
        assert first.evidence["changed"] == {}

        same = await scripts(
            remembering(made, "pages.scripts_inventoried", PASS, scripts=first.evidence["scripts"], release=RELEASE)
        )
        assert (same.verdict, "since run" in same.reason) == (PASS, False)

        told_of = await scripts(
            remembering(made, "pages.scripts_inventoried", PASS, scripts=before, release="an-older-release")
        )
        assert told_of.verdict is PASS
        assert told_of.evidence["changed"] == {"added": [], "gone": ["/gone.js"], "changed": ["/shop.js"]}
        assert "since run run-0" in told_of.reason

        within = await scripts(remembering(made, "pages.scripts_inventoried", PASS, scripts=before, release=RELEASE))
        assert (within.verdict, f"changed within release {RELEASE}" in within.reason) == (FAIL, True)

        failed_before = await scripts(
            remembering(made, "pages.scripts_inventoried", FAIL, scripts=before, release=RELEASE)
        )
        assert failed_before.evidence["changed"] == {}


@pytest.mark.parametrize(
    ("questionnaire", "word"), [("SAQ A", "has no 6.4.3 and 11.6.1"), ("SAQ D", "evidence for 6.4.3 and 11.6.1")]
)
async def test_the_questionnaire_is_named(
    certificates: Certificates, tmp_path: Path, questionnaire: str, word: str
) -> None:
    """The finding says what the merchant's questionnaire asks of scripts."""
    async with met(certificates, tmp_path, Site(), {"questionnaire": questionnaire}) as made:
        finding = await scripts(made)
    assert (finding.evidence["questionnaire"], word in finding.reason) == (questionnaire, True)


@pytest.mark.parametrize(
    ("pattern", "address", "fit"),
    [
        ("/assets/*.js", "/assets/shop-1.js", True),
        ("/assets/*.js", "/assets/deep/shop.js", False),
        ("/assets/*.js", "/assets/shop.js?v=1", False),
        ("/a.js", "/axjs", False),
        ("https://js.test/*/x.js", "https://js.test/v3/x.js", True),
        ("*", "inline.js", True),
        ("*", "/x.js", False),
    ],
)
def test_a_star_stops_at_a_slash(pattern: str, address: str, fit: bool) -> None:
    """A `*` of the inventory stands for a part of one path segment, so that it lets no other folder in."""
    assert fits(pattern, address) is fit


@given(st.text(), st.text())
def test_any_pattern_is_compared(pattern: str, address: str) -> None:
    """Whatever stands under `src`, it is text and not an expression; it always fits itself without a star."""
    fits(pattern, address)
    assert fits(pattern.replace("*", ""), pattern.replace("*", ""))


# ---- the shop that ships ---------------------------------------------------------------------------------------


def test_the_sandbox_s_shop_passes_them_all(tmp_path: Path) -> None:
    """The shop that ships passes every check over pages, with the inventory that ships."""
    entries = [listed("/assets/shop-*.js", "built")]
    modules = (
        pages_csp_strict,
        pages_headers_safe,
        pages_cookies_safe,
        pages_no_source_maps,
        pages_scripts_inventoried,
        pages_errors_tell_nothing,
    )
    with sandbox_gateway(tmp_path / "sandbox") as gateway:
        area = Area(tmp_path / "area", gateway)
        release = area.build("release-1")
        with area.running(release) as shop:
            made = world(tmp_path, service=shop.url, trust=gateway.tls, spec={"scripts": entries})
            made = replace(made, run=replace(made.run, artifact=release))

            async def all_of_them() -> list[Finding]:
                return [await ask(module.CHECK, made) for module in modules]

            findings = asyncio.run(all_of_them())
        area.close()
    assert [finding for finding in findings if finding.verdict is not PASS] == []
    assert set(NAMED) < set(findings[1].evidence["pages"])  # type: ignore[call-overload]
