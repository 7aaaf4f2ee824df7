"""The sandbox gateway's API speaks the protocol, and answers JSON to whatever is sent."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateways import ikhokha_wire as wire
from pipeline.clock import SystemClock
from pipeline.errors import GatewayRefused
from sandbox.gateway import orders
from sandbox.gateway.app import NOT_CREATED
from sandbox.gateway.assumptions import Assumptions
from sandbox.gateway.store import PENDING, Payment, Store
from tests.sandbox.gateway_rig import SECRET, rig

GOOD: dict[str, Any] = {
    "entityID": "E1",
    "amount": 10000,
    "currency": "ZAR",
    "requesterUrl": "https://ex.test",
    "mode": "live",
    "externalTransactionID": "T1",
    "urls": {
        "callbackUrl": "https://ex.test/cb",
        "successPageUrl": "https://ex.test/ok",
        "failurePageUrl": "https://ex.test/no",
    },
}


async def test_a_payment_can_be_made_and_asked_for_in_all_three_ways(tmp_path: Path) -> None:
    """A created payment is found by its ID, by its reference and in the history, with the same cents."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request("order-1", 49900))
        assert link.url == f"{at.base}/pay/{link.id}"
        assert len(link.id) == 15
        assert set(link.id) <= set(Assumptions().link_alphabet)
        status = await at.client.status(link.id)
        assert (status.amount, status.status, status.paid) == (49900, "PENDING", False)
        external = await at.signed("GET", f"{wire.STATUS_EXTERNAL_PATH}?externalReference=order-1")
        assert external.json() == {
            "paylinkID": link.id,
            "status": "PENDING",
            "createdAt": status.created,
            "amount": 49900,
            "description": "Python 101",
        }
        now = SystemClock().now()
        history = await at.client.history(now - timedelta(minutes=1), now)
        assert [(p.link_id, p.reference, p.amount) for p in history] == [(link.id, "order-1", 49900)]


async def test_a_repeated_creation_makes_a_second_link(tmp_path: Path) -> None:
    """Creation is not idempotent, as the real one may not be: the newest link answers for the reference."""
    async with rig(tmp_path) as at:
        first, second = [await at.client.create(at.request()) for _ in range(2)]
        assert first.id != second.id
        external = await at.signed("GET", f"{wire.STATUS_EXTERNAL_PATH}?externalReference=order-1")
        assert external.json()["paylinkID"] == second.id


@pytest.mark.parametrize(
    "headers", [{wire.HEADER_SIGN: "0" * 64}, {wire.HEADER_SIGN: ""}, {wire.HEADER_APP: "IKOTHER"}]
)
@pytest.mark.parametrize(
    "path", [wire.PAYMENT_PATH, f"{wire.STATUS_PATH}/x", wire.STATUS_EXTERNAL_PATH, wire.HISTORY_PATH]
)
async def test_a_bad_signature_is_ik_001_everywhere(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    """No part of the API answers anything but IK-001 to a wrong signature or another account."""
    async with rig(tmp_path) as at:
        creates = path == wire.PAYMENT_PATH
        body = json.dumps(GOOD).encode() if creates else b""
        answer = await at.signed("POST" if creates else "GET", path, body, headers=headers)
        assert (answer.status_code, answer.json()) == (
            401,
            {"responseCode": "IK-001", "message": "Token or Hash invalid"},
        )
        assert at.gateway.store.payments() == []


async def test_the_signature_covers_the_canonical_form_and_a_difference_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A body sent in other bytes than its canonical form is accepted when that form was signed, with a log line."""
    caplog.set_level(logging.INFO)
    async with rig(tmp_path) as at:
        signature = wire.sign(SECRET, wire.PAYMENT_PATH, wire.serialise(GOOD))
        raw = json.dumps(GOOD, indent=2).encode()
        answer = await at.signed("POST", wire.PAYMENT_PATH, raw, headers={wire.HEADER_SIGN: signature})
        assert answer.json()["responseCode"] == "00"
        assert "signature.raw_differs" in caplog.messages
        caplog.clear()
        answer = await at.signed("POST", wire.PAYMENT_PATH, wire.serialise(GOOD).encode())
        assert answer.status_code == 200
        assert "signature.raw_differs" not in caplog.messages
        answer = await at.signed("POST", wire.PAYMENT_PATH, raw)
        assert answer.json()["responseCode"] == "IK-001"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 0),
        ("amount", -1),
        ("amount", "10000"),
        ("amount", 100.5),
        ("amount", True),
        ("amount", 10**15),
        ("amount", None),
        ("currency", "USD"),
        ("currency", ["ZAR"]),
        ("mode", "sandbox"),
        ("entityID", " "),
        ("externalTransactionID", ""),
        ("externalTransactionID", "x" * 256),
        ("externalTransactionID", "\ud800"),
        ("externalTransactionID", 7),
        ("description", "a\x00b"),
        ("requesterUrl", "http://ex.test"),
        ("requesterUrl", "https://ex.test/ space"),
        ("requesterUrl", "https://user@ex.test"),
        ("requesterUrl", "https://ex.test:99999"),
        ("requesterUrl", "https://[::1"),
        ("requesterUrl", "https://ex.test;script-src *"),
        ("urls", None),
        ("urls", []),
        ("urls", {}),
        ("urls", {**GOOD["urls"], "callbackUrl": "ftp://ex.test"}),
        ("urls", {**GOOD["urls"], "cancelUrl": "javascript:alert(1)"}),
    ],
)
async def test_a_malformed_payment_is_refused_with_the_field_named(tmp_path: Path, field: str, value: Any) -> None:
    """A signed request with a wrong field gets 400, names the field, and makes no link."""
    async with rig(tmp_path) as at:
        answer = await at.signed("POST", wire.PAYMENT_PATH, wire.serialise({**GOOD, field: value}).encode())
        assert answer.status_code == 400
        assert field in answer.json()["message"]
        assert at.gateway.store.payments() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", wire.PAYMENT_PATH, b"", {}, 400),
        ("POST", wire.PAYMENT_PATH, b"not json", {}, 400),
        ("POST", wire.PAYMENT_PATH, b"\xff\xfe", {}, 400),
        ("POST", wire.PAYMENT_PATH, b"[" * 5000, {}, 400),
        ("POST", wire.PAYMENT_PATH, b"null", {}, 400),
        ("POST", wire.PAYMENT_PATH, b"[]", {}, 400),
        ("POST", wire.PAYMENT_PATH, b"1" * 70_000, {}, 413),
        ("POST", wire.PAYMENT_PATH, b"{}", {"Content-Type": "text/plain"}, 415),
        ("GET", wire.PAYMENT_PATH, b"", {}, 405),
        ("DELETE", f"{wire.STATUS_PATH}/x", b"", {}, 405),
        ("GET", f"{wire.API}/nothing", b"", {}, 404),
        ("GET", f"{wire.STATUS_PATH}/000000000000000", b"", {}, 404),
        ("GET", f"{wire.STATUS_PATH}/%ff%00", b"", {}, 404),
        ("GET", wire.STATUS_EXTERNAL_PATH, b"", {}, 400),
        ("GET", f"{wire.STATUS_EXTERNAL_PATH}?externalReference=%ff%00", b"", {}, 400),
        ("GET", f"{wire.STATUS_EXTERNAL_PATH}?externalReference=none", b"", {}, 404),
        ("GET", wire.HISTORY_PATH, b"", {}, 400),
        ("GET", f"{wire.HISTORY_PATH}?startDate=2025-02-30&endDate=2025-03-01", b"", {}, 400),
        ("GET", f"{wire.HISTORY_PATH}?startDate=20250101&endDate=2025-03-01", b"", {}, 400),
        ("GET", f"{wire.HISTORY_PATH}?startDate=0001-01-01&endDate=9999-12-31", b"", {}, 200),
    ],
)
async def test_whatever_is_asked_is_answered_in_json(
    tmp_path: Path, method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """A signed request that is wrong in any way gets its 4xx with a JSON body, never a 5xx."""
    async with rig(tmp_path) as at:
        answer = await at.signed(method, path, body, headers=headers)
        assert answer.status_code == status
        answer.json()


async def test_the_client_names_a_refusal_by_the_gateways_code(tmp_path: Path) -> None:
    """A payment with a forbidden amount and one that does not exist are GatewayRefused with status and code."""
    async with rig(tmp_path) as at:
        with pytest.raises(GatewayRefused) as refused:
            await at.client.create(at.request(amount=0))
        assert (refused.value.status, refused.value.code) == (400, "IK-400")
        with pytest.raises(GatewayRefused) as refused:
            await at.client.status("0" * 15)
        assert refused.value.status == 404


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from([*GOOD, "description", "paymentReference"]), st.none() | st.text() | st.integers())
)
def test_parsing_an_order_is_total(changes: dict[str, Any]) -> None:
    """Any JSON object becomes an order or a list of mistakes, and an order's texts can be stored and sent on."""
    body = wire.canonical(json.dumps(GOOD | changes).encode())
    assert body is not None
    try:
        order = orders.parse(body, Assumptions())
    except orders.Malformed as mistakes:
        assert "allowed" in str(mistakes) or "required" in str(mistakes)
    else:
        order.reference.encode()


async def test_payments_and_their_time_survive_a_restart(tmp_path: Path) -> None:
    """A gateway that starts again knows its payments, and creation times are instants in UTC."""
    instant = datetime(2025, 3, 1, 23, 59, 59, 999000, tzinfo=UTC)
    async with rig(tmp_path, now=lambda: instant) as at:
        link = await at.client.create(at.request())
    async with rig(tmp_path) as at:
        status = await at.client.status(link.id)
        assert status.created == "2025-03-01T23:59:59.999Z"
        days = "startDate=2025-03-01&endDate=2025-03-01"
        assert len((await at.signed("GET", f"{wire.HISTORY_PATH}?{days}")).json()) == 1
        days = "startDate=2025-03-02&endDate=2025-03-02"
        assert (await at.signed("GET", f"{wire.HISTORY_PATH}?{days}")).json() == []


def test_a_status_and_its_webhook_are_stored_together_or_not_at_all(tmp_path: Path) -> None:
    """A payment that is paid owes exactly one SUCCESS webhook, however often it is settled."""
    store = Store(tmp_path / "gateway.sqlite")
    try:
        store.add(Payment("a", "r", 1, "", "https://127.0.0.1/", "", "", "", "PENDING", "2025-01-01T00:00:00Z"))
        assert store.settle("a", wire.PAID, event=wire.SUCCESS, next_at=0, state=PENDING)
        assert not store.settle("a", wire.PAID, event=wire.SUCCESS, next_at=0, state=PENDING)
        assert not store.settle("a", "FAILED", event=wire.FAILURE, next_at=0, state=PENDING)
        assert [w.event for w in store.owed()] == [wire.SUCCESS]
        assert store.payment("a") is not None
    finally:
        store.close()


async def test_a_refusal_looks_like_success_to_who_reads_the_status_alone(tmp_path: Path) -> None:
    """With the fault `refuse` a creation is answered 200 with a failure's code, and no payment comes to be."""
    async with rig(tmp_path) as at:
        before = await at.client.create(at.request("order-1"))
        assert (await at.control.set_faults(refuse=True))["refuse"] is True
        answer = await at.signed("POST", wire.PAYMENT_PATH, json.dumps(GOOD, separators=(",", ":")).encode())
        assert answer.status_code == 200
        assert answer.json() == NOT_CREATED
        assert answer.json()["responseCode"] != wire.OK
        with pytest.raises(GatewayRefused):
            await at.client.create(at.request("order-2"))
        assert (await at.client.status(before.id)).status == "PENDING", "only creating is refused"
        await at.control.clear_faults()
        await at.client.create(at.request("order-3"))
        assert [row["reference"] for row in await at.control.payments()] == ["order-3", "order-1"]


async def test_a_refusal_comes_after_what_is_wrong_with_the_request(tmp_path: Path) -> None:
    """A creation that is malformed is told so, whatever fault is on."""
    async with rig(tmp_path) as at:
        await at.control.set_faults(refuse=True)
        answer = await at.signed("POST", wire.PAYMENT_PATH, b'{"amount":1}')
        assert answer.status_code == 400


async def test_the_control_tells_the_addresses_a_payment_was_made_with(tmp_path: Path) -> None:
    """A drill sees where the gateway would send its webhook and the customer, as the merchant asked for it."""
    async with rig(tmp_path) as at:
        asked = at.request("order-1")
        await at.client.create(asked)
        (row,) = await at.control.payments()
        told = (row["callbackUrl"], row["successUrl"], row["failureUrl"], row["cancelUrl"])
        assert told == (asked.callback_url, asked.success_url, asked.failure_url, asked.cancel_url)
