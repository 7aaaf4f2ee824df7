"""What people answer for: sign-offs, recurring duties, and the guide's checklist over what is on record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import CHECKS, duties_current, sign_offs_valid
from checks.checklist import LastFinding, Records, Status, answers
from checks.guide import LINES, TITLES, Line
from pipeline.attestations import Attestation, State, items
from pipeline.contracts import PastFinding, PastRun, World
from pipeline.duties import last_pass, standings
from pipeline.ssh_signatures import Key
from pipeline.verdict import Verdict
from tests.checks.worlds import SPEC as WORLD
from tests.checks.worlds import QuickClock, ask, world
from tests.pipeline.desk import NOW, THANDI, Desk, desk, make_key, needs_ssh

TITLE = "The questionnaire is filled in"
SPEC: Mapping[str, Any] = {
    "sign_offs": {"pci-dss": {"title": TITLE, "valid_for": "90 d"}, "support-told": {"title": "Support knows"}},
    "duties": {
        "review-payment-logs": {"title": "Read the payment logs", "every": "7 d"},
        "rotate-credentials": {"title": "Rotate", "every": "92 d", "proven_by": "health.ready"},
    },
}


class At(QuickClock):
    """The clock stands still."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now

    def now(self) -> datetime:
        return self._now


@dataclass
class Remembered:
    """A record of earlier runs, newest first."""

    found: Mapping[str, Sequence[PastFinding]] = field(default_factory=dict)

    def findings(self, check: str) -> Sequence[PastFinding]:
        return self.found.get(check, ())

    def runs(self, verb: str) -> Sequence[PastRun]:
        return ()


def passing(at: datetime, verdict: Verdict = Verdict.PASS, **evidence: object) -> PastFinding:
    return PastFinding(at, "run-1", "health.ready", verdict, evidence)


def production(
    root: Path, now: datetime = NOW, past: Remembered | None = None, spec: Mapping[str, Any] | None = None
) -> World:
    made = world(root, environment="production", spec=SPEC if spec is None else spec)
    return replace(made, clock=At(now), spec_digest="ab" * 32, past=lambda _environment: past or Remembered())


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder, "thandi"), make_key(folder, "sipho")


@pytest.fixture
def at(tmp_path: Path, keys: tuple[Key, Key]) -> Desk:
    return desk(tmp_path, keys)


def sign(at: Desk, *names: str, **how: Any) -> None:
    known = items(production(at.root).spec)
    for name in names:
        at.write(known[name], shelf=at.shelf(), **how)


# ---- sign-offs ---------------------------------------------------------------------------------------------


@needs_ssh
async def test_sign_offs_in_force_pass_and_are_listed(at: Desk) -> None:
    """When everything is signed for, the finding says by whom and until when."""
    sign(at, "pci-dss", "support-told")
    finding = await ask(sign_offs_valid.CHECK, production(at.root))
    assert finding.verdict is Verdict.PASS, finding
    assert f"pci-dss by {THANDI} until 2027-02-20" in finding.reason
    assert finding.evidence["sign_offs"] == {
        "pci-dss": {"state": "valid", "by": THANDI, "until": "2027-02-20"},
        "support-told": {"state": "valid", "by": THANDI, "until": "2027-11-22"},
    }


@pytest.mark.parametrize(("missing", "verdict"), [("fail", Verdict.FAIL), ("advice", Verdict.ADVICE)])
async def test_a_missing_sign_off_counts_as_the_step_says(tmp_path: Path, missing: str, verdict: Verdict) -> None:
    """Nobody signed: that blocks, or is a recommendation where the step says so; the fix is a command to type."""
    finding = await ask(sign_offs_valid.CHECK, production(tmp_path), missing=missing)
    assert finding.verdict is verdict
    assert "missing: pci-dss, support-told" in finding.reason
    assert "./inv attest ITEM --env production" in finding.remedy
    only = await ask(sign_offs_valid.CHECK, production(tmp_path), missing=missing, items=("pci-dss",))
    assert "./inv attest pci-dss --env production" in only.remedy


@needs_ssh
async def test_one_that_does_not_hold_any_more_always_fails(at: Desk) -> None:
    """Expired, foreign, altered and unsigned records fail even where a missing one is only advice."""
    sign(at, "pci-dss", "support-told")
    later = production(at.root, NOW + timedelta(days=91))
    finding = await ask(sign_offs_valid.CHECK, later, missing="advice")
    assert (finding.verdict, "pci-dss is expired" in finding.reason) == (Verdict.FAIL, True), finding
    assert "support-told is" not in finding.reason
    assert (await ask(sign_offs_valid.CHECK, later, items=("support-told",))).verdict is Verdict.PASS
    sign(at, "pci-dss", key=at.sipho)
    finding = await ask(sign_offs_valid.CHECK, production(at.root), missing="advice")
    assert (finding.verdict, "pci-dss is foreign" in finding.reason) == (Verdict.FAIL, True), finding
    assert "find out who" in finding.remedy
    assert [place.file for place in finding.places] == ["attestations/production/pci-dss.json"]
    at.shelf().signature("pci-dss").unlink()
    finding = await ask(sign_offs_valid.CHECK, production(at.root), missing="advice")
    assert (finding.verdict, "pci-dss is unsigned" in finding.reason) == (Verdict.FAIL, True), finding


@needs_ssh
async def test_a_signature_that_cannot_be_verified_does_not_pass(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ssh-keygen nothing is proven: inconclusive, which blocks."""
    sign(at, "pci-dss", "support-told")
    monkeypatch.setenv("PATH", str(at.root))
    finding = await ask(sign_offs_valid.CHECK, production(at.root), missing="advice")
    assert (finding.verdict, "openssh-client" in finding.remedy) == (Verdict.INCONCLUSIVE, True), finding


async def test_a_spec_without_sign_offs_or_duties_is_inconclusive(tmp_path: Path) -> None:
    """Nothing asked for is nothing answered."""
    for check in (sign_offs_valid.CHECK, duties_current.CHECK):
        assert (await ask(check, production(tmp_path, spec={}))).verdict is Verdict.INCONCLUSIVE


async def test_a_sign_off_that_is_mistyped_in_the_step_is_told(tmp_path: Path) -> None:
    """A step that asks for an item that is not declared fails, with the name that was meant."""
    finding = await ask(sign_offs_valid.CHECK, production(tmp_path), items=("pci-ds",))
    assert (finding.verdict, "Did you mean pci-dss?" in finding.remedy) == (Verdict.FAIL, True), finding


# ---- duties ------------------------------------------------------------------------------------------------


@needs_ssh
async def test_duties_done_in_time_pass(at: Desk) -> None:
    """A signed record and a proving check on record keep the duties current; the next one due is named."""
    sign(at, "review-payment-logs")
    past = Remembered({"health.ready": [passing(NOW - timedelta(days=90))]})
    finding = await ask(duties_current.CHECK, production(at.root, past=past))
    assert (finding.verdict, "rotate-credentials, due on 2026-11-24" in finding.reason) == (Verdict.PASS, True), finding


@needs_ssh
async def test_an_overdue_duty_is_advice_or_a_failure(at: Desk) -> None:
    """What is late is recommended by default and blocks where the step says so; done long ago is not never done."""
    sign(at, "review-payment-logs", "rotate-credentials")
    later = NOW + timedelta(days=8)
    for weight, verdict in (("advice", Verdict.ADVICE), ("fail", Verdict.FAIL)):
        finding = await ask(duties_current.CHECK, production(at.root, later), overdue=weight)
        assert finding.verdict is verdict
        assert "review-payment-logs was due on 2026-11-29" in finding.reason
        assert "./inv duties --env production" in finding.remedy
    assert (await ask(duties_current.CHECK, production(at.root, later), never_done="fail")).verdict is Verdict.ADVICE


async def test_a_duty_never_done_is_told(tmp_path: Path) -> None:
    """A duty without a record counts as its own parameter says."""
    finding = await ask(duties_current.CHECK, production(tmp_path))
    assert finding.verdict is Verdict.ADVICE
    assert "review-payment-logs has no record" in finding.reason
    assert (await ask(duties_current.CHECK, production(tmp_path), never_done="fail")).verdict is Verdict.FAIL


@needs_ssh
async def test_a_duty_whose_record_cannot_be_verified_is_not_passed(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that cannot be looked at proves no work."""
    sign(at, "review-payment-logs", "rotate-credentials")
    monkeypatch.setenv("PATH", str(at.root))
    assert (await ask(duties_current.CHECK, production(at.root))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("found", "days_ago"),
    [
        ([passing(NOW - timedelta(days=3))], 3),
        ([passing(NOW, Verdict.FAIL), passing(NOW - timedelta(days=3))], 3),
        ([passing(NOW, done_at=(NOW - timedelta(days=40)).isoformat())], 40),
        ([passing(NOW - timedelta(days=2), done_at=NOW.isoformat())], 2),
        ([passing(NOW, done_at="2026-11-01"), passing(NOW - timedelta(days=5))], 5),
        ([passing(NOW, Verdict.ADVICE)], None),
        ([passing(NOW, done_at=7)], None),
        ([], None),
    ],
)
def test_work_proven_by_a_check_counts_from_when_it_was_done(found: list[PastFinding], days_ago: int | None) -> None:
    """The last PASS counts, from the instant it gives as evidence but never later than itself."""
    last = last_pass(found, NOW)
    assert last == (None if days_ago is None else NOW - timedelta(days=days_ago))


@given(
    st.none() | st.integers() | st.text(max_size=30) | st.datetimes().map(str) | st.datetimes().map(lambda d: f"{d}Z")
)
@settings(max_examples=100)
def test_any_evidence_of_when_is_read(value: object) -> None:
    """Whatever a finding on record gives as `done_at`, reading it raises nothing and is never in the future of it."""
    last = last_pass([passing(NOW, done_at=value)], NOW)
    assert last is None or last <= NOW


def test_the_later_of_two_records_counts(tmp_path: Path) -> None:
    """A duty proven by a check may be signed for as well; the newer of both decides when it is due."""
    spec = production(tmp_path).spec
    signed = Attestation("rotate-credentials", State.VALID, "", THANDI, NOW - timedelta(days=1), NOW)
    never = Attestation("review-payment-logs", State.MISSING, "no record")
    attested = {one.item: one for one in (signed, never)}
    for days, by in ((2, THANDI), (0, "check health.ready")):
        past = Remembered({"health.ready": [passing(NOW - timedelta(days=days))]})
        found = {one.name: one for one in standings(spec.duties, attested, past, NOW)}
        assert found["rotate-credentials"].by == by
        assert next(iter(found)) == "review-payment-logs"


# ---- the checklist -----------------------------------------------------------------------------------------


def test_the_guide_names_only_what_exists() -> None:
    """Every row of the guide has its lines and its title, and every check that a line counts on exists."""
    rows = [f"G{number}" for number in range(1, 22)]
    assert list(dict.fromkeys(line.row for line in LINES)) == rows
    assert list(TITLES) == rows
    assert {name for line in LINES for name in line.checks} <= set(CHECKS)


def test_every_gate_answers_for_a_line_of_the_guide() -> None:
    """No check of the catalogue is left out of the checklist."""
    named = {name for line in LINES for name in line.checks}
    assert {name for name, check in CHECKS.items() if any(row[0] == "G" for row in check.rows)} - named == set()


def test_every_line_is_answered_by_something() -> None:
    """No line is open for ever: a check, a run, a person or the engine can answer it, in words that fit a line."""
    for line in LINES:
        assert line.checks or line.runs or line.sign_offs or line.duties or line.shown_by, line
        assert re.fullmatch(r"[A-Z].{6,70}[^.]", line.text), line.text
        assert not line.shown_by or re.fullmatch(r".*`\./inv [a-z-]+`.*\.", line.shown_by), line.shown_by


LIVE = Line("G8", "The service is ready", checks=("health.ready",))


def records(root: Path, **changed: Any) -> Records:
    spec = production(root).spec
    signed = {name: Attestation(name, State.MISSING, "no record") for name in items(spec)}
    return replace(
        Records(spec, "production", NOW, frozenset({"health.ready", "target.has_room"}), {}, {}, signed, {}), **changed
    )


def found(verdict: Verdict, days_ago: int = 0, **told: str) -> dict[str, LastFinding]:
    return {"health.ready": LastFinding(verdict, NOW - timedelta(days=days_ago), "run-1", **told)}


@pytest.mark.parametrize(
    ("finding", "status", "word"),
    [
        (found(Verdict.PASS), Status.EVIDENCED, "PASS"),
        (found(Verdict.ADVICE), Status.EVIDENCED, "ADVICE"),
        (found(Verdict.ADVICE, accepted="Sipho", until="2026-11-22"), Status.EVIDENCED, "accepted by Sipho"),
        (found(Verdict.ADVICE, accepted="Sipho", until="2026-11-21"), Status.OPEN, "accepted by Sipho"),
        (found(Verdict.PASS, days_ago=-1), Status.OPEN, "in the future"),
        (found(Verdict.FAIL, reason="it is down", remedy="start it"), Status.OPEN, "FAIL"),
        (found(Verdict.ERROR), Status.OPEN, "ERROR"),
        (found(Verdict.INCONCLUSIVE), Status.OPEN, "INCONCLUSIVE"),
        (found(Verdict.SKIPPED, reason="no shop"), Status.OPEN, "SKIPPED"),
        (found(Verdict.PASS, days_ago=100), Status.OPEN, "nothing of today"),
        ({}, Status.OPEN, "not on record yet"),
    ],
)
def test_a_check_evidences_a_line_while_its_last_finding_promotes(
    tmp_path: Path, finding: dict[str, LastFinding], status: Status, word: str
) -> None:
    """Only a recent finding that promotes and measured something is evidence; else the line says what to type."""
    (answer,) = answers([LIVE], records(tmp_path, findings=finding))
    assert (answer.status, word in answer.parts[0].told) == (status, True), answer
    if status is Status.OPEN:
        assert "./inv verify --env production" in answer.parts[0].do


def test_a_check_that_no_step_asks_leaves_its_line_open(tmp_path: Path) -> None:
    """Evidence of a check that was taken out of the pipeline, or is for other environments, counts no more."""
    other = {"target.has_room": LastFinding(Verdict.PASS, NOW, "run-1")}
    line = Line("G7", "There is room", checks=("target.has_room",))
    (answer,) = answers([line], records(tmp_path, findings=other))
    assert (answer.status, "no stage" in answer.parts[0].told) == (Status.OPEN, True)
    gone = Line("G7", "There is room", checks=("no.such_check",))
    assert answers([gone], records(tmp_path))[0].status is Status.OPEN
    stages = {**WORLD["stages"], "gates": [{"check": "target.has_room", "only": ["staging"]}]}
    staged = production(tmp_path, spec={**SPEC, "stages": stages}).spec
    (answer,) = answers([line], records(tmp_path, findings=other, spec=staged))
    assert (answer.status, "asked in staging, not in production" in answer.parts[0].told) == (Status.OPEN, True)


def test_a_line_holds_only_with_all_that_it_names(tmp_path: Path) -> None:
    """A signature does not make up for a failing check, nor the engine for a missing signature."""
    signed = {"pci-dss": Attestation("pci-dss", State.VALID, "", THANDI, NOW, NOW + timedelta(days=9))}
    attested = {**records(tmp_path).attested, **signed}
    both = Line("G19", "Both", checks=("health.ready",), sign_offs=("pci-dss",))
    assert answers([both], records(tmp_path, attested=attested))[0].status is Status.OPEN
    good = records(tmp_path, attested=attested, findings=found(Verdict.PASS))
    assert answers([both], good)[0].status is Status.SIGNED
    engine = Line("G17", "Ours", shown_by="`./inv report` shows it.")
    assert answers([engine], records(tmp_path))[0].status is Status.EVIDENCED
    assert answers([replace(engine, sign_offs=("support-told",))], good)[0].status is Status.OPEN


@pytest.mark.parametrize("name", ["pci-dss", "nobody-asks-for-it"])
def test_an_unsigned_line_says_how_to_sign(tmp_path: Path, name: str) -> None:
    """Where a person is missing, the line gives the command, and says when pipeline.yaml does not even ask."""
    (answer,) = answers([Line("G19", "Signed", sign_offs=(name,))], records(tmp_path))
    assert (answer.status, f"./inv attest {name} --env production" in answer.parts[0].do) == (Status.OPEN, True)


@pytest.mark.parametrize(("outcome", "days", "status"), [("done", 0, Status.EVIDENCED), ("refused", 0, Status.OPEN)])
def test_a_run_evidences_a_line_when_the_last_one_ended_well(
    tmp_path: Path, outcome: str, days: int, status: Status
) -> None:
    """The last run decides; without one, or with an old one, the line is open."""
    line = Line("G4", "The validator passes", runs=("validate",))
    run = {"validate": PastRun(NOW - timedelta(days=days), "run-1", "validate", outcome)}
    assert answers([line], records(tmp_path, runs=run))[0].status is status
    assert answers([line], records(tmp_path))[0].status is Status.OPEN
    old = {"validate": replace(run["validate"], at=NOW - timedelta(days=100))}
    assert answers([line], records(tmp_path, runs=old))[0].status is Status.OPEN


def test_a_duty_evidences_a_line_until_it_is_due(tmp_path: Path) -> None:
    """The line of a recurring duty is open once its day has passed, or while nobody did it, or lists it."""
    line = Line("G16", "Rotated", duties=("rotate-credentials",))
    made = records(tmp_path)
    for days, status in ((1, Status.EVIDENCED), (93, Status.OPEN)):
        past = Remembered({"health.ready": [passing(NOW - timedelta(days=days))]})
        duties = {one.name: one for one in standings(made.spec.duties, made.attested, past, NOW)}
        (answer,) = answers([line], replace(made, duties=duties))
        assert answer.status is status
        assert status is Status.EVIDENCED or "./inv verify --env production" in answer.parts[0].do
    assert answers([line], made)[0].status is Status.OPEN


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.PASS, Status.EVIDENCED), (Verdict.ADVICE, Status.OPEN)])
@pytest.mark.parametrize("name", ["sign_offs.valid", "duties.current"])
def test_what_is_only_recommended_is_not_evidence_that_nothing_is_missing(
    tmp_path: Path, name: str, verdict: Verdict, status: Status
) -> None:
    """Where a step lets missing signatures or late duties pass, the deploy goes on, the guide's line stays open."""
    made = production(tmp_path, spec={**SPEC, "stages": {**WORLD["stages"], "gates": [{"check": name}]}}).spec
    last = {name: LastFinding(verdict, NOW, "run-1", "0 of 2 in force", "Sign them.")}
    known = replace(records(tmp_path, findings=last), spec=made, checks=frozenset({name}))
    (answer,) = answers([Line("G20", "Every sign-off holds", checks=(name,))], known)
    assert answer.status is status, answer


def test_a_proof_of_the_future_proves_nothing() -> None:
    """A wrong clock once does not make a duty done for years."""
    future, now = passing(NOW + timedelta(days=400)), passing(NOW - timedelta(days=3))
    assert last_pass([future, now], NOW) == now.at
    assert last_pass([future], NOW) is None
