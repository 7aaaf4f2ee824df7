"""What every check shares: a fact that could not be observed is a finding too, and never a pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeVar

from pipeline.contracts import World
from pipeline.errors import (
    CapReached,
    CommandFailed,
    CredentialsRefused,
    GatewayError,
    GatewayRefused,
    ReleaseNotReady,
    ServiceError,
    TargetError,
    TollgateError,
)
from pipeline.recovery import classify
from pipeline.verdict import Finding, Verdict

Fact = TypeVar("Fact")
Params = TypeVar("Params")

# The first row that fits decides. What is not in the table (a lost lease, a bug) is not a check's to judge.
_VERDICTS: tuple[tuple[type[TollgateError], Verdict, str], ...] = (
    (ServiceError, Verdict.FAIL, "Look at the service's own log; the answer must follow docs/service.md."),
    (
        CredentialsRefused,
        Verdict.FAIL,
        "API key invalid or missing, or wrong secret: check the gateway's settings.",
    ),
    (
        GatewayRefused,
        Verdict.FAIL,
        "Compare the request with the gateway's documentation; its answer says more.",
    ),
    (CapReached, Verdict.FAIL, "Start a new run, or raise `cap` if you mean one run to spend that much."),
    (GatewayError, Verdict.INCONCLUSIVE, "Ask again once the gateway answers; nothing was proven meanwhile."),
    (ReleaseNotReady, Verdict.FAIL, "Look at the release's log on the target for why it did not start."),
    (TargetError, Verdict.ERROR, "Make the target reachable and writable, then run again."),
    (CommandFailed, Verdict.ERROR, "Run the command by hand on that machine to see all of it."),
)


def counted(number: int, noun: str) -> str:
    """`1 activation`, `2 activations`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Unjudged(Exception):
    """A gatherer found that there is nothing to judge; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.reason)
        self.finding = finding


def finding_of(error: TollgateError) -> Finding | None:
    """The finding for what went wrong while observing; None when it is not a check's to judge."""
    for kind, verdict, remedy in _VERDICTS:
        if isinstance(error, kind):
            told = str(error) or type(error).__name__
            return Finding(verdict, told, error.remedy or remedy, error_class=classify(error).name)
    return None


def or_finding(gather: Callable[[World, Params], Awaitable[Fact]]) -> Callable[[World, Params], Awaitable[object]]:
    """Makes a gatherer return a finding in place of the fact when the fact cannot be observed."""

    @wraps(gather)
    async def gathered(world: World, params: Params) -> object:
        try:
            return await gather(world, params)
        except Unjudged as unjudged:
            return unjudged.finding
        except TollgateError as error:
            finding = finding_of(error)
            if finding is None:
                raise
            return finding

    return gathered


def unless_finding(judge: Callable[[Fact, Params], Finding]) -> Callable[[Fact | Finding, Params], Finding]:
    """Makes a judge pass on a finding that stands in place of the fact."""

    @wraps(judge)
    def judged(fact: Fact | Finding, params: Params) -> Finding:
        return fact if isinstance(fact, Finding) else judge(fact, params)

    return judged
