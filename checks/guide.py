"""The deployment guide's whole checklist, line by line, and what answers for each line. `./inv checklist` prints it.

A line is answered by checks on record, by runs on record, by signatures of people, by duties that are not overdue, or
by something the engine always does, with the command that shows it. All that a line names must hold together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Line:
    """One line of the guide. `runs` are verbs whose last run must have ended well; `shown_by` is what the engine does
    by itself: a sentence with the command that shows it."""

    row: str
    text: str
    checks: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    sign_offs: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()
    shown_by: str = ""


TITLES: Mapping[str, str] = MappingProxyType(
    {
        "G1": "Credentials",
        "G2": "Variables",
        "G3": "Security",
        "G4": "Validator",
        "G5": "Configuration as it stands",
        "G6": "Build",
        "G7": "Deploy",
        "G8": "After the deploy",
        "G9": "First transactions",
        "G10": "Endpoints",
        "G11": "Webhooks",
        "G12": "Care of credentials",
        "G13": "Payments",
        "G14": "Attacks on webhooks",
        "G15": "Thresholds",
        "G16": "Recurring duties",
        "G17": "Troubleshooting",
        "G18": "Rollback",
        "G19": "Compliance",
        "G20": "Before going live",
        "G21": "After going live",
    }
)

LINES: tuple[Line, ...] = (
    Line(
        "G1",
        "The credentials are real, and of no other environment known here",
        checks=("credentials.not_placeholders", "credentials.differ_between_environments"),
    ),
    Line("G1", "They are kept where only the service's user reads them", checks=("settings.files_private",)),
    Line("G1", "The webhook address is configured", checks=("urls.callbacks_safe", "urls.callbacks_answer")),
    Line("G1", "The credentials were tried in staging", checks=("credentials.tried_in_staging",)),
    Line("G1", "The gateway accepts them here", checks=("credentials.accepted_by_gateway",)),
    Line("G2", "Every variable is set, of its type and in its range", checks=("settings.valid",)),
    Line(
        "G2",
        "Mode and names are those of this environment, test mode is off",
        checks=("settings.test_mode_off", "settings.names_fit_environment"),
    ),
    Line(
        "G3",
        "No credential stands in the code or in what visitors load",
        checks=(
            "leaks.none_in_source",
            "leaks.no_secret_patterns",
            "leaks.no_public_secrets",
            "leaks.none_in_bundle",
            "pages.no_source_maps",
        ),
    ),
    Line(
        "G3",
        "HTTPS is enforced wherever a payment passes",
        checks=("tls.certificate_valid", "tls.protocols_current", "tls.redirects_to_https"),
    ),
    Line(
        "G3", "Webhook signatures are validated", checks=("webhook.refuses_unsigned", "webhook.refuses_wrong_signature")
    ),
    Line(
        "G3",
        "A Content-Security-Policy is in force, and every script is known",
        checks=("pages.csp_strict", "pages.scripts_inventoried"),
    ),
    Line("G3", "Rate limits are in force", checks=("rate_limits.in_force",)),
    Line("G4", "The validator passes", runs=("validate",)),
    Line(
        "G5",
        "The configuration was checked as it stands",
        checks=("settings.valid",),
        shown_by="`./inv config-check` prints every setting with its source.",
    ),
    Line("G6", "The build holds no secret", checks=("leaks.none_in_bundle",)),
    Line("G6", "What is deployed is what was built", checks=("artifact.as_built",)),
    Line("G7", "The deploy ended with a release that is live and verified", runs=("deploy",)),
    Line("G7", "The server has room, and the release says it is ready", checks=("target.has_room", "health.ready")),
    Line(
        "G7",
        "HTTPS and security headers are in place",
        checks=("tls.certificate_lasts", "pages.headers_safe", "pages.cookies_safe"),
    ),
    Line("G7", "Monitoring and logging are in place", sign_offs=("monitoring-configured",)),
    Line("G8", "A payment session can be initialised", checks=("payment.initialises",)),
    Line("G8", "A small test payment went through", checks=("payment.is_paid",)),
    Line("G8", "Its webhook arrived", checks=("webhook.arrives",)),
    Line("G8", "Its enrolment was activated, once", checks=("enrolment.active_once",)),
    Line(
        "G9",
        "The first payments were watched, and all agree with the gateway",
        checks=("watch.payment_success", "payments.reconciled"),
    ),
    Line("G9", "Webhook signatures held in the first webhooks", checks=("watch.webhook_validation",)),
    Line("G9", "Response times were watched", checks=("watch.initialisation_time", "watch.webhook_time")),
    Line(
        "G10",
        "Payments go to the endpoint of this environment and to no other",
        checks=("endpoints.https_on_expected_host",),
    ),
    Line("G11", "Webhooks come over HTTPS to a safe address", checks=("urls.callbacks_safe",)),
    Line(
        "G11",
        "Only a right HMAC-SHA256 over the whole body is accepted",
        checks=("webhook.refuses_wrong_signature", "webhook.refuses_tampered"),
    ),
    Line(
        "G11",
        "A duplicate changes nothing",
        checks=("webhook.duplicate_is_harmless", "enrolment.active_once"),
    ),
    Line(
        "G11",
        "Webhooks are answered with the right status codes",
        checks=("webhook.refuses_unsigned", "webhook.duplicate_is_harmless", "urls.callbacks_answer"),
    ),
    Line("G11", "Forged, odd and repeated webhooks are taken as they should be", checks=("webhook.withstands_probes",)),
    Line(
        "G12",
        "No credential is, or ever was, in version control",
        checks=("leaks.none_in_source", "leaks.none_in_history"),
    ),
    Line(
        "G12",
        "Credentials are rotated every quarter",
        checks=("credentials.rotated",),
        duties=("rotate-credentials",),
    ),
    Line(
        "G12",
        "Exposure is watched for: published values, records and reports",
        checks=("credentials.not_placeholders", "leaks.none_in_records"),
    ),
    Line(
        "G13",
        "Amounts and references are validated",
        checks=("payment.refuses_wrong_amount", "enrolment.needs_payment"),
    ),
    Line("G13", "Errors are handled and tell a stranger nothing", checks=("pages.errors_tell_nothing",)),
    Line("G13", "Malformed payments make no order, whatever the gateway does", checks=("payment.withstands_probes",)),
    Line(
        "G13",
        "Security events are logged",
        sign_offs=("monitoring-configured",),
        shown_by="The schema is in docs/security-events.md; `./inv audit` verifies the record they are part of.",
    ),
    Line(
        "G14",
        "A signature is always asked for",
        checks=("webhook.refuses_unsigned", "webhook.refuses_wrong_signature", "webhook.refuses_tampered"),
    ),
    Line(
        "G14",
        "A replayed or invented webhook activates nothing",
        checks=("webhook.duplicate_is_harmless", "enrolment.needs_payment"),
    ),
    Line(
        "G14",
        "Suspicious activity is counted, foreign sources shut out where listed",
        checks=("watch.webhook_validation", "watch.suspicious_activity", "webhook.sources_enforced"),
    ),
    Line("G15", "Payments succeed, failures stay under 5%", checks=("watch.payment_success",)),
    Line("G15", "A payment is initialised within 5 s", checks=("watch.initialisation_time",)),
    Line("G15", "A webhook is processed within 2 s", checks=("watch.webhook_time",)),
    Line("G15", "Webhook validation failures stay under 1%", checks=("watch.webhook_validation",)),
    Line("G16", "Payment logs are reviewed every week", duties=("review-payment-logs",)),
    Line("G16", "Credentials are rotated every quarter", duties=("rotate-credentials",)),
    Line("G16", "Webhook endpoints are tested every month", duties=("test-webhooks",)),
    Line("G16", "The security configuration is reviewed every quarter", duties=("review-security-configuration",)),
    Line(
        "G17",
        "Every failure says what is wrong and how to mend it",
        shown_by="Every finding and every error carries its fix: `./inv report` shows those of the last run.",
    ),
    Line(
        "G18",
        "At once: maintenance mode, no new payments, users told",
        checks=("drill.recent",),
        shown_by="The doors are the first thing a way back closes: `./inv status` tells how they stand.",
    ),
    Line(
        "G18",
        "The previous working configuration comes back",
        checks=("rollback.rehearsed",),
        shown_by="`./inv rollback` restores release and settings together and confirms both.",
    ),
    Line(
        "G18",
        "Recovery is proven: payment flow, settings, transactions",
        checks=("drill.recent", "payments.reconciled"),
    ),
    Line("G19", "The PCI DSS questionnaire is done", sign_offs=("pci-dss",)),
    Line("G19", "Personal data is protected as the law asks", sign_offs=("data-protection",)),
    Line("G19", "The terms of service are published", sign_offs=("terms-of-service",)),
    Line("G19", "The privacy policy is published", sign_offs=("privacy-policy",)),
    Line("G20", "Variables are set and validated", checks=("settings.valid", "settings.names_fit_environment")),
    Line(
        "G20",
        "HTTPS works and will go on working",
        checks=("tls.certificate_valid", "tls.certificate_lasts", "clock.agrees"),
    ),
    Line(
        "G20",
        "Webhooks were tested end to end",
        checks=("webhook.arrives", "webhook.refuses_unsigned", "webhook.duplicate_is_harmless"),
    ),
    Line(
        "G20",
        "What goes live is committed, reviewed where asked, its parts audited",
        checks=("source.reviewed", "dependencies.audited"),
    ),
    Line("G20", "Monitoring and alerting are configured", sign_offs=("monitoring-configured",)),
    Line("G20", "A test notice was taken by everybody who is told how runs go", runs=("notify",)),
    Line("G20", "Support was told", sign_offs=("support-told",)),
    Line("G20", "The rollback plan was tested", checks=("rollback.rehearsed", "drill.recent")),
    Line("G20", "The documentation is current", sign_offs=("documentation-current",)),
    Line("G20", "Every sign-off and every duty holds", checks=("sign_offs.valid", "duties.current")),
    Line(
        "G21",
        "Success rate, errors and webhooks were watched for 24 hours",
        checks=("watch.payment_success", "watch.webhook_validation"),
        sign_offs=("first-day-watched",),
    ),
    Line("G21", "The rollout began with few users and was watched", sign_offs=("rollout-gradual",)),
    Line(
        "G21",
        "Procedures and lessons are written down",
        sign_offs=("lessons-written-down",),
        shown_by="Every run leaves its own report: `./inv report`.",
    ),
)
