"""What an operator is reminded of when the gates have passed."""

from __future__ import annotations

_DUTIES = (
    "Review the payment logs every week.",
    "Test the webhook endpoint every month: ./inv verify.",
    "Rotate the credentials every quarter, and review the security configuration then.",
)
_PRODUCTION = (
    "Rehearse the way back before you deploy: ./inv drill --all.",
    "Watch success rate, error log and webhooks for 24 hours after going live.",
)


def recommendations(environment: str) -> tuple[str, ...]:
    """Rows G16 and G21 as sentences, the nearest duty first."""
    return (*_PRODUCTION, *_DUTIES) if environment == "production" else _DUTIES
