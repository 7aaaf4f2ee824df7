"""Small SQLite files that must outlive a crash: opened durable and private, with errors an operator can act on."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DiskFull, DiskReadOnly, RecordDamaged, RecordUnusable, TollgateError, disk_error

_MADE_BY = 0x746F6C6C
"""The `application_id` of our files."""


@dataclass(frozen=True)
class Schema:
    """What a file holds: what an operator calls it, the version of its tables, and the statements that make them.

    `upgrades`: what makes the tables of version N + 1 of those of version N, by N. Whoever reads must read both.
    """

    what: str
    version: int
    statements: tuple[str, ...]
    upgrades: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def open_for_writing(path: Path, schema: Schema, *, wait_s: float) -> sqlite3.Connection:
    """Opens `path`, making it (mode 0600) and its tables when they are missing. A commit is on disk when it returns.

    Raises TollgateError when that is impossible.
    """
    with explained(path, schema.what, wait_s):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        connection = _connected(path, "rw", wait_s)
        try:
            _write_ahead(connection, wait_s)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            with transaction(connection):
                found = _version(connection, path, schema)
                if found == 0:
                    connection.execute(f"PRAGMA application_id = {_MADE_BY}")
                for statement in _missing(schema, found):
                    connection.execute(statement)
                if found < schema.version:
                    connection.execute(f"PRAGMA user_version = {schema.version}")
            _sync_folder(path.parent)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path, schema: Schema, *, wait_s: float) -> sqlite3.Connection | None:
    """Opens `path` so that nothing can be changed, also while others write. Raises TollgateError.

    None when there is nothing yet: no file, or one that a crash left before its tables were made.
    """
    if not path.exists():
        return None
    with explained(path, schema.what, wait_s):
        connection = _connected(path, "ro", wait_s)
        try:
            made = _version(connection, path, schema) > 0
        except BaseException:
            connection.close()
            raise
    if made:
        return connection
    connection.close()
    return None


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One change, alone: others that want to write wait. On an error nothing of it happened."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def explained(path: Path, what: str, wait_s: float) -> Iterator[None]:
    """Turns errors of SQLite and of the file system into a TollgateError that says what to do.

    Of a damaged file SQLite tells texts that are none, and numbers that Python has no room for.
    """
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        for beginning, kind, happened, remedy in _EXPLANATIONS:
            if name.startswith(beginning):
                if kind is RecordUnusable and _read_only(path):
                    kind = DiskReadOnly  # noqa: PLW2901
                raise kind(f"{path}: the {what} {happened.format(wait_s=wait_s)}", remedy) from None
        raise RecordDamaged(f"{path}: the {what} cannot be used: {error}", f"Look at the file. {_ASIDE}") from None
    except (UnicodeError, OverflowError):
        raise RecordDamaged(f"{path}: the {what} is damaged", f"Restore it from a backup. {_ASIDE}") from None
    except OSError as error:
        if (known := disk_error(error, str(path))) is not None:
            raise known from None
        raise RecordUnusable(
            f"{path}: the {what} cannot be opened: {error.strerror}",
            "Check the folder, its owner, its mode and its space.",
        ) from None


def _read_only(path: Path) -> bool:
    """Whether the file system says so, which tells it from a file whose mode forbids writing."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


_ASIDE = "Move it aside only when you know how the environment stands: it is the record of what was changed."
_MODE = "Check the owner and the mode of the file and of its folder."
_EXPLANATIONS: tuple[tuple[str, type[TollgateError], str, str], ...] = (
    (
        "SQLITE_BUSY",
        RecordUnusable,
        "was locked by another process for more than {wait_s:g} s",
        "See who holds it (`fuser` on Linux), let it end, then repeat.",
    ),
    (
        "SQLITE_LOCKED",
        RecordUnusable,
        "was locked for more than {wait_s:g} s",
        "Let the other process end, then repeat.",
    ),
    (
        "SQLITE_FULL",
        DiskFull,
        "cannot grow: the disk is full",
        "Free some space, then repeat; what was recorded is safe.",
    ),
    ("SQLITE_READONLY", RecordUnusable, "may not be written", _MODE),
    ("SQLITE_CANTOPEN", RecordUnusable, "cannot be opened", _MODE),
    ("SQLITE_PERM", RecordUnusable, "may not be opened", _MODE),
    ("SQLITE_NOTADB", RecordDamaged, "is not a database", f"Restore it from a backup. {_ASIDE}"),
    ("SQLITE_CORRUPT", RecordDamaged, "is damaged", f"Restore it from a backup. {_ASIDE}"),
    (
        "SQLITE_IOERR",
        RecordUnusable,
        "could not be read or written: the disk reported an error",
        "Check the disk and its space.",
    ),
)


def _connected(path: Path, mode: str, wait_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=False,
    )


def _write_ahead(connection: sqlite3.Connection, wait_s: float) -> None:
    """SQLite does not wait for its lock when it changes this mode, so we do."""
    until = time.monotonic() + wait_s
    while True:
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
        if time.monotonic() > until:
            raise TollgateError("SQLite cannot write ahead on this file system", "Keep the state on a local disk.")
        time.sleep(0.01)


def _missing(schema: Schema, found: int) -> Iterator[str]:
    """The statements that a file of version `found` lacks; 0: it is empty."""
    if found == 0:
        yield from schema.statements
        return
    for version in range(found, schema.version):
        yield from schema.upgrades[version]


def _version(connection: sqlite3.Connection, path: Path, schema: Schema) -> int:
    """The version of the tables; 0 when the file is empty. Raises TollgateError when they are not for us."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    made_by = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty:
        return 0
    if made_by != _MADE_BY:
        raise _not_ours(path, schema.what)
    if version < 1:
        raise RecordDamaged(
            f"{path}: the {schema.what} does not say its version", f"Restore it from a backup. {_ASIDE}"
        )
    if version > schema.version:
        raise RecordUnusable(
            f"{path}: the {schema.what} is from a newer Tollgate: version {version}, known up to {schema.version}",
            "Use the newer Tollgate; going back would lose what only it can read.",
        )
    return version


def _not_ours(path: Path, what: str) -> TollgateError:
    return RecordDamaged(f"{path}: this is a database, but no {what}", f"Correct the path. {_ASIDE}")


def _sync_folder(folder: Path) -> None:
    """Makes the names of new files durable, as the files themselves are."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
