"""credentials.tried_in_staging: a gateway accepted the credentials of staging not long ago."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.names import listed, nearest
from pipeline.spec import Duration, Frozen, Name
from pipeline.verdict import Finding, Verdict, failed, inconclusive, passed, skipped

TRIAL = "credentials.accepted_by_gateway"
_AHEAD = timedelta(days=1)


class Trial(Frozen):
    """Where the credentials are tried first, and how old that trial may be."""

    environment: Name = "staging"
    within: Duration = 30 * 86400.0


@dataclass(frozen=True)
class Tried:
    """The last trial on record that came to a judgement; None when there is none."""

    now: datetime
    at: datetime | None
    run: str
    verdict: Verdict | None


@or_finding
async def gather(world: World, params: Trial) -> Tried:
    staging = params.environment
    if staging == world.environment_name:
        raise Unjudged(skipped(f"{staging} is where credentials are tried; {TRIAL} is the trial itself"))
    if staging not in world.spec.environments:
        meant = nearest(staging, world.spec.environments)
        raise Unjudged(
            failed(
                f"pipeline.yaml has no environment {staging}; it has {listed(world.spec.environments)}",
                "Under `with:` name the environment in which credentials are tried"
                + (f"; did you mean {meant}?" if meant else "."),
            )
        )
    if world.spec.environments[staging].url == "sandbox":
        raise Unjudged(
            failed(
                f"credentials are to be tried in {staging}, whose gateway is the sandbox: it accepts its own alone",
                "Under `with: {environment: ...}` name an environment that asks the gateway itself.",
            )
        )
    findings = await asyncio.to_thread(lambda: world.past(staging).findings(TRIAL))
    judged = (one for one in findings if one.verdict in (Verdict.PASS, Verdict.FAIL))
    last = next(judged, None)
    now = world.clock.now()
    return Tried(now, last.at, last.run, last.verdict) if last else Tried(now, None, "", None)


@unless_finding
def judge(tried: Tried, params: Trial) -> Finding:
    staging, command = params.environment, f"./inv validate --env {params.environment}"
    limit = timedelta(seconds=params.within)
    if tried.at is None:
        return failed(
            f"the record of {staging} has no call that a gateway accepted or refused; one within {_days(limit)} is "
            "required",
            f"Try the credentials in {staging} first: {command}",
        )
    day, measured = f"{tried.at:%Y-%m-%d}", {"environment": staging, "run": tried.run, "at": tried.at.isoformat()}
    if tried.verdict is not Verdict.PASS:
        return failed(
            f"the gateway refused the credentials of {staging} on {day} (run {tried.run})",
            f"Mend the credentials of {staging}, then run {command}",
            **measured,
        )
    if tried.at > tried.now + _AHEAD:
        return inconclusive(
            f"the record of {staging} has a call on {day}, which is in the future",
            f"Set the clock of this machine right, then run {command}",
            **measured,
        )
    if tried.now - tried.at > limit:
        return failed(
            f"the gateway last accepted the credentials of {staging} on {day}; within {_days(limit)} is required",
            f"Try them again: {command}",
            **measured,
        )
    return passed(f"the gateway accepted the credentials of {staging} on {day} (run {tried.run})", **measured)


def _days(limit: timedelta) -> str:
    return f"{limit / timedelta(days=1):g} days"


CHECK = Check(
    name="credentials.tried_in_staging",
    promise="Credentials were tried against the gateway in staging before they are used here.",
    rows=("G1", "G18", "T2"),
    gather=gather,
    judge=judge,
    params=Trial,
    network=True,  # it reads a file, but what it asks for is a call over the network, which nobody can make offline
    why="What was never tried in staging is tried on customers.",
    looks_at="The record of staging on this machine: the last verdict of `credentials.accepted_by_gateway` there.",
    fix="Run `./inv validate --env staging`, and mend what it finds.",
    see_it_fail="Run `./inv validate --env production` where nothing was ever run for staging.",
)
