"""What is said of certificates and protocols, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.facts.certificates import Unreadable, read
from checks.facts.tls import Asked, Endpoint, endpoint
from checks.facts.tls_handshake import Verified, accepting, shake
from checks.facts.tls_hello import OLD_VERSIONS, answer
from checks.tls_certificate_lasts import CHECK as LASTS
from checks.tls_certificate_valid import CHECK as VALID
from checks.tls_certificate_valid import mistakes
from checks.tls_protocols_current import CHECK as PROTOCOLS
from pipeline.contracts import Addresses, Check, World
from pipeline.verdict import Finding, Verdict
from tests.checks.worlds import ask, at, world
from tests.servers.certificates import YEAR, Issued, Mint, issue, self_signed, signed_with_sha1, write
from tests.servers.loopback import PAGE, silent, speaking
from tests.servers.nginx import needs_nginx, nginx

HOST = "localhost"
DAYS = timedelta(days=1)
TLS_CHECKS = pytest.mark.parametrize("check", [VALID, LASTS, PROTOCOLS], ids=lambda check: check.name)


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint.new(tmp_path)


def meeting(mint: Mint, port: int, *, host: str = HOST, gateway: int | None = None) -> World:
    """The world in which `port` is the service and the mint's root is trusted."""
    addresses = Addresses(f"https://{host}:{port}", f"https://{host}:{gateway or port}", mint.ca_file)
    return replace(world(mint.folder), addresses=addresses)


async def served(check: Check, mint: Mint, issued: Issued, **params: object) -> Finding:
    """What the check says of a server that presents this."""
    async with speaking(PAGE, tls=mint.server(issued)) as port:
        return await ask(check, meeting(mint, port), **params)


@contextlib.asynccontextmanager
async def on_two(first: ssl.SSLContext, second: ssl.SSLContext) -> AsyncIterator[int]:
    """Two servers on one port of two addresses; the port."""

    async def page(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0, ssl=first) as one:
        port = one.sockets[0].getsockname()[1]
        async with await asyncio.start_server(page, "127.0.0.2", port, ssl=second):
            yield port


@pytest.mark.usefixtures("two_addresses")
async def test_every_address_of_the_service_is_judged(mint: Mint) -> None:
    """Where one of two machines still has the old certificate it is found out, whichever answers first."""
    good, old = mint.server(mint.leaf(HOST)), mint.server(mint.leaf(HOST, starts=-90 * DAYS, ends=-DAYS))
    for servers, where in (((good, old), "127.0.0.2"), ((old, good), "127.0.0.1")):
        async with on_two(*servers) as port:
            for check in (VALID, LASTS):
                finding = await ask(check, meeting(mint, port))
                assert (finding.verdict, f"at {where}: " in finding.reason) == (Verdict.FAIL, True), finding
            assert (await ask(PROTOCOLS, meeting(mint, port))).verdict is Verdict.PASS
    async with on_two(good, good) as port:
        assert (await ask(VALID, meeting(mint, port))).verdict is Verdict.PASS


@pytest.mark.usefixtures("two_addresses")
async def test_an_address_that_nobody_is_at_is_left_out(mint: Mint) -> None:
    """Browsers go on to the next address, so one without a server keeps nobody out; one that speaks no TLS does."""
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        assert (await ask(VALID, meeting(mint, port))).verdict is Verdict.PASS
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", port):
            for check in (VALID, LASTS, PROTOCOLS):
                assert (await ask(check, meeting(mint, port))).verdict is Verdict.INCONCLUSIVE


# ---- certificates: valid -----------------------------------------------------------------------------------


async def test_a_good_certificate_with_its_chain_passes_and_is_on_the_inventory(mint: Mint) -> None:
    """A trusted chain for the host passes; the finding lists what was sent with digest, dates, key and hash."""
    leaf = mint.leaf(HOST)
    finding = await served(VALID, mint, leaf)
    assert finding.verdict is Verdict.PASS, finding
    first, second = finding.evidence["certificates"]
    assert first["subject"] == f"CN={HOST}" and second["subject"] == "CN=Mint Intermediate"
    assert (first["key"], first["signature_hash"], first["names"]) == ("EC 256", "sha256", [HOST])
    assert first["not_after"] == leaf.certificate.not_valid_after_utc.isoformat()
    assert len(first["sha256"]) == 64


def _nameless(mint: Mint) -> Issued:
    return replace(mint.leaf(HOST), certificate=issue(HOST, mint.between).certificate)


def _strange(mint: Mint) -> Issued:
    strange = Mint.new(mint.folder, "Strange")
    return replace(strange.leaf(HOST), after=(strange.between.certificate, strange.root.certificate))


def _sha1(mint: Mint) -> Issued:
    between = issue("Old Intermediate", mint.root, key="rsa2048", authority=True, owner="old")
    leaf = issue(HOST, between, names=[HOST])
    return replace(signed_with_sha1(leaf, between), after=(between.certificate,))


def _by_no_authority(mint: Mint) -> Issued:
    neighbour = mint.leaf("neighbour.example.com")
    return replace(issue(HOST, neighbour, names=[HOST]), after=(neighbour.certificate, *neighbour.after))


BAD: dict[str, tuple[Callable[[Mint], Issued], str]] = {
    "expired": (lambda mint: mint.leaf(HOST, starts=-90 * DAYS, ends=-DAYS), "CN=localhost expired at"),
    "not yet valid": (lambda mint: mint.leaf(HOST, starts=DAYS, ends=90 * DAYS), "not yet valid; it begins at"),
    "wrong host": (
        lambda mint: mint.leaf("shop.example.com", "*.example.org"),
        "is not for localhost; it names shop.example.com, *.example.org",
    ),
    "no name": (_nameless, "it names no name at all"),
    "self-signed": (lambda _: self_signed(HOST), "self-signed (CN=localhost)"),
    "missing intermediate": (
        lambda mint: mint.leaf(HOST).alone(),
        "CN=Mint Intermediate, the issuer of CN=localhost, was not sent",
    ),
    "strange authority": (_strange, "CN=Strange Root, which is not trusted here"),
    "signed by no authority": (_by_no_authority, "clients refuse its chain: invalid CA certificate"),
    "SHA-1": (_sha1, "CN=localhost is signed with SHA1"),
    "RSA 1024": (lambda mint: mint.leaf(HOST, key="rsa1024"), "a key of RSA 1024"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_certificate_fails_by_its_name(mint: Mint, case: str) -> None:
    """Each way to be wrong is refused, and the finding says which it is and nothing else."""
    make, says = BAD[case]
    finding = await served(VALID, mint, make(mint))
    assert finding.verdict is Verdict.FAIL
    assert says in finding.reason
    assert len(finding.remedy.splitlines()) == 1


async def test_two_mistakes_are_both_told(mint: Mint) -> None:
    """A client stops at the first mistake; the finding names every one."""
    finding = await served(VALID, mint, mint.leaf("shop.example.com", starts=-90 * DAYS, ends=-DAYS).alone())
    assert finding.verdict is Verdict.FAIL
    for said in ("was not sent", "is not for localhost", "expired at"):
        assert said in finding.reason


async def test_an_intermediate_that_only_this_machine_knows_is_missing_all_the_same(mint: Mint) -> None:
    """Where the client's own store completes the chain, the server still has to send it."""
    both = write(mint.folder / "both.pem", [mint.root.certificate, mint.between.certificate])
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST).alone())) as port:
        there = meeting(mint, port)
        finding = await ask(VALID, replace(there, addresses=replace(there.addresses, ca_file=both)))
    assert finding.verdict is Verdict.FAIL
    assert "the intermediate certificate CN=Mint Intermediate is missing" in finding.reason


async def test_what_only_a_client_sees_fails_in_its_words(mint: Mint) -> None:
    """A mistake that none of our own rules names, here a weak root that is never sent, still fails."""
    root = issue("Weak Root", None, key="rsa1024", authority=True, owner="weak")
    async with speaking(PAGE, tls=mint.server(issue(HOST, root, names=[HOST]))) as port:
        there = meeting(mint, port)
        weak = replace(there.addresses, ca_file=write(mint.folder / "weak.pem", [root.certificate]))
        finding = await ask(VALID, replace(there, addresses=weak))
    assert finding.verdict is Verdict.FAIL
    assert "clients refuse it: CA certificate key too weak" in finding.reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_addresses_are_matched_as_names_are(mint: Mint, host: str) -> None:
    """A service that is reached by its address needs a certificate for that address."""
    for names, verdict in (((host,), Verdict.PASS), (("192.0.2.1", "example.com"), Verdict.FAIL)):
        async with speaking(PAGE, tls=mint.server(mint.leaf(*names))) as port:
            assert (await ask(VALID, meeting(mint, port, host=host))).verdict is verdict


async def test_a_bad_certificate_of_the_gateway_is_advice(mint: Mint) -> None:
    """The gateway's certificate is not ours to mend, but the operator is told."""
    good, bad = mint.server(mint.leaf(HOST)), mint.server(mint.leaf("other.example.com"))
    async with speaking(PAGE, tls=good) as service, speaking(PAGE, tls=bad) as gateway:
        finding = await ask(VALID, meeting(mint, service, gateway=gateway))
    assert finding.verdict is Verdict.ADVICE
    assert "the gateway's" in finding.reason and "it names other.example.com" in finding.reason


async def test_a_gateway_that_is_away_does_not_stop_a_deploy_here(mint: Mint) -> None:
    """Whether the gateway answers is another check's business; this one says that it was not looked at."""
    async with silent() as closed:
        pass
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        finding = await ask(VALID, meeting(mint, port, gateway=closed))
    assert finding.verdict is Verdict.PASS
    assert "no TLS handshake came about: the connection was refused" in str(finding.evidence["gateway"])


async def test_handshakes_are_made_once_for_all_checks(mint: Mint) -> None:
    """What the first check observed is what the others judge, even when the server has gone meanwhile."""
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        there = meeting(mint, port)
        first = await ask(VALID, there)
    assert [first.verdict, *[(await ask(check, there)).verdict for check in (LASTS, PROTOCOLS)]] == [Verdict.PASS] * 3


WEAK: dict[str, tuple[dict[str, object], bool]] = {
    "EC 192": ({"key": "EC", "key_bits": 192}, True),
    "EC 256": ({"key": "EC", "key_bits": 256}, False),
    "RSA 2047": ({"key": "RSA", "key_bits": 2047}, True),
    "RSA 2048": ({"key": "RSA", "key_bits": 2048}, False),
    "DSA 2048": ({"key": "DSA", "key_bits": 2048}, True),
    "Ed25519": ({"key": "Ed25519", "key_bits": 0, "hashed": ""}, False),
    "MD5": ({"hashed": "md5"}, True),
    "SHA-512": ({"hashed": "sha512"}, False),
    "a root's own SHA-1": ({"hashed": "sha1", "self_signed": True}, False),
}


@pytest.mark.parametrize("case", WEAK)
def test_keys_and_hashes_are_weak_by_a_table(mint: Mint, case: str) -> None:
    """Keys that few servers can still present are judged like any other; a root's signature of itself is not judged."""
    members, weak = WEAK[case]
    leaf, above = (read(c.public_bytes(Encoding.DER)) for c in (mint.leaf(HOST).certificate, mint.between.certificate))
    well = Verified(ok=True, code=0, said="")
    sent = (leaf, replace(above, **members))
    asked = Endpoint("", HOST, 443, datetime.now(UTC), {}, sent, (), well, well)
    assert bool(mistakes(asked)) is weak


NAMES = [
    ("app.example.com", "app.example.com", True),
    ("APP.example.com.", "app.Example.com", True),
    ("app.example.com", "*.example.com", True),
    ("a.app.example.com", "*.example.com", False),
    ("example.com", "*.example.com", False),
    ("example.com", "*.com", False),
    ("app.example.com", "a*.example.com", False),
    ("app.example.com", "app.example.com.evil.org", False),
    ("127.0.0.1", "127.0.0.1", True),
    ("::1", "0:0:0:0:0:0:0:1", True),
    ("127.0.0.1", "*.0.0.1", False),
]


@pytest.mark.parametrize(("host", "name", "fits"), NAMES)
def test_a_wildcard_stands_for_one_label(mint: Mint, host: str, name: str, fits: bool) -> None:
    """A certificate is for a host by the rules that browsers use."""
    leaf = read(mint.leaf(HOST).certificate.public_bytes(Encoding.DER))
    assert replace(leaf, names=("other.example.net", name)).is_for(host) is fits


def test_what_a_stranger_wrote_reaches_no_terminal_raw(mint: Mint) -> None:
    """Control characters in a certificate's names are shown as question marks."""
    made = issue("shop\x1b[2J\nFAIL", mint.between, names=["a.example.com"])
    assert read(made.certificate.public_bytes(Encoding.DER)).subject == "CN=shop?[2J?FAIL"


@given(st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_unreadable_and_nothing_worse(der: bytes) -> None:
    """Whatever a server sends as a certificate, the answer is a finding and no traceback."""
    with pytest.raises(Unreadable):
        read(der)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_certificate_is_read_or_unreadable_and_nothing_worse(mint: Mint, data: st.DataObject) -> None:
    """The same for certificates with a byte changed."""
    der = bytearray(mint.root.certificate.public_bytes(Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Unreadable):
        read(bytes(der))


# ---- certificates: how long they last ----------------------------------------------------------------------

LEFT = [
    (YEAR, 300 * DAYS, Verdict.PASS),
    (YEAR, 100 * DAYS, Verdict.ADVICE),
    (YEAR, 10 * DAYS, Verdict.FAIL),
    (YEAR, -1 * DAYS, Verdict.FAIL),
    (90 * DAYS, 40 * DAYS, Verdict.PASS),
    (90 * DAYS, 20 * DAYS, Verdict.ADVICE),
    (90 * DAYS, 13 * DAYS, Verdict.FAIL),
    (6 * DAYS, 3 * DAYS, Verdict.PASS),
    (6 * DAYS, 1.5 * DAYS, Verdict.ADVICE),
    (6 * DAYS, 0.5 * DAYS, Verdict.FAIL),
    (DAYS / 24, DAYS / 48, Verdict.PASS),
]


@pytest.mark.parametrize(("lifetime", "left", "verdict"), LEFT, ids=str)
async def test_a_certificate_must_last_by_its_lifetime(
    mint: Mint, lifetime: timedelta, left: timedelta, verdict: Verdict
) -> None:
    """Under 14 days fails, under a third of the lifetime is advice; short-lived ones are measured by their own life."""
    finding = await served(LASTS, mint, mint.leaf(HOST, starts=left - lifetime, ends=left))
    assert finding.verdict is verdict, finding.reason
    assert finding.evidence["left_days"] == pytest.approx(left / DAYS, abs=0.1)


async def test_an_intermediate_that_ends_soon_fails_too(mint: Mint) -> None:
    """The chain lasts no longer than its first end."""
    between = issue("Ending Intermediate", mint.root, authority=True, starts=-YEAR, ends=5 * DAYS, owner="ending")
    leaf = replace(issue(HOST, between, names=[HOST], ends=YEAR), after=(between.certificate,))
    finding = await served(LASTS, mint, leaf)
    assert finding.verdict is Verdict.FAIL
    assert "CN=Ending Intermediate ends in 4 days" in finding.reason


async def test_the_limit_is_a_parameter(mint: Mint) -> None:
    """A team that renews by hand asks for more time."""
    finding = await served(LASTS, mint, mint.leaf(HOST, starts=40 * DAYS - YEAR, ends=40 * DAYS), at_least="60 d")
    assert finding.verdict is Verdict.FAIL
    assert "at least 60 days are required" in finding.reason


# ---- what cannot be judged ---------------------------------------------------------------------------------


@TLS_CHECKS
async def test_a_server_that_says_nothing_is_not_a_pass(mint: Mint, check: Check) -> None:
    """A server that accepts and stays silent is inconclusive once the time limit is over."""
    async with silent() as port:
        finding = await ask(check, meeting(mint, port), within="200 ms")
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "it gave no answer within 0.2 s" in finding.reason


@TLS_CHECKS
@pytest.mark.parametrize("says", [b"", b"\0" * 64, b"SSH-2.0-garbage\r\n", PAGE], ids=["nothing", "nul", "ssh", "http"])
async def test_a_server_that_speaks_no_tls_is_not_a_pass(mint: Mint, check: Check, says: bytes) -> None:
    """A server that hangs up, or answers something that is not TLS, is inconclusive."""
    async with speaking(says) as port:
        finding = await ask(check, meeting(mint, port))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "no TLS handshake came about" in finding.reason


@TLS_CHECKS
async def test_where_nobody_listens_nothing_passes(mint: Mint, check: Check) -> None:
    """A service that is away is inconclusive."""
    async with silent() as port:
        pass
    finding = await ask(check, meeting(mint, port))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "the connection was refused" in finding.reason


@TLS_CHECKS
@pytest.mark.parametrize("address", ["http://localhost", "https://", "https://localhost:no", "nonsense", ""])
async def test_what_is_no_https_address_is_not_a_pass(mint: Mint, check: Check, address: str) -> None:
    """An address without TLS is inconclusive, whatever else is wrong with it."""
    odd = replace(world(mint.folder), addresses=Addresses(address, address))
    assert (await ask(check, odd)).verdict is Verdict.INCONCLUSIVE


async def test_a_password_in_an_address_is_not_repeated(mint: Mint) -> None:
    """What somebody wrote into an address by mistake appears in no finding."""
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        there = meeting(mint, port)
        for scheme in ("https", "http"):
            address = f"{scheme}://somebody:hidden@{HOST}:{port}"
            odd = replace(at(there), addresses=replace(there.addresses, service=address, gateway=address))
            assert "hidden" not in str(await ask(VALID, odd))


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n"])
async def test_without_an_authority_to_trust_nothing_passes(mint: Mint, content: bytes | None) -> None:
    """A `ca_file` that is missing or damaged is said, and nothing was verified."""
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        there = meeting(mint, port)
        damaged = mint.folder / "damaged.pem"
        if content is not None:
            damaged.write_bytes(content)
        finding = await ask(VALID, replace(there, addresses=replace(there.addresses, ca_file=damaged)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "damaged.pem cannot be read" in finding.reason


@pytest.mark.parametrize("trusts", [True, False])
async def test_without_a_ca_file_the_systems_authorities_decide(
    mint: Mint, monkeypatch: pytest.MonkeyPatch, trusts: bool
) -> None:
    """The trust store of the machine is used; a machine that has none verifies nothing, and does not pass."""
    monkeypatch.setenv("SSL_CERT_FILE", str(mint.ca_file if trusts else mint.folder / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(mint.folder / "none"))
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as port:
        there = meeting(mint, port)
        finding = await ask(VALID, replace(there, addresses=replace(there.addresses, ca_file=None)))
    assert finding.verdict is (Verdict.PASS if trusts else Verdict.INCONCLUSIVE)
    assert trusts or "this machine trusts no certificate authority at all" in finding.reason


# ---- protocols ---------------------------------------------------------------------------------------------

NGINX = """server {{
    listen LISTEN_1 ssl; ssl_certificate {chain}; ssl_certificate_key {key};
    ssl_protocols {protocols}; ssl_ciphers ALL:!aNULL:@SECLEVEL=0; return 200 hello;
}}"""
OFFERED = [
    ("ec256", "TLSv1.2 TLSv1.3", Verdict.PASS, "offers TLS 1.2 and TLS 1.3, and refuses"),
    ("rsa2048", "TLSv1.2", Verdict.PASS, "offers TLS 1.2, and refuses"),
    ("rsa2048", "TLSv1.3", Verdict.PASS, "offers TLS 1.3, and refuses"),
    ("ec256", "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3", Verdict.FAIL, "offers TLS 1.0 and TLS 1.1;"),
    ("rsa2048", "TLSv1.1 TLSv1.2", Verdict.FAIL, "offers TLS 1.1;"),
    ("ec256", "TLSv1", Verdict.FAIL, "offers TLS 1.0;"),
]


@needs_nginx
@pytest.mark.parametrize(("key", "protocols", "verdict", "says"), OFFERED)
async def test_old_protocols_fail_whatever_this_machine_speaks(
    mint: Mint, key: str, protocols: str, verdict: Verdict, says: str
) -> None:
    """An nginx that offers TLS 1.0 or 1.1 fails, with keys of either kind; one that does not passes."""
    chain, private = mint.files(mint.leaf(HOST, key=key))
    with nginx(mint.folder, NGINX.format(chain=chain, key=private, protocols=protocols)) as web:
        finding = await ask(PROTOCOLS, meeting(mint, web.ports[1]))
    assert finding.verdict is verdict
    assert says in finding.reason


async def test_a_server_that_hangs_up_on_old_versions_refuses_them(mint: Mint) -> None:
    """Some servers end the connection without an alert; where new versions work, that is a refusal."""
    finding = await served(PROTOCOLS, mint, mint.leaf(HOST))
    assert finding.verdict is Verdict.PASS
    outcomes = {name: said.partition(":")[0] for name, said in finding.evidence["protocols"].items()}
    assert {outcomes[name] for name in OLD_VERSIONS} <= {"closed", "refused"}
    assert (outcomes["TLS 1.2"], outcomes["TLS 1.3"]) == ("offered", "offered")


@pytest.mark.parametrize("name", OLD_VERSIONS)
async def test_a_server_too_busy_for_the_first_question_is_asked_again(mint: Mint, name: str) -> None:
    """One that hangs up on an old version first, and then speaks it, is found out; SSL 3.0 is one of them."""
    version, asked = OLD_VERSIONS[name].to_bytes(2, "big"), 0
    async with speaking(PAGE, tls=mint.server(mint.leaf(HOST))) as behind:

        async def shy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            with contextlib.closing(writer), contextlib.suppress(OSError):
                hello = await reader.read(4096)
                if hello[9:11] == version:
                    asked += 1
                    writer.write(b"\x16" + version + b"\x00\x06\x02\x00\x00\x26" + version if asked > 1 else b"")
                elif hello[9:11] == b"\x03\x03":
                    inner, outer = await asyncio.open_connection("127.0.0.1", behind)
                    with contextlib.closing(outer):
                        outer.write(hello)
                        await asyncio.gather(_pour(inner, writer), _pour(reader, outer))

        async with await asyncio.start_server(shy, "127.0.0.1", 0) as server:
            finding = await ask(PROTOCOLS, meeting(mint, server.sockets[0].getsockname()[1]))
    assert finding.verdict is Verdict.FAIL, finding
    assert f"it offers {name};" in finding.reason


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(4096):
            sink.write(data)
    sink.close()


@needs_nginx
async def test_a_server_of_old_versions_only_has_no_certificate_to_judge(mint: Mint) -> None:
    """Where neither TLS 1.2 nor 1.3 is spoken the certificate is inconclusive, not valid."""
    chain, private = mint.files(mint.leaf(HOST))
    with nginx(mint.folder, NGINX.format(chain=chain, key=private, protocols="TLSv1.1")) as web:
        there = meeting(mint, web.ports[1])
        assert (await ask(VALID, there)).verdict is Verdict.INCONCLUSIVE
        assert (await ask(LASTS, at(there))).verdict is Verdict.INCONCLUSIVE


@needs_nginx
async def test_our_own_hello_and_openssl_see_the_same(mint: Mint) -> None:
    """Where this machine's OpenSSL still speaks an old version, it and the hello made by hand agree."""
    chain, private = mint.files(mint.leaf(HOST))
    for protocols in ("TLSv1 TLSv1.2", "TLSv1.1 TLSv1.2", "TLSv1.2"):
        text = NGINX.format(chain=chain, key=private, protocols=protocols)
        with nginx(mint.folder / protocols.replace(" ", "-"), text) as web:
            asked = await endpoint(at(meeting(mint, web.ports[1])), f"https://{HOST}:{web.ports[1]}", Asked())
            for name, version in (("TLS 1.0", ssl.TLSVersion.TLSv1), ("TLS 1.1", ssl.TLSVersion.TLSv1_1)):
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                    context = accepting(version)
                seen = (await shake(HOST, web.ports[1], context, 10)).attempt.outcome
                assert asked.protocols[name].outcome is seen, (protocols, name)


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "refused"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "refused"),
        (b"\x15\x03\x01\x00\x02\x02\x32", "unclear"),
        (b"\x16\x03\x01\x00\x06\x02\x00\x00\x26\x03\x01", "offered"),
        (b"\x15\x03\x01\x00\x02\x01\x70\x16\x03\x01\x00\x06\x02\x00\x00\x26\x03\x01", "offered"),
        (b"\x16\x03\x01\x00\x06\x02\x00\x00\x26\x03\x00", "refused"),
        (b"\x16\x03\x01\x00\x06\x02\x00\x00\x26\x03\x03", "refused"),
        (b"\x16\x03\x01\x00\x06\x0b\x00\x00\x26\x03\x01", "unclear"),
        (b"\x16\x03\x01\x00\x01\x02", "unclear"),
        (b"HTTP/1.1 400 Bad Request\r\n", "unclear"),
    ],
)
def test_an_answer_is_read_as_the_protocol_has_it(says: bytes, verdict: str) -> None:
    """A ServerHello offers, an alert refuses, a complaint about the question says nothing; whatever the pieces."""
    for end in range(len(says)):
        partly = answer(says[:end], OLD_VERSIONS["TLS 1.0"])
        assert partly is None or partly.outcome.value == verdict
    whole = answer(says, OLD_VERSIONS["TLS 1.0"])
    assert whole is not None
    assert whole.outcome.value == verdict


@given(st.binary(max_size=64), st.sampled_from(sorted(OLD_VERSIONS.values())))
def test_no_bytes_break_the_reading_of_an_answer(says: bytes, version: int) -> None:
    """A server may send anything."""
    answer(says, version)
    answer(b"\x16\x03\x01" + says, version)
