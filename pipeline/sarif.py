"""A run's findings as SARIF 2.1.0, plain JSON that a code-scanning page can read. Pure.

One rule for each check, one result for each place of a finding that does not pass. What blocks a release is an error
here too, measured or not; advice, and what somebody answers for, is a note.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.story import JUDGED, FindingLine, Outcome, RunReport
from pipeline.verdict import Place, Verdict
from pipeline.words import printable, sentence

if TYPE_CHECKING:
    from pipeline.contracts import Check

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
NOWHERE = Place("pipeline.yaml", 1, "")
"""Where a finding stands that speaks of no file: a result without a location is refused by code scanning."""

_FINGERPRINT = "tollgateFinding/v1"
_LEVELS = {Verdict.ADVICE: "note", Verdict.INCONCLUSIVE: "error", Verdict.ERROR: "error", Verdict.FAIL: "error"}
_PLACES = 100
"""Results of one finding at most; the last one says how many places are left out."""

_TAGS = 20
"""Code scanning keeps no more of a rule's tags."""

_ENDED = (Outcome.DONE, Outcome.REFUSED, Outcome.RESTORED, Outcome.PERSON_NEEDED)


def as_sarif(report: RunReport, checks: Mapping[str, Check]) -> str:
    """The report as one SARIF log. `checks` describe the rules; of a check that is not among them only the name is."""
    asked = dict.fromkeys(finding.check for finding in report.findings)
    rules = {name: index for index, name in enumerate(dict.fromkeys([*checks, *asked]))}
    environment = report.header.environment or "unknown"
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "Tollgate", "rules": [_rule(name, checks.get(name)) for name in rules]}},
        "automationDetails": {"id": f"tollgate/{_segment(environment)}/{_segment(report.header.run or 'unknown')}"},
        "invocations": [_invocation(report)],
        "results": list(_results(report, rules, environment)),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


# ---- rules ---------------------------------------------------------------------------------------------------


def _rule(name: str, check: Check | None) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": _text(name), "defaultConfiguration": {"level": "error"}}
    if check is None:
        return rule
    page = f"docs/checks/{check.name}.md"
    parts = [("Looks at", check.looks_at), ("Fix", check.fix), ("See it fail", check.see_it_fail)]
    told = [(title, text) for title, text in parts if text]
    tags = [*check.rows, *(f"PCI DSS {number}" for number in check.pci)]
    return {
        **rule,
        "shortDescription": {"text": check.promise},
        "fullDescription": {"text": " ".join(part for part in (check.promise, check.why) if part)},
        "help": {
            "text": "\n".join([*(f"{title}: {text}" for title, text in told), f"See {page}."]),
            "markdown": "\n\n".join([*(f"**{title}**: {text}" for title, text in told), f"See `{page}`."]),
        },
        "properties": {
            "tags": tags[:_TAGS],
            "rows": list(check.rows),
            "pci": list(check.pci),
            "acceptable": check.acceptable,
            "precision": "high",
            "problem.severity": "error",
        },
    }


# ---- results -------------------------------------------------------------------------------------------------


def _results(report: RunReport, rules: Mapping[str, int], environment: str) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for finding in report.last_words:
        if finding.verdict not in _LEVELS:
            continue
        places = finding.places or (NOWHERE,)
        for number, place in enumerate(places[:_PLACES], 1):
            left_out = len(places) - _PLACES if number == _PLACES else 0
            identity = json.dumps([environment, finding.phase, finding.check, place.file, place.what])
            seen[identity] += 1
            digest = hashlib.sha256(f"{identity}{seen[identity]}".encode("utf-8", "replace")).hexdigest()
            yield {
                "ruleId": _text(finding.check),
                "ruleIndex": rules[finding.check],
                "level": _LEVELS[finding.verdict],
                "message": {"text": _message(finding, place, left_out)},
                "locations": [_location(place)],
                "partialFingerprints": {_FINGERPRINT: digest},
                **_suppressions(finding),
                "properties": {
                    "verdict": finding.accepted.found.value if finding.accepted else finding.verdict.value,
                    "stage": _text(finding.stage),
                    "step": _text(finding.step),
                    "phase": finding.phase.value,
                    "environment": _text(environment),
                    "rows": [_text(row) for row in finding.rows],
                    "pci": [_text(number) for number in finding.pci],
                },
            }


def _message(finding: FindingLine, place: Place, left_out: int) -> str:
    lines = [
        place.what,
        sentence(finding.reason),
        f"Fix: {finding.remedy}" if finding.remedy else "",
        f"The file is {place.file}." if _uri(place.file) is None else "",
        f"{left_out} further places are in the report." if left_out else "",
    ]
    return _text("\n".join(line for line in lines if line)) or finding.mark


def _location(place: Place) -> dict[str, Any]:
    uri = _uri(place.file)
    where = (uri, max(place.line, 1)) if uri is not None else (NOWHERE.file, NOWHERE.line)
    return {"physicalLocation": {"artifactLocation": {"uri": where[0]}, "region": {"startLine": where[1]}}}


def _uri(file: str) -> str | None:
    """A relative path as a URI reference; None for one that leads out of the folder of pipeline.yaml."""
    path = PurePosixPath(_text(file))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return quote(str(path), safe="/", errors="replace")


def _suppressions(finding: FindingLine) -> dict[str, Any]:
    accepted = finding.accepted
    if accepted is None or not accepted.counts:
        return {}
    why = f"accepted until {accepted.until} by {accepted.by}: {accepted.reason}"
    return {"suppressions": [{"kind": "external", "status": "accepted", "justification": _text(why)}]}


# ---- how the run itself went ---------------------------------------------------------------------------------


def _invocation(report: RunReport) -> dict[str, Any]:
    """A run that did not come to an end, or judged less than it set out to, is not a successful one."""
    notes = list(_notifications(report))
    whole = report.outcome in _ENDED and not any(note["level"] == "error" for note in notes)
    times = {"startTimeUtc": report.header.started, "endTimeUtc": report.header.last_entry}
    return {
        "executionSuccessful": whole,
        **({} if report.exit_code is None else {"exitCode": report.exit_code}),
        **({} if not report.summary else {"exitCodeDescription": _text(report.summary)}),
        **{name: _instant(at) for name, at in times.items() if at is not None},
        "toolExecutionNotifications": notes,
    }


def _notifications(report: RunReport) -> Iterator[dict[str, Any]]:
    """What is no finding at a place: checks that crashed or were skipped, steps that ended without a judgement."""
    for stage in report.stages:
        for step in stage.steps:
            finding = step.finding if step.outcome in (None, *JUDGED) else None
            if finding and finding.verdict in (Verdict.ERROR, Verdict.SKIPPED):
                level = "error" if finding.verdict is Verdict.ERROR else "note"
                said = f"{finding.verdict.value}: {finding.reason}"
            elif finding is None and step.outcome not in ("done", "skipped"):
                level, said = "error", step.error or step.mark
            else:
                continue
            yield {"level": level, "message": {"text": _text(f"{stage.name}: {step.name}: {said}")}}


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _segment(text: str) -> str:
    """A part of a hierarchical name."""
    return quote(_text(text), safe="", errors="replace")


def _text(text: str) -> str:
    return printable(text)
