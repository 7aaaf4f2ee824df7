"""Standard Webhooks as a scheme: a time stamp within a tolerance, any of several secrets, the path not signed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateways import standard_webhooks as standard
from pipeline.contracts import SchemeHeaders, SignedWebhook, Verified

_HEADERS = SchemeHeaders(signature=standard.HEADER_SIGNATURE, time=standard.HEADER_TIME)


@dataclass(frozen=True)
class StandardSigning:
    """Implements contracts.SigningScheme. `keys` as `standard_webhooks.keys` gives them; `tolerance_s` both ways.

    Without a key nothing is signed (ValueError, which says `why_no_key`) and nothing is accepted.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    tolerance_s: float = standard.TOLERANCE_S
    why_no_key: str = "there is no secret"

    @classmethod
    def of(cls, secrets: str, tolerance_s: float) -> StandardSigning:
        """`secrets` parted by white space. One that is no secret leaves the scheme without any key."""
        try:
            return cls(standard.keys(secrets), tolerance_s)
        except ValueError as error:
            return cls((), tolerance_s, str(error))

    @property
    def headers(self) -> SchemeHeaders:
        return _HEADERS

    def sign(self, path: str, body: bytes, *, at: datetime) -> SignedWebhook:
        """The ID is made from path and body: the same webhook sent again has the same ID and another time stamp."""
        if not self.keys:
            raise ValueError(self.why_no_key)
        digest = hashlib.sha256(path.partition("?")[0].encode("utf-8", "surrogatepass") + b"\0" + body)
        return SignedWebhook(
            body, standard.sign(self.keys, f"msg_{digest.hexdigest()[:32]}", int(at.timestamp()), body)
        )

    def verify(self, path: str, body: bytes, headers: Mapping[str, str], *, at: datetime) -> Verified:
        found = standard.verify(self.keys, body, headers, now=at.timestamp(), tolerance_s=self.tolerance_s)
        return Verified(found.accepted, found.reason, body if found.accepted else b"")

    def with_secret(self, secret: str) -> StandardSigning:
        return replace(self, keys=standard.keys(secret))
