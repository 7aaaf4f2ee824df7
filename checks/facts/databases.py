"""Reading files that this very process may have open as databases.

POSIX takes all locks of a process on a file away when the process closes any descriptor of it. To open the journal
and close it again would leave the run's own connection without its locks, and another process free to cut the file
under it. So another process reads such files.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checks.facts.unpacking import Unreadable

_NAMES = (".sqlite", ".sqlite3", ".db", "-wal", "-shm", "-journal")
_LIMIT_S = 60.0


@contextmanager
def readable(path: str) -> Iterator[str]:
    """A path that may be opened here: the file's own, or that of a copy of what may be a database."""
    if not path.endswith(_NAMES):
        yield path
        return
    file = opened(path)
    try:
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def opened(path: str) -> int:
    """A descriptor of the file, or of a copy of what may be a database. Raises OSError, Unreadable."""
    if not path.endswith(_NAMES):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with tempfile.TemporaryFile() as copy:
        try:
            done = subprocess.run(
                ["cat", "--", path],
                stdin=subprocess.DEVNULL,
                stdout=copy,
                stderr=subprocess.DEVNULL,
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise Unreadable(f"it was not read within {_LIMIT_S:g} s") from late
        if done.returncode != 0:
            Path(path).lstat()  # gone since it was listed: FileNotFoundError
            raise Unreadable("it cannot be read")
        copy.seek(0)
        return os.dup(copy.fileno())
