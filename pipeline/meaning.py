"""Does a pipeline.yaml make sense: names that exist, steps in an order that can be, settings that fit their types?

It reads the data, not the typed spec, so that a wrong type in one place hides no wrong name in another. What is not
of the right type is passed over here: `pipeline.shape` tells of it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipeline import meaning_way_back as way_back
from pipeline.accepting import REFUSED, day
from pipeline.contracts import When
from pipeline.mistakes import Mistakes
from pipeline.names import Names, listed, nearest
from pipeline.setting_types import SANDBOX, allowed_text, as_text, fits
from pipeline.shape import judge as judge_shape
from pipeline.shape import told
from pipeline.spec import STAGES, Setting
from pipeline.yaml_strict import YamlPath, shown

STAGE_RELEASE = "release.stage"
SWITCH_RELEASE = "release.switch"
_ONCE = (STAGE_RELEASE, SWITCH_RELEASE)
_IN_DEPLOY = (*_ONCE, way_back.MIGRATE, way_back.OLD_WORKS)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = frozenset(
    {
        "RELEASE_ID",
        "DATA_DIR",
        "SHARED_DIR",
        "PUBLIC_URL",
        "PORT",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
    }
)
"""What the target itself puts into a release's environment."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

_PLACEHOLDERS = {"payment": ("{reference}",), "enrolment": ("{reference}",)}
"""The placeholders that paths under `contract` must have; all others have none."""


def judge(data: object, names: Names, mistakes: Mistakes) -> None:
    """Tells every mistake of meaning in the data of a whole file."""
    if not isinstance(data, Mapping):
        return
    environments = tuple(key for key in _mapping(data, "environments") if isinstance(key, str))
    steps = {stage: _steps(data, stage) for stage in STAGES}
    _name(("gateway",), data.get("gateway"), names.gateways, "", mistakes)
    for step in (step for stage in steps.values() for step in stage):
        _names_of(step, names, environments, mistakes)
        _place_of(step, names, mistakes)
        _params_of(step, names, mistakes)
    way_back.sections(data, [step for stage in steps.values() for step in stage], names, mistakes)
    told_of = _ByEnvironment(environments, mistakes)
    for environment in environments:
        for stage, all_steps in steps.items():
            if len(all_steps) == len(_sequence(_mapping(data, "stages"), stage)):
                present = [step for step in all_steps if step.only is None or environment in step.only]
                _order_of(stage, present, all_steps, names, environment, told_of)
    told_of.tell()
    settings = _settings(data, mistakes)
    for environment in environments:
        _environment(environment, _mapping(data, "environments").get(environment), settings, mistakes)
    _placeholders(data, mistakes)
    _accepted(data, names, environments, steps, mistakes)
    for name, duty in _mapping(data, "duties").items():
        proof = duty.get("proven_by") if isinstance(duty, Mapping) else None
        _name(("duties", name, "proven_by"), proof, names.checks, "`./inv checks`", mistakes)
        if name in _mapping(data, "sign_offs"):
            found = f"'{shown(name)}', which is a sign-off too"
            mistakes.add(("duties", name), found, "a name of its own: one signature would count for both", key=True)


# ---- steps --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """A step as far as its data can be read."""

    stage: str
    path: YamlPath
    kind: str
    does: str
    name: str
    needs: tuple[str, ...]
    only: tuple[str, ...] | None
    data: Mapping[str, Any]

    @property
    def switches(self) -> bool:
        return self.kind == "act" and self.does == SWITCH_RELEASE


def _steps(data: Mapping[str, Any], stage: str) -> tuple[_Step, ...]:
    found = []
    for index, item in enumerate(_sequence(_mapping(data, "stages"), stage)):
        kinds = [kind for kind in ("check", "run", "act") if isinstance(item, Mapping) and kind in item]
        if len(kinds) != 1:
            continue
        does = item[kinds[0]]
        if kinds == ["run"]:
            does = does[0] if isinstance(does, list) and does else None
        if not isinstance(does, str):
            continue
        name, only = item.get("name"), item.get("only")
        found.append(
            _Step(
                stage=stage,
                path=("stages", stage, index),
                kind=kinds[0],
                does=does,
                name=name if isinstance(name, str) else does,
                needs=_texts(item.get("needs")),
                only=_texts(only) if isinstance(only, list) else None,
                data=item,
            )
        )
    return tuple(found)


def _names_of(step: _Step, names: Names, environments: Sequence[str], mistakes: Mistakes) -> None:
    if step.kind == "check":
        _name((*step.path, "check"), step.does, names.checks, "`./inv checks`", mistakes)
    if step.kind == "act":
        _name((*step.path, "act"), step.does, names.acts, "", mistakes)
    if environments:
        for index, name in _indexed(step.data.get("only")):
            _name((*step.path, "only", index), name, environments, "", mistakes)


def _name(path: YamlPath, name: object, known: Collection[str], catalogue: str, mistakes: Mistakes) -> None:
    if isinstance(name, str) and name not in known:
        mistakes.add(path, f"'{shown(name)}'", listed(known, catalogue), nearest(name, known))


def _place_of(step: _Step, names: Names, mistakes: Mistakes) -> None:
    """Whether a step may stand in its stage at all."""
    when = names.check_when.get(step.does, When.ANY) if step.kind == "check" else When.ANY
    if when is When.LIVE and step.stage in ("gates", "build"):
        found = f"{step.does} in stage {step.stage}: it asks the running release"
        mistakes.add((*step.path, "check"), found, f"stage prove or watch, after {SWITCH_RELEASE}")
    if when is When.BUILT and step.stage == "gates":
        found = f"{step.does} in stage gates: it reads what the build leaves"
        mistakes.add((*step.path, "check"), found, "stage build or a later one")
    if step.kind == "act" and step.stage == "gates":
        mistakes.add((*step.path, "act"), f"the act {shown(step.does)} in stage gates", "checks: gates change nothing")
    elif step.does in _IN_DEPLOY and step.kind != "run" and step.stage != "deploy":
        mistakes.add((*step.path, step.kind), f"{step.does} in stage {step.stage}", "stage deploy only")
    if step.switches and "release" not in _texts(step.data.get("checkpoints")):
        mistakes.add(
            (*step.path, "checkpoints") if "checkpoints" in step.data else (*step.path, "act"),
            f"{SWITCH_RELEASE} without the checkpoint release: there would be no way back",
            "checkpoints: [release, settings, maintenance, payments], at least release",
        )


def _params_of(step: _Step, names: Names, mistakes: Mistakes) -> None:
    model = {"check": names.checks, "act": names.acts}.get(step.kind, {}).get(step.does)
    params = step.data.get("with", {})
    if model is not None and isinstance(params, Mapping):
        judge_shape(model, params, (*step.path, "with"), mistakes)


# ---- the order of steps, for each environment ---------------------------------------------------------------


class _ByEnvironment:
    """One mistake for all environments it stands in."""

    def __init__(self, environments: Sequence[str], mistakes: Mistakes) -> None:
        self._environments = environments
        self._mistakes = mistakes
        self._found: dict[tuple[YamlPath, str], dict[str, tuple[str, str]]] = defaultdict(dict)

    def add(self, environment: str, path: YamlPath, found: str, allowed: str, suggestion: str = "") -> None:
        self._found[path, found][environment] = (allowed, suggestion)

    def tell(self) -> None:
        for (path, found), where in self._found.items():
            scope = "" if len(where) == len(self._environments) else f" (in {', '.join(map(shown, where))})"
            allowed, suggestion = max(where.values(), key=lambda said: (bool(said[1]), len(said[0])))
            self._mistakes.add(path, found + scope, allowed, suggestion)


def _order_of(
    stage: str,
    present: Sequence[_Step],
    declared: Sequence[_Step],
    names: Names,
    environment: str,
    told_of: _ByEnvironment,
) -> None:
    """Whether the steps of a stage that an environment has can be put in an order, and in one that makes sense."""
    by_name: dict[str, _Step] = {}
    for step in present:
        if step.name in by_name:
            path = (*step.path, "name" if "name" in step.data else step.kind)
            found = f"a second step named '{shown(step.name)}' in stage {stage}"
            told_of.add(environment, path, found, "names of their own: give one of them a `name`")
        by_name.setdefault(step.name, step)
    _needs(stage, present, declared, by_name, environment, told_of)
    circle = _circle(by_name)
    if circle:
        path = (*by_name[circle[0]].path, "needs")
        told_of.add(environment, path, "a circle: " + " needs ".join(map(shown, circle)), "needs that come to an end")
        return
    if stage == "deploy":
        _deploy(present, by_name, environment, told_of)
    for step in present:
        if not all(need in by_name for need in step.needs):
            continue  # told already; what it comes after is not known
        when = names.check_when.get(step.does, When.ANY) if step.kind == "check" else When.ANY
        before = [by_name[name] for name in _before(step, by_name)]
        path = (*step.path, "check")
        builds = any(other.kind == "run" for other in present)
        if when is When.BUILT and stage == "build" and builds and not any(other.kind == "run" for other in before):
            found = f"{step.does} beside the build: steps of a stage run at once, and it needs no `run` step"
            told_of.add(environment, path, found, "`needs:` with the step that builds")
        if when is When.LIVE and stage == "deploy" and not any(other.switches for other in before):
            found = f"{step.does} beside {SWITCH_RELEASE}: it asks the running release"
            told_of.add(environment, path, found, f"stage prove, or needs: [{SWITCH_RELEASE}]")


def _needs(
    stage: str,
    present: Sequence[_Step],
    declared: Sequence[_Step],
    by_name: Mapping[str, _Step],
    environment: str,
    told_of: _ByEnvironment,
) -> None:
    for step in present:
        for index, need in _indexed(step.data.get("needs")):
            if need in by_name:
                continue
            left_out = any(other.name == need for other in declared)
            found = f"'{shown(need)}'" + (", which `only` leaves out" if left_out else "")
            others = [name for name in by_name if name != step.name]
            allowed = f"other steps of stage {stage}: {listed(others)}" if others else "no needs: the step is alone"
            told_of.add(environment, (*step.path, "needs", index), found, allowed, nearest(need, others))


def _deploy(present: Sequence[_Step], by_name: Mapping[str, _Step], environment: str, told_of: _ByEnvironment) -> None:
    way_back.order(
        present,
        STAGE_RELEASE,
        SWITCH_RELEASE,
        lambda step: _before(step, by_name),
        lambda path, found, allowed: told_of.add(environment, path, found, allowed),
    )
    complete = True
    for act in _ONCE:
        doing = [step for step in present if step.kind == "act" and step.does == act]
        complete = complete and len(doing) == 1
        if not doing:
            told_of.add(environment, ("stages", "deploy"), f"no step `act: {act}`", f"`act: {act}` exactly once")
        for step in doing[1:]:
            told_of.add(environment, (*step.path, "act"), f"`act: {act}` again", f"`act: {act}` exactly once")
    if complete:
        switch = next(step for step in present if step.switches)
        if not any(by_name[name].does == STAGE_RELEASE for name in _before(switch, by_name)):
            path = (*switch.path, "needs" if "needs" in switch.data else "act")
            found = f"{SWITCH_RELEASE} beside {STAGE_RELEASE}: steps of a stage run at once"
            told_of.add(environment, path, found, f"needs: [{STAGE_RELEASE}]")


def _before(step: way_back.Step, by_name: Mapping[str, _Step]) -> set[str]:
    """The names of all steps that are done before `step` begins."""
    before: set[str] = set()
    waiting = list(step.needs)
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in before:
            before.add(name)
            waiting.extend(by_name[name].needs)
    return before


def _circle(by_name: Mapping[str, _Step]) -> list[str]:
    """The names along the shortest circle of needs, its first again at the end; empty when there is none."""
    circles = (_way_back(name, by_name) for name in by_name)
    return min((circle for circle in circles if circle), key=len, default=[])


def _way_back(start: str, by_name: Mapping[str, _Step]) -> list[str]:
    """The shortest way from a step along its needs to itself."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for need in by_name[way[-1]].needs:
            if need == start:
                return [*way, start]
            if need in by_name and need not in seen:
                seen.add(need)
                ways.append([*way, need])
    return []


# ---- settings and environments ------------------------------------------------------------------------------


def _settings(data: Mapping[str, Any], mistakes: Mistakes) -> dict[str, Setting | None]:
    """The settings by name, None where one cannot be read; tells of names and defaults that cannot be."""
    settings: dict[str, Setting | None] = {}
    for name, item in _mapping(data, "settings").items():
        path: YamlPath = ("settings", name)
        _variable(path, name, mistakes)
        try:
            settings[name] = setting = Setting.model_validate_json(json.dumps(item))
        except ValidationError:
            settings[name] = None
            continue
        if setting.default is not None and setting.type != "secret" and not fits(setting, as_text(setting.default)):
            # Text is not shown: it may be a secret that somebody gave another type.
            found = "text" if isinstance(setting.default, str) else told(setting.default)
            mistakes.add((*path, "default"), found, allowed_text(setting))
    return settings


def _environment(name: str, data: object, settings: Mapping[str, Setting | None], mistakes: Mistakes) -> None:
    if not isinstance(data, Mapping):
        return
    path: YamlPath = ("environments", name)
    for variable, values in _mapping(data, "allowed").items():
        here = (*path, "allowed", variable)
        if settings and variable not in settings:
            mistakes.add(here, f"'{shown(variable)}'", listed(settings), nearest(variable, settings), key=True)
            continue
        setting = settings.get(variable)
        if setting is not None and setting.type == "secret":
            mistakes.add(here, "allowed values of a secret", "no secret in this file; take the line out", key=True)
            continue
        if isinstance(values, list) and not values:
            mistakes.add(here, "an empty list, which no value can fit", "at least one value", key=True)
        for index, value in _indexed(values):
            is_gateway = setting is not None and setting.type == "url" and value == SANDBOX
            if setting is not None and not is_gateway and not fits(setting, value):
                mistakes.add((*here, index), told(value) if len(value) <= 12 else "text", allowed_text(setting))
    for variable in _mapping(data, "process"):
        here = (*path, "process", variable)
        if variable in settings:
            mistakes.add(here, f"the setting '{shown(variable)}'", "variables that are no settings", key=True)
        else:
            _variable(here, variable, mistakes)
    _notices(path, data, settings, mistakes)


def _notices(
    path: YamlPath, data: Mapping[str, Any], settings: Mapping[str, Setting | None], mistakes: Mistakes
) -> None:
    """Whether each recipient has a name of its own, and an address that the service's process never sees."""
    taken: set[str] = set()
    for index, item in enumerate(_sequence(data, "notices")):
        to, variable = (item.get("to"), item.get("address_from")) if isinstance(item, Mapping) else (None, None)
        here: YamlPath = (*path, "notices", index)
        if isinstance(to, str) and to in taken:
            mistakes.add((*here, "to"), f"'{shown(to)}' again", "a name of its own for each recipient")
        taken.add(str(to))
        if isinstance(variable, str) and (variable in settings or variable in _mapping(data, "process")):
            found = f"'{variable}', which the service's process is given"
            mistakes.add((*here, "address_from"), found, "a variable of its own: the address is for the pipeline alone")


def _variable(path: YamlPath, name: str, mistakes: Mistakes) -> None:
    if name in _OURS:
        mistakes.add(path, f"'{name}', which the target sets itself", "another name", key=True)
    elif not _VARIABLE.fullmatch(name):
        allowed = "the name of an environment variable: letters, digits and `_`, no digit first"
        mistakes.add(path, f"'{shown(name)}'", allowed, key=True)


def _placeholders(data: Mapping[str, Any], mistakes: Mistakes) -> None:
    for key, value in _mapping(data, "contract").items():
        if not isinstance(value, str):
            continue
        needed = _PLACEHOLDERS.get(key, ())
        path: YamlPath = ("contract", key)
        present = re.findall(r"\{[^{}]*\}", value)
        allowed = f"{', '.join(needed)} exactly once" if needed else "a path without placeholders"
        unknown = [placeholder for placeholder in present if placeholder not in needed]
        for placeholder in unknown:
            mistakes.add(path, f"the placeholder {shown(placeholder)}", allowed, nearest(placeholder, needed))
        for placeholder in needed:
            if not unknown and present.count(placeholder) != 1:
                mistakes.add(path, f"{placeholder} {present.count(placeholder)} times", allowed)


# ---- accepted findings --------------------------------------------------------------------------------------


def _accepted(
    data: Mapping[str, Any],
    names: Names,
    environments: Sequence[str],
    steps: Mapping[str, Sequence[_Step]],
    mistakes: Mistakes,
) -> None:
    """Whether each acceptance is of a check that is asked and may be accepted, until a day that exists, and once."""
    asked = {
        (environment, step.does)
        for step in (step for stage in steps.values() for step in stage if step.kind == "check")
        for environment in environments
        if step.only is None or environment in step.only
    }
    told_of = _ByEnvironment(environments, mistakes)
    taken: set[tuple[str, str]] = set()
    for index, item in enumerate(_sequence(data, "accepted")):
        if not isinstance(item, Mapping):
            continue
        path: YamlPath = ("accepted", index)
        check, until, only = item.get("check"), item.get("until"), item.get("only")
        _name((*path, "check"), check, names.checks, "`./inv checks`", mistakes)
        if isinstance(check, str) and check in names.unacceptable:
            mistakes.add(
                (*path, "check"),
                f"'{check}', {REFUSED}",
                "a check whose page in docs/checks/ says that its finding may be accepted",
            )
        if isinstance(until, str) and _DAY.fullmatch(until) and day(until) is None:
            mistakes.add((*path, "until"), f"{until}, which no calendar has", "a day that exists: 2026-02-28")
        for place, name in _indexed(only) if environments else ():
            _name((*path, "only", place), name, environments, "", mistakes)
        its_own = [name for name in environments if not isinstance(only, list) or name in only]
        if not isinstance(check, str):
            continue
        if its_own and check in names.checks and not any((environment, check) in asked for environment in its_own):
            found = f"'{shown(check)}', which no step of {', '.join(map(shown, its_own))} asks"
            mistakes.add((*path, "check"), found, "a check that stands under `stages`; take this entry out")
        for environment in its_own:
            if (environment, check) in taken:
                found = f"'{shown(check)}', which is accepted above already"
                told_of.add(environment, (*path, "check"), found, "each check once for an environment")
            taken.add((environment, check))
    told_of.tell()


# ---- reading what may be of any type ------------------------------------------------------------------------


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _sequence(data: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _indexed(value: object) -> Iterator[tuple[int, str]]:
    if isinstance(value, list):
        yield from ((index, item) for index, item in enumerate(value) if isinstance(item, str))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for _index, text in _indexed(value))
