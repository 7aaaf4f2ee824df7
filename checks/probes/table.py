"""Every probe by its name. What is not here is not sent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from checks.probes.payments import PAYMENT_PROBES
from checks.probes.probe import Probe
from checks.probes.webhooks import WEBHOOK_PROBES

PROBES: Mapping[str, Probe] = MappingProxyType({probe.name: probe for probe in (*WEBHOOK_PROBES, *PAYMENT_PROBES)})
