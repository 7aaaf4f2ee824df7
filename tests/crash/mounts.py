"""Disks that are full or read-only, for one process alone: in a mount namespace of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

FILLER = "filler"
_NEW_MOUNTS = 0x00020000
"""CLONE_NEWNS of <sched.h>."""


@cache
def why_not() -> str:
    """Why no file system can be mounted here; '' when one can."""
    if os.geteuid() != 0:
        return "needs root to mount a disk of its own"
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""


def of_our_own(folders: Sequence[Path]) -> None:
    """From here on this process sees these folders through mounts of its own, which `read_only` can change."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("--make-rprivate", "/")
    for folder in folders:
        _mount("--rbind", str(folder), str(folder))


def read_only(folders: Sequence[Path]) -> None:
    for folder in folders:
        _mount("-o", "remount,bind,ro", str(folder))


def small_disk(folder: Path, megabytes: int) -> None:
    """An empty disk of that size at `folder`, for all who share this process's mounts."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "none", str(folder))


def fill(folder: Path) -> None:
    """Writes until nothing fits any more."""
    with (folder / FILLER).open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def free(folder: Path) -> None:
    (folder / FILLER).unlink(missing_ok=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
