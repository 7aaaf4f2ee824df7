"""The geometry of the report's drawings: from numbers to numbers, so that templates only place them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pipeline.story import RunReport, StageLine, StepLine, Watch
from pipeline.words import share

TIMELINE_WIDTH = 1000
"""Units across a timeline bar; the page stretches them to the width of its column."""
_SLIVER = 4.0
"""A step that took next to nothing is still drawn."""


@dataclass(frozen=True)
class Bar:
    x: float
    width: float


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


def timeline_span(report: RunReport) -> float:
    """Seconds that a timeline covers; at least a little, so that nothing is divided by nothing."""
    parts: list[StageLine | StepLine] = [*report.stages, *(step for stage in report.stages for step in stage.steps)]
    return max([report.took_s or 0.0, 0.1, *(part.offset_s + (part.took_s or 0.0) for part in parts)])


def bar(part: StageLine | StepLine, span: float) -> Bar:
    """Where a stage or a step lies on a timeline of `span` seconds. What never ended reaches to the timeline's end."""
    left = min(max(part.offset_s / span, 0.0), 1.0) * TIMELINE_WIDTH
    open_end = part.outcome is None and (part.begun if isinstance(part, StageLine) else True)
    seconds = part.took_s if part.took_s is not None else span - part.offset_s if open_end else 0.0
    width = max(seconds / span * TIMELINE_WIDTH, _SLIVER)
    left = min(left, TIMELINE_WIDTH - _SLIVER)
    return Bar(round(left, 1), round(min(width, TIMELINE_WIDTH - left), 1))


@dataclass(frozen=True)
class Column:
    """Payments that ended in one interval of a watch, stacked from the ground: success, failure, error."""

    x: float
    width: float
    success: tuple[float, float]
    failure: tuple[float, float]
    error: tuple[float, float]


@dataclass(frozen=True)
class Threshold:
    y: float
    label: str
    label_y: float
    kind: str


@dataclass(frozen=True)
class WatchChart:
    """The share of payments that succeeded so far, as a line, over the payments of each interval, as columns."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    ground: float
    line: str
    last: tuple[float, float] | None
    thresholds: tuple[Threshold, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    columns: tuple[Column, ...]
    tallest: int
    says: str


_WIDTH, _HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 668.0, 16.0, 196.0
_GROUND, _COLUMN_HEIGHT = 288.0, 60.0
_FLOORS = (0.96, 0.92, 0.8, 0.6)
"""Where the axis of shares may begin, so that its four steps are whole percentages; else at 0."""
_LABEL_HEIGHT = 16.0
_TIME_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)


def watch_chart(watch: Watch) -> WatchChart:
    """The chart of one watch. Thresholds that are not recorded are not drawn."""
    points = sorted(watch.points, key=lambda point: point.t_s)
    seconds = max(points[-1].t_s, 0.1)
    shares = [
        (point.t_s, point.success / total)
        for point in points
        if (total := point.success + point.failure + point.error) > 0
    ]
    lines = [value for value in (watch.target, watch.alert) if value is not None]
    low = min([*lines, *(value for _, value in shares), 0.95])
    floor = next((floor for floor in _FLOORS if floor <= low - 0.01), 0.0)

    def x(t_s: float) -> float:
        return round(_LEFT + t_s / seconds * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (value - floor) / (1 - floor) * (_BOTTOM - _TOP), 1)

    columns, tallest = _columns(watch, x)
    return WatchChart(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        ground=_GROUND,
        line=" ".join(f"{x(t_s)},{y(value)}" for t_s, value in shares),
        last=(x(shares[-1][0]), y(shares[-1][1])) if shares else None,
        thresholds=_thresholds(watch, y),
        y_ticks=tuple(
            Tick(y(floor + (1 - floor) * part / 4), share(floor + (1 - floor) * part / 4)) for part in range(5)
        ),
        x_ticks=tuple(Tick(x(at), label) for at, label in _time_ticks(seconds)),
        columns=columns,
        tallest=tallest,
        says=_says(watch, shares),
    )


def _time_ticks(seconds: float) -> list[tuple[float, str]]:
    """At most seven round times from 0 to `seconds`, each with its unit."""
    step = next((step for step in _TIME_STEPS if seconds / step < 7), seconds / 6)
    times = [part * step for part in range(int(seconds / step + 1e-6) + 1)]
    unit, name = (3600, "h") if step >= 3600 else (60, "min") if step >= 60 else (1, "s")
    return [(at, f"{at / unit:.4g} {name}") for at in times]


def _thresholds(watch: Watch, y: Callable[[float], float]) -> tuple[Threshold, ...]:
    """The lines a watch is held against; labels of lines that nearly touch are kept apart."""
    lines = []
    if watch.target is not None:
        lines.append(Threshold(y(watch.target), f"target {share(watch.target)}", y(watch.target), "target"))
    if watch.alert is not None:
        label_y = y(watch.alert)
        if lines and label_y - lines[0].label_y < _LABEL_HEIGHT:
            label_y = lines[0].label_y + _LABEL_HEIGHT
        lines.append(Threshold(y(watch.alert), f"alert {share(watch.alert)}", label_y, "alert"))
    return tuple(lines)


def _columns(watch: Watch, x: Callable[[float], float]) -> tuple[tuple[Column, ...], int]:
    """One column for each interval between two points, and the payments of the tallest."""
    points = sorted(watch.points, key=lambda point: point.t_s)
    steps = [
        (
            before.t_s,
            after.t_s,
            max(after.success - before.success, 0),
            max(after.failure - before.failure, 0),
            max(after.error - before.error, 0),
        )
        for before, after in pairwise(points)
    ]
    tallest = max((success + failure + error for _, _, success, failure, error in steps), default=0)
    unit = _COLUMN_HEIGHT / tallest if tallest else 0.0
    columns = []
    for begin, end, *amounts in steps:
        stacked, ground = [], _GROUND
        for amount in amounts:
            height = round(amount * unit, 1)
            stacked.append((round(ground - height, 1), height))
            ground -= height
        columns.append(Column(x(begin) + 1, max(x(end) - x(begin) - 2, 1.0), stacked[0], stacked[1], stacked[2]))
    return tuple(columns), round(tallest)


def _says(watch: Watch, shares: list[tuple[float, float]]) -> str:
    if not shares:
        return f"{watch.check}: no payment ended during the watch."
    lowest, last = min(value for _, value in shares), shares[-1][1]
    limits = [f"{name} {share(value)}" for name, value in (("target", watch.target), ("alert", watch.alert)) if value]
    return (
        f"{watch.check}: share of payments that succeeded, {share(last)} at the end, {share(lowest)} at its lowest"
        + (f"; {', '.join(limits)}." if limits else "; thresholds not recorded.")
    )
