"""What a run will do, as a value: made from a spec, printed by `./inv plan`, compared by digest when a run resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.acts import ACTS, Act, Said
from pipeline.contracts import Check
from pipeline.names import step_name
from pipeline.spec import STAGES, ActStep, CheckStep, NoParams, RunStep, Spec, Step

FINISH = "finish"
"""The stage every deploy ends with: the release becomes `verified`, and what nothing can go back to is removed."""


@dataclass(frozen=True)
class PlannedStep:
    """One step. `limit` in s; `does` is what a person calls it: `check settings.valid`, `run npm ci`."""

    stage: str
    name: str
    kind: Literal["check", "run", "act"]
    does: str
    limit: float
    way_back: str
    retries: int = 0
    needs: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    plugin: str = ""
    params: BaseModel = field(default_factory=NoParams)
    argv: tuple[str, ...] = ()
    shell: bool = False
    cwd: str = "."
    pass_settings: bool = False
    network: bool = False


@dataclass(frozen=True)
class PlannedStage:
    name: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True)
class Plan:
    verb: str
    environment: str
    service: str
    stages: tuple[PlannedStage, ...]

    def stage(self, name: str) -> PlannedStage:
        """The stage of that name; an empty one where the spec has none."""
        return next((stage for stage in self.stages if stage.name == name), PlannedStage(name, ()))

    def as_data(self) -> dict[str, Any]:
        """The plan as JSON values, for `plan --json`, the journal and the report."""
        return {
            "verb": self.verb,
            "environment": self.environment,
            "service": self.service,
            "stages": [
                {
                    "name": stage.name,
                    "steps": [
                        {
                            "name": step.name,
                            "does": step.does,
                            "with": step.params.model_dump(mode="json"),
                            "limit_s": step.limit,
                            "needs": list(step.needs),
                            "retries": step.retries,
                            "checkpoints": list(step.checkpoints),
                            "way_back": step.way_back,
                        }
                        for step in stage.steps
                    ],
                }
                for stage in self.stages
            ],
        }

    def digest(self) -> str:
        """SHA-256 of what will be done: equal digests mean the same steps in the same order, whatever their limits."""
        commands = [
            [list(step.argv), step.shell, step.cwd, step.pass_settings] for stage in self.stages for step in stage.steps
        ]
        data = self.as_data()
        for step in (step for stage in data["stages"] for step in stage["steps"]):
            del step["limit_s"]
        return hashlib.sha256(json.dumps([data, commands], sort_keys=True).encode()).hexdigest()


def make(
    spec: Spec,
    environment: str,
    checks: Mapping[str, Check],
    *,
    verb: str,
    stages: Sequence[str] = STAGES,
    offline: bool = False,
    watch: float | None = None,
) -> Plan:
    """The plan of `verb` in `environment`, which must be one of the spec's. Pure.

    `stages` are those that the verb runs; `offline` leaves out the checks that need the network, and what needs them.
    `watch` (s) replaces the environment's `watch_for`, which every step of the stage `watch` has beyond its own limit.
    """
    watch_for = spec.environments[environment].watch_for if watch is None else watch
    planned = []
    for name in stages:
        steps = [_planned(spec, name, step, checks) for step in spec.steps(name) if _is_for(step, environment)]
        if offline:
            steps = _without_network(steps)
        if name == "watch":
            steps = [replace(step, limit=step.limit + watch_for) for step in steps]
        if steps:
            planned.append(PlannedStage(name, tuple(steps)))
    if verb == "deploy":
        planned.append(PlannedStage(FINISH, (_planned(spec, FINISH, ActStep(act="release.verify"), checks),)))
    return Plan(verb, environment, spec.service, tuple(planned))


def of_checks(
    spec: Spec, environment: str, checks: Mapping[str, Check], steps: Sequence[CheckStep], *, verb: str
) -> Plan:
    """The plan of a verb that asks its own checks of what is live, whether pipeline.yaml names them or not. Pure."""
    stage = PlannedStage("prove", tuple(_planned(spec, "prove", step, checks) for step in steps))
    return Plan(verb, environment, spec.service, (stage,))


def _without_network(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    """The steps that ask no network, without those that need one that does."""
    left_out = {step.name for step in steps if step.network}
    while more := {step.name for step in steps if left_out & set(step.needs)} - left_out:
        left_out |= more
    return [step for step in steps if step.name not in left_out]


def _is_for(step: Step, environment: str) -> bool:
    return step.only is None or environment in step.only


def _planned(spec: Spec, stage: str, step: Step, checks: Mapping[str, Check]) -> PlannedStep:
    common: dict[str, Any] = {
        "stage": stage,
        "name": step_name(step),
        "limit": step.timeout,
        "retries": step.retries,
        "needs": step.needs,
    }
    match step:
        case CheckStep():
            check = checks[step.check]
            return PlannedStep(
                **common,
                kind="check",
                does=f"check {step.check}",
                plugin=step.check,
                params=check.params.model_validate(dict(step.params), strict=False),
                network=check.network,
                way_back="changes nothing",
            )
        case RunStep():
            return PlannedStep(
                **common,
                kind="run",
                does="run " + " ".join(step.run),
                argv=step.run,
                shell=step.shell,
                cwd=step.cwd,
                pass_settings=step.pass_settings,
                way_back="changes nothing that serves",
            )
        case ActStep():
            act = ACTS[step.act]
            said = act.said(spec)
            return PlannedStep(
                **{**common, "limit": step.timeout + said.takes},
                kind="act",
                does=f"act {step.act}",
                plugin=step.act,
                params=act.params.model_validate(dict(step.params), strict=False),
                checkpoints=step.checkpoints,
                argv=said.argv,
                way_back=_way_back(step, act, said),
            )


def _way_back(step: ActStep, act: Act, said: Said) -> str:
    """What pipeline.yaml says of it comes first: it may be that there is none."""
    restored = ", ".join(name for name in reversed(step.checkpoints) if name != said.of)
    told = [said.way_back] if said.way_back else []
    told += [f"restores {restored}"] if restored else [] if told else [act.way_back]
    return "; ".join(told)
