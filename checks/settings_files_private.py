"""settings.files_private: files that hold settings are their owner's alone, and git never takes them."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from checks.facts import repository
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.spec import FromDotenv, NoParams
from pipeline.verdict import Finding, Place, Verdict, inconclusive, skipped

_GIT_LIMIT_S = 20.0
_OTHERS = 0o077
_WORLD_WRITABLE = 0o002

Git = Literal["no repository", "ignored", "not ignored", "tracked"]
_WORST_LAST: tuple[Git, ...] = ("no repository", "ignored", "not ignored", "tracked")


@dataclass(frozen=True)
class File:
    """A dotenv source as it lies on the disk, links followed. `mode` is None when it is missing.

    `folder_open`: whoever uses this machine may replace the file. `own`: it belongs to this user or to root.
    """

    name: str
    mode: int | None
    regular: bool
    own: bool
    folder_open: bool
    git: Git


@or_finding
async def gather(world: World, _params: NoParams) -> tuple[File, ...]:
    names = [source.dotenv for source in world.environment.settings_from if isinstance(source, FromDotenv)]
    if not names:
        raise Unjudged(skipped(f"{world.environment_name} reads no dotenv file"))
    return tuple([await _file(world.root, name) for name in dict.fromkeys(names)])


async def _file(root: Path, name: str) -> File:
    path = root / name
    git = await _known_to_git(path)
    if path.is_symlink():
        git = max(git, await _known_to_git(_leads_to(path)), key=_WORST_LAST.index)
    try:
        found = await asyncio.to_thread(path.stat)
        folder = await asyncio.to_thread(_leads_to(path).parent.stat)
    except FileNotFoundError:
        return File(name, None, regular=True, own=True, folder_open=False, git=git)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise Unjudged(
            inconclusive(f"{name} cannot be looked at: {why}", "Let this user search the folders above it.")
        ) from None
    return File(
        name=name,
        mode=stat.S_IMODE(found.st_mode),
        regular=stat.S_ISREG(found.st_mode),
        own=found.st_uid in (os.geteuid(), 0),
        folder_open=bool(folder.st_mode & _WORLD_WRITABLE and not folder.st_mode & stat.S_ISVTX),
        git=git,
    )


def _leads_to(path: Path) -> Path:
    """Where a link ends; unlike Path.resolve it does not raise for one that leads to itself."""
    return Path(os.path.realpath(path))


# ---- git ----------------------------------------------------------------------------------------------------


async def _known_to_git(path: Path) -> Git:
    """What git makes of a path, which need not exist. Raises Unjudged where git cannot read the repository."""
    above = Path(os.path.abspath(path)).parents  # noqa: PTH100 - a link's own place counts, not where it leads
    if not repository.inside_checkout(above[0]):
        return "no repository"
    folder = next(folder for folder in above if folder.is_dir())
    relative = os.path.relpath(path, folder)
    try:
        if await repository.output(folder, "ls-files", "-z", "--", f":(literal){relative}", limit_s=_GIT_LIMIT_S):
            return "tracked"
        ignored = await repository.told(folder, "check-ignore", "-q", "--", relative, limit_s=_GIT_LIMIT_S)
    except repository.GitFailed as error:
        raise Unjudged(_git_is_silent(folder, str(error))) from None
    if ignored.code not in (0, 1):
        raise Unjudged(_git_is_silent(folder, ignored.why()))
    return "ignored" if ignored.code == 0 else "not ignored"


def _git_is_silent(folder: Path, why: str) -> Finding:
    return inconclusive(
        f"{folder} is in a git checkout, but git could not say what it ignores: {why}",
        "Make `git check-ignore` work there (git installed; the folder yours, or a `safe.directory`), then run again.",
    )


# ---- judging ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mistake:
    file: str
    found: str
    fix: str
    verdict: Verdict = Verdict.FAIL


@unless_finding
def judge(files: tuple[File, ...], _params: NoParams) -> Finding:
    mistakes = [mistake for file in files for mistake in _mistakes(file)]
    there = [file.name for file in files if file.mode is not None]
    evidence = {
        file.name: {"mode": "missing" if file.mode is None else f"{file.mode:04o}", "git": file.git} for file in files
    }
    if mistakes:
        return Finding(
            Verdict.FAIL if any(one.verdict is Verdict.FAIL for one in mistakes) else Verdict.ADVICE,
            "; ".join(f"{one.file} {one.found}" for one in mistakes),
            "\n".join(dict.fromkeys(one.fix for one in mistakes)),
            {"files": evidence},
            tuple(Place(one.file, 1, one.found) for one in mistakes),
        )
    if not there:
        missing = " and ".join(file.name for file in files)
        return skipped(f"{missing}: not on this machine, so there is no file to guard", files=evidence)
    return Finding(
        Verdict.PASS,
        f"{counted(len(there), 'file')} readable for the owner alone"
        f"{', and ignored by git' if all(f.git == 'ignored' for f in files) else ''}: {', '.join(there)}",
        evidence={"files": evidence},
    )


def _mistakes(file: File) -> list[_Mistake]:
    name = file.name
    found = []
    if not file.regular:
        found.append(_Mistake(name, "is no ordinary file", f"name an ordinary file in place of {name}"))
    elif file.mode is not None and file.mode & _OTHERS:
        said = f"has mode {file.mode:04o}: others than its owner may read or change it; 0600 is allowed"
        found.append(_Mistake(name, said, f"chmod 600 {name}"))
    if not file.own:
        found.append(_Mistake(name, "belongs to another user, who can change it", f'chown "$(id -un)" {name}'))
    if file.folder_open:
        said = "lies in a folder where every user of this machine may replace it"
        found.append(_Mistake(name, said, f"chmod o-w on the folder of {name}"))
    if file.git == "tracked":
        fix = f"git rm --cached {name}, add it to .gitignore, and make new credentials: the history keeps these."
        found.append(_Mistake(name, "is tracked by git", fix))
    elif file.git == "not ignored":
        fix = f"add {name} to .gitignore"
        if file.mode is None:
            said = "is not there, and git would take it once it is: .gitignore does not name it"
            found.append(_Mistake(name, said, fix, Verdict.ADVICE))
        else:
            found.append(_Mistake(name, "is not ignored by git: the next `git add` takes it", fix))
    return found


CHECK = Check(
    name="settings.files_private",
    promise="Files that hold settings are readable for their owner alone and never get into git.",
    rows=("G1", "G12", "T1"),
    gather=gather,
    judge=judge,
    params=NoParams,
    why="A file that others can read, or that git takes along, gives the credentials away without any attack.",
    pci=("8.6.2",),
    looks_at="Mode, owner and folder of every dotenv file under `settings_from` of the environment, and what git says "
    "of it: tracked, ignored or neither. Without a git checkout only the file itself is judged.",
    fix="`chmod 600 FILE`, and a line for it in `.gitignore`. If it was ever committed, make new credentials.",
    see_it_fail="`chmod 644 .tollgate/sandbox/settings.env`, then `./inv validate`.",
)
