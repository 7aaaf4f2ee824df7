"""A webhook that is correctly signed and changes nothing: it speaks of a payment that nobody made."""

from __future__ import annotations

from pipeline.contracts import SecurityEvent, SignedWebhook, World


def harmless_webhook(world: World, sender: str = "") -> SignedWebhook:
    """What the gateway would send about a failed attempt at such a payment; its reference is a smoke one.

    `sender` is the check on whose behalf it is put on record, for services count it as unknown; '' for none.
    """
    reference = f"{world.spec.contract.smoke_prefix}{world.random.getrandbits(64):016x}"
    link = f"{world.random.getrandbits(48):015d}"
    if sender:
        said = "a correctly signed webhook for a payment that nobody made"
        world.security(SecurityEvent(world.clock.now(), "probe.sent", sender, said, reference))
    return world.gateway.webhook(world.spec.contract.webhook, link, reference, "FAILURE")
