"""rate_limits.in_force against the real shop, nginx and servers that limit oddly or not at all; Retry-After as said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from checks.facts.bursts import Burst, Met
from checks.rate_limits_in_force import CHECK, Limited, Limits, Pressed, judge
from pipeline.clock import SystemClock
from pipeline.contracts import World
from pipeline.retry_after import LONGEST_S, NOT_SAID, RetryAfter, http_date, parse
from pipeline.spec import RateLimits
from pipeline.verdict import Finding, Verdict
from tests.checks.odd_servers import PAYMENTS, WEBHOOK, Answering, always, plain_world, serving, shop_world
from tests.checks.worlds import QuickClock, ask, world
from tests.sandbox.shops import Area, SandboxGateway, sandbox_gateway, switched_on
from tests.servers.nginx import needs_nginx, nginx

NOW = datetime(2026, 11, 22, 6, 0, 0, tzinfo=UTC)
SIGNED = "ik-sign"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxGateway]:
    with sandbox_gateway(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def area(gateway: SandboxGateway, tmp_path: Path) -> Iterator[Area]:
    area = Area(tmp_path / "area", gateway)
    yield area
    area.close()


LOW = RateLimits(burst=10, per_second=1)
"""Limits that any burst of these tests goes beyond, however slow this machine is."""


def declaring(made: World, limits: RateLimits) -> World:
    """A world whose service says that it has these limits."""
    contract = made.spec.contract.model_copy(update={"limits": limits})
    return replace(made, spec=made.spec.model_copy(update={"contract": contract}))


# ---- the real shop -----------------------------------------------------------------------------------------


async def test_the_shop_limits_bursts_and_stays_usable(area: Area, tmp_path: Path) -> None:
    """The sandbox shop passes, even while it is closed to all but proofs; nothing was made of the burst, and the next
    customer from the same address is served."""
    with area.running(area.build("good")) as shop:
        made = shop_world(shop, tmp_path)
        area.switch("payments-off", switched_on(made.run.proof_token.reveal()))
        finding = await ask(CHECK, made)
        assert finding.verdict is Verdict.PASS, finding
        assert finding.evidence["signed_during"] == 200
        for path in ("payments", "webhooks"):
            found = finding.evidence[path]
            assert isinstance(found, Mapping)
            assert found["statuses"]["429"] >= 1
            assert found["sent"] <= Limits().burst
        assert shop.metric('payments_total{outcome="success"}') == 0
        assert shop.metric("payment_initialisation_seconds_count") == 0
        area.switch("payments-off", None)
        assert shop.create("order-after").status_code == 201


@pytest.mark.parametrize(
    ("fault", "burst", "word"),
    [("no-rate-limit", 75, "no limit in force"), ("rate-limit-shuts-out-gateway", 600, "while its path was limited")],
)
async def test_a_shop_that_limits_wrongly_fails(area: Area, tmp_path: Path, fault: str, burst: int, word: str) -> None:
    """A shop without limits fails, and so does one whose limit keeps the gateway's own webhooks out."""
    with area.running(area.build("bad", fault=fault)) as shop:
        finding = await ask(CHECK, declaring(shop_world(shop, tmp_path), LOW), burst=burst)
        assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding


# ---- nginx in front ----------------------------------------------------------------------------------------

LIMIT_REQ = """
server {{
    listen LISTEN_1;
    limit_req_status {status};
    location = {payments} {{ limit_req zone=each burst=15 nodelay; proxy_pass http://LISTEN_2; }}
    location = {webhook} {{ limit_req zone=each burst=15 nodelay; proxy_pass http://LISTEN_2; }}
}}
server {{
    listen LISTEN_2;
    location = {payments} {{ return 422; }}
    location = {webhook} {{ if ($http_ik_sign) {{ return 200; }} return 401; }}
}}
"""
EACH = "limit_req_zone $binary_remote_addr$uri zone=each:1m rate={rate};"


@needs_nginx
@pytest.mark.parametrize(
    ("status", "rate", "params", "verdict", "word"),
    [
        (503, "10r/s", {}, Verdict.FAIL, "limit_req_status 429"),
        # so slow that what follows a burst is limited however slow this machine is
        (429, "30r/m", {}, Verdict.FAIL, "webhook_limit: source"),
        (429, "10r/s", {"webhook_limit": "source"}, Verdict.ADVICE, "Send Retry-After"),
    ],
)
async def test_nginx_in_front(
    tmp_path: Path, status: int, rate: str, params: dict[str, object], verdict: Verdict, word: str
) -> None:
    """nginx's limit_req is seen; its own 503 is no 429, and limiting all of a source is told from sparing the good."""
    blocks = LIMIT_REQ.format(payments=PAYMENTS, webhook=WEBHOOK, status=status)
    with nginx(tmp_path, blocks, more=EACH.format(rate=rate)) as front:
        made = replace(plain_world(tmp_path, f"http://127.0.0.1:{front.ports[1]}"), clock=SystemClock())
        finding = await ask(CHECK, made, burst=100, concurrency=20, **params)
        assert (finding.verdict, word in finding.remedy) == (verdict, True), finding


# ---- servers that answer oddly -----------------------------------------------------------------------------


def limiting(after: int, lets_go_after: int = 10_000, first: int = 401, **headers: str) -> Answering:
    """Refuses `after` requests with `first`, limits the next `lets_go_after`, then refuses again. Signed ones pass."""

    def answer(request: web.Request, before: int) -> web.Response:
        if SIGNED in request.headers:
            return web.Response(status=200)
        limited = after <= before < after + lets_go_after
        named = {name.replace("_", "-"): value for name, value in headers.items()} if limited else {}
        return web.Response(status=429 if limited else first, headers=named)

    return answer


def dropping(after: int) -> Answering:
    def answer(request: web.Request, before: int) -> web.Response:
        if before >= after and request.transport is not None:
            request.transport.close()
        return web.Response(status=401)

    return answer


GOOD = limiting(15, 12, Retry_After="1")


async def found(tmp_path: Path, answers: Mapping[str, Answering], **params: object) -> Finding:
    async with serving(answers) as address:
        return await ask(CHECK, declaring(plain_world(tmp_path, address), LOW), **{"burst": 60, **params})


@pytest.mark.parametrize(
    ("payments", "webhook", "params", "verdict", "word"),
    [
        (GOOD, GOOD, {}, Verdict.PASS, "after 15 requests"),
        (limiting(15, 12), GOOD, {}, Verdict.ADVICE, "without Retry-After"),
        (limiting(15, 12, Retry_After="soon"), GOOD, {}, Verdict.ADVICE, "neither"),
        (limiting(15, 12, Retry_After="0"), GOOD, {}, Verdict.ADVICE, "at once"),
        (limiting(15, 12, Retry_After="86400"), GOOD, {}, Verdict.ADVICE, "longer than 3600 s"),
        (limiting(15, 12, Retry_After="90"), GOOD, {}, Verdict.ADVICE, "more patience"),
        (limiting(0, Retry_After="90"), GOOD, {}, Verdict.INCONCLUSIVE, "429 from the first request on"),
        (limiting(15, Retry_After="1"), GOOD, {}, Verdict.FAIL, "still 429"),
        (limiting(59, 12, Retry_After="1"), GOOD, {}, Verdict.PASS, "after 59 requests"),
        (limiting(60, 12, Retry_After="1"), GOOD, {}, Verdict.FAIL, "no limit in force within 60 requests"),
        (limiting(60, 12, Retry_After="1"), GOOD, {"burst": 70}, Verdict.PASS, "after 60 requests"),
        (GOOD, always(401), {}, Verdict.FAIL, f"{WEBHOOK}: no limit in force"),
        (always(201), GOOD, {}, Verdict.FAIL, "was answered 201"),
        (always(404), GOOD, {}, Verdict.FAIL, "takes nothing there"),
        (GOOD, always(405), {}, Verdict.FAIL, "takes nothing there"),
        (always(302, Location="/x"), GOOD, {}, Verdict.INCONCLUSIVE, "no limit was looked for"),
        (limiting(15, first=500), GOOD, {}, Verdict.FAIL, "500 after 1 requests"),
        (dropping(0), GOOD, {}, Verdict.INCONCLUSIVE, "no answer"),
        (dropping(20), GOOD, {}, Verdict.INCONCLUSIVE, "no answer"),
        (GOOD, limiting(0, 10_000, Retry_After="1"), {"wait": 3.0}, Verdict.FAIL, "still 429"),
    ],
)
async def test_odd_limits(
    tmp_path: Path, payments: Answering, webhook: Answering, params: dict[str, object], verdict: Verdict, word: str
) -> None:
    """Each way to limit wrongly is told, and what cannot be measured never passes."""
    finding = await found(tmp_path, {PAYMENTS: payments, WEBHOOK: webhook}, **params)
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_a_burst_ends_with_the_first_answer_that_is_no_refusal(tmp_path: Path) -> None:
    """Where a request takes effect or breaks something, no second one is sent."""
    for status in (200, 500, 302, 404):
        finding = await found(tmp_path, {PAYMENTS: always(status), WEBHOOK: GOOD})
        payments = finding.evidence["payments"]
        assert isinstance(payments, Mapping)
        assert payments["sent"] == 1


class SlowClock(QuickClock):
    """Each look at it takes a second."""

    def monotonic(self) -> float:
        self._slept += 1
        return super().monotonic()


async def test_what_takes_too_long_is_no_burst(tmp_path: Path) -> None:
    """A service so slow that no burst can be sent is not accused of having no limit, and does not pass."""
    async with serving({PAYMENTS: always(401), WEBHOOK: GOOD}) as address:
        made = replace(plain_world(tmp_path, address), clock=SlowClock())
        finding = await ask(CHECK, made, burst=2000)
    assert (finding.verdict, "too slow to be a burst" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_nobody_answers(tmp_path: Path) -> None:
    """A service that is gone has no limit in force that anybody saw."""
    finding = await ask(CHECK, world(tmp_path))
    assert finding.verdict is Verdict.INCONCLUSIVE


@pytest.fixture
async def counts_all(tmp_path: Path) -> AsyncIterator[Mapping[str, Answering]]:
    """A webhook path that limits everything of a source, the signed ones too, and recovers."""

    def answer(request: web.Request, before: int) -> web.Response:
        if 15 <= before < 36:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(status=200 if SIGNED in request.headers else 401)

    yield {PAYMENTS: GOOD, WEBHOOK: answer}


async def test_a_limit_for_all_of_a_source(tmp_path: Path, counts_all: Mapping[str, Answering]) -> None:
    """It fails until the operator says that it counts each source, and is advised against even then."""
    finding = await found(tmp_path, counts_all)
    assert (finding.verdict, "webhook_limit: source" in finding.remedy) == (Verdict.FAIL, True), finding
    finding = await found(tmp_path, counts_all, webhook_limit="source")
    assert (finding.verdict, "was not seen" in finding.reason) == (Verdict.ADVICE, True), finding


# ---- judging -----------------------------------------------------------------------------------------------


def pressed(before: int, during: int, after: int) -> Pressed:
    said = Met(429, RetryAfter("seconds", 1.0))
    burst = Burst(66, {401: 60, 429: 6}, said, "", 300)
    one = Limited(PAYMENTS, burst, Met(401), 1000)
    return Pressed(one, one, Met(before), Met(during), Met(after), RateLimits())


@pytest.mark.parametrize(
    ("before", "during", "after", "verdict"),
    [
        (200, 200, 200, Verdict.PASS),
        (404, 202, 404, Verdict.PASS),
        (200, 429, 200, Verdict.FAIL),
        (200, 200, 429, Verdict.FAIL),
        (200, 500, 200, Verdict.FAIL),
        (401, 401, 401, Verdict.INCONCLUSIVE),
        (401, 429, 401, Verdict.INCONCLUSIVE),
        (403, 403, 403, Verdict.INCONCLUSIVE),
        (429, 429, 200, Verdict.INCONCLUSIVE),
        (200, 302, 200, Verdict.INCONCLUSIVE),
        (0, 200, 200, Verdict.INCONCLUSIVE),
        (200, 0, 200, Verdict.INCONCLUSIVE),
        (200, 200, 0, Verdict.INCONCLUSIVE),
    ],
)
def test_the_gateway_must_get_in(before: int, during: int, after: int, verdict: Verdict) -> None:
    """A correctly signed webhook is accepted before, while others are limited, and afterwards, or nothing passes."""
    assert judge(pressed(before, during, after), Limits()).verdict is verdict


@pytest.mark.parametrize(
    ("sent", "took_ms", "declared", "verdict"),
    [
        (150, 10_400, RateLimits(), Verdict.INCONCLUSIVE),
        (150, 9_000, RateLimits(), Verdict.INCONCLUSIVE),
        (150, 8_900, RateLimits(), Verdict.FAIL),
        (150, 300, RateLimits(), Verdict.FAIL),
        (150, 300, RateLimits(burst=200, per_second=10), Verdict.INCONCLUSIVE),
        (150, 10_400, RateLimits(burst=20, per_second=5), Verdict.FAIL),
    ],
)
def test_a_limit_that_the_burst_never_reached_is_not_called_missing(
    sent: int, took_ms: int, declared: RateLimits, verdict: Verdict
) -> None:
    """So few requests in so long a time that the declared limit allows them measure nothing; more of them do."""
    none = Limited(PAYMENTS, Burst(sent, {422: sent}, None, "", took_ms), None, 0)
    finding = judge(Pressed(none, none, Met(200), Met(200), Met(200), declared), Limits())
    assert finding.verdict is verdict, finding
    assert ("no limit in force" in finding.reason) is (verdict is Verdict.FAIL)
    assert ("contract.limits" in finding.reason) is (verdict is Verdict.INCONCLUSIVE)


async def test_what_the_service_declares_is_what_must_be_reached(tmp_path: Path) -> None:
    """A burst within what `contract.limits` of pipeline.yaml allows accuses nobody."""
    async with serving({PAYMENTS: always(401), WEBHOOK: GOOD}) as address:
        made = declaring(plain_world(tmp_path, address), RateLimits(burst=60, per_second=1))
        finding = await ask(CHECK, made, burst=60)
    assert (finding.verdict, "60 at once" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


def test_nothing_sent_is_no_limit() -> None:
    """A burst of no requests proves nothing."""
    none = Limited(PAYMENTS, Burst(0, {}, None, "", 0), None, 0)
    assert (
        judge(Pressed(none, none, Met(200), Met(200), Met(200), RateLimits()), Limits()).verdict is Verdict.INCONCLUSIVE
    )


# ---- Retry-After -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form", "seconds"),
    [
        (None, "none", None),
        ("1", "seconds", 1.0),
        (" 120\t", "seconds", 120.0),
        ("0", "seconds", 0.0),
        ("007", "seconds", 7.0),
        ("9" * 400, "seconds", 1e12),
        ("-1", "unreadable", None),
        ("1.5", "unreadable", None),
        ("1, 2", "unreadable", None),
        ("١٢", "unreadable", None),
        ("", "unreadable", None),
        ("Sun, 22 Nov 2026 06:00:30 GMT", "date", 30.0),
        ("Sunday, 22-Nov-26 06:00:30 GMT", "date", 30.0),
        ("Sun Nov 22 06:00:30 2026", "date", 30.0),
        ("Sun Nov  1 06:00:00 2026", "date", -21 * 86400.0),
        ("Sun, 22 Nov 2026 05:59:00 GMT", "date", -60.0),
        ("Sun, 22 Nov 2026 06:00:30 +0200", "unreadable", None),
        ("Sun, 31 Feb 2026 06:00:30 GMT", "unreadable", None),
        ("Sun, 22 Nov 2026 25:00:30 GMT", "unreadable", None),
        ("2026-11-22T06:00:30Z", "unreadable", None),
    ],
)
def test_retry_after_in_both_forms(value: str | None, form: str, seconds: float | None) -> None:
    """Seconds and HTTP dates are read as the standard says, everything else is unreadable."""
    said = parse(value, NOW)
    assert (said.form, said.seconds) == (form, seconds)


def test_a_year_of_two_digits_is_never_far_ahead() -> None:
    """More than fifty years ahead means the century before."""
    assert http_date("Sunday, 06-Nov-94 08:49:37 GMT", NOW) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT", fullmatch=True))
def test_no_text_breaks_the_reading(value: str) -> None:
    """Whatever a server says is read or called unreadable, and can be told."""
    said = parse(value, NOW)
    assert (said.seconds is None) == (said.form == "unreadable")
    assert str(said)
    assert said.flaw or (said.seconds is not None and 0 < said.seconds <= LONGEST_S)


@given(st.integers(-(10**6), 10**6))
def test_dates_of_a_peer_are_read_to_the_second(seconds: int) -> None:
    """What the standard library writes as an HTTP date, we read as the same instant."""
    text = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse(text, NOW).seconds == seconds


@given(st.integers(0, 10**12 - 1))
def test_seconds_are_read_as_they_are(seconds: int) -> None:
    """Every number of seconds is itself."""
    assert parse(str(seconds), NOW) == RetryAfter("seconds", float(seconds))


def test_the_flaw_names_what_is_wrong() -> None:
    """A sane value has no flaw; none, now and too long have one."""
    assert RetryAfter("seconds", 1.0).flaw == ""
    assert NOT_SAID.flaw == "without Retry-After"
