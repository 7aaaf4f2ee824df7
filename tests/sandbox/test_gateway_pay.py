"""The pay page takes a test card without script, and the merchant hears of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from gateways import GATEWAYS, SCHEMES
from gateways import ikhokha_wire as wire
from pipeline.clock import SystemClock
from pipeline.spec import Contract
from sandbox.gateway.assumptions import Assumptions
from sandbox.gateway.pages import CardForm, judge, rand
from sandbox.gateway.webhooks import is_loopback
from sandbox.logs import hide_cards
from tests.sandbox.gateway_rig import APP_ID, CALLBACK, CARD, DECLINED, SECRET, Rig, rig, settings

QUICK = Assumptions(webhook_retries_after_s=(0.02, 0.02), webhook_timeout_s=2)


async def test_a_good_card_pays_and_sends_one_signed_webhook(tmp_path: Path) -> None:
    """Paying leads the buyer to the success page, makes the status PAID and sends one SUCCESS webhook."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request("order-1"))
        answer = await at.submit(link)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"{at.merchant.base}/success?ref=order-1")
        assert (await at.client.status(link.id)).paid
        [webhook] = await at.merchant.has(1)
        assert webhook.path == CALLBACK
        assert webhook.headers["ik-appid"] == APP_ID
        assert wire.verify(SECRET, CALLBACK, webhook.body, webhook.headers["ik-sign"]).accepted
        signed = at.client.webhook(CALLBACK, link.id, "order-1", "SUCCESS")
        assert (webhook.body, webhook.headers["ik-sign"]) == (signed.body, signed.headers["ik-sign"])


async def test_a_declined_card_does_not_use_up_the_link(tmp_path: Path) -> None:
    """A declined card leads to the failure page with a FAILURE webhook, and the same link can be paid after it."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request())
        assert (await at.submit(link, DECLINED)).headers["Location"].endswith("/failure")
        assert (await at.client.status(link.id)).status == "FAILED"
        await at.merchant.has(1)
        assert (await at.submit(link)).headers["Location"].endswith("/success?ref=order-1")
        await at.merchant.has(2)
        assert [b'"FAILURE"' in w.body for w in at.merchant.received] == [True, False]


async def test_a_paid_link_stays_paid(tmp_path: Path) -> None:
    """Paying, declining or cancelling a paid link changes nothing and sends no further webhook."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request())
        await at.submit(link)
        for more in ({"card": CARD}, {"card": DECLINED}, {"action": "cancel"}):
            assert (await at.submit(link, **more)).headers["Location"].endswith("/success?ref=order-1")
        assert (await at.client.status(link.id)).paid
        await at.merchant.has(1)
        assert {a.event for a in at.gateway.store.attempts(10)} == {"SUCCESS"}
        async with at.http() as client:
            assert "Already paid" in (await client.get(link.url)).text


async def test_cancelling_leads_back_and_leaves_the_link_usable(tmp_path: Path) -> None:
    """Cancel needs no card, leads to the cancel page and sends no webhook; the link can still be paid."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request())
        answer = await at.submit(link, "", action="cancel")
        assert answer.headers["Location"].endswith("/cancel")
        assert (await at.client.status(link.id)).status == "CANCELLED"
        assert at.gateway.store.attempts(10) == []
        await at.submit(link)
        assert (await at.client.status(link.id)).paid


class Form(HTMLParser):
    """What a browser without script sees of the form."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def test_the_pay_page_is_a_plain_accessible_form(tmp_path: Path) -> None:
    """The page has a language, a label for each field, no script, no foreign asset, and escapes what the shop sent."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request("<b>&order", success_url=at.merchant.base))
        page = await _page(at, link.url)
        form = Form()
        form.feed(page.text)
        assert form.all("html")[0]["lang"] == "en"
        names = [field["name"] for field in form.all("input")]
        assert names == ["card", "expiry", "cvc"]
        assert {label["for"] for label in form.all("label")} == {field["id"] for field in form.all("input")}
        assert [(b["name"], b["value"]) for b in form.all("button")] == [("action", "pay"), ("action", "cancel")]
        assert form.all("form") == [{"method": "post", "action": f"/pay/{link.id}"}]
        assert not form.all("script")
        assert not form.all("link")
        assert "R\u00a0499.00" in page.text
        assert "<b>&order" not in page.text
        assert "&lt;b&gt;&amp;order" in page.text


async def test_the_pay_page_has_a_strict_policy_that_fits_it(tmp_path: Path) -> None:
    """The policy allows the page's own style and its form's way back to the shop, and nothing else."""
    async with rig(tmp_path) as at:
        page = await _page(at, (await at.client.create(at.request())).url)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert f"form-action 'self' {at.merchant.base}" in policy
        assert "unsafe" not in policy
        style = re.search(r"<style>(.*)</style>", page.text, re.DOTALL)
        assert style is not None
        assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"card": ""}, "card"),
        ({"card": "4111 1111 1111 1111"}, "card"),
        ({"card": "\u0664" * 16}, "card"),
        ({"expiry": "13/34"}, "expiry"),
        ({"expiry": "01/20"}, "expiry"),
        ({"cvc": "12"}, "cvc"),
    ],
)
async def test_a_wrong_field_is_explained_and_nothing_is_charged(
    tmp_path: Path, fields: dict[str, str], wrong: str
) -> None:
    """A form with a mistake comes back with the field marked, the card forgotten and the payment untouched."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request())
        answer = await at.submit(link, **fields)
        assert answer.status_code == 422
        form = Form()
        form.feed(answer.text)
        marked = [field for field in form.all("input") if "aria-invalid" in field]
        assert [(f["name"], f["aria-describedby"]) for f in marked] == [(wrong, f"{wrong}-wrong")]
        assert not any("value" in field for field in form.all("input"))
        assert (await at.client.status(link.id)).status == "PENDING"


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 422),
        (b"\xff=%ff&card=%00", "application/x-www-form-urlencoded", 422),
        (b"a=1&" * 200, "application/x-www-form-urlencoded", 400),
        (b"card=" + b"4" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"--x", "multipart/form-data; boundary=x", 415),
        (b"--x", "multipart/form-data", 415),
    ],
)
async def test_no_form_breaks_the_pay_page(tmp_path: Path, content: bytes, content_type: str, status: int) -> None:
    """Whatever is posted to the pay page gets a page with a 4xx, never a 5xx."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request())
        for url, expected in ((link.url, status), (f"{at.base}/pay/nothing", 404)):
            async with at.http() as client:
                answer = await client.post(url, content=content, headers={"Content-Type": content_type})
            assert answer.status_code == expected
            assert answer.headers["Content-Type"].startswith("text/html")


def test_cards_are_judged_in_the_formats_people_type() -> None:
    """Spaces, dashes, two- and four-digit years are understood; a card good until this month is good."""
    now = datetime(2030, 6, 30, tzinfo=UTC)
    cards = Assumptions().cards
    for number, expiry in (("4242-4242-4242-4242", "06/30"), (" 4242424242424242 ", "12 / 2031"), (CARD, "0730")):
        assert judge(CardForm(number, expiry, "123"), cards, now) == (cards[0], {})
    assert judge(CardForm(CARD, "05/30", "123"), cards, now)[0] is None
    assert "4242" not in repr(CardForm(CARD, "06/30", "123"))
    assert rand(129900) == "R\u00a01\u00a0299.00"


def test_logs_hide_whatever_looks_like_a_card() -> None:
    """A card number in a path never reaches the log."""
    assert hide_cards("/pay/4242 4242 4242 4242/x") == "/pay/[number]/x"
    assert hide_cards("/pay/4242-4242-4242-4242") == "/pay/[number]"


# ---- webhooks ------------------------------------------------------------------------------------------------


async def test_a_webhook_is_sent_again_until_it_is_accepted(tmp_path: Path) -> None:
    """A merchant that answers badly twice gets the same webhook a third time, and each try is on record."""
    async with rig(tmp_path, assumptions=QUICK) as at:
        at.merchant.answers = [500, 302]
        await at.submit(await at.client.create(at.request()))
        received = await at.merchant.has(3)
        assert len({w.body for w in received}) == 1
        tries = await _settled(at)
        assert [(t["attempt"], t["status"], t["state"]) for t in tries] == [
            (3, 200, "delivered"),
            (2, 302, "delivered"),
            (1, 500, "delivered"),
        ]
        assert {t["reference"] for t in tries} == {"order-1"}


@pytest.mark.parametrize("name", sorted(SCHEMES))
async def test_webhooks_are_signed_by_the_scheme_that_is_set(tmp_path: Path, name: str) -> None:
    """Each try is verified by the scheme's own rules, and with a time stamp a later try has the same ID."""
    async with rig(tmp_path, assumptions=QUICK) as at:
        scheme = SCHEMES[name](settings(at.base, VITE_IKHOKHA_WEBHOOK_SECRET=SECRET), 300.0)
        at.gateway.sender.scheme = scheme
        at.merchant.answers = [500]
        await at.submit(await at.client.create(at.request()))
        tries = await at.merchant.has(2)
        for webhook in tries:
            now = datetime.now(UTC)
            assert scheme.verify(webhook.path, webhook.body, webhook.headers, at=now).accepted
            assert (
                not scheme.with_secret("another").verify(webhook.path, webhook.body, webhook.headers, at=now).accepted
            )
        assert tries[0].headers.get("webhook-id") == tries[1].headers.get("webhook-id")


async def test_a_webhook_that_cannot_be_signed_is_on_record(tmp_path: Path) -> None:
    """A scheme without a secret sends nothing, and the try says so."""
    async with rig(tmp_path, assumptions=QUICK) as at:
        at.gateway.sender.scheme = SCHEMES["standard-webhooks"](settings(at.base), 300.0)
        await at.submit(await at.client.create(at.request()))
        tries = await _settled(at)
        assert {(t["status"], t["error"]) for t in tries} == {(None, "ValueError")}
        assert at.merchant.received == []


async def test_a_webhook_nobody_accepts_is_given_up(tmp_path: Path) -> None:
    """After the last pause of the schedule one more try is made, then none."""
    async with rig(tmp_path, assumptions=QUICK) as at:
        at.merchant.answers = [500] * 9
        await at.submit(await at.client.create(at.request()))
        await at.merchant.has(3)
        assert [t["state"] for t in await _settled(at)] == ["abandoned"] * 3
        assert at.gateway.store.owed() == []


async def test_what_is_owed_survives_a_restart(tmp_path: Path) -> None:
    """A webhook held when the gateway stops is sent by the next one."""
    async with rig(tmp_path) as at:
        await at.control.set_faults(withhold_webhooks=True)
        link = await at.client.create(at.request(callback_url="https://127.0.0.1:1/hook"))
        await at.submit(link)
        assert [t["attempt"] for t in await at.control.deliveries()] == [0]
    async with rig(tmp_path, assumptions=QUICK) as at:
        tries = await _settled(at)
        assert {t["paylinkID"] for t in tries} == {link.id}
        assert tries[0]["status"] is None
        assert tries[0]["error"]


@pytest.mark.parametrize(
    "url", ["https://app.example.com/hook", "https://127.0.0.1.example.com/hook", "https://10.0.0.1/h"]
)
async def test_nothing_is_sent_beyond_loopback(tmp_path: Path, url: str) -> None:
    """A callback elsewhere is accepted at creation, recorded as not delivered, and never connected to."""
    async with rig(tmp_path) as at:
        await at.submit(await at.client.create(at.request(callback_url=url)))
        [delivery] = await at.control.deliveries()
        assert (delivery["state"], delivery["attempt"], delivery["status"]) == ("not loopback", 0, None)


def test_only_this_machine_is_loopback() -> None:
    """Literal loopback addresses and localhost over https, and nothing that merely looks like them."""
    assert all(
        is_loopback(u) for u in ("https://127.0.0.1:1/x", "https://localhost/x", "https://[::1]/", "https://127.9.9.9/")
    )
    assert not any(
        is_loopback(u) for u in ("http://127.0.0.1/", "https://localhost.ex/", "https://[::1", "https://1/", "")
    )


# ---- faults --------------------------------------------------------------------------------------------------


async def test_an_outage_answers_nothing_and_holds_webhooks(tmp_path: Path) -> None:
    """During an outage API and pay page close the connection; afterwards the payment and its webhook go on."""
    async with rig(tmp_path) as at:
        link = await at.client.create(at.request())
        await at.control.set_faults(withhold_webhooks=True)
        await at.submit(link)
        await at.control.set_faults(withhold_webhooks=False, outage=True)
        for path in (wire.HISTORY_PATH, f"/pay/{link.id}", "/"):
            with pytest.raises(httpx.TransportError):
                await at.signed("GET", path)
        assert (await at.control.faults())["outage"]
        await at.control.clear_faults()
        assert (await at.client.status(link.id)).paid
        await at.merchant.has(1)


async def test_webhooks_can_be_doubled_and_amounts_can_lie(tmp_path: Path) -> None:
    """Doubled webhooks arrive twice for one payment; a wrong amount shows in status and history alone."""
    async with rig(tmp_path) as at:
        await at.control.set_faults(double_webhooks=True, amount_off=-100)
        link = await at.client.create(at.request(amount=500))
        await at.submit(link)
        first, second = await at.merchant.has(2)
        assert first.body == second.body
        assert (await at.client.status(link.id)).amount == 400
        assert [p["amount"] for p in await at.control.payments()] == [500]


async def test_a_late_webhook_waits(tmp_path: Path) -> None:
    """A delayed webhook is owed and not sent before its time."""
    instant = datetime(2025, 3, 1, tzinfo=UTC)
    async with rig(tmp_path, now=lambda: instant) as at:
        await at.control.set_faults(webhook_delay_s=30)
        await at.submit(await at.client.create(at.request()), expiry="12/34")
        [owed] = at.gateway.store.owed()
        assert (owed.next_at - instant.timestamp(), owed.attempts) == (30, 0)


async def test_held_faults_go_and_those_switched_on_stay(tmp_path: Path) -> None:
    """Two may hold faults at once: each takes its own along, in any order, and none of what was switched on."""
    async with rig(tmp_path) as at:
        await at.control.set_faults(slow_s=0.1)
        first, second = at.control.holding(outage=True), at.control.holding(outage=True, amount_off=-1)
        await first.__aenter__()
        await second.__aenter__()
        await asyncio.sleep(0.5)  # they are looked after meanwhile
        await first.__aexit__(None, None, None)
        seen = await at.control.faults()
        assert (seen["outage"], seen["amount_off"], seen["slow_s"]) == (True, -1, 0.1)
        await second.__aexit__(None, None, None)
        seen = await at.control.faults()
        assert (seen["outage"], seen["amount_off"], seen["slow_s"]) == (False, 0, 0.1)


@pytest.mark.parametrize(
    "members",
    [b"{", b"[]", b'{"outrage": true}', b'{"outage": 1}', b'{"slow_s": -1}', b'{"slow_s": NaN}', b'{"slow_s": "1"}',
     b'{"amount_off": 1.5}', b'{"amount_off": true}', b"[" * 100_000],
)  # fmt: skip
async def test_an_unknown_fault_is_refused(tmp_path: Path, members: bytes) -> None:
    """A fault that does not exist, or with a value that makes no sense, is 400 with what is allowed; none is set."""
    async with rig(tmp_path) as at:
        headers = {"Authorization": "Bearer made-up-control-token"}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
            answers = [await client.post(f"{at.control_base}/{way}", content=members) for way in ("faults", "held")]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert all(answer.json()["error"] for answer in answers)
        assert not any((await at.control.faults()).values())


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "made-up-control-token", "Basic bWFkZQ=="])
async def test_the_control_interface_wants_its_token(tmp_path: Path, given: str) -> None:
    """Without the token nothing is shown and nothing is switched."""
    async with rig(tmp_path) as at, httpx.AsyncClient(trust_env=False) as client:
        for method, path in (("GET", "/payments"), ("GET", "/deliveries"), ("POST", "/faults"), ("GET", "/nothing")):
            answer = await client.request(method, at.control_base + path, headers={"Authorization": given}, json={})
            assert answer.status_code == 401


async def _page(at: Rig, url: str) -> httpx.Response:
    async with at.http() as client:
        return await client.get(url)


async def _settled(at: Rig) -> list[dict[str, object]]:
    """The tries to deliver, once no webhook is owed any more."""
    while at.gateway.store.owed():
        await at.client.status(at.gateway.store.payments()[0].id)
    return [dict(t) for t in await at.control.deliveries()]


@pytest.mark.parametrize("word", ["TEST", "PAID"])
async def test_a_test_payment_is_paid_by_card_and_is_no_money(tmp_path: Path, word: str) -> None:
    """A payment of mode test can be paid by test card and sends its webhook, and nobody calls it paid."""
    async with rig(tmp_path, assumptions=Assumptions(status_test=word)) as at:
        client = GATEWAYS["ikhokha"](
            settings(at.base, VITE_IKHOKHA_TEST_MODE="true"), at.http, SystemClock(), Contract()
        )
        link = await client.create(at.request("order-1"))
        assert (await at.submit(link)).headers["Location"].endswith("/success?ref=order-1")
        [webhook] = await at.merchant.has(1)
        assert b'"SUCCESS"' in webhook.body
        found, now = await client.status(link.id), SystemClock().now()
        assert (found.status, found.paid) == (word, False)
        assert not [one for one in await client.history(now - timedelta(hours=1), now) if one.paid]
        [listed] = await at.control.payments()
        assert (listed["mode"], listed["status"]) == ("test", word)
        assert (await at.submit(link, DECLINED)).headers["Location"].endswith("/success?ref=order-1")
