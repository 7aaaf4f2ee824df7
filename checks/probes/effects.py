"""Whether an order is afterwards as its probe must leave it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from checks.facts.payments import Standing
from checks.probes.probe import Effect, Probe, Shown, unmoved


def effect_broken(probe: Probe, shown: Shown) -> str:
    """What is wrong with the order afterwards, '' when it is as it must be or was not read."""
    if probe.effect is None or not was_read(probe.effect, shown) or shown.after is None:
        return ""
    if _HOLDS[probe.effect](shown.before, shown.after):
        return ""
    before = f"{shown.before} before, " if shown.before is not None else ""
    about = f" ({shown.reference})" if shown.reference else ""
    return f"the probe must leave {probe.effect.value}{about}; found: {before}{shown.after} afterwards"


def was_read(effect: Effect, shown: Shown) -> bool:
    """Whether enough of the order was read to judge this effect."""
    compares = effect in (Effect.UNCHANGED, Effect.FIRST_KEPT)
    return shown.after is not None and (shown.before is not None or not compares)


def _same(before: Standing | None, after: Standing) -> bool:
    return before is not None and unmoved(before, after)


_HOLDS: Mapping[Effect, Callable[[Standing | None, Standing], bool]] = {
    Effect.UNCHANGED: _same,
    Effect.FIRST_KEPT: _same,
    Effect.NOT_PAID: lambda _, after: after.status != "paid" and not after.enrolled,
    Effect.NOT_FAILED: lambda _, after: after.status not in ("failed", "paid") and not after.enrolled,
    Effect.PAID_ONCE: lambda _, after: after == Standing("paid", True, 1),
    Effect.NO_ORDER: lambda _, after: after.status in ("", "failed", "creating", "unknown") and not after.enrolled,
}
