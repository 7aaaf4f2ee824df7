"""How webhooks are signed: the gateway's own way, or Standard Webhooks with a time stamp. One is in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from multidict import CIMultiDict, CIMultiDictProxy

from . import ikhokha_wire as wire
from . import standard_webhooks as standard
from .config import IKHOKHA, STANDARD_WEBHOOKS, WEBHOOK_PATH, Config


@dataclass(frozen=True)
class Delivery:
    """A webhook as it arrived. `target` is the request line's, with its query; `at` in seconds since the epoch."""

    target: str
    headers: CIMultiDictProxy[str]
    body: bytes
    at: float


@dataclass(frozen=True)
class Judged:
    """The text that was signed, or None and the reason. Whoever sent it is told no reason."""

    text: bytes | None
    reason: str


Verify = Callable[[Config, Delivery], Judged]


def verify(config: Config, delivery: Delivery) -> Judged:
    """Judges a webhook by the scheme in force. Total: any bytes and headers in, a judgement out."""
    return _VERIFY[config.webhook_scheme](config, delivery)


def working(config: Config, at: float) -> str:
    """`ok` when a webhook signed with our own secret would be accepted, else the reason."""
    body = wire.webhook_text("0" * 15, "self-test", wire.SUCCESS).encode()
    headers = CIMultiDictProxy(CIMultiDict(_SIGN[config.webhook_scheme](config, body, at)))
    found = verify(config, Delivery(WEBHOOK_PATH, headers, body, at))
    return found.reason if found.text is None else "ok"


def _verify_ikhokha(config: Config, delivery: Delivery) -> Judged:
    signatures, apps = delivery.headers.getall(wire.HEADER_SIGN, []), delivery.headers.getall(wire.HEADER_APP, [])
    if len(signatures) > 1 or len(apps) > 1:
        return Judged(None, "a signature header is given twice")
    if apps and apps[0].strip() != config.app_id:
        return Judged(None, "signed for another application")
    signature = signatures[0] if signatures else None
    found = wire.verify(config.webhook_secret, WEBHOOK_PATH, delivery.body, signature)
    return Judged(found.body if found.accepted else None, found.reason)


def _verify_standard(config: Config, delivery: Delivery) -> Judged:
    found = standard.verify(
        standard.keys(config.webhook_secret),
        delivery.body,
        delivery.headers.items(),
        now=delivery.at,
        tolerance_s=config.webhook_tolerance_s,
    )
    return Judged(delivery.body if found.accepted else None, found.reason)


def _sign_ikhokha(config: Config, body: bytes, _at: float) -> Mapping[str, str]:
    return {wire.HEADER_SIGN: wire.sign(config.webhook_secret, WEBHOOK_PATH, body.decode())}


def _sign_standard(config: Config, body: bytes, at: float) -> Mapping[str, str]:
    return standard.sign(standard.keys(config.webhook_secret), "self-test", int(at), body)


_VERIFY: Mapping[str, Verify] = MappingProxyType({IKHOKHA: _verify_ikhokha, STANDARD_WEBHOOKS: _verify_standard})
_SIGN: Mapping[str, Callable[[Config, bytes, float], Mapping[str, str]]] = MappingProxyType(
    {IKHOKHA: _sign_ikhokha, STANDARD_WEBHOOKS: _sign_standard}
)
