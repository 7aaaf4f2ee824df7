"""duties.current: the recurring work that pipeline.yaml lists was done in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from checks.facts import people
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.duties import Standing, days, standings
from pipeline.spec import Frozen
from pipeline.verdict import Finding, Verdict, inconclusive, passed, worst

Weight = Literal["fail", "advice"]


class Weights(Frozen):
    """How hard a duty that is late counts, and one that was never done; `advice` recommends, `fail` blocks."""

    overdue: Weight = Field("advice", description="What a duty is whose time has run out.")
    never_done: Weight = Field("advice", description="What a duty is that has no record yet.")


@dataclass(frozen=True)
class Duties:
    environment: str
    now: datetime
    found: tuple[Standing, ...]


@or_finding
async def gather(world: World, _params: Weights) -> Duties:
    if not world.spec.duties:
        raise Unjudged(
            inconclusive(
                "pipeline.yaml lists no duty, so no recurring work is looked at",
                "List the recurring work under `duties:`, or remove this check.",
            )
        )
    name, now = world.environment_name, world.clock.now()
    found = standings(world.spec.duties, await people.attested(world), world.past(name), now)
    return Duties(name, now, found)


@unless_finding
def judge(fact: Duties, params: Weights) -> Finding:
    verdict = worst(_verdict(one, params) for one in fact.found)
    measured = {one.name: _told(one) for one in fact.found}
    if verdict is Verdict.PASS:
        first = min(fact.found, key=lambda one: (one.due or fact.now, one.name))
        return passed(
            f"all of the recurring work ({len(fact.found)} in all) was done in time; "
            f"the next is {first.name}, due on {_day(first.due)}",
            duties=measured,
        )
    late = [one for one in fact.found if one.overdue]
    return Finding(
        verdict,
        f"overdue in {fact.environment}: {len(late)} of {len(fact.found)} duties, none is allowed: "
        + "; ".join(_late(one) for one in late),
        f"Do the work and put it on record: `./inv duties --env {fact.environment}` says how for each.",
        {"duties": measured},
    )


def _verdict(one: Standing, params: Weights) -> Verdict:
    if not one.overdue:
        return Verdict.PASS
    if one.unknown:
        return Verdict.INCONCLUSIVE
    weight = params.never_done if one.last is None and not one.note else params.overdue
    return Verdict.FAIL if weight == "fail" else Verdict.ADVICE


def _told(one: Standing) -> dict[str, str | bool]:
    return {"last": _day(one.last), "due": _day(one.due), "by": one.by, "every": days(one.every), "late": one.overdue}


def _late(one: Standing) -> str:
    note = f" (a record is {one.note})" if one.note else ""
    if one.last is None:
        return f"{one.name} has no record{note}, every {days(one.every)} is allowed"
    return f"{one.name} was due on {_day(one.due)}, last done on {_day(one.last)} ({one.by}){note}"


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else ""


CHECK = Check(
    name="duties.current",
    promise="The recurring work that pipeline.yaml lists was done, and none of it is overdue.",
    rows=("G16",),
    gather=gather,
    judge=judge,
    params=Weights,
    why="Logs nobody reads and keys nobody changes fail quietly; a date that has passed does not.",
    looks_at=(
        "For each line of `duties:` the newest signed record in `attestations/ENVIRONMENT/`, or the last PASS of the "
        "check that proves it, as the environment's journal has it."
    ),
    fix="Do the work, then put it on record: with `./inv attest`, or by running the check that proves it.",
    see_it_fail="List a duty in pipeline.yaml that nobody has done yet, and run `./inv duties`.",
)
