"""The four watch checks: what the first transactions of a release say, against the thresholds of pipeline.yaml.

The decisions are pure functions of what was counted; how they decide can be replaced without touching the gathering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from checks.facts import metrics
from checks.facts.metrics import Times, Watch, watch
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import Frozen, NoParams, SuccessRate
from pipeline.verdict import Finding, Verdict, advice, failed, inconclusive, passed

MOST = 0.95
"""The share of observations that must lie under a time limit."""

_MISSED_AT_MOST = 0.2
"""The share of readings that may fail before the watch says nothing."""


class Validation(Frozen):
    """Under which `result` labels the service counts webhooks whose signature was wrong."""

    refused: tuple[str, ...] = ("refused", "invalid", "unsigned", "bad_signature", "invalid_signature")


@or_finding
async def gather(world: World, _params: object) -> Watch:
    return await watch(world)


def unread(fact: Watch) -> Finding | None:
    """The finding for a watch that did not see enough of the service; None when it did. Pure."""
    missed = [scrape for scrape in fact.scrapes if scrape.flaw]
    measured = {"scrapes": len(fact.scrapes), "missed": len(missed)}
    remedy = "See that the service runs and offers contract.metrics in the Prometheus text format."
    if not fact.read:
        why = missed[-1].flaw if missed else "nothing was read"
        return Finding(Verdict.ERROR, f"the watch read no metrics: {why}", remedy, measured)
    if fact.scrapes[-1].flaw:
        return failed(f"the service stopped answering during the watch: {missed[-1].flaw}", remedy, **measured)
    if len(missed) > _MISSED_AT_MOST * len(fact.scrapes):
        return inconclusive(
            f"{len(missed)} of {len(fact.scrapes)} readings failed, the last: {missed[-1].flaw}", remedy, **measured
        )
    return None


def too_few(count: int, what: str, fact: Watch) -> Finding | None:
    """Nothing measured is not a pass. A door that is closed is why, and is named. Pure."""
    if count >= fact.at_least:
        return None
    told = f"{count} {what} in {fact.seconds:g} s of watching, at least {fact.at_least} are needed to judge"
    remedy = (
        "Watch longer (`watch_for`, or `--watch SECONDS`) or while there is traffic; "
        "lower `watch_at_least` only if fewer are enough for you."
    )
    if fact.doors:
        on = "; ".join(f"{door} is on since {one.since} by {one.who}: {one.why}" for door, one in fact.doors.items())
        told = f"{told}; customers cannot pay as usual: {on}"
        remedy = (
            f"`./inv open --env {fact.environment}` when customers may pay again, then repeat: no longer watch shows "
            "more while that is on."
        )
    return inconclusive(
        told,
        remedy,
        count=count,
        at_least=fact.at_least,
        seconds=fact.seconds,
        doors=[door.value for door in fact.doors],
    )


# ---- success -----------------------------------------------------------------------------------------------


@unless_finding
def judge_success(fact: Watch, _params: NoParams) -> Finding:
    finding = unread(fact)
    if finding is not None:
        return finding
    grown = metrics.grown(fact.read)
    counts = {outcome: int(grown.get((metrics.PAYMENTS, outcome), 0)) for outcome in metrics.OUTCOMES}
    total = sum(counts.values())
    rate, limits = fact.thresholds.payment_success, fact.thresholds.payment_failures
    evidence = {
        **counts,
        "payments": total,
        "seconds": fact.seconds,
        "target": rate.target,
        "alert": rate.alert,
        "series": metrics.series(fact.read),
    }
    finding = too_few(total, "payments", fact) or success(counts["success"], total, rate, limits.under)
    return Finding(finding.verdict, finding.reason, finding.remedy, {**evidence, **finding.evidence})


def success(good: int, total: int, rate: SuccessRate, failures_under: float) -> Finding:
    """Below the alert line the release is bad; up to the target it is worth a look. Pure; `total` is not 0."""
    share, bad = good / total, (total - good) / total
    told = f"{good} of {total} payments succeeded, {share:.1%}"
    if share < rate.alert:
        return failed(
            f"{told}; alert below {rate.alert:.0%}, target {rate.target:.0%}",
            "See the service's log for the payments that failed, and the gateway's status.",
        )
    if share < rate.target or bad >= failures_under:
        return advice(
            f"{told}: above the alert line of {rate.alert:.0%}, but the target is {rate.target:.0%} "
            f"and failures under {failures_under:.0%}",
            "Keep watching, and look at the failed payments in the service's log before there are more.",
        )
    return passed(f"{told}; target {rate.target:.0%}")


# ---- times -------------------------------------------------------------------------------------------------


def in_time(name: str, what: str, fact: Watch, limit_s: float) -> Finding:
    """Judges a histogram against a limit. Pure."""
    finding = unread(fact)
    if finding is not None:
        return finding
    seen = metrics.times(metrics.grown(fact.read), name, limit_s)
    evidence = {
        "count": seen.count,
        "over_at_least": seen.over_at_least,
        "over_at_most": seen.over_at_most,
        "limit_s": limit_s,
        "seconds": fact.seconds,
    }
    finding = too_few(seen.count, what, fact) or share_under(seen, what, limit_s)
    return Finding(finding.verdict, finding.reason, finding.remedy, {**evidence, **finding.evidence})


def share_under(seen: Times, what: str, limit_s: float) -> Finding:
    """`MOST` of the observations must be under the limit; `seen.count` is not 0. Pure."""
    allowed = (1 - MOST) * seen.count + 1e-9
    if seen.over_at_least > allowed:
        return failed(
            f"{seen.over_at_least} of {seen.count} {what} took longer than {limit_s:g} s, allowed are {1 - MOST:.0%}",
            "Find what they wait for: the gateway, the database, retries inside the request.",
        )
    if seen.over_at_most > allowed:
        return inconclusive(
            f"between {seen.over_at_least} and {seen.over_at_most} of {seen.count} {what} took longer than "
            f"{limit_s:g} s; the service's histogram cannot tell",
            f"Give the service's histogram a bucket that ends at {limit_s:g} s.",
        )
    return passed(f"{seen.count - seen.over_at_most} of {seen.count} {what} took at most {limit_s:g} s")


@unless_finding
def judge_initialisation(fact: Watch, _params: NoParams) -> Finding:
    return in_time(metrics.INITIALISATION, "initialisations", fact, fact.thresholds.initialisation.under)


@unless_finding
def judge_webhook(fact: Watch, _params: NoParams) -> Finding:
    return in_time(metrics.WEBHOOK_TIME, "webhooks", fact, fact.thresholds.webhook.under)


# ---- webhook validation ------------------------------------------------------------------------------------


@unless_finding
def judge_validation(fact: Watch, params: Validation) -> Finding:
    finding = unread(fact)
    if finding is not None:
        return finding
    by_result = metrics.results(metrics.grown(fact.read))
    total = sum(by_result.values())
    refused = sum(n for result, n in by_result.items() if result in params.refused)
    under = fact.thresholds.webhook_validation_failures.under
    finding = too_few(total, "webhooks", fact) or validated(refused, total, under)
    evidence = {"refused": refused, "webhooks": total, "by_result": dict(by_result), "seconds": fact.seconds}
    return Finding(finding.verdict, finding.reason, finding.remedy, {**evidence, **finding.evidence})


def validated(refused: int, total: int, under: float) -> Finding:
    """Pure; `total` is not 0."""
    told = f"{refused} of {total} webhooks failed validation, {refused / total:.1%}; allowed under {under:.0%}"
    if refused / total >= under:
        return failed(
            told,
            "Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application Secret; "
            "if they agree, somebody is forging webhooks: see the service's log for where they come from.",
        )
    return passed(told)


@dataclass(frozen=True)
class _Page:
    """What one watch says of itself on its page."""

    looks_at: str
    fix: str
    see_it_fail: str
    says: tuple[str, ...] = ()


def _row(
    name: str, promise: str, why: str, page: _Page, judge: Callable[..., Finding], params: type[Frozen] = NoParams
) -> Check:
    return Check(
        name=name,
        promise=promise,
        rows=("G9", "G15", "G21", "T8", "T17", "T19"),
        gather=gather,
        judge=judge,
        params=params,
        network=True,
        when=When.LIVE,
        why=why,
        pci=("6.5.2",),
        looks_at=f"{page.looks_at} It reads `contract.metrics` from the switch on, for `watch_for`.",
        fix=page.fix,
        see_it_fail=page.see_it_fail,
        says=page.says,
    )


_TOO_FEW = (
    "Set `watch_at_least: 100000` for the sandbox in pipeline.yaml, then `./inv deploy`: with fewer payments it is "
    "inconclusive, which does not promote."
)

PAYMENT_SUCCESS = _row(
    "watch.payment_success",
    "Of the first payments after the deploy, enough succeed.",
    "A proof shows that one payment works; customers show whether payments work.",
    _Page(
        "How the first payments of the release end: success, failure or error, against `thresholds.payment_success` "
        "and `thresholds.payment_failures`.",
        "See the service's log for the payments that failed, and the gateway's status page. With too few payments to "
        "judge, watch longer or while there is traffic.",
        "`./inv drill --fault error-rate-30` deploys a shop where three in ten payments fail.",
    ),
    judge_success,
)
INITIALISATION_TIME = _row(
    "watch.initialisation_time",
    "Of the first payments after the deploy, 95 % get their pay link in time.",
    "A customer who waits leaves.",
    _Page(
        "The service's histogram of how long a payment takes to initialise, against `thresholds.initialisation`.",
        "Find what the payments wait for: the gateway, the database, retries inside the request. Give the histogram a "
        "bucket that ends at the limit.",
        _TOO_FEW,
    ),
    judge_initialisation,
)
WEBHOOK_TIME = _row(
    "watch.webhook_time",
    "Of the first webhooks after the deploy, 95 % are processed in time.",
    "A gateway that waits too long gives up and repeats.",
    _Page(
        "The service's histogram of how long a webhook takes to process, against `thresholds.webhook`.",
        "Answer first and do what takes long afterwards; find what the webhooks wait for. Give the histogram a bucket "
        "that ends at the limit.",
        _TOO_FEW,
    ),
    judge_webhook,
)
WEBHOOK_VALIDATION = _row(
    "watch.webhook_validation",
    "Of the first webhooks after the deploy, hardly any fails validation.",
    "A wrong secret, or a forger, shows here first.",
    _Page(
        "The service's count of webhooks by result, against `thresholds.webhook_validation_failures`.",
        "Webhook signature mismatch: compare `VITE_IKHOKHA_WEBHOOK_SECRET` with the gateway's Application Secret. If "
        "they agree, somebody is forging webhooks: see the service's log for where they come from.",
        _TOO_FEW,
        ("Webhook signature mismatch",),
    ),
    judge_validation,
    Validation,
)
