"""The shop's security events: every refusal leaves one, in log and metric, without what a stranger should not write."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checks import CHECKS
from checks.watch_suspicious_activity import CHECK as SUSPICIOUS
from gateways import ikhokha_wire as wire
from pipeline import security_events
from pipeline.security_events import JSON_SCHEMA, KINDS
from pipeline.verdict import Verdict
from sandbox.shop import build as building
from sandbox.shop.server.logs import JsonLines
from sandbox.shop.server.security import claimed
from tests.checks.worlds import ask, at
from tests.probes.shop_rig import ShopRig, Time, shop, till
from tests.sandbox.gateway_rig import APP_ID, SECRET

WEBHOOK, PAYMENTS = "/api/webhooks/ikhokha", "/api/payments"
PAY = "payment.refused"
CARD = "4242" * 4
COURSE = {"amount": 49900, "currency": "ZAR", "course": "python-101"}
VALID = jsonschema.Draft202012Validator(dict(JSON_SCHEMA))


class Lines(logging.Handler):
    """The shop's log as it is written, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines("release-1"))
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@dataclass
class Watched:
    """A running shop, its log, and a way to talk to it."""

    rig: ShopRig
    log: Lines

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with self.rig.world.http() as client:
            return await client.request(method, self.rig.base + path, **more)

    async def pay(self, reference: object, **changed: object) -> httpx.Response:
        return await self.send("POST", PAYMENTS, json={**COURSE, "reference": reference, **changed})

    async def webhook(self, text: str, signature: str | None = None) -> httpx.Response:
        """Signed correctly unless a signature is given; '' for none."""
        signed = wire.sign(SECRET, WEBHOOK, text) if signature is None else signature
        headers = {"Content-Type": "application/json", "ik-appid": APP_ID, **({"ik-sign": signed} if signed else {})}
        return await self.send("POST", WEBHOOK, content=text, headers=headers)

    def events(self) -> list[dict[str, Any]]:
        """The security events since the last look."""
        told = [line for line in map(json.loads, self.log.texts) if line["event"] == "security"]
        self.log.texts.clear()
        return told

    async def counted(self) -> dict[str, int]:
        """The metric, kinds of which none happened left out."""
        page = (await self.send("GET", "/metrics")).text.splitlines()
        counts = [line.rsplit(" ", 1) for line in page if line.startswith("security_events_total{")]
        return {name.split('"')[1]: int(float(count)) for name, count in counts if float(count)}


@pytest.fixture
def log() -> Iterator[Lines]:
    """Everything the shop logs, kept as lines."""
    logger, lines = logging.getLogger("shop"), Lines()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(level)


@pytest.fixture
async def watched(tmp_path: Path, log: Lines) -> AsyncIterator[Watched]:
    async with till(tmp_path) as gateway, shop(gateway, tmp_path) as rig:
        yield Watched(rig, log)


async def test_every_refusal_leaves_one_event_and_one_count(watched: Watched) -> None:
    """Whatever is refused, and wherever in the shop, is told once, with its kind, its source and its reference."""
    told = wire.webhook_text("1" * 15, "order-7", wire.SUCCESS)
    created = await watched.pay("order-1")
    assert created.status_code == 201, created.text
    unpaid = wire.webhook_text(created.json()["paylinkID"], "order-1", wire.SUCCESS)
    plain = {"Content-Type": "text/plain"}
    assert watched.events() == []
    refusals = [
        (watched.webhook(told, ""), 401, "webhook.refused", "order-7"),
        (watched.webhook(told, "0" * 64), 401, "webhook.refused", "order-7"),
        (watched.webhook("not json", "0" * 64), 401, "webhook.refused", ""),
        (watched.send("GET", WEBHOOK), 405, "webhook.malformed", ""),
        (watched.send("POST", WEBHOOK, content=told, headers=plain), 415, "webhook.malformed", ""),
        (watched.webhook("x" * 20_000), 413, "webhook.malformed", ""),
        (watched.webhook('{"a":1}'), 400, "webhook.malformed", ""),
        (watched.send("POST", WEBHOOK + "/", content=told), 404, "webhook.malformed", ""),
        (watched.webhook(unpaid), 200, "webhook.denied", "order-1"),
        (watched.webhook(told), 200, "webhook.unknown", "order-7"),
        (watched.send("POST", PAYMENTS, content="{", headers={"Content-Type": "application/json"}), 400, PAY, ""),
        (watched.pay("order-2", amount=1), 422, PAY, "order-2"),
        (watched.pay("order-1", course="payments-201", amount=129900), 409, PAY, "order-1"),
        (watched.send("PUT", PAYMENTS), 405, PAY, ""),
    ]
    expected: dict[str, int] = {}
    for request, status, kind, reference in refusals:
        answer = await request
        (event,) = watched.events()
        assert (answer.status_code, event["kind"], event["reference"]) == (status, kind, reference), event
        assert event["source"] == "127.0.0.1"
        VALID.validate(event)
        expected[kind] = expected.get(kind, 0) + 1
        assert await watched.counted() == expected, event


async def test_what_is_not_refused_is_no_event(watched: Watched) -> None:
    """A payment, its failed attempt, a question for a reference that nobody used and the pages leave no event."""
    created = await watched.pay("order-1")
    failed = wire.webhook_text(created.json()["paylinkID"], "order-1", wire.FAILURE)
    assert (await watched.webhook(failed)).json() == {"result": "failed"}
    for path in (PAYMENTS + "/order-1", PAYMENTS + "/order-2", "/", "/nowhere", "/health/ready", "/metrics"):
        await watched.send("GET", path)
    assert watched.events() == []
    assert await watched.counted() == {}


async def test_smoke_references_are_logged_and_not_counted_where_they_are_proven(watched: Watched) -> None:
    """What the pipeline sends alarms nobody, but an unsigned webhook that only claims to be its own does count."""
    told = wire.webhook_text("1" * 15, "smoke-7", wire.SUCCESS)
    await watched.pay("smoke-7", amount=1)
    await watched.webhook(told)
    assert [event["kind"] for event in watched.events()] == ["payment.refused", "webhook.unknown"]
    assert await watched.counted() == {}
    await watched.webhook(told, "")
    assert await watched.counted() == {"webhook.refused": 1}


class Still(Time):
    """A clock on which nothing refills."""

    def monotonic(self) -> float:
        return 0.0


async def test_a_flood_is_counted_to_the_last_request(tmp_path: Path, log: Lines) -> None:
    """Above the rate limit each request is an event too, with the path it was sent to."""
    async with till(tmp_path) as gateway, shop(gateway, tmp_path, time=Still()) as rig:
        watched = Watched(rig, log)
        await asyncio.gather(*(watched.webhook("{}", "0" * 64) for _ in range(70)))
        events = watched.events()
        assert await watched.counted() == {"webhook.refused": 60, "rate.limited": 10}
    kinds = [event["kind"] for event in events]
    assert (kinds.count("webhook.refused"), kinds.count("rate.limited")) == (60, 10)
    assert all(WEBHOOK in event["reason"] for event in events if event["kind"] == "rate.limited")


async def test_an_enrolment_that_nobody_paid_for_is_an_event(watched: Watched) -> None:
    """What an earlier release let in is found at the next start, taken back, and told."""
    created = await watched.pay("order-1")
    store = watched.rig.store
    await store.run(store.paid, "order-1", created.json()["paylinkID"], "")
    audit = asyncio.create_task(watched.rig.shop.background["audit"]())
    events: list[dict[str, Any]] = []
    while not events:
        await asyncio.sleep(0.01)
        events = watched.events()
    audit.cancel()
    await asyncio.gather(audit, return_exceptions=True)
    assert [(event["kind"], event["reference"]) for event in events] == [("enrolment.revoked", "order-1")]
    assert await watched.counted() == {"enrolment.revoked": 1}


async def test_no_text_of_a_stranger_reaches_the_log_as_it_is(watched: Watched) -> None:
    """Card numbers, the shop's own credentials, control characters and long texts are in no line of the log."""
    hostile = [
        CARD,
        f"order-{CARD}",
        "4242 4242 4242 4242",
        SECRET,
        APP_ID,
        "a\x1b[2J\nforged",
        "\u202eorder",
        "x" * 9_000,
    ]
    for text in hostile:
        await watched.pay(text, amount=1)
        await watched.webhook(json.dumps({"externalTransactionID": text}), "0" * 64)
    await watched.webhook(wire.webhook_text("1" * 15, CARD, wire.SUCCESS))
    await watched.send("GET", f"{PAYMENTS}/{CARD}")
    log = "\n".join(watched.log.texts)
    for text in (CARD, "4242 4242", SECRET, APP_ID, "forged", "\\u001b", "\\u202e", "x" * 100):
        assert text not in log, text
    events = watched.events()
    assert len(events) == 2 * len(hostile) + 1
    for event in events:
        VALID.validate(event)


async def test_a_line_of_the_log_says_that_it_is_a_security_event(watched: Watched) -> None:
    """What ships the log finds these lines by one member, beside those that every line has."""
    await watched.webhook("{}", "")
    (line,) = watched.events()
    assert (line["event"], line["level"], line["release"]) == ("security", "warning", "release-1")
    assert set(line) - set(JSON_SCHEMA["required"]) == {"at", "level", "release", "event"}


async def test_a_proof_of_the_pipeline_explains_the_refusals_it_causes(watched: Watched) -> None:
    """Each forged webhook is on record as sent, with the reference that the service then tells as refused."""
    rig = watched.rig
    finding = await ask(CHECKS["webhook.refuses_wrong_signature"], rig.world)
    assert finding.verdict is Verdict.PASS, finding
    refused = [event["reference"] for event in watched.events() if event["kind"] == "webhook.refused"]
    assert [event.reference for event in rig.events] == refused
    assert {(event.kind, event.source) for event in rig.events} == {("probe.sent", "webhook.refuses_wrong_signature")}
    assert len(refused) == 2
    assert all(event.reason.startswith("a webhook with ") for event in rig.events)


@pytest.mark.parametrize(
    ("name", "params", "kind"),
    [
        ("enrolment.needs_payment", {}, "webhook.denied"),
        ("webhook.duplicate_is_harmless", {"mode": "initialise"}, "webhook.denied"),
        ("webhook.sources_enforced", {}, "webhook.unknown"),
    ],
)
async def test_what_a_proof_signs_for_nobody_s_payment_is_explained_too(
    watched: Watched, name: str, params: dict[str, Any], kind: str
) -> None:
    """What the service tells as denied or unknown, as if somebody held the secret, is on record as sent by a check."""
    rig = watched.rig
    contract = rig.world.spec.contract.model_copy(update={"webhook_sources": ("198.51.100.7",)})
    await ask(CHECKS[name], replace(rig.world, spec=rig.world.spec.model_copy(update={"contract": contract})), **params)
    told = {event["reference"] for event in watched.events() if event["kind"] == kind}
    assert told == {event.reference for event in rig.events if event.source == name}
    assert len(told) == 1


async def test_a_probe_is_on_record_before_it_is_sent(watched: Watched) -> None:
    """Where the record cannot be written nothing forged leaves the machine."""

    def full(_event: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        await ask(CHECKS["webhook.refuses_unsigned"], replace(watched.rig.world, security=full))
    assert watched.events() == []


class Meanwhile(Time):
    """A clock whose sleeps are spent on something."""

    def __init__(self, happens: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._happens = happens

    async def sleep(self, seconds: float) -> None:
        await self._happens()
        self.move(seconds)


@pytest.mark.parametrize(("forged", "verdict"), [(0, Verdict.PASS), (11, Verdict.ADVICE), (12, Verdict.FAIL)])
async def test_the_watch_sees_an_attack_on_the_shop(watched: Watched, forged: int, verdict: Verdict) -> None:
    """Forged webhooks during the watch, not before it, are counted by the shop and judged by the pipeline."""
    await watched.webhook("{}", "")

    async def attack() -> None:
        for _ in range(forged):
            await watched.webhook("{}", "")

    world = replace(at(watched.rig.world, watch_for=1.0), clock=Meanwhile(attack))
    finding = await ask(SUSPICIOUS, world, per_minute=12)
    assert finding.verdict is verdict, finding
    assert finding.evidence["events"] == forged


@example(b"[" * 9_000)
@example(b"1" * 9_000)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_body_has_a_claim_or_none(body: bytes) -> None:
    """Reading what a refused body claims never breaks the refusal."""
    assert isinstance(claimed(body, "reference"), str)


def test_a_release_carries_the_events_of_the_pipeline(tmp_path: Path) -> None:
    """The shop writes the very lines whose schema the pipeline promises, and needs nothing outside its folder."""
    building.build(tmp_path / "dist", {})
    vendored = tmp_path / "dist" / "shop" / "security_events.py"
    assert vendored.read_bytes() == Path(security_events.__file__).read_bytes()
    assert set(KINDS) >= {"webhook.refused", "payment.refused", "rate.limited"}
