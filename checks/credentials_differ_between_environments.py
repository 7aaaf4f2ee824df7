"""credentials.differ_between_environments: no two environments hold the same credential."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from checks.facts import rotation
from checks.facts.credentials import held, none_held
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline import dotenv_file
from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.spec import Environment, FromDotenv, Frozen, Name
from pipeline.verdict import Finding, failed, inconclusive, passed, skipped


class Differ(Frozen):
    """Settings that environments may share, because they open nothing that is the environment's own."""

    may_share: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Same:
    """One value: its names here, and the names and places under which another environment has it too."""

    names: tuple[str, ...]
    environment: str
    others: tuple[str, ...]
    places: tuple[str, ...]

    def __str__(self) -> str:
        are = "is" if len(self.names) == 1 else "are"
        others = " and ".join(dict.fromkeys(self.others))
        return f"{' and '.join(self.names)} {are} also {self.environment}'s {others} ({', '.join(self.places)})"


@dataclass(frozen=True)
class Compared:
    """`sources`: what of each other environment was compared with, () where nothing could be. `unread`: files that are
    there and could not be read whole, with the reason. `secrets`: how many credentials were compared."""

    environment: str
    secrets: int
    sources: Mapping[str, tuple[str, ...]]
    same: tuple[Same, ...]
    unread: tuple[str, ...]


@or_finding
async def gather(world: World, params: Differ) -> Compared:
    here = world.environment_name
    mine = {name: secret for name, secret in held(world).items() if name not in params.may_share}
    others = {name: environment for name, environment in world.spec.environments.items() if name != here}
    if not others:
        raise Unjudged(skipped(f"pipeline.yaml has no environment beside {here} to compare with"))
    if not mine:
        raise Unjudged(none_held(world, "none was compared with those of another environment"))
    sources: dict[str, tuple[str, ...]] = {}
    same: list[Same] = []
    unread: list[str] = []
    for name, environment in others.items():
        theirs = await asyncio.to_thread(_in_files, world, name, environment)
        recorded = await asyncio.to_thread(_on_record, world, name)
        sources[name] = (*theirs.files, *recorded.files)
        unread += theirs.unread
        for secret in dict.fromkeys(secret for _, secret in sorted(mine.items())):
            found = (*theirs.having(secret), *recorded.having(secret))
            if found:
                names = tuple(own for own in sorted(mine) if mine[own] == secret)
                same.append(Same(names, name, tuple(n for n, _ in found), tuple(p for _, p in found)))
    return Compared(here, len(mine), sources, tuple(same), tuple(unread))


# ---- what another environment holds -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Theirs:
    """Values and fingerprints of another environment with the name and place of each."""

    values: tuple[tuple[Secret, str, str], ...] = ()
    fingerprints: Mapping[str, tuple[str, str]] | None = None
    files: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def having(self, secret: Secret) -> list[tuple[str, str]]:
        found = [(name, where) for value, name, where in self.values if value == secret]
        recorded = (self.fingerprints or {}).get(secret.fingerprint())
        return [*found, recorded] if recorded else found


def _in_files(world: World, name: str, environment: Environment) -> _Theirs:
    """The secrets in the dotenv files of an environment that are on this machine."""
    values: list[tuple[Secret, str, str]] = []
    files: list[str] = []
    unread: list[str] = []
    for source in environment.settings_from:
        if not isinstance(source, FromDotenv) or _is_ours(world, source):
            continue
        lines = dotenv_file.read(world.root / source.dotenv, source.dotenv)
        if lines.missing:
            continue
        if not lines.whole:
            unread += [f"{one.where} ({one.found})" for one in lines.mistakes if one.name == ""][:1]
        theirs = [
            (Secret(line.value.strip()), known, f"{source.dotenv}:{line.number}")
            for known, setting in world.spec.settings.items()
            if setting.type == "secret" and (line := lines.values.get(known)) is not None and line.value.strip()
        ]
        values += theirs
        files += [source.dotenv] if theirs else []  # a file without credentials is nothing to compare with
    return _Theirs(values=tuple(values), files=tuple(files), unread=tuple(unread))


def _is_ours(world: World, source: FromDotenv) -> bool:
    """A file that both environments declare is one mistake, and settings.names_fit_environment tells of it. A link to
    one has a name of its own, so that nobody else tells of it: it is compared."""
    ours = (s.dotenv for s in world.environment.settings_from if isinstance(s, FromDotenv))
    return _normal(world.root, source.dotenv) in {_normal(world.root, own) for own in ours}


def _normal(root: Path, file: str) -> Path:
    return Path(os.path.normpath(root / file))


def _on_record(world: World, name: str) -> _Theirs:
    """The fingerprints that the last run of an environment recorded."""
    last = rotation.in_use(world.past(name).findings(rotation.CHECK))
    if last is None:
        return _Theirs()
    at, names = last
    told = f"its record of {at:%Y-%m-%d}"
    return _Theirs(fingerprints={one: (setting, told) for one, setting in names.items()}, files=(told,))


# ---- judging ------------------------------------------------------------------------------------------------


@unless_finding
def judge(compared: Compared, _params: Differ) -> Finding:
    with_what = {name: list(sources) for name, sources in compared.sources.items() if sources}
    told = ", ".join(f"{name} ({', '.join(sources)})" for name, sources in with_what.items())
    nothing = [name for name, sources in compared.sources.items() if not sources]
    if compared.same:
        return failed(
            f"{compared.environment} shares credentials: {'; '.join(map(str, compared.same))}",
            f"Make credentials for {compared.environment} alone in the gateway's dashboard: what {_first(compared)} "
            "gives away must open nothing here.",
            same=[{"names": list(s.names), "environment": s.environment, "as": list(s.others)} for s in compared.same],
            compared_with=with_what,
        )
    if compared.unread:
        return inconclusive(
            f"a dotenv file of another environment could not be read whole, so not all of it was compared: "
            f"{'; '.join(compared.unread)}",
            "Mend the file, or remove it from this machine where it is not needed.",
            compared_with=with_what,
        )
    if not with_what:
        return skipped(
            f"nothing to compare with: of {' and '.join(nothing)} there is neither a dotenv file nor a record here"
        )
    rest = f"; nothing of {' and '.join(nothing)} is on this machine" if nothing else ""
    return passed(
        f"{counted(compared.secrets, 'credential')} compared with those of {told}: none is shared{rest}",
        compared_with=with_what,
        not_compared_with=nothing,
    )


def _first(compared: Compared) -> str:
    return compared.same[0].environment


CHECK = Check(
    name="credentials.differ_between_environments",
    promise="No environment uses a credential that another environment uses as well.",
    rows=("G1", "G12", "T1", "T2"),
    gather=gather,
    judge=judge,
    params=Differ,
    why="Test systems are guarded less and seen by more people; what they share is as safe as the weakest of them.",
    pci=("6.5.3",),
    looks_at="The dotenv files of the other environments of pipeline.yaml that are on this machine, and the "
    "fingerprints that their last runs put on record here. Values are compared in memory and never shown.",
    fix="Make credentials for this environment alone in the gateway's dashboard; put them into a source of its own.",
    see_it_fail="Copy a credential from `.env.production` into `.env.staging`, then `./inv validate --env staging`.",
)
