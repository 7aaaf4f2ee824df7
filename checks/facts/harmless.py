"""A webhook that is correctly signed and changes nothing: it speaks of a payment that nobody made."""

from __future__ import annotations

from pipeline.contracts import SignedWebhook, World


def harmless_webhook(world: World) -> SignedWebhook:
    """What the gateway would send about a failed attempt at such a payment; its reference is a smoke one."""
    reference = f"{world.spec.contract.smoke_prefix}{world.random.getrandbits(64):016x}"
    link = f"{world.random.getrandbits(48):015d}"
    return world.gateway.webhook(world.spec.contract.webhook, link, reference, "FAILURE")
