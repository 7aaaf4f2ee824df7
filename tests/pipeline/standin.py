"""A stand-in for the tables of the rooms: the names that example.yaml uses, with models of a few."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from hypothesis import HealthCheck, settings
from pydantic import Field

from pipeline.contracts import When
from pipeline.loader import Names
from pipeline.spec import Duration, Frozen, NoParams

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).with_name("example.yaml")

FUZZ = settings(
    max_examples=300,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""The same examples on every run, and nothing left on disk."""


class Payment(Frozen):
    """How a smoke payment is made."""

    mode: Literal["initialise", "operator", "card"]
    cap: Annotated[int, Field(ge=1)]
    within: Duration = 10.0


_PAYING = {"payment.initialises", "payment.is_paid", "webhook.arrives", "enrolment.active_once"}
_LIVE = _PAYING | {
    "health.ready",
    "enrolment.needs_payment",
    "payment.refuses_wrong_amount",
    "webhook.refuses_unsigned",
    "webhook.refuses_wrong_signature",
    "webhook.refuses_tampered",
    "webhook.duplicate_is_harmless",
    "watch.payment_success",
    "watch.initialisation_time",
    "watch.webhook_time",
    "watch.webhook_validation",
    "payments.reconciled",
}
_ANY = {
    "settings.valid",
    "settings.test_mode_off",
    "settings.names_fit_environment",
    "credentials.not_placeholders",
    "endpoints.https_on_expected_host",
    "leaks.none_in_source",
    "target.has_room",
    "rollback.rehearsed",
}
_CHECKS = sorted(_LIVE | _ANY | {"leaks.none_in_bundle"})

NAMES = Names(
    checks={name: Payment if name in _PAYING else NoParams for name in _CHECKS},
    check_when={
        name: When.LIVE if name in _LIVE else When.BUILT if name == "leaks.none_in_bundle" else When.ANY
        for name in _CHECKS
    },
    acts={"release.stage": NoParams, "release.switch": NoParams},
    checkpoints=frozenset({"release", "settings", "maintenance", "payments"}),
    gateways=frozenset({"ikhokha"}),
    unacceptable=frozenset({"leaks.none_in_source", "leaks.none_in_bundle", "webhook.refuses_unsigned"}),
)
