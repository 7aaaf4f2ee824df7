"""The table of the payment probes."""

from __future__ import annotations

from checks.probes.payments_gateway import DISTURBED
from checks.probes.payments_limit import RATE_LIMIT
from checks.probes.payments_members import AMOUNTS, BODIES, COURSES, REFERENCE_MISSING
from checks.probes.payments_references import ADDRESSES, ODD, USED
from checks.probes.probe import Probe

PAYMENT_PROBES: tuple[Probe, ...] = (
    *AMOUNTS,
    *COURSES,
    REFERENCE_MISSING,
    *USED,
    *ODD,
    *ADDRESSES,
    *BODIES,
    RATE_LIMIT,
    *DISTURBED,
)
