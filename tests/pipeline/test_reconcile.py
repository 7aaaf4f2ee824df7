"""I1, measured: payments at the gateway against activations at the service."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pipeline.asking import AT_ONCE, TrustingService, each, reading
from pipeline.contracts import GatewayPayment
from pipeline.errors import ServiceGarbled, ServiceUnreachable, Usage
from pipeline.events import Entry, Kind
from pipeline.reconcile import CLOCK_MARGIN, PENDING_FOR, TODO, Reconciliation, Seen, Wrong, compare, reconcile
from pipeline.service import Service
from pipeline.spec import Contract
from pipeline.window import LONGEST, asked_since, since_on_record
from sandbox import authority
from sandbox.authority import Certificates
from tests.pipeline.rooms import Ground, Shop, StubbornClock
from tests.sandbox.gateway_rig import served

SINCE = datetime(2020, 1, 1, tzinfo=UTC)


def payment(reference: str, *, paid: bool = True, cents: int = 100, link: str = "", created: str = "") -> Any:
    status = "PAID" if paid else "PENDING"
    return GatewayPayment(link or f"link-{reference}", reference, cents, status, paid, created or SINCE.isoformat())  # type: ignore[arg-type]


CASES: Mapping[str, tuple[Any, Seen, tuple[str, str, bool] | None]] = {
    "agreed": ([payment("a")], Seen(1, 100), None),
    "unpaid and not activated": ([payment("a", paid=False)], Seen(0, 100), None),
    "never seen and unpaid": ([payment("a", paid=False)], Seen(0, None), None),
    "second link unpaid": ([payment("a"), payment("a", paid=False, link="b")], Seen(1, 100), None),
    "lost": ([payment("a")], Seen(0, 100), ("0 activations", "1 activation", True)),
    "doubled": ([payment("a")], Seen(2, 100), ("2 activations", "1 activation", False)),
    "given away": (
        [payment("a", paid=False)],
        Seen(1, 100),
        ("1 activation", "no activation: the gateway has no paid payment", False),
    ),
    "never seen": (
        [payment("a")],
        Seen(0, None),
        ("0 activations, and the service has no such payment", "1 activation", False),
    ),
    "other amount": (
        [payment("a", cents=1)],
        Seen(1, 100),
        ("100 cents at the service", "1 cents, as the gateway was paid", False),
    ),
    "other amount, not activated": (
        [payment("a", cents=1)],
        Seen(0, 100),
        ("100 cents at the service, 0 activations", "1 cents, as the gateway was paid", False),
    ),
    "paid twice": (
        [payment("a"), payment("a", link="b")],
        Seen(1, 100),
        ("paid 2 times at the gateway, 1 activation", "one paid payment for a reference", False),
    ),
}


@pytest.mark.parametrize(("payments", "seen", "expected"), CASES.values(), ids=CASES)
def test_compare(payments: Any, seen: Seen, expected: tuple[str, str, bool] | None) -> None:
    """Exactly one activation for each paid payment, none without, to the cent."""
    result = compare(payments, {"a": seen})
    assert result.ok is (expected is None)
    assert [(one.found, one.expected, one.lost) for one in result.mismatches] == ([expected] if expected else [])


def test_nothing_paid_is_counted_as_nothing() -> None:
    """Without payments the books agree and say how little they saw."""
    assert compare([], {}) == Reconciliation(0, 0, ())


def test_payments_without_a_reference_are_not_one_order() -> None:
    """What somebody else took through the same account is named by its link, each by its own."""
    payments = [payment("", link="x"), payment("", link="y"), payment("", link="z", paid=False)]
    result = compare(payments, {f"link {link}": Seen(0, None) for link in "xyz"})
    assert [(one.reference, one.what) for one in result.mismatches] == [
        ("link x", Wrong.UNKNOWN),
        ("link y", Wrong.UNKNOWN),
    ]


async def ask(shop: Shop, *, repair: bool = True, settle: float = 1.0) -> Reconciliation:
    service = Service("https://shop.test", Contract(), shop.client)
    return await reconcile(shop, service, StubbornClock(), since=SINCE, settle=settle, repair=repair)  # type: ignore[arg-type]


@pytest.fixture
def shop() -> Shop:
    return Shop(Ground(live="1-old"))  # type: ignore[arg-type]


async def test_lost_webhook_is_delivered_again_once(shop: Shop) -> None:
    """What is paid and not activated gets its webhook through the service's own door, once, and then agrees."""
    shop.paid("a", activations=0)
    shop.paid("b", activations=1)
    result = await ask(shop)
    assert (result.ok, result.repaired, shop.webhooks) == (True, ("a",), ["a"])
    assert (result.paid, result.activated) == (2, 2)


class SlowClock(StubbornClock):
    """A clock that was set back an hour."""

    def now(self) -> datetime:
        return super().now() - timedelta(hours=1)


class DatedShop(Shop):
    """A gateway that lists what was created in the time asked for, by a clock of its own."""

    async def history(self, since: datetime, until: datetime) -> list[GatewayPayment]:
        return [one for one in self.payments.values() if since <= datetime.fromisoformat(one.created) <= until]


async def test_clock_set_back_hides_no_payment() -> None:
    """A webhook lost since a run began is found although the clock was set back an hour in the middle of that run."""
    begun, shop = datetime.now(UTC), DatedShop(Ground(live="1-old"))  # type: ignore[arg-type]
    shop.paid("a", activations=0)
    service = Service("https://shop.test", Contract(), shop.client)
    result = await reconcile(shop, service, SlowClock(), since=begun, settle=1.0, repair=True)  # type: ignore[arg-type]
    assert (result.ok, result.repaired) == (True, ("a",))


async def test_doubled_activation_is_not_made_worse(shop: Shop) -> None:
    """An order activated twice gets no further webhook: it stays a mismatch for a person."""
    shop.paid("a", activations=2)
    result = await ask(shop)
    assert (result.ok, result.repaired, shop.webhooks) == (False, (), [])


async def test_without_repair_nothing_is_sent(shop: Shop) -> None:
    """A check that only compares delivers nothing."""
    shop.paid("a", activations=0)
    assert not (await ask(shop, repair=False)).ok
    assert shop.webhooks == []


@pytest.mark.parametrize(
    ("created", "counted"),
    [
        ((SINCE - CLOCK_MARGIN - timedelta(seconds=1)).isoformat(), 0),
        ((SINCE - CLOCK_MARGIN).isoformat(), 1),
        ("yesterday, or so", 1),
        (SINCE.replace(tzinfo=None).isoformat(), 1),
    ],
)
async def test_payments_before_the_window_are_left_out(shop: Shop, created: str, counted: int) -> None:
    """Older payments are not this run's; one whose time cannot be read, or has no zone, is compared all the same."""
    shop.paid("a", activations=1)
    shop.payments["a"] = payment("a", created=created)
    assert (await ask(shop)).paid == counted


async def test_service_that_cannot_be_asked_is_no_agreement(shop: Shop) -> None:
    """Where the service does not answer, or answers something else, nothing is known."""
    shop.paid("a", activations=1)
    shop.away = True
    with pytest.raises(ServiceUnreachable):
        await ask(shop)
    shop.away, shop.amounts["a"] = False, "100"  # type: ignore[assignment]
    with pytest.raises(ServiceGarbled):
        await ask(shop)


async def test_gateway_is_asked_again_while_payments_settle(shop: Shop) -> None:
    """A payment that settles within its time is no mismatch."""
    shop.paid("a", activations=0)
    asked = 0

    def late(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked > 4:
            shop.activations["a"] = 1
        return shop.answer(request)

    service = Service("https://shop.test", Contract(), lambda: httpx.AsyncClient(transport=httpx.MockTransport(late)))
    result = await reconcile(shop, service, StubbornClock(), since=SINCE, settle=20.0, repair=False)  # type: ignore[arg-type]
    assert result.ok


KINDS: Mapping[str, tuple[Wrong, int]] = {
    "lost": (Wrong.LOST, 100),
    "doubled": (Wrong.DOUBLED, 100),
    "given away": (Wrong.UNPAID, 100),
    "never seen": (Wrong.UNKNOWN, 100),
    "other amount": (Wrong.AMOUNT, 1),
    "other amount, not activated": (Wrong.AMOUNT, 1),
    "paid twice": (Wrong.PAID_TWICE, 200),
}


@pytest.mark.parametrize(("name", "what"), KINDS.items())
def test_every_mismatch_has_a_kind_the_cents_and_what_to_do(name: str, what: tuple[Wrong, int]) -> None:
    """Only a payment that the service knows, for the same amount, is called lost: only that another webhook mends."""
    payments, seen, _ = CASES[name]
    (one,) = compare(payments, {"a": seen}).mismatches
    assert (one.what, one.cents) == what
    assert one.todo == TODO[one.what]
    assert set(TODO) == set(Wrong)


async def test_what_never_agreed_is_not_asked_twice_of_those_that_do(shop: Shop) -> None:
    """While one reference settles, only that one is asked about again; what is made meanwhile is the next run's."""
    for reference in ("a", "b", "c"):
        shop.paid(reference, activations=1)
    shop.activations["b"] = 0
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        shop.paid("later", activations=0)
        return shop.answer(request)

    service = Service("https://shop.test", Contract(), lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    result = await reconcile(shop, service, StubbornClock(), since=SINCE, settle=3.0, repair=False)  # type: ignore[arg-type]
    assert [one.reference for one in result.mismatches] == ["b"]
    assert asked.count("/api/enrolments/a") == asked.count("/api/enrolments/c") == 1
    assert asked.count("/api/enrolments/b") > 2
    assert not [path for path in asked if "later" in path]


async def test_the_amount_is_asked_of_what_is_paid_alone(shop: Shop) -> None:
    """A payment that its customer left costs one question, a paid one two."""
    shop.paid("a", activations=1)
    shop.paid("b", activations=0)
    shop.payments["b"] = payment("b", paid=False, created=datetime.now(UTC).isoformat())
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return shop.answer(request)

    service = Service("https://shop.test", Contract(), lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    result = await reconcile(shop, service, StubbornClock(), since=SINCE, settle=1.0, repair=True)  # type: ignore[arg-type]
    assert sorted(asked) == ["/api/enrolments/a", "/api/enrolments/b", "/api/payments/a"]
    assert (result.ok, [one.reference for one in result.unpaid]) == (True, ["b"])


@pytest.mark.parametrize(
    ("age", "status", "noted"),
    [
        (PENDING_FOR + timedelta(minutes=1), "PENDING", True),
        (PENDING_FOR - timedelta(minutes=1), "PENDING", False),
        (PENDING_FOR + timedelta(minutes=1), "CANCELLED", False),
    ],
)
async def test_payments_pending_past_their_time_are_a_note(
    shop: Shop, age: timedelta, status: str, noted: bool
) -> None:
    """A payment that nobody tried to pay for an hour is told, and is no mismatch."""
    created = (datetime.now(UTC) - age).isoformat()
    shop.paid("a", activations=0)
    shop.payments["a"] = GatewayPayment("link", "a", 100, status, False, created)  # type: ignore[arg-type]
    result = await ask(shop)
    assert (result.ok, bool(result.pending), shop.webhooks) == (True, noted, [])


async def test_deliveries_may_be_made_by_whoever_keeps_a_record(shop: Shop) -> None:
    """Each lost payment is handed over once; one that was not accepted is not called repaired."""
    shop.paid("a", activations=0)
    shop.paid("b", activations=0)
    handed: list[str] = []

    async def deliver(one: GatewayPayment) -> bool:
        handed.append(one.reference)
        shop.activations[one.reference] = 1 if one.reference == "a" else 0
        return one.reference == "a"

    service = Service("https://shop.test", Contract(), shop.client)
    result = await reconcile(
        shop,  # type: ignore[arg-type]
        service,
        StubbornClock(),
        since=SINCE,
        settle=2.0,
        repair=True,
        deliver=deliver,
    )
    assert (handed, result.repaired, [one.reference for one in result.mismatches]) == (["a", "b"], ("a",), ["b"])


# ---- many questions ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return authority.ensure(tmp_path_factory.mktemp("tls"), datetime.now(UTC))


async def test_many_questions_share_a_few_kept_connections(certificates: Certificates) -> None:
    """A service whose TLS is known is asked over at most as many connections as are asked side by side."""
    peers: set[object] = set()

    async def answer(request: web.Request) -> web.Response:
        peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        return web.json_response({"activations": len(request.match_info["reference"])})

    app = web.Application()
    app.router.add_get("/api/enrolments/{reference}", answer)
    async with served(app, certificates) as base:
        tls = ssl.create_default_context(cafile=certificates.ca)
        service = TrustingService(base, Contract(), httpx.AsyncClient, tls)
        async with reading(service) as reader:
            found = await each([f"order {n:03d}/é" for n in range(200)], reader.activations)
    assert (len(found), set(found.values())) == (200, {11})
    assert len(peers) <= AT_ONCE


async def test_connections_that_the_service_ends_are_opened_anew(certificates: Certificates) -> None:
    """A release that is being replaced says goodbye after each answer: every question is answered all the same."""

    async def answer(request: web.Request) -> web.Response:
        response = web.json_response({"activations": 1})
        response.force_close()
        return response

    app = web.Application()
    app.router.add_get("/api/enrolments/{reference}", answer)
    async with served(app, certificates) as base:
        tls = ssl.create_default_context(cafile=certificates.ca)
        async with reading(TrustingService(base, Contract(), httpx.AsyncClient, tls)) as reader:
            assert len(await each(range(60), lambda n: reader.activations(str(n)))) == 60


async def test_a_certificate_nobody_vouches_for_is_no_answer(certificates: Certificates) -> None:
    """Kept connections are verified like all others."""
    async with served(web.Application(), certificates) as base:
        service = TrustingService(base, Contract(), httpx.AsyncClient, ssl.create_default_context())
        async with reading(service) as reader:
            with pytest.raises(ServiceUnreachable):
                await reader.activations("a")


async def test_a_service_that_nobody_answers_for_is_unreachable() -> None:
    """A port where nobody listens gives an error that names it, not a count."""
    service = TrustingService("https://127.0.0.1:9", Contract(), httpx.AsyncClient, ssl.create_default_context())
    async with reading(service) as reader:
        with pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:9"):
            await each(["a", "b"], reader.activations)


async def test_the_first_error_ends_all_questions() -> None:
    """What cannot be known is not asked a thousand times."""
    asked = 0

    async def refuse(_thing: int) -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise ServiceUnreachable("away")

    with pytest.raises(ServiceUnreachable):
        await each(range(1000), refuse)
    assert asked <= AT_ONCE


# ---- since when --------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("90 min", NOW - timedelta(minutes=90)),
        ("30d", NOW - timedelta(days=30)),
        ("2026-11-22T08:00:00Z", NOW - timedelta(hours=4)),
        ("2026-11-22T10:00:00+02:00", NOW - timedelta(hours=4)),
    ],
)
def test_since_is_an_instant_or_a_duration(text: str, since: datetime) -> None:
    """Instants say their time zone; durations count back from now."""
    assert asked_since(text, NOW) == since


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("yesterday", "neither"),
        ("", "neither"),
        ("2 weeks", "neither"),
        ("2026-11-22T08:00:00", "time zone"),
        ("2026-11-22", "time zone"),
        ("2026-11-23T08:00:00Z", "not in the past"),
        ("0s", "not in the past"),
        ("31d", "longer ago"),
        ("1999-01-01T00:00:00Z", "longer ago"),
        ("999999999d", "neither"),
        ("0001-01-01T00:00:00+14:00", "neither"),
        ("٢h", "neither"),
    ],
)
def test_any_other_since_is_refused_with_what_is_allowed(text: str, word: str) -> None:
    """What is wrong is said, and what would be right."""
    with pytest.raises(Usage, match=word) as error:
        asked_since(text, NOW)
    assert error.value.remedy


@given(st.text() | st.from_regex(r"\d{1,12}(\.\d{1,3})?\s?[a-z]{1,3}") | st.datetimes().map(lambda at: at.isoformat()))
def test_no_since_breaks_it(text: str) -> None:
    """Whatever is typed is an instant of the last 30 days, or refused."""
    with suppress(Usage):
        assert NOW - LONGEST <= asked_since(text, NOW) < NOW


def run(
    at: datetime, since: datetime, until: datetime, *, ok: bool = True, verb: str = "reconcile", env: str = "staging"
) -> list[Entry]:
    """What a run leaves on record."""
    name = f"run-{at:%d%H%M}"
    told = {"ok": ok, "since": since.isoformat(), "whole_until": until.isoformat()}
    return [
        Entry(1, name, at, Kind.RUN_STARTED, {"verb": verb, "environment": env}, "", ""),
        Entry(2, name, at, Kind.RECONCILED, told if verb == "reconcile" else {"ok": ok}, "", ""),
    ]


DAY = timedelta(days=1)
SLEW = timedelta(seconds=1)
WHOLE = run(NOW - 2 * DAY, NOW - 32 * DAY, NOW - 3 * DAY)


@pytest.mark.parametrize(
    ("entries", "days"),
    [
        ([], 30),
        (WHOLE, 3),
        ([*WHOLE, *run(NOW - DAY, NOW - 3 * DAY, NOW - DAY)], 1),
        ([*WHOLE, *run(NOW - DAY, NOW - 2 * DAY, NOW - DAY)], 3),
        ([*WHOLE, *run(NOW - DAY, NOW - 3 * DAY, NOW - DAY, ok=False)], 3),
        ([*WHOLE, *run(NOW - DAY, NOW - 3 * DAY, NOW - DAY, verb="deploy")], 3),
        ([*WHOLE, *run(NOW - DAY, NOW - 3 * DAY, NOW - DAY, env="production")], 3),
        (run(NOW - DAY, NOW - 2 * DAY, NOW - DAY), 30),
        (run(NOW - 40 * DAY, NOW - 70 * DAY, NOW - 40 * DAY), 30),
        ([*WHOLE, *run(NOW + DAY, NOW - 3 * DAY, NOW + DAY)], 3),
        ([*WHOLE, *run(NOW - DAY, NOW - 3 * DAY, NOW - DAY), *run(NOW - 1.5 * DAY, NOW, NOW, verb="deploy")], 3),
        ([*WHOLE, *run(NOW - DAY, NOW - 3 * DAY, NOW - DAY), *run(NOW - DAY - SLEW, NOW, NOW, verb="deploy")], 1),
    ],
    ids=[
        *("none", "whole", "continued", "with a gap", "not agreed", "deploy", "elsewhere", "short alone", "long ago"),
        *("clock ahead until now", "clock ahead then", "clock corrected a little"),
    ],
)
def test_by_default_it_begins_where_whole_books_end(entries: list[Entry], days: int) -> None:
    """A run that compared less, did not agree, was another verb's, or had a clock ahead, moves the beginning not."""
    assert since_on_record(entries, "staging", NOW) == NOW - days * DAY
