"""The sandbox host: one background process that carries the sandbox gateway and its control interface.

    FOLDER/settings.env         the service's settings, made at first start, mode 0600
    FOLDER/tls/                 the local authority and the server certificate
    FOLDER/activity             touched when the gateway is used; the host ends when it is older than the idle time
    FOLDER/gateway/host.json    pid, addresses and the control token of the host that runs, mode 0600
    FOLDER/gateway/             its log, locks and database

`up` starts the host or finds it, `down` ends it, `status` looks. `python -m sandbox.host serve` is the host itself.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gateways import SCHEMES
from pipeline.errors import TollgateError
from pipeline.secrets import Secret
from sandbox.files import Files

IDLE_S = 1800.0
IKHOKHA = "ikhokha"
"""How webhooks are signed unless another way is asked for."""
STARTS_WITHIN_S = 20.0
ENDS_WITHIN_S = 10.0
_ROOT = Path(__file__).resolve().parent.parent
_LOG_TAIL = 15
_LOOKERS_GONE_S = 1.0


class HostFailed(TollgateError):
    """The sandbox host did not start, or did not end."""


@dataclass(frozen=True)
class HostAddresses:
    """Where the sandbox answers, all on 127.0.0.1, and the files it made."""

    pid: int
    gateway: str
    """https://127.0.0.1:PORT, the value of VITE_IKHOKHA_API_URL."""
    control: str
    """http://127.0.0.1:PORT of the control interface; see gateway/control.py."""
    token: Secret
    ca: Path
    settings: Path
    activity: Path
    log: Path
    since: str
    scheme: str
    """How it signs webhooks: a name of gateways.SCHEMES."""


def up(folder: Path, *, idle_s: float = IDLE_S, scheme: str | None = None) -> HostAddresses:
    """Returns the addresses of the host of `folder`, starting it first unless it runs. Blocks until it answers.

    `scheme` is how it signs webhooks, as `contract.webhook_scheme` of pipeline.yaml; None takes a host as it is. One
    that signs another way is ended and started anew: payments and what is owed stay, faults that were on do not.
    Of two callers at once one starts it and both get the same host. Raises HostFailed, with the end of the host's
    log, when it does not start; then no process is left behind.
    """
    files = Files(folder.resolve())
    if scheme is not None and scheme not in SCHEMES:
        raise HostFailed(f"{scheme[:40]!r} is no signing scheme", f"These are: {', '.join(sorted(SCHEMES))}.")
    try:
        return _up(files, idle_s, scheme)
    except OSError as error:
        raise HostFailed(
            f"{error.filename or files.data}: {error.strerror}; the sandbox keeps its files there",
            "Check space, owner and mode of that folder, then try again.",
        ) from None


def _up(files: Files, idle_s: float, scheme: str | None) -> HostAddresses:
    files.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(files.starting, wait_s=STARTS_WITHIN_S + ENDS_WITHIN_S):
        pid, known = _owner(files.running), _addresses(files)
        if pid is not None and known is not None and scheme not in (None, known.scheme):
            _end(files, pid)
            pid = None
        if pid is None:
            _start(files, idle_s, scheme or IKHOKHA)
        files.activity.touch()
        found = _addresses(files)
    if found is None:
        raise HostFailed(
            f"{files.record}: the host runs and its record is missing or unreadable",
            "Run `./inv sandbox.down`, then `./inv sandbox.up`.",
        )
    return found


def down(folder: Path) -> bool:
    """Ends the host of `folder` and waits until it is gone. False when none was running."""
    files = Files(folder.resolve())
    if not files.data.is_dir():
        return False
    with _locked(files.starting, wait_s=STARTS_WITHIN_S + ENDS_WITHIN_S):
        pid = _owner(files.running)
        if pid is None:
            return False
        _end(files, pid)
        return True


def status(folder: Path) -> HostAddresses | None:
    """The host of `folder` if it runs, else None. Changes nothing."""
    files = Files(folder.resolve())
    pid, found = _owner(files.running), _addresses(files)
    # A host that is only just starting has not written its own record yet.
    return found if pid is not None and found is not None and found.pid == pid else None


def _end(files: Files, pid: int) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, ending)
        if _free_in_time(files.running):
            return
    raise HostFailed(f"the sandbox host, process {pid}, does not end", "End it by hand, then try again.")


@contextlib.contextmanager
def _locked(path: Path, *, wait_s: float) -> Iterator[IO[str]]:
    """Holds an exclusive lock on `path`. Raises HostFailed when another process keeps it for longer than `wait_s`."""
    deadline = time.monotonic() + wait_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HostFailed(
                        f"{path}: locked for {wait_s:g} s by a process that starts, ends or is the sandbox host",
                        f"`fuser {path}` names it; wait for it or end it, then try again.",
                    ) from None
                time.sleep(0.02)
        yield file


def _owner(lock: Path) -> int | None:
    """The process that holds the lock of a running host. A pid in a file alone proves nothing; the lock does."""
    deadline = time.monotonic() + _LOOKERS_GONE_S
    try:
        file = lock.open("r")
    except FileNotFoundError:
        return None
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                text = file.read()
            else:
                return None
            if re.fullmatch(r"[1-9][0-9]*\n", text):
                return int(text)
            # A host that has just begun takes the lock an instant before it writes its pid.
            if time.monotonic() > deadline:
                raise HostFailed(
                    f"{lock}: a host runs and the file holds {text[:40]!r}; its process ID is expected",
                    f"Find the process with `fuser {lock}` and end it.",
                )
            time.sleep(0.02)


def _free_in_time(lock: Path) -> bool:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while _owner(lock) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _start(files: Files, idle_s: float, scheme: str) -> None:
    """Starts the host detached. It reports through a pipe: its pid first, `ready` once it answers, or just its end."""
    reader, writer = os.pipe()
    argv = [sys.executable, "-m", "sandbox.host", "serve", "--folder", str(files.folder)]
    argv += ["--idle", str(idle_s), "--scheme", scheme, "--detach", "--report-to", str(writer)]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        with files.log.open("ab") as log:
            subprocess.run(
                argv,
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writer,),
                timeout=STARTS_WITHIN_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        os.close(reader)
        raise HostFailed(f"the sandbox host could not be started: {error}", f"Look at {files.log}.") from None
    finally:
        os.close(writer)
    said, ended = _read_report(reader)
    if b"ready\n" in said:
        return
    pid = said.partition(b"\n")[0]
    if not ended and pid.isdigit():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        _free_in_time(files.running)
    what = "ended" if ended else "was not ready in time"
    raise HostFailed(
        f"the sandbox host {what}; its log {files.log} ends with:\n{_tail(files.log)}",
        "Remove what the log names and run `./inv sandbox.up` again.",
    )


def _read_report(reader: int) -> tuple[bytes, bool]:
    """What the host says until it is ready, ends, or time runs out; and whether it has ended."""
    said, deadline = b"", time.monotonic() + STARTS_WITHIN_S
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while b"ready\n" not in said:
            readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                return said, False
            chunk = pipe.read(4096)
            if not chunk:
                return said, True
            said += chunk
    return said, False


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"(cannot be read: {error.strerror})"
    return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])


def _addresses(files: Files) -> HostAddresses | None:
    try:
        record: dict[str, Any] = json.loads(files.record.read_text(encoding="utf-8"))
        return HostAddresses(
            pid=record["pid"],
            gateway=record["gateway"],
            control=record["control"],
            token=Secret(record["token"]),
            ca=files.tls / "ca.pem",
            settings=files.settings,
            activity=files.activity,
            log=files.log,
            since=record["since"],
            scheme=record.get("scheme", IKHOKHA),
        )
    except (OSError, ValueError, KeyError):
        return None


# ---- the host's own process --------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.host", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser("serve", help="be the host, in the foreground unless --detach")
    serve.add_argument("--folder", type=Path, required=True)
    serve.add_argument("--idle", type=float, default=IDLE_S, help="seconds without use after which it ends")
    serve.add_argument("--scheme", choices=sorted(SCHEMES), default=IKHOKHA, help="how webhooks are signed")
    serve.add_argument("--detach", action="store_true", help="go on in the background, in a session of its own")
    serve.add_argument("--report-to", type=int, default=None, help="file descriptor that is told pid and readiness")
    arguments = parser.parse_args(argv)
    if arguments.detach:
        if os.fork():
            # Not sys.exit: the parent must not run what the interpreter does at its end twice.
            os._exit(0)
        os.setsid()
    return _serve(Files(arguments.folder.resolve()), arguments.idle, arguments.scheme, arguments.report_to)


def _serve(files: Files, idle_s: float, scheme: str, report_to: int | None) -> int:
    report = os.fdopen(report_to, "wb", buffering=0) if report_to is not None else None

    def tell(line: str) -> None:
        # Whoever started us may have been interrupted: then nobody reads, and we go on.
        with contextlib.suppress(BrokenPipeError):
            if report is not None:
                report.write(f"{line}\n".encode())

    files.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    tell(str(os.getpid()))
    try:
        # Someone who only looks holds the lock for an instant; another host holds it for good.
        with _locked(files.running, wait_s=_LOOKERS_GONE_S) as lock:
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            from sandbox import daemon

            daemon.run(files, idle_s=idle_s, scheme=scheme, ready=lambda: tell("ready"))
    except TollgateError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
