"""Files replaced in one step: a reader, or whoever comes after a kill, sees the old one or the whole new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """As UTF-8, for all to read; what no UTF-8 can say becomes a question mark."""
    write(path, text.encode("utf-8", "replace"), mode=0o644)


def write(path: Path, content: bytes, *, mode: int) -> None:
    """On disk before it has its name. Raises OSError; then the old file stands and nothing is left beside it."""
    put_in_place(beside(path, content, mode=mode), path)


def beside(path: Path, content: bytes, *, mode: int) -> Path:
    """A new file in the folder of `path`, whole and on disk, to take its place. Raises OSError; then none is left."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def put_in_place(new: Path, path: Path, *, durable: bool = False) -> None:
    """Renames `new` to `path`; `durable`: also after a power cut. Raises OSError; then `new` is gone."""
    try:
        new.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """The names in it are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
