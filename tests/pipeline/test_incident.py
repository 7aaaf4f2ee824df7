"""The page an incident leaves: who saw what when, what was restored, which payments, what is left to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import incident
from pipeline.errors import Exit, TargetError
from pipeline.events import Entry, Kind
from pipeline.incident import Incident
from pipeline.verdict import Finding, failed, passed
from tests.pipeline import runs
from tests.pipeline.rooms import NEW, NEXT, OLD, World, Yard

BACK = ("restored", "person needed", "not closed", "rolled back")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


def bad(*releases: str) -> Any:
    async def say(world: World) -> Finding:
        return failed("it does not hold", "mend it") if world.run.release in releases else passed("as it should be")

    return say


def of(entries: Sequence[Entry], run: str | None = None) -> Incident:
    built = incident.build(entries, run or entries[-1].run)
    assert built is not None
    return built


def page(yard: Yard, run: str | None = None) -> str:
    return incident.as_markdown(of(yard.entries(), run))


def at(yard: Yard, kind: Kind, run: str = "run-1") -> Any:
    return next(one.at for one in yard.entries() if one.kind is kind and one.run == run)


# ---- which runs leave one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", runs.RUNS)
def test_every_run_that_went_back_leaves_a_page_and_no_other(name: str) -> None:
    """A run that took a way back leaves an incident; one that changed nothing, or was good, does not."""
    entries = runs.RUNS[name]()
    built = incident.build(entries, entries[0].run)
    assert (built is not None) == any(one.kind is Kind.WAYBACK_STARTED for one in entries)


def test_there_are_runs_of_both_kinds() -> None:
    """The test above can fail both ways."""
    back = {name for name in runs.RUNS if any(one.kind is Kind.WAYBACK_STARTED for one in runs.RUNS[name]())}
    assert set(BACK) <= back < set(runs.RUNS)


# ---- a deploy that was taken back --------------------------------------------------------------------------


async def test_deploy_that_was_taken_back(yard: Yard) -> None:
    """Fault, detection and recovery are the failing finding, the run's first error, and the doors that opened again."""
    yard.says = {"proof.two": bad(NEW)}
    assert (await yard.deploy(NEW)).exit is Exit.RESTORED
    built = of(yard.entries())
    found = next(one.at for one in yard.entries() if one.data.get("verdict") == "FAIL")
    opened = at(yard, Kind.REOPENED)
    assert (built.spans.fault, built.spans.detected, built.spans.recovered) == (
        found,
        at(yard, Kind.RUN_FAILED),
        opened,
    )
    assert built.spans.whole_s == (opened - found).total_seconds()
    assert built.spans.exposed_s is not None
    assert (built.bad, built.spans.found_by, built.recovered) == (NEW, "the run itself", True)
    assert built.first_error is not None and built.first_error.told == "prove / proof.two: it does not hold"
    assert [(one.name, one.ok) for one in built.restored] == [
        (name, True) for name in ("settings", "release", "test-mode", "payments", "maintenance")
    ]
    assert [(one.name, one.verdict) for one in built.proofs] == [("proof.one", "PASS"), ("proof.two", "PASS")]
    text = page(yard)
    assert "2 of 2 proofs were passed by the release that was put back." in text
    assert f"{OLD} serves, manifest" in text
    assert "mend it" in text.partition("## What is left to do")[2]


async def test_timeline_is_in_order_and_tells_the_first_failing_finding(yard: Yard) -> None:
    """The timeline runs forward, begins with the run and ends with its exit code; what passed is left out."""
    yard.says = {"proof.two": bad(NEW)}
    await yard.deploy(NEW)
    moments = of(yard.entries()).timeline
    assert [one.at for one in moments] == sorted(one.at for one in moments)
    told = [one.what for one in moments]
    assert (told[0], told[-1]) == ("deploy began, by thandi", "ended with exit 3, restored")
    order = ["FAIL proof.two: it does not hold", "the run failed in prove / proof.two", f"the way back began, to {OLD}"]
    assert [one for one in told if one in order] == order
    assert not [one for one in told if "as it should be" in one]


async def test_payments_are_told_with_their_amounts(yard: Yard) -> None:
    """A payment whose webhook was delivered again is named with what was paid for it, and needs nothing more."""
    yard.says = {"proof.two": bad(NEW)}
    yard.shop.paid("order-1", activations=1)
    yard.shop.paid("order-2", activations=0)
    yard.shop.payments["order-2"] = replace(yard.shop.payments["order-2"], amount=129900)  # type: ignore[arg-type]
    yard.shop.amounts["order-2"] = 129900
    assert (await yard.deploy(NEW)).exit is Exit.RESTORED
    (one,) = of(yard.entries()).payments
    assert (one.reference, one.cents, one.todo) == ("order-2", 129900, "Nothing.")
    assert "| `order-2` | R 1299.00 | paid, and activated only after" in page(yard)
    assert "2 paid at the gateway, 2 activated, 1 webhook delivered again" in page(yard)


async def test_payments_that_do_not_agree_are_left_to_a_person(yard: Yard) -> None:
    """A payment that is activated and not paid stays closed for a person, who reads what to do with it."""
    yard.says = {"proof.two": bad(NEW)}
    yard.shop.paid("order-3", activations=2, cents=4550)
    yard.shop.amounts["order-3"] = 4550
    assert (await yard.deploy(NEW)).exit is Exit.PERSON_NEEDED
    built = of(yard.entries())
    (one,) = built.payments
    assert (one.reference, one.cents) == ("order-3", 4550)
    assert "Take the extra activations back" in one.todo
    assert any(step.startswith("Payment order-3: Take the extra") for step in built.todo)
    assert not built.recovered
    text = page(yard)
    assert "recovery, not yet" in text and "**Back on** | nothing yet" in text
    assert "`./inv rollback --env staging`" in text


async def test_checkpoint_that_was_not_restored_is_told(yard: Yard) -> None:
    """What could not be put back is told as such, beside what could."""
    yard.says = {"proof.two": bad(NEW)}
    yard.ground.broken = {f"activate {OLD}": TargetError("it did not start")}
    assert (await yard.deploy(NEW)).exit is Exit.PERSON_NEEDED
    text = page(yard)
    assert "| `release` | **not confirmed**: it did not start |" in text
    assert "| `payments` | not tried |" in text


# ---- rollbacks ---------------------------------------------------------------------------------------------


async def test_rollback_by_hand(yard: Yard) -> None:
    """What only a person saw has no fault on record; detection is the rollback they began, with their reason."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    assert (await yard.rollback(reason="enrolments look wrong")).exit is Exit.DONE
    built = of(yard.entries())
    assert (built.spans.fault, built.spans.detected) == (None, at(yard, Kind.RUN_STARTED, "run-3"))
    assert built.runs == ("run-3",)
    switched = next(one.at for one in yard.entries() if one.run == "run-2" and one.data.get("state") == "live")
    assert built.spans.exposed_s == (at(yard, Kind.PAYMENTS_CLOSED, "run-3") - switched).total_seconds()
    text = page(yard)
    assert "| **Reason given** | enrolments look wrong. |" in text
    assert "| fault, not recorded |" in text
    assert f"Find out what was wrong with {NEXT}" in text


async def test_rollback_that_fails_first_has_its_own_first_error(yard: Yard) -> None:
    """Where nothing had failed before a rollback, what it could not restore is the first error."""
    await yard.deploy(NEW)
    yard.ground.broken = {f"activate {OLD}": TargetError("it did not start")}
    assert (await yard.rollback()).exit is Exit.PERSON_NEEDED
    error = of(yard.entries()).first_error
    assert error is not None and error.told == "way back / release: release NOT restored: it did not start"


async def test_rollback_tells_the_story_of_the_runs_that_it_puts_right(yard: Yard) -> None:
    """A deploy that ended with 4, a rollback that did too, and the one that mended it are one incident."""
    yard.says = {"proof.two": failed("it does not hold", "mend it")}
    assert (await yard.deploy(NEW)).exit is Exit.PERSON_NEEDED
    assert (await yard.rollback()).exit is Exit.PERSON_NEEDED
    yard.says = {}
    assert (await yard.rollback()).exit is Exit.DONE
    built = of(yard.entries())
    assert built.runs == ("run-1", "run-2", "run-3")
    assert built.spans.detected == at(yard, Kind.RUN_FAILED)
    assert built.spans.recovered == at(yard, Kind.REOPENED, "run-3")
    assert (built.bad, built.first_error is not None) == (NEW, True)
    assert {one.run for one in built.timeline} == set(built.runs)
    assert incident.build(yard.entries(), "run-1") != built


async def test_run_that_was_killed_is_told_to_its_last_entry(yard: Yard) -> None:
    """Of a killed run the page says where its record ends; a person found it, for no run did."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    assert (await yard.rollback()).exit is Exit.DONE
    built = of(yard.entries())
    assert [one.what for one in built.timeline if one.run == "run-1"][-1] == "the record of this run ends here"
    assert (built.spans.found_by, built.bad) == ("a person, who began a rollback", NEW)


# ---- whatever is on record ---------------------------------------------------------------------------------


def test_retried_step_counts_from_its_first_failure() -> None:
    """The fault began when the step that never passed was first seen failing, not at its last attempt."""
    tale = runs.Tale()
    tale.starts()
    tale.found("prove", "health.ready", "FAIL", reason="503")
    tale.found("prove", "health.ready")
    tale.found("prove", "payment.initialises", "FAIL", reason="500")
    began = tale.at
    tale.found("prove", "payment.initialises", "FAIL", reason="500")
    tale.tell(Kind.WAYBACK_STARTED, why="", release=runs.PREVIOUS, checkpoints=[], of_run=tale.run)
    assert of(tale.entries).spans.fault == began


def test_clock_that_jumped_back_gives_no_seconds() -> None:
    """Seconds that cannot be are not told."""
    entries = runs.RUNS["restored"]()
    jumped = [replace(one, at=one.at - timedelta(hours=1)) if one.kind is Kind.REOPENED else one for one in entries]
    spans = of(jumped).spans
    assert (spans.to_recovery_s, spans.whole_s) == (None, None)


@pytest.mark.parametrize("name", BACK)
def test_any_prefix_gives_a_page(name: str) -> None:
    """A run that was killed on its way back leaves a page as well, and nothing in it is guessed."""
    entries = runs.RUNS[name]()
    first = next(n for n, one in enumerate(entries) if one.kind is Kind.WAYBACK_STARTED)
    for end in range(first + 1, len(entries) + 1):
        text = incident.as_markdown(of(entries[:end]))
        ended = any(one.kind is Kind.REOPENED for one in entries[:end])
        assert ("recovery, not yet" in text) != ended


def test_hostile_text_stays_text() -> None:
    """What a service said cannot break the page's tables, or make a link or markup of itself."""
    tale = runs.Tale()
    tale.starts(reason="<script>x</script> | [a](b)\n| c")
    tale.tell(Kind.RUN_FAILED, stage="prove", step="x", error="a | b\n# c `d`", remedy="")
    tale.tell(Kind.WAYBACK_STARTED, why="", release=None, checkpoints=[], of_run=tale.run)
    text = incident.as_markdown(of(tale.entries))
    assert "<script>" not in text and "[a](b)" not in text
    assert "a \\| b \\# c" in text


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = (
    "verb",
    "of_run",
    "checkpoints",
    "mismatches",
    "repaired",
    "cents",
    "ok",
    "verdict",
    "release",
    "state",
    "how",
)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.dictionaries(st.sampled_from(MEMBERS), ANY, max_size=4)), max_size=8)
)
def test_any_record_gives_a_page(told: list[tuple[Kind, dict[str, Any]]]) -> None:
    """However odd a record is, its incident is a page and no exception."""
    tale = runs.Tale()
    tale.tell(Kind.WAYBACK_STARTED)
    for kind, data in told:
        tale.tell(kind, **{key: value for key, value in data.items() if key not in ("kind", "after")})
    assert incident.as_markdown(of(tale.entries)).startswith("# Incident")
