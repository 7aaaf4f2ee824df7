"""The shop in this process: how it reads strangers' bodies, and webhooks that carry a time stamp."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateways import ikhokha_wire as wire
from gateways import standard_webhooks as standard
from sandbox.shop.server import schemes
from sandbox.shop.server.config import STANDARD_WEBHOOKS, Config, ConfigInvalid, read_config
from sandbox.shop.server.events import parse
from sandbox.shop.server.schemes import Delivery
from tests.probes.shop_rig import ShopRig, Till, gateway, shop

in_one_loop = pytest.mark.asyncio(loop_scope="module")
__all__ = ["gateway"]

NOW = 1_790_000_000.0
PATH = "/api/webhooks/ikhokha"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def careful(gateway: Till) -> AsyncIterator[ShopRig]:
    async with shop(gateway.rig, gateway.folder) as rig:
        yield rig


def harmless(rig: ShopRig) -> tuple[bytes, Mapping[str, str]]:
    signed = rig.world.gateway.webhook(PATH, "0" * 15, "smoke-nobody", "FAILURE")
    return signed.body, signed.headers


# ---- bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON;Charset=UTF8", 200),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=", 200),
        ("text/json", 415),
        ("application/problem+json", 415),
    ],
)
@in_one_loop
async def test_a_body_is_json_in_utf_8(careful: ShopRig, content_type: str, status: int) -> None:
    """No other reading of a webhook's bytes is possible than the one that was signed."""
    body, headers = harmless(careful)
    answer = await careful.world.service.request(
        "POST", PATH, content=body, headers={**headers, "Content-Type": content_type}
    )
    assert answer.status == status


@in_one_loop
async def test_what_a_front_might_claim_is_not_looked_at(gateway: Till) -> None:
    """No header of a stranger changes whom the shop believes to speak to, or which path was signed."""
    async with shop(gateway.rig, gateway.folder, sources=["198.51.100.7"]) as rig:
        body, headers = harmless(rig)
        claims = {"X-Forwarded-For": "198.51.100.7", "Forwarded": "for=198.51.100.7", "X-Original-URI": "/"}
        answer = await rig.world.service.post_webhook(body, {**headers, **claims})
        assert answer.status == 403


@in_one_loop
async def test_what_is_expected_of_the_shop_is_not_repeated(careful: ShopRig) -> None:
    """An Expect header of odd bytes is refused, and breaks nothing."""
    async with careful.world.http() as client:
        raw = [(b"Expect", b"\xe2\x80"), (b"Content-Type", b"application/json")]
        answer = await client.post(careful.base + PATH, content=b"{}", headers=raw)
    assert answer.status_code == 417


# ---- Standard Webhooks -------------------------------------------------------------------------------------


@in_one_loop
async def test_a_payment_is_activated_by_a_webhook_with_a_time_stamp(gateway: Till) -> None:
    """A shop whose gateway signs the second way sells its courses all the same, each once."""
    async with shop(gateway.rig, gateway.folder, scheme=STANDARD_WEBHOOKS) as rig:
        reference = f"smoke-{secrets.token_hex(6)}"
        created = await rig.world.service.create_payment(reference, 100, "smoke-001")
        async with rig.world.http() as client:
            card = {"card": "4242424242424242", "expiry": "12/34", "cvc": "123", "action": "pay"}
            await client.post(created.member("paylinkUrl"), data=card)
        async with asyncio.timeout(60):
            while await rig.world.service.activations(reference) == 0:
                await asyncio.sleep(0.02)
        signed = rig.world.gateway.webhook(PATH, created.member("paylinkID"), reference, "SUCCESS")
        again = await rig.world.service.post_webhook(signed.body, signed.headers)
        assert again.json() == {"result": "duplicate"}
        assert await rig.world.service.activations(reference) == 1


@in_one_loop
async def test_the_shop_knows_whether_it_can_verify(gateway: Till) -> None:
    """A shop that speaks the second way says that its webhooks work, having tried one."""
    async with shop(gateway.rig, gateway.folder, scheme=STANDARD_WEBHOOKS) as rig:
        assert (await rig.world.service.request("GET", "/health/ready")).member("webhook") == "ok"


def standing(secret: str, tolerance_s: float = 300.0) -> Config:
    """Settings of which only those of the webhook matter."""
    nothing = Path("/nowhere")
    return Config(
        *("r", "production", False, "https://shop.example", nothing, nothing, "https://till.example"),
        *("app", "api-secret", secret, 1.0, 0, 0.1, None, None, None),
        webhook_scheme=STANDARD_WEBHOOKS,
        webhook_tolerance_s=tolerance_s,
    )


def delivery(body: bytes, headers: Mapping[str, str], at: float = NOW) -> Delivery:
    return Delivery(PATH, CIMultiDictProxy(CIMultiDict(headers)), body, at)


@pytest.mark.parametrize(("late_s", "accepted"), [(0, True), (60, True), (61, False), (-60, True), (-61, False)])
def test_a_time_stamp_counts_within_the_tolerance(late_s: int, accepted: bool) -> None:
    """A webhook that is older, or further ahead, than the operator allows is refused."""
    config = standing("made-up-" + "s" * 24, tolerance_s=60.0)
    headers = standard.sign(standard.keys(config.webhook_secret), "m1", int(NOW), b"{}")
    judged = schemes.verify(config, delivery(b"{}", headers, NOW + late_s))
    assert (judged.text is not None) is accepted
    assert judged.reason


def test_a_secret_that_is_replaced_counts_until_it_is_taken_away() -> None:
    """While a secret is rotated, webhooks signed with the old one and with the new one are accepted."""
    old, new = (f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}" for _ in range(2))
    headers = standard.sign(standard.keys(old), "m1", int(NOW), b"{}")
    assert schemes.verify(standing(f"{new} {old}"), delivery(b"{}", headers)).text == b"{}"
    assert schemes.verify(standing(new), delivery(b"{}", headers)).text is None


@given(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from([standard.HEADER_ID, standard.HEADER_TIME, standard.HEADER_SIGNATURE, wire.HEADER_SIGN]),
        st.text(max_size=60),
    ),
    st.sampled_from([schemes.STANDARD_WEBHOOKS, schemes.IKHOKHA]),
)
def test_no_bytes_and_headers_break_the_verification(body: bytes, headers: dict[str, str], scheme: str) -> None:
    """Whatever arrives is judged, and without the secret it is never believed."""
    config = replace(standing("made-up-" + secrets.token_hex(12)), webhook_scheme=scheme)
    assert schemes.verify(config, delivery(body, headers)).text is None
    parse(body, delivery(body, headers))


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", b'{"a":1}'.decode().encode("utf-16"), b"[" * 5000, b"\xff"])
def test_what_is_signed_and_no_webhook_is_malformed(body: bytes) -> None:
    """Bytes that a lenient parser would guess at say nothing to the shop."""
    assert parse(body, delivery(body, {})) is None


# ---- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WEBHOOK_SCHEME", "hmac", "WEBHOOK_SCHEME: found 'hmac'; allowed is ikhokha, standard-webhooks"),
        ("WEBHOOK_TOLERANCE", "0", "WEBHOOK_TOLERANCE: found '0'; a whole number from 1 to 86400"),
        ("WEBHOOK_TOLERANCE", "5 min", "WEBHOOK_TOLERANCE: found '5 min'"),
    ],
)
def test_a_mistake_in_how_webhooks_are_signed_is_named(name: str, value: str, told: str) -> None:
    """A shop that would verify in another way than its operator meant does not start."""
    with pytest.raises(ConfigInvalid, match=told):
        read_config({name: value})


def test_a_secret_that_signs_nothing_is_named_and_not_shown() -> None:
    """A secret that is no secret in the second scheme stops the start, and its text stays out of the log."""
    broken = "whsec_*" + secrets.token_hex(8)
    with pytest.raises(ConfigInvalid, match="VITE_IKHOKHA_WEBHOOK_SECRET: what follows whsec_") as found:
        read_config({"WEBHOOK_SCHEME": STANDARD_WEBHOOKS, "VITE_IKHOKHA_WEBHOOK_SECRET": broken})
    assert broken not in str(found.value)
