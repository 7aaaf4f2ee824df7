"""A world to ask checks in: a small merchant and a till on loopback, with behaviours to switch, and a real machine.

The merchant and the till are real servers behind TLS; only the till's API is called in process, because the protocol
on its wire is another room's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
from aiohttp import web

from pipeline.contracts import (
    Addresses,
    Check,
    Completed,
    GatewayPayment,
    PayLink,
    PaymentRequest,
    ReleaseId,
    RunInfo,
    SignedWebhook,
    Started,
    SwitchName,
    SwitchOn,
    Target,
    World,
)
from pipeline.errors import GatewayUnreachable
from pipeline.events import Entry, Kind
from pipeline.facts import Facts
from pipeline.purse import RecordedPurse
from pipeline.secrets import Secret
from pipeline.service import PROOF_HEADER, Service
from pipeline.settings import Settings, SettingValue
from pipeline.spec import Spec
from pipeline.verdict import Finding
from sandbox.authority import Certificates

RELEASE = "20260101T000000000Z-0000000"
PRICE = 100
URL = "https://app.betaskill.com"


class QuickClock:
    """Real instants; a sleep passes quickly, and the monotonic time moves on by all of it."""

    def __init__(self) -> None:
        self._slept = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += seconds
        await asyncio.sleep(min(seconds, 0.005))


class Machine:
    """This machine, as a host that runs commands."""

    async def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes = b"") -> Completed:
        done = await asyncio.to_thread(
            subprocess.run, list(argv), input=stdin, capture_output=True, timeout=timeout, check=False
        )
        return Completed(tuple(argv), done.returncode, done.stdout.decode(), done.stderr.decode())

    async def put(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        raise AssertionError("a check never writes")

    async def rename(self, old: PurePosixPath, new: PurePosixPath) -> None:
        raise AssertionError("a check never writes")

    async def read(self, path: PurePosixPath) -> bytes:
        return await asyncio.to_thread(Path(path).read_bytes)


@dataclass
class Stage:
    """The traffic of a target that can only rehearse: `rehearsed` is what a rehearsal comes to."""

    rehearsed: Started | Exception | None = None

    async def live(self) -> ReleaseId:
        return ReleaseId("0-before")

    async def rehearse(self, release: ReleaseId) -> Started:
        if isinstance(self.rehearsed, Exception):
            raise self.rehearsed
        return self.rehearsed or Started(release, 0.5, {"release": release})


@dataclass
class Doors:
    """The switches of a target that keeps them in memory."""

    closed: dict[SwitchName, SwitchOn] = field(default_factory=dict)

    async def read(self, name: SwitchName) -> SwitchOn | None:
        return self.closed.get(name)

    async def write(self, name: SwitchName, value: SwitchOn | None) -> None:
        raise AssertionError("a check never writes")


@dataclass
class Order:
    reference: str
    cents: int
    course: str
    link: str
    status: str = "pending"
    activations: int = 0


@dataclass
class Till:
    """Takes the money. `outage`: its API does not answer. `withholds`: it sends no webhooks of its own."""

    secret: str
    outage: bool = False
    withholds: bool = False
    declines: bool = False
    charges: int | None = None
    leads_to: str = ""
    base: str = ""
    payments: dict[str, GatewayPayment] = field(default_factory=dict)
    deliver: Callable[[SignedWebhook], Any] | None = None
    webhook_path: str = "/api/webhooks/ikhokha"

    async def create(self, request: PaymentRequest) -> PayLink:
        return self.open(request.reference, request.amount)

    def open(self, reference: str, cents: int) -> PayLink:
        link = f"link{len(self.payments):011d}"
        created = datetime.now(UTC).isoformat()
        self.payments[link] = GatewayPayment(link, reference, cents, "PENDING", False, created)
        return PayLink(link, f"{self.base}/pay/{link}")

    async def status(self, link_id: str) -> GatewayPayment:
        self._answer()
        return self.payments[link_id]

    async def history(self, since: datetime, until: datetime) -> Sequence[GatewayPayment]:
        self._answer()
        return tuple(self.payments.values())

    def webhook(self, path: str, link_id: str, reference: str, status: str) -> SignedWebhook:
        body = json.dumps(
            {"paylinkID": link_id, "status": status, "externalTransactionID": reference}, separators=(",", ":")
        ).encode()
        return SignedWebhook(body, {"ik-appid": "app", "ik-sign": sign(self.secret, path, body)})

    def _answer(self) -> None:
        if self.outage:
            raise GatewayUnreachable("GET https://till: no answer")

    async def page(self, request: web.Request) -> web.Response:
        link = request.match_info["link"]
        if request.method == "GET":
            page = PAY_PAGE.format(action=self.leads_to or f"/pay/{link}")
            return web.Response(text=page, content_type="text/html")
        form = await request.post()
        paid = form.get("card") == "4242424242424242" and form.get("action") == "pay" and form.get("token") == "t1"
        if paid and form.get("expiry") and form.get("cvc") and not self.declines:
            await self.paid(link)
        return web.Response(status=303, headers={"Location": "/success"})

    async def paid(self, link: str) -> None:
        """Somebody has paid."""
        payment = self.payments[link]
        cents = payment.amount if self.charges is None else self.charges
        self.payments[link] = replace(payment, status="PAID", paid=True, amount=cents)  # type: ignore[arg-type]
        if self.deliver and not self.withholds:
            await self.deliver(self.webhook(self.webhook_path, link, payment.reference, "SUCCESS"))


PAY_PAGE = """<!doctype html><title>Pay</title><form action="/search"><input name="q"></form>
<form method="post" action="{action}"><input type="hidden" name="token" value="t1"><label>Card <input name="card">
</label><input name="expiry"><input name="cvc"><button name="action" value="cancel">Cancel</button>
<button name="action" value="pay">Pay</button></form>"""


def sign(secret: str, path: str, body: bytes) -> str:
    return hmac.new(secret.encode(), path.encode() + body, hashlib.sha256).hexdigest()


@dataclass
class Merchant:
    """A small shop. Every flag is one way to be wrong."""

    till: Till
    release: str = RELEASE
    live: int = 200
    ready: int = 200
    parts: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(("database", "gateway", "webhook", "configuration"), "ok")
    )
    create_status: int = 0
    create_body: bytes | None = None
    create_slow_s: float = 0.0
    any_amount: bool = False
    wrong_amount_status: int = 422
    cents_to_till: int | None = None
    link_over_http: bool = False
    webhook_status: int = 0
    refusal_status: int = 401
    believes_anything: bool = False
    believes_signed: bool = False
    reads_only_that_it_is_signed: bool = False
    forgets_it_was_done: bool = False
    enrols_on_refusal: bool = False
    garbled: bool = False
    pages: Iterator[bytes | int] = field(default_factory=lambda: iter(()))
    orders: dict[str, Order] = field(default_factory=dict)
    webhooks: int = 0
    seen: list[str] = field(default_factory=list)

    async def health(self, request: web.Request) -> web.Response:
        if request.path.endswith("live"):
            return web.Response(status=self.live)
        return web.json_response({"release": self.release, **self.parts}, status=self.ready)

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.seen.append(request.headers.get(PROOF_HEADER, ""))
        if self.create_slow_s:
            await asyncio.sleep(self.create_slow_s)
        if self.create_status:
            return web.Response(status=self.create_status)
        if asked["amount"] != PRICE and not self.any_amount:
            return web.Response(status=self.wrong_amount_status)
        if known := self.orders.get(asked["reference"]):
            body = {"paylinkUrl": f"{self.till.base}/pay/{known.link}", "paylinkID": known.link}
            return web.Response(status=409) if known.status == "paid" else web.json_response(body)
        cents = asked["amount"] if self.cents_to_till is None else self.cents_to_till
        link = self.till.open(asked["reference"], cents)
        self.orders[asked["reference"]] = Order(asked["reference"], asked["amount"], asked["course"], link.id)
        if self.create_body is not None:
            return web.Response(body=self.create_body)
        url = link.url.replace("https:", "http:") if self.link_over_http else link.url
        return web.json_response({"paylinkUrl": url, "paylinkID": link.id}, status=201)

    async def payment(self, request: web.Request) -> web.Response:
        if self.garbled:
            return web.Response(text="<html>hello</html>")
        order = self.orders.get(request.match_info["reference"])
        if order is None:
            return web.Response(status=404)
        return web.json_response(
            {"reference": order.reference, "status": order.status, "amount": order.cents, "paylinkID": order.link}
        )

    async def enrolment(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["reference"])
        if order is None:
            return web.Response(status=404)
        return web.json_response({"active": order.activations > 0, "activations": order.activations})

    async def webhook(self, request: web.Request) -> web.Response:
        self.webhooks += 1
        body, signature = await request.read(), request.headers.get("ik-sign", "")
        told = json.loads(body)
        order = next((o for o in self.orders.values() if o.link == told["paylinkID"]), None)
        right = signature == sign(self.till.secret, request.path, body)
        if self.webhook_status:
            return web.Response(status=self.webhook_status)
        if not (right or self.believes_anything or (self.reads_only_that_it_is_signed and len(signature) == 64)):
            if self.enrols_on_refusal and order:
                order.activations += 1
            return web.Response(status=self.refusal_status)
        if order is None:
            return web.Response(status=404)
        if told["status"] == "FAILURE":
            order.status = order.status if order.status == "paid" else "failed"
        elif self.believes_signed or self.till.payments[order.link].paid:
            order.status = "paid"
            order.activations += 1 if self.forgets_it_was_done or not order.activations else 0
        return web.Response(status=200)

    async def metrics(self, _request: web.Request) -> web.Response:
        page = next(self.pages, 503)
        return web.Response(status=page) if isinstance(page, int) else web.Response(body=page)


CONTRACT_ROUTES = (
    ("GET", "/health/live", "health"),
    ("GET", "/health/ready", "health"),
    ("POST", "/api/payments", "create"),
    ("GET", "/api/payments/{reference}", "payment"),
    ("GET", "/api/enrolments/{reference}", "enrolment"),
    ("POST", "/api/webhooks/ikhokha", "webhook"),
    ("GET", "/metrics", "metrics"),
)


async def _named(_request: web.Request, response: web.StreamResponse) -> None:
    """What aiohttp says of itself is a global that whoever is imported beside us may have set."""
    response.headers["Server"] = "merchant/1.0"


@asynccontextmanager
async def shop(certificates: Certificates, root: Path, secret: str) -> AsyncIterator[tuple[Merchant, Till, World]]:
    """A merchant and a till that serve on loopback, and the world in which a check meets them."""
    till = Till(secret)
    merchant = Merchant(till)
    app = web.Application()
    for method, path, name in CONTRACT_ROUTES:
        app.router.add_route(method, path, getattr(merchant, name))
    app.router.add_route("*", "/pay/{link}", till.page)
    app.on_response_prepare.append(_named)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificates.server, certificates.key)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
        await site.start()
        till.base = f"https://127.0.0.1:{runner.addresses[0][1]}"
        trust = ssl.create_default_context(cafile=certificates.ca)
        shopped = world(root, service=till.base, gateway=till.base, till=till, trust=trust, secret=secret)

        async def deliver(webhook: SignedWebhook) -> None:
            await shopped.service.post_webhook(webhook.body, webhook.headers)

        till.deliver = deliver
        yield merchant, till, shopped
    finally:
        await runner.cleanup()


SPEC: Mapping[str, Any] = {
    "version": 1,
    "service": "shop",
    "gateway": "ikhokha",
    "settings": {
        "VITE_NODE_ENV": {"type": "text"},
        "VITE_IKHOKHA_API_URL": {"type": "url"},
        "VITE_IKHOKHA_API_KEY": {"type": "secret"},
        "VITE_IKHOKHA_API_SECRET": {"type": "secret"},
        "VITE_IKHOKHA_TEST_MODE": {"type": "boolean"},
    },
    "release": {"start": ["true"]},
    "stages": {
        "gates": [{"check": "settings.valid"}],
        "deploy": [{"act": "release.switch"}],
        "prove": [{"check": "health.ready"}],
    },
    "environments": {
        "sandbox": {
            "url": "sandbox",
            "target": {"kind": "local", "path": ".tollgate/sandbox/target"},
            "settings_from": [{"dotenv": ".tollgate/sandbox/settings.env"}],
            "allowed": {
                "VITE_NODE_ENV": ["production"],
                "VITE_IKHOKHA_API_URL": ["sandbox"],
                "VITE_IKHOKHA_TEST_MODE": ["false"],
            },
        },
        "staging": {
            "url": "https://staging.betaskill.com",
            "target": {"kind": "local", "path": "/srv/staging"},
            "settings_from": ["environment", {"dotenv": ".env.staging"}],
            "allowed": {
                "VITE_NODE_ENV": ["production", "staging"],
                "VITE_IKHOKHA_API_URL": ["https://api.ikhokha.com"],
                "VITE_IKHOKHA_TEST_MODE": ["true", "false"],
            },
        },
        "production": {
            "url": URL,
            "target": {"kind": "local", "path": "/srv/production"},
            "settings_from": ["environment", {"dotenv": ".env.production"}],
            "allowed": {
                "VITE_NODE_ENV": ["production"],
                "VITE_IKHOKHA_API_URL": ["https://api.ikhokha.com"],
                "VITE_IKHOKHA_TEST_MODE": ["false"],
            },
        },
    },
}


def purse() -> RecordedPurse:
    """A purse whose record is a list, for one world."""
    entries: list[Entry] = []

    def record(kind: Kind, **data: Any) -> None:
        entries.append(Entry(len(entries) + 1, "run-1", datetime.now(UTC), kind, data, "", ""))

    return RecordedPurse(lambda: entries, record)


def world(
    root: Path,
    *,
    environment: str = "sandbox",
    service: str = "https://127.0.0.1:9",
    gateway: str = "https://127.0.0.1:9",
    till: Till | None = None,
    trust: ssl.SSLContext | None = None,
    secret: str | None = None,
    values: Mapping[str, str | Secret] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> World:
    """A world whose parts are real; port 9 is where nobody listens."""
    parsed = Spec.model_validate_json(json.dumps({**SPEC, **(spec or {})}))
    chance = random.SystemRandom()
    secret = secret if secret is not None else random_text()
    known: Mapping[str, str | Secret] = values or {
        "VITE_NODE_ENV": "production",
        "VITE_IKHOKHA_API_URL": gateway,
        "VITE_IKHOKHA_API_KEY": Secret("IK" + random_text()),
        "VITE_IKHOKHA_API_SECRET": Secret(secret),
        "VITE_IKHOKHA_TEST_MODE": "false",
    }
    stage: Any = Stage()

    def http() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=trust or True, trust_env=False, follow_redirects=False)

    return World(
        spec=parsed,
        environment=parsed.environments[environment],
        environment_name=environment,
        root=root,
        addresses=Addresses(service, gateway),
        settings=Settings(
            {n: SettingValue(n, v, f"dotenv .env:{i}") for i, (n, v) in enumerate(known.items(), 1)},
            (),
            ("dotenv .env",),
        ),
        target=Target("local", Machine(), PurePosixPath(root / "area"), stage, stage, Doors(), *[stage] * 4),
        gateway=till or Till(secret),
        service=Service(service, parsed.contract, http),
        http=http,
        clock=QuickClock(),
        random=chance,
        run=RunInfo("run-1", datetime.now(UTC), ReleaseId(RELEASE), None, None, Secret(random_text()), 3.0),
        facts=Facts(),
        purse=purse(),
    )


def random_text() -> str:
    return random.SystemRandom().randbytes(24).hex()


def at(base: World, **run: Any) -> World:
    """The same world with facts of its own and members of `run` changed."""
    return replace(base, facts=Facts(), run=replace(base.run, **run))


async def ask(check: Check, base: World, **params: Any) -> Finding:
    """Gathers and judges as the engine does; judging twice must give the same."""
    parsed = check.params(**params)
    fact = await check.gather(base, parsed)
    finding = check.judge(fact, parsed)
    assert check.judge(fact, parsed) == finding
    assert finding.verdict.value in ("PASS", "SKIPPED") or finding.remedy
    return finding
