"""artifact.as_built: the release on the target is, byte for byte, the folder that was built and judged here."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, ReleaseId, ReleaseRecord, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, failed, inconclusive, passed

_LIMIT_S = 300.0
_MANIFEST, _SETTINGS = "manifest.json", "settings.json"
"""What the target keeps in a release's folder beside the artifact; see `On disk` in ARCHITECTURE.md."""
_SHOWN = 5
_CUT = "bytes left out ...]"
_ANEW = "Deploy anew; when it stays, find out who else writes to {} or to the target."

Digests = Mapping[str, str]
"""Path to hex SHA-256."""


@dataclass(frozen=True)
class Staged:
    """`built`: the build folder's files; `manifest`: what the release's manifest names, None when it is not as staged.

    `there` are the files in the release's folder, `altered` those of the manifest whose bytes are others now.
    """

    release: ReleaseId
    folder: str
    built: Digests
    manifest_digest: str
    manifest: Digests | None
    there: frozenset[str]
    altered: tuple[str, ...]


@or_finding
async def gather(world: World, _params: NoParams) -> Staged:
    artifact, release = world.run.artifact, world.run.release
    if artifact is None or not artifact.is_dir():
        raise Unjudged(
            inconclusive(
                f"no build folder to compare with: {artifact or 'nothing was built in this run'}",
                "See that the build leaves the folder that `release.produces` names.",
            )
        )
    if release is None:
        raise Unjudged(inconclusive("this run makes no release, so none is compared", "Use it in the stage deploy."))
    record = next((one for one in await world.target.releases.all() if one.id == release), None)
    if record is None or not record.manifest:
        raise Unjudged(_not_staged(release, record))
    folder = world.target.area / "releases" / release
    try:
        content = await world.target.host.read(folder / _MANIFEST)
    except OSError:
        content = b""
    built = await asyncio.to_thread(digests, artifact)
    if not built:
        raise Unjudged(inconclusive(f"{artifact} holds no file, so there is nothing to compare", "Build first."))
    found = hashlib.sha256(content).hexdigest()
    manifest = files_of(content) if found == record.manifest else None
    return Staged(
        release=release,
        folder=artifact.name,
        built=built,
        manifest_digest=found,
        manifest=manifest,
        there=await _there(world, folder) if manifest else frozenset(),
        altered=await _altered(world, folder, manifest) if manifest else (),
    )


def _not_staged(release: ReleaseId, record: ReleaseRecord | None) -> Finding:
    return inconclusive(
        f"release {release} is {record.state if record else 'not'} on the target, so there is nothing to compare",
        "Put `needs: [release.stage]` to this step, in the stage deploy.",
    )


def digests(folder: Path) -> Digests:
    """The SHA-256 of every file below a folder; of a link what it says, because no release holds one."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def files_of(content: bytes) -> Digests | None:
    """What a manifest says of its files; None when it is no manifest. Total."""
    try:
        files = json.loads(content)["files"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        return None
    return files


async def _there(world: World, folder: PurePosixPath) -> frozenset[str]:
    """Everything in the release's folder but folders and what the target keeps there itself.

    What is no plain file is named as what it is, so that no link stands for a file whose bytes it leads to.
    """
    argv = (
        "find",
        str(folder),
        "-mindepth",
        "1",
        "-not",
        "-type",
        "d",
        "(",
        "-type",
        "f",
        "-printf",
        r"%P\n",
        "-o",
        "-printf",
        r"%P (%y, no plain file)\n",
        ")",
    )
    listed = await world.target.host.run(argv, timeout=_LIMIT_S)
    if listed.returncode != 0 or _CUT in listed.stdout:
        raise Unjudged(_unread(folder, listed.stderr))
    return frozenset(listed.stdout.split("\n")[:-1]) - {_MANIFEST, _SETTINGS}


async def _altered(world: World, folder: PurePosixPath, manifest: Digests) -> tuple[str, ...]:
    """The files whose bytes on the target are not what the manifest says: read there, now."""
    lines = "".join(f"{digest}  {folder / path}\n" for path, digest in sorted(manifest.items()))
    argv = ("sha256sum", "--check", "--strict", "--quiet", "-")
    sums = await world.target.host.run(argv, timeout=_LIMIT_S, stdin=lines.encode())
    if sums.returncode == 0:
        return ()
    names = [line.rpartition(": ")[0].removeprefix(f"{folder}/") for line in sums.stdout.splitlines()]
    known = tuple(name for name in names if name in manifest)
    if not known:
        raise Unjudged(_unread(folder, sums.stderr))
    return known


def _unread(folder: PurePosixPath, said: str) -> Finding:
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    return inconclusive(
        f"the files in {folder} on the target could not all be read: {last[:300]}",
        "Look at space and permissions of that folder, then run again.",
    )


@unless_finding
def judge(staged: Staged, _params: NoParams) -> Finding:
    built = whole(staged.built)
    evidence = {"release": staged.release, "files": len(staged.built), "built_sha256": built}
    if staged.manifest is None:
        return failed(
            f"release {staged.release}: its {_MANIFEST} on the target is missing or not the one it was staged with",
            f"Somebody changed the target since. {_ANEW.format(staged.folder)}",
            **evidence,
        )
    evidence |= {"staged_sha256": whole(staged.manifest), "manifest_sha256": staged.manifest_digest}
    differences = compare(staged)
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        return failed(
            f"release {staged.release} on the target is not what {staged.folder} holds: "
            + "; ".join(differences[:_SHOWN])
            + more,
            _ANEW.format(staged.folder),
            **evidence,
            differences=differences[:50],
        )
    return passed(
        f"release {staged.release} on the target is what was built: {counted(len(staged.built), 'file')}, "
        f"digest {built[:16]}",
        **evidence,
    )


def compare(staged: Staged) -> list[str]:
    """Every difference, by the file's name. Pure."""
    manifest = staged.manifest or {}
    said = [
        f"{name!r} {_difference(staged.built.get(name), manifest.get(name))}"
        for name in sorted(staged.built.keys() | manifest.keys())
        if staged.built.get(name) != manifest.get(name)
    ]
    said += [f"{name!r} was changed on the target" for name in staged.altered]
    said += [f"{name!r} was added on the target" for name in sorted(staged.there - manifest.keys())]
    return said


def _difference(built: str | None, staged: str | None) -> str:
    if built is None:
        return "was staged but is not in the build any more"
    return "was built but not staged" if staged is None else "was built anew since it was staged"


def whole(files: Digests) -> str:
    """One SHA-256 over all files: their names and digests in the form of `sha256sum`, by name."""
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


CHECK = Check(
    name="artifact.as_built",
    promise="The staged release is byte for byte the folder that was built and judged in this run.",
    rows=("G6", "G20", "T9", "T16"),
    gather=gather,
    judge=judge,
    params=NoParams,
    acceptable=False,
    network=True,
    when=When.BUILT,
    why="Checks looked at the folder that was built; customers get what lies on the target.",
    pci=("11.5.2",),
    looks_at=(
        "Every file of the build folder, the manifest of the staged release and its digest on record, and every file "
        "on the target, read there once more."
    ),
    fix="Deploy anew; let nothing else write to the build folder during a run, and see who may write to the target.",
    see_it_fail="Change a file in the build folder between `release.stage` and this step.",
)
