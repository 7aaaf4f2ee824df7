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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
