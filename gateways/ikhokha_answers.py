"""What the iKhokha API answered, judged: a link, a payment, or the error that says why it is neither."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from gateways import ikhokha_wire as wire
from pipeline.contracts import Cents, GatewayPayment, PayLink
from pipeline.errors import CredentialsRefused, GatewayGarbled, GatewayRefused

API_URL = "VITE_IKHOKHA_API_URL"
API_KEY = "VITE_IKHOKHA_API_KEY"
API_SECRET = "VITE_IKHOKHA_API_SECRET"

LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SEE_SETTINGS = f"Check {API_URL}, the network and the gateway's own status page, then run again."
_LONGEST_URL = 2000
_ACCOUNT_REFUSED = frozenset({401, 403})


@dataclass(frozen=True)
class Answer:
    """`asked` is method and address, for messages; `body` is bounded and decompressed; `retry_after_s`: as it says."""

    asked: str
    status: int
    body: bytes
    retry_after_s: float | None = None


def accepted(answer: Answer, *, code_required: bool = False) -> Any:
    """The answer's JSON, if it is a success. A refusal of any shape raises GatewayRefused."""
    if answer.status >= 400:
        raise refused(answer, as_object(answer.body) or {})
    if answer.status not in (200, 201):
        raise garbled(answer, "200 is expected")
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise garbled(answer, f"JSON is expected, found {answer.body[:60]!r}") from None
    if isinstance(value, dict) and value.get("responseCode", None if code_required else wire.OK) != wire.OK:
        raise refused(answer, value)
    return value


def link(answer: Answer, reference: str) -> PayLink:
    """The link of an answered creation. Raises GatewayRefused or GatewayGarbled where it made none."""
    value = accepted(answer, code_required=True)
    if not isinstance(value, dict):
        raise garbled(answer, "a JSON object is expected")
    link_id, url = value.get("paylinkID"), value.get("paylinkUrl")
    if not isinstance(link_id, str) or not LINK_ID.fullmatch(link_id):
        raise garbled(answer, "`paylinkID` is missing or malformed")
    if not isinstance(url, str) or not _leads_to(url, link_id):
        raise garbled(answer, "`paylinkUrl` is not an https link that ends in the paylinkID")
    if value.get("externalTransactionID", reference) != reference:
        raise garbled(answer, "`externalTransactionID` is another one than was sent")
    return PayLink(link_id, url)


def payment(answer: Answer, value: Any) -> GatewayPayment:
    """One payment of a status or history answer. A status answer names no reference: '' then.

    Assumption: a gateway that marks its test payments does so with `mode`; one so marked is never paid.
    """
    if not isinstance(value, dict):
        raise garbled(answer, "a payment is a JSON object")
    texts = {name: value.get(name) for name in ("paylinkID", "status", "createdAt")}
    missing = [name for name, text in texts.items() if not isinstance(text, str) or not text]
    amount = value.get("amount")
    if not isinstance(amount, int) or isinstance(amount, bool):
        missing.append("amount")
    reference = value.get("externalTransactionID", "")
    if not isinstance(reference, str):
        missing.append("externalTransactionID")
    if missing:
        raise garbled(answer, f"of a payment, missing or malformed: {', '.join(missing)}")
    return GatewayPayment(
        link_id=str(texts["paylinkID"]),
        reference=str(reference),
        amount=Cents(int(amount or 0)),
        status=str(texts["status"]),
        paid=texts["status"] == wire.PAID and value.get("mode") != "test",
        created=str(texts["createdAt"]),
    )


def instant(answer: Answer, text: str) -> datetime:
    """Assumption: an instant without offset is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise garbled(answer, f"`createdAt` {text[:40]!r} is not an ISO 8601 instant") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def as_object(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object in `body`, None where there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_refusal(answer: Answer) -> bool:
    """True where the gateway itself said no; an error page of what stands before it, or of its crash, is no word."""
    value = as_object(answer.body)
    return answer.status >= 400 and value is not None and isinstance(value.get("responseCode"), str)


def refused(answer: Answer, value: Mapping[str, Any]) -> GatewayRefused:
    """The refusal in an answer: CredentialsRefused where it is about the account or its signature."""
    code, message = _shown(value.get("responseCode", ""), 20), str(value.get("message", ""))[:200]
    said = f"HTTP {answer.status}, responseCode {code or 'none'}" + (f", {message!r}" if message else "")
    about_account = code == wire.BAD_SIGNATURE or answer.status in _ACCOUNT_REFUSED
    if about_account:
        remedy = f"Check {API_KEY} and {API_SECRET}: they must be the Application ID and Secret of one account."
    elif answer.status == 404:
        remedy = f"Check that {API_URL} is the gateway that made this payment."
    elif answer.status == 429:
        remedy = "The gateway limits its callers: wait some minutes, then run again."
    else:
        remedy = "Compare the request with the gateway's documentation; its answer names what it did not accept."
    kind = CredentialsRefused if about_account else GatewayRefused
    error = kind(f"{answer.asked}: refused ({said})", remedy, status=answer.status, code=code)
    error.retry_after_s = answer.retry_after_s
    return error


def garbled(answer: Answer, what: str) -> GatewayGarbled:
    return GatewayGarbled(
        f"{answer.asked}: answered HTTP {answer.status} with something that is not the protocol: {what}", SEE_SETTINGS
    )


def _shown(value: object, longest: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in str(value)[:longest])


def _leads_to(url: str, link_id: str) -> bool:
    """Whether a person can be sent there: nothing in it hides, forges or breaks what a terminal shows."""
    if len(url) > _LONGEST_URL or not url.isprintable() or not url.isascii() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        return parts.scheme == "https" and named and parts.path.rsplit("/", 1)[-1] == link_id
    except ValueError:
        return False
