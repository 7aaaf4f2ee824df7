"""Security events: each refused webhook and each refused payment leaves one line in the log and one count.

A middleware looks at every answer of the two paths, so nothing that refuses can forget to tell. A handler that knows
more than the answer says leaves a note on the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import logs, security_events
from .answers import source
from .config import WEBHOOK_PATH
from .metrics import Metrics

PAYMENTS_PATH = "/api/payments"
_WEBHOOKS = WEBHOOK_PATH.rpartition("/")[0] + "/"
_LIMITED = 429
_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Note:
    """What a handler knows. `kind` '' leaves it to the answer's status. `proven`: the reference is not just a claim."""

    kind: str = ""
    reason: str = ""
    reference: str = ""
    proven: bool = True


_NOTE = web.RequestKey("security.note", Note)


def note(request: web.Request, kind: str = "", *, reason: str = "", reference: str = "", proven: bool = True) -> None:
    """Leaves a note on the request; the last one counts. With a kind it is an event whatever the answer is."""
    request[_NOTE] = Note(kind, reason, reference, proven)


def claimed(body: bytes, member: str) -> str:
    """The text a JSON body has under `member`, '' for none. Total; it is a stranger's word and nothing more."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = said.get(member) if isinstance(said, dict) else None
    return found if isinstance(found, str) else ""


class Security:
    """Puts events on record. `secrets` never appear in one, whoever sends them."""

    def __init__(self, metrics: Metrics, now: Callable[[], datetime], secrets: Sequence[str]) -> None:
        self._metrics = metrics
        self._now = now
        self._secrets = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]

    def event(self, kind: str, who: str, reason: str, reference: str = "", *, proven: bool = True) -> None:
        """One line in the log, and one count unless it is proven to speak of a smoke payment."""
        told, name = self._without_secrets(reason), self._without_secrets(reference)
        members = security_events.members(at=self._now(), kind=kind, source=who, reason=told, reference=name)
        logs.warn("security", **members)
        self._metrics.security(reference if proven else "", kind)

    def middleware(self) -> Middleware:
        """Stands outside of everything that may refuse a request."""

        @web.middleware
        async def recorded(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                self._answered(request, error.status, f"{request.method}: {error.reason.lower()}")
                raise
            self._answered(request, response.status, _error_of(response))
            return response

        return recorded

    def _answered(self, request: web.Request, status: int, said: str) -> None:
        noted = request.get(_NOTE, Note())
        if kind := _kind(request.path, status, noted.kind):
            reason = _reason(request, status, noted.reason or said)
            self.event(kind, source(request), reason, noted.reference, proven=noted.proven)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


def _kind(path: str, status: int, noted: str) -> str:
    """The kind of event an answer is; '' for none."""
    webhook, payment = path.startswith(_WEBHOOKS), path.rstrip("/") == PAYMENTS_PATH
    if not (webhook or payment):
        return ""
    if status == _LIMITED:
        return "rate.limited"
    if noted or not 400 <= status < 500:
        return noted
    if payment:
        return "payment.refused"
    return "webhook.refused" if status in (401, 403) else "webhook.malformed"


def _reason(request: web.Request, status: int, said: str) -> str:
    if status == _LIMITED:
        return f"{request.method} {request.path}: over the limit"
    return said or f"{request.method} answered {status}"


def _error_of(response: web.StreamResponse) -> str:
    """What the shop itself answered, in its own words."""
    if response.status < 400 or not isinstance(response, web.Response):
        return ""
    return claimed(response.body if isinstance(response.body, bytes) else b"", "error")
