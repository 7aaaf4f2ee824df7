"""What `npm audit` and `pip-audit` print, and which packages a lock file names. No text makes a reader raise."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SEVERITIES = ("info", "low", "moderate", "high", "critical", "unknown")
"""Mildest first. What states none is worse than all: nobody said that it is harmless."""
_LONGEST = 160


@dataclass(frozen=True)
class Vulnerable:
    """A package with a known vulnerability. `ids` are what databases call it, `fixed_in` the versions without it."""

    package: str
    version: str
    severity: str
    ids: tuple[str, ...]
    title: str
    fixed_in: tuple[str, ...]


@dataclass(frozen=True)
class Audited:
    """What an auditor said. `packages`: how many it looked at, None: it does not say. `left_out`: those it could not.

    `why` says why the output is no audit, and is '' when it is one.
    """

    found: tuple[Vulnerable, ...] = ()
    packages: int | None = None
    left_out: tuple[str, ...] = ()
    why: str = ""


def npm(out: str) -> Audited:
    """`npm audit --json`, of npm 7 and later, or of npm 6 and pnpm."""
    told = _json(out)
    if not isinstance(told, dict):
        return Audited(why=f"npm printed no JSON object: {_short(out) or 'nothing'}")
    if "vulnerabilities" in told:
        members = _object(told["vulnerabilities"])
        found = tuple(_npm_package(name, _object(one)) for name, one in members.items())
    elif "advisories" in told:
        members = _object(told["advisories"])
        found = tuple(_npm_advisory(_object(one)) for one in members.values())
    else:
        error = _object(told.get("error"))
        said = _short(error.get("summary")) or _short(error.get("code")) or _short(told.get("message"))
        return Audited(why=f"npm audited nothing: {said or 'its answer names no vulnerabilities, not even none'}")
    metadata = _object(told.get("metadata"))
    counts = _object(metadata.get("vulnerabilities"))
    if not counts:
        return Audited(why="npm's answer has no counts under metadata.vulnerabilities")
    if not found and any(_number(count) != 0 for count in counts.values()):
        return Audited(why="npm counts vulnerabilities that it does not list")
    packages = metadata.get("dependencies", metadata.get("totalDependencies"))
    total = _object(packages).get("total") if isinstance(packages, Mapping) else packages
    return Audited(found, _number(total))


def _npm_package(name: str, one: Mapping[str, Any]) -> Vulnerable:
    """`via` has advisories, or names of packages through which this one is vulnerable."""
    via = [_object(each) for each in _list(one.get("via"))]
    ids = [_short(each.get("url")).rpartition("/")[2] for each in via if each.get("url")]
    through = [each for each in _list(one.get("via")) if isinstance(each, str)]
    title = next((_short(each["title"]) for each in via if each.get("title")), "")
    fix = one.get("fixAvailable")
    return Vulnerable(
        package=_short(name),
        version=_short(one.get("range")),
        severity=_severity(one.get("severity")),
        ids=tuple(dict.fromkeys(filter(None, ids))),
        title=title or (f"through {_short(', '.join(through))}" if through else ""),
        fixed_in=(f"{_short(fix.get('name'))} {_short(fix.get('version'))}",) if isinstance(fix, Mapping) else (),
    )


def _npm_advisory(one: Mapping[str, Any]) -> Vulnerable:
    id_ = _short(one.get("github_advisory_id")) or _short(one.get("url")).rpartition("/")[2]
    return Vulnerable(
        package=_short(one.get("module_name")),
        version=_short(one.get("vulnerable_versions")),
        severity=_severity(one.get("severity")),
        ids=(id_,) if id_ else (),
        title=_short(one.get("title")),
        fixed_in=tuple(filter(None, (_short(one.get("patched_versions")),))),
    )


def pip(out: str) -> Audited:
    """`pip-audit --format json`. It states no severity, so that every vulnerability is `unknown`."""
    told = _json(out)
    members = _object(told).get("dependencies") if isinstance(told, Mapping) else told
    if not isinstance(members, list):
        return Audited(why=f"pip-audit printed no JSON list of dependencies: {_short(out) or 'nothing'}")
    found, left_out, packages = [], [], 0
    for one in map(_object, members):
        name, version = _short(one.get("name")) or "a package without a name", _short(one.get("version"))
        if "skip_reason" in one or not isinstance(one.get("vulns"), list):
            left_out.append(f"{name} ({_short(one.get('skip_reason')) or 'no answer for it'})")
            continue
        packages += 1
        for vulnerability in map(_object, one["vulns"]):
            ids = (_short(vulnerability.get("id")), *map(_short, _list(vulnerability.get("aliases"))))
            found.append(
                Vulnerable(
                    package=name,
                    version=version,
                    severity="unknown",
                    ids=tuple(dict.fromkeys(filter(None, ids))),
                    title=_short(vulnerability.get("description")),
                    fixed_in=tuple(filter(None, map(_short, _list(vulnerability.get("fix_versions"))))),
                )
            )
    return Audited(tuple(found), packages, tuple(left_out))


# ---- lock files ---------------------------------------------------------------------------------------------

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def pinned(lock: str) -> tuple[str, ...] | None:
    """`name==version` of every package in a uv.lock or poetry.lock, but those that lie in the project itself.

    None where the text is neither.
    """
    try:
        told = tomllib.loads(lock)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None
    packages = told.get("package")
    if not isinstance(packages, list):
        return None
    lines = []
    for one in map(_object, packages):
        source = _object(one.get("source"))
        if source.keys() & {"editable", "virtual", "directory", "path"} or source.get("type") in ("directory", "file"):
            continue
        name, version = one.get("name"), one.get("version")
        if not _fits(_PACKAGE, name) or not _fits(_VERSION, version):
            return None
        lines.append(f"{name}=={version}")
    return tuple(dict.fromkeys(lines))


def line_of(lock: str, package: str) -> int:
    """The first line of a lock file that seems to hold the package; 1 when none does."""
    name = "[-_.]".join(map(re.escape, re.split(r"[-_.]", package)))
    forms = (rf"{name}\s*(\[[^\]\n]*\])?==", rf'name = "{name}"', rf'\s*"(.*node_modules/)?{name}": \{{')
    found = re.search(rf"(?mi)^({'|'.join(forms)})", lock) if package else None
    return lock.count("\n", 0, found.start()) + 1 if found else 1


# ---- values of others ----------------------------------------------------------------------------------------


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _severity(value: object) -> str:
    return value if isinstance(value, str) and value in SEVERITIES else "unknown"


def _short(value: object) -> str:
    """One printable line of a foreign text, '' for what is none."""
    if not isinstance(value, str):
        return ""
    printable = "".join(each if each.isprintable() else " " for each in value[: 4 * _LONGEST])
    line = " ".join(without_login(printable).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def without_login(text: str) -> str:
    """The text without user and password in its addresses: a registry's stand in the operator's own settings."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)
