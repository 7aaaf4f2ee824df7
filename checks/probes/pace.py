"""Pacing: the prober stays below the service's own rate limits, so that no answer is one of a limit."""

from __future__ import annotations

from pipeline.contracts import Clock
from pipeline.spec import RateLimits

_SHARE = 0.8
"""Of burst and rate: others ask from this address, too."""


class Pace:
    """A token bucket that waits in place of refusing. One for each limited endpoint, shared by all probes of a run."""

    def __init__(self, clock: Clock, limits: RateLimits) -> None:
        self._clock = clock
        self._most = max(1.0, limits.burst * _SHARE)
        self._per_second = limits.per_second * _SHARE
        self._tokens = self._most
        self._since = clock.monotonic()

    async def take(self) -> None:
        """Returns when one more request is within the limits."""
        now = self._clock.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._since) * self._per_second) - 1
        self._since = now
        if self._tokens < 0:  # a debt: whoever comes next waits behind this one
            await self._clock.sleep(-self._tokens / self._per_second)

    def give_back(self) -> None:
        """The request turned out not to count."""
        self._tokens = min(self._most, self._tokens + 1)
