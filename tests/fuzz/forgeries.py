"""Webhooks for orders that nobody paid: right ones changed in every way, with and without a signature that fits."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from gateways import ikhokha_wire as wire
from sandbox.shop.server.schemes import Delivery
from tests.sandbox.gateway_rig import APP_ID, CALLBACK, SECRET

_WORDS: tuple[Any, ...] = (
    *("SUCCESS", "FAILURE", "PAID", "success", "SUCCESS ", "SUCCE\u0405S", "SUCCESS\x00", ""),
    *(None, True, 1, ["SUCCESS"], {"status": "SUCCESS"}),
)
_MORE: tuple[tuple[str, Any], ...] = (
    *(("amount", 100), ("paid", True), ("text", "x"), ("status ", "SUCCESS"), ("Status", "PAID")),
    *(("7", 1), ("__proto__", {"paid": True}), ("activations", 1)),
)
_TARGETS = (CALLBACK, CALLBACK, CALLBACK + "/", CALLBACK + "?x=1", CALLBACK.upper(), "//" + CALLBACK, "/")


_WRONG: tuple[Callable[[str, str, int], str], ...] = (
    lambda right, _body, at: right[:at] + ("1" if right[at] == "0" else "0") + right[at + 1 :],
    lambda right, _body, at: right[:at] + "\u0660" + right[at + 1 :],
    lambda right, _body, at: right[:at],
    lambda right, _body, at: right + right[at:],
    lambda right, _body, _at: right.upper(),
    lambda right, _body, _at: base64.b64encode(bytes.fromhex(right)).decode(),
    lambda right, _body, _at: f"sha256={right}",
    lambda right, _body, _at: f"{right}, {right}",
    lambda _right, body, _at: wire.sign(SECRET, "", body),
    lambda _right, body, _at: wire.sign(SECRET, CALLBACK + "/", body),
    lambda _right, body, _at: wire.sign(SECRET[:-1], CALLBACK, body),
    lambda _right, body, at: wire.sign(SECRET, CALLBACK, body[:at]),
    lambda _right, _body, at: f"{at:064x}",
    lambda _right, _body, _at: "",
)
"""Signatures that are not the right one, from the right one, the body and a place in both."""


@dataclass(frozen=True)
class Order:
    """A payment as the gateway and the shop both know it."""

    reference: str
    link: str


@dataclass
class Forger:
    """Makes the deliveries. `unpaid` is what they are after; `paid` is what they borrow from."""

    random: Random
    unpaid: Sequence[Order]
    paid: Order
    at: float

    def next(self) -> Delivery:
        """One in six carries a signature that fits; what it says is untrue, or of someone else's order."""
        make: Callable[[Order], tuple[bytes, str]] = self.random.choice(
            (*[self._bytes_changed] * 3, *[self._signature_changed] * 2, self._signed)
        )
        body, signature = make(self.random.choice(self.unpaid))
        target = CALLBACK if self.random.random() < 0.8 else self.random.choice(_TARGETS)
        return Delivery(target, self._headers(signature), body, self.at)

    def _bytes_changed(self, order: Order) -> tuple[bytes, str]:
        right = wire.webhook_text(order.link, order.reference, self.random.choice((wire.SUCCESS, wire.FAILURE)))
        signed_for = self.random.choice((right, wire.webhook_text(self.paid.link, self.paid.reference, wire.SUCCESS)))
        body = bytearray(right.encode())
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(body) + 1)
            body[at : at + self.random.randint(0, 2)] = self.random.randbytes(self.random.randint(0, 2))
        if wire.canonical(bytes(body)) == right.encode():  # the same in other words, for which the signature is right
            body += b"}"
        return bytes(body), _signature(signed_for)

    def _signature_changed(self, order: Order) -> tuple[bytes, str]:
        body = wire.webhook_text(order.link, order.reference, wire.SUCCESS)
        right, at = _signature(body), self.random.randrange(64)
        return body.encode(), self.random.choice(_WRONG)(right, body, at)

    def _signed(self, order: Order) -> tuple[bytes, str]:
        """As if the secret were known: what must hold then is that the gateway is asked."""
        link, reference = order.link, order.reference
        if self.random.random() < 0.9:
            other = self.random.choice((self.paid, Order("", ""), *self.unpaid))
            link, reference = self.random.choice(
                (
                    (self.paid.link, reference),
                    (link, self.paid.reference),
                    (self.paid.link, self.paid.reference),
                    (link[::-1], reference),
                    (link, self._spelt(order)),
                    (other.link[::-1], other.reference),
                )
            )
        members: dict[str, Any] = {
            "paylinkID": link,
            "status": "SUCCESS" if self.random.random() < 0.5 else self.random.choice(_WORDS),
            "externalTransactionID": reference,
            "responseCode": "00",
        }
        parts = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members.items()]
        if self.random.random() < 0.4:
            parts.append(":".join(map(json.dumps, self.random.choice(_MORE))))
        if self.random.random() < 0.3:
            self.random.shuffle(parts)
        if self.random.random() < 0.2:
            parts.insert(0, f'"status":{json.dumps(self.random.choice(_WORDS))}')
        covered = [part for part in parts if not part.startswith('"text"')]
        body, text = (f"{{{self.random.choice((',', ', ')).join(some)}}}".encode() for some in (parts, covered))
        return body, _signature((wire.canonical(text) or text).decode())

    def _spelt(self, order: Order) -> str:
        return self.random.choice((order.reference.upper(), order.reference + " ", f"{order.reference}\u200b", "0"))

    def _headers(self, signature: str) -> CIMultiDictProxy[str]:
        headers = CIMultiDict({wire.HEADER_APP: APP_ID, wire.HEADER_SIGN: signature})
        match self.random.randrange(16):
            case 0:
                headers[wire.HEADER_APP] = "IKSOMEONEELSE"
            case 1:
                del headers[wire.HEADER_APP]
            case 2:
                headers.add(wire.HEADER_SIGN, "0" * 64)
            case 3:
                headers[f"X-{wire.HEADER_SIGN}"] = headers.pop(wire.HEADER_SIGN)
        return CIMultiDictProxy(headers)


@lru_cache(1000)
def _signature(text: str) -> str:
    return wire.sign(SECRET, CALLBACK, text)
