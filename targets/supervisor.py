"""The supervisor of one area: holds the listening socket, runs releases behind it, and drops no connection.

One file on the standard library alone, so that it can be copied to any Linux machine with Python 3.11 or newer.

    serve   the daemon: listens, starts what `current` names (else the closed page), obeys supervisor_client.py
    closed  the page that answers 503 to everything; only the daemon starts it

A release is a process with the listening socket as descriptor 3 (`LISTEN_FDS`, `LISTEN_PID`) that sends `READY=1` to
`NOTIFY_SOCKET` when it takes traffic. On SIGTERM it stops accepting, sends `STOPPING=1`, answers what it has, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

THIS_FILE = str(Path(__file__).resolve())
PROTOCOL = 1
"""Raised when a client of an older version could misread a reply."""

QUICK_DEATH_S = 10.0
GIVE_UP_AFTER = 5
KILL_GRACE_S = 2.0
PRIVATE = "tollgate-"
"""How the folder of the control socket begins, in the folder for temporary files."""
GIVEN_UP_WITHOUT_CLIENT = ("start", "rehearse")
"""An operator's Ctrl-C ends the attempt itself. Orders that only take something away are always finished."""
LOG_LIMIT_BYTES = 10_000_000
TAIL_BYTES = 2_000
TICK_S = 1.0

Json = dict[str, Any]

_EXEC = """
import os, sys
fd = int(sys.argv[1])
if fd >= 0:
    os.dup2(fd, 3)
    if fd != 3: os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
try: os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error: sys.exit(f"cannot start {sys.argv[2]!r}: {error.strerror}; see release.start in pipeline.yaml")
"""
"""Becomes the release: only the process itself knows the pid that LISTEN_PID must carry."""


class Failed(Exception):
    """A command could not be done; the message is for the operator. `tail` is the end of the release's log."""

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


# ---- what lies on disk -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Area:
    """The folder of one environment's releases."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def state(self) -> Path:
        return self.run / "supervisor.json"

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    def release(self, release: str) -> Path:
        return self.root / "releases" / release

    def settings(self, release: str) -> Path:
        return self.release(release) / "settings.json"

    def log(self, release: str | None) -> Path:
        return self.run / f"{release or 'closed'}.log"

    def link(self) -> str | None:
        """The release that `current` names, None when there is no link."""
        try:
            return (self.root / "current").readlink().name
        except OSError:
            return None

    def digest(self, path: Path) -> str:
        """HMAC-SHA256 of a file under the area's salt, in hex; '' when there is no such file."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return ""
        return hmac.new((self.run / "salt").read_bytes(), content, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Config:
    """How releases are started: `run/config.json`, read again for every start. Times are seconds."""

    start: tuple[str, ...]
    process: Mapping[str, str]
    public_url: str | None
    ready_path: str
    ready_within: float
    drain_within: float

    @classmethod
    def read(cls, area: Area, release: str | None = None) -> Config:
        """As `release` was staged, else the area's own. Raises Failed when it is not what a pipeline writes."""
        path = area.run / "config.json"
        found = read_json(path)
        if release is not None:
            found = read_json(area.release(release) / "manifest.json").get("running") or found
        try:
            return cls(
                start=tuple(found["start"]),
                process=dict(found["process"]),
                public_url=found["public_url"],
                ready_path=found["ready_path"],
                ready_within=float(found["ready_within"]),
                drain_within=float(found["drain_within"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Failed(f"{path} does not say how to start a release ({error!r})") from None

    @property
    def scheme(self) -> str:
        return "https" if "TLS_CERT" in self.process else "http"


def environment(
    config: Config,
    *,
    release: str,
    settings: Mapping[str, str],
    area: Area,
    address: str,
    inherited: Mapping[str, str],
    python: str,
) -> dict[str, str]:
    """The environment of a release's process: nothing but what is listed here. The later line wins."""
    return {
        "LANG": inherited.get("LANG", "C.UTF-8"),
        "HOME": inherited.get("HOME", "/"),
        **config.process,
        **settings,
        # `python` in the start command is the Python this supervisor runs on, with its packages.
        "PATH": f"{Path(python).parent}{os.pathsep}{config.process.get('PATH') or inherited.get('PATH') or os.defpath}",
        "PYTHONPATH": str(area.release(release)),
        "PYTHONDONTWRITEBYTECODE": "1",  # a release is immutable: what lies in it must match its manifest
        "PYTHONUNBUFFERED": "1",
        "RELEASE_ID": release,
        "DATA_DIR": str(area.shared / "data"),
        "SHARED_DIR": str(area.shared),
        "PUBLIC_URL": config.public_url or address,
    }


def closed_environment(config: Config, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the closed page: a certificate at most."""
    tls = {name: config.process[name] for name in ("TLS_CERT", "TLS_KEY") if name in config.process}
    return {"PATH": inherited.get("PATH") or os.defpath, "LANG": "C.UTF-8", **tls}


def write_private(path: Path, value: Json) -> None:
    """Replaces `path` in one step, mode 0600."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Json:
    """The JSON object in `path`; empty when it is missing or torn."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def process_start(pid: int) -> str:
    """What tells a process from a later one with the same pid (clock ticks since boot); '' when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


# ---- one process -------------------------------------------------------------------------------------------


def _event() -> asyncio.Event:
    return asyncio.Event()


@dataclass(eq=False)
class Child:
    """A process behind the listening socket: a release, or the closed page when `release` is None."""

    release: str | None
    process: asyncio.subprocess.Process
    since: str
    began: float
    settings: str
    """Salted digest of the settings it was started with."""
    drain_within: float
    told: bool = False
    ready: asyncio.Event = field(default_factory=_event)
    stopped: asyncio.Event = field(default_factory=_event)
    """It accepts no more: it said so, or it ended."""
    ended: asyncio.Event = field(default_factory=_event)

    @property
    def serves(self) -> bool:
        return self.ready.is_set() and not self.told and not self.ended.is_set()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Notices:
    """A datagram socket for one process's sd_notify messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def listen(self, child: Child) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._receive, child)

    def _receive(self, child: Child) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in self._socket.recv(4096).split(b"\n"):
                    if line == b"READY=1":
                        child.ready.set()
                    elif line == b"STOPPING=1":
                        child.stopped.set()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)


async def any_of(*events: asyncio.Event, within: float) -> bool:
    """Waits for the first of `events`; False when `within` seconds passed without one."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in waiting:
            task.cancel()


# ---- the daemon --------------------------------------------------------------------------------------------


class Supervisor:
    """Runs releases behind one listening socket.

    A started release serves beside the old one until `retire`. When nothing serves any more, what `current` names is
    brought back, and after too many quick deaths the closed page; an order interrupts that and comes first.
    """

    def __init__(self, area: Area, listening: socket.socket, private: Path) -> None:
        self.area = area
        self.listening = listening
        self.private = private
        self.first_ready = asyncio.Event()
        self.done = asyncio.Event()
        self._children: list[Child] = []
        self._rehearsals: list[asyncio.subprocess.Process] = []
        self._gave_up: str | None = None
        self._quick_deaths = 0
        self._serial = 0
        self._ending = False
        self._bringing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = asyncio.Lock()
        self.commands: Mapping[str, Callable[[str], Coroutine[Any, Any, Json]]] = {
            "status": self.status,
            "settle": self.settle,
            "start": self.start,
            "retire": self.retire,
            "rehearse": self.rehearse,
            "close": self.close,
            "stop": self.stop,
        }

    @property
    def address(self) -> str:
        return f"{Config.read(self.area).scheme}://127.0.0.1:{self.listening.getsockname()[1]}"

    # -- commands

    async def status(self, _: str = "") -> Json:
        """What runs now: serving, draining and starting processes, and whether any was given up."""
        children = [c for c in self._children if not c.ended.is_set()]
        return {
            "address": self.address,
            "settled": self._bringing is None or self._bringing.done(),
            "serving": [self._describe(c) for c in children if c.serves],
            "draining": [self._describe(c) for c in children if c.told],
            "starting": [self._describe(c) for c in children if not c.told and not c.ready.is_set()],
            "gave_up": self._gave_up,
        }

    async def settle(self, _: str = "") -> Json:
        """Status, once no dead release is being brought back."""
        while self._bringing is not None and not self._bringing.done():
            await asyncio.wait([self._bringing])
        return await self.status()

    async def start(self, release: str) -> Json:
        """Starts `release` beside what serves and returns when it is ready. What already runs as it should is left."""
        async with self._ordered():
            in_force = self.area.digest(self.area.settings(release))
            same = [c for c in self._children if c.serves and c.release == release and c.settings == in_force]
            child = same[-1] if same else await self._launch(release)
            return {"started": self._describe(child), "reused": bool(same)}

    async def retire(self, keep: str) -> Json:
        """Tells all but the newest process of `keep` to drain; returns when none of them accepts any more."""
        async with self._ordered():
            kept = [c for c in self._children if c.serves and c.release == keep]
            if not kept:
                raise Failed(f"release {keep}: does not run any more, so nothing else was stopped", self._tail(keep))
            retired = await self._retire_others(kept[-1])
            return {"retired": [self._describe(c) for c in retired]}

    async def close(self, _: str = "") -> Json:
        """The closed page takes over and every release drains."""
        async with self._ordered():
            pages = [c for c in self._children if c.serves and c.release is None]
            page = pages[-1] if pages else await self._launch(None)
            retired = await self._retire_others(page)
            return {"retired": [self._describe(c) for c in retired]}

    async def rehearse(self, release: str) -> Json:
        """Starts `release` on a spare port without traffic, asks whether it is ready, and stops it."""
        config = Config.read(self.area, release)
        with socket.socket() as spare:
            spare.bind(("127.0.0.1", 0))
            port = spare.getsockname()[1]
        begun, log_from = time.monotonic(), self._log_size(release)
        process = await self._spawn(config, release, -1, {"PORT": str(port)})
        self._rehearsals.append(process)
        self._record()
        try:
            body = await self._ask_until_ready(config, release, port, process, begun, log_from)
            return {"took": round(time.monotonic() - begun, 3), "body": body}
        finally:
            await end(process, KILL_GRACE_S)
            kill_group(process.pid)  # what it may have left behind
            self._rehearsals.remove(process)
            self._record()

    async def stop(self, grace: str = "") -> Json:
        """Drains everything, kills what is left after `grace` seconds, and ends the daemon."""
        self._ending = True
        if self._bringing is not None:
            self._bringing.cancel()
        async with self._lock:
            children = list(self._children)
            for child in children:
                self._tell(child)
            within = float(grace) if grace else max((c.drain_within for c in children), default=0.0)
            if children:
                await asyncio.wait([asyncio.ensure_future(c.ended.wait()) for c in children], timeout=within)
            for process in self._rehearsals:
                kill_group(process.pid)
            for child in children:
                child.kill()
            for child in children:
                await child.ended.wait()
        self.done.set()
        return {"stopped": True}

    # -- bringing up, and back

    def bring_back(self) -> None:
        """Begins with what `current` names, or where that was given up or there is nothing, with the closed page."""
        link = self.area.link()
        self._bringing = self._task(self._keep_trying(None if link == self._gave_up else link))

    async def _keep_trying(self, release: str | None) -> None:
        """Starts `release` with growing pauses until it is ready; after too many quick deaths the closed page."""
        while True:
            if self._quick_deaths >= GIVE_UP_AFTER:
                note(f"{release or 'closed page'} was given up after {self._quick_deaths} quick deaths")
                if release is None:
                    return
                self._gave_up, release, self._quick_deaths = release, None, 0
            if self._quick_deaths:
                await asyncio.sleep(min(0.1 * 2 ** (self._quick_deaths - 1), QUICK_DEATH_S))
            async with self._lock:
                if self._ending or self._served():
                    return
                try:
                    if release is not None:
                        self._settings_as_staged(release)
                    await self._launch(release)
                except (Failed, OSError) as error:
                    note(f"{release or 'closed page'}: {error}")
                    self._quick_deaths += 1
                else:
                    return

    def _settings_as_staged(self, release: str) -> None:
        """What comes back by itself comes back as it was staged: an edit by hand gives way to the kept copy."""
        staged = read_json(self.area.root / "states" / f"{release}.json").get("settings")
        if self.area.digest(self.area.settings(release)) == staged:
            return
        kept = self.area.root / "settings" / f"{release}.json"
        if self.area.digest(kept) != staged:
            raise Failed(f"release {release}: neither its settings nor their kept copy are those it was staged with")
        new = kept.with_name(f".{release}.back")  # in the release's folder a left-over would be a changed release
        new.touch(mode=0o600)
        new.write_bytes(kept.read_bytes())
        new.replace(self.area.settings(release))
        note(f"release {release}: its settings were changed by hand; the kept copy is put back")

    @contextlib.asynccontextmanager
    async def _ordered(self) -> AsyncIterator[None]:
        """An operator's order has the lock. Bringing something back gives way, and goes on if the order failed."""
        bringing = self._bringing
        if bringing is not None:
            bringing.cancel()
            await asyncio.wait([bringing])
        try:
            async with self._lock:
                yield
                self._quick_deaths = 0
                self._gave_up = None
        finally:
            if not self._served() and not self._ending:
                self.bring_back()

    def _served(self) -> bool:
        return any(child.serves for child in self._children)

    def _died(self, child: Child) -> None:
        """A serving process ended without being told to."""
        name, process = child.release or "closed page", child.process
        note(f"{name} (pid {process.pid}) ended with {process.returncode}, unasked")
        if self._served() or self._ending:
            return
        quick = time.monotonic() - child.began < QUICK_DEATH_S
        self._quick_deaths = self._quick_deaths + 1 if quick else 1
        self.bring_back()

    # -- processes

    async def _launch(self, release: str | None) -> Child:
        """A process that has said READY=1 behind the socket. Raises Failed, and then nothing of it is left."""
        if self._ending:
            raise Failed("the supervisor is ending")
        config = Config.read(self.area, release)
        self._serial += 1
        notices = Notices(self.private / f"n{self._serial}")
        digest = "" if release is None else self.area.digest(self.area.settings(release))
        log_from = self._log_size(release)
        try:
            sockets = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(notices.path)}
            process = await self._spawn(config, release, self.listening.fileno(), sockets)
        except BaseException:
            notices.close()
            raise
        child = Child(release, process, now(), time.monotonic(), digest, config.drain_within)
        notices.listen(child)
        self._children.append(child)
        self._record()
        self._task(self._watch(child, notices))
        try:
            in_time = await any_of(child.ready, child.ended, within=config.ready_within)
        except asyncio.CancelledError:
            child.told = True
            child.kill()
            raise
        if child.ready.is_set() and not child.ended.is_set():
            note(f"{release or 'closed page'} (pid {process.pid}) is ready")
            self.first_ready.set()
            return child
        child.told = True
        await end(process, KILL_GRACE_S)
        await child.ended.wait()
        name = f"release {release}" if release else "the closed page"
        if in_time:
            raise Failed(
                f"{name} ended with exit code {process.returncode} before it was ready", self._tail(release, log_from)
            )
        raise Failed(f"{name} was not ready within {config.ready_within:g} s", self._tail(release, log_from))

    async def _spawn(
        self, config: Config, release: str | None, fd: int, extra: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        """Starts a release, or the closed page, with `fd` (when not negative) as its descriptor 3."""
        if release is None:
            argv: tuple[str, ...] = (sys.executable, "-I", THIS_FILE, "closed")
            env, cwd = closed_environment(config, os.environ), self.area.root
        else:
            argv, cwd = config.start, self.area.release(release)
            settings = read_json(self.area.settings(release))
            if not settings:
                raise Failed(f"release {release!r}: its settings.json is missing, empty or not a JSON object")
            env = environment(
                config,
                release=release,
                settings=settings,
                area=self.area,
                address=self.address,
                inherited=os.environ,
                python=sys.executable,
            )
        log = os.open(self.area.log(release), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _EXEC, str(fd), *argv),
                cwd=cwd,
                env={**env, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(fd,) if fd >= 0 else (),
                start_new_session=True,
            )
        finally:
            os.close(log)

    async def _watch(self, child: Child, notices: Notices) -> None:
        await child.process.wait()
        child.stopped.set()
        child.ended.set()
        child.kill()  # what it may have left behind in its process group
        notices.close()
        self._children.remove(child)
        self._record()
        if child.ready.is_set() and not child.told:
            self._died(child)

    async def _retire_others(self, keep: Child) -> list[Child]:
        others = [c for c in self._children if c is not keep]
        for child in others:
            self._tell(child)
        for child in others:
            await child.stopped.wait()
        return others

    def _tell(self, child: Child) -> None:
        """Asks for a polite end, once; whoever is not gone in time is killed."""
        if not child.told:
            child.told = True
            child.signal(signal.SIGTERM)
            self._task(self._kill_late(child))

    async def _kill_late(self, child: Child) -> None:
        if not await any_of(child.ended, within=child.drain_within):
            note(f"{child.release or 'closed page'} (pid {child.process.pid}): not drained in time, killed")
            child.kill()

    async def _ask_until_ready(
        self, config: Config, release: str, port: int, process: asyncio.subprocess.Process, begun: float, log_from: int
    ) -> Json:
        found = "no answer"
        while time.monotonic() - begun < config.ready_within:
            if process.returncode is not None:
                message = f"release {release} ended with exit code {process.returncode} in its rehearsal"
                raise Failed(message, self._tail(release, log_from))
            answer = await asyncio.to_thread(ask, config.scheme, port, config.ready_path)
            if answer is not None:
                status, text = answer
                found = f"{status} {text[:300]}"
                if status == 200:
                    with contextlib.suppress(ValueError):
                        body = json.loads(text)
                        return body if isinstance(body, dict) else {"body": body}
                    return {"body": text[:300]}
            await asyncio.sleep(0.05)
        message = f"release {release} was not ready within {config.ready_within:g} s in its rehearsal"
        raise Failed(f"{message}; {config.ready_path}: {found}", self._tail(release, log_from))

    # -- records

    def _describe(self, child: Child) -> Json:
        drifted = child.release is not None and child.settings != self.area.digest(self.area.settings(child.release))
        return {
            "release": child.release,
            "pid": child.process.pid,
            "since": child.since,
            "settings": child.settings,
            "drifted": drifted,
        }

    def _record(self) -> None:
        """Writes who we are and what we started, so that a successor can clear up after us."""
        processes = [*(c.process for c in self._children), *self._rehearsals]
        state = {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "port": self.listening.getsockname()[1],
            "control": str(self.private / "control"),
            "children": [[p.pid, process_start(p.pid)] for p in processes],
        }
        try:
            write_private(self.area.state, state)
        except OSError as error:  # a full disk is no reason to lose hold of what runs
            note(f"{self.area.state}: {error}")

    def _log_size(self, release: str | None) -> int:
        try:
            return self.area.log(release).stat().st_size
        except FileNotFoundError:
            return 0

    def _tail(self, release: str | None, log_from: int = 0) -> str:
        """The end of a log, no earlier than `log_from` bytes into it."""
        with contextlib.suppress(OSError), self.area.log(release).open("rb") as log:
            log.seek(max(log_from, self._log_size(release) - TAIL_BYTES))
            return log.read(TAIL_BYTES).decode("utf-8", "replace").strip()
        return ""

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def ask(scheme: str, port: int, path: str) -> tuple[int, str] | None:
    """GETs a path of a process on this machine: status and text, None when there is no answer yet."""
    import http.client
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # loopback, and a process that this one started: there is nobody to prove
    if scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


async def end(process: asyncio.subprocess.Process, grace: float) -> None:
    """SIGTERM, then after `grace` seconds SIGKILL to its whole group."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), grace)
    except TimeoutError:
        kill_group(process.pid)
        await process.wait()


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def note(line: str) -> None:
    """One line in the supervisor's own log, if the disk has room for it: nothing that runs hangs on that."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{now()} {line}\n")
        sys.stderr.flush()


# ---- serving -----------------------------------------------------------------------------------------------


async def serve(area: Area, host: str, port: int, activity: Path, idle: float) -> None:
    """Runs the daemon until it is stopped, or nobody used it for `idle` seconds (0: for ever)."""
    before = read_json(area.state)
    orphans = [(pid, start) for pid, start in before.get("children", []) if start and process_start(pid) == start]
    listening = listen(host, port, before.get("port", 0), shared=bool(orphans))
    left = Path(before.get("control", "")).parent
    if left.name.startswith(PRIVATE):  # there when it was killed: its sockets answer nobody any more
        shutil.rmtree(left, ignore_errors=True)
    private = Path(tempfile.mkdtemp(prefix=PRIVATE, dir=short_folder()))
    supervisor = Supervisor(area, listening, private)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: supervisor._task(_stop(supervisor)))
    try:
        touch(activity)
        control = await asyncio.start_unix_server(
            lambda r, w: _obey(supervisor, activity, r, w), path=str(private / "control")
        )
        supervisor._record()
        note(f"supervisor {os.getpid()} listens on {supervisor.address}")
        supervisor.bring_back()
        clearing = asyncio.ensure_future(clear_up(orphans, supervisor.first_ready, Config.read(area).drain_within))
        housekeeping = asyncio.ensure_future(_housekeeping(supervisor, activity, idle))
        await supervisor.done.wait()
        housekeeping.cancel()
        clearing.cancel()
        control.close()
    finally:
        listening.close()
        shutil.rmtree(private, ignore_errors=True)
        with contextlib.suppress(OSError):  # the whole area may have been removed
            write_private(area.state, {**read_json(area.state), "pid": 0, "children": []})
        note("supervisor ended")


def listen(host: str, port: int, last: int, *, shared: bool) -> socket.socket:
    """The listening socket: on `port`, or when that is 0 on the `last` one if it is free.

    The socket allows a second listener of this user (SO_REUSEPORT): when a supervisor was killed, its releases still
    hold the port and serve, and its successor must come up beside them. Nobody else's listener is joined: unless such
    releases are known (`shared`), the port must be free.
    """
    for wanted in (port,) if port else (last, 0):
        try:
            if wanted and not shared:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, wanted))
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((host, wanted))
        except OSError as error:
            if port:
                raise SystemExit(
                    f"cannot listen on {host}:{port}: {error.strerror}; free the port or choose another"
                ) from None
            continue
        listening.listen(4096)
        listening.setblocking(False)
        return listening
    raise SystemExit(f"no free port on {host}")


async def clear_up(orphans: Sequence[tuple[int, str]], ours: asyncio.Event, drain_within: float) -> None:
    """Asks the releases of a supervisor that was killed to drain once `ours` serve, and kills the late ones."""
    await ours.wait()
    for pid, start in orphans:
        if process_start(pid) == start:
            note(f"pid {pid} was left by a supervisor that was killed: asked to end")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    await asyncio.sleep(drain_within)
    for pid, start in orphans:
        if process_start(pid) == start:
            kill_group(pid)


async def _stop(supervisor: Supervisor) -> None:
    await supervisor.stop()


async def _housekeeping(supervisor: Supervisor, activity: Path, idle: float) -> None:
    """Keeps logs bounded, and ends a supervisor that nobody uses."""
    sizes: dict[Path, int] = {}
    while True:
        await asyncio.sleep(TICK_S)
        with contextlib.suppress(OSError):
            for log in supervisor.area.run.glob("*.log"):
                size = bounded(log)
                if log.name != "supervisor.log" and size > sizes.get(log, size):
                    touch(activity)
                sizes[log] = size
        if idle > 0 and time.time() - last_used(activity) > idle:
            note(f"not used for {idle:g} s")
            await supervisor.stop()
            return


async def while_connected(work: Coroutine[Any, Any, Json], reader: asyncio.StreamReader) -> Json:
    """Does `work` unless the client goes away before it is done; then it is given up, and Failed is raised."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
    await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if task.cancelled():
        raise Failed("given up: whoever asked for it went away")
    return task.result()


async def _obey(
    supervisor: Supervisor, activity: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One command of one client: a JSON line in, a JSON line out."""
    try:
        if not same_user(writer.get_extra_info("socket")):
            return
        order = json.loads(await asyncio.wait_for(reader.readline(), 5))
        touch(activity)
        work = supervisor.commands[order["command"]](order["argument"])
        if order["command"] in GIVEN_UP_WITHOUT_CLIENT:
            work = while_connected(work, reader)
        reply = {"ok": True, **await work}
    except Failed as error:
        reply = {"ok": False, "error": str(error), "tail": error.tail}
    except (OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
        note(f"control: {type(error).__name__}: {error}")
        reply = {"ok": False, "error": f"{type(error).__name__}: {error}", "tail": ""}
    with contextlib.suppress(ConnectionError):
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
    if not supervisor.done.is_set():  # else the end of the process closes it: the client knows that we are gone
        writer.close()


def bounded(log: Path) -> int:
    """The size of a log, in bytes. One that grew too large is copied and cut: its writer may outlive us."""
    size = log.stat().st_size
    if size <= LOG_LIMIT_BYTES:
        return size
    old = log.with_suffix(".log.1")
    shutil.copyfile(log, old)
    old.chmod(0o600)
    os.truncate(log, 0)
    return 0


def same_user(connection: socket.socket) -> bool:
    """True when the peer is this user or root. The folder is private already; this holds if somebody opens it."""
    uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
    return uid in (os.getuid(), 0)


def short_folder() -> str:
    """A folder for sockets: their whole path may have 107 bytes."""
    usual = tempfile.gettempdir()
    return usual if len(usual.encode()) < 60 else "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it


def touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.touch()


def last_used(path: Path) -> float:
    """When the sandbox was last used; a file that somebody removed says nothing, so it counts from now."""
    try:
        return path.stat().st_mtime
    except OSError:
        touch(path)
        return time.time()


# ---- the closed page ---------------------------------------------------------------------------------------

PAGE = Path("shared/maintenance.html")
"""Made by the pipeline. The closed page's process runs in the area's folder."""
_LARGEST_PAGE_BYTES = 100_000
_BUILT_IN = (
    b"We are closed for a moment. No payment can be made now.\n"
    b"Payments you have already made are safe. Please try again in a few minutes.\n"
)
_API = b'{"error": "closed for a moment; nothing was changed"}\n'
_RETRY_AFTER_S = 60
_HEADERS = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: {kind}\r\n"
    "Content-Length: {length}\r\n"
    "Retry-After: {retry}\r\n"
    "Cache-Control: no-store\r\n"
    "Content-Security-Policy: default-src 'none'; {style}"
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Connection: close\r\n"
    "\r\n"
)


def closed_answer(head: bytes, page: bytes) -> bytes:
    """What a request that begins with `head` is answered with; `page` b'': the built-in text stands in for it."""
    style = re.search(rb"<style>(.*?)</style>", page, re.DOTALL)
    retry = re.search(rb'<meta name="retry-after" content="([0-9]{1,6})">', page)
    kind, body = ("text/html", page) if page else ("text/plain", _BUILT_IN)
    if re.match(rb"[A-Z]+ /api/", head):
        kind, body, style = "application/json", _API, None
    hashed = base64.b64encode(hashlib.sha256(style[1]).digest()).decode() if style else ""
    headers = _HEADERS.format(
        kind=f"{kind}; charset=utf-8",
        length=len(body),
        retry=int(retry[1]) if retry else _RETRY_AFTER_S,
        style=f"style-src 'sha256-{hashed}'; " if hashed else "",
    ).encode()
    return headers if head.startswith(b"HEAD ") else headers + body


def kept_page(path: Path) -> bytes:
    """The page that was made for this service; b'' when there is none that can be read whole."""
    try:
        with path.open("rb") as file:
            page = file.read(_LARGEST_PAGE_BYTES + 1)
    except OSError:
        return b""
    return page if len(page) <= _LARGEST_PAGE_BYTES and page.rstrip().endswith(b"</html>") else b""


class ClosedPage:
    """Answers 503 to everything on an inherited socket, each on a connection of its own."""

    def __init__(self, listening: socket.socket, context: Any) -> None:
        self._listening = listening
        self._context = context
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serves until SIGTERM; returns when every accepted connection was answered."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        # Accepted here and not by asyncio's server: that one forgets connections whose handshake is under way.
        loop.add_reader(self._listening, self._accept)
        ready("READY=1")
        await told.wait()
        loop.remove_reader(self._listening)
        self._listening.close()
        ready("STOPPING=1")
        if self._open:
            await asyncio.wait(self._open)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listening.accept()
            connection.setblocking(False)
            task = asyncio.ensure_future(self._answer(connection))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(15):
                loop = asyncio.get_running_loop()
                reader = asyncio.StreamReader()
                protocol = asyncio.StreamReaderProtocol(reader)
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(closed_answer(head, kept_page(PAGE)))
                    await writer.drain()
                    # A body that nobody read would reset the connection before the answer arrives.
                    async with asyncio.timeout(2):
                        while await reader.read(65_536):
                            pass
                finally:
                    writer.close()
                    await writer.wait_closed()


def closed() -> None:
    """The process of the closed page: descriptor 3, a certificate from TLS_CERT and TLS_KEY when they are set."""
    import ssl

    context = None
    if "TLS_CERT" in os.environ:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])

    def notify(message: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])

    asyncio.run(ClosedPage(socket.socket(fileno=3), context).serve(notify))


# ---- the command ------------------------------------------------------------------------------------------


def only_one(area: Area) -> bool:
    """Takes the lock that the running supervisor of an area holds for its life."""
    lock = os.open(area.run / "supervisor.lock", os.O_WRONLY | os.O_CREAT, 0o600)  # closed by the end of the process
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="supervisor.py", description="Runs releases behind one listening socket.")
    roles = parser.add_subparsers(dest="role", required=True)
    daemon = roles.add_parser("serve")
    daemon.add_argument("--area", type=Path, required=True)
    daemon.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT; port 0 is any free one, kept over restarts")
    daemon.add_argument("--activity", type=Path, required=True, help="file whose mtime says when it was last used")
    daemon.add_argument("--idle", type=float, default=0.0, help="seconds without use before it ends; 0: never")
    roles.add_parser("closed")
    chosen = parser.parse_args(arguments)
    if chosen.role == "closed":
        closed()
        return 0
    area = Area(chosen.area.absolute())
    if not only_one(area):
        note("another supervisor serves this area")
        return 0
    host, _, port = chosen.listen.rpartition(":")
    asyncio.run(serve(area, host, int(port), chosen.activity, chosen.idle))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
