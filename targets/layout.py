"""Where everything of a target lies, and what is said to its host: paths and argv lists, as values.

releases/ID/        the artifact's files, manifest.json, settings.json (0600): what the release runs with
states/ID.json      the release's record
settings/ID.json    the settings it was staged with (0600)
current             -> releases/ID
shared/             switch files, maintenance.html for who is closed, and data/ for the service
run/                the supervisor: its copy and its client's, config.json, salt, supervisor.json, logs
fence               the highest token of a lease that was shown here
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.contracts import ReleaseId
from pipeline.errors import TargetError

MANIFEST = "manifest.json"
SETTINGS = "settings.json"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The paths of one target's area. A release's name is judged before it becomes part of a path."""

    area: PurePosixPath

    @property
    def releases(self) -> PurePosixPath:
        return self.area / "releases"

    @property
    def states(self) -> PurePosixPath:
        return self.area / "states"

    @property
    def kept(self) -> PurePosixPath:
        return self.area / "settings"

    @property
    def current(self) -> PurePosixPath:
        return self.area / "current"

    @property
    def shared(self) -> PurePosixPath:
        return self.area / "shared"

    @property
    def fence(self) -> PurePosixPath:
        return self.area / "fence"

    @property
    def data(self) -> PurePosixPath:
        return self.shared / "data"

    @property
    def closed_page(self) -> PurePosixPath:
        return self.shared / "maintenance.html"

    @property
    def run(self) -> PurePosixPath:
        return self.area / "run"

    @property
    def supervisor(self) -> PurePosixPath:
        return self.run / "supervisor.py"

    @property
    def client(self) -> PurePosixPath:
        return self.run / "supervisor_client.py"

    @property
    def config(self) -> PurePosixPath:
        return self.run / "config.json"

    @property
    def salt(self) -> PurePosixPath:
        return self.run / "salt"

    def release(self, release: ReleaseId) -> PurePosixPath:
        return self.releases / _named(release)

    def manifest(self, release: ReleaseId) -> PurePosixPath:
        return self.release(release) / MANIFEST

    def settings(self, release: ReleaseId) -> PurePosixPath:
        return self.release(release) / SETTINGS

    def state(self, release: ReleaseId) -> PurePosixPath:
        return self.states / f"{_named(release)}.json"

    def kept_settings(self, release: ReleaseId) -> PurePosixPath:
        return self.kept / f"{_named(release)}.json"

    def log(self, release: ReleaseId) -> PurePosixPath:
        return self.run / f"{_named(release)}.log"


def _named(release: ReleaseId) -> str:
    if not _ID.fullmatch(release):
        raise TargetError(
            f"release name {release!r}: 1 to 64 letters, digits, `.`, `_`, `-` are allowed, a letter or digit first",
            "Name a release as `./inv status` shows it.",
        )
    return release


# ---- commands ----------------------------------------------------------------------------------------------


def make_folders(paths: Iterable[PurePosixPath], mode: str = "755") -> Argv:
    return ("mkdir", "-p", "-m", mode, "--", *map(str, paths))


def remove(paths: Iterable[PurePosixPath]) -> Argv:
    return ("rm", "-rf", "--", *map(str, paths))


def unpack(folder: PurePosixPath) -> Argv:
    """Reads a tar archive from its input."""
    return ("tar", "-x", "-f", "-", "-C", str(folder), "--no-same-owner", "--preserve-permissions")


def make_durable(paths: Iterable[PurePosixPath]) -> Argv:
    return ("sync", "--", *map(str, paths))


def list_names(folder: PurePosixPath, kind: str) -> Argv:
    """Prints the names right under a folder, one a line; `kind` as find's -type."""
    return ("find", str(folder), "-mindepth", "1", "-maxdepth", "1", "-type", kind, "-printf", r"%f\n")


def list_files(folder: PurePosixPath) -> Argv:
    """Prints the path of everything under a folder that is not a folder, relative to it, one a line."""
    return ("find", str(folder), "-mindepth", "1", "-not", "-type", "d", "-printf", r"%P\n")


def check_sums() -> Argv:
    """Reads `HEX  PATH` lines from its input, prints a line for each file that differs."""
    return ("sha256sum", "--check", "--strict", "--quiet", "-")


def sum_lines(folder: PurePosixPath, files: Iterable[tuple[str, str]]) -> bytes:
    """The input of `check_sums`: `files` are pairs of a path relative to `folder` and its SHA-256."""
    return "".join(f"{digest}  {folder / path}\n" for path, digest in files).encode()


def make_link(to: PurePosixPath, at: PurePosixPath) -> Argv:
    """A link whose text is relative, so that the area can be moved as a whole."""
    return ("ln", "-s", "-f", "-n", "--", str(to.relative_to(at.parent)), str(at))


def read_link(path: PurePosixPath) -> Argv:
    return ("readlink", "--", str(path))


def copy_private(old: PurePosixPath, new: PurePosixPath) -> Argv:
    return ("install", "-m", "600", "-T", "--", str(old), str(new))


def in_chunks(paths: Sequence[PurePosixPath], size: int = 200) -> Iterable[Sequence[PurePosixPath]]:
    """Paths in lists short enough for one command line."""
    return (paths[start : start + size] for start in range(0, len(paths), size))


def parents(name: str) -> list[str]:
    """The folders above a relative path, the nearest first."""
    return [str(path) for path in PurePosixPath(name).parents][:-1]
