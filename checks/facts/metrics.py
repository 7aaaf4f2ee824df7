"""The watch: the service's own counters, read once a second for as long as the run watches.

Gathered once for all watch checks. What the readings come to is computed by pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.contracts import SwitchName, SwitchOn, World
from pipeline.errors import ServiceUnreachable, TollgateError
from pipeline.spec import Thresholds

PAYMENTS = "payments_total"
WEBHOOKS = "webhooks_total"
INITIALISATION = "payment_initialisation_seconds"
WEBHOOK_TIME = "webhook_processing_seconds"
SECURITY = "security_events_total"
OUTCOMES = ("success", "failure", "error")

EVERY_S = 1.0
_SCRAPE_LIMIT_S = 5.0

_WATCHED = frozenset(
    {
        PAYMENTS,
        WEBHOOKS,
        SECURITY,
        *(f"{name}_{part}" for name in (INITIALISATION, WEBHOOK_TIME) for part in ("bucket", "count")),
    }
)

Series = tuple[str, str]
"""A metric's name and the value of its one label that matters (`outcome`, `result`, `le` or `kind`; '' for none)."""
Samples = Mapping[Series, float]


@dataclass(frozen=True)
class Scrape:
    """One reading, `t_s` seconds after the watch began. `flaw` says why there are no samples."""

    t_s: float
    samples: Samples
    flaw: str = ""


@dataclass(frozen=True)
class Watch:
    """What was read. `doors`: those that stood closed at its end, in `environment`."""

    scrapes: tuple[Scrape, ...]
    path: str
    at_least: int
    thresholds: Thresholds
    environment: str = ""
    doors: Mapping[SwitchName, SwitchOn] = field(default_factory=dict)

    @property
    def read(self) -> tuple[Scrape, ...]:
        return tuple(scrape for scrape in self.scrapes if not scrape.flaw)

    @property
    def seconds(self) -> float:
        """From the first reading to the last."""
        return round(self.read[-1].t_s - self.read[0].t_s, 1) if self.read else 0.0


async def watch(world: World) -> Watch:
    return await world.facts.once("watch", lambda: _watch(world))


async def _watch(world: World) -> Watch:
    path, begun = world.spec.contract.metrics, world.clock.monotonic()
    end = begun + world.run.watch_for
    scrapes = []
    while True:
        t_s = world.clock.monotonic() - begun
        scrapes.append(await _scrape(world, path, round(t_s, 2)))
        now = world.clock.monotonic()
        if now >= end:
            least, doors = world.environment.watch_at_least, await _doors(world)
            return Watch(tuple(scrapes), path, least, world.spec.thresholds, world.environment_name, doors)
        await world.clock.sleep(max(0.0, min(begun + len(scrapes) * EVERY_S, end) - now))


async def _doors(world: World) -> Mapping[SwitchName, SwitchOn]:
    """The doors that are closed now; none where that cannot be read: they only explain what was counted."""
    try:
        found = {name: await world.target.switches.read(name) for name in SwitchName}
    except TollgateError:
        return {}
    return {name: value for name, value in found.items() if value is not None}


async def _scrape(world: World, path: str, t_s: float) -> Scrape:
    try:
        answer = await world.service.request("GET", path, timeout=_SCRAPE_LIMIT_S)
    except ServiceUnreachable as error:
        return Scrape(t_s, {}, str(error))
    if answer.status != 200:
        return Scrape(t_s, {}, f"GET {path}: answered {answer.status}")
    try:
        return Scrape(t_s, parse(answer.body.decode()))
    except ValueError as error:
        return Scrape(t_s, {}, f"GET {path}: not the Prometheus text format ({error})")


def parse(text: str) -> Samples:
    """The watched samples of a page of metrics, summed over other labels. Raises ValueError when it is none."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[Series, float] = {}
    for family in text_string_to_metric_families(text):
        if SECURITY in (family.name, f"{family.name}_total"):
            samples.setdefault((SECURITY, ""), 0.0)  # while nothing has happened such a counter has no sample
        for sample in family.samples:
            if sample.name not in _WATCHED:
                continue
            if not math.isfinite(sample.value) or sample.value < 0:
                raise ValueError(f"{sample.name} is {sample.value}")
            names = ("kind",) if sample.name == SECURITY else ("outcome", "result", "le")
            label = next((sample.labels[name] for name in names if name in sample.labels), "")
            samples[sample.name, label] = samples.get((sample.name, label), 0.0) + sample.value
    return samples


def grown(scrapes: Sequence[Scrape]) -> Samples:
    """How much every counter grew from the first reading to the last. A counter that fell began again at 0."""
    *_, last = ({}, *_growth(scrapes))
    return last


def series(scrapes: Sequence[Scrape]) -> list[dict[str, float]]:
    """For the report's chart: payments by outcome since the watch began, at each reading."""
    return [
        {"t_s": scrape.t_s, **{outcome: int(total.get((PAYMENTS, outcome), 0)) for outcome in OUTCOMES}}
        for scrape, total in zip(scrapes, _growth(scrapes), strict=True)
    ]


def _growth(scrapes: Sequence[Scrape]) -> Iterator[Samples]:
    total: dict[Series, float] = {}
    before = scrapes[0].samples if scrapes else {}
    for scrape in scrapes:
        restarted = any(value < before.get(key, 0.0) for key, value in scrape.samples.items())
        for key, value in scrape.samples.items():
            total[key] = total.get(key, 0.0) + value - (0.0 if restarted else before.get(key, 0.0))
        before = scrape.samples
        yield dict(total)


@dataclass(frozen=True)
class Times:
    """How many observations a histogram saw, and how many of them were over a limit: between two bounds,
    for a histogram only knows its buckets. The bounds are equal when the limit is one of them."""

    count: int
    over_at_least: int
    over_at_most: int


def times(growth: Samples, name: str, limit_s: float) -> Times:
    buckets = sorted((float(le), n) for (metric, le), n in growth.items() if metric == f"{name}_bucket" and le)
    count = growth.get((f"{name}_count", ""), buckets[-1][1] if buckets else 0.0)
    under_at_least = max((n for le, n in buckets if le <= limit_s), default=0.0)
    under_at_most = min((n for le, n in buckets if le >= limit_s), default=count)
    return Times(int(count), int(count - under_at_most), int(count - under_at_least))


def results(growth: Samples) -> Mapping[str, int]:
    """Webhooks by result."""
    return {label: int(n) for (metric, label), n in sorted(growth.items()) if metric == WEBHOOKS}


def counts_security(scrapes: Sequence[Scrape]) -> bool:
    """Whether the service counts security events at all: the last reading says so."""
    return bool(scrapes) and any(metric == SECURITY for metric, _ in scrapes[-1].samples)


def security_events(growth: Samples) -> Mapping[str, int]:
    """Security events by kind, '' where the service tells none; only what happened."""
    return {label: int(n) for (metric, label), n in sorted(growth.items()) if metric == SECURITY and n}
