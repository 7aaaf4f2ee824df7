"""A customer of a drill: orders, pays, and looks whether the course is there; and the gateway's webhook once more."""

from __future__ import annotations

import json
import secrets as tokens
import sqlite3
import ssl
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
from dotenv import dotenv_values

from gateways import SCHEMES
from gateways import ikhokha_wire as wire
from pipeline.errors import TollgateError
from pipeline.secrets import Secret
from pipeline.settings import Settings, SettingValue
from pipeline.spec import Contract
from sandbox import host
from sandbox.drills.scene import Amiss, Scene, eventually
from sandbox.gateway.remote import Control
from sandbox.host import HostAddresses
from sandbox.shoppers import COURSES, GOOD_CARD, filled
from targets import service_address

SOON_S = 20.0
_COURSE = "python-101"
_WEBHOOK = Contract().webhook
_TOLERANCE_S = 300.0


@dataclass(frozen=True)
class Order:
    reference: str
    link: str
    url: str


async def order(scene: Scene) -> Order:
    """A course is ordered and nothing is paid yet. The shop asks the gateway only when a webhook tells it to."""
    reference = f"order-{tokens.token_hex(8)}"
    wanted = {"reference": reference, "amount": COURSES[_COURSE], "currency": "ZAR", "course": _COURSE}
    async with _client(scene) as client:
        created = await client.post(f"{await service(scene)}/api/payments", json=wanted)
    if created.status_code not in (200, 201):
        raise TollgateError(f"the drill's customer could not order: {created.status_code} {created.text[:200]}")
    with closing(sqlite3.connect(_orders(scene), timeout=20.0, isolation_level=None)) as shop:
        # after a while it would ask by itself, and then it is not the webhook that is drilled
        shop.execute("UPDATE orders SET next_check_at = NULL WHERE reference = ?", (reference,))
    made = created.json()
    return Order(reference, made["paylinkID"], made["paylinkUrl"])


async def pay(scene: Scene, one: Order) -> None:
    """At the gateway's page, with a card that is approved; the customer does not go back to the shop."""
    async with _client(scene) as client:
        form = filled((await client.get(one.url)).text, GOOD_CARD)
        sent = await client.post(urljoin(one.url, form.action), data=form.fields)
    if not sent.is_redirect:
        raise TollgateError(f"the drill's customer could not pay: {sent.status_code} {sent.text[:200]}")
    keep(scene, one)


async def deliver_again(scene: Scene, one: Order) -> int:
    """The gateway's webhook for `one`, signed as the gateway signs, to whatever serves now. The status it gets."""
    body = wire.webhook_text(one.link, one.reference, "SUCCESS").encode()
    scheme = SCHEMES[gateway(scene).scheme](_settings(scene.settings), _TOLERANCE_S)
    signed = scheme.sign(_WEBHOOK, body, at=datetime.now(UTC))
    async with _client(scene) as client:
        headers = {"content-type": "application/json", **signed.headers}
        answer = await client.post(await service(scene) + _WEBHOOK, content=signed.body, headers=headers)
    return answer.status_code


async def delivered(scene: Scene, one: Order) -> None:
    """Waits until the service has accepted the gateway's own webhook. Raises Amiss when it does not."""

    async def accepted() -> bool:
        tries = await control(scene).deliveries()
        return any((each["reference"], each["status"]) == (one.reference, 200) for each in tries)

    await eventually(f"the webhook of {one.reference} was accepted", accepted, within_s=SOON_S)


def active_once(scene: Scene, one: Order) -> None:
    """Raises Amiss unless the order is activated exactly once, in the service's own database."""
    with closing(sqlite3.connect(f"file:{_orders(scene)}?mode=ro", uri=True, timeout=20.0)) as shop:
        ((found,),) = shop.execute("SELECT count(*) FROM activations WHERE reference = ?", (one.reference,))
    if found != 1:
        raise Amiss(f"I1: {one.reference} was paid once and activated {found} times")


# ---- kept from one step of a drill to the next --------------------------------------------------------------


def keep(scene: Scene, one: Order) -> None:
    _kept(scene).write_text(json.dumps(asdict(one)), encoding="utf-8")


def kept(scene: Scene) -> Order:
    """The last order that was paid."""
    return Order(**json.loads(_kept(scene).read_text(encoding="utf-8")))


def _kept(scene: Scene) -> Path:
    return scene.folder / "order.json"


# ---- what it talks to ---------------------------------------------------------------------------------------


def gateway(scene: Scene) -> HostAddresses:
    running = host.status(scene.state)
    if running is None:
        raise TollgateError("the drill's sandbox gateway does not run")
    return running


def control(scene: Scene) -> Control:
    running = gateway(scene)
    return Control(running.control, running.token.reveal())


async def page(scene: Scene, address: str) -> int:
    """The status a visitor gets for the first page; 0 when nobody answers."""
    try:
        async with _client(scene) as client:
            return (await client.get(address + "/")).status_code
    except httpx.HTTPError:
        return 0


async def service(scene: Scene) -> str:
    """Where the service answers. Raises TollgateError when nobody tells."""
    address = await service_address(scene.area)
    if address is None:
        raise TollgateError("the drill's service does not run")
    return address


def _client(scene: Scene) -> httpx.AsyncClient:
    trusted = ssl.create_default_context(cafile=str(scene.state / "tls" / "ca.pem"))
    return httpx.AsyncClient(verify=trusted, trust_env=False, timeout=SOON_S)


def _orders(scene: Scene) -> Path:
    return scene.area / "shared/data/orders.sqlite"


def _settings(path: Path) -> Settings:
    texts: dict[str, Any] = dict(dotenv_values(path, interpolate=False))
    values = {name: SettingValue(name, Secret(text or ""), str(path)) for name, text in texts.items()}
    return Settings(values, (), (str(path),))
