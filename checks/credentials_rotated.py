"""credentials.rotated: no credential is older than a quarter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from checks.facts import rotation
from checks.facts.credentials import held, none_held
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.names import listed, nearest
from pipeline.spec import Duration, Frozen
from pipeline.verdict import Finding, Verdict, failed

_DAY_S = 86400.0
_AHEAD = timedelta(hours=14)
"""Somewhere on Earth it is this much later than in UTC."""


def _real(day: str) -> str:
    try:
        datetime.fromisoformat(day)
    except ValueError:
        raise ValueError("a day that exists is allowed, as 2026-10-01") from None
    return day


IssueDay = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_real)]


class Quarter(Frozen):
    """How old a credential may be, and the days on which some were issued, by the names of their settings."""

    max_age: Duration = 92 * _DAY_S
    advise_after: Duration = 80 * _DAY_S
    issued: Mapping[str, IssueDay] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.advise_after > self.max_age:
            raise ValueError("advise_after is above max_age; it is the lower line")
        return self


@dataclass(frozen=True)
class Age:
    """`fingerprint` is '' where it must not go on record. `seen`: the first sight on record; `issued`: as declared."""

    name: str
    fingerprint: str
    seen: datetime | None
    issued: datetime | None


@dataclass(frozen=True)
class Ages:
    """`sandbox`: the credentials are the sandbox's own and open nothing. `known`: settings that are secrets.
    `recorded`: earlier runs put fingerprints on record here, so that what is new to the record is new."""

    environment: str
    sandbox: bool
    now: datetime
    known: tuple[str, ...]
    ages: tuple[Age, ...]
    recorded: bool


@or_finding
async def gather(world: World, params: Quarter) -> Ages:
    secrets = held(world)
    if not secrets:
        raise Unjudged(none_held(world, "no age was judged"))
    findings = await asyncio.to_thread(lambda: world.past(world.environment_name).findings(rotation.CHECK))
    seen = rotation.first_seen(findings)
    ages = []
    for name, secret in sorted(secrets.items()):
        fingerprint = secret.fingerprint() if rotation.may_be_recorded(secret) else ""
        issued = params.issued.get(name)
        day = datetime.fromisoformat(issued).replace(tzinfo=UTC) if issued else None
        ages.append(Age(name, fingerprint, seen.get(fingerprint), day))
    known = (name for name, setting in world.spec.settings.items() if setting.type == "secret")
    return Ages(
        environment=world.environment_name,
        sandbox=world.environment.url == "sandbox",
        now=world.clock.now(),
        known=tuple(sorted({*known, *secrets})),
        ages=tuple(ages),
        recorded=bool(seen),
    )


@dataclass(frozen=True)
class _Judged:
    """One sentence about one credential. `since`: the earliest that is known of it, None where its age is not known."""

    verdict: Verdict
    said: str
    fix: str
    since: datetime | None


@unless_finding
def judge(ages: Ages, params: Quarter) -> Finding:
    unknown = sorted(set(params.issued) - set(ages.known))
    if unknown:
        meant = nearest(unknown[0], ages.known)
        return failed(
            f"`issued` names {', '.join(unknown)}, which is no credential; {listed(ages.known)} are",
            "Correct the name under `with: {issued: ...}`" + (f"; did you mean {meant}?" if meant else "."),
        )
    judged = {age.name: _judge(age, ages, params) for age in ages.ages}
    worst = max((one.verdict for one in judged.values()), key=list(Verdict).index)
    told = [one for one in judged.values() if one.verdict is worst]
    return Finding(
        worst,
        "; ".join(one.said for one in told),
        "\n".join(dict.fromkeys(one.fix for one in told if one.fix)),
        evidence=_evidence(ages, judged),
    )


def _judge(age: Age, ages: Ages, params: Quarter) -> _Judged:
    if age.issued is not None and age.issued > ages.now + _AHEAD:
        said = f"{age.name}: declared as issued on {age.issued:%Y-%m-%d}, which is in the future"
        fix = f"Correct the day of {age.name} under `issued`: the day on which the gateway issued the value in use."
        return _Judged(Verdict.FAIL, said, fix, age.seen)
    if not age.fingerprint and age.issued is None:
        said = f"{age.name}: its age is not known: it is too short or too regular for its fingerprint to go on record"
        fix = (
            f"Make a longer, random {age.name} at the gateway (16 characters or more), or declare the day it was "
            f"issued: `with: {{issued: {{{age.name}: {ages.now:%Y-%m-%d}}}}}`."
        )
        return _Judged(Verdict.INCONCLUSIVE, said, fix, None)
    since = min(instant for instant in (age.seen, age.issued, ages.now) if instant is not None)
    days = (ages.now - since) / timedelta(days=1)
    how = "issued" if since == age.issued else "first seen"
    if age.seen is None and age.issued is None:
        said = f"{age.name}: seen for the first time today"
        if ages.recorded or ages.sandbox:
            return _Judged(Verdict.PASS, said, "", since)
        fix = (
            "Declare the day each was issued: `with: {issued: {NAME: YYYY-MM-DD}}`. Where `.tollgate/` is not kept "
            "between runs nothing else tells their age."
        )
        return _Judged(
            Verdict.ADVICE, f"{said}, with no earlier run on record: how old it is was not judged", fix, since
        )
    told = f"{age.name}: {how} on {since:%Y-%m-%d}, {counted(int(days), 'day')} ago"
    limit = counted(int(params.max_age / _DAY_S), "day")
    if days * _DAY_S > params.max_age:
        verdict = Verdict.ADVICE if ages.sandbox else Verdict.FAIL
        return _Judged(verdict, f"{told}; at most {limit} are allowed", _rotate(age, ages), since)
    if days * _DAY_S > params.advise_after:
        return _Judged(Verdict.ADVICE, f"{told}; {limit} is the limit", _rotate(age, ages), since)
    return _Judged(Verdict.PASS, told, "", since)


def _rotate(age: Age, ages: Ages) -> str:
    if ages.sandbox:
        return "Remove the sandbox's settings.env while it is down (./inv sandbox.down): its next start makes new ones."
    return (
        f"Make a new {age.name} in the gateway's dashboard, put it into a source of {ages.environment}, deploy, then "
        "revoke the old one."
    )


def _evidence(ages: Ages, judged: Mapping[str, _Judged]) -> Mapping[str, object]:
    """What later runs read: `credentials` by name, and `done_at`, since when the oldest credential has been in use.

    `first_seen` holds no declared day: one that was declared wrong and mended would stay on record.
    """
    since = {name: one.since for name, one in judged.items() if one.since is not None}
    recorded = {
        age.name: {"fingerprint": age.fingerprint, "first_seen": (age.seen or ages.now).isoformat()}
        for age in ages.ages
        if age.fingerprint
    }
    done = {"done_at": min(since.values()).isoformat()} if len(since) == len(judged) else {}
    return {"credentials": recorded, **done}


CHECK = Check(
    name="credentials.rotated",
    promise="No credential has been in use for longer than a quarter.",
    rows=("G12", "G16", "T2"),
    gather=gather,
    judge=judge,
    params=Quarter,
    why="A credential that leaked unseen works for whoever has it until the day it is replaced.",
    pci=("8.6.3",),
    looks_at="For each credential the day on which its fingerprint was first seen on the record of this environment, "
    "or the day declared under `issued`, whichever is earlier. With neither an earlier run on record nor a day the age "
    "is not known, and the finding is an advice. A fingerprint is 8 hex digits of a SHA-256; of a value that could be "
    "guessed from it none is recorded.",
    fix="Make a new credential in the gateway's dashboard, put it into a source of the environment, deploy, then "
    "revoke the old one.",
    see_it_fail="Declare an old day: `with: {issued: {VITE_IKHOKHA_API_SECRET: 2020-01-01}}`, then `./inv validate`.",
)
