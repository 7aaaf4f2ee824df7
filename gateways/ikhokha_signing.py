"""iKhokha's own way of signing webhooks, as a scheme: one secret, an application ID, no time stamp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateways import ikhokha_wire as wire
from pipeline.contracts import SchemeHeaders, SignedWebhook, Verified

_HEADERS = SchemeHeaders(signature=wire.HEADER_SIGN.lower(), sender=wire.HEADER_APP.lower())


@dataclass(frozen=True)
class IKhokhaSigning:
    """Implements contracts.SigningScheme. `app_id` and `secret` are the account's, already stripped."""

    app_id: str
    secret: str = field(repr=False)

    @property
    def headers(self) -> SchemeHeaders:
        return _HEADERS

    def sign(self, path: str, body: bytes, *, at: datetime) -> SignedWebhook:
        """Signs the bytes as they are; a receiver verifies their canonical form. Raises ValueError without a secret."""
        signature = wire.sign(self.secret, path.partition("?")[0], body)
        return SignedWebhook(body, {_HEADERS.sender: self.app_id, _HEADERS.signature: signature})

    def verify(self, path: str, body: bytes, headers: Mapping[str, str], *, at: datetime) -> Verified:
        given: dict[str, str] = {}
        for name, value in headers.items():
            lower = name.lower()
            if lower in given and lower in (_HEADERS.signature, _HEADERS.sender):
                return Verified(False, f"{lower} is there twice")
            given[lower] = value
        # The signature does not cover the sender: without the header nothing was claimed that could be wrong.
        if given.get(_HEADERS.sender, self.app_id).strip() != self.app_id:
            return Verified(False, "signed for another application")
        found = wire.verify(self.secret, path, body, given.get(_HEADERS.signature))
        return Verified(found.accepted, found.reason, found.body)

    def with_secret(self, secret: str) -> IKhokhaSigning:
        if not secret.strip():
            raise ValueError("an empty secret signs nothing")
        return replace(self, secret=secret.strip())
