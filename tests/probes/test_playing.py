"""Playing probes against real servers: turns, controls, limits, crashes, death, and what may never be sent."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from checks.probes.judging import finding
from checks.probes.playing import Run, Settings, play
from checks.probes.probe import CLOSED, INVALID, REFUSED, TAKEN, Effect, Need, Probe, Severity, Shown, Turn
from checks.probes.scene import Scene
from checks.probes.sending import UNCONNECTED, Line, over_socket, parsed
from checks.probes.table import PROBES
from checks.probes.webhooks_later import earlier
from checks.probes.webhooks_transport import encoded, in_the_clear, other_case, slashed
from checks.withstands_probes import PAYMENT as PAYMENTS
from checks.withstands_probes import WEBHOOK as WEBHOOKS
from pipeline.contracts import PastFinding, PastRun
from pipeline.names import nearest
from pipeline.service import Service
from pipeline.verdict import Finding, Verdict
from tests.checks.worlds import ask, world
from tests.probes.shop_rig import shop, till
from tests.probes.small_shop import CUSTOMERS, WEBHOOK, SmallShop

SIGNATURES = ("webhook.unsigned", "webhook.signature-made-up", "webhook.signature-doubled")


async def played(small: SmallShop, *names: str, settings: Settings | None = None) -> tuple[Run, Finding]:
    run = await play(small.world, [PROBES[name] for name in names], settings or Settings())
    return run, finding(run)


def verdicts(found: Finding) -> dict[str, str]:
    rows = found.evidence["probes"]
    assert isinstance(rows, list)
    return {row["name"]: row["verdict"] for row in rows}


# ---- what may never be sent --------------------------------------------------------------------------------


async def test_without_power_and_money_nothing_of_others_is_named(small: SmallShop) -> None:
    """In production every message speaks of a payment that the prober made or that nobody made, and pays nothing."""
    webhooks = [probe for name, probe in PROBES.items() if name.startswith("webhook.")]
    run = await play(small.world, webhooks, Settings(patience_s=0.2))
    assert len(small.messages) > 60
    ours = set(small.payments) - set(CUSTOMERS)
    for message in small.messages:
        text = message.body.decode("utf-8", "replace")
        assert not any(one in text for pair in CUSTOMERS.items() for one in pair), message
        if WEBHOOK in message.path and message.body.startswith(b'{"paylinkID":"'):
            named = re.findall(r'"externalTransactionID":"([^"]*)"', text)
            assert all(name in ours or name.startswith("smoke-") for name in named), message
    assert len(ours) <= 12, "a few orders are lent from probe to probe"
    assert not any(small.enrolled.values())
    assert not any("/pay/" in message.path for message in small.messages)
    skipped = {one.probe.name for one in run.played if one.skipped}
    assert skipped >= {probe.name for probe in webhooks if probe.needs & {Need.CONTROL, Need.PAID}}


async def test_mode_card_never_spends_real_money(small: SmallShop) -> None:
    """Mode card against a gateway that takes real money is refused before anything is sent."""
    real = replace(small.world, addresses=replace(small.world.addresses, gateway="https://api.example.com"))
    for check in (WEBHOOKS, PAYMENTS):
        found = await ask(check, real, mode="card")
        assert (found.verdict, "takes real money" in found.reason) == (Verdict.FAIL, True)
    assert not small.messages


# ---- the control -------------------------------------------------------------------------------------------


async def test_the_control_stands_first_and_last(small: SmallShop) -> None:
    """The first and the last message are the correctly signed webhook, and all is well with a careful shop."""
    _, found = await played(small, *SIGNATURES)
    assert found.verdict is Verdict.PASS, found
    first, last = small.webhooks[0], small.webhooks[-1]
    for message in (first, last):
        assert json.loads(message.body)["status"] == "FAILURE"
        assert json.loads(message.body)["externalTransactionID"] not in small.payments


async def test_a_shop_that_refuses_everything_proves_nothing(small: SmallShop) -> None:
    """Refusing every webhook, the gateway's own included, is no virtue."""
    small.refuses_all = True
    _, found = await played(small, *SIGNATURES)
    assert (found.verdict, "Webhook signature mismatch" in found.remedy) == (Verdict.INCONCLUSIVE, True), found


async def test_what_is_let_in_fails_whatever_the_control_says(small: SmallShop) -> None:
    """A shop that refuses the control and enrols on a forged webhook fails."""
    small.refuses_all = small.enrols_on_refusal = True
    _, found = await played(small, *SIGNATURES)
    assert (found.verdict, "the probe must leave" in found.reason) == (Verdict.FAIL, True), found


# ---- mistakes of one kind of byte ---------------------------------------------------------------------------


def _believes(secret: str) -> Callable[[SmallShop], Callable[[web.Request, bytes], int]]:
    """A shop that takes what is signed with this secret as well."""

    def of(small: SmallShop) -> Callable[[web.Request, bytes], int]:
        scheme = small.world.gateway.scheme.with_secret(secret)
        at = small.world.clock.now()
        return lambda request, body: 200 if scheme.verify(WEBHOOK, body, request.headers, at=at).accepted else 0

    return of


def _compares(part: slice) -> Callable[[SmallShop], Callable[[web.Request, bytes], int]]:
    """A shop that compares only these characters of a signature of the right length."""

    def of(small: SmallShop) -> Callable[[web.Request, bytes], int]:
        def judge(request: web.Request, body: bytes) -> int:
            right = small.world.gateway.scheme.sign(WEBHOOK, body, at=small.world.clock.now()).headers["ik-sign"]
            given = request.headers.get("ik-sign", "")
            alike = len(given) == len(right) and given[part] == right[part] and b"SUCCESS" in body
            return 200 if alike and request.path == WEBHOOK else 0

        return judge

    return of


def _when(status: int, seen: Callable[[web.Request, bytes], bool]) -> Callable[[SmallShop], object]:
    return lambda _small: lambda request, body: status if seen(request, body) else 0


def _odd_header(name: str) -> Callable[[web.Request, bytes], bool]:
    return lambda request, _body: not request.headers.get(name, "").isascii()


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("webhook.signature-made-up", _when(500, _odd_header("ik-sign"))),
        ("webhook.sender-unknown", _when(500, _odd_header("ik-appid"))),
        ("webhook.signature-of-wrong-secret", _believes("\0")),
        ("webhook.signature-of-wrong-secret", _believes("undefined")),
        ("webhook.signature-truncated", _compares(slice(0, 32))),
        ("webhook.signature-truncated", _compares(slice(32, 64))),
        ("webhook.body-byte-changed", _when(200, lambda _request, body: b'"amount":1' in body)),
        ("webhook.body-array", _when(500, lambda _request, body: b"\\ud800" in body)),
        ("webhook.body-array", _when(500, lambda _request, body: b"\\u0000" in body)),
        ("webhook.body-number-forms", _when(500, lambda _request, body: b"9" * 4301 in body)),
        ("webhook.body-large", _when(200, lambda request, _body: "Content-Length" not in request.headers)),
    ],
)
async def test_a_mistake_about_one_kind_of_bytes_is_found(
    small: SmallShop, name: str, mistake: Callable[[SmallShop], Callable[[web.Request, bytes], int]]
) -> None:
    """A shop that is careful but for one kind of message is sent that message, and fails."""
    _, found = await played(small, name)
    assert found.verdict is Verdict.PASS, found
    small.mistake = mistake(small)
    _, found = await played(small, name)
    assert found.verdict is Verdict.FAIL, found


async def test_what_comes_from_a_queue_is_waited_for(small: SmallShop) -> None:
    """A shop that answers first and enrols later is found out at the end, though all was well when its probe looked."""
    small.enrols_after_s = 0.8
    run, found = await played(small, "webhook.success-for-unknown", settings=Settings(lag_s=1.5))
    shown = run.played[0].shown
    assert shown is not None and shown.after is not None and not shown.after.enrolled
    assert (found.verdict, "was changed later" in found.reason) == (Verdict.FAIL, True), found


async def test_the_api_key_never_travels_without_tls(small: SmallShop) -> None:
    """To a service elsewhere the plain message carries a signature, which is of no use to others, and no API key."""
    away = replace(
        small.world, service=Service("https://shop.example.com", small.world.spec.contract, small.world.http)
    )
    signed = away.gateway.webhook(WEBHOOK, "link", "smoke-1", "SUCCESS")
    assert list(in_the_clear(away, signed)) == ["ik-sign"]
    assert in_the_clear(small.world, signed) == signed.headers


async def test_where_nothing_listens_nothing_was_refused(small: SmallShop) -> None:
    """A connection that never came about is told apart from one that the service closed."""
    with socket.socket() as taken:  # bound, so that nobody else gets the port, and not listening
        taken.bind(("127.0.0.1", 0))
        for tls in (None, ssl.create_default_context()):
            line = Line("127.0.0.1", taken.getsockname()[1], tls)
            came = await over_socket(small.world, line, b"", sent="a message", within_s=5.0)
            assert (came.reply.status, came.reply.lost.startswith(UNCONNECTED)) == (CLOSED, True), came


# ---- limits, death, crashes --------------------------------------------------------------------------------


async def test_a_limit_is_waited_out_once(small: SmallShop) -> None:
    """A 429 is waited out and the message sent again; one that stays is no refusal."""
    small.limits = 1
    _, found = await played(small, "webhook.unsigned")
    assert found.verdict is Verdict.PASS, found
    small.limits = 10
    _, found = await played(small, "webhook.unsigned")
    assert found.verdict is Verdict.INCONCLUSIVE, found
    assert "429" in found.reason


async def test_a_service_that_is_away_is_not_probed(small: SmallShop) -> None:
    """Where nothing answers from the beginning, nothing is concluded."""
    small.dead = True
    _, found = await played(small, *SIGNATURES)
    assert found.verdict is Verdict.INCONCLUSIVE, found
    assert set(verdicts(found).values()) == {"INCONCLUSIVE"}


async def test_answers_of_a_dead_process_are_no_refusals(small: SmallShop) -> None:
    """A service that falls over while it is probed passes nothing, whatever answers in its place."""
    small.falls_after = 2
    _, found = await played(small, *SIGNATURES, "webhook.body-large")
    assert found.verdict is Verdict.INCONCLUSIVE, found
    assert "PASS" not in {v for name, v in verdicts(found).items() if name != "webhook.unsigned"}


def probe(name: str, play_it: object, *, turn: Turn = Turn.FORGED, needs: frozenset[Need] = frozenset()) -> Probe:
    return Probe(name, "something", REFUSED, None, Severity.HIGH, "Mend it.", play_it, turn, needs)  # type: ignore[arg-type]


async def test_a_probe_that_breaks_takes_no_other_along(small: SmallShop) -> None:
    """A bug in one probe is an error of that probe, and the others are played."""

    async def broken(_scene: Scene) -> Shown:
        raise KeyError("a bug")

    run = await play(small.world, [probe("webhook.broken", broken), PROBES["webhook.unsigned"]], Settings())
    found = finding(run)
    assert verdicts(found) == {"webhook.broken": "ERROR", "webhook.unsigned": "PASS"}
    assert found.verdict is Verdict.ERROR


async def test_no_payment_is_no_proof(small: SmallShop) -> None:
    """Where the service makes no payment, what needs one is inconclusive."""
    broken = replace(
        small.world,
        spec=small.world.spec.model_copy(
            update={"contract": small.world.spec.contract.model_copy(update={"create": "/nowhere"})}
        ),
    )
    broken = replace(broken, service=type(broken.service)(broken.service.base, broken.spec.contract, broken.http))
    run = await play(broken, [PROBES["webhook.unsigned"], PROBES["webhook.body-empty"]], Settings())
    assert verdicts(finding(run)) == {"webhook.unsigned": "INCONCLUSIVE", "webhook.body-empty": "PASS"}


async def test_an_effect_that_comes_later_is_seen_in_the_end(small: SmallShop) -> None:
    """An order that moves only after its probe has looked is found, with the probes that used it."""
    small.moves_after = 3  # made, after the probe, at the end
    run, found = await played(small, "webhook.unsigned")
    assert [late.probes for late in run.late] == [("webhook.unsigned",)]
    assert (found.verdict, "was changed later" in found.reason) == (Verdict.FAIL, True), found


async def test_orders_that_cannot_be_read_in_the_end_prove_nothing(small: SmallShop) -> None:
    """All was well when each probe looked; what came later cannot be seen, and what is not seen is not a pass."""
    small.hides_after = 3  # made, after the probe, at the end
    _, found = await played(small, "webhook.unsigned")
    assert verdicts(found) == {"webhook.unsigned": "PASS"}
    assert (found.verdict, "late effects" in found.reason) == (Verdict.INCONCLUSIVE, True), found


# ---- on record ---------------------------------------------------------------------------------------------


async def test_every_probe_is_on_record(small: SmallShop) -> None:
    """Each probe that is sent leaves one security event that names it and its order, and nothing else does."""
    await played(small, *SIGNATURES, "webhook.success-twice")
    assert [(event.kind, event.source) for event in small.events] == [("probe.sent", "webhook.withstands_probes")] * 3
    told = {event.reason: event.reference for event in small.events}
    assert told.keys() == set(SIGNATURES)
    assert told["webhook.unsigned"] in small.payments


# ---- two checks, one play ----------------------------------------------------------------------------------


async def test_two_checks_side_by_side_are_one_play(small: SmallShop) -> None:
    """Checks that are asked at the same time are played as one: two controls in all, and each judges its own probes."""
    webhooks, payments = await asyncio.gather(
        ask_once(WEBHOOKS, small, "webhook.unsigned"), ask_once(PAYMENTS, small, "payment.gateway-down")
    )
    assert verdicts(webhooks) == {"webhook.unsigned": "PASS"}
    assert verdicts(payments) == {"payment.gateway-down": "SKIPPED"}
    controls = [m for m in small.webhooks if b"FAILURE" in m.body]
    assert len(controls) == 2
    again = await ask_once(WEBHOOKS, small, "webhook.signature-empty")
    assert verdicts(again) == {"webhook.signature-empty": "PASS"}


async def test_a_check_that_is_given_up_takes_no_other_along(small: SmallShop) -> None:
    """When the time of one check runs out while both are played, the other one still comes to its result."""
    given_up = asyncio.ensure_future(ask_once(PAYMENTS, small, "payment.reference-long"))
    other = asyncio.ensure_future(ask_once(WEBHOOKS, small, *SIGNATURES))
    while not small.messages:
        await asyncio.sleep(0.01)
    given_up.cancel()
    found = await other
    assert (given_up.cancelled(), set(verdicts(found).values())) == (True, {"PASS"})


async def test_other_settings_are_another_play(small: SmallShop) -> None:
    """Checks that may go differently far are played one after the other, each as it was told."""
    paying = ask(WEBHOOKS, small.world, only=("webhook.success-twice",), mode="card")
    found, other = await asyncio.gather(paying, ask_once(WEBHOOKS, small, "webhook.success-twice"))
    assert verdicts(found) == {"webhook.success-twice": "INCONCLUSIVE"}, "nobody can pay here"
    assert verdicts(other) == {"webhook.success-twice": "SKIPPED"}


async def ask_once(check: object, small: SmallShop, *only: str) -> Finding:
    return await ask(check, small.world, only=only)  # type: ignore[arg-type]


def test_a_name_that_does_not_exist_is_refused() -> None:
    """A probe that is misspelt in pipeline.yaml is refused with the nearest name, never left out silently."""
    with pytest.raises(ValidationError, match=r"did you mean webhook\.unsigned"):
        WEBHOOKS.params(only=("webhook.unsignd",))
    with pytest.raises(ValidationError, match="is none of the"):
        WEBHOOKS.params(only=("payment.amount-zero",))
    assert nearest("payment.amount-zer", PROBES) == "payment.amount-zero"


# ---- with a gateway ----------------------------------------------------------------------------------------


class Remembers:
    """A past that holds one finding of a payment."""

    def __init__(self, reference: str, paylink: str, at: datetime) -> None:
        evidence = {"reference": reference, "paylink": paylink}
        self._finding = PastFinding(at, "run-0", "webhook.withstands_probes", Verdict.PASS, evidence)

    def findings(self, check: str) -> Sequence[PastFinding]:
        return (self._finding,) if check == self._finding.check else ()

    def runs(self, verb: str) -> Sequence[PastRun]:
        return ()


async def test_paid_orders_are_paid_once_within_the_cap(tmp_path: Path) -> None:
    """One paid order does for all probes that only read it; beyond the cap nothing is paid and nothing passes.

    The gateway is left without faults, also after a probe that broke while it was disturbed.
    """

    async def breaks(scene: Scene) -> Shown:
        async with scene.disturbed(outage=True):
            raise KeyError("a bug")

    wanted = ["webhook.failure-after-success", "webhook.success-twice", "webhook.replayed-later"]
    async with till(tmp_path) as gateway, shop(gateway, tmp_path) as rig:
        disturbing = probe("webhook.breaks", breaks, turn=Turn.DISTURBED, needs=frozenset({Need.CONTROL}))
        run = await play(rig.world, [*(PROBES[name] for name in wanted), disturbing], Settings("card", 100))
        found = finding(run)
        assert verdicts(found) == {**dict.fromkeys(wanted, "PASS"), "webhook.breaks": "ERROR"}, found
        assert gateway.gateway.faults == type(gateway.gateway.faults)()
        assert "(none of an hour ago is on record)" in json.dumps(found.evidence)
        paid = [p for p in gateway.gateway.store.payments() if p.status == "PAID"]
        assert [(p.reference, p.id) for p in paid] == [(found.evidence["reference"], found.evidence["paylink"])]
        assert (await play_again(rig.world, wanted[0])) == {wanted[0]: "INCONCLUSIVE"}, "the purse is at its cap"
        past = Remembers(paid[0].reference, paid[0].id, rig.time.now() - timedelta(hours=2))
        remembered = replace(rig.world, past=lambda _environment: past)
        again = finding(await play(remembered, [PROBES["webhook.replayed-later"]], Settings("card", 100)))
        assert again.verdict is Verdict.PASS, again
        assert "a payment of 2.0 h ago" in json.dumps(again.evidence)


async def play_again(world: object, name: str) -> dict[str, str]:
    return verdicts(finding(await play(world, [PROBES[name]], Settings("card", 100))))  # type: ignore[arg-type]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(["reference", "paylink", "x"]), anything | st.just("smoke-1")))
def test_no_record_breaks_the_replay(evidence: dict[str, object]) -> None:
    """Whatever an old record holds, only a smoke payment with its link is taken from it."""
    made = world(Path("/nowhere"))
    past = Remembers("", "", made.clock.now() - timedelta(hours=2))
    past._finding = replace(past._finding, evidence=evidence)
    for one in earlier(replace(made, past=lambda _environment: past)):
        assert one.reference == "smoke-1" or one.reference.startswith("smoke-")
        assert one.paylink


# ---- the wire ----------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=200)
    | st.from_regex(rb"HTTP/1\.1 [0-9]{3} [A-Z]*\r\n([A-Za-z-]+: [0-9a-z]*\r\n)*\r\n", fullmatch=True)
)
def test_no_head_breaks_the_reading(head: bytes) -> None:
    """Whatever a server answers is a status with its length, or no HTTP."""
    status, length, _ = parsed(head)
    assert status == 0 or 100 <= status < 600
    assert length is None or length >= 0


@pytest.mark.parametrize(
    ("path", "spelt"),
    [
        ("/api/hook", {"/api/hook/", "/api/hook//", "/api/hoo%6B", "/api%2Fhook", "/API/HOOK", "/Api/Hook"}),
        ("/api/hook/", {"/api/hook", "/api/hook//", "/api/hoo%6B/", "/api/hook%2F", "/API/HOOK/", "/Api/Hook/"}),
        ("/1", {"/1/", "/1//"}),
        ("/", set()),
    ],
)
def test_spellings_of_a_path(path: str, spelt: set[str]) -> None:
    """Each spelling leads to the same place for a careless router, and none is invented where there is none."""
    assert {*slashed(path), *encoded(path), *other_case(path)} == spelt


# ---- the table ---------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    """At least 40 webhook and 20 payment probes, each with all it needs to be told."""
    webhooks = [name for name in PROBES if name.startswith("webhook.")]
    payments = [name for name in PROBES if name.startswith("payment.")]
    assert len(webhooks) >= 40
    assert len(payments) >= 20
    assert len(webhooks) + len(payments) == len(PROBES)
    for name, one in PROBES.items():
        assert re.fullmatch(r"(webhook|payment)\.[a-z][a-z0-9-]+", name)
        assert one.name == name
        assert 10 <= len(one.sends) <= 130
        assert not one.sends.endswith(".")
        assert one.fix.endswith(".")
        assert one.fix[0].isupper() or one.fix[0] == "`"
        assert one.answers
        assert 429 not in one.answers
        assert one.turn is not Turn.DISTURBED or Need.CONTROL in one.needs
        assert one.effect is not Effect.PAID_ONCE or Need.PAID in one.needs
        assert set(one.answers) <= {*TAKEN, *INVALID, 0, 301, 302, 307, 308, 502, 503, 504}


def test_names_are_unique() -> None:
    """No row of the tables hides another."""
    from checks.probes.payments import PAYMENT_PROBES
    from checks.probes.webhooks import WEBHOOK_PROBES

    assert len(PROBES) == len(WEBHOOK_PROBES) + len(PAYMENT_PROBES)


def test_the_page_tells_every_probe() -> None:
    """docs/probes.md has a row for each probe, with its right answers and its fix."""
    from checks.probes.pages import page

    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(PROBES)
    assert all(PROBES[row.split("`")[1]].fix in row for row in rows)
    assert {row.replace("\\|", "").count("|") for row in rows} == {8}
