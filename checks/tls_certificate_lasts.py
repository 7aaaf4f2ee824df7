"""tls.certificate_lasts: the service's certificate is far from its end, so renewal has time to fail and be noticed."""

from __future__ import annotations

from datetime import timedelta

from checks.facts.certificates import Certificate
from checks.facts.tls import Asked, Endpoint, at_each, endpoint
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import Duration
from pipeline.verdict import Finding, advice, failed, inconclusive, passed

_DAY = 86400.0
_ADVISED = 1 / 3
_SHORT_LIVED = 1 / 6
"""Of a lifetime too short for the usual limit: one that is renewed at a third of its life never passed it."""


class Lasts(Asked):
    """What must be left: `at_least`; of a certificate that lives under three times that, a sixth of its life."""

    at_least: Duration = 14 * _DAY


@or_finding
async def gather(world: World, params: Lasts) -> Endpoint:
    return await endpoint(world, world.addresses.service, params)


@unless_finding
@at_each
def judge(asked: Endpoint, params: Lasts) -> Finding:
    if not asked.sent:
        return inconclusive(
            f"{asked.address}: it showed no certificate in TLS 1.2 or 1.3, so its end is unknown",
            "Switch TLS 1.2 and 1.3 on at the server, then run again.",
            **asked.shown,
        )
    leaf = asked.sent[0]
    first = min(asked.sent, key=lambda certificate: certificate.not_after - asked.at - limit(certificate, params))
    left, limited = first.not_after - asked.at, limit(first, params)
    measured = asked.shown | {"left_days": _days(leaf.not_after - asked.at), "lifetime_days": _days(leaf.lifetime)}
    if left < limited:
        ended = "has expired" if left < timedelta() else f"ends in {_long(left)}"
        return failed(
            f"{asked.address}: {first.subject} {ended}, at {_instant(first)}; at least {_long(limited)} are required",
            "Renew it now, install it, reload the server, and find out why renewal did not run by itself.",
            **measured,
        )
    left, advised = leaf.not_after - asked.at, leaf.lifetime * _ADVISED
    if left < advised:
        return advice(
            f"{asked.address}: {leaf.subject} ends in {_long(left)}, at {_instant(leaf)}; renewal is due when a third "
            f"of its {_long(leaf.lifetime)} is left ({_long(advised)})",
            "See that renewal runs by itself, and that the server was reloaded after it.",
            **measured,
        )
    return passed(f"{asked.address}: {leaf.subject} lasts {_long(left)} more, until {_instant(leaf)}", **measured)


def limit(certificate: Certificate, params: Lasts) -> timedelta:
    """What must at least be left of a certificate."""
    usual = timedelta(seconds=params.at_least)
    return usual if certificate.lifetime >= 3 * usual else min(usual, certificate.lifetime * _SHORT_LIVED)


def _instant(certificate: Certificate) -> str:
    return f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"


def _days(span: timedelta) -> float:
    return round(span.total_seconds() / _DAY, 1)


def _long(span: timedelta) -> str:
    """`13 days`, or `30 hours` for less than three days."""
    hours = int(span.total_seconds() // 3600)
    return f"{hours // 24} days" if hours >= 72 else f"{hours} hours"


CHECK = Check(
    name="tls.certificate_lasts",
    promise="The service's certificate and those sent with it are valid for at least another fortnight.",
    rows=("G3", "G20", "T7"),
    gather=gather,
    judge=judge,
    params=Lasts,
    network=True,
    why="A certificate that runs out stops every payment at one instant, and mostly at night or on a holiday.",
    pci=("4.2.1", "4.2.1.1"),
    looks_at=(
        "The last day of every certificate that is sent at any address of the service's host. Under "
        "`at_least` (14 days) fails; a third of "
        "the lifetime left is advice. Of certificates that live under three times `at_least` a sixth of their life "
        "must be left."
    ),
    fix="Renew the certificate, reload the server, and mend the job that renews it.",
    see_it_fail="Let the server present a certificate that ends in ten days, then run `./inv validate`.",
)
