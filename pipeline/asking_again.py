"""How a reading is asked again: the one place that repeats what went wrong on its way. Never for what may create money.

Nothing that decides by its first answer uses it: readiness, refusals, limits, probes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import TYPE_CHECKING, TypeVar

from pipeline.contracts import Clock
from pipeline.errors import ServiceUnreachable
from pipeline.recovery import Does, classify
from pipeline.retry_after import parse
from pipeline.words import one_line

if TYPE_CHECKING:
    from datetime import datetime

    from tenacity import RetryCallState

    from pipeline.contracts import World
    from pipeline.service import Answer

T = TypeVar("T")

_BUSY = (429, 503)
LONGEST_WAIT_S = 60.0
"""Who asks to be left alone for longer is not waited for: the step ends, and says so."""


def _silent(_line: str) -> None:
    """Nobody follows."""


@dataclass(frozen=True)
class Patience:
    """How often (`tries` in all), how soon, and who is told. Pauses double from `first_s` on, times 0.5 to 1.5.

    The chance in them keeps those apart whom one outage stopped at the same moment.
    """

    clock: Clock
    random: Random = field(default_factory=SystemRandom)
    tell: Callable[[str], None] = _silent
    tries: int = 3
    first_s: float = 0.5
    most_s: float = 20.0

    @classmethod
    def of(cls, world: World) -> Patience:
        return cls(world.clock, world.random, world.tell)

    def pause(self, failures: int, asked_for: float | None) -> float:
        """Seconds after so many failures. What was asked for is kept, and a little more by chance."""
        doubled = min(self.most_s, self.first_s * 2 ** (failures - 1))
        return doubled * (0.5 + self.random.random()) if asked_for is None else asked_for + self.random.random()


def may_be_asked_again(error: BaseException) -> bool:
    """Whether a reading may come through when it is asked again: as the table of error classes has it.

    What is waited for is so where it was said how long, and that is short.
    """
    does, asked_for = classify(error).does, retry_after(error)
    if asked_for is None:
        return Does.RETRY in does
    return asked_for <= LONGEST_WAIT_S and not {Does.RETRY, Does.WAIT}.isdisjoint(does)


def retry_after(error: BaseException | None) -> float | None:
    """The seconds that whoever refused asked for, None where nothing was said."""
    said = getattr(error, "retry_after_s", None)
    return max(0.0, said) if isinstance(said, int | float) else None


def unless_busy(answer: Answer, now: datetime) -> Answer:
    """The service's answer. Raises ServiceUnreachable for a 429 or 503 that says when to come again."""
    said = next((value for name, value in answer.headers.items() if name.lower() == "retry-after"), None)
    seconds = parse(said, now).seconds
    if answer.status not in _BUSY or seconds is None:
        return answer
    busy = ServiceUnreachable(
        f"{answer.method} {answer.path}: answered {answer.status} and asks for {seconds:g} s of patience",
        "Look at the service's own log for what keeps it busy; `contract.limits` tells how much it takes.",
    )
    busy.retry_after_s = seconds
    raise busy


async def retrying(ask: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """What `ask` answers, asked again while it may help. Raises its last error; the caller's time limit ends it all.

    `ask` reads and changes nothing. An answer at once costs nothing: the library is loaded when one is missing.
    """
    try:
        return await ask()
    except Exception as error:
        if patience.tries < 2 or not may_be_asked_again(error):
            raise
        failed: Exception | None = error
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

    async def asked_on() -> T:
        nonlocal failed
        if failed is not None:
            known, failed = failed, None
            raise known
        return await ask()

    return await AsyncRetrying(
        sleep=patience.clock.sleep,
        wait=lambda state: patience.pause(state.attempt_number, retry_after(_error(state))),
        stop=stop_after_attempt(patience.tries),
        retry=retry_if_exception(may_be_asked_again),
        before_sleep=lambda state: _told(state, patience),
        reraise=True,
    )(asked_on)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _told(state: RetryCallState, patience: Patience) -> None:
    pause = state.next_action.sleep if state.next_action is not None else 0.0
    again = f"asked again in {pause:.1f} s (attempt {state.attempt_number + 1} of {patience.tries})"
    patience.tell(f"{one_line(str(_error(state)))}; {again}")
