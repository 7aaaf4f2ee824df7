"""settings.valid: presence, type, range and value of every setting."""

from __future__ import annotations

from checks.judging import counted
from pipeline.contracts import Check, World
from pipeline.settings import Settings
from pipeline.spec import NoParams
from pipeline.verdict import Finding, failed, inconclusive, passed


async def gather(world: World, _params: NoParams) -> Settings:
    return world.settings


def judge(settings: Settings, _params: NoParams) -> Finding:
    names = {name: value.source for name, value in sorted(settings.values.items())}
    sources = ", ".join(settings.sources) or "no source"
    if settings.mistakes:
        return failed(
            f"{counted(len(settings.mistakes), 'setting')} wrong: "
            + "; ".join(f"{m.name} ({m.where}): found {m.found}, allowed {m.allowed}" for m in settings.mistakes),
            "\n".join(f"{m.name}: {m.remedy}" for m in settings.mistakes),
            settings=names,
            sources=list(settings.sources),
            mistakes=[
                {"name": m.name, "where": m.where, "found": m.found, "allowed": m.allowed, "remedy": m.remedy}
                for m in settings.mistakes
            ],
        )
    if not settings.values:
        return inconclusive(
            f"no setting was found in {sources}; there is nothing to judge",
            "Declare the service's settings in pipeline.yaml and name a source that has them.",
            sources=list(settings.sources),
        )
    return passed(
        f"{counted(len(settings.values), 'setting')} present, of the right type and within range, from {sources}",
        settings=names,
        sources=list(settings.sources),
    )


CHECK = Check(
    name="settings.valid",
    promise="Every declared setting is present, has its type and lies in its range.",
    rows=("G2", "G4", "G5", "G17", "T1", "T2", "T3", "T13", "T20", "T21"),
    gather=gather,
    judge=judge,
    params=NoParams,
    why="A service that starts on a wrong setting takes money it cannot account for.",
)
