"""The plan: what a run will do, as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import plan as plans
from pipeline.plan import FINISH, Plan, PlannedStage, PlannedStep
from pipeline.spec import STAGES, Database, NoParams
from tests.pipeline.rooms import ALL, STORY, Yard


def planned(folder: Path, story: Mapping[str, Any] = STORY, environment: str = "staging", **options: Any) -> Plan:
    yard = Yard(folder, {**STORY, **story})
    checks = {name: replace(check, network=name.startswith(("net.", "proof."))) for name, check in yard.checks.items()}
    return plans.make(yard.spec, environment, checks, **{"verb": "deploy", **options})


def names(plan: Plan) -> dict[str, list[str]]:
    return {stage.name: [step.name for step in stage.steps] for stage in plan.stages}


def test_plan_of_a_deploy(tmp_path: Path) -> None:
    """A deploy runs every stage of the spec in its order, and at last verifies the release."""
    assert names(planned(tmp_path)) == {
        "gates": ["gate.one", "gate.two"],
        "deploy": ["release.stage", "release.switch"],
        "prove": ["proof.one", "proof.two"],
        "watch": ["watch.one"],
        FINISH: ["release.verify"],
    }


def test_every_kind_of_step_as_a_value(tmp_path: Path) -> None:
    """A step is planned with its limit in seconds, its needs and what would take it back."""
    build = {"run": ["npm", "run", "build"], "name": "build", "timeout": "10 min", "retries": 1, "pass_settings": True}
    plan = planned(tmp_path, {"build": [build]})
    assert plan.stage("build").steps == (
        PlannedStep(
            stage="build",
            name="build",
            kind="run",
            does="run npm run build",
            limit=600.0,
            way_back="changes nothing that serves",
            retries=1,
            argv=("npm", "run", "build"),
            pass_settings=True,
        ),
    )
    stage, switch = plan.stage("deploy").steps
    assert stage.way_back == "the staged folder is marked bad and never a rollback target"
    assert switch == PlannedStep(
        stage="deploy",
        name="release.switch",
        kind="act",
        does="act release.switch",
        limit=60.0,
        way_back="restores test-mode, payments, maintenance, settings, release",
        needs=("release.stage",),
        checkpoints=tuple(ALL),
        plugin="release.switch",
        params=NoParams(),
    )
    assert plan.stage("gates").steps[0].way_back == "changes nothing"


def test_stage_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """Asking a plan for a stage it has not gives one without steps."""
    assert planned(tmp_path).stage("build") == PlannedStage("build", ())


def test_only_leaves_out_steps_of_other_environments(tmp_path: Path) -> None:
    """A step that names environments is planned in those; a stage without a step is left out."""
    watch = {"watch": [{"check": "watch.one", "only": ["production"]}]}
    assert "watch" not in names(planned(tmp_path, watch))
    assert "watch" in names(planned(tmp_path, watch, "production"))


def test_needs_are_kept(tmp_path: Path) -> None:
    """What a step needs stands in the plan and in its data."""
    plan = planned(tmp_path, {"watch": [{"check": "a"}, {"check": "b", "needs": ["a"]}]})
    assert [step.needs for step in plan.stage("watch").steps] == [(), ("a",)]
    assert plan.as_data()["stages"][-2]["steps"][1]["needs"] == ["a"]


def test_offline_leaves_out_what_needs_the_network(tmp_path: Path) -> None:
    """`validate --offline` leaves out checks that ask the network, and those that need them, near and far."""
    gates = {
        "gates": [
            {"check": "here"},
            {"check": "net.one"},
            {"check": "after", "needs": ["net.one", "here"]},
            {"check": "later", "needs": ["after"]},
            {"check": "also", "needs": ["here"]},
        ]
    }
    plan = planned(tmp_path, gates, verb="validate", stages=("gates",), offline=True)
    assert names(plan) == {"gates": ["here", "also"]}
    everything = planned(tmp_path, gates, verb="validate", stages=("gates",))
    assert len(everything.stage("gates").steps) == 5


@pytest.mark.parametrize("verb", ["validate", "verify", "rollback"])
def test_only_a_deploy_verifies(tmp_path: Path, verb: str) -> None:
    """No other verb ends with a verified release."""
    assert FINISH not in names(planned(tmp_path, verb=verb))


def test_plan_is_json(tmp_path: Path) -> None:
    """The data of a plan survives JSON as it is."""
    data = planned(tmp_path).as_data()
    assert json.loads(json.dumps(data)) == data


def test_same_spec_gives_the_same_digest(tmp_path: Path) -> None:
    """Two plans of one spec are equal and have one digest."""
    assert planned(tmp_path) == planned(tmp_path)
    assert planned(tmp_path).digest() == planned(tmp_path).digest()


RUN = {"run": ["make", "all"], "name": "build"}


def test_a_longer_limit_or_watch_is_the_same_plan(tmp_path: Path) -> None:
    """A run that was killed can be resumed with more time: limits are no part of what a plan does."""
    longer = planned(tmp_path, {"build": [{**RUN, "timeout": "61 s"}]})
    assert longer.digest() == planned(tmp_path, {"build": [RUN]}).digest()


@pytest.mark.parametrize(
    "stages",
    [
        {"build": [RUN], "watch": []},
        {"build": [{**RUN, "retries": 1}]},
        {"build": [{**RUN, "name": "make"}]},
        {"build": [{**RUN, "run": ["make all"]}]},
        {"build": [{**RUN, "run": ["make all"], "shell": True}]},
        {"build": [{**RUN, "cwd": "app"}]},
        {"build": [{**RUN, "pass_settings": True}]},
        {"build": [RUN], "gates": [STORY["gates"][1], STORY["gates"][0]]},
        {"build": [RUN], "prove": [{"check": "proof.one"}, {"check": "proof.two", "needs": ["proof.one"]}]},
    ],
)
def test_whatever_changes_what_is_done_changes_the_digest(tmp_path: Path, stages: Mapping[str, Any]) -> None:
    """No plan that does other things, or in another order, passes for the one a run began with."""
    assert planned(tmp_path, stages).digest() != planned(tmp_path, {"build": [RUN]}).digest()


def test_digest_tells_environments_apart(tmp_path: Path) -> None:
    """The same steps in another environment are another plan."""
    assert planned(tmp_path).digest() != planned(tmp_path, environment="production").digest()


def test_stages_are_those_of_the_spec() -> None:
    """The order of a run is the order of the file."""
    assert STAGES == ("gates", "build", "deploy", "prove", "watch")


MIGRATION: Mapping[str, Any] = {"migrate": ["up"], "version": ["v"], "timeout": "2 min"}
STEPS = [{"act": "release.stage"}, {"act": "database.migrate", "checkpoints": ["release", "database"]}]


def migrating(folder: Path, **members: Any) -> Plan:
    yard = Yard(folder, {**STORY, "deploy": STEPS})
    database = Database.model_validate_json(json.dumps({**MIGRATION, **members}))
    spec = yard.spec.model_copy(update={"database": database})
    return plans.make(spec, "staging", yard.checks, verb="deploy")


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"revert": ["down", "{version}"]}, "reverts the schema: down '{version}'; restores release"),
        ({"irreversible": "It drops a column."}, "HAS NO WAY BACK: It drops a column; restores release"),
    ],
)
def test_a_migration_says_how_it_goes_back(tmp_path: Path, members: Mapping[str, Any], told: str) -> None:
    """The plan says of a migration what takes it back, or first of all that nothing does and why; also as JSON."""
    plan = migrating(tmp_path, **members)
    (step,) = [step for step in plan.as_data()["stages"][1]["steps"] if step["name"] == "database.migrate"]
    assert step["way_back"] == told
    assert step["limit_s"] > 4 * 120


def test_another_migration_is_another_plan(tmp_path: Path) -> None:
    """A run is not resumed with commands for its database that it did not begin with."""
    digests = {
        migrating(tmp_path, revert=["down"]).digest(),
        migrating(tmp_path, revert=["back"]).digest(),
        migrating(tmp_path, revert=["down"], migrate=["forward"]).digest(),
        migrating(tmp_path, irreversible="It drops a column.").digest(),
    }
    assert len(digests) == 4
