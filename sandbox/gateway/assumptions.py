"""What iKhokha does not document and the sandbox gateway had to decide: one value, every member configurable."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Outcome(StrEnum):
    """What a test card does."""

    APPROVED = "approved"
    DECLINED = "declined"


@dataclass(frozen=True)
class Card:
    number: str
    outcome: Outcome
    about: str


@dataclass(frozen=True)
class Refusal:
    """How the API says no: an HTTP status and the `responseCode` and `message` of the JSON body."""

    status: int
    code: str
    message: str


BAD_SIGNATURE = "bad signature"
MALFORMED = "malformed"
NOT_FOUND = "not found"
WRONG_METHOD = "wrong method"
TOO_LARGE = "too large"
WRONG_TYPE = "wrong type"
BUG = "bug"

_REFUSALS = {
    BAD_SIGNATURE: Refusal(401, "IK-001", "Token or Hash invalid"),
    MALFORMED: Refusal(400, "IK-400", "Malformed request"),
    NOT_FOUND: Refusal(404, "IK-404", "Not found"),
    WRONG_METHOD: Refusal(405, "IK-405", "Method not allowed"),
    TOO_LARGE: Refusal(413, "IK-413", "Request too large"),
    WRONG_TYPE: Refusal(415, "IK-415", "application/json is expected"),
    BUG: Refusal(500, "IK-500", "Internal error"),
}


@dataclass(frozen=True)
class Assumptions:
    """None of this is iKhokha's word. Durations are seconds, sizes bytes, amounts cents."""

    refusals: Mapping[str, Refusal] = field(default_factory=lambda: MappingProxyType(_REFUSALS))
    cards: tuple[Card, ...] = (
        Card("4242424242424242", Outcome.APPROVED, "approved"),
        Card("5555555555554444", Outcome.APPROVED, "approved"),
        Card("4000000000000002", Outcome.DECLINED, "declined by the bank"),
        Card("4000000000009995", Outcome.DECLINED, "insufficient funds"),
    )
    status_pending: str = "PENDING"
    status_failed: str = "FAILED"
    status_cancelled: str = "CANCELLED"
    status_test: str = "TEST"
    """What a test payment becomes once its card was approved: never the word for money. Its webhook says SUCCESS."""
    link_alphabet: str = string.ascii_lowercase + string.digits
    link_length: int = 15
    smallest_amount: int = 1
    largest_amount: int = 100_000_000
    longest_text: int = 255
    longest_url: int = 2048
    largest_body: int = 65_536
    currencies: tuple[str, ...] = ("ZAR",)
    modes: tuple[str, ...] = ("live", "test")
    webhook_retries_after_s: tuple[float, ...] = (1, 2, 4, 8, 15, 30, 60, 60, 60, 300, 900, 3600)
    """Pauses before each further attempt; after the last one the webhook is abandoned. Any 2xx ends it."""
    webhook_timeout_s: float = 10.0
    webhooks_at_once: int = 16
