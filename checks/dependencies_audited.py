"""dependencies.audited: no package that a lock file names has a known serious vulnerability."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from checks.facts import audits
from checks.facts.audits import SEVERITIES, Audited, Vulnerable
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline import command
from pipeline.contracts import Check, World
from pipeline.errors import CommandFailed
from pipeline.secrets import Redactor
from pipeline.spec import Argv, Duration, Frozen
from pipeline.verdict import Finding, Place, Verdict, inconclusive

_NPM_LOCKS = ("npm-shrinkwrap.json", "package-lock.json")
"""npm itself takes the first of the two."""
_TOML_LOCKS = ("uv.lock", "poetry.lock")
_OTHER_LOCKS = (
    *("yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "Pipfile.lock", "pdm.lock", "composer.lock"),
    *("Gemfile.lock", "go.sum", "Cargo.lock", "packages.lock.json"),
)
"""Of these nobody here reads one, and to leave it out in silence would be a clean audit of what nobody looked at."""
_NOT_DEPLOYED = frozenset(
    {"dev", "develop", "development", "test", "tests", "testing", "lint", "linting", "doc", "docs"}
)
_LIMIT_BYTES = 32_000_000
_CUT = "bytes left out ...]"
_SHOWN = 8
_NPM_FLAGS = ("audit", "--json", "--omit=dev", "--offline=false", "--audit=true", "--update-notifier=false")
"""With `offline` or without `audit` in an .npmrc npm asks nobody and says that it found nothing."""

Inside = Annotated[str, StringConstraints(pattern=r"^[^/\x00][^\x00]*$")]


class Audit(Frozen):
    """What is audited, and from which severity on it blocks."""

    paths: tuple[Inside, ...] = Field((".",), min_length=1, description="Folders, or lock files, of the app.")
    fail_at: Literal["low", "moderate", "high", "critical"] = "high"
    within: Duration = Field(50.0, description="For each lock file; keep the step's `timeout` above it.")
    npm: Argv = ("npm",)
    pip_audit: Argv = Field(("pip-audit",), description="Say [uvx, pip-audit] where it is not installed.")


@dataclass(frozen=True)
class Lock:
    """One lock file and what its auditor said of it. `file` is relative to the folder of pipeline.yaml."""

    file: str
    told: Audited
    lines: Mapping[str, int]
    """Where in the file each vulnerable package stands."""


@or_finding
async def gather(world: World, params: Audit) -> tuple[Lock, ...]:
    files = await asyncio.to_thread(lock_files, world.root, params.paths)
    if not files:
        raise Unjudged(
            inconclusive(
                f"no lock file is in {', '.join(params.paths)} below {world.root}, so no dependency was audited",
                "Name where they lie with `paths:` (package-lock.json, npm-shrinkwrap.json, requirements*.txt, uv.lock "
                "or poetry.lock); where the app has no dependencies, take this check out of pipeline.yaml.",
            )
        )
    environment = _environment(world)
    return tuple(await asyncio.gather(*(_audited(world.root, file, environment, params) for file in files)))


def lock_files(root: Path, paths: Sequence[str]) -> list[Path]:
    """The lock files that `paths` name, or that lie in the folders they name. Raises Unjudged for a missing one."""
    found: list[Path] = []
    for path in (root / one for one in paths):
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            npm = [path / name for name in _NPM_LOCKS if (path / name).is_file()][:1]
            requirements = [one for one in sorted(path.glob("requirements*.txt")) if _is_deployed(one)]
            toml = [path / name for name in _TOML_LOCKS if (path / name).is_file()]
            others = [path / name for name in _OTHER_LOCKS if (path / name).is_file()]
            found += [*npm, *requirements, *toml, *others]
        else:
            raise Unjudged(inconclusive(f"there is no {path}", "Correct `paths:` of this step."))
    return list(dict.fromkeys(found))


def _is_deployed(requirements: Path) -> bool:
    words = re.findall(r"[a-z]+", requirements.stem.removeprefix("requirements").lower())
    return _NOT_DEPLOYED.isdisjoint(words)


def _environment(world: World) -> dict[str, str]:
    """The operator's own, registry settings included, without the service's settings: an auditor needs no secret."""
    kept = {name: value for name, value in os.environ.items() if name not in world.spec.settings}
    ours = str(Path(sys.executable).parent)
    return kept | {"PATH": os.pathsep.join(filter(None, (kept.get("PATH"), ours))), "NO_COLOR": "1"}


async def _audited(root: Path, file: Path, environment: Mapping[str, str], params: Audit) -> Lock:
    text = await asyncio.to_thread(file.read_text, "utf-8", "replace")
    with tempfile.TemporaryDirectory(prefix="tollgate-audit-") as scratch:
        if file.name in _OTHER_LOCKS:
            told = Audited(why="its kind is not read here; audit it in a `run` step, and name the others in `paths:`")
        elif file.name in _NPM_LOCKS:
            told = await _said_by_npm(file, environment, params)
        elif file.suffix == ".txt":
            told = await _said_by_pip_audit(file, _pip_flags(text), environment, params)
        elif (packages := audits.pinned(text)) is None:
            told = Audited(why="it is no lock file that this check can read")
        elif not packages:
            told = Audited(packages=0)
        else:
            pins = Path(scratch, "requirements.txt")
            await asyncio.to_thread(pins.write_text, "\n".join(packages) + "\n", "utf-8")
            told = await _said_by_pip_audit(pins, ("--disable-pip", "--no-deps"), environment, params)
    names = dict.fromkeys(one.package for one in told.found)
    return Lock(os.path.relpath(file, root), told, {name: audits.line_of(text, name) for name in names})


async def _said_by_npm(file: Path, environment: Mapping[str, str], params: Audit) -> Audited:
    return await _said((*params.npm, *_NPM_FLAGS), file.parent, environment, params.within, audits.npm)


def _pip_flags(requirements: str) -> tuple[str, ...]:
    """Hashed files are whole; of others only what they name, and only where it is pinned, can be audited as it is."""
    return ("--disable-pip",) if "--hash=" in requirements else ("--disable-pip", "--no-deps")


async def _said_by_pip_audit(
    file: Path, flags: Sequence[str], environment: Mapping[str, str], params: Audit
) -> Audited:
    argv = (*params.pip_audit, "-r", str(file), "--format", "json", "--progress-spinner", "off", *flags)
    return await _said(argv, file.parent, environment, params.within, audits.pip)


async def _said(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str], within: float, read: Callable[[str], Audited]
) -> Audited:
    """Runs an auditor. Exit 0 is nothing found, 1 something; with any other, or the wrong one, nothing is known."""
    try:
        done = await command.run(
            argv, timeout=within, redactor=Redactor(), cwd=cwd, env=environment, limit_bytes=_LIMIT_BYTES, grace=1.0
        )
    except CommandFailed as error:
        return Audited(why=audits.without_login(str(error))[:400])
    if len(done.stdout) >= _LIMIT_BYTES // 4 and _CUT in done.stdout:
        return Audited(why=f"`{argv[0]}` printed more than {_LIMIT_BYTES // 1_000_000} MB")
    told = read(done.stdout)
    said = audits.without_login((done.stderr.strip().splitlines() or [""])[-1])[:300]
    if told.why:
        return replace(told, why="; ".join(filter(None, (told.why, said))))
    if done.returncode not in (0, 1) or (done.returncode == 1 and not told.found):
        return Audited(why=f"`{argv[0]}` ended with {done.returncode} and names no vulnerability; {said}")
    return told


@unless_finding
def judge(locks: tuple[Lock, ...], params: Audit) -> Finding:
    line = SEVERITIES.index(params.fail_at)
    found = [(lock, one) for lock in locks for one in lock.told.found]
    serious = [(lock, one) for lock, one in found if SEVERITIES.index(one.severity) >= line]
    evidence = {
        "lock_files": {
            lock.file: {"packages": lock.told.packages, "vulnerable": len(lock.told.found)} for lock in locks
        },
        "vulnerable": [_evidence(lock, one) for lock, one in found[:50]],
        "fail_at": params.fail_at,
    }
    if serious:
        return Finding(
            Verdict.FAIL,
            f"{counted(len(serious), 'known vulnerable package')}, of severity {params.fail_at} or above or of none "
            f"stated: {_told(serious)}",
            _remedy(serious),
            evidence,
            _places(serious),
        )
    unknown = [f"{lock.file}: {lock.told.why}" for lock in locks if lock.told.why]
    unknown += [f"{lock.file}: {', '.join(lock.told.left_out[:_SHOWN])}" for lock in locks if lock.told.left_out]
    if unknown:
        return inconclusive(
            "not every dependency was audited: " + "; ".join(unknown),
            "Install the auditor (npm comes with Node.js; `pip-audit` into a virtual environment of its own, on the "
            "PATH), let it reach your registry, pin what is not pinned, and run it by hand in that folder.",
            **evidence,
        )
    if found:
        return Finding(
            Verdict.ADVICE,
            f"known vulnerabilities, all below severity {params.fail_at}: {_told(found)}",
            _remedy(found),
            evidence,
            _places(found),
        )
    packages, files = sum(lock.told.packages or 0 for lock in locks), ", ".join(lock.file for lock in locks)
    if not packages:
        return inconclusive(
            f"no package was audited: {files} names none",
            "Write the lock file anew; where the app has no dependencies, take this check out of pipeline.yaml.",
            **evidence,
        )
    return Finding(
        Verdict.PASS, f"{counted(packages, 'package')} in {files}: no known vulnerability", evidence=evidence
    )


def _told(found: Sequence[tuple[Lock, Vulnerable]]) -> str:
    told = [
        f"{one.package} {one.version} ({one.severity}{', ' + one.ids[0] if one.ids else ''}, {lock.file})"
        for lock, one in found[:_SHOWN]
    ]
    return ", ".join(told) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _remedy(found: Sequence[tuple[Lock, Vulnerable]]) -> str:
    fixed = dict.fromkeys(f"{one.package}: {' or '.join(one.fixed_in[:3])}" for _, one in found if one.fixed_in)
    known = f" Without it are {', '.join(list(fixed)[:_SHOWN])}." if fixed else ""
    return (
        f"Update what is named, write the lock file anew, test, commit.{known} What cannot be updated yet goes under "
        "`accepted:` in pipeline.yaml, with a reason and a day."
    )


def _evidence(lock: Lock, one: Vulnerable) -> dict[str, object]:
    return {
        "file": lock.file,
        "package": one.package,
        "version": one.version,
        "severity": one.severity,
        "ids": list(one.ids),
        "title": one.title,
        "fixed_in": list(one.fixed_in),
    }


def _places(found: Sequence[tuple[Lock, Vulnerable]]) -> tuple[Place, ...]:
    return tuple(
        Place(lock.file, lock.lines.get(one.package, 1), f"{one.package}: {one.title or 'vulnerable'}")
        for lock, one in found[:50]
    )


CHECK = Check(
    name="dependencies.audited",
    promise="No package in the app's lock files has a known vulnerability of the severity that blocks.",
    rows=("G7", "G20", "T7", "T9"),
    gather=gather,
    judge=judge,
    params=Audit,
    network=True,
    why="Most break-ins use a hole that was published and mended long before.",
    pci=("6.3.1", "6.3.3"),
    looks_at=(
        "What `npm audit` says of package-lock.json and npm-shrinkwrap.json without development dependencies, and "
        "`pip-audit` of requirements*.txt, uv.lock and poetry.lock, each with the operator's own registry settings. "
        "pip-audit states no severity, so what it names always blocks."
    ),
    fix="Update the named packages, or accept the finding for a time with a reason.",
    see_it_fail="Pin an old version with a known vulnerability, write the lock file, and run `./inv validate`.",
)
