"""The sandbox host's process: the gateway over HTTPS and its control interface, until it is told to end or idle."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import IO

from aiohttp import web
from dotenv import dotenv_values

from gateways import SCHEMES
from pipeline.clock import SystemClock
from pipeline.contracts import Clock
from pipeline.errors import TollgateError
from pipeline.secrets import Secret
from pipeline.settings import Settings, SettingValue
from sandbox import account, authority, logs
from sandbox.account import Account
from sandbox.authority import Certificates
from sandbox.files import Files
from sandbox.gateway import control
from sandbox.gateway.app import Gateway
from sandbox.gateway.store import Store
from sandbox.logs import say

log = logging.getLogger(__name__)

SHUTDOWN_S = 2.0
"""How long requests under way may take once the host is told to end."""
LOOKS_EVERY_S = 15.0
TOUCHES_EVERY_S = 1.0
TOLERANCE_S = 300.0
"""For schemes with a time stamp; it does not matter to one who only sends."""

_kept_open: list[IO[str]] = []


def run(files: Files, *, idle_s: float, scheme: str, ready: Callable[[], None]) -> None:
    """Is the host: calls `ready` once it answers, returns when it was told to end or was idle for `idle_s`.

    `scheme` names how webhooks are signed, with the secrets that settings.env holds at the start.

    Raises TollgateError when it cannot start.
    """
    handler = logs.to_file(files.log)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    clock = SystemClock()
    try:
        certificates = authority.ensure(files.tls, clock.now())
        asyncio.run(_serve(files, certificates, idle_s=idle_s, scheme=scheme, ready=ready, clock=clock))
    except OSError as error:
        raise TollgateError(
            f"{error.filename or files.folder}: {error.strerror}", "Check space and permissions."
        ) from error
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


async def _serve(
    files: Files, certificates: Certificates, *, idle_s: float, scheme: str, ready: Callable[[], None], clock: Clock
) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    before = _last_ports(files.record)
    with _listen(before[0]) as gateway_socket, _listen(before[1]) as control_socket:
        address = f"https://127.0.0.1:{gateway_socket.getsockname()[1]}"
        control_address = f"http://127.0.0.1:{control_socket.getsockname()[1]}"
        files.activity.touch()
        store = Store(files.database)
        credentials = account.ensure(files.settings, address, SystemRandom())
        gateway = _gateway(files, certificates, store, address, credentials, clock)
        gateway.sender.scheme = SCHEMES[scheme](_settings(files.settings), TOLERANCE_S)
        token = secrets.token_urlsafe(32)
        runners = [_runner(gateway.application()), _runner(control.application(gateway, token))]
        try:
            for runner in runners:
                await runner.setup()
            await web.SockSite(runners[0], gateway_socket, ssl_context=_server_tls(certificates)).start()
            await web.SockSite(runners[1], control_socket).start()
            addresses = {"gateway": address, "control": control_address}
            _record(files.record, **addresses, token=token, scheme=scheme, since=clock.now().isoformat())
            say(log, "host.ready", gateway=address, control=control_address)
            ready()
            why = await _until_told_or_idle(stop, files, idle_s)
            say(log, "host.ending", why=why)
        finally:
            for runner in runners:
                await runner.cleanup()
            store.close()


def _gateway(
    files: Files, certificates: Certificates, store: Store, address: str, credentials: Account, clock: Clock
) -> Gateway:
    return Gateway(
        store=store,
        base=address,
        app_id=credentials.app_id,
        secret=credentials.secret.reveal(),
        trust=ssl.create_default_context(cafile=certificates.ca),
        now=clock.now,
        random=SystemRandom(),
        used=_toucher(files.activity),
    )


def _settings(path: Path) -> Settings:
    """What signs, as settings.env has it."""
    texts = dotenv_values(path, interpolate=False)
    values = {name: SettingValue(name, Secret(text or ""), str(path)) for name, text in texts.items()}
    return Settings(values, (), (str(path),))


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(app, access_log_class=logs.AccessLog, access_log=log, shutdown_timeout=SHUTDOWN_S)


def _server_tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificates.server, certificates.key)
    return context


def _listen(wanted: int) -> socket.socket:
    """A listening socket on 127.0.0.1, on the port of the last time where it is still free, else on any."""
    for port in (wanted, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError:
            listener.close()
            if port == 0:
                raise
        else:
            return listener
    raise AssertionError("unreachable")


def _last_ports(record: Path) -> tuple[int, int]:
    """The ports of the gateway and the control interface of the last start; 0 where there are none."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        gateway, control_port = (int(known[name].rsplit(":", 1)[1]) for name in ("gateway", "control"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return 0, 0
    return (gateway, control_port) if all(0 < p < 65536 for p in (gateway, control_port)) else (0, 0)


def _record(path: Path, **members: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"pid": os.getpid(), **members}, file, indent=2)
    temporary.replace(path)


def _toucher(activity: Path) -> Callable[[], None]:
    last = time.monotonic()

    def touch() -> None:
        nonlocal last
        if time.monotonic() - last >= TOUCHES_EVERY_S:
            last = time.monotonic()
            activity.touch()

    return touch


async def _until_told_or_idle(stop: asyncio.Event, files: Files, idle_s: float) -> str:
    """Returns why to end."""
    while True:
        try:
            async with asyncio.timeout(min(LOOKS_EVERY_S, max(idle_s / 4, 0.05))):
                await stop.wait()
        except TimeoutError:
            if why := _idle(files, idle_s):
                return why
        else:
            return "told to"


def _idle(files: Files, idle_s: float) -> str:
    """Why nobody needs the host any more, or ''. A folder that was removed ends it too: nothing could find it."""
    try:
        if time.time() - files.activity.stat().st_mtime <= idle_s:
            return ""
        # Kept until this process is gone, so that `up` cannot be handed a host that is about to end.
        starting = files.starting.open("a")
    except FileNotFoundError:
        return "its folder was removed"
    try:
        fcntl.flock(starting, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        starting.close()
        return ""
    if time.time() - files.activity.stat().st_mtime <= idle_s:
        starting.close()
        return ""
    _kept_open.append(starting)
    return f"not used for {idle_s:g} s"
