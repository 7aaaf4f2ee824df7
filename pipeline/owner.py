"""Who holds a lease: one run in one process, and whether that process still lives."""

from __future__ import annotations

import errno
import getpass
import hashlib
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Owner:
    """One run in one process. `process_start` is BOOT/NAMESPACE/TIME: it tells two processes of one pid apart."""

    who: str
    machine: str
    pid: int
    process_start: str
    run: str

    @classmethod
    def this_process(cls, run: str, who: str | None = None) -> Self:
        pid = os.getpid()
        return cls(
            who or _user(), this_machine(), pid, "/".join((this_boot(), _namespace(), _start_time(pid) or "?")), run
        )

    def __str__(self) -> str:
        return f"run {self.run} of {self.who} on {self.machine}, process {self.pid}"

    @property
    def boot(self) -> str:
        return self.process_start.partition("/")[0]


def is_dead(owner: Owner) -> bool:
    """True when `owner` was a process of this machine and is no more. In doubt, it lives."""
    if owner.machine != this_machine() or owner.process_start.count("/") != 2:
        return False
    boot, namespace, started = owner.process_start.split("/")
    if boot != this_boot():
        return boot != "?" and this_boot() != "?"
    if namespace != _namespace() or started == "?":
        return False
    return _start_time(owner.pid) not in (started, "?")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def this_machine() -> str:
    """The host name, with a mark that tells two machines of one name apart."""
    identity = _file("/etc/machine-id")
    mark = hashlib.sha256(b"tollgate-machine:" + identity.encode()).hexdigest()[:8] if identity else ""
    return f"{socket.gethostname()} ({mark})" if mark else socket.gethostname()


def this_boot() -> str:
    return _file("/proc/sys/kernel/random/boot_id") or "?"


def _namespace() -> str:
    """A pid means the same process only within one pid namespace (container)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """When the process began, in a form to compare; None when there is none or only its corpse, `?` when hidden."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return "?" if _exists(pid) else None
        state, started = fields[0], fields[19]
        return None if state in "ZX" else started
    try:
        listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return listed.stdout.decode(errors="replace").strip() or None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _file(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
