"""The payment probes: what they send, what they notice, and that a careful service passes them."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.facts.payments import Standing
from checks.probes.judging import result
from checks.probes.paying import NoPayment
from checks.probes.payments import PAYMENT_PROBES
from checks.probes.payments_asking import as_text, link_of, worst
from checks.probes.payments_limit import most
from checks.probes.payments_telling import GATEWAYS_OWN, tells
from checks.probes.playing import Played
from checks.probes.probe import CLOSED, SILENT, Need, Reply, Shown, Turn
from checks.probes.scene import Scene
from pipeline.contracts import World
from pipeline.spec import RateLimits
from pipeline.verdict import Verdict
from sandbox.gateway.app import NOT_CREATED
from sandbox.gateway.faults import Faults
from tests.checks import worlds
from tests.probes.counter import Answer, Counter, counter

BY_NAME = {probe.name.removeprefix("payment."): probe for probe in PAYMENT_PROBES}
ASKING = [name for name, probe in BY_NAME.items() if probe.turn is Turn.ASKING]
DISTURBED = [name for name, probe in BY_NAME.items() if probe.turn is Turn.DISTURBED]
PRICE = 100


async def played(folder: Path, name: str, made: Counter, **contract: object) -> Shown:
    async with counter(folder, made, **contract) as world, playing(world) as scene:
        return await BY_NAME[name].play(scene)


@asynccontextmanager
async def playing(world: World) -> AsyncIterator[Scene]:
    scene = Scene(world)
    try:
        yield scene
    finally:
        await scene.close()


def verdict(name: str, shown: Shown) -> Verdict:
    return result(Played(BY_NAME[name], shown)).verdict


# ---- the table ---------------------------------------------------------------------------------------------


def test_the_table_says_when_each_probe_is_played() -> None:
    """Payment requests may reach the gateway: none is played while it is disturbed but those that are about that."""
    assert len(BY_NAME) == len(PAYMENT_PROBES) >= 20
    assert all(probe.name.startswith("payment.") for probe in PAYMENT_PROBES)
    assert {probe.turn for probe in PAYMENT_PROBES} == {Turn.ASKING, Turn.DISTURBED, Turn.LAST}
    assert [probe.name for probe in PAYMENT_PROBES if probe.turn is Turn.LAST] == ["payment.rate-limit"]
    assert {name for name, probe in BY_NAME.items() if Need.CONTROL in probe.needs} == set(DISTURBED)


def test_no_status_is_right_that_a_limit_or_a_crash_would_give() -> None:
    """No probe takes 429, a crash or silence for an answer, and only the body too large may end in silence."""
    for probe in PAYMENT_PROBES:
        assert not {429, 500, 501, SILENT} & set(probe.answers), probe.name
        assert (CLOSED in probe.answers) == (probe.name == "payment.body-large")


# ---- a careful service -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ASKING, *DISTURBED])
async def test_a_careful_service_passes(tmp_path: Path, name: str) -> None:
    """A service that follows the contract to the letter passes every probe."""
    shown = await played(tmp_path, name, Counter())
    assert verdict(name, shown) is Verdict.PASS, shown


async def test_a_payment_made_before_it_is_refused_is_seen_at_the_gateway(tmp_path: Path) -> None:
    """A service that refuses a wrong amount only after the gateway has made the payment fails."""

    def made_first(counter: Counter, asked: dict[str, Any]) -> Answer | None:
        if asked.get("amount") in (PRICE, None):
            return None
        counter.power.rows.append({"paylinkID": "link", "reference": asked["reference"], "amount": asked["amount"]})
        return 422, {"error": "amount"}

    shown = await played(tmp_path, "amount-not-the-price", Counter(spoil=made_first))
    assert verdict("amount-not-the-price", shown) is Verdict.FAIL, shown
    assert "the gateway holds a payment" in shown.wrong


async def test_everything_sent_speaks_of_the_probers_own(tmp_path: Path) -> None:
    """Whatever is sent asks for a smoke reference or for none, and no reference but a used one is sent twice."""
    made = Counter()
    async with counter(tmp_path, made) as world, playing(world) as scene:
        for name in (*ASKING, *DISTURBED):
            await BY_NAME[name].play(scene)
    bodies = [json.loads(raw, parse_int=str) for raw in made.raw if raw.startswith(b"{") and raw.endswith(b"}")]
    given = [body["reference"] for body in bodies if body.get("reference")]
    references = [one[0] if isinstance(one, list) else one for one in given]
    assert len(references) > 30
    assert all(reference.startswith("smoke-") for reference in references)
    twice = {one for one in references if references.count(one) > 1}
    assert len(twice) == 2, "only the used reference and the one of another are asked for again"
    assert all(len(path) < 200 for path in made.paths), "a reference of 10 kB makes no address"


async def test_amounts_are_sent_as_they_are_meant(tmp_path: Path) -> None:
    """Numbers reach the service as the table says: in full, in a form of their own, as text, as a boolean."""
    sent: dict[str, list[bytes]] = {}
    for name in ("amount-huge", "amount-fraction", "amount-text", "amount-true", "body-duplicate-keys"):
        made = Counter()
        await played(tmp_path, name, made)
        sent[name] = [raw.partition(b'"amount":')[2] for raw in made.raw[1:]]
    whole, endless, digits = sent["amount-huge"]
    assert whole.startswith(b"9223372036854775808,")
    assert endless.startswith(b"1e400,")
    assert digits.startswith(b"9" * 5000 + b",")
    fraction = float(sent["amount-fraction"][0].partition(b",")[0])
    assert fraction != PRICE
    assert math.floor(fraction) == round(fraction) == PRICE
    assert sent["amount-text"][0].startswith(b'"100",')
    assert sent["amount-true"][0].startswith(b"true,")
    assert [text.count(b'"amount":') for text in sent["body-duplicate-keys"]] == [1, 1], "each has a second amount"


async def test_nothing_is_shown_by_a_service_that_takes_no_payment(tmp_path: Path) -> None:
    """Where even a good request is refused, the refusal of a bad one proves nothing, and nothing is judged."""
    with pytest.raises(NoPayment):
        await played(tmp_path, "amount-zero", Counter(spoil=lambda _counter, _asked: (422, {})))


# ---- careless ones -----------------------------------------------------------------------------------------


def takes(counter: Counter, asked: dict[str, Any]) -> Answer:
    """Whatever it is, it is sold."""
    return counter.make(str(asked.get("reference")), 100)


def keeps_the_last(counter: Counter, asked: dict[str, Any]) -> Answer:
    counter.orders.pop(str(asked.get("reference")), None)
    return counter.make(str(asked.get("reference")), int(asked["amount"]))


def passes_on(counter: Counter, asked: dict[str, Any]) -> Answer:
    urls = asked.get("urls", {})
    told = {"callbackUrl": urls.get("callbackUrl", "https://shop.test/cb"), "successUrl": asked.get("returnUrl", "")}
    return counter.make(asked["reference"], 100, **told)


def echoes(counter: Counter, asked: dict[str, Any]) -> Answer:
    status, answer = counter.make(asked["reference"], 100)
    return status, {"asked": asked, "answer": answer}


def charges_the_other(counter: Counter, asked: dict[str, Any]) -> Answer:
    """Charges the first amount of two where the last is the price."""
    first = int(counter.raw[-1].split(b'"amount":')[1].partition(b",")[0])
    return counter.make(asked["reference"], first) if asked["amount"] == PRICE else (422, {})


def enrols_what_it_refuses(counter: Counter, asked: dict[str, Any]) -> Answer | None:
    if asked.get("amount") == PRICE:
        return None
    counter.make(asked["reference"], 100)
    counter.orders[asked["reference"]]["status"] = "paid"
    return 422, {}


@pytest.mark.parametrize("name", [name for name in ASKING if name not in ("body-large", "body-not-json")])
async def test_who_sells_whatever_is_asked_for_is_caught(tmp_path: Path, name: str) -> None:
    """A service that takes any request fails every probe of what a request may say."""
    spoil = {
        "reference-used": keeps_the_last,
        "success-url-injected": passes_on,
        "callback-url-injected": passes_on,
        "body-duplicate-keys": charges_the_other,
    }.get(name, takes)
    made = Counter(spoil=spoil)
    shown = await played(tmp_path, name, made, courses=[{"id": "python-101", "cents": 49900}])
    assert verdict(name, shown) is Verdict.FAIL, shown


@pytest.mark.parametrize("name", ["success-url-injected", "callback-url-injected"])
async def test_an_address_is_looked_for_in_the_answer_too(tmp_path: Path, name: str) -> None:
    """Where nobody may look into the gateway, an answer that repeats the stranger's address still tells."""
    shown = await played(tmp_path, name, Counter(spoil=lambda c, a: echoes(c, a) if "urls" in a else None))
    assert "answer" in shown.wrong


async def test_an_effect_is_seen_behind_a_refusal(tmp_path: Path) -> None:
    """A wrong amount that is refused and yet enrolled is no pass."""
    shown = await played(tmp_path, "amount-not-the-price", Counter(spoil=enrols_what_it_refuses))
    assert {reply.status for reply in shown.replies} == {422}
    assert verdict("amount-not-the-price", shown) is Verdict.FAIL


@pytest.mark.parametrize("largest", [20_000_000])
async def test_a_body_of_any_size_is_caught(tmp_path: Path, largest: int) -> None:
    """A service that reads 10 MB to sell one course fails."""
    shown = await played(tmp_path, "body-large", Counter(largest=largest))
    assert [reply.status for reply in shown.replies] == [201]
    assert verdict("body-large", shown) is Verdict.FAIL


async def test_a_body_that_breaks_the_service_is_caught(tmp_path: Path) -> None:
    """A service that answers an empty body with 500 fails, and no body may cost a 5xx."""

    class Breaking(Counter):
        async def create(self, request: Any) -> Any:
            response = await super().create(request)
            response.set_status(500 if self.raw[-1] == b"" else response.status)
            return response

    shown = await played(tmp_path, "body-not-json", Breaking())
    assert 500 in [reply.status for reply in shown.replies]
    assert verdict("body-not-json", shown) is Verdict.FAIL


# ---- the gateway in trouble --------------------------------------------------------------------------------


def test_every_disturbance_is_one_the_sandbox_knows() -> None:
    """What a probe says it looks for is what the sandbox's gateway really says."""
    assert str(NOT_CREATED["message"]) in GATEWAYS_OWN
    assert NOT_CREATED["responseCode"] != "00"


@pytest.mark.parametrize("name", DISTURBED)
async def test_the_gateway_is_disturbed_and_put_right_again(tmp_path: Path, name: str) -> None:
    """Each probe sets one fault that the sandbox's gateway has, and leaves none on."""
    made = Counter()
    await played(tmp_path, name, made)
    (members,) = made.power.set
    assert Faults().changed(members) != Faults()
    assert not made.power.faults


@pytest.mark.parametrize("name", DISTURBED)
async def test_who_tells_the_inside_is_caught(tmp_path: Path, name: str) -> None:
    """The status may be right: an answer that quotes the exception or the gateway is none for customers."""
    made = Counter(away=(502, {"error": "httpx.ConnectError: [Errno 111] Connection refused"}))
    shown = await played(tmp_path, name, made)
    assert "gives away" in shown.wrong
    assert "httpx" not in shown.wrong, "what it gives away is not told on"


@pytest.mark.parametrize("away", [(500, {}), (201, {"paylinkUrl": "", "paylinkID": ""})])
async def test_a_wrong_answer_in_an_outage_is_caught(tmp_path: Path, away: Answer) -> None:
    """Neither a crash nor a success is an answer to a payment that could not be made."""
    shown = await played(tmp_path, "gateway-refuses", Counter(away=away))
    assert verdict("gateway-refuses", shown) is Verdict.FAIL


async def test_a_service_that_stays_broken_is_caught(tmp_path: Path) -> None:
    """After the gateway is well again the service must take payments again, on its own."""
    shown = await played(tmp_path, "gateway-down", Counter(stays_broken=True))
    assert "well again" in shown.wrong


async def test_a_service_that_waits_for_the_gateway_is_caught(tmp_path: Path) -> None:
    """An answer later than the contract allows is none, whatever it says."""

    class Waiting(Counter):
        async def create(self, request: Any) -> Any:
            if self.power.faults:
                await self.until_well()
            return await super().create(request)

    made = Waiting()
    shown = await played(tmp_path, "gateway-slow", made, answers_within="200 ms")
    assert [reply.status for reply in shown.replies] == [SILENT]
    (members,) = made.power.set
    assert float(str(members["slow_s"])) > 0.2 + 1


# ---- what an answer tells ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("telling")
    return worlds.world(folder, service="https://127.0.0.1:8443", gateway="https://gateway.test:9443")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"error": "Traceback (most recent call last):"}', "a Python traceback"),
        ('{"error": "httpx.ReadTimeout"}', "a library"),
        ('{"error": "RemoteProtocolError: Server disconnected"}', "an exception of the program"),
        ('{"error": "connect ECONNREFUSED 10.0.0.4:443"}', "an exception of the program"),
        ('{"error": "Unexpected token < in JSON at position 0"}', "an exception of the program"),
        ('{"error": "in gateway.py, line 30"}', "a file of the program"),
        ('{"error": "at create (/srv/shop/pay.js:10:5)"}', "a JavaScript stack trace"),
        ('{"error": "no answer from https://gateway.test:9443/public-api"}', "the gateway's address"),
        ('{"error": "GATEWAY.TEST is away"}', "the gateway's address"),
        ('{"error": "check VITE_IKHOKHA_API_SECRET"}', "the name of a setting"),
        ('{"error": "the gateway said: Merchant account on hold"}', "the gateway's own words"),
    ],
)
def test_what_gives_the_inside_away_is_named_by_its_kind(world: World, body: str, kind: str) -> None:
    """An answer's secrets are told as kinds: where to look, and never the text."""
    assert kind in tells(world, body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"error": "the payment gateway is away; take a new reference"}',
        b'{"error": "the payment gateway did not answer; the payment is being looked into"}',
        b'{"error": "too many requests", "retryAfter": 5}',
        b'{"type": "https://127.0.0.1:8443/problems/gateway-away", "title": "Connection timeout", "status": 503}',
        b"<h1>Service Unavailable</h1>",
    ],
)
def test_a_plain_answer_tells_nothing(world: World, body: bytes) -> None:
    """What a careful service says of a gateway in trouble is not held against it."""
    assert tells(world, body) == ()


@given(st.binary(max_size=300))
def test_reading_a_strangers_answer_is_total(world: World, body: bytes) -> None:
    """Whatever a service answers is read without an exception, and no text of it is told on."""
    tells(world, body)
    assert isinstance(link_of(Reply("", 200, 0.0, body)), str)


# ---- small parts -------------------------------------------------------------------------------------------


def test_the_worst_of_several_traces_is_shown() -> None:
    """One enrolment among many refusals is what a person must see."""
    none, failed, pending = (Standing(status, False, 0) for status in ("", "failed", "pending"))
    active = Standing("failed", True, 1)
    assert worst([("a", none), ("b", failed)])[0] == "b"
    assert worst([("a", pending), ("b", failed)])[0] == "a"
    assert worst([("a", pending), ("b", active), ("c", none)])[0] == "b"


@given(st.text())
def test_a_reference_is_printable(reference: str) -> None:
    """A reference made of anything is a short line on record."""
    assert as_text(reference).isprintable()
    assert len(as_text(reference)) <= 80


# ---- the rate limit ----------------------------------------------------------------------------------------

LIMITS = {"limits": {"burst": 10, "per_second": 1}}


async def test_a_limit_that_lets_go_passes(tmp_path: Path) -> None:
    """A burst that is limited, with Retry-After, and only for a while, is what is asked for."""
    shown = await played(tmp_path, "rate-limit", Counter(allows=10, limits=25), **LIMITS)
    assert verdict("rate-limit", shown) is Verdict.PASS, shown
    assert "429 after 10" in shown.replies[0].sent


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (Counter(), "no 429 within 30 requests"),
        (Counter(allows=10, limits=1_000_000), "still 429"),
        (Counter(allows=10, limits=25, retry_after=None), "Retry-After"),
        (Counter(allows=10, limits=25, retry_after="soon"), "Retry-After"),
    ],
)
async def test_a_limit_that_is_none_is_caught(tmp_path: Path, made: Counter, told: str) -> None:
    """No limit, one that does not say when, and one that never ends are each told as what they are."""
    shown = await played(tmp_path, "rate-limit", made, **LIMITS)
    assert told in shown.wrong
    assert len(made.raw) <= most(RateLimits(**LIMITS["limits"])), "the burst is bounded"


async def test_a_burst_of_empty_requests_makes_nothing(tmp_path: Path) -> None:
    """What is sent in a burst is no payment, and the first that is taken for one ends it as a failure."""
    made = Counter()
    await played(tmp_path, "rate-limit", made, **LIMITS)
    assert set(made.raw) == {b'{"probe": "payment.rate-limit"}'}
    sells = Counter(spoil=takes)
    shown = await played(tmp_path, "rate-limit", sells, **LIMITS)
    assert len(sells.raw) == 1
    assert verdict("rate-limit", shown) is Verdict.FAIL


@pytest.mark.parametrize("status", [500, 404, 201])
async def test_a_burst_that_meets_no_refusal_is_no_pass(tmp_path: Path, status: int) -> None:
    """A crash, a wrong path and a success are told by their status, not as a missing limit."""
    shown = await played(tmp_path, "rate-limit", Counter(spoil=lambda _counter, _asked: (status, {})), **LIMITS)
    assert [reply.status for reply in shown.replies] == [status]
    assert verdict("rate-limit", shown) is Verdict.FAIL
