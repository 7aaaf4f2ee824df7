"""rollback.rehearsed: the release a rollback would go back to starts, here, now, with its own settings."""

from __future__ import annotations

from dataclasses import dataclass

from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, failed, passed, skipped


@dataclass(frozen=True)
class Rehearsed:
    """`says` is the release id the rehearsed release gave for itself; times in s."""

    expected: str
    says: object
    took_s: float
    within_s: float


@or_finding
async def gather(world: World, _params: NoParams) -> Rehearsed:
    previous = world.run.previous
    if previous is None:
        raise Unjudged(skipped("first release: there is no verified release yet to go back to"))
    started = await world.target.traffic.rehearse(previous)
    return Rehearsed(str(previous), started.body.get("release"), started.took, world.spec.release.ready_within)


@unless_finding
def judge(fact: Rehearsed, _params: NoParams) -> Finding:
    took = round(fact.took_s * 1000)
    if fact.says != fact.expected:
        return failed(
            f"release {fact.expected} was started on a spare port, but says it is {fact.says!r}",
            "Its folder or settings were changed on the target; deploy a fresh release before you rely on a rollback.",
            release=fact.expected,
            took_ms=took,
        )
    if fact.took_s > fact.within_s:
        return failed(
            f"release {fact.expected} took {fact.took_s:.1f} s to become ready, allowed {fact.within_s:g} s",
            "See its log on the target; raise release.ready_within only if that time is healthy.",
            release=fact.expected,
            took_ms=took,
        )
    return passed(
        f"release {fact.expected} was ready on a spare port with its own settings after {took} ms",
        release=fact.expected,
        took_ms=took,
    )


CHECK = Check(
    name="rollback.rehearsed",
    promise="The last verified release starts with its own settings before anything is switched.",
    rows=("G18", "G20", "T9", "T16"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    why="A way back that was never tried is a hope.",
    pci=("6.5.1",),
    looks_at=(
        "The last verified release, started on a spare port of the target beside the live one, with its own settings: "
        "whether it gets ready within `release.ready_within` and names itself. It is stopped again, and customers see "
        "nothing of it. A first release has nothing to go back to, and the check is skipped."
    ),
    fix=(
        "Read the old release's log on the target for why it does not start. Where its folder or settings were changed "
        "there, `./inv rollback --to` an older verified release, or put back what was changed."
    ),
    see_it_fail="Make a file of the last verified release unreadable on the target, then deploy.",
)
