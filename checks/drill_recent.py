"""drill.recent: the way back was tried not long ago, with every fault, and worked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from checks.judging import counted
from pipeline.contracts import Check, PastRun, World
from pipeline.spec import Duration, Frozen, Name
from pipeline.verdict import Finding, failed, passed

_CLOCKS_DIFFER_S = 300.0
_COMMAND = "./inv drill --all"


class Recent(Frozen):
    """How old the last drill may be, and the environment whose journal keeps drills."""

    within: Duration = 90 * 86400.0
    environment: Name = "sandbox"


@dataclass(frozen=True)
class Practice:
    """Ended drills with every fault and ended rollbacks of this environment, newest first; `single`: of one fault."""

    environment: str
    now: datetime
    drills: tuple[PastRun, ...]
    single: tuple[PastRun, ...]
    rollbacks: tuple[PastRun, ...]


async def gather(world: World, params: Recent) -> Practice:
    drilled = world.past(params.environment)
    return Practice(
        environment=world.environment_name,
        now=world.clock.now(),
        drills=tuple(drilled.runs("drill")),
        single=tuple(drilled.runs("drill.one")),
        rollbacks=tuple(world.past(world.environment_name).runs("rollback")),
    )


def judge(practice: Practice, params: Recent) -> Finding:
    """The last drill that came to a result decides, and one of a single fault where it was not caught.

    A real rollback that ended well is as good as a drill.
    """
    whole = _last(practice.drills, practice.now, ("done", "refused"))
    one = _last(practice.single, practice.now, ("refused",))
    drilled = max((run for run in (whole, one) if run is not None), key=lambda run: run.at, default=None)
    rolled_back = _last(practice.rollbacks, practice.now, ("done",))
    allowed = f"at most {_days(params.within)} are allowed"
    if drilled is not None and drilled.outcome != "done":
        return failed(
            f"the last drill, {drilled.run} of {drilled.at:%Y-%m-%d}, was not as it must be: a fault was not caught, "
            "or the service did not end known good or closed",
            f"`./inv report --run {drilled.run}` shows which; mend that, then `{_COMMAND}` must end with 0.",
            drill=drilled.run,
            at=drilled.at.isoformat(),
        )
    tried = [run for run in (drilled, rolled_back) if run is not None]
    if not tried:
        others = f" ({counted(len(practice.single), 'drill')} of one fault only)" if practice.single else ""
        return failed(
            f"no drill of every fault and no rollback of {practice.environment} is on record{others}; {allowed}",
            f"`{_COMMAND}` plays every fault in a sandbox of its own, in a few minutes, and puts it on record.",
            drills_of_one_fault=len(practice.single),
        )
    last = max(tried, key=lambda run: run.at)
    age_s = (practice.now - last.at).total_seconds()
    evidence = {"run": last.run, "verb": last.verb, "at": last.at.isoformat(), "age_s": round(age_s)}
    told = f"the last {last.verb}, {last.run} of {last.at:%Y-%m-%d}, is {_days(age_s)} old"
    if age_s > params.within:
        return failed(f"{told}; {allowed}", f"`{_COMMAND}` plays every fault and puts it on record.", **evidence)
    return passed(f"{told} and ended well; {allowed}", **evidence)


def _last(runs: tuple[PastRun, ...], now: datetime, outcomes: tuple[str, ...]) -> PastRun | None:
    """The newest with one of these outcomes; one of the future was written by a wrong clock and says nothing."""
    known = [run for run in runs if run.outcome in outcomes and (run.at - now).total_seconds() <= _CLOCKS_DIFFER_S]
    return max(known, key=lambda run: run.at, default=None)


def _days(seconds: float) -> str:
    days = max(seconds, 0.0) / 86400
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.1f} hours"


CHECK = Check(
    name="drill.recent",
    promise="Every fault was drilled, or this environment really rolled back, not longer ago than allowed.",
    rows=("G18", "G20", "T9", "T16"),
    gather=gather,
    judge=judge,
    params=Recent,
    why="A way back that nobody has walked for months has changed without anybody noticing.",
    pci=("6.5.1", "12.10.2"),
    looks_at=(
        "The journal of the sandbox for the last drill with every fault, and this environment's own journal for the "
        "last rollback that ended well. A good drill of one fault does not count; after any drill in which a fault was "
        "not caught only a good drill with every fault does."
    ),
    fix=f"Run `{_COMMAND}` in the folder this environment is deployed from, and mend what it shows.",
    see_it_fail="In a folder without a drill on record: `./inv validate --env production`.",
)
