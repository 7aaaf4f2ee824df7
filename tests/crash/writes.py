"""Every file that a run writes, as a table; and which write an audited event of Python is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

STATE = ".tollgate/sandbox"
TARGET = f"{STATE}/target"


class By(StrEnum):
    """How a file is written."""

    RENAME = "whole, then renamed"
    COMMAND = "a command of the target"
    SQLITE = "SQLite, ahead in its log"
    OPENED = "opened only, or appended to"
    DAEMON = "written by a process that outlives the run"


@dataclass(frozen=True)
class Row:
    """`where`: patterns of paths below the folder of pipeline.yaml, or the commands that write it."""

    name: str
    by: By
    where: tuple[str, ...]


ROWS = (
    Row("journal", By.SQLITE, (f"{STATE}/journal.sqlite*",)),
    Row("journal head", By.RENAME, (f"{STATE}/journal.head",)),
    Row("journal head in place", By.OPENED, (f"{STATE}/journal.head",)),
    Row("lease", By.SQLITE, (f"{TARGET}/lease.sqlite*",)),
    Row("locks", By.OPENED, (".tollgate/build.lock", f"{STATE}/gateway/*.lock")),
    Row("sandbox's log", By.OPENED, (f"{STATE}/gateway/host.log",)),
    Row("sandbox's start", By.COMMAND, ("-m sandbox.host",)),
    Row("fence", By.OPENED, (f"{TARGET}/fence*", f"{TARGET}/run/fence*")),
    Row("report", By.RENAME, (f"{STATE}/reports/*/report.*", f"{STATE}/reports/*/junit.xml")),
    Row("incident", By.RENAME, (f"{STATE}/reports/*/incident.md",)),
    Row("kept pipeline.yaml", By.RENAME, (f"{STATE}/specs/*.yaml",)),
    Row("release record", By.RENAME, (f"{TARGET}/states/*.json",)),
    Row("manifest", By.RENAME, (f"{TARGET}/releases/*/manifest.json",)),
    Row("settings in force", By.RENAME, (f"{TARGET}/releases/*/settings.json",)),
    Row("kept settings", By.RENAME, (f"{TARGET}/settings/*.json",)),
    Row("link", By.RENAME, (f"{TARGET}/current",)),
    Row(
        "switch",
        By.RENAME,
        (f"{TARGET}/shared/maintenance*", f"{TARGET}/shared/payments-off", f"{TARGET}/shared/test-*"),
    ),
    Row("supervisor copy", By.RENAME, (f"{TARGET}/run/*.py",)),
    Row("configuration", By.RENAME, (f"{TARGET}/run/config.json",)),
    Row("salt", By.RENAME, (f"{TARGET}/run/salt",)),
    Row("artifact", By.COMMAND, ("tar",)),
    Row("copy of settings", By.COMMAND, ("install",)),
    Row("removal", By.COMMAND, ("rm",)),
    Row("folders", By.COMMAND, ("mkdir",)),
    Row("new link", By.COMMAND, ("ln",)),
    Row("sync", By.COMMAND, ("sync",)),
    Row("order to start", By.COMMAND, ("ctl start",)),
    Row("order to retire", By.COMMAND, ("ctl retire",)),
    Row("order to rehearse", By.COMMAND, ("ctl rehearse",)),
    Row("order to close", By.COMMAND, ("ctl close",)),
    Row("supervisor's start", By.COMMAND, ("up",)),
    Row("artifact's files", By.DAEMON, (f"{TARGET}/releases/*",)),
    Row("supervisor's state and logs", By.DAEMON, (f"{TARGET}/run/*",)),
    Row("service's data", By.DAEMON, (f"{TARGET}/shared/data/*",)),
    Row("sandbox", By.DAEMON, (f"{STATE}/gateway/*", f"{STATE}/tls/*", f"{STATE}/settings.env", f"{STATE}/activity")),
    Row("cache", By.DAEMON, (".tollgate/cache/*",)),
)
"""The first row that fits is meant. What no row knows fails a test."""

READS = frozenset({"git", "find", "readlink", "sha256sum", "ctl status", "digest", "uname", "id", "ssh-keygen"})
"""Commands that change nothing."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Seen:
    """One write: its row, or `row` None where the table does not know it. `old` and `new` of a rename."""

    row: str | None
    what: str
    old: str = ""
    new: str = ""


def row_of(path: str, by: Sequence[By]) -> Row | None:
    """The row of a path below the folder of pipeline.yaml."""
    return next((row for row in ROWS if row.by in by and any(fnmatch(path, one) for one in row.where)), None)


def seen(event: str, args: tuple[Any, ...], folder: Path) -> Seen | None:
    """The write that an audited event is about to do, None when it is none, or one of a file still to be renamed."""
    if event == "subprocess.Popen":
        return _command(args[1])
    if event == "os.rename":
        return _file(folder, str(args[1]), By.RENAME, old=str(args[0]))
    if event == "open" and isinstance(args[0], str | bytes) and isinstance(args[2], int) and args[2] & _WRITING:
        path = os.fsdecode(args[0])
        return None if Path(path).name.startswith(".") else _file(folder, path, By.OPENED, By.SQLITE)
    return None


def _file(folder: Path, path: str, *by: By, old: str = "") -> Seen | None:
    full = str(Path(path).absolute())
    if not full.startswith(f"{folder}/.tollgate/"):
        return None
    below = full.removeprefix(f"{folder}/")
    row = row_of(below, by)
    return Seen(row.name if row else None, below, old, full)


def _command(argv: Sequence[str]) -> Seen | None:
    name = _named([os.fsdecode(one) for one in argv])
    if name in READS:
        return None
    row = next((row for row in ROWS if row.by is By.COMMAND and name in row.where), None)
    at = {"tar": "-C", "rm": "--"}.get(name)
    return Seen(row.name if row else None, name, new=os.fsdecode(argv[argv.index(at) + 1 if at else -1]))


def _named(argv: Sequence[str]) -> str:
    """`ctl start` for an order to the supervisor, else the program."""
    program = Path(argv[0]).name
    if not program.startswith("python"):
        return program
    if len(argv) > 6 and argv[3] == "-c":
        rest = argv[6:]  # after the folder of the tool
        return f"ctl {rest[2]}" if rest[0] == "ctl" else rest[0]
    return f"-m {argv[argv.index('-m') + 1]}" if "-m" in argv else " ".join(argv)
