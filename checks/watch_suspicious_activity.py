"""watch.suspicious_activity: how many security events the service counted during the watch, beside how many webhooks.

Two lines, for two kinds of trouble. So many events a minute are an attack, or a release that refuses its customers:
that does not promote. More events than good webhooks on a quiet day, or a single one that only a holder of the secret
can cause, is worth a look and no more: whoever sends a dozen forged webhooks must not be able to stop a deploy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import Field

from checks.facts import metrics
from checks.judging import counted, unless_finding
from checks.watch import gather, unread
from pipeline.contracts import Check, When
from pipeline.security_events import shown
from pipeline.spec import Frozen
from pipeline.verdict import Finding, advice, failed, inconclusive, passed, skipped

_MINUTE_S = 60.0
_KINDS_TOLD = 10
_NOT_GOOD = frozenset(
    {"refused", "invalid", "unsigned", "bad_signature", "invalid_signature", "malformed", "denied", "unknown"}
)
"""`result` labels of webhooks that count as events themselves, or should."""


class Suspicion(Frozen):
    """How much is too much. The defaults are above all that the proofs of a deploy and the prober cause together.

    That is about 300 at the sandbox shop, most of it by trying its rate limits. They run before the watch begins; only
    where a service's counters lag, or somebody runs the prober meanwhile, does some of it fall into the window.
    """

    per_minute: int = Field(500, ge=1, description="So many security events a minute do not promote.")
    per_webhook: float = Field(1.0, gt=0, description="More events than this for each good webhook are worth a look.")
    few: int = Field(10, ge=1, description="Fewer events than this in the whole watch are never worth a look.")
    telling: tuple[str, ...] = Field(
        ("webhook.denied", "webhook.unknown", "enrolment.revoked"),
        description="Kinds of which one is worth a look: they take the webhook secret, or went too far already.",
    )
    leave_out: tuple[str, ...] = Field((), description="Kinds that do not count.")
    counted_elsewhere: str = Field(
        "", description="Who counts security events where the service has no such metric; then this check is skipped."
    )


@dataclass(frozen=True)
class Seen:
    """What was counted in `seconds` of watching. `webhooks` are those that were not refused."""

    by_kind: Mapping[str, int]
    webhooks: int
    seconds: float

    @property
    def events(self) -> int:
        return sum(self.by_kind.values())

    @property
    def per_minute(self) -> float:
        """A watch of less than a minute is held against a minute's worth: a burst of a second is no rate."""
        return round(self.events * _MINUTE_S / max(self.seconds, _MINUTE_S), 1)


@unless_finding
def judge(fact: metrics.Watch, params: Suspicion) -> Finding:
    finding = unread(fact)
    if finding is not None:
        return finding
    if not metrics.counts_security(fact.read):
        return _uncounted(fact, params)
    if fact.seconds <= 0:
        return inconclusive(
            f"one reading of {fact.path} shows no growth, so no security event could be counted",
            "Watch longer: `watch_for` of the environment, or `--watch SECONDS`.",
            seconds=fact.seconds,
        )
    growth = metrics.grown(fact.read)
    events = {kind: n for kind, n in metrics.security_events(growth).items() if kind not in params.leave_out}
    good = sum(n for result, n in metrics.results(growth).items() if result not in _NOT_GOOD)
    return judged(Seen(_by_name(events, params.telling), good, fact.seconds), params)


def _by_name(events: Mapping[str, int], telling: Collection[str]) -> Mapping[str, int]:
    """The telling kinds, then the most frequent, under names that may be printed; the rest together.

    A service may label as it likes, and have any number of kinds.
    """
    ranked = sorted(events.items(), key=lambda event: (event[0] not in telling, -event[1], event[0]))
    named = {shown(kind, 40) or "of no kind": n for kind, n in ranked[:_KINDS_TOLD]}
    rest = sum(events.values()) - sum(named.values())
    return {**named, "others": rest} if rest else named


def judged(seen: Seen, params: Suspicion) -> Finding:
    """Pure."""
    evidence = {
        "events": seen.events,
        "by_kind": dict(seen.by_kind),
        "per_minute": seen.per_minute,
        "webhooks": seen.webhooks,
        "seconds": seen.seconds,
    }
    kinds = ", ".join(f"{kind}: {n}" for kind, n in seen.by_kind.items())
    told = f"{counted(seen.events, 'security event')} in {seen.seconds:g} s" + (f" ({kinds})" if kinds else "")
    if seen.per_minute >= params.per_minute:
        return failed(
            f"suspicious activity: {told}, {seen.per_minute:g} a minute; allowed are fewer than {params.per_minute}",
            "See where they come from: lines with the event `security` in the service's log, by source and kind "
            "(docs/security-events.md). From strangers: block them in front of the service. From your own pages: the "
            "release refuses customers, mend it. To deploy a fix under attack, answer for this under `accepted`.",
            **evidence,
        )
    if told_of := sorted(set(seen.by_kind) & set(params.telling)):
        return advice(
            f"{told}; of {', '.join(told_of)} one is worth a look",
            "Find these lines in the service's log by the event `security` and their kind. Whoever causes them signs "
            "with the webhook secret, or got in: if it was not you, rotate it (docs/security-events.md).",
            **evidence,
        )
    if seen.events >= params.few and seen.events > params.per_webhook * seen.webhooks:
        return advice(
            f"{told}, and {counted(seen.webhooks, 'good webhook')}: more than {params.per_webhook:g} for each",
            "Look through the lines with the event `security` in the service's log: who sends them, and since when.",
            **evidence,
        )
    return passed(
        f"{told}, {counted(seen.webhooks, 'good webhook')}; allowed are fewer than {params.per_minute} a minute",
        **evidence,
    )


def _uncounted(fact: metrics.Watch, params: Suspicion) -> Finding:
    missing = f"{fact.path} shows no {metrics.SECURITY}"
    if params.counted_elsewhere:
        return skipped(f"{missing}; pipeline.yaml says who counts instead: {params.counted_elsewhere}")
    return inconclusive(
        f"{missing}, so attacks on the service are not counted",
        "Count each refused webhook and payment in security_events_total{kind} (docs/security-events.md), or say who "
        "else does: `counted_elsewhere` of this check.",
    )


CHECK = Check(
    name="watch.suspicious_activity",
    promise="After the deploy no more webhooks and payments are refused than an ordinary day brings.",
    rows=("G9", "G13", "G14", "T6", "T15"),
    gather=gather,
    judge=judge,
    params=Suspicion,
    network=True,
    when=When.LIVE,
    why="Forgers try many times before they get in, and each try that is refused can be counted.",
    pci=("10.4.1",),
    looks_at=(
        "How much `security_events_total` of the service grew, by kind, and how many webhooks were good meanwhile. It "
        "reads `contract.metrics` for `watch_for`. Smoke payments are not in the count where the service can tell them "
        "by their reference; an unsigned webhook proves no reference, so forged ones of the pipeline's own proofs "
        "count. They are sent before the watch begins, and the limit is above all of them together."
    ),
    fix=(
        "See in the service's log where the events come from. Block strangers in front of the service. Where your own "
        "customers are refused, mend the release. Set `per_minute` to what your days bring; to deploy a fix while "
        "under attack, answer for the finding under `accepted`."
    ),
    see_it_fail=(
        "Set `with: {per_minute: 1}` for it in pipeline.yaml, run `./inv deploy --watch 60`, and post an unsigned "
        "webhook to the sandbox shop while it watches."
    ),
)
