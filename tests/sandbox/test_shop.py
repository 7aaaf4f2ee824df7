"""The careful merchant, against the real sandbox gateway: payments, webhooks, switches, health."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateways import ikhokha_wire as wire
from pipeline.maintenance_page import render
from pipeline.spec import Maintenance
from sandbox.drills.judge import activations, compare
from sandbox.shoppers import DECLINED_CARD
from tests.sandbox.shops import (
    WEBHOOK,
    Area,
    Running,
    SandboxGateway,
    eventually,
    new_reference,
    sandbox_gateway,
    switched_on,
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxGateway]:
    with sandbox_gateway(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def area(gateway: SandboxGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Area]:
    area = Area(tmp_path_factory.mktemp("area"), gateway)
    yield area
    area.close()


@pytest.fixture(scope="module")
def shop(area: Area) -> Iterator[Running]:
    with area.running(area.build("release-1")) as running:
        yield running


@pytest.fixture
def own_area(gateway: SandboxGateway, tmp_path: Path) -> Iterator[Area]:
    """An area in which no other release takes the connections."""
    area = Area(tmp_path / "area", gateway)
    yield area
    area.close()


@pytest.fixture(autouse=True)
def healthy_gateway(gateway: SandboxGateway) -> Iterator[None]:
    yield
    gateway.faults()


# ---- payments ----------------------------------------------------------------------------------------------


def test_a_paid_course_is_activated_exactly_once(shop: Running) -> None:
    """A customer who pays gets the course, once, and it counts as one success."""
    before = shop.metric('payments_total{outcome="success"}')
    reference = new_reference()
    shop.paid(reference)
    assert (shop.status(reference), shop.activations(reference)) == ("paid", 1)
    assert shop.metric('payments_total{outcome="success"}') == before + 1


def test_the_customer_comes_back_to_the_shop(shop: Running, gateway: SandboxGateway) -> None:
    """After paying, the gateway sends the customer to a page of the shop that exists."""
    back = gateway.pay(shop.create(new_reference()).json()["paylinkUrl"])
    assert back.startswith(f"{shop.url}/success?")
    assert shop.client.get(back).status_code == 200


def test_an_identical_request_gets_the_same_link(shop: Running, gateway: SandboxGateway) -> None:
    """A customer who asks twice never has two payments to pay."""
    reference = new_reference()
    first, second = shop.create(reference), shop.create(reference)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(gateway.payments(reference)) == 1


def test_identical_requests_at_once_make_one_payment(area: Area, shop: Running, gateway: SandboxGateway) -> None:
    """Impatient clicks make one payment at the gateway."""
    reference = new_reference()
    with ThreadPoolExecutor(8) as clicks:
        answers = list(clicks.map(lambda _: shop.create(reference), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["paylinkID"] for answer in answers}) == 1
    assert len(gateway.payments(reference)) == 1


def test_a_used_reference_is_refused_for_anything_else(shop: Running) -> None:
    """One reference is one payment."""
    reference = new_reference()
    shop.create(reference)
    assert shop.create(reference, course="smoke-001").status_code == 409


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 49899},
        {"amount": 49901},
        {"amount": 0},
        {"amount": -49900},
        {"amount": True},
        {"amount": "49900"},
        {"amount": 49900.0},
        {"amount": None},
        {"amount": 10**30},
        {"currency": "USD"},
        {"currency": ["ZAR"]},
        {"course": "no-such"},
        {"course": {}},
        {"course": None},
        {"reference": ""},
        {"reference": "a" * 65},
        {"reference": "a b"},
        {"reference": "a\n"},
        {"reference": "\ud800"},
        {"reference": 7},
    ],
    ids=str,
)
def test_only_the_price_of_the_course_can_be_paid(shop: Running, changed: dict[str, object]) -> None:
    """Nothing but a valid reference and the course's own price in ZAR makes a payment."""
    reference = str(changed.get("reference", new_reference()))
    wanted = {"reference": reference, "amount": 49900, "currency": "ZAR", "course": "python-101", **changed}
    answer = shop.client.post("/api/payments", content=json.dumps(wanted), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    if "reference" not in changed:
        assert shop.client.get(f"/api/payments/{reference}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'"x"',
        b"\xff\xfe",
        b"[" * 8000,
        b'{"a":' * 3000,
        b'{"amount":' + b"9" * 9000 + b"}",
        b'{"reference":"a","reference":"b"}',
        b'{"amount":1e999}',
        b'{"amount":NaN}',
        b"\x00" * 100,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_no_bytes_break_the_shop(shop: Running, gateway: SandboxGateway, body: bytes) -> None:
    """Whatever a stranger sends is the stranger's mistake, to payments and to the webhook."""
    typed = {"Content-Type": "application/json"}
    assert 400 <= shop.client.post("/api/payments", content=body, headers=typed).status_code < 500
    refused = shop.client.post(WEBHOOK, content=body, headers={**typed, "ik-sign": "0" * 64})
    assert refused.status_code == 401
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return
    signed = shop.client.post(WEBHOOK, content=body, headers={**typed, **gateway.headers(text)})
    assert 400 <= signed.status_code < 500


@pytest.mark.parametrize("path", ["/api/payments", WEBHOOK])
def test_wrong_method_type_and_size_are_refused(shop: Running, path: str) -> None:
    """What is not a JSON request of a sane size is refused for what it is."""
    typed = {"Content-Type": "application/json"}
    assert shop.client.put(path, content=b"{}").status_code == 405
    assert "POST" in shop.client.get(path).headers["Allow"]
    assert shop.client.post(path, content=b"a=b").status_code == 415
    assert shop.client.post(path, content=b"{}", headers={**typed, "Content-Encoding": "gzip"}).status_code == 415
    assert shop.client.post(path, content=b" " * 20_000, headers=typed).status_code == 413
    chunks = (b" " * 1000 for _ in range(20))
    assert shop.client.post(path, content=chunks, headers=typed).status_code == 413


def test_a_body_that_does_not_arrive_is_given_up(shop: Running, gateway: SandboxGateway) -> None:
    """A sender that stalls holds nothing for longer than the time for a body."""
    head = f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"
    host, port = shop.area.socket.getsockname()
    with socket.create_connection((host, port)) as plain, gateway.tls.wrap_socket(plain, server_hostname=host) as tls:
        tls.sendall(head.encode())
        tls.settimeout(15)
        assert tls.recv(12) == b"HTTP/1.1 408"


# ---- the gateway does what it wants ------------------------------------------------------------------------


def test_a_gateway_that_is_away_costs_no_customer_a_wait(shop: Running, gateway: SandboxGateway) -> None:
    """While the gateway is away a customer is told so at once, and it counts as one error."""
    before = shop.metric('payments_total{outcome="error"}')
    gateway.faults(outage=True)
    answer = shop.create(new_reference())
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert shop.metric('payments_total{outcome="error"}') == before + 1


def test_a_slow_gateway_is_answered_for_and_the_payment_settles_later(shop: Running, gateway: SandboxGateway) -> None:
    """A customer is answered within 5 s whatever the gateway does; asking again gives the one link that was made."""
    reference = new_reference()
    gateway.faults(slow_s=4.4)
    assert shop.create(reference).status_code == 503
    assert shop.status(reference) == "creating"
    assert eventually(lambda: shop.create(reference).status_code == 200)
    assert len(gateway.payments(reference)) == 1


def test_an_answer_that_makes_no_sense_is_never_a_second_payment(shop: Running, gateway: SandboxGateway) -> None:
    """A creation whose outcome is unknown is looked into, and never sent again."""
    reference = new_reference()
    gateway.faults(garble=True)
    assert shop.create(reference).status_code == 503
    assert shop.status(reference) == "unknown"
    assert shop.create(reference).status_code == 503
    gateway.faults()
    assert eventually(lambda: shop.status(reference) == "pending")
    assert len(gateway.payments(reference)) == 1


def test_a_webhook_while_the_gateway_is_away_is_confirmed_later(shop: Running, gateway: SandboxGateway) -> None:
    """A payment whose webhook comes while the gateway cannot be asked is activated once it can."""
    reference = new_reference()
    created = shop.create(reference).json()
    gateway.faults(withhold_webhooks=True)
    gateway.pay(created["paylinkUrl"])
    gateway.faults(withhold_webhooks=True, garble=True)
    assert shop.webhook(*gateway.signed(created["paylinkID"], reference)).status_code == 202
    assert shop.activations(reference) == 0
    gateway.faults(withhold_webhooks=True)
    assert eventually(lambda: shop.activations(reference) == 1)


def test_another_amount_than_ordered_never_activates(shop: Running, gateway: SandboxGateway) -> None:
    """What was paid must be what was ordered, to the cent."""
    reference = new_reference()
    created = shop.create(reference).json()
    gateway.faults(amount_off=-1)
    gateway.pay(created["paylinkUrl"])
    assert eventually(lambda: shop.status(reference) == "unknown")
    assert shop.activations(reference) == 0


# ---- webhooks ----------------------------------------------------------------------------------------------


def test_every_bad_signature_gets_one_and_the_same_refusal(shop: Running, gateway: SandboxGateway) -> None:
    """A forger learns nothing from a refusal, and it has no effect."""
    reference = new_reference()
    link = shop.create(reference).json()["paylinkID"]
    body, good = gateway.signed(link, reference)
    other = {"ik-sign": wire.sign("another secret", WEBHOOK, body.decode())}
    bad: list[dict[str, str]] = [
        {},
        {"ik-sign": ""},
        {"ik-sign": "0" * 64},
        {"ik-sign": good["ik-sign"].upper()},
        {"ik-sign": good["ik-sign"] + "0"},
        {**good, "ik-appid": "another"},
        {**good, **other},
        {"ik-sign": "\u0660" * 64},
    ]
    answers = [
        shop.client.post(
            WEBHOOK,
            content=body,
            headers=[(b"Content-Type", b"application/json"), *((k.encode(), v.encode()) for k, v in headers.items())],
        )
        for headers in bad
    ]
    answers.append(shop.webhook(body.replace(b"SUCCESS", b"success"), good))
    twice = [("Content-Type", "application/json"), *good.items(), ("ik-sign", "0" * 64)]
    answers.append(shop.client.post(WEBHOOK, content=body, headers=twice))
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (401, b'{"error": "the signature is not valid"}')
    }
    assert (shop.status(reference), shop.activations(reference)) == ("pending", 0)


def test_white_space_and_escapes_do_not_change_a_signature(shop: Running, gateway: SandboxGateway) -> None:
    """A webhook is verified over its canonical form; the order of its members counts."""
    reference = new_reference()
    link = shop.create(reference).json()["paylinkID"]
    body, headers = gateway.signed(link, reference)
    spaced = json.dumps(json.loads(body), indent=2).replace("SUCCESS", "\\u0053UCCESS").encode()
    assert shop.webhook(spaced, headers).json() == {"result": "denied"}
    turned = json.dumps(dict(reversed(json.loads(body).items())), separators=(",", ":")).encode()
    assert shop.webhook(turned, headers).status_code == 401


def test_a_signed_webhook_without_a_payment_activates_nothing(shop: Running, gateway: SandboxGateway) -> None:
    """Only the gateway's own word activates, never a webhook's."""
    reference = new_reference()
    link = shop.create(reference).json()["paylinkID"]
    answer = shop.webhook(*gateway.signed(link, reference))
    assert (answer.status_code, answer.json()) == (200, {"result": "denied"})
    assert shop.activations(reference) == 0


def test_duplicates_and_late_failures_change_nothing(shop: Running, gateway: SandboxGateway) -> None:
    """A paid payment stays paid and activated once, whatever is delivered again, late or at once."""
    reference = new_reference()
    link = shop.paid(reference)
    with ThreadPoolExecutor(6) as deliveries:
        again = list(deliveries.map(lambda _: shop.webhook(*gateway.signed(link, reference)), range(6)))
    again.append(shop.webhook(*gateway.signed(link, reference, "FAILURE")))
    assert {(answer.status_code, answer.json()["result"]) for answer in again} == {(200, "duplicate")}
    assert (shop.status(reference), shop.activations(reference)) == ("paid", 1)


def test_two_webhooks_at_once_activate_once(shop: Running, gateway: SandboxGateway) -> None:
    """The gateway may deliver a webhook twice at the same moment."""
    gateway.faults(double_webhooks=True)
    reference = new_reference()
    shop.paid(reference)
    assert shop.activations(reference) == 1


def test_a_second_attempt_on_a_link_is_the_same_payment(shop: Running, gateway: SandboxGateway) -> None:
    """After a declined card the same link can be paid, and the payment's outcome is the last one."""
    outcomes = [f'payments_total{{outcome="{word}"}}' for word in ("success", "failure")]
    before = [shop.metric(series) for series in outcomes]
    reference = new_reference()
    link = shop.create(reference).json()["paylinkUrl"]
    assert "/failure" in gateway.pay(link, DECLINED_CARD)
    assert eventually(lambda: shop.status(reference) == "failed")
    gateway.pay(link)
    assert eventually(lambda: shop.status(reference) == "paid")
    assert shop.activations(reference) == 1
    assert [shop.metric(series) for series in outcomes] == [before[0] + 1, before[1]]


def test_a_declined_card_counts_as_one_failure(shop: Running, gateway: SandboxGateway) -> None:
    """A payment that failed and was not tried again counts once."""
    before = shop.metric('payments_total{outcome="failure"}')
    gateway.pay(shop.create(new_reference()).json()["paylinkUrl"], DECLINED_CARD)
    assert eventually(lambda: shop.metric('payments_total{outcome="failure"}') == before + 1)


def test_unknown_orders_and_links_of_others_are_left_alone(shop: Running, gateway: SandboxGateway) -> None:
    """A webhook must name both the reference and its own paylink."""
    paid, unpaid = new_reference(), new_reference()
    link = shop.paid(paid)
    shop.create(unpaid)
    assert shop.webhook(*gateway.signed("0" * 15, new_reference())).json() == {"result": "unknown"}
    assert shop.webhook(*gateway.signed(link, unpaid)).json() == {"result": "unknown"}
    assert shop.activations(unpaid) == 0


def test_smoke_payments_are_left_out_of_the_metrics(own_area: Area) -> None:
    """The figures are those of customers."""
    with own_area.running(own_area.build("release-1")) as shop:
        before = shop.client.get("/metrics").text
        shop.paid(new_reference("smoke-"), course="smoke-001")
        assert shop.client.get("/metrics").text == before


# ---- switches, limits, health, pages -----------------------------------------------------------------------


def test_maintenance_closes_pages_and_new_payments_only(area: Area, shop: Running, gateway: SandboxGateway) -> None:
    """During maintenance nobody starts a payment, and a payment that was made still arrives."""
    reference = new_reference()
    link = shop.create(reference).json()["paylinkUrl"]
    area.switch("maintenance", switched_on())
    try:
        page, payment = shop.client.get("/"), shop.create(new_reference())
        assert (page.status_code, payment.status_code) == (503, 503)
        assert "Retry-After" in page.headers
        assert "Retry-After" in payment.headers
        gateway.pay(link)
        assert eventually(lambda: shop.activations(reference) == 1)
        assert shop.client.get("/health/ready").status_code == 200
    finally:
        area.switch("maintenance", None)
    assert shop.client.get("/").status_code == 200


def test_maintenance_shows_the_page_that_the_pipeline_made(area: Area, shop: Running) -> None:
    """Customers read the operator's words under a policy that lets its style in, and never who closed it or why."""
    page = render(Maintenance(message="We move to a larger hall.", contact="help@shop.test", retry_after=600.0))
    (area.shared / "maintenance.html").write_bytes(page)
    area.switch("maintenance", json.dumps({"who": "thandi-of-ops", "why": "the disk is full", "since": "now"}))
    try:
        answer = shop.client.get("/")
        assert (answer.status_code, answer.headers["Retry-After"], answer.content) == (503, "600", page)
        style = page.partition(b"<style>")[2].partition(b"</style>")[0]
        hashed = base64.b64encode(hashlib.sha256(style).digest()).decode()
        assert f"style-src 'sha256-{hashed}'" in answer.headers["Content-Security-Policy"]
        (area.shared / "maintenance.html").write_bytes(page[:-300])
        torn = shop.client.get("/")
        assert (torn.status_code, torn.headers["Retry-After"]) == (503, "120")
        assert "Payments that were made are safe" in torn.text
        assert not [said for said in ("thandi-of-ops", "disk is full") if said in answer.text + torn.text]
    finally:
        area.switch("maintenance", None)
        (area.shared / "maintenance.html").unlink()


@pytest.mark.parametrize("name", ["maintenance", "payments-off"])
def test_only_the_proof_passes_a_closed_door(area: Area, shop: Running, name: str) -> None:
    """The proofs of a closed service can pay, and nobody else can."""
    token = new_reference("token-")
    wanted = {"reference": new_reference("smoke-"), "amount": 100, "currency": "ZAR", "course": "smoke-001"}

    def create(proof: bytes) -> int:
        return shop.client.post("/api/payments", json=wanted, headers={"X-Tollgate-Proof": proof}).status_code

    try:
        area.switch(name, switched_on(token))
        assert [create(proof) for proof in (b"", b"wrong", b"\xff\xfe")] == [503, 503, 503]
        assert create(token.encode()) == 201
        for content in (switched_on(), "", "{", "[]", '{"proof": 7}', "[" * 3000):
            area.switch(name, content)
            assert create(token.encode()) == 503
    finally:
        area.switch(name, None)


def test_payments_off_leaves_pages_open(area: Area, shop: Running) -> None:
    """Without payments the shop's pages stay readable."""
    area.switch("payments-off", switched_on())
    try:
        assert shop.client.get("/courses/python-101").status_code == 200
        assert shop.create(new_reference()).status_code == 503
    finally:
        area.switch("payments-off", None)


def test_ready_names_the_release_and_a_gateway_outage(shop: Running, gateway: SandboxGateway) -> None:
    """A gateway outage shows in the body of the readiness answer, and the release stays ready."""

    def gateway_part() -> str:
        answer = shop.client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["release"] == "release-1"
        return str(answer.json()["gateway"])

    assert eventually(lambda: gateway_part() == "ok")
    gateway.faults(outage=True)
    assert eventually(lambda: gateway_part() != "ok")


def test_every_answer_carries_the_security_headers(shop: Running) -> None:
    """Pages, errors and the API are all served under a strict policy, and the server does not say what it is."""
    for path in ("/", "/courses/python-101", "/nowhere", "/api/payments/none", "/health/live", "/metrics"):
        headers = shop.client.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Strict-Transport-Security" in headers
        assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    "path", ["/../faults.json", "/%2e%2e/faults.json", "/assets/../../shop/app.py", "/courses.json", "/%00", "/%ff"]
)
def test_no_path_reaches_another_file(shop: Running, path: str) -> None:
    """Only the files of the site are served."""
    request = httpx.Request("GET", f"{shop.url}/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert shop.client.send(request).status_code == 404


@pytest.mark.parametrize("reference", ["none", "%00", "%FF", "a%2Fb", "..%2f", "a" * 65, "%F0%9F%92%A9"])
def test_a_reference_never_seen_is_not_found(shop: Running, reference: str) -> None:
    """Reads of what does not exist, or cannot exist, are answered alike."""
    assert shop.client.get(f"/api/payments/{reference}").status_code == 404
    assert shop.client.get(f"/api/enrolments/{reference}").status_code == 404


def test_nothing_secret_is_logged(shop: Running, gateway: SandboxGateway) -> None:
    """The log is JSON lines without any secret of the settings."""
    reference = new_reference()
    shop.paid(reference)
    text = shop.log.read_text()
    for name in ("VITE_IKHOKHA_API_SECRET", "VITE_IKHOKHA_API_KEY"):
        assert gateway.settings[name] not in text
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert "enrolment.activated" in events


def test_strangers_are_slowed_down_and_the_gateway_never_is(own_area: Area, gateway: SandboxGateway) -> None:
    """Bursts of payments and of forged webhooks are limited; a real webhook always gets through."""
    with own_area.running(own_area.build("limited")) as shop:
        statuses = [shop.client.post(WEBHOOK, json={}).status_code for _ in range(90)]
        assert set(statuses) == {401, 429}
        assert statuses[:60] == [401] * 60
        limited = [shop.client.post("/api/payments", json={}) for _ in range(90)]
        assert {answer.status_code for answer in limited} == {422, 429}
        assert all(int(a.headers["Retry-After"]) >= 1 for a in limited if a.status_code == 429)
        assert shop.webhook(*gateway.signed("0" * 15, "order-x")).json() == {"result": "unknown"}


# ---- start and end -----------------------------------------------------------------------------------------


def test_every_mistake_in_the_settings_is_named_at_once(own_area: Area) -> None:
    """A release with wrong settings ends with 1 and says all that is wrong with them at once."""
    release = own_area.build("misconfigured")
    wrong = {
        "VITE_IKHOKHA_TIMEOUT": "soon",
        "VITE_IKHOKHA_API_URL": "http://x",
        "PUBLIC_URL": "https://[::1",
        "VITE_IKHOKHA_TEST_MODE": "true",
        "VITE_IKHOKHA_API_SECRET": " ",
        "TLS_KEY": "/no/such/file",
    }
    done = subprocess.run(
        [sys.executable, "-m", "shop"],
        cwd=release,
        env=own_area.environment("misconfigured", PORT="1", **wrong),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    mistakes = [json.loads(line)["mistake"] for line in done.stdout.splitlines()]
    assert all(any(name in mistake for mistake in mistakes) for name in wrong), mistakes
    assert "Test mode must be disabled in production: set VITE_IKHOKHA_TEST_MODE=false" in mistakes
    assert done.stderr == ""


def test_a_second_release_beside_the_first_shares_the_orders(area: Area, shop: Running) -> None:
    """During a switch two releases work on the same orders, and nothing is activated twice."""
    with area.running(area.build("release-2")) as second:
        references = [new_reference() for _ in range(6)]
        for reference in references:
            second.paid(reference)
        assert [second.activations(reference) for reference in references] == [1] * 6
        second.stop()
        second.client.close()
        assert second.process.wait(30) == 0


def test_a_release_that_dies_among_its_webhooks_doubles_and_loses_nothing(
    own_area: Area, gateway: SandboxGateway
) -> None:
    """Fifty webhooks for two orders meet two releases, and one is killed: each order is activated once all the same."""
    gateway.faults(withhold_webhooks=True)
    release = own_area.build("killed")
    with own_area.running(release) as first, own_area.running(own_area.build("survives")) as second:
        paid = {}
        for reference in (new_reference(), new_reference()):
            created = first.create(reference).json()
            gateway.pay(created["paylinkUrl"])
            paid[reference] = gateway.signed(created["paylinkID"], reference)
        messages = list(paid.values()) * 25

        def deliver(message: tuple[bytes, dict[str, str]]) -> str:
            typed = {"Content-Type": "application/json", **message[1]}
            try:
                with httpx.Client(verify=gateway.tls, trust_env=False, timeout=20) as one:
                    return str(one.post(own_area.url + WEBHOOK, content=message[0], headers=typed).json()["result"])
            except httpx.TransportError:
                return "lost"

        with ThreadPoolExecutor(16) as deliveries:
            results = deliveries.map(deliver, messages)
            told = [next(results)]
            first.process.kill()
            told.extend(results)
        second.client.close()
        second.client = httpx.Client(base_url=second.url, verify=gateway.tls, trust_env=False, timeout=20)
        assert set(told) <= {"accepted", "duplicate", "deferred", "lost"}
        assert [eventually(lambda r=reference: second.status(r) == "paid") for reference in paid] == [True] * 2
        assert {second.webhook(*message).json()["result"] for message in paid.values()} == {"duplicate"}
        assert [second.activations(reference) for reference in paid] == [1, 1]


def test_a_draining_release_finishes_what_it_has_and_says_goodbye(own_area: Area, gateway: SandboxGateway) -> None:
    """A request on an open connection is answered with `Connection: close` while the release ends."""
    with (
        own_area.running(own_area.build("draining")) as shop,
        httpx.Client(verify=gateway.tls, trust_env=False) as open_one,
    ):
        assert open_one.get(f"{own_area.url}/health/live").headers.get("Connection") != "close"
        shop.stop()
        assert shop.wait_for(b"STOPPING=1")
        last = open_one.get(f"{own_area.url}/health/live")
        assert (last.status_code, last.headers["Connection"]) == (200, "close")
        assert shop.process.wait(20) == 0


def test_a_connection_that_says_nothing_holds_no_release(own_area: Area) -> None:
    """A client that connects and stays silent does not keep an ending release alive."""
    with own_area.running(own_area.build("silent")) as shop, socket.create_connection(own_area.socket.getsockname()):
        assert shop.client.get("/health/live").status_code == 200
        shop.client.close()
        shop.stop()
        assert shop.process.wait(20) == 0


def test_on_a_port_of_its_own_a_release_can_be_rehearsed(own_area: Area, gateway: SandboxGateway) -> None:
    """A release starts on a spare port without anyone to notify."""
    release = own_area.build("rehearsed")
    with socket.create_server(("127.0.0.1", 0)) as spare:
        port = spare.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "shop"],
        cwd=release,
        env=own_area.environment("rehearsed", PORT=str(port)),
        stdout=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(verify=gateway.tls, trust_env=False) as client:

            def ready() -> bool:
                try:
                    return client.get(f"https://127.0.0.1:{port}/health/ready").json()["release"] == "rehearsed"
                except httpx.ConnectError:
                    return False

            assert eventually(ready)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_the_constraint_itself_forbids_a_second_activation(area: Area, shop: Running) -> None:
    """Even a shop that tried could not activate a paylink twice."""
    reference = new_reference()
    link = shop.paid(reference)
    database = sqlite3.connect(area.shared / "data" / "orders.sqlite", timeout=5)
    try:
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(
                "INSERT INTO activations (paylink_id, reference, activated_at) VALUES (?, ?, 0)", (link, reference)
            )
    finally:
        database.close()


# ---- test mode ---------------------------------------------------------------------------------------------


@pytest.fixture
def in_test_mode(area: Area) -> Iterator[str]:
    """Test mode is on; the token that may pass it."""
    area.switch("test-mode", switched_on("token-of-the-run"))
    yield "token-of-the-run"
    area.switch("test-mode", None)


def test_a_payment_of_test_mode_never_activates(
    area: Area, shop: Running, gateway: SandboxGateway, in_test_mode: str
) -> None:
    """While test mode is on a customer who pays moves no money and gets no course, whatever webhook says SUCCESS."""
    before = {outcome: shop.metric(f'payments_total{{outcome="{outcome}"}}') for outcome in ("success", "error")}
    activated, reference = shop.metric("enrolments_activated_total"), new_reference()
    created = shop.create(reference).json()
    gateway.pay(created["paylinkUrl"])
    answer = shop.webhook(*gateway.signed(created["paylinkID"], reference))
    assert (answer.status_code, answer.json()["result"]) == (200, "test")
    listed = gateway.payments(reference)[0]
    assert (listed["mode"], listed["status"]) == ("test", "TEST")
    assert (shop.status(reference), shop.activations(reference)) == ("pending", 0)
    assert shop.metric("enrolments_activated_total") == activated
    books = compare([listed], activations(area.shared / "data/orders.sqlite"))
    assert not [one for one in books if reference in one]
    after = {outcome: shop.metric(f'payments_total{{outcome="{outcome}"}}') for outcome in ("success", "error")}
    assert after == before


def test_a_gateway_that_takes_money_all_the_same_activates_no_test_payment(
    area: Area, shop: Running, gateway: SandboxGateway, in_test_mode: str
) -> None:
    """A gateway that did not heed test mode and calls it PAID gets no course out of the shop: the books show it."""
    reference = new_reference()
    created = shop.create(reference).json()
    with sqlite3.connect(gateway.addresses.settings.parent / "gateway" / "gateway.sqlite") as books:
        books.execute("UPDATE payments SET status = 'PAID', mode = 'live' WHERE reference = ?", (reference,))
    books.close()
    answer = shop.webhook(*gateway.signed(created["paylinkID"], reference))
    assert (answer.json()["result"], shop.activations(reference)) == ("test", 0)
    told = compare(gateway.payments(reference), activations(area.shared / "data/orders.sqlite"))
    assert [one for one in told if reference in one] == [f"I1: {reference} was paid 1 times and activated 0 times"]


def test_the_proof_of_a_run_is_paid_for_real_in_test_mode(
    shop: Running, gateway: SandboxGateway, in_test_mode: str
) -> None:
    """A run's proof goes the way of real money while customers are in test mode, so that it proves that way."""
    reference = new_reference("smoke-")
    wanted = {"reference": reference, "amount": 100, "currency": "ZAR", "course": "smoke-001"}
    created = shop.client.post("/api/payments", json=wanted, headers={"X-Tollgate-Proof": in_test_mode})
    gateway.pay(created.json()["paylinkUrl"])
    assert eventually(lambda: shop.activations(reference) == 1), shop.log.read_text()
    assert gateway.payments(reference)[0]["mode"] == "live"


def test_ready_says_whether_test_mode_is_on(area: Area, shop: Running, in_test_mode: str) -> None:
    """Whoever turned test mode on or off can read that the service obeys, and it stays ready."""
    on = shop.client.get("/health/ready")
    area.switch("test-mode", None)
    assert (on.status_code, on.json()["test_mode"]) == (200, "on")
    assert shop.client.get("/health/ready").json()["test_mode"] == "off"


def test_what_was_made_in_test_mode_stays_a_test(
    area: Area, shop: Running, gateway: SandboxGateway, in_test_mode: str
) -> None:
    """Switched off, test mode leaves no link behind that a customer could pay in vain: the reference is refused."""
    reference = new_reference()
    link = shop.create(reference).json()["paylinkUrl"]
    area.switch("test-mode", None)
    assert shop.create(reference).status_code == 409
    gateway.pay(link)
    other = new_reference()
    shop.paid(other)
    assert (shop.activations(reference), shop.activations(other)) == (0, 1)


def test_an_order_made_before_test_mode_is_still_paid(area: Area, shop: Running, gateway: SandboxGateway) -> None:
    """A customer who was about to pay when test mode went on gets the course that the money buys."""
    reference = new_reference()
    link = shop.create(reference).json()["paylinkUrl"]
    area.switch("test-mode", switched_on())
    try:
        gateway.pay(link)
        assert eventually(lambda: shop.activations(reference) == 1), shop.log.read_text()
    finally:
        area.switch("test-mode", None)
