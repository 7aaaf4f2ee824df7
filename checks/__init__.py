"""What must hold: gates, proofs and watches. A check that is not in the table does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from checks import (
    credentials_not_placeholders,
    endpoints_https_on_expected_host,
    enrolment_active_once,
    enrolment_needs_payment,
    health_ready,
    leaks_none_in_bundle,
    leaks_none_in_source,
    payment_initialises,
    payment_is_paid,
    payment_refuses_wrong_amount,
    payments_reconciled,
    rollback_rehearsed,
    settings_names_fit_environment,
    settings_test_mode_off,
    settings_valid,
    target_has_room,
    watch,
    webhook_arrives,
    webhook_duplicate_is_harmless,
    webhook_refusals,
)
from pipeline.contracts import Check

_ALL = (
    # gates: nothing has been changed yet
    settings_valid.CHECK,
    settings_test_mode_off.CHECK,
    settings_names_fit_environment.CHECK,
    credentials_not_placeholders.CHECK,
    endpoints_https_on_expected_host.CHECK,
    leaks_none_in_source.CHECK,
    leaks_none_in_bundle.CHECK,
    target_has_room.CHECK,
    rollback_rehearsed.CHECK,
    # proofs: the new release serves
    health_ready.CHECK,
    payment_initialises.CHECK,
    payment_is_paid.CHECK,
    webhook_arrives.CHECK,
    enrolment_active_once.CHECK,
    enrolment_needs_payment.CHECK,
    payment_refuses_wrong_amount.CHECK,
    webhook_refusals.UNSIGNED,
    webhook_refusals.WRONG_SIGNATURE,
    webhook_refusals.TAMPERED,
    webhook_duplicate_is_harmless.CHECK,
    # watches: customers pay
    watch.PAYMENT_SUCCESS,
    watch.INITIALISATION_TIME,
    watch.WEBHOOK_TIME,
    watch.WEBHOOK_VALIDATION,
    payments_reconciled.CHECK,
)

CHECKS: Mapping[str, Check] = MappingProxyType({check.name: check for check in _ALL})
