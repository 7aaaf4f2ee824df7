"""settings.valid: presence, type, range and value of every setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from checks.facts.credentials import KEY_BAD
from checks.judging import counted
from checks.settings_test_mode_off import TEST_MODE_OFF
from pipeline.contracts import Check, World
from pipeline.settings import Settings
from pipeline.spec import Frozen, Name, Setting
from pipeline.verdict import Finding, advice, failed, inconclusive, passed

GUIDE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "ikhokha": MappingProxyType(
            {
                "VITE_NODE_ENV": "text",
                "VITE_IKHOKHA_API_URL": "url",
                "VITE_IKHOKHA_API_KEY": "secret",
                "VITE_IKHOKHA_API_SECRET": "secret",
                "VITE_IKHOKHA_WEBHOOK_SECRET": "secret",
                "VITE_IKHOKHA_TEST_MODE": "boolean",
                "VITE_IKHOKHA_TIMEOUT": "milliseconds",
                "VITE_IKHOKHA_RETRY_ATTEMPTS": "integer",
                "VITE_IKHOKHA_RETRY_DELAY": "milliseconds",
            }
        )
    }
)
"""By gateway, the settings that the deployment guide requires, and the type that makes a wrong value show."""

NUMBERS = ("milliseconds", "integer")


class Unused(Frozen):
    """Settings of the guide that this service does without; pipeline.yaml need not declare them."""

    unused: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Declared:
    """The settings as resolved, and how pipeline.yaml declares them."""

    environment: str
    gateway: str
    settings: Settings
    declared: Mapping[str, Setting]


@dataclass(frozen=True)
class Mistake:
    name: str
    where: str
    found: str
    allowed: str
    remedy: str


async def gather(world: World, _params: Unused) -> Declared:
    return Declared(world.environment_name, world.spec.gateway, world.settings, world.spec.settings)


def judge(fact: Declared, params: Unused) -> Finding:
    settings = fact.settings
    sources = ", then ".join(settings.sources) or "no source"
    evidence: Mapping[str, object] = {
        "settings": {name: value.source for name, value in sorted(settings.values.items())},
        "sources": list(settings.sources),
    }
    mistakes = [
        *(Mistake(m.name, m.where, m.found, m.allowed, m.remedy) for m in settings.mistakes),
        *undeclared(fact.gateway, fact.declared, params.unused),
    ]
    if mistakes:
        return failed(
            f"{counted(len(mistakes), 'setting')} wrong: "
            + "; ".join(f"{m.name or 'a source'} ({m.where}): found {m.found}, allowed {m.allowed}" for m in mistakes),
            "\n".join(f"{m.name}: {m.remedy}" if m.name else m.remedy for m in mistakes),
            mistakes=[
                {"name": m.name, "where": m.where, "found": m.found, "allowed": m.allowed, "remedy": m.remedy}
                for m in mistakes
            ],
            **evidence,
        )
    if not settings.values:
        return inconclusive(
            f"no setting was found in {sources}; there is nothing to judge",
            "Declare the service's settings in pipeline.yaml and name a source that has them.",
            sources=list(settings.sources),
        )
    doubts = [*_overridden(fact), *_unbounded(fact)]
    if doubts:
        return advice(
            f"{counted(len(settings.values), 'setting')} valid, from {sources}, but "
            + "; ".join(found for found, _ in doubts),
            "\n".join(dict.fromkeys(fix for _, fix in doubts)),
            **evidence,
        )
    return passed(
        f"{counted(len(settings.values), 'setting')} present, of the right type and within range, from {sources}",
        **evidence,
    )


def undeclared(gateway: str, declared: Mapping[str, Setting], unused: Sequence[str] = ()) -> list[Mistake]:
    """What the guide requires and pipeline.yaml does not declare, or declares as another type: it is not judged."""
    mistakes = []
    for name, kind in GUIDE.get(gateway, {}).items():
        setting = declared.get(name)
        if setting is None and name not in unused:
            found, fix = "nothing", f"declare it under `settings:`: {name}: {{type: {kind}}}"
        elif setting is not None and setting.type != kind:
            found, fix = f"type: {setting.type}", f"declare {name} with `type: {kind}`"
        else:
            continue
        mistakes.append(Mistake(name, "settings of pipeline.yaml", found, f"type: {kind}", fix))
    return mistakes


def _overridden(fact: Declared) -> list[tuple[str, str]]:
    """Two sources that disagree: the one that wins may be left over from other work, such as a shell's variables."""
    fix = f"Take away the value that is not meant; ./inv config-check --env {fact.environment} shows which one is used."
    return [(f"{name} is from {v.source}", fix) for name, v in sorted(fact.settings.values.items()) if v.over]


def _unbounded(fact: Declared) -> list[tuple[str, str]]:
    return [
        (f"{name} has no range", f"Give {name} a range under `settings:`: `between: [SMALLEST, LARGEST]`.")
        for name, kind in GUIDE.get(fact.gateway, {}).items()
        if kind in NUMBERS and (setting := fact.declared.get(name)) is not None and setting.between is None
    ]


CHECK = Check(
    name="settings.valid",
    promise="Every setting the guide requires is declared and present, has its type and lies in its range.",
    rows=("G2", "G4", "G5", "G17", "T1", "T2", "T3", "T13", "T20", "T21"),
    gather=gather,
    judge=judge,
    params=Unused,
    why="A service that starts on a wrong setting takes money it cannot account for.",
    looks_at="Every setting that pipeline.yaml declares, as resolved from the sources of the environment in their "
    "order; what those sources hold beside them, such as misspelt names; whether the guide's settings are declared.",
    fix="`./inv config-check` shows each value with its source, and each mistake with its fix.",
    see_it_fail="`VITE_IKHOKHA_TIMEOUT=45s` in the environment's dotenv file, then `./inv config-check`.",
    says=(TEST_MODE_OFF, KEY_BAD),
)
