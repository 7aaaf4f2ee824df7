"""The report every run leaves: report.html, .md, .json and .sarif, and junit.xml, made from the journal's entries.

`build` reads the entries and is pure; `write` lays the report out. What the entries do not say is "not recorded".
The journal redacts what it keeps, and nothing but its entries, and what the checks say of themselves, goes into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.accepting import State
from pipeline.charts import TIMELINE_WIDTH, bar, timeline_span, watch_chart
from pipeline.sarif import as_sarif
from pipeline.story import (
    ACCEPTED,
    JUDGED,
    NO_END,
    FindingLine,
    Outcome,
    Phase,
    RestoredLine,
    RunReport,
    ServiceState,
    StepLine,
    build,
)
from pipeline.tables import as_json
from pipeline.whole_file import write_text
from pipeline.words import NOT_RECORDED, instant, one_line, printable, sentence, share, to_the_millisecond, took

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase
    from markupsafe import Markup

    from pipeline.contracts import Check

__all__ = [
    "Paths",
    "RunReport",
    "as_html",
    "as_json_text",
    "as_junit",
    "as_markdown",
    "as_sarif",
    "build",
    "write",
    "write_job_summary",
]

FORMAT = "tollgate-report/1"
TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
_PLACES_SHOWN = 20
_JOB_SUMMARY_LIMIT = 1_000_000
"""GitHub refuses a step summary over 1 MiB altogether."""


@dataclass(frozen=True)
class Paths:
    html: Path
    markdown: Path
    json: Path
    junit: Path
    sarif: Path


def write(report: RunReport, folder: Path, checks: Mapping[str, Check] = MappingProxyType({})) -> Paths:
    """Writes the five files into `folder`, made if missing. A reader sees an old file or a whole new one.

    `checks` is the table of checks, for what report.sarif says of its rules.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("report.html", "report.md", "report.json", "junit.xml", "report.sarif")
    paths = Paths(*(folder / name for name in names))
    write_text(paths.json, as_json_text(report))
    write_text(paths.markdown, as_markdown(report))
    write_text(paths.junit, as_junit(report))
    write_text(paths.sarif, as_sarif(report, checks))
    write_text(paths.html, as_html(report))
    return paths


def write_job_summary(path: Path, report: RunReport) -> None:
    """Appends the report to the file that `$GITHUB_STEP_SUMMARY` names, cut where GitHub would refuse all of it."""
    text = as_markdown(report).encode()
    if len(text) > _JOB_SUMMARY_LIMIT:
        text = (
            text[:_JOB_SUMMARY_LIMIT].decode(errors="ignore").encode() + b"\n\nCut here: see report.md for the rest.\n"
        )
    with path.open("ab") as summary:
        summary.write(text + b"\n")


# ---- JSON ----------------------------------------------------------------------------------------------------


def as_json_text(report: RunReport) -> str:
    """The report as one JSON document; `format` names its shape."""
    fields = as_json(report)
    members = fields if isinstance(fields, dict) else {}
    return json.dumps({"format": FORMAT, **members}, indent=2, ensure_ascii=False, default=as_json) + "\n"


# ---- HTML and Markdown ---------------------------------------------------------------------------------------


def as_html(report: RunReport) -> str:
    """A page that stands alone: no script, no external file, in light or dark, on a screen or on paper."""
    span = timeline_span(report)
    text = (
        _html()
        .get_template("report.html.j2")
        .render(
            **_names(report),
            other_blocking=[finding for finding in report.blocking if finding is not report.first_finding],
            span=span,
            timeline_width=TIMELINE_WIDTH,
            timeline=[
                (stage, bar(stage, span), [(step, bar(step, span)) for step in stage.steps]) for stage in report.stages
            ],
            charts=[(watch, watch_chart(watch)) for watch in report.watch],
            codes={one.reference: _qr_code(one.link) for one in report.smoke if one.for_a_person},
        )
    )
    return _without_empty_lines(text)


def as_markdown(report: RunReport) -> str:
    """The report for a pull request or a job summary."""
    return _markdown().get_template("report.md.j2").render(**_names(report))


@dataclass(frozen=True)
class _Code:
    """A QR code to draw: its side in modules, and the data of one SVG path."""

    side: int
    path: str


def _qr_code(link: str) -> _Code | None:
    from pipeline.qr import as_path, modules

    rows = modules(link)
    return _Code(len(rows), as_path(rows)) if rows else None


def _names(report: RunReport) -> dict[str, Any]:
    return {
        "report": report,
        "ACCEPTED": ACCEPTED,
        "Outcome": Outcome,
        "Phase": Phase,
        "places_shown": _PLACES_SHOWN,
        "ServiceState": ServiceState,
        "State": State,
        "tone": _tone(report),
    }


def _tone(report: RunReport) -> str:
    """good, bad or open: what the top of the page says before a word of it is read."""
    if report.outcome is Outcome.DONE:
        return "good"
    if report.outcome in (Outcome.PERSON_NEEDED, Outcome.BUG) or report.live.state is ServiceState.CLOSED:
        return "bad"
    return "care"


@cache
def _html() -> Environment:
    environment = _environment()
    environment.finalize = _html_text
    return environment


def markdown_template(name: str) -> Template:
    """A template of `templates/` whose every value is escaped for Markdown."""
    return _markdown().get_template(name)


@cache
def _markdown() -> Environment:
    environment = _environment()
    environment.finalize = _markdown_text
    environment.filters.update(code=_markdown_code, places=_markdown_places, spoken=_markdown_spoken)
    return environment


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        took=took,
        instant=instant,
        share=share,
        rand=_rand,
        sentence=sentence,
        recorded=_recorded,
        evidence=_evidence,
        found=_found,
        code_parts=_code_parts,
        breakable=_breakable,
        mark_class=_mark_class,
        to_the_millisecond=to_the_millisecond,
        capitalised=lambda text: text[:1].upper() + text[1:],
    )
    return environment


def _rand(cents: int | None) -> str:
    return NOT_RECORDED if cents is None else f"R {cents // 100}.{cents % 100:02d}"


def _recorded(value: object) -> str:
    return NOT_RECORDED if value is None or value == "" else str(value)


def _evidence(finding: FindingLine) -> list[tuple[str, str]]:
    """What was measured, as names and texts; a series is drawn, not listed."""
    left_out = ("series", "found") if finding.mark == ACCEPTED else ("series",)
    return [(str(name), _value(value)) for name, value in finding.evidence.items() if name not in left_out]


def _found(finding: FindingLine) -> str:
    """What was found before somebody's word made advice of it."""
    found = finding.evidence.get("found")
    counts = finding.accepted is not None and finding.accepted.counts
    return str(found.get("reason")) if counts and isinstance(found, Mapping) else finding.reason


def _value(value: object) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=as_json)


def _code_parts(text: str) -> list[tuple[bool, str]]:
    """The text in pieces, each with whether it stood between backticks: a command to copy."""
    return [(index % 2 == 1, part) for index, part in enumerate(text.split("`")) if part]


def _breakable(name: str) -> Markup:
    """A dotted name that a narrow column may break after its dots and underscores."""
    from markupsafe import Markup, escape

    return Markup("").join(
        escape(part) + Markup("<wbr>") if part in "._" else escape(part) for part in re.split(r"([._])", name) if part
    )


def _mark_class(mark: str) -> str:
    """The colour of a mark; the word itself always stands beside it."""
    if mark in ("PASS", "done"):
        return "good"
    if mark in ("SKIPPED", "skipped"):
        return "quiet"
    if mark in ("ADVICE",):
        return "advice"
    return "care" if mark in (ACCEPTED, "INCONCLUSIVE", "cancelled", NO_END) else "bad"


def _without_empty_lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def _html_text(value: object) -> object:
    """Any value without control characters; what is markup already stays markup."""
    return type(value)(printable(value)) if isinstance(value, str) else value


class _Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")


def _markdown_text(value: object) -> str:
    """Any value as Markdown that shows exactly its characters, on one line."""
    if isinstance(value, _Markdown):
        return value
    text = one_line(printable(str(value))).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def _markdown_code(value: object) -> _Markdown:
    """A value as a code span; the fence is longer than any run of backticks in it."""
    text = one_line(printable(str(value))).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return _Markdown(f"{fence}{padding}{text or ' '}{padding}{fence}")


def _markdown_spoken(text: str) -> _Markdown:
    """A sentence in which what stands between backticks is a command to copy."""
    parts = (_markdown_code(part) if is_code else _spaced(part) for is_code, part in _code_parts(text))
    return _Markdown("".join(parts))


def _spaced(part: str) -> str:
    """Escaped, with the spaces that part it from the commands beside it."""
    return " " * part[0].isspace() + _markdown_text(part) + " " * (part[-1].isspace() and not part.isspace())


def _markdown_places(finding: FindingLine) -> _Markdown:
    """` At FILE:LINE what, ...` for the places of a finding, or nothing."""
    if not finding.places:
        return _Markdown("")
    shown = finding.places[:_PLACES_SHOWN]
    told = [f"{_markdown_code(f'{one.file}:{one.line}')} {_markdown_text(one.what)}".rstrip() for one in shown]
    more = len(finding.places) - len(shown)
    return _Markdown(f" At {', '.join(told)}{f' and {more} more' if more else ''}.")


# ---- JUnit ---------------------------------------------------------------------------------------------------


def as_junit(report: RunReport) -> str:
    """One suite for each stage and one for the way back: FAIL is a failure, what could not be judged an error."""
    from junitparser import JUnitXml, TestSuite

    root = JUnitXml(name=f"tollgate {report.header.verb or 'run'} {report.header.run or NOT_RECORDED}")
    for stage in report.stages:
        name = stage.name if stage.phase is Phase.FORWARD else f"{Phase.WAY_BACK}: {stage.name}"
        suite = TestSuite(name)
        for step in stage.steps:
            suite.add_testcase(_case(name, step))
        root.add_testsuite(suite)
    if report.way_back:
        suite = TestSuite("way back: checkpoints")
        for checkpoint in report.way_back.checkpoints:
            suite.add_testcase(_checkpoint_case(checkpoint))
        root.add_testsuite(suite)
    return _xml(root)


def _xml(root: JUnitXml) -> str:
    root.update_statistics()  # type: ignore[no-untyped-call]
    content: bytes = root.tostring()  # type: ignore[no-untyped-call]
    return content.decode("utf-8")


def _case(suite: str, step: StepLine) -> TestCase:
    from junitparser import Properties, Property, TestCase

    case = TestCase(_xml_text(step.name), classname=_xml_text(suite), time=step.took_s or 0.0)
    told = _properties(step.finding) if step.finding else []
    if told:
        properties = Properties()  # type: ignore[no-untyped-call]
        for name, value in told:
            properties.add_property(Property(name, _xml_text(value)))
        case.append(properties)  # type: ignore[no-untyped-call]
    case.result = [*_result(step)]
    if step.finding and step.finding.accepted and step.mark == step.finding.mark:
        case.system_out = _xml_text(_accepted(step.finding))
    return case


def _result(step: StepLine) -> list[Failure | Error | Skipped]:
    from junitparser import Error, Failure, Skipped

    finding = step.finding
    reason = (finding.reason if finding and step.outcome in JUDGED else step.error) or step.mark
    remedy = (finding.remedy if finding else "") or step.remedy
    result: Failure | Error
    match step.mark:
        case "PASS" | "ADVICE" | "ACCEPTED" | "done":
            return []
        case "SKIPPED" | "skipped" | "cancelled":
            return [Skipped(_xml_text(reason))]
        case "FAIL":
            result = Failure(_xml_text(reason), type_="FAIL")
        case mark:
            result = Error(_xml_text(reason), type_=_xml_text(mark))
    result.text = _xml_text(f"{reason}\nFix: {remedy}" if remedy else reason)
    return [result]


def _properties(finding: FindingLine) -> list[tuple[str, str]]:
    """What a finding is evidence for, and the files and lines it speaks of."""
    lists = {"requirements": finding.rows, "pci_dss": finding.pci}
    told = [(name, ", ".join(values)) for name, values in lists.items() if values]
    return told + [("place", f"{place.file}:{place.line}: {place.what}") for place in finding.places]


def _accepted(finding: FindingLine) -> str:
    """What somebody answers for, and whether it counts."""
    one = finding.accepted
    if one is None or one.counts:
        return finding.reason
    verdict = one.state.value if one.state is State.NOT_NEEDED else f"does not count, {one.state.value}"
    return f"accepted until {one.until} by {one.by}: {one.reason}\nThis acceptance: {verdict}."


def _checkpoint_case(checkpoint: RestoredLine) -> TestCase:
    from junitparser import Error, Failure, TestCase

    case = TestCase(_xml_text(checkpoint.name), classname="way back: checkpoints", time=checkpoint.took_s or 0.0)
    if checkpoint.ok is None:
        case.result = [Error("whether it was restored is not recorded", type_=NOT_RECORDED)]
    elif not checkpoint.ok:
        said = "; ".join(
            part
            for part in (
                checkpoint.error,
                f"found {checkpoint.found}" if checkpoint.found else "",
                f"expected {checkpoint.expected}" if checkpoint.expected else "",
            )
            if part
        )
        case.result = [Failure(_xml_text(said or "not confirmed"), type_="not confirmed")]
    return case


def _xml_text(text: str) -> str:
    """XML has no way to write most control characters; they are left out."""
    return printable(text)
