"""What is said of plain http beside https, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.facts.plain_http import Door, Heard, PlainHttp, paths, plain_port
from checks.tls_redirects_to_https import CHECK, Plain, judge, leads_home
from pipeline.contracts import Addresses, World
from pipeline.verdict import Verdict
from tests.checks.worlds import ask, world
from tests.servers.certificates import Mint
from tests.servers.loopback import PAGE, redirect, silent, speaking, status
from tests.servers.nginx import needs_nginx, nginx

HOST = "localhost"


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint.new(tmp_path)


def meeting(folder: Path, port: int) -> World:
    address = f"https://{HOST}:{port}"
    return replace(world(folder), addresses=Addresses(address, address))


@asynccontextmanager
async def service(mint: Mint) -> AsyncIterator[int]:
    """A service that answers https; its port."""
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        yield port


NGINX = """
server {{ listen LISTEN_1 ssl; ssl_certificate {chain}; ssl_certificate_key {key}; return 200 hello; }}
server {{ listen LISTEN_2; {plain} }}
"""
HOME = "https://localhost:PORT_1$request_uri"
PROXIES = {
    "redirects all of it": (f"return 308 {HOME};", Verdict.PASS, "6 redirected to https, 0 turned away"),
    "hangs up": ("return 444;", Verdict.PASS, "0 redirected to https, 6 turned away"),
    "forbids": ("return 403;", Verdict.PASS, "0 redirected to https, 6 turned away"),
    "serves pages": ("return 200 hello;", Verdict.FAIL, "GET / answered 200"),
    "forgets one endpoint": (
        f"location /api/webhooks/ {{ return 405; }} location / {{ return 301 {HOME}; }}",
        Verdict.FAIL,
        ": GET /api/webhooks/ikhokha answered 405; a redirect",
    ),
    "asks for a password": ('add_header WWW-Authenticate "Basic" always; return 401;', Verdict.FAIL, "answered 401"),
    "stays on http": ("return 301 http://localhost:PORT_2/there;", Verdict.FAIL, "GET / is redirected (301) to 'http:"),
    "sends elsewhere": ("return 302 https://example.com/;", Verdict.FAIL, "to 'https://example.com/'"),
    "is in trouble": ("return 503;", Verdict.INCONCLUSIVE, "GET / answered 503"),
    "limits rates": ("return 429;", Verdict.INCONCLUSIVE, "GET / answered 429"),
}


@pytest.mark.usefixtures("two_addresses")
async def test_every_address_of_the_name_is_asked(mint: Mint) -> None:
    """A page that the second of two machines serves without TLS is found, whatever the first one does."""

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        assert f"\r\nhost: {HOST}:".encode() in asked.lower()
        writer.write(PAGE)
        writer.close()

    async with service(mint) as port, speaking(redirect(f"https://{HOST}:{port}/")) as plain:
        assert (await ask(CHECK, meeting(mint.folder, port), port=plain)).verdict is Verdict.PASS
        async with await asyncio.start_server(page, "127.0.0.2", plain):
            finding = await ask(CHECK, meeting(mint.folder, port), port=plain)
    assert (finding.verdict, "GET / at 127.0.0.2 answered 200" in finding.reason) == (Verdict.FAIL, True), finding


@needs_nginx
@pytest.mark.parametrize("proxy", PROXIES)
async def test_every_path_must_be_redirected_or_turned_away(mint: Mint, proxy: str) -> None:
    """A proxy that serves any page or payment endpoint over http fails; what it answers in trouble proves nothing."""
    plain, verdict, says = PROXIES[proxy]
    chain, key = mint.files(mint.leaf(HOST))
    with nginx(mint.folder, NGINX.format(chain=chain, key=key, plain=plain)) as web:
        finding = await ask(CHECK, meeting(mint.folder, web.ports[1]), port=web.ports[2])
    assert finding.verdict is verdict, finding.reason
    assert says in finding.reason


@needs_nginx
async def test_a_port_that_speaks_tls_only_serves_nothing_without(mint: Mint) -> None:
    """Plain http spoken to nginx's https port gets its refusal, and that is a pass."""
    chain, key = mint.files(mint.leaf(HOST))
    with nginx(mint.folder, NGINX.format(chain=chain, key=key, plain="return 200;")) as web:
        finding = await ask(CHECK, meeting(mint.folder, web.ports[1]))
    assert finding.verdict is Verdict.PASS
    assert finding.evidence["asked"] == f"http://{HOST}:{web.ports[1]}"


async def test_a_server_of_another_make_that_speaks_tls_only_passes(mint: Mint) -> None:
    """One that ends the connection in place of refusing passes as well."""
    async with service(mint) as port:
        finding = await ask(CHECK, meeting(mint.folder, port))
    assert finding.verdict is Verdict.PASS


async def test_a_service_that_speaks_http_on_its_https_port_fails(tmp_path: Path) -> None:
    """An address that says https where a page comes without TLS is found out."""
    async with speaking(PAGE) as port:
        finding = await ask(CHECK, meeting(tmp_path, port))
    assert finding.verdict is Verdict.FAIL
    assert "GET / answered 200" in finding.reason
    assert "return 308 https://" in finding.remedy


async def test_a_closed_port_passes(mint: Mint) -> None:
    """Where nobody listens for http, nothing is served over it."""
    async with silent() as closed:
        pass
    async with service(mint) as port:
        finding = await ask(CHECK, meeting(mint.folder, port), port=closed)
    assert finding.verdict is Verdict.PASS
    assert "nobody listens there" in finding.reason


async def test_a_port_that_says_nothing_is_not_a_pass(mint: Mint) -> None:
    """A server that accepts and stays silent is inconclusive once the time limit is over."""
    async with service(mint) as port, silent() as mute:
        finding = await ask(CHECK, meeting(mint.folder, port), port=mute, within="200 ms")
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "gave no answer within 0.2 s" in finding.reason


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        (redirect("https://localhost:1/"), Verdict.FAIL),
        (redirect("//localhost/"), Verdict.FAIL),
        (redirect(""), Verdict.FAIL),
        (redirect("https://[", 308), Verdict.FAIL),
        (status(304), Verdict.FAIL),
        (status(404), Verdict.PASS),
        (status(403).replace(b"\r\n", b"\r\nCf-Mitigated: challenge\r\n", 1), Verdict.INCONCLUSIVE),
        (b"SSH-2.0-OpenSSH\r\n", Verdict.PASS),
        (b"HTTP/1.1 200 OK\r\nno header at all\r\n\r\n<p>hello", Verdict.INCONCLUSIVE),
    ],
)
async def test_odd_answers_are_judged_too(mint: Mint, says: bytes, verdict: Verdict) -> None:
    """A redirect to nowhere is none, another protocol serves no page, and a damaged answer proves nothing."""
    async with service(mint) as port, speaking(says) as plain:
        finding = await ask(CHECK, meeting(mint.folder, port), port=plain)
    assert finding.verdict is verdict, finding.reason


async def test_a_service_that_is_away_is_not_a_pass(tmp_path: Path) -> None:
    """A closed port 80 says nothing good when https is closed too."""
    async with silent() as closed:
        pass
    finding = await ask(CHECK, meeting(tmp_path, closed))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert f"https://{HOST}:{closed}: nothing answers there" in finding.reason


@pytest.mark.parametrize("address", ["http://localhost", "https://a..b", "nonsense"])
async def test_an_address_that_leads_nowhere_is_not_a_pass(tmp_path: Path, address: str) -> None:
    """Names that cannot be one and addresses without TLS are inconclusive."""
    finding = await ask(CHECK, replace(world(tmp_path), addresses=Addresses(address, address)))
    assert finding.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("doors", "verdict"),
    [
        ({}, Verdict.INCONCLUSIVE),
        ({"192.0.2.1": Door.REFUSED}, Verdict.PASS),
        ({"192.0.2.1": Door.SILENT}, Verdict.INCONCLUSIVE),
        ({"192.0.2.1": Door.NO_ROUTE}, Verdict.INCONCLUSIVE),
        ({"192.0.2.1": Door.REFUSED, "2001:db8::1": Door.NO_ROUTE}, Verdict.PASS),
        ({"192.0.2.1": Door.REFUSED, "2001:db8::1": Door.SILENT}, Verdict.INCONCLUSIVE),
    ],
)
def test_every_address_of_the_host_counts(doors: dict[str, Door], verdict: Verdict) -> None:
    """One address that gives no answer keeps the finding open; a family this machine does not speak does not."""
    assert judge(PlainHttp(HOST, 443, 80, doors, ()), Plain()).verdict is verdict


def test_a_silent_address_does_not_hide_a_page() -> None:
    """A page served at one address fails, whatever the others do."""
    doors = {"192.0.2.1": Door.OPEN, "192.0.2.2": Door.SILENT}
    fact = PlainHttp(HOST, 443, 80, doors, (Heard("/", 200, "", "answered 200"),))
    assert judge(fact, Plain()).verdict is Verdict.FAIL


def test_every_endpoint_of_a_payment_is_asked_for(tmp_path: Path) -> None:
    """Pages, creation, webhook and the pages a customer comes back to, once each, on port 80 beside 443."""
    asked = paths(world(tmp_path))
    assert set(asked) >= {"/", "/api/payments", "/api/webhooks/ikhokha", "/success", "/failure", "/cancel"}
    assert len(set(asked)) == len(asked)
    assert (plain_port(443), plain_port(8443)) == (80, 8443)


LOCATIONS = [
    ("https://app.example.com/", True),
    ("https://APP.example.com:443/path?query", True),
    ("https://app.example.com./", True),
    ("http://app.example.com/", False),
    ("https://app.example.com:8443/", False),
    ("https://app.example.com.evil.org/", False),
    ("https://app.example.com@evil.org/", False),
    ("https://who@app.example.com/", False),
    ("https://evil.org\\@app.example.com/", False),
    ("https://www.app.example.com/", False),
    ("/path", False),
    ("", False),
]


@pytest.mark.parametrize(("location", "home"), LOCATIONS)
def test_a_redirect_leads_to_the_same_host_or_elsewhere(location: str, home: bool) -> None:
    """Only https on the same host and port is home."""
    assert leads_home(location, "app.example.com", 443) is home


@given(st.text() | st.text(alphabet="https:/[]@\\.%:appexampl123").map("https://".__add__))
def test_no_location_breaks_the_judgement(location: str) -> None:
    """A server may send anything as Location; it leads home or it does not."""
    assert leads_home(location, "app.example.com", 443) in (True, False)
