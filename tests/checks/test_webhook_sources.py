"""webhook.sources_enforced: the real shop with a list, without one, and services that believe what a header says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from checks.facts.vantage import Seen, curl_config, look
from checks.webhook_sources_enforced import CHECK, Enforced, Sources, Tried, forgeries, judge
from pipeline.contracts import World
from pipeline.verdict import Verdict
from sandbox.shop.server.config import ConfigInvalid, read_config
from tests.checks.odd_servers import WEBHOOK, Answering, always, plain_world, serving, shop_world
from tests.checks.worlds import ask, world
from tests.sandbox.shops import Area, Running, sandbox_gateway

LISTED = "127.0.0.2"
"""Another address of this machine: on loopback a source can be chosen."""

SENDER = Path(__file__).with_name("sender.py")


@pytest.fixture
def area(tmp_path: Path) -> Iterator[Area]:
    with sandbox_gateway(tmp_path / "sandbox") as gateway:
        (tmp_path / "area").mkdir()
        area = Area(tmp_path / "area", gateway)
        yield area
        area.close()


def listing(made: World, *sources: str) -> World:
    """The same world, whose spec lists these addresses."""
    contract = made.spec.contract.model_copy(update={"webhook_sources": sources})
    return replace(made, spec=made.spec.model_copy(update={"contract": contract}))


def sends_from(shop: Running, address: str) -> tuple[str, ...]:
    """The command of an operator who can send from another address."""
    return (sys.executable, "-S", str(SENDER), address, str(shop.area.gateway.addresses.ca))


# ---- the real shop -----------------------------------------------------------------------------------------


async def test_the_shop_enforces_its_list(area: Area, tmp_path: Path) -> None:
    """A shop that is given the list refuses this machine, whatever the headers claim; a listed address gets in."""
    with area.running(area.build("listed"), WEBHOOK_SOURCES=f"{LISTED}, 198.51.100.0/24") as shop:
        made = listing(shop_world(shop, tmp_path), LISTED, "198.51.100.0/24")
        finding = await ask(CHECK, made)
        assert finding.verdict is Verdict.ADVICE, finding
        answers = finding.evidence["answers"]
        assert isinstance(answers, Mapping)
        assert set(answers.values()) == {403}
        sends = sends_from(shop, LISTED)
        finding = await ask(CHECK, made, elsewhere=sends)
        assert (finding.verdict, finding.evidence["elsewhere_status"]) == (Verdict.PASS, 200), finding
        wrong = listing(shop_world(shop, tmp_path, VITE_IKHOKHA_API_SECRET="x" * 20), LISTED)
        finding = await ask(CHECK, wrong, elsewhere=sends)
        assert (finding.verdict, "prove nothing" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding
        inside = listing(shop_world(shop, tmp_path), "127.0.0.1")
        finding = await ask(CHECK, inside, elsewhere=sends)
        assert finding.verdict is Verdict.FAIL, finding


async def test_a_shop_without_the_list_fails_where_the_spec_has_one(area: Area, tmp_path: Path) -> None:
    """A list that only the spec has protects nothing; where the spec has none, there is nothing to enforce."""
    with area.running(area.build("open")) as shop:
        finding = await ask(CHECK, listing(shop_world(shop, tmp_path), "198.51.100.7"))
        assert (finding.verdict, "from this machine: 200" in finding.reason) == (Verdict.FAIL, True), finding
        finding = await ask(CHECK, listing(shop_world(shop, tmp_path), "127.0.0.0/8"))
        assert (finding.verdict, "127.0.0.1 is in" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding
        finding = await ask(CHECK, shop_world(shop, tmp_path))
        assert finding.verdict is Verdict.SKIPPED, finding


def test_a_list_with_a_mistake_is_never_taken_for_no_list() -> None:
    """The shop does not start with a list that it cannot read."""
    with pytest.raises(ConfigInvalid, match="WEBHOOK_SOURCES: found 'anywhere'"):
        read_config({"WEBHOOK_SOURCES": "198.51.100.7 anywhere"})


# ---- odd services ------------------------------------------------------------------------------------------


def believing(*names: str) -> Answering:
    """Takes the source from these headers, which anybody can send."""

    def answer(request: web.Request, _before: int) -> web.Response:
        claimed = [request.headers[name] for name in names if name in request.headers]
        return web.Response(status=200 if any(LISTED in claim for claim in claimed) else 403)

    return answer


@pytest.mark.parametrize(
    ("answer", "verdict", "word"),
    [
        (always(403), Verdict.ADVICE, "was not seen"),
        (always(401), Verdict.ADVICE, "was not seen"),
        (always(200), Verdict.FAIL, "from this machine: 200"),
        (always(202), Verdict.FAIL, "from this machine: 202"),
        (believing("X-Forwarded-For"), Verdict.FAIL, "anybody's claim"),
        (believing("X-Real-IP"), Verdict.FAIL, "anybody's claim"),
        (believing("Forwarded"), Verdict.FAIL, "anybody's claim"),
        (always(404), Verdict.INCONCLUSIVE, "404"),
        (always(429), Verdict.INCONCLUSIVE, "429"),
        (always(302), Verdict.INCONCLUSIVE, "302"),
        (always(500), Verdict.FAIL, "500"),
    ],
)
async def test_odd_services(tmp_path: Path, answer: Answering, verdict: Verdict, word: str) -> None:
    """A service that believes a header fails, one that answers neither yes nor no proves nothing."""
    async with serving({WEBHOOK: answer}) as address:
        finding = await ask(CHECK, listing(plain_world(tmp_path, address), LISTED))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_nobody_answers(tmp_path: Path) -> None:
    """A service that is gone enforces nothing that anybody saw."""
    finding = await ask(CHECK, listing(world(tmp_path), LISTED))
    assert finding.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("sources", [("999.1.1.1",), ("198.51.100.7", "1.2.3"), ("0.0.0.0/0",), ("::/0",)])
async def test_a_list_that_means_nothing_or_everybody_fails(tmp_path: Path, sources: tuple[str, ...]) -> None:
    """Nothing is sent for such a list."""
    finding = await ask(CHECK, listing(world(tmp_path), *sources))
    assert (finding.verdict, "webhook_sources" in finding.reason) == (Verdict.FAIL, True), finding


async def test_an_address_behind_nat_can_be_told(tmp_path: Path) -> None:
    """Where the operator says how the service sees this machine, that address counts."""
    async with serving({WEBHOOK: always(200)}) as address:
        made = listing(plain_world(tmp_path, address), "198.51.100.0/24")
        assert (await ask(CHECK, made)).verdict is Verdict.FAIL
        assert (await ask(CHECK, made, seen_as="198.51.100.9")).verdict is Verdict.INCONCLUSIVE


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_sends_what_it_is_told(tmp_path: Path) -> None:
    """An operator's curl delivers the very bytes and headers that were signed."""
    seen: list[tuple[bytes, str]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((await request.read(), request.headers["X-Sign"]))
        return web.Response(status=403)

    body, sign = b'{"a":"\\"b\\\\c\\n","u":"\xc3\xa9"}', 'x"y\\z'
    async with serving({WEBHOOK: lambda request, _before: note(request)}) as address:
        config = curl_config(address + WEBHOOK, body, [("X-Sign", sign), ("Content-Type", "application/json")])
        assert await look(["curl", "--noproxy", "*", "--config", "-"], stdin=config) == Seen(403)
    assert seen == [(body, sign)]


# ---- judging -----------------------------------------------------------------------------------------------


def enforced(listed: bool, plain: int, elsewhere: int | None, *forged: int) -> Enforced:
    tried = tuple(Tried(f"forged {n}", status) for n, status in enumerate(forged))
    seen = None if elsewhere is None else Seen(elsewhere, "" if elsewhere else "silence")
    return Enforced((LISTED,), "127.0.0.1", listed, Tried("from this machine", plain), tried, seen)


@pytest.mark.parametrize(
    ("fact", "verdict"),
    [
        (enforced(False, 403, 200, 403), Verdict.PASS),
        (enforced(False, 403, 404, 403), Verdict.PASS),
        (enforced(False, 403, None, 403), Verdict.ADVICE),
        (enforced(False, 403, 403, 403), Verdict.INCONCLUSIVE),
        (enforced(False, 403, 0, 403), Verdict.INCONCLUSIVE),
        (enforced(False, 403, 200, 403, 200), Verdict.FAIL),
        (enforced(False, 403, 200, 403, 0), Verdict.INCONCLUSIVE),
        (enforced(False, 200, 200, 403), Verdict.FAIL),
        (enforced(True, 200, None), Verdict.INCONCLUSIVE),
        (enforced(True, 200, 403), Verdict.PASS),
        (enforced(True, 404, 403), Verdict.PASS),
        (enforced(True, 404, 404), Verdict.FAIL),
        (enforced(True, 200, 200), Verdict.FAIL),
        (enforced(True, 403, 403), Verdict.INCONCLUSIVE),
        (enforced(True, 200, 0), Verdict.INCONCLUSIVE),
        (enforced(True, 200, 429), Verdict.INCONCLUSIVE),
    ],
)
def test_both_sides_of_the_list_are_needed(fact: Enforced, verdict: Verdict) -> None:
    """Only a webhook refused on the one side and accepted on the other shows that the list decides."""
    assert judge(fact, Sources()).verdict is verdict


@given(st.ip_addresses())
def test_forged_headers_claim_a_listed_address(address: object) -> None:
    """Every forgery carries the address, and no two are the same."""
    made = forgeries(str(address))
    assert len({how for how, _ in made}) == len(made)
    assert all(str(address) in value for _, headers in made for value in headers.values())
