"""Findings that somebody answers for: when that counts, what is told of it, and what can never be accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import CHECKS
from pipeline import report
from pipeline.accepting import LONGEST_DAYS, State, accept, entry_for
from pipeline.contracts import World
from pipeline.errors import Exit
from pipeline.events import Kind
from pipeline.recommendations import recommendations
from pipeline.spec import Accepted, Spec
from pipeline.story import ACCEPTED
from pipeline.verdict import Finding, Place, Verdict, advice, failed, inconclusive, passed, skipped
from tests.pipeline.rooms import OLD, Yard
from tests.pipeline.standin import FUZZ

TODAY = date(2026, 3, 14)
PLACE = Place("deploy/nginx.conf", 41, "the header")
BAD = replace(failed("the policy is weak", "make it strict", took_ms=4), places=(PLACE,))
UNSURE = inconclusive("nobody answered", "ask again")
BROKEN = Finding(Verdict.ERROR, "the check crashed", "mend the check")


def entry(until: str = "2026-04-30", **members: Any) -> Accepted:
    said = {"check": "gate.one", "reason": "A fix is on its way.", "by": "Thandi Nkosi", "until": until, **members}
    return Accepted.model_validate_json(json.dumps(said))


def test_an_accepted_finding_is_advice_that_tells_everything() -> None:
    """Who answers for it, why and until when stands first; what was found, its fix, evidence and places stay."""
    found = BAD
    finding, acceptance = accept(found, entry(), TODAY)
    assert finding.verdict is Verdict.ADVICE
    first = "accepted until 2026-04-30 by Thandi Nkosi: A fix is on its way; found: "
    assert finding.reason == f"{first}{found.verdict.value} {found.reason}"
    assert (finding.remedy, finding.places) == (found.remedy, found.places)
    assert finding.evidence == {
        **found.evidence,
        "found": {"verdict": found.verdict.value, "reason": found.reason, "remedy": found.remedy},
    }
    assert acceptance is not None and acceptance.counts
    assert acceptance.as_data() == {
        "by": "Thandi Nkosi",
        "reason": "A fix is on its way.",
        "until": "2026-04-30",
        "verdict": found.verdict.value,
        "state": "accepted",
    }


@pytest.mark.parametrize(
    ("until", "state"),
    [
        (TODAY - timedelta(days=1), State.ENDED),
        (TODAY, State.COUNTS),
        (TODAY + timedelta(days=LONGEST_DAYS), State.COUNTS),
        (TODAY + timedelta(days=LONGEST_DAYS + 1), State.TOO_FAR),
        (date.max, State.TOO_FAR),
        (date.min, State.ENDED),
    ],
)
def test_an_acceptance_counts_through_its_last_day_and_not_for_ever(until: date, state: State) -> None:
    """Its last day counts; the day after, or more than 180 days ahead, it blocks and says why."""
    finding, acceptance = accept(BAD, entry(until.isoformat()), TODAY)
    assert acceptance is not None and acceptance.state is state
    assert finding.verdict is (Verdict.ADVICE if state is State.COUNTS else Verdict.FAIL)
    if state is not State.COUNTS:
        assert finding.reason.startswith("the policy is weak; ")
        assert until.isoformat() in finding.reason and "Thandi Nkosi" in finding.reason
        assert ("its acceptance" in finding.reason) is (state is State.ENDED)
        assert (finding.remedy, finding.evidence, finding.places) == (BAD.remedy, BAD.evidence, BAD.places)


def test_a_day_that_does_not_exist_accepts_nothing() -> None:
    """The 30th of February never comes, so nothing waits for it."""
    finding, acceptance = accept(BAD, entry("2026-02-30"), TODAY)
    assert finding.verdict is Verdict.FAIL and "no such day" in finding.reason
    assert acceptance is not None and acceptance.state is State.NO_DAY


@pytest.mark.parametrize("unknown", [BROKEN, UNSURE])
def test_what_was_not_judged_is_never_accepted(unknown: Finding) -> None:
    """A check that crashed or could not measure has found nothing that anybody could answer for (I4)."""
    finding, acceptance = accept(unknown, entry(), TODAY)
    assert finding.verdict is unknown.verdict and "only what was found is" in finding.reason
    assert acceptance is not None and acceptance.state is State.NEVER


@pytest.mark.parametrize("found", [passed("all is well"), advice("look", "at it"), skipped("no page there")])
def test_what_promotes_needs_nobody_to_answer(found: Finding) -> None:
    """A check that does not block is left as it is, and its acceptance is told to be not needed."""
    finding, acceptance = accept(found, entry("2020-01-01"), TODAY)
    assert finding is found
    assert acceptance is not None and acceptance.state is State.NOT_NEEDED


@given(st.sampled_from(list(Verdict)), st.text(max_size=12), st.dates())
@FUZZ
def test_only_failures_within_their_days_ever_promote(verdict: Verdict, until: str, today: date) -> None:
    """Whatever day is written, nothing but a valid one turns a finding that blocks into one that does not."""
    written = entry().model_copy(update={"until": until})
    finding, acceptance = accept(Finding(verdict, "found", "mend"), written, today)
    assert acceptance is not None
    if finding.verdict.promotes and not verdict.promotes:
        assert verdict is Verdict.FAIL
        assert today <= date.fromisoformat(until) <= today + timedelta(days=LONGEST_DAYS)


def test_an_acceptance_is_for_its_environments() -> None:
    """`only` keeps an acceptance out of the other environments."""
    everywhere, here = entry(), entry(check="gate.two", only=["staging"])
    assert entry_for("gate.one", "production", [here, everywhere]) is everywhere
    assert entry_for("gate.two", "staging", [everywhere, here]) is here
    assert entry_for("gate.two", "production", [everywhere, here]) is None


def test_leaks_and_signatures_may_not_be_accepted() -> None:
    """The checks of leaks, of forged webhooks and of what keeps paid orders whole say of themselves that nobody may."""
    whole = {"enrolment.active_once", "enrolment.needs_payment", "payments.reconciled"}
    whole |= {"artifact.as_built", "health.ready", "payment.refuses_wrong_amount"}
    whole |= {"webhook.arrives", "webhook.duplicate_is_harmless"}
    named = {name for name in CHECKS if name.startswith(("leaks.", "webhook.refuses_", "sign_offs."))}
    assert [name for name in sorted(named | whole) if CHECKS[name].acceptable] == []
    assert {"webhook.refuses_unsigned", "webhook.refuses_wrong_signature", "webhook.refuses_tampered"} <= named
    assert CHECKS["pages.headers_safe"].acceptable


# ---- in a run ----------------------------------------------------------------------------------------------


def yard(folder: Path, *entries: Accepted) -> Yard:
    made = Yard(folder)
    made.verified(OLD)
    made.spec = Spec(**{**dict(made.spec), "accepted": entries})
    return made


def ahead(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


async def test_a_run_goes_on_with_an_accepted_finding_and_says_so_everywhere(tmp_path: Path) -> None:
    """The deploy is done; journal, page, Markdown, JUnit and JSON all tell who answers for what, until when."""
    made = yard(tmp_path, entry(ahead(30)))
    made.says = {"gate.one": BAD}
    assert (await made.deploy()).exit is Exit.DONE
    (told,) = [one for one in made.told(Kind.FINDING) if one["check"] == "gate.one"]
    assert told["verdict"] == "ADVICE" and told["accepted"]["state"] == "accepted"
    assert told["accepted"]["verdict"] == "FAIL" and told["evidence"]["found"]["reason"] == "the policy is weak"
    built = report.build(made.entries())
    assert [finding.mark for finding in built.accepted] == [ACCEPTED] and built.recommendations == ()
    assert built.answers.todo == ("Nothing now. Read the accepted findings (1).",)
    paths = report.write(built, tmp_path / "report")
    for path in (paths.html, paths.markdown, paths.json, paths.junit, paths.sarif):
        text = path.read_text()
        assert "Thandi Nkosi" in text and ahead(30) in text and "the policy is weak" in text, path
    assert "<failure" not in paths.junit.read_text() and "<system-out>" in paths.junit.read_text()
    first = recommendations("production", made.entries())[0]
    assert first == f"gate.one, accepted by Thandi Nkosi: mend it before {ahead(30)} is over. make it strict."


@pytest.mark.parametrize(
    ("accepted", "found", "said"),
    [
        (entry(ahead(-1)), BAD, "its acceptance by Thandi Nkosi ended on"),
        (entry(ahead(LONGEST_DAYS + 2)), BAD, "at most 180 days do"),
        (entry(ahead(30)), BROKEN, "only what was found is"),
        (entry(ahead(30), check="gate.two"), BAD, "the policy is weak"),
        (entry(ahead(30), only=["production"]), BAD, "the policy is weak"),
    ],
)
async def test_a_run_is_refused_where_the_acceptance_does_not_count(
    tmp_path: Path, accepted: Accepted, found: Finding, said: str
) -> None:
    """Ended, too far away, an error, another check or another environment: the gate blocks and nothing is changed."""
    made = yard(tmp_path, accepted)
    made.says = {"gate.one": found}
    outcome = await made.deploy()
    assert outcome.exit is Exit.REFUSED and said in outcome.summary
    assert not made.told(Kind.CHECKPOINT_ARMED)


async def test_a_crash_is_not_accepted(tmp_path: Path) -> None:
    """A check that raises blocks although somebody answers for what it finds."""

    async def crash(_world: World) -> Finding:
        raise KeyError("header")

    made = yard(tmp_path, entry(ahead(30)))
    made.says = {"gate.one": crash}
    assert (await made.deploy()).exit is Exit.REFUSED
    (told,) = [one for one in made.told(Kind.FINDING) if one["check"] == "gate.one"]
    assert told["verdict"] == "ERROR" and told["accepted"]["state"] == "never for what was not judged"


async def test_a_check_that_may_not_be_accepted_blocks_whatever_the_file_says(tmp_path: Path) -> None:
    """The runner asks the check itself, not only the loader."""
    made = yard(tmp_path, entry(ahead(30)))
    made.checks["gate.one"] = replace(made.checks["gate.one"], acceptable=False)
    made.says = {"gate.one": BAD}
    assert (await made.deploy()).exit is Exit.REFUSED
    (told,) = [one for one in made.told(Kind.FINDING) if one["check"] == "gate.one"]
    assert told["verdict"] == "FAIL" and "accepted" not in told


async def test_a_proof_after_the_switch_may_be_accepted_too(tmp_path: Path) -> None:
    """A proof that somebody answers for does not take the release back; without the entry it does."""
    for accepted, code in (((entry(ahead(30), check="proof.one"),), Exit.DONE), ((), Exit.RESTORED)):
        made = yard(tmp_path / str(int(code)), *accepted)
        made.says = {"proof.one": lambda world: _fails_on(world, BAD)}
        assert (await made.deploy()).exit is code


async def _fails_on(world: World, finding: Finding) -> Finding:
    return passed("as it should be") if world.run.release == OLD else finding


async def test_an_entry_that_is_not_needed_any_more_is_told(tmp_path: Path) -> None:
    """When the check passes, report and recommendations ask to take the entry out."""
    made = yard(tmp_path, entry(ahead(30)))
    assert (await made.deploy()).exit is Exit.DONE
    built = report.build(made.entries())
    (finding,) = built.accepted
    assert finding.verdict is Verdict.PASS and finding.accepted is not None
    assert finding.accepted.state is State.NOT_NEEDED
    for text in (report.as_html(built), report.as_markdown(built)):
        assert "not needed any more" in text
    assert recommendations("staging", made.entries())[0].startswith("gate.one passes: take its entry out")
