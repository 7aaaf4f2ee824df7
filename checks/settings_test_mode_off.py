"""settings.test_mode_off: no test mode where real customers pay."""

from __future__ import annotations

from dataclasses import dataclass

from checks.facts.environments import is_production, shown
from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.spec import Frozen
from pipeline.verdict import Finding, advice, failed, passed

TEST_MODE_OFF = "Test mode must be disabled in production"
"""The words of the troubleshooting guide; operators search for them."""


class TestMode(Frozen):
    """Which setting switches test mode."""

    __test__ = False  # a name that pytest would otherwise collect

    setting: str = "VITE_IKHOKHA_TEST_MODE"


@dataclass(frozen=True)
class Mode:
    """`value` is None when the setting is not set; `test_allowed`: the environment lists `true` itself, and by its
    name no real customers pay there."""

    environment: str
    value: str | None
    source: str
    test_allowed: bool


async def gather(world: World, params: TestMode) -> Mode:
    setting = world.settings.values.get(params.setting)
    return Mode(
        environment=world.environment_name,
        value=None if setting is None else "" if isinstance(setting.value, Secret) else setting.value,
        source="no source" if setting is None else setting.source,
        test_allowed="true" in world.environment.allowed.get(params.setting, ())
        and not is_production(world.environment_name),
    )


def judge(mode: Mode, params: TestMode) -> Finding:
    fix = f"set {params.setting}=false"
    found = f"{params.setting} unset" if mode.value is None else f"{params.setting} is {shown(mode.value)}"
    found += f" ({mode.source})" if mode.value is not None else ""
    if mode.value == "false":
        return passed(f"{params.setting} is false ({mode.source})")
    if mode.value == "true" and mode.test_allowed:
        return advice(f"test mode is on in {mode.environment}, which allows it: {found}", f"{fix} before production")
    return failed(f"{TEST_MODE_OFF}: {found} in environment {mode.environment}; allowed: false", fix)


CHECK = Check(
    name="settings.test_mode_off",
    promise="Test mode is off wherever the environment does not allow it.",
    rows=("G2", "G17", "T3", "T4"),
    gather=gather,
    judge=judge,
    params=TestMode,
    why="In test mode a customer gets a course and nobody is paid.",
    pci=("6.5.6",),
    looks_at="The setting that switches test mode, and whether `allowed` of the environment lists `true`. In an "
    "environment that is named for production, `true` is refused whatever `allowed` lists.",
    fix="Set `VITE_IKHOKHA_TEST_MODE=false` in the source that the finding names.",
    see_it_fail="Set `VITE_IKHOKHA_TEST_MODE=true` in the dotenv file of production, then "
    "`./inv validate --env production`.",
    says=(TEST_MODE_OFF,),
)
