"""urls.callbacks_safe and urls.callbacks_answer: addresses judged on paper, and against the real shop and odd ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from checks import urls_callbacks_answer, urls_callbacks_safe
from checks.facts.callbacks import Callback, private_name, shown, split
from checks.facts.vantage import Seen, curl_config, look, status_of
from checks.urls_callbacks_answer import Answering, Answers, Asked, Outside
from checks.urls_callbacks_safe import Before, Callbacks, Handed
from pipeline.contracts import Addresses, PastFinding, PastRun, World
from pipeline.verdict import Finding, Verdict
from tests.checks.odd_servers import Answering as Answer
from tests.checks.odd_servers import always, plain_world, serving, shop_world
from tests.checks.worlds import SPEC, URL, ask, world
from tests.sandbox.shops import Area, sandbox_gateway, switched_on

SAFE, ANSWER = urls_callbacks_safe.CHECK, urls_callbacks_answer.CHECK
WEBHOOK = "/api/webhooks/ikhokha"
PAGES = ("/success", "/failure", "/cancel")


# ---- safe: on paper ----------------------------------------------------------------------------------------


class Record:
    """A record that remembers these findings of one check, newest first."""

    def __init__(self, *remembered: PastFinding) -> None:
        self._remembered = remembered

    def findings(self, check: str) -> Sequence[PastFinding]:
        return [finding for finding in self._remembered if finding.check == check]

    def runs(self, verb: str) -> Sequence[PastRun]:
        return ()


def remembered(verdict: Verdict, evidence: Mapping[str, Any], run: str = "run-0") -> PastFinding:
    return PastFinding(datetime(2026, 1, 1, tzinfo=UTC), run, SAFE.name, verdict, evidence)


def production(root: Path, *, contract: Mapping[str, Any] | None = None, past: Record | None = None) -> World:
    made = world(root, environment="production", spec={"contract": dict(contract or {})})
    made = replace(made, addresses=Addresses(URL, "https://api.ikhokha.com"))
    return replace(made, past=lambda name: past if past and name == "production" else Record())


@pytest.mark.parametrize("environment", ["sandbox", "staging", "production"])
async def test_the_contracts_own_paths_are_safe(tmp_path: Path, environment: str) -> None:
    """The environments that ship hand safe addresses to the gateway."""
    finding = await ask(SAFE, world(tmp_path, environment=environment))
    assert finding.verdict is Verdict.PASS, finding
    assert finding.evidence["paths"] == dict(
        zip(("webhook", "success", "failure", "cancel"), (WEBHOOK, *PAGES), strict=True)
    )


async def test_a_sandbox_that_was_never_started_has_paths_to_judge(tmp_path: Path) -> None:
    """Before the sandbox has chosen its address, odd paths are found all the same."""
    for contract, verdict in (({}, Verdict.PASS), ({"webhook": "//evil.example/hook"}, Verdict.FAIL)):
        made = world(tmp_path, service="sandbox", spec={"contract": contract})
        assert (await ask(SAFE, made)).verdict is verdict


@pytest.mark.parametrize(
    ("contract", "verdict", "word"),
    [
        ({"webhook": "//evil.example/hook"}, Verdict.FAIL, "`//`"),
        ({"webhook": "/api/../hook"}, Verdict.FAIL, "`..`"),
        ({"webhook": "/api/%2e%2e/hook"}, Verdict.FAIL, "`..`"),
        ({"webhook": "/api%2Fhook"}, Verdict.FAIL, "encoded separator"),
        ({"webhook": "/api\\hook"}, Verdict.FAIL, "backslash"),
        ({"cancel_page": "/c/{reference}"}, Verdict.FAIL, "brace"),
        ({"success_page": "/sucesso-é"}, Verdict.FAIL, "ASCII"),
        ({"webhook": "/api/test/webhook"}, Verdict.ADVICE, "named for test"),
        ({"webhook": "/latest/webhook"}, Verdict.PASS, ""),
    ],
)
async def test_paths(tmp_path: Path, contract: dict[str, Any], verdict: Verdict, word: str) -> None:
    """A path that two programs may read differently is refused, one named for development advised against."""
    finding = await ask(SAFE, production(tmp_path, contract=contract))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


@pytest.mark.parametrize(
    ("url", "word"),
    [
        (f"http://app.betaskill.com{WEBHOOK}", "https is required"),
        (f"https://user:hunter2-hunter2@app.betaskill.com{WEBHOOK}", "credentials"),
        (f"{URL}{WEBHOOK}?order=1", "query"),
        (f"{URL}{WEBHOOK}?", "query"),
        (f"{URL}{WEBHOOK}#top", "fragment"),
        (f"https://betaskill.evil.com{WEBHOOK}", "own domain"),
        (f"https://app.betaskill.com.evil.com{WEBHOOK}", "own domain"),
        (f"{URL}:8443{WEBHOOK}", "own domain"),
        (f"{URL}/other", f"the contract has the path {WEBHOOK}"),
        (f"https://localhost{WEBHOOK}", "private network"),
        (f"https://10.1.2.3{WEBHOOK}", "private network"),
        (f"https://[::1]{WEBHOOK}", "private network"),
        (f"https://2130706433{WEBHOOK}", "private network"),
        (f"https://shop.internal{WEBHOOK}", "private network"),
        (f"https://9f1c.ngrok-free.app{WEBHOOK}", "tunnel"),
        (f"https://dev.betaskill.com{WEBHOOK}", "named for dev"),
        ("https://[", "no address"),
        ("https://app.betaskill.com:port/x", "no address"),
        ("webhook", "no address"),
        ("", "has no value"),
    ],
)
async def test_an_address_from_a_setting_is_judged_whole(tmp_path: Path, url: str, word: str) -> None:
    """A service that takes its webhook URL from a setting must have the environment's own there, and nothing else."""
    made = world(tmp_path, environment="production", values={"HOOK": url})
    finding = await ask(SAFE, made, settings={"webhook": "HOOK"})
    assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding
    assert "hunter2" not in repr(finding)


async def test_the_right_address_from_a_setting_passes(tmp_path: Path) -> None:
    """The environment's own address in the setting is what the contract would make of it."""
    made = world(tmp_path, environment="production", values={"HOOK": URL + WEBHOOK})
    assert (await ask(SAFE, made, settings={"webhook": "HOOK"})).verdict is Verdict.PASS


@pytest.mark.parametrize("url", ["https://shop.local", "https://192.168.1.20", "https://127.0.0.1:8443"])
async def test_a_private_environment_is_refused(tmp_path: Path, url: str) -> None:
    """No gateway can call an address of this machine or of a private network."""
    given = {**SPEC["environments"], "production": {**SPEC["environments"]["production"], "url": url}}
    finding = await ask(SAFE, world(tmp_path, environment="production", spec={"environments": given}))
    assert (finding.verdict, "private network" in finding.reason) == (Verdict.FAIL, True), finding


OLD = {"base": URL, "paths": {"webhook": "/hooks/old", "success": "/success", "failure": "/failure", "cancel": "/c"}}


async def test_a_webhook_path_that_moves_is_noticed(tmp_path: Path) -> None:
    """Payments made before still call the old path: the deploy stops until the operator says that it is served."""
    past = Record(remembered(Verdict.PASS, OLD))
    finding = await ask(SAFE, production(tmp_path, past=past))
    assert finding.verdict is Verdict.FAIL
    assert "/hooks/old" in finding.reason
    assert "formerly: [/hooks/old]" in finding.remedy
    finding = await ask(SAFE, production(tmp_path, past=past), formerly=("/hooks/old",))
    assert (finding.verdict, "cancel page" in finding.reason) == (Verdict.ADVICE, True), finding


async def test_only_what_let_a_release_pass_is_the_measure(tmp_path: Path) -> None:
    """A refused address never becomes the address of before; the newest that passed does."""
    same = {**OLD, "paths": {"webhook": WEBHOOK, "success": "/success", "failure": "/failure", "cancel": "/cancel"}}
    past = Record(
        remembered(Verdict.FAIL, OLD, "run-3"),
        remembered(Verdict.PASS, {}, "run-2"),
        remembered(Verdict.ADVICE, same, "run-1"),
        remembered(Verdict.PASS, OLD, "run-0"),
    )
    finding = await ask(SAFE, production(tmp_path, past=past))
    assert (finding.verdict, finding.evidence["last_run"]) == (Verdict.PASS, "run-1"), finding


async def test_a_new_domain_is_told(tmp_path: Path) -> None:
    """Payments made before call the old domain; the operator is told to keep it."""
    past = Record(remembered(Verdict.PASS, {"base": "https://old.betaskill.com", "paths": {"webhook": WEBHOOK}}))
    finding = await ask(SAFE, production(tmp_path, past=past))
    assert (finding.verdict, "https://old.betaskill.com" in finding.remedy) == (Verdict.ADVICE, True), finding


@given(st.text(), st.text())
def test_no_address_breaks_the_judging(url: str, path: str) -> None:
    """Whatever a setting holds becomes a finding."""
    callbacks = (Callback("webhook", url, "setting HOOK", WEBHOOK), Callback("cancel", URL + path, "x", path))
    for sandbox in (True, False):
        fact = Handed("production", sandbox, URL, callbacks, Before("run-0", URL, {"webhook": path}))
        assert urls_callbacks_safe.judge(fact, Callbacks()).reason
    assert len(shown(url)) <= 200
    split(url)
    private_name(url)


@pytest.mark.parametrize(
    "host", ["app.betaskill.com", "1.1.1.1", "2606:4700::1111", "xn--caf-dma.co.za", "a.b.c.d.com"]
)
def test_public_names_are_public(host: str) -> None:
    """No false alarm on hosts of the internet."""
    assert not private_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "shop",
        "a.local",
        "10.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "[",
        "",
        "224.0.0.1",
        "app.internal.",
    ],
)
def test_private_names_are_private(host: str) -> None:
    """Whatever leads to this machine or this network is known, in every spelling."""
    assert private_name(host)


# ---- answer: against servers -------------------------------------------------------------------------------


@pytest.fixture
def area(tmp_path: Path) -> Iterator[Area]:
    with sandbox_gateway(tmp_path / "sandbox") as gateway:
        (tmp_path / "area").mkdir()
        area = Area(tmp_path / "area", gateway)
        yield area
        area.close()


async def test_the_shops_addresses_answer(area: Area, tmp_path: Path) -> None:
    """The sandbox shop answers as it should, in maintenance too, and nothing was made of it; a page it lacks fails."""
    with area.running(area.build("good")) as shop:
        made = shop_world(shop, tmp_path)
        finding = await ask(ANSWER, made)
        assert finding.verdict is Verdict.PASS, finding
        area.switch("maintenance", switched_on(made.run.proof_token.reveal()))
        finding = await ask(ANSWER, made)
        assert finding.verdict is Verdict.PASS, finding
        area.switch("maintenance", None)
        finding = await ask(ANSWER, made, formerly=("/hooks/old",))
        assert (finding.verdict, "/hooks/old (former webhook): answered 404" in finding.reason) == (Verdict.FAIL, True)


GOOD: Mapping[str, Answer] = {WEBHOOK: always(401), **dict.fromkeys(PAGES, always(200))}


@pytest.mark.parametrize(
    ("path", "answer", "verdict", "word"),
    [
        (WEBHOOK, always(401), Verdict.PASS, "refuses strangers"),
        (WEBHOOK, always(400), Verdict.PASS, "refuses strangers"),
        (WEBHOOK, always(404), Verdict.FAIL, "answered 404"),
        (WEBHOOK, always(405), Verdict.FAIL, "answered 405"),
        (WEBHOOK, always(200), Verdict.FAIL, "answered 200"),
        (WEBHOOK, always(301, Location=WEBHOOK + "/"), Verdict.FAIL, f"301 to {WEBHOOK}/"),
        (WEBHOOK, always(308, Location="https://u:pw@x.com/h?k=v"), Verdict.FAIL, "//[removed]@x.com/h in "),
        (WEBHOOK, always(500), Verdict.FAIL, "answered 500"),
        (WEBHOOK, always(429), Verdict.INCONCLUSIVE, "rate limit"),
        ("/success", always(404), Verdict.FAIL, "200 is expected"),
        ("/failure", always(503), Verdict.FAIL, "answered 503"),
        ("/cancel", always(302, Location="/login"), Verdict.FAIL, "302 to /login"),
        ("/cancel", always(302, Location="https://elsewhere.com/cancel/"), Verdict.FAIL, "elsewhere.com"),
        ("/cancel", always(302), Verdict.FAIL, "200 is expected"),
        ("/cancel", always(308, Location="/cancel/"), Verdict.ADVICE, "trailing slash"),
        ("/cancel", always(401), Verdict.FAIL, "200 is expected"),
    ],
)
async def test_odd_answers(tmp_path: Path, path: str, answer: Answer, verdict: Verdict, word: str) -> None:
    """Each address that does not answer as it should is told with what it answered."""
    async with serving({**GOOD, path: answer}) as address:
        finding = await ask(ANSWER, plain_world(tmp_path, address))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_what_is_sent_is_unsigned_and_closes_nothing(tmp_path: Path) -> None:
    """The webhook path gets one POST without a signature, each page one GET."""
    seen: list[tuple[str, str, bool]] = []

    def note(status: int) -> Answer:
        def answer(request: web.Request, _before: int) -> web.Response:
            seen.append((request.method, request.path, "ik-sign" in request.headers))
            return web.Response(status=status)

        return answer

    async with serving({WEBHOOK: note(401), **{path: note(200) for path in PAGES}}) as address:
        assert (await ask(ANSWER, plain_world(tmp_path, address))).verdict is Verdict.PASS
    assert sorted(seen) == [*(("GET", path, False) for path in sorted(PAGES)), ("POST", WEBHOOK, False)]


async def test_nobody_answers(tmp_path: Path) -> None:
    """A service that is gone, or a host that does not exist, does not pass."""
    finding = await ask(ANSWER, plain_world(tmp_path, "https://127.0.0.1:9"))
    assert (finding.verdict, "no answer" in finding.reason) == (Verdict.FAIL, True), finding
    finding = await ask(ANSWER, plain_world(tmp_path, "https://no..host"))
    assert (finding.verdict.promotes, "no..host: it does not resolve" in finding.reason) == (False, True), finding


async def test_a_private_address_is_refused_outside_the_sandbox(tmp_path: Path) -> None:
    """A staging host that leads to this machine cannot be reached by a gateway."""
    async with serving(GOOD) as address:
        finding = await ask(ANSWER, plain_world(tmp_path, address, environment="staging"))
    assert (finding.verdict, "resolves to 127.0.0.1 here" in finding.reason) == (Verdict.FAIL, True), finding


PRINTS = "import sys; print({} if sys.argv[-1].endswith(('success', 'failure', 'cancel')) else {})"


@pytest.mark.parametrize(
    ("page", "webhook", "verdict", "word"),
    [
        (200, 405, Verdict.ADVICE, "resolves to 127.0.0.1"),
        (200, 401, Verdict.ADVICE, "resolves to 127.0.0.1"),
        (403, 401, Verdict.FAIL, "403; 200 is expected"),
        (200, 301, Verdict.FAIL, "a redirect"),
        (200, 502, Verdict.FAIL, "502"),
        ("'000'", 401, Verdict.FAIL, "no answer"),
        ("'hello'", 401, Verdict.INCONCLUSIVE, "printed no HTTP status"),
    ],
)
async def test_the_view_from_outside(
    tmp_path: Path, page: object, webhook: object, verdict: Verdict, word: str
) -> None:
    """What the operator's command sees from another place decides, and a command that says nothing proves nothing."""
    command = (sys.executable, "-S", "-c", PRINTS.format(page, webhook))
    async with serving(GOOD) as address:
        finding = await ask(ANSWER, plain_world(tmp_path, address, environment="staging"), outside=command)
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


def answers(**changed: Any) -> Answers:
    asked = (Asked("webhook", "POST", WEBHOOK, 401), *(Asked(p[1:], "GET", p, 200) for p in PAGES))
    outside = (Outside("webhook", URL + WEBHOOK, Seen(405)), Outside("success", f"{URL}/success", Seen(200)))
    return replace(Answers(URL, False, ("93.184.215.14",), "", asked, outside), **changed)


@pytest.mark.parametrize(
    ("changed", "verdict", "word"),
    [
        ({}, Verdict.PASS, "answer"),
        ({"outside": ()}, Verdict.ADVICE, "only from this machine"),
        ({"addresses": (), "unresolved": "it does not resolve"}, Verdict.FAIL, "does not resolve"),
        ({"addresses": (), "unresolved": "no answer within 10 s"}, Verdict.INCONCLUSIVE, "within"),
        ({"addresses": ("93.184.215.14", "10.0.0.1"), "outside": ()}, Verdict.FAIL, "10.0.0.1"),
        ({"asked": ()}, Verdict.INCONCLUSIVE, "no address was asked"),
    ],
)
def test_judging_what_was_seen(changed: dict[str, Any], verdict: Verdict, word: str) -> None:
    """Public and seen from outside passes; anything less is told."""
    finding = urls_callbacks_answer.judge(answers(**changed), Answering())
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


# ---- the command of the operator ---------------------------------------------------------------------------


async def test_a_command_that_cannot_start_or_end_is_told(tmp_path: Path) -> None:
    """Neither a missing nor a hanging command is ever an answer, and none is left behind."""
    assert (await look([str(tmp_path / "missing")])).status == 0
    late = await look([sys.executable, "-S", "-c", "import time; print(200, flush=True); time.sleep(600)"], limit_s=0.5)
    assert (late.status, "did not end" in late.why) == (0, True)


async def test_a_command_gets_its_input_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be sent comes on stdin; the settings in our own environment stay here."""
    monkeypatch.setenv("VITE_IKHOKHA_API_SECRET", "made-up")
    wanted = "sys.stdin.read() == 'x' * 100_000 and 'VITE_IKHOKHA_API_SECRET' not in os.environ"
    code = f"import os, sys; print(201 if {wanted} else 599)"
    assert await look([sys.executable, "-S", "-c", code], stdin=b"x" * 100_000) == Seen(201)


@given(st.binary())
def test_no_output_breaks_the_reading(printed: bytes) -> None:
    """Whatever a command prints is a status or none."""
    seen = status_of(printed, "it ended with 0")
    assert (seen.status == 0) == bool(seen.why)
    assert seen.status == 0 or 100 <= seen.status < 600


@given(st.text(), st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_a_request_stays_on_its_lines(body: str, value: str) -> None:
    """No body or header can add a line of its own to what curl reads."""
    text = curl_config(URL, body.encode("utf-8", "replace"), [("h", value)]).decode()
    assert [line.split(" ")[0] for line in text.split("\n")[:4]] == ["url", "request", "header", "data-binary"]


def test_a_finding_is_a_finding() -> None:
    """What could not be observed is handed on."""
    told = Finding(Verdict.ERROR, "no", "wait")
    assert SAFE.judge(told, Callbacks()) is told
    assert ANSWER.judge(told, Answering()) is told
