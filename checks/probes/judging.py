"""What probes came to, as one finding: each judged by its own row of the table, the control before all. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from checks.judging import counted
from checks.probes.playing import Late, Run
from checks.probes.probe import REFUSED, TAKEN, Severity, Shown
from checks.probes.results import Result, result
from checks.probes.words import allowed, counts, exchange, status_text
from pipeline.verdict import Finding, Verdict, worst

__all__ = ["allowed", "finding", "result"]

_MISMATCH = (
    "Webhook signature mismatch: compare VITE_IKHOKHA_WEBHOOK_SECRET with the gateway's Application Secret; a 5xx is "
    "in the service's log; after a 429 wait a minute. With contract.webhook_sources, list this machine's address too."
)


def finding(run: Run) -> Finding:
    """One finding over the probes of a table: the worst verdict, each that does not promote by name, worst first."""
    refused = _control_refused(run)
    results = [_unproven(one, refused) for one in map(result, run.played)]
    for late in run.late:
        results = _with_late(late, results)
    evidence = _evidence(run, results)
    if not results:
        return Finding(
            Verdict.INCONCLUSIVE, "no probe was chosen, so nothing was seen", "Name probes that exist.", evidence
        )
    bad = sorted((one for one in results if not one.verdict.promotes), key=_order)
    if run.unread and not bad:
        why = f"the orders could not be read again at the end, so nothing is known of late effects: {run.unread}"
        return Finding(Verdict.INCONCLUSIVE, why, "See the service's log, then run again.", evidence)
    if not bad and any(one.verdict is Verdict.PASS for one in results):
        passed, differ = _passed(results, run), _refusals_differ(results)
        if differ:
            return Finding(Verdict.ADVICE, f"{passed}; {differ}", _ONE_ANSWER, evidence)
        return Finding(Verdict.PASS, passed, evidence=evidence)
    if not bad:
        why = "; ".join(f"{one.probe.name}: {one.reason}" for one in results[:3])
        return Finding(Verdict.SKIPPED, f"no probe could be played ({why})", evidence=evidence)
    verdict = worst(one.verdict for one in bad)
    shown = [one for one in bad if one.verdict is verdict]
    reason = "; ".join(f"{one.probe.name} ({one.probe.severity.value}): {one.reason}" for one in shown[:_MOST_TOLD])
    if len(shown) > _MOST_TOLD:
        reason += f"; and {counted(len(shown) - _MOST_TOLD, 'probe')} more: " + ", ".join(
            one.probe.name for one in shown[_MOST_TOLD:]
        )
    fixes = dict.fromkeys(f"{one.probe.name}: {one.fix}" for one in shown[:_MOST_TOLD] if one.fix)
    head = f"{refused}. " if refused else f"{counted(len(shown), 'probe')} of {len(results)}: "
    return Finding(verdict, head + reason, "\n".join([*([_MISMATCH] if refused else []), *fixes]), evidence)


_MOST_TOLD = 8
_SEVERITIES = list(Severity)
_VERDICTS = list(Verdict)


def _order(one: Result) -> tuple[int, int, str]:
    return -_VERDICTS.index(one.verdict), _SEVERITIES.index(one.probe.severity), one.probe.name


def _control_refused(run: Run) -> str:
    """Why no refusal proves anything, '' where the control was accepted first and last."""
    for reply, when in ((run.first, "before"), (run.last, "after")):
        if not (reply.status in TAKEN or reply.status == 404):
            found = f"the control {when} the probes was not accepted: {exchange(reply)}; allowed: 2xx, 404"
            return f"{found}; so no refusal proves anything"
    return "" if run.alive else "the service does not live after the probes, so no refusal proves anything"


def _unproven(one: Result, refused: str) -> Result:
    """Without the control only what was let in counts."""
    if not refused or one.let_in or one.verdict not in (Verdict.PASS, Verdict.FAIL):
        return one
    return replace(one, verdict=Verdict.INCONCLUSIVE)


def _with_late(late: Late, results: Sequence[Result]) -> list[Result]:
    """An order that moved after all had looked fails one of the probes that used it: one whose message was taken."""
    users = [one for one in results if one.probe.name in late.probes]
    culprit = min(users, key=lambda one: (not _was_taken(one.shown), _SEVERITIES.index(one.probe.severity)))
    among = f"by one of {', '.join(late.probes)}" if len(late.probes) > 1 else "after it had been looked at"
    reason = f"{late.reference} was changed later {among}; found at the end: {late.found}"
    if culprit.verdict is Verdict.FAIL:
        reason = f"{culprit.reason}; {reason}"
    failed = replace(culprit, verdict=Verdict.FAIL, reason=reason, fix=culprit.probe.fix, let_in=True)
    return [failed if one is culprit else one for one in results]


def _was_taken(shown: Shown | None) -> bool:
    return shown is not None and any(reply.status in TAKEN for reply in shown.replies)


def _passed(results: Sequence[Result], run: Run) -> str:
    done = [one for one in results if one.verdict is Verdict.PASS]
    sent = sum(len(one.shown.replies) for one in done if one.shown)
    skips = [one.probe.name for one in results if one.verdict is Verdict.SKIPPED]
    told_skips = f"; skipped, each for the reason in the evidence: {', '.join(skips)}" if skips else ""
    return (
        f"{counted(len(done), 'probe')} ({counted(sent, 'message')}) in {run.took_ms} ms had the right answers and no "
        f"effect they must not have; the correctly signed control was answered {run.first.status} first and "
        f"{run.last.status} last{told_skips}"
    )


_ONE_ANSWER = (
    "Answer every bad signature with one status and one body, and keep what was wrong with it in your own log."
)
_CHANGING = re.compile(rb"[0-9a-f-]{8,}|[0-9]+", re.IGNORECASE)
"""Request IDs and times."""


def _refusals_differ(results: Sequence[Result]) -> str:
    """What a stranger can learn from how bad signatures are refused, '' where all are refused alike."""
    forged = [one.shown for one in results if one.shown and one.probe.name in _BAD_SIGNATURES]
    replies = [reply for shown in forged for reply in shown.replies if reply.status in REFUSED]
    answers = {(reply.status, _CHANGING.sub(b"", reply.body)) for reply in replies}
    if len(answers) < 2:
        return ""
    return f"bad signatures are refused in {len(answers)} different ways, which tells a stranger what was wrong"


_BAD_SIGNATURES = tuple(
    f"webhook.signature-{one}" for one in ("made-up", "of-wrong-secret", "of-other-bytes", "truncated", "upper-case")
)


def _evidence(run: Run, results: Sequence[Result]) -> Mapping[str, object]:
    verdicts = [one.verdict for one in results]
    return {
        "probes": [_row(one) for one in results],
        "counts": {verdict.value: verdicts.count(verdict) for verdict in Verdict if verdict in verdicts},
        "control": [status_text(run.first), status_text(run.last)],
        "took_ms": run.took_ms,
        **({"reference": run.reference, "paylink": run.paylink} if run.reference else {}),
    }


def _row(one: Result) -> Mapping[str, object]:
    shown = one.shown or Shown("", ())
    return {
        "name": one.probe.name,
        "verdict": one.verdict.value,
        "severity": one.probe.severity.value,
        "sent": list(dict.fromkeys(reply.sent for reply in shown.replies)),
        "statuses": counts(shown.replies),
        "allowed": allowed(one.probe),
        "took_ms": max((reply.took_ms for reply in shown.replies), default=0.0),
        "reference": shown.reference,
        "before": dict(shown.before.as_data()) if shown.before else None,
        "after": dict(shown.after.as_data()) if shown.after else None,
        "reason": one.reason,
        "fix": one.fix if not one.verdict.promotes else "",
    }
