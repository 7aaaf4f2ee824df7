"""The gates over credentials of other days and of other environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from checks import credentials_differ_between_environments, credentials_rotated
from checks.credentials_rotated import Quarter
from checks.facts import rotation
from pipeline.contracts import PastFinding, World
from pipeline.secrets import Secret
from pipeline.verdict import Finding, Verdict
from tests.checks.production import GOOD, days_ago, environments, found, production, remembering
from tests.checks.worlds import SPEC, ask, random_text, world
from tests.pipeline.standin import FUZZ

ROTATED = credentials_rotated.CHECK
DIFFER = credentials_differ_between_environments.CHECK
KEY, SECRET, WEBHOOK = "VITE_IKHOKHA_API_KEY", "VITE_IKHOKHA_API_SECRET", "VITE_IKHOKHA_WEBHOOK_SECRET"


# ---- credentials.rotated ------------------------------------------------------------------------------------


def record(base: World, finding: Finding, days: float) -> PastFinding:
    """What a run so many days ago put on record."""
    return found(ROTATED.name, finding.verdict, days_ago(base, days), finding.evidence)


def holding(root: Path, key: str | Secret, secret: str | Secret, environment: str = "production") -> World:
    """An environment with another key and another secret, which signs both ways."""
    return production(
        root,
        None,
        environment,
        VITE_IKHOKHA_API_KEY=key,
        VITE_IKHOKHA_API_SECRET=secret,
        VITE_IKHOKHA_WEBHOOK_SECRET=secret,
    )


def as_of(base: World, days: float) -> World:
    """The same world, so many days later, with the same settings."""

    class Later:
        def __getattr__(self, name: str) -> Any:
            return getattr(base.clock, name)

        def now(self) -> Any:
            return days_ago(base, -days)

    return replace(base, clock=Later())


async def test_the_first_sight_is_no_age(tmp_path: Path) -> None:
    """With nothing on record an age begins today: the finding advises to declare it, and later runs read the record."""
    made = production(tmp_path)
    finding = await ask(ROTATED, made)
    assert (finding.verdict, f"{KEY}: seen for the first time today" in finding.reason) == (Verdict.ADVICE, True)
    assert "issued" in finding.remedy
    credentials = finding.evidence["credentials"]
    assert isinstance(credentials, Mapping)
    assert set(credentials) == {KEY, SECRET, WEBHOOK}
    assert all(
        entry["fingerprint"] in {s.fingerprint() for s in made.settings.secrets()} for entry in credentials.values()
    )
    assert finding.evidence["done_at"] == min(entry["first_seen"] for entry in credentials.values())


@pytest.mark.parametrize(
    ("days", "verdict", "word"),
    [
        (0.5, Verdict.PASS, "0 days ago"),
        (79, Verdict.PASS, "79 days ago"),
        (81, Verdict.ADVICE, "92 days is the limit"),
        (93, Verdict.FAIL, "at most 92 days are allowed"),
    ],
)
async def test_a_credential_ages_from_its_first_sight(tmp_path: Path, days: float, verdict: Verdict, word: str) -> None:
    """A run's own record, read by a later run, gives the age; past a quarter it blocks."""
    made = production(tmp_path)
    first = await ask(ROTATED, made)
    later = as_of(remembering(made, production=[record(made, first, 0)]), days)
    finding = await ask(ROTATED, later)
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding
    assert finding.evidence["done_at"] == first.evidence["done_at"]


async def test_a_record_is_handed_on_through_refusals(tmp_path: Path) -> None:
    """A refused credential stays as old as it is: each finding repeats the first sight, and the earliest counts."""
    made = production(tmp_path)
    first = await ask(ROTATED, made)
    old = as_of(remembering(made, production=[record(made, first, 0)]), 100)
    refused = await ask(ROTATED, old)
    assert refused.verdict is Verdict.FAIL
    only_last = as_of(remembering(made, production=[record(old, refused, 0)]), 101)
    assert (await ask(ROTATED, only_last)).evidence["done_at"] == first.evidence["done_at"]


async def test_a_new_value_is_young_and_a_new_name_is_not(tmp_path: Path) -> None:
    """Replacing the value starts a new age; moving the old value to another variable does not."""
    made = production(tmp_path)
    past = [record(made, await ask(ROTATED, made), 0)]
    new = Secret(random_text())
    fresh = holding(tmp_path, new, new)
    assert (await ask(ROTATED, as_of(remembering(fresh, production=past), 93))).verdict is Verdict.PASS
    moved = holding(tmp_path, GOOD[SECRET], new)
    finding = await ask(ROTATED, as_of(remembering(moved, production=past), 93))
    assert (finding.verdict, finding.reason.startswith(f"{KEY}: first seen")) == (Verdict.FAIL, True)


@pytest.mark.parametrize(
    ("issued", "verdict", "word"),
    [
        (93.5, Verdict.FAIL, "issued on"),
        (85, Verdict.ADVICE, "issued on"),
        (40, Verdict.PASS, "issued on"),
        (5, Verdict.PASS, "first seen on"),
        (-3, Verdict.FAIL, "in the future"),
    ],
)
async def test_the_earlier_of_record_and_declaration_counts(
    tmp_path: Path, issued: float, verdict: Verdict, word: str
) -> None:
    """A declared day makes a credential older, never younger; one in the future is a mistake."""
    made = production(tmp_path)
    made = as_of(remembering(made, production=[record(made, await ask(ROTATED, made), 0)]), 20)
    day = f"{days_ago(made, issued):%Y-%m-%d}"
    finding = await ask(ROTATED, made, issued=dict.fromkeys((KEY, SECRET, WEBHOOK), day))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_a_declared_day_can_be_corrected(tmp_path: Path) -> None:
    """A day that was declared wrong leaves nothing on record once it is right."""
    made = production(tmp_path)
    wrong = await ask(ROTATED, made, issued={KEY: "2020-01-01"})
    assert wrong.verdict is Verdict.FAIL
    mended = as_of(remembering(made, production=[record(made, wrong, 0)]), 1)
    finding = await ask(ROTATED, mended)
    assert (finding.verdict, "1 day ago" in finding.reason) == (Verdict.PASS, True)


async def test_a_declaration_for_no_credential_is_a_mistake(tmp_path: Path) -> None:
    """A misspelt name under `issued` would declare nothing."""
    finding = await ask(ROTATED, production(tmp_path), issued={"VITE_IKHOKHA_API_SECRT": "2026-01-01"})
    assert (finding.verdict, f"did you mean {SECRET}?" in finding.remedy) == (Verdict.FAIL, True)


@pytest.mark.parametrize("value", ["short-Zq8-value", "abcabcabcabcabcabcab", "mysecretkey12345"])
async def test_what_can_be_guessed_does_not_go_on_record(tmp_path: Path, value: str) -> None:
    """The fingerprint of a weak value would confirm a guess: it is left out, and the age is not known."""
    made = production(tmp_path, VITE_IKHOKHA_API_KEY=Secret(value))
    finding = await ask(ROTATED, made)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert KEY not in str(finding.evidence)
    assert Secret(value).fingerprint() not in repr(finding)
    assert "done_at" not in finding.evidence
    day = f"{days_ago(made, 10):%Y-%m-%d}"
    declared = await ask(ROTATED, made, issued={KEY: day, SECRET: day, WEBHOOK: day})
    assert declared.verdict is Verdict.PASS
    assert Secret(value).fingerprint() not in repr(declared)


async def test_the_sandbox_is_advised(tmp_path: Path) -> None:
    """Old credentials of the sandbox open nothing: a demo kept for months still deploys."""
    made = world(tmp_path, values=GOOD)
    past = [record(made, await ask(ROTATED, made), 0)]
    finding = await ask(ROTATED, as_of(remembering(made, sandbox=past), 200))
    assert (finding.verdict, "settings.env" in finding.remedy) == (Verdict.ADVICE, True)


async def test_no_credential_has_no_age(tmp_path: Path) -> None:
    """Nothing to judge is not a pass."""
    assert (await ask(ROTATED, world(tmp_path, values={"A": "b"}))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "params", [{"issued": {KEY: "2026-02-30"}}, {"issued": {KEY: "soon"}}, {"max_age": "10 d", "advise_after": "11 d"}]
)
def test_parameters_that_cannot_be_meant_are_refused(params: Mapping[str, Any]) -> None:
    """A day that no calendar has, and a warning after the limit, are mistakes of pipeline.yaml."""
    with pytest.raises(ValidationError):
        Quarter(**params)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=12)
    | st.just("deadbe0f")
    | st.just("2026-01-01T00:00"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["credentials", "fingerprint", "first_seen", KEY]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(FUZZ, max_examples=80)
@given(st.lists(st.dictionaries(st.sampled_from(["credentials", "other"]), _JSON, max_size=2), max_size=3))
def test_any_record_is_read(evidence: Sequence[Mapping[str, Any]]) -> None:
    """No evidence of an earlier version, whatever its shape, makes reading the record raise."""
    now = production(Path("/nonexistent")).clock.now()
    past = [PastFinding(now, "run", ROTATED.name, Verdict.PASS, one) for one in evidence]
    seen = rotation.first_seen(past)
    last = rotation.in_use(past)
    assert all(instant <= now for instant in seen.values())
    assert set(last[1] if last else ()) <= set(seen)


# ---- credentials.differ_between_environments ----------------------------------------------------------------


def dotenv(root: Path, name: str, **values: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}='{value}'\n" for key, value in values.items()))
    path.chmod(0o600)


def value_of(name: str) -> str:
    value = GOOD[name]
    return value.reveal() if isinstance(value, Secret) else value


async def test_nothing_to_compare_with_is_no_pass(tmp_path: Path) -> None:
    """Where no other environment left anything here nothing was compared."""
    finding = await ask(DIFFER, production(tmp_path))
    assert (finding.verdict, "nothing to compare with" in finding.reason) == (Verdict.SKIPPED, True)
    alone = production(tmp_path, {"environments": {"production": SPEC["environments"]["production"]}})
    assert (await ask(DIFFER, alone)).verdict is Verdict.SKIPPED


async def test_credentials_of_their_own_pass(tmp_path: Path) -> None:
    """Other values in the files of other environments pass, and the finding names what was compared with."""
    dotenv(tmp_path, ".env.staging", **{KEY: random_text(), SECRET: random_text()})
    finding = await ask(DIFFER, production(tmp_path))
    assert finding.verdict is Verdict.PASS, finding
    assert "staging (.env.staging)" in finding.reason
    assert "nothing of sandbox is on this machine" in finding.reason


@pytest.mark.parametrize("name", [KEY, SECRET, WEBHOOK])
async def test_a_credential_of_another_environments_file_is_refused(tmp_path: Path, name: str) -> None:
    """The value counts, under whatever name the other environment has it; it is not shown."""
    dotenv(tmp_path, ".env.staging", **{WEBHOOK: f" {value_of(name)} "})
    finding = await ask(DIFFER, production(tmp_path))
    assert finding.verdict is Verdict.FAIL
    assert f"also staging's {WEBHOOK} (.env.staging:1)" in finding.reason
    assert name in finding.reason
    assert (KEY in finding.reason) is (name == KEY)
    assert value_of(name) not in repr(finding)


async def test_the_sandbox_shares_nothing(tmp_path: Path) -> None:
    """The sandbox's own file is compared like any other."""
    dotenv(tmp_path, ".tollgate/sandbox/settings.env", **{SECRET: value_of(SECRET)})
    assert (await ask(DIFFER, production(tmp_path))).verdict is Verdict.FAIL
    dotenv(tmp_path, ".env.production", **{SECRET: value_of(SECRET)})
    assert (await ask(DIFFER, world(tmp_path, values=GOOD))).verdict is Verdict.FAIL


async def test_a_fingerprint_on_record_counts(tmp_path: Path) -> None:
    """A credential that staging's last run had, from a source that is not on this machine, is refused here."""
    staging = production(tmp_path, environment="staging")
    past = [record(staging, await ask(ROTATED, staging), 3)]
    finding = await ask(DIFFER, remembering(production(tmp_path), staging=past))
    assert (finding.verdict, f"is also staging's {KEY} (its record of " in finding.reason) == (Verdict.FAIL, True)
    own = holding(tmp_path, Secret(random_text()), Secret(random_text()))
    assert (await ask(DIFFER, remembering(own, staging=past))).verdict is Verdict.PASS


async def test_only_the_last_record_counts(tmp_path: Path) -> None:
    """What staging used before it got credentials of its own is not held against production for ever."""
    shared = production(tmp_path, environment="staging")
    now = holding(tmp_path, Secret(random_text()), Secret(random_text()), "staging")
    past = [record(shared, await ask(ROTATED, one), days) for one, days in ((now, 1), (shared, 3))]
    assert (await ask(DIFFER, remembering(production(tmp_path), staging=past))).verdict is Verdict.PASS


async def test_what_may_be_shared_is_left_out(tmp_path: Path) -> None:
    """A value that opens nothing of an environment's own may be named as shared."""
    dotenv(tmp_path, ".env.staging", **{KEY: value_of(KEY)})
    finding = await ask(DIFFER, production(tmp_path), may_share=(KEY,))
    assert finding.verdict is Verdict.PASS


@pytest.mark.parametrize("content", [b"A='open\n", b"\xff\xfe", b"no equals sign\n"])
async def test_a_file_that_cannot_be_read_whole_is_no_pass(tmp_path: Path, content: bytes) -> None:
    """What was not read was not compared."""
    (tmp_path / ".env.staging").write_bytes(content)
    finding = await ask(DIFFER, production(tmp_path))
    assert (finding.verdict, ".env.staging" in finding.reason) == (Verdict.INCONCLUSIVE, True)


async def test_no_credential_is_compared_with_none(tmp_path: Path) -> None:
    """Nothing to compare is not a pass."""
    assert (await ask(DIFFER, world(tmp_path, values={"A": "b"}))).verdict is Verdict.INCONCLUSIVE


async def test_a_link_to_the_other_environments_file_is_no_file_of_its_own(tmp_path: Path) -> None:
    """Two names of one file give both environments the same credentials."""
    dotenv(tmp_path, ".env.production", **{KEY: value_of(KEY)})
    (tmp_path / ".env.staging").symlink_to(".env.production")
    finding = await ask(DIFFER, production(tmp_path))
    assert (finding.verdict, f"also staging's {KEY}" in finding.reason) == (Verdict.FAIL, True)


async def test_a_file_without_credentials_is_nothing_to_compare_with(tmp_path: Path) -> None:
    """Staging's credentials may come from elsewhere: its file of other settings does not speak for them."""
    dotenv(tmp_path, ".env.staging", VITE_NODE_ENV="staging")
    assert (await ask(DIFFER, production(tmp_path))).verdict is Verdict.SKIPPED


async def test_a_file_that_two_environments_declare_is_told_elsewhere(tmp_path: Path) -> None:
    """One file is not compared with itself: that two read it is what settings.names_fit_environment refuses."""
    dotenv(tmp_path, ".env.production", **{KEY: value_of(KEY)})
    both = environments(staging={"settings_from": [{"dotenv": "./.env.production"}]})
    assert (await ask(DIFFER, production(tmp_path, both))).verdict is Verdict.SKIPPED
