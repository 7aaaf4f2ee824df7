"""What the shop counts. Smoke payments are left out, so that the figures are those of customers."""

from __future__ import annotations

from collections.abc import Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from .config import SMOKE_PREFIX
from .security_events import KINDS

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

OUTCOMES = ("success", "failure", "error")
WEBHOOK_RESULTS: Mapping[str, str] = {
    "accepted": "a paid payment was activated",
    "duplicate": "the payment was activated before",
    "failed": "the gateway said that an attempt failed",
    "denied": "the gateway does not confirm what the webhook says",
    "unknown": "no order has this reference and paylink",
    "test": "the payment was made in test mode: nothing is activated",
    "deferred": "the gateway could not be asked; it is asked again",
    "refused": "the signature is not the gateway's",
    "malformed": "signed, and not a webhook",
}
# Fine around the lines that are watched: 2 s for webhooks, 5 s for initialisation.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 1.8, 2, 2.2, 2.5, 3, 4, 4.5, 5, 5.5, 6, 7.5, 10, 20, 45)


def is_smoke(reference: str) -> bool:
    return reference.startswith(SMOKE_PREFIX)


class Metrics:
    """Every series exists from the start, with value 0."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._payments = Counter(
            "payments", "Payment intents by their one outcome.", ["outcome"], registry=self._registry
        )
        self._webhooks = Counter("webhooks", "Webhooks by what came of them.", ["result"], registry=self._registry)
        self._security = Counter("security_events", "Security events by kind.", ["kind"], registry=self._registry)
        self._activated = Counter("enrolments_activated", "Enrolments activated.", registry=self._registry)
        self._initialisation = Histogram(
            "payment_initialisation_seconds",
            "From a valid request for a payment to the gateway's answer.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._processing = Histogram(
            "webhook_processing_seconds",
            "From a webhook's arrival to its answer.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        for outcome in OUTCOMES:
            self._payments.labels(outcome)
        for result in WEBHOOK_RESULTS:
            self._webhooks.labels(result)
        for kind in KINDS:
            self._security.labels(kind)

    def payment(self, reference: str, outcome: str) -> None:
        if not is_smoke(reference):
            self._payments.labels(outcome).inc()

    def initialised(self, reference: str, took_s: float) -> None:
        if not is_smoke(reference):
            self._initialisation.observe(took_s)

    def activated(self, reference: str) -> None:
        if not is_smoke(reference):
            self._activated.inc()

    def webhook(self, reference: str, result: str, took_s: float) -> None:
        """`reference` is '' where the body cannot be believed: such a webhook always counts."""
        if not is_smoke(reference):
            self._webhooks.labels(result).inc()
            self._processing.observe(took_s)

    def security(self, reference: str, kind: str) -> None:
        """`reference` is '' where the sender proves none: such an event always counts."""
        if not is_smoke(reference):
            self._security.labels(kind).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
