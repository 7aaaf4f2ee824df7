"""What the API accepts: a body becomes an Order, or the list of what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sandbox.gateway.assumptions import Assumptions

_URL = re.compile(r"https://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*)?")
Judge = Callable[[Any, Assumptions], str]
"""Returns what is allowed, or '' when the value is."""


@dataclass(frozen=True)
class Order:
    """A valid request for a pay link. `amount` is cents, `cancel_url` may be '', `mode` is live or test."""

    reference: str
    amount: int
    description: str
    callback_url: str
    success_url: str
    failure_url: str
    cancel_url: str
    mode: str


class Malformed(Exception):
    """The body is no valid request; the text says which field and what is allowed."""


def parse(body: bytes, assumptions: Assumptions) -> Order:
    """Parses a canonical body. Raises Malformed, naming every wrong field."""
    data = json.loads(body) if body else None
    if not isinstance(data, dict):
        raise Malformed("a JSON object is expected")
    urls = data.get("urls")
    flat = {**data, **{f"urls.{k}": v for k, v in (urls if isinstance(urls, dict) else {}).items()}}
    mistakes = [
        f"{name}: {allowed}"
        for name, judge in _FIELDS.items()
        if (name in flat or name not in _OPTIONAL) and (allowed := judge(flat.get(name), assumptions))
    ]
    if mistakes:
        raise Malformed("; ".join(mistakes))
    return Order(
        reference=flat["externalTransactionID"],
        amount=flat["amount"],
        description=flat.get("description", ""),
        callback_url=flat["urls.callbackUrl"],
        success_url=flat["urls.successPageUrl"],
        failure_url=flat["urls.failurePageUrl"],
        cancel_url=flat.get("urls.cancelUrl", ""),
        mode=flat["mode"],
    )


def is_text(value: object, longest: int) -> bool:
    """Text that any other program can read too: no lone surrogates, no control characters."""
    return isinstance(value, str) and len(value) <= longest and not re.search("[\x00-\x1f\x7f\ud800-\udfff]", value)


def _amount(value: Any, assumptions: Assumptions) -> str:
    low, high = assumptions.smallest_amount, assumptions.largest_amount
    whole = isinstance(value, int) and not isinstance(value, bool)
    return "" if whole and low <= value <= high else f"whole cents from {low} to {high} are allowed"


def _required(value: Any, assumptions: Assumptions) -> str:
    good = is_text(value, assumptions.longest_text) and value.strip()
    return "" if good else f"a text of 1 to {assumptions.longest_text} characters is required"


def _optional(value: Any, assumptions: Assumptions) -> str:
    longest = assumptions.longest_text
    return "" if is_text(value, longest) else f"a text of up to {longest} characters is allowed"


def _url(value: Any, assumptions: Assumptions) -> str:
    if isinstance(value, str) and len(value) <= assumptions.longest_url and _URL.fullmatch(value):
        try:
            parts = urlsplit(value)
            if parts.hostname and (parts.port is None or parts.port):
                return ""
        except ValueError:
            pass
    return "an https URL is required"


def _one_of(name: str) -> Judge:
    def judge(value: Any, assumptions: Assumptions) -> str:
        allowed: tuple[str, ...] = getattr(assumptions, name)
        return "" if isinstance(value, str) and value in allowed else f"{' or '.join(allowed)} is required"

    return judge


_FIELDS: Mapping[str, Judge] = {
    "entityID": _required,
    "externalEntityID": _optional,
    "amount": _amount,
    "currency": _one_of("currencies"),
    "requesterUrl": _url,
    "mode": _one_of("modes"),
    "description": _optional,
    "paymentReference": _optional,
    "externalTransactionID": _required,
    "urls.callbackUrl": _url,
    "urls.successPageUrl": _url,
    "urls.failurePageUrl": _url,
    "urls.cancelUrl": _url,
}
_OPTIONAL = frozenset({"externalEntityID", "description", "paymentReference", "urls.cancelUrl"})
