"""The report: what it says of a run, of any part of a run, and what its five files are."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline import report
from pipeline.charts import watch_chart
from pipeline.events import Entry, Kind
from pipeline.story import Outcome, Phase, RunReport, ServiceState, Watch, WatchPoint
from pipeline.words import NOT_RECORDED, fold, printable, took
from tests.pipeline import runs

NASTY = (
    '<script>alert(1)</script> & "quotes" | `tick` \x1b[31mred\x1b[0m \x00 ]]> ::error:: \u200b\u202eevil *b* '
    "[a](http://x)"
)
VOID = {"meta", "br", "wbr", "rect", "line", "polyline", "circle", "i"}


class Page(HTMLParser):
    """Reads a page strictly: every element that is opened is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID - {"i"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    @property
    def shown(self) -> str:
        return " ".join(self.text.split())


def parsed(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)  # noqa: S314 - our own output


def told(name: str) -> RunReport:
    return report.build(runs.RUNS[name]())


@pytest.fixture(params=list(runs.RUNS))
def entries(request: pytest.FixtureRequest) -> list[Entry]:
    return runs.RUNS[request.param]()


ENDS = [
    ("passing", Outcome.DONE, ServiceState.VERIFIED, runs.RELEASE),
    ("refused", Outcome.REFUSED, ServiceState.UNCHANGED, runs.PREVIOUS),
    ("restored", Outcome.RESTORED, ServiceState.VERIFIED, runs.PREVIOUS),
    ("person needed", Outcome.PERSON_NEEDED, ServiceState.CLOSED, None),
    ("not closed", Outcome.PERSON_NEEDED, ServiceState.NOT_CLOSED, None),
    ("taken over", Outcome.TAKEN_OVER, ServiceState.UNKNOWN, runs.RELEASE),
    ("interrupted", Outcome.INTERRUPTED, ServiceState.UNCHANGED, runs.PREVIOUS),
    ("bug", Outcome.BUG, ServiceState.UNCHANGED, runs.PREVIOUS),
    ("crashed", None, ServiceState.UNKNOWN, runs.RELEASE),
    ("resumed", Outcome.DONE, ServiceState.VERIFIED, runs.RELEASE),
    ("rolled back", Outcome.DONE, ServiceState.VERIFIED, runs.PREVIOUS),
]


@pytest.mark.parametrize(("name", "outcome", "state", "release"), ENDS)
def test_says_how_it_ended(name: str, outcome: Outcome | None, state: ServiceState, release: str | None) -> None:
    """A report says in a fixed vocabulary how the run ended and what is live."""
    built = told(name)
    assert built.outcome is outcome
    assert (built.live.state, built.live.release) == (state, release)
    assert built.answers.headline and built.answers.happened and built.answers.service and built.answers.todo


def test_every_outcome_has_a_run_here() -> None:
    """No way to end is left out of these tests."""
    assert {outcome for _, outcome, _, _ in ENDS} == {*Outcome, None}


def test_every_prefix_builds_and_says_where_the_run_stood(entries: list[Entry]) -> None:
    """A run that was killed after any entry leaves a report, and none but its last entry calls it finished."""
    for part in runs.prefixes(entries):
        built = report.build(part)
        assert built.entries == len(part)
        assert built.head == (part[-1].hash if part else None)
        assert (built.outcome is not None) == any(entry.kind is Kind.RUN_FINISHED for entry in part)
        assert built.answers.todo
        Page(report.as_html(built))


def test_an_unfinished_run_never_claims_that_the_service_is_fine() -> None:
    """Between the first change and the reopening, what serves is called not recorded, never verified or closed."""
    for name in ("passing", "restored", "person needed", "rolled back"):
        entries = runs.RUNS[name]()
        opened = next((i for i, entry in enumerate(entries) if entry.kind is Kind.REOPENED), len(entries) - 1)
        for length in range(1, opened + 1):
            built = report.build(entries[:length])
            assert built.live.state in (ServiceState.UNCHANGED, ServiceState.UNKNOWN), (name, entries[length - 1])


def test_the_first_error_is_what_failed_first() -> None:
    """What fails on the way back does not hide the first error."""
    built = told("person needed")
    assert built.first_error is not None
    assert built.first_error.place == "prove / webhook.refuses_unsigned"
    assert built.first_error.error == runs.UNSIGNED
    assert built.first_finding is built.blocking[0]


def test_proofs_of_the_way_back_stand_apart() -> None:
    """A proof that failed before and held on the way back is told twice, each with its own release's verdict."""
    verdicts = {
        (f.phase, f.check): f.verdict for f in told("restored").findings if f.check == "webhook.refuses_unsigned"
    }
    assert verdicts == {
        (Phase.FORWARD, "webhook.refuses_unsigned"): "FAIL",
        (Phase.WAY_BACK, "webhook.refuses_unsigned"): "PASS",
    }


def test_checkpoints_are_told_in_the_order_they_were_tried() -> None:
    """The way back lists each checkpoint, restored or not or never tried, in the order it happened."""
    back = told("person needed").way_back
    assert back is not None
    assert [(point.name, point.ok) for point in back.checkpoints] == [
        ("maintenance", True),
        ("settings", False),
        ("release", True),
        ("payments", None),
    ]


def test_a_run_put_right_by_another_says_so() -> None:
    """The report of a crashed run names the run that has put it right, and asks nothing more of a person."""
    crashed, rolled_back = runs.crashed(), runs.rolled_back()
    built = report.build([*crashed, *rolled_back])
    assert built.header.run == crashed[0].run
    assert built.superseded_by == rolled_back[0].run
    assert built.entries == len(crashed)
    assert built.answers.todo == (f"Nothing. Run {rolled_back[0].run} has put this one right.",)


def test_retried_step_is_one_line_with_its_attempts() -> None:
    """A step that was tried again is one line that covers all attempts and shows the last verdict."""
    tale = runs.Tale()
    tale.starts()
    tale.check("prove", "health.ready", "FAIL", after=1.0, remedy="wait")
    tale.tell(Kind.STEP_STARTED, 0.0, stage="prove", step="health.ready", does="", limit_s=60.0, attempt=2)
    tale.judged("prove", "health.ready", after=1.0)
    (step,) = report.build(tale.entries).stages[0].steps
    assert (step.attempts, step.mark) == (2, "PASS")
    assert step.took_s == pytest.approx(2.0, abs=0.1)


def test_an_attempt_that_was_tried_again_has_no_last_word() -> None:
    """A run that passed at the second attempt has no first error and nothing that blocks."""
    tale = runs.Tale()
    tale.starts()
    tale.check("prove", "health.ready", "FAIL", reason="answered 503", remedy="wait")
    tale.check("prove", "health.ready")
    tale.ends("done", 0, "live")
    built = report.build(tale.entries)
    assert built.first_error is None and built.blocking == ()
    assert "What went wrong first" not in Page(report.as_html(built)).shown


def test_a_step_that_ends_late_stays_in_its_phase() -> None:
    """Steps run side by side: one that ends after the way back began is still one of the deploy's."""
    tale = runs.Tale()
    tale.starts()
    tale.tell(Kind.STAGE_STARTED, stage="prove")
    tale.begins("prove", "health.ready")
    tale.tell(Kind.WAYBACK_STARTED, why="", release=None, checkpoints=[], of_run=tale.run)
    tale.tell(
        Kind.STEP_FINISHED, stage="prove", step="health.ready", outcome="cancelled", error="", remedy="", took_s=1
    )
    tale.tell(Kind.STAGE_FINISHED, stage="prove", outcome="cancelled", took_s=1)
    tale.found("prove", "health.ready")
    forward, back = report.build(tale.entries).stages
    assert (forward.phase, forward.outcome, forward.steps[0].mark) == (Phase.FORWARD, "cancelled", "cancelled")
    assert (back.phase, back.steps[0].mark) == (Phase.WAY_BACK, "PASS")


def test_a_resumed_run_is_one_story() -> None:
    """A run that was resumed has one beginning, names who resumed it, and leaves out how long it stood still."""
    built = told("resumed")
    assert built.header.started == runs.START and built.header.who == "thandi"
    (again,) = built.header.resumed
    assert again.who == "sipho" and (again.at - runs.START).total_seconds() > 7200
    assert built.took_s is not None and built.took_s < 60
    assert all(stage.outcome == "done" and (stage.took_s or 0) < 60 for stage in built.stages)
    assert [stage.name for stage in built.stages] == ["gates", "build", "deploy", "prove", "finish"]
    (health,) = [step for stage in built.stages for step in stage.steps if step.name == "health.ready"]
    assert (health.mark, health.attempts) == ("PASS", 2) and (health.took_s or 99) < 10
    for text in (Page(report.as_html(built)).shown, report.as_markdown(built)):
        assert re.search("Resumed ?2026-03-14 11:30", text) and "sipho" in text


def test_what_was_not_there_before_is_left_out() -> None:
    """A run that records no last verified release shows no empty place for one."""
    tale = runs.Tale()
    tale.starts("verify", previous=None)
    built = report.build(tale.entries)
    assert "Last verified before" not in Page(report.as_html(built)).shown
    assert "Last verified before" not in report.as_markdown(built)


def test_a_rollback_reaches_its_proofs_on_the_way_back() -> None:
    """The proofs of a rollback run on its way back, and are not called unreached."""
    tale = runs.Tale()
    tale.starts("rollback", plan=runs.plan("verify"))
    tale.tell(Kind.WAYBACK_STARTED, why="asked for", release=runs.PREVIOUS, checkpoints=[], of_run=tale.run)
    assert report.build(tale.entries).not_reached == ("prove",)
    tale.found("prove", "health.ready")
    assert report.build(tale.entries).not_reached == ()


def test_the_way_back_names_the_error_that_stands_above_it() -> None:
    """Where the first error comes up again, in the answers and as the reason of the way back, it is only named."""
    page = Page(report.as_html(told("restored"))).shown
    top, _, rest = page.partition("What went wrong first")
    assert runs.UNSIGNED not in top and "webhook.refuses_unsigned failed; restored and confirmed" in top
    assert "The way back webhook.refuses_unsigned failed. Back to release" in rest


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (0.1, ["0 s", "0.02 s", "0.04 s", "0.06 s", "0.08 s", "0.1 s"]),
        (5.012, ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s"]),
        (31.7, ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]),
        (1200.4, ["0 min", "5 min", "10 min", "15 min", "20 min"]),
        (7300, ["0 min", "30 min", "60 min", "90 min", "120 min"]),
        (90_000, ["0 h", "6 h", "12 h", "18 h", "24 h"]),
    ],
)
def test_the_time_axis_of_a_watch_has_round_times(seconds: float, labels: list[str]) -> None:
    """However long a watch was, its axis is marked at round times within it."""
    points = (WatchPoint(0, 0, 0, 0), WatchPoint(seconds, 9, 1, 0))
    chart = watch_chart(Watch("watch.payment_success", points, 0.95, 0.9))
    assert [tick.label for tick in chart.x_ticks] == labels
    assert chart.x_ticks[0].at == chart.left and all(tick.at <= chart.right for tick in chart.x_ticks)


def test_a_cancelled_check_keeps_no_verdict() -> None:
    """A check that was cancelled after it had judged once is called cancelled."""
    tale = runs.Tale()
    tale.starts()
    tale.begins("prove", "health.ready")
    tale.found("prove", "health.ready")
    tale.tell(
        Kind.STEP_FINISHED, stage="prove", step="health.ready", outcome="cancelled", error="", remedy="", took_s=1
    )
    assert report.build(tale.entries).stages[0].steps[0].mark == "cancelled"


def test_entries_with_missing_or_odd_data_still_build() -> None:
    """An entry without the members it should have is not recorded rather than a crash."""
    odd_lists = {"places": [1, {}, {"line": "x"}], "pci": [None, "6.x", 7], "rows": [3], "accepted": {"verdict": 1}}
    odd_types = {"verdict": 7, "evidence": [], "took_s": "long", "checkpoints": 5, "plan": [], "mismatches": [1]}
    for odd in ({}, odd_types, odd_lists, {"places": 3, "pci": "6.2", "rows": {}, "accepted": [1], "verdict": "FAIL"}):
        tale = runs.Tale()
        for kind in Kind:
            tale.tell(kind, **odd)
        built = report.build(tale.entries)
        assert built.outcome is None
        assert NOT_RECORDED in Page(report.as_html(built)).shown
        parsed(report.as_junit(built))
        report.as_markdown(built)
        json.loads(report.as_json_text(built))
        json.loads(report.as_sarif(built, {}))


def test_page_stands_alone(entries: list[Entry]) -> None:
    """The page names nothing outside itself, runs no script, and says so to the browser."""
    html = report.as_html(report.build(entries))
    page = Page(html)
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.elements:
        assert not {"src", "href", "srcset", "action", "xlink:href"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "url(" not in html and "@import" not in html
    policy = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and str(policy[0]).startswith("default-src 'none'")


def test_page_answers_at_the_top(entries: list[Entry]) -> None:
    """What happened, whether the service is fine and what to do stand before anything else."""
    built = report.build(entries)
    page = Page(report.as_html(built))
    top = page.shown.split("What must I do?")[0]
    assert built.answers.headline in top
    assert "What happened" in top and "Is the service fine now?" in top
    assert [tag for tag, _ in page.elements].count("h1") == 1


def test_page_is_accessible(entries: list[Entry]) -> None:
    """Charts have a text, table headings a scope, the page a language and a title."""
    page = Page(report.as_html(report.build(entries)))
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
        if tag == "th":
            assert attributes.get("scope"), attributes
    assert ("html", {"lang": "en"}) in page.elements
    assert "title" in {tag for tag, _ in page.elements}


def test_every_remedy_is_in_every_file(entries: list[Entry], tmp_path: Path) -> None:
    """No finding loses its fix on the way to a file a person or a machine reads."""
    built = report.build(entries)
    paths = report.write(built, tmp_path)
    page = Page(paths.html.read_text()).shown
    markdown = re.sub(r"\\(.)", r"\1", paths.markdown.read_text())
    junit = "".join(parsed(paths.junit.read_text()).itertext())
    for finding in (*built.blocking, *built.recommendations):
        assert finding.remedy
        assert finding.remedy in page and finding.remedy in markdown
        assert finding.verdict == "ADVICE" or finding.remedy in junit
    assert json.loads(paths.json.read_text())["format"] == report.FORMAT


def test_watch_is_drawn_with_its_thresholds() -> None:
    """The chart of the watch shows the share over time and the lines it is held against, in words too."""
    page = Page(report.as_html(told("passing")))
    labels = [str(a.get("aria-label")) for tag, a in page.elements if tag == "svg" and a.get("aria-label")]
    assert len(labels) == 1
    assert "94.2% at the end" in labels[0] and "target 95%" in labels[0] and "alert 90%" in labels[0]
    (line,) = [a for tag, a in page.elements if tag == "polyline"]
    assert len(str(line["points"]).split()) == 10  # of 11 readings the first has no payment yet


def test_watch_without_thresholds_or_payments_invents_none() -> None:
    """Thresholds that are not recorded are not drawn, and a watch without payments has no line."""
    for series in ([{"t_s": 0, "success": 0, "failure": 0, "error": 0}], [{}], [{"t_s": "x"}, 5]):
        tale = runs.Tale()
        tale.starts()
        tale.check("watch", "watch.payment_success", "INCONCLUSIVE", remedy="watch longer", evidence={"series": series})
        page = Page(report.as_html(report.build(tale.entries)))
        assert "The thresholds are not recorded." in page.shown
        assert not [a for _, a in page.elements if "limit" in str(a.get("class"))]
        assert [a["points"] for tag, a in page.elements if tag == "polyline"] == [""]


@pytest.mark.parametrize("verdict", ["FAIL", "ADVICE"])
def test_nasty_text_stays_text(verdict: str) -> None:
    """Markup, escapes and control characters in a finding are shown, and do nothing, in every file."""
    tale = runs.Tale()
    tale.starts(reason=NASTY, who=NASTY, service=NASTY)
    more = {
        "places": [{"file": NASTY, "line": 3, "what": NASTY}],
        "pci": [NASTY],
        "accepted": {"by": NASTY, "reason": NASTY, "until": NASTY, "verdict": "FAIL", "state": "accepted"},
    }
    evidence = {NASTY: [NASTY], "found": {"reason": NASTY}}
    tale.check("prove", NASTY, verdict, reason=NASTY, remedy=NASTY, evidence=evidence, rows=[NASTY], **more)
    built = report.build(tale.entries)
    html = report.as_html(built)
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    Page(html)
    assert not {"\x1b", "\x00", "\u202e"} & set(html)
    outside_code = re.sub(r"(`+) .*? \1", "", report.as_markdown(built))
    assert "<script" not in outside_code and "a](http" not in outside_code and "\x1b" not in outside_code
    junit = report.as_junit(built)
    parsed(junit)
    assert "\x1b" not in junit and "\x00" not in junit


ANSWERS = {"by": "Thandi Nkosi", "reason": "The fix comes in May", "until": "2026-04-30"}
FOUND = {"verdict": "FAIL", "reason": "the policy is weak", "remedy": "make it strict"}
PLACES = [{"file": f"src/page_{n}.html", "line": n + 1, "what": f"inline script {n}"} for n in range(30)]


def accepting() -> RunReport:
    """One finding accepted, one whose acceptance has ended, one that passes by now."""
    tale = runs.Tale()
    tale.starts(questionnaire="SAQ A-EP")
    counts = {**ANSWERS, "verdict": "FAIL", "state": "accepted"}
    told = "accepted until 2026-04-30 by Thandi Nkosi: The fix comes in May; found: FAIL the policy is weak"
    tale.check(
        "gates",
        "pages.csp_strict",
        "ADVICE",
        reason=told,
        remedy="make it strict",
        evidence={"found": FOUND, "policy": "self"},
        accepted=counts,
        places=PLACES,
        rows=["G3"],
        pci=["11.6.1", "6.4.3"],
    )
    ended = {**ANSWERS, "until": "2026-03-01", "verdict": "FAIL", "state": "ended"}
    why = "old; its acceptance by Thandi Nkosi ended on 2026-03-01"
    tale.check("gates", "source.reviewed", "FAIL", reason=why, remedy="review it", accepted=ended, pci=["6.2.3"])
    tale.check("gates", "clock.agrees", accepted={**ANSWERS, "verdict": "PASS", "state": "not needed any more"})
    tale.ends("refused", 1, "source.reviewed failed; nothing was changed")
    return report.build(tale.entries)


def test_accepted_findings_have_their_own_section() -> None:
    """Who answers, why, until when and what was found stand together, apart from the recommendations."""
    built = accepting()
    assert [(one.check, one.mark) for one in built.accepted] == [
        ("pages.csp_strict", "ACCEPTED"),
        ("source.reviewed", "FAIL"),
        ("clock.agrees", "PASS"),
    ]
    assert built.recommendations == ()
    page = Page(report.as_html(built)).shown.partition("Accepted findings")[2].partition("Timeline")[0]
    markdown = report.as_markdown(built).partition("## Accepted findings")[2].partition("\n## ")[0]
    for text in (page, markdown):
        assert text.count("Thandi Nkosi") == 3 and text.count("The fix comes in May") == 3
        assert "2026-04-30" in text and "the policy is weak" in text and "make it strict" in text
        assert re.search("2026-03-01.{1,5}(it )?does not count.{1,2} ended", text)
        assert "not needed any more" in text
    assert "Recommendations" not in Page(report.as_html(built)).shown


def test_no_acceptance_no_section() -> None:
    """Where nobody answers for anything, nothing is said of it."""
    built = told("passing")
    assert "Accepted findings" not in report.as_html(built) + report.as_markdown(built)


def test_places_are_shown_and_the_rest_is_counted() -> None:
    """A reader finds the files and lines of a finding on the page, in Markdown and in JUnit, and how many more."""
    built = accepting()
    shown = {"html": Page(report.as_html(built)).shown, "markdown": re.sub(r"\\(.)", r"\1", report.as_markdown(built))}
    for text in shown.values():
        assert "src/page_0.html:1" in text and "inline script 0" in text
        assert "src/page_19.html:20" in text and "src/page_20.html" not in text
        assert "and 10 more" in text
    case = next(c for c in parsed(report.as_junit(built)).iter("testcase") if c.get("name") == "pages.csp_strict")
    told = [(one.get("name"), one.get("value")) for one in case.iter("property")]
    assert ("place", "src/page_29.html:30: inline script 29") in told
    assert ("requirements", "G3") in told and ("pci_dss", "11.6.1, 6.4.3") in told


def test_evidence_is_mapped_to_pci_numbers_and_compliance_is_never_claimed() -> None:
    """Page and Markdown list the numbers in their order, with the questionnaire, and say what they do not claim."""
    built = accepting()
    assert list(built.pci) == ["6.2.3", "6.4.3", "11.6.1"]
    assert [one.check for one in built.pci["6.4.3"]] == ["pages.csp_strict"]
    page, markdown = Page(report.as_html(built)).shown, report.as_markdown(built)
    assert "never claims compliance" in page and "SAQ A-EP" in page
    assert "6.2.3, 6.4.3, 11.6.1" in markdown and "compliance is never claimed" in markdown
    assert "PCI DSS" not in report.as_html(told("passing")) + report.as_markdown(told("passing"))


def test_an_accepted_finding_is_no_failure_in_junit() -> None:
    """JUnit passes the case and carries who answers for it; one whose time has ended is a failure that says so."""
    cases = {case.get("name"): case for case in parsed(report.as_junit(accepting())).iter("testcase")}
    accepted, ended = cases["pages.csp_strict"], cases["source.reviewed"]
    assert accepted.find("failure") is None and accepted.find("error") is None
    assert "accepted until 2026-04-30 by Thandi Nkosi" in str(accepted.findtext("system-out"))
    assert ended.find("failure") is not None
    assert "does not count, ended" in str(ended.findtext("system-out"))
    assert "not needed any more" in str(cases["clock.agrees"].findtext("system-out"))


def test_junit_counts_failures_errors_and_skips() -> None:
    """FAIL is a failure; what could not be judged or has no end is an error; SKIPPED is skipped."""
    root = parsed(report.as_junit(told("refused")))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }
    passing = parsed(report.as_junit(told("passing")))
    skipped = [case.get("name") for case in passing.iter("testcase") if case.find("skipped") is not None]
    assert skipped == ["watch.webhook_time"]
    crashed = parsed(report.as_junit(told("crashed")))
    errors = [case.get("name") for case in crashed.iter("testcase") if case.find("error") is not None]
    assert errors == ["health.ready"]


def test_junit_shows_a_checkpoint_that_was_not_confirmed() -> None:
    """A checkpoint that could not be confirmed is a failure of the way back."""
    root = parsed(report.as_junit(told("person needed")))
    failures = [
        (case.get("classname"), case.get("name")) for case in root.iter("testcase") if case.find("failure") is not None
    ]
    assert ("way back: checkpoints", "settings") in failures


def test_writing_again_replaces_whole_files(tmp_path: Path) -> None:
    """Writing a report again leaves exactly its five files, the new ones."""
    report.write(told("crashed"), tmp_path / "run")
    paths = report.write(told("passing"), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "junit.xml",
        "report.html",
        "report.json",
        "report.md",
        "report.sarif",
    ]
    assert json.loads(paths.json.read_text())["outcome"] == "done"


def test_job_summary_is_appended_and_bounded(tmp_path: Path) -> None:
    """The job summary keeps what other steps wrote, and stays under the size GitHub refuses."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    report.write_job_summary(summary, told("restored"))
    assert summary.read_text().startswith("before\n# Failed, restored and confirmed")
    tale = runs.Tale()
    tale.starts()
    tale.check("prove", "huge", "FAIL", reason="ü" * 3_000_000, remedy="shorten")
    report.write_job_summary(summary, report.build(tale.entries))
    assert summary.stat().st_size < 1024 * 1024
    summary.read_text()


def test_report_names_the_head_of_the_chain() -> None:
    """Page and summary print the hash of the last entry, so that a cut tail of the journal is found."""
    built = told("passing")
    assert built.head and built.head in report.as_html(built) and built.head in report.as_markdown(built)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not recorded"),
        (0, "0.0 s"),
        (0.0123, "12 ms"),
        (0.4, "0.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3600, "1 h 00 min"),
        (5400, "1 h 30 min"),
        (-1, "0.0 s"),
    ],
)
def test_durations_carry_their_unit(seconds: float | None, text: str) -> None:
    """A duration reads with its unit at every size."""
    assert took(seconds) == text


@pytest.mark.parametrize("width", [2, 10, 39])
def test_fold_never_exceeds_its_width(width: int) -> None:
    """Folded text fits, whatever is in it, and loses nothing but white space."""
    for text in ("", "a b", runs.UNSIGNED, "x" * 100, "endpoints.https_on_expected_host", "支付" * 30, "a\n\nb"):
        lines = fold(text, width)
        assert all(len(line) + sum(ord(c) > 0x2E80 for c in line) <= width for line in lines)
        assert "".join("".join(lines).split()) == "".join(text.split())


def test_printable_removes_what_could_forge_a_line() -> None:
    """Terminal escapes, carriage returns and direction marks are gone, text and line breaks stay."""
    assert printable("a\x1b]0;title\x07b\x1b[2Kc\rd\x9b1me\u202ef\ng") == "abcd1mef\ng"


def validated(*failing: str) -> RunReport:
    tale = runs.Tale()
    tale.starts("validate", environment="production", previous=None)
    for name in ("clock.agrees", *failing):
        tale.check("gates", name, "FAIL" if name in failing else "PASS", reason="it is bad", remedy="set A=1\nset B=2")
    if failing:
        tale.tell(Kind.RUN_FAILED, stage="gates", step=failing[0], error=f"{failing[0]}: it is bad", remedy="set A=1")
    tale.ends(
        "refused" if failing else "done", 1 if failing else 0, f"{failing[0]}: it is bad" if failing else "passed"
    )
    return report.build(tale.entries)


def test_a_refused_run_names_every_check_that_did_not_pass() -> None:
    """The first line of a report does not sound as if one mistake were all there is."""
    built = validated("settings.valid", "drill.recent")
    assert built.answers.happened.endswith("2 checks did not pass: settings.valid, drill.recent.")
    assert "did not pass" not in validated("settings.valid").answers.happened
    assert "did not pass" not in told("restored").answers.happened


def test_a_run_that_only_judged_does_not_say_that_nothing_was_ever_verified() -> None:
    """A validation never asks for the last verified release, so it says nothing of it."""
    assert "verified" not in validated().answers.service


def test_a_fix_of_several_lines_keeps_its_lines(tmp_path: Path) -> None:
    """Each line of a remedy is one thing to do: the page keeps them apart."""
    page = report.as_html(validated("settings.valid"))
    assert "set A=1\nset B=2" in page
    assert re.search(r"\.finding p,[^{]*\{[^}]*white-space: pre-line", page)
