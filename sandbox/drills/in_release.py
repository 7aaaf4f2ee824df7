"""Faults that are built into a release: each is a row of the shop's own table of faults."""

from __future__ import annotations

from pipeline.errors import Exit
from sandbox.drills.fault import in_release

FAULTS = (
    in_release(
        "secret-in-bundle",
        "The script every visitor downloads contains the gateway's API secret.",
        "leaks.none_in_bundle",
        exit_code=Exit.REFUSED,
    ),
    in_release(
        "accepts-unsigned-webhook",
        "A webhook is accepted whatever its signature says.",
        "webhook.refuses_unsigned",
        "webhook.refuses_wrong_signature",
        "webhook.refuses_tampered",
    ),
    in_release(
        "webhook-not-idempotent",
        "Each delivery of a paid webhook activates the enrolment once more.",
        "webhook.duplicate_is_harmless",
        "enrolment.active_once",
    ),
    in_release(
        "webhook-500",
        "Every webhook is answered with 500 and has no effect.",
        "webhook.arrives",
        "webhook.duplicate_is_harmless",
        "webhook.refuses_unsigned",
        "webhook.refuses_wrong_signature",
        "webhook.refuses_tampered",
        "enrolment.active_once",
        "enrolment.needs_payment",
        "urls.callbacks_answer",
    ),
    in_release(
        "activates-without-payment",
        "A webhook that says SUCCESS activates the enrolment, and the gateway is not asked.",
        "enrolment.needs_payment",
        "webhook.refuses_unsigned",
        "webhook.refuses_wrong_signature",
        "webhook.refuses_tampered",
    ),
    in_release(
        "ignores-amount",
        "Any amount is accepted for a course, and what was paid is never compared.",
        "payment.refuses_wrong_amount",
    ),
    in_release(
        "slow-initialisation",
        "Each payment takes six seconds longer to initialise.",
        "payment.initialises",
    ),
    in_release(
        "error-rate-30",
        "Three in ten ordinary payments fail with 500; smoke payments do not.",
        "watch.payment_success",
    ),
    in_release("never-ready", "The release starts and never says that it is ready.", "release.switch"),
    in_release("crash-on-start", "The release ends with an error while it starts.", "release.switch"),
)
