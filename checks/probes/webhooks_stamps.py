"""Time stamps, for schemes that have one: too old, ahead, missing, no number."""

from __future__ import annotations

from datetime import timedelta

from checks.probes.forging import Right, Sent, forged
from checks.probes.probe import Need, Probe, Severity

_BEYOND_S = 60.0
_ODD = ("soon", "", "1e9", "١٧٠٠٠٠٠٠٠٠", "0x60000000", "9" * 400, "-1")
_TOLERANCE = (
    "Refuse a time stamp further from now than the tolerance, in either direction, after the signature is verified."
)
_NUMBER = "Read the time stamp as plain ASCII digits of bounded length, and answer 401 to anything else."


def _moved(right: Right, how: str, seconds: float) -> list[Sent]:
    world = right.scene.world
    at = world.clock.now() + timedelta(seconds=seconds)
    return [right.signed_by(how, world.gateway.scheme.sign(right.path, right.success.body, at=at))]


def _stale(right: Right) -> list[Sent]:
    beyond = right.scene.world.spec.contract.webhook_tolerance + _BEYOND_S
    return _moved(right, f"signed {beyond:g} s ago", -beyond)


def _future(right: Right) -> list[Sent]:
    beyond = right.scene.world.spec.contract.webhook_tolerance + _BEYOND_S
    return _moved(right, f"signed {beyond:g} s from now", beyond)


def _missing(right: Right) -> list[Sent]:
    name = right.scene.world.gateway.scheme.headers.time
    headers = {n: v for n, v in right.success.headers.items() if n != name}
    return [Sent("without its time stamp", right.success.body, headers)]


def _no_number(right: Right) -> list[Sent]:
    name = right.scene.world.gateway.scheme.headers.time
    headers = right.success.headers
    return [Sent(f"with the time stamp {value[:20]!r}", right.success.body, {**headers, name: value}) for value in _ODD]


_STAMP = frozenset({Need.STAMP})
ROWS: tuple[Probe, ...] = (
    forged(
        "webhook.stamp-stale",
        "SUCCESS with a time stamp older than the tolerance, signed rightly",
        _stale,
        fix=_TOLERANCE,
        severity=Severity.HIGH,
        needs=_STAMP,
    ),
    forged(
        "webhook.stamp-future",
        "SUCCESS with a time stamp further ahead than the tolerance, signed rightly",
        _future,
        fix=_TOLERANCE,
        severity=Severity.HIGH,
        needs=_STAMP,
    ),
    forged(
        "webhook.stamp-missing",
        "SUCCESS without its time stamp",
        _missing,
        fix=_TOLERANCE,
        severity=Severity.HIGH,
        needs=_STAMP,
    ),
    forged(
        "webhook.stamp-not-a-number",
        "SUCCESS with time stamps that are no number",
        _no_number,
        fix=_NUMBER,
        severity=Severity.MEDIUM,
        needs=_STAMP,
    ),
)
