"""What speaks against pages, gathered into one finding: the worst decides, pages with one fault share a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.verdict import Finding, Verdict, passed

_TOLD = 8
_PAGES_TOLD = 3


@dataclass(frozen=True)
class Problem:
    """`where` is a page or file; `verdict` is FAIL, INCONCLUSIVE or ADVICE; `what`: what was found and is allowed."""

    verdict: Verdict
    where: str
    what: str
    fix: str


def verdict_of(
    problems: Iterable[Problem], unread: Iterable[str], fine: str, evidence: Mapping[str, object], asked: str = ""
) -> Finding:
    """FAIL before INCONCLUSIVE before ADVICE before PASS with the reason `fine`; `unread` is what was not judged.

    `asked` says what was sent, what came back, and in how many ms; it ends every reason.
    """
    asked = f" ({asked})" if asked else ""
    found = [*problems, *(Problem(Verdict.INCONCLUSIVE, "", f"not judged: {what}", _UNREAD_FIX) for what in unread)]
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ADVICE):
        if worst := [problem for problem in found if problem.verdict is verdict]:
            reason, remedy = _told(worst)
            return Finding(verdict, reason + asked, remedy, {**evidence, "problems": [_line(p) for p in found][:50]})
    return passed(fine + asked, **evidence)


_UNREAD_FIX = "Make these pages answer, or name the right ones under `contract:`."


def _told(problems: list[Problem]) -> tuple[str, str]:
    where: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        where.setdefault((problem.what, problem.fix), []).append(problem.where)
    lines = [f"{_places(places)}{what}" for (what, _), places in where.items()]
    more = f"; and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
    fixes = list(dict.fromkeys(fix for _, fix in where))
    return "; ".join(lines[:_TOLD]) + more, " ".join(fixes[:_TOLD])


def _places(places: list[str]) -> str:
    distinct = list(dict.fromkeys(place for place in places if place))
    more = f" and {len(distinct) - _PAGES_TOLD} more" if len(distinct) > _PAGES_TOLD else ""
    return f"{', '.join(distinct[:_PAGES_TOLD])}{more}: " if distinct else ""


def _line(problem: Problem) -> str:
    return f"{problem.verdict} {problem.where}: {problem.what}"


def shown(text: str, most: int = 80) -> str:
    """A stranger's text for a finding: quoted, printable, short."""
    cut = text[:most] + ("..." if len(text) > most else "")
    return ascii(cut)
