"""The table of webhook probes, by theme."""

from __future__ import annotations

from checks.probes import (
    webhooks_bodies,
    webhooks_later,
    webhooks_meaning,
    webhooks_signatures,
    webhooks_sources,
    webhooks_stamps,
    webhooks_transport,
)
from checks.probes.probe import Probe

WEBHOOK_PROBES: tuple[Probe, ...] = (
    *webhooks_signatures.ROWS,
    *webhooks_bodies.ROWS,
    *webhooks_transport.ROWS,
    *webhooks_meaning.ROWS,
    *webhooks_stamps.ROWS,
    *webhooks_sources.ROWS,
    *webhooks_later.ROWS,
)
