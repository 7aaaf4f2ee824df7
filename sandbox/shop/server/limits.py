"""Rate limits: a token bucket for each source."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

BURST = 60
PER_SECOND = 10.0
_SOURCES = 10_000


class RateLimit:
    """60 at once and 10 a second for each source. Remembers a bounded number of sources, the recent ones."""

    def __init__(self, monotonic: Callable[[], float], burst: int = BURST, per_second: float = PER_SECOND) -> None:
        self._monotonic = monotonic
        self._burst = float(burst)
        self._per_second = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str) -> int:
        """0 when the source may go on, else after how many whole seconds it may try again."""
        now = self._monotonic()
        tokens, since = self._buckets.pop(source, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_second)
        allowed = tokens >= 1
        self._buckets[source] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _SOURCES:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) / self._per_second))
