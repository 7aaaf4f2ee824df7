"""What an operator is told when the gates have passed: their advice, what is accepted, the recurring duties. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline import story
from pipeline.accepting import State
from pipeline.events import Entry
from pipeline.words import fold, one_line, printable, sentence

_DUTIES = (
    "Review the payment logs every week.",
    "Test the webhook endpoint every month: ./inv verify --env {environment}.",
    "Rotate the credentials every quarter, and review the security configuration then.",
)
_PRODUCTION = (
    "Rehearse the way back before you deploy: ./inv drill --all.",
    "Watch success rate, error log and webhooks for 24 hours after going live.",
)


def recommendations(environment: str, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Sentences, each once: what the findings of a run advise, what is accepted in it, then rows G16 and G21."""
    report = story.build(entries)
    general = (*_PRODUCTION, *_DUTIES) if environment == "production" else _DUTIES
    duties = (line.format(environment=environment) for line in general)
    found = [f"{finding.check}: {finding.remedy or finding.reason}" for finding in report.recommendations]
    told = (sentence(one_line(printable(line))) for line in (*found, *_accepted(report.accepted)))
    return tuple(dict.fromkeys((*told, *duties)))


def as_list(items: Iterable[str], width: int | None = None) -> str:
    """Each behind a dash, folded to a terminal's `width`; one line for each where None."""
    lines: list[str] = []
    for item in items:
        first, *more = fold(item, width - 5) if width else [item]
        lines += [f"  - {first}", *(f"    {line}" for line in more)]
    return "".join(f"{line}\n" for line in lines)


def _accepted(findings: Iterable[story.FindingLine]) -> Iterable[str]:
    for finding in findings:
        one = finding.accepted
        if finding.mark == story.ACCEPTED and one is not None:
            yield f"{finding.check}, accepted by {one.by}: mend it before {one.until} is over. {finding.remedy}"
        elif one is not None and one.state is State.NOT_NEEDED:
            yield f"{finding.check} passes: take its entry out of `accepted` in pipeline.yaml"
