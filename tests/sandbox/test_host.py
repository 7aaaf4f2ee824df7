"""The sandbox host runs in the background, once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from dotenv import dotenv_values

from gateways import GATEWAYS
from pipeline.clock import SystemClock
from pipeline.secrets import Secret
from pipeline.settings import Settings, SettingValue
from pipeline.spec import Contract
from sandbox import host
from sandbox.gateway.remote import Control

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose host is ended after the test."""
    where = tmp_path / "sandbox"
    yield where
    host.down(where)


def test_the_host_answers_as_soon_as_it_is_up(folder: Path) -> None:
    """After `up` the gateway answers a signed request with the settings the host made."""
    at = host.up(folder)
    values = {k: v or "" for k, v in dotenv_values(at.settings, interpolate=False).items()}
    assert values["VITE_IKHOKHA_API_URL"] == at.gateway
    assert values["VITE_IKHOKHA_API_SECRET"] == values["VITE_IKHOKHA_WEBHOOK_SECRET"]
    assert len(values) == 9
    known = {k: SettingValue(k, Secret(v) if "SECRET" in k or "KEY" in k else v, "") for k, v in values.items()}

    def http() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=ssl.create_default_context(cafile=at.ca), trust_env=False)

    now = SystemClock().now()
    client = GATEWAYS["ikhokha"](Settings(known, (), ()), http, SystemClock(), Contract())
    assert asyncio.run(client.history(now, now)) == []
    assert asyncio.run(Control(at.control, at.token.reveal()).faults())["outage"] is False


def test_secrets_are_private_and_not_logged(folder: Path) -> None:
    """What holds a secret has mode 0600, and neither log nor addresses show one."""
    at = host.up(folder)
    record = folder / "gateway" / "host.json"
    assert {stat.S_IMODE(p.stat().st_mode) for p in (at.settings, record)} == {0o600}
    secret = dotenv_values(at.settings)["VITE_IKHOKHA_API_SECRET"]
    assert secret
    shown = at.log.read_text() + repr(at)
    assert secret not in shown
    assert at.token.reveal() not in shown


def test_many_starts_at_once_give_one_host(folder: Path) -> None:
    """Whoever starts the sandbox at the same time gets the same host."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: host.up(folder), range(4)))
    assert len({(at.pid, at.gateway) for at in found}) == 1
    assert host.up(folder).pid == found[0].pid


def test_the_host_survives_whoever_started_it(folder: Path) -> None:
    """The host has a session of its own and answers after its starter has gone."""
    start = f"import pathlib; from sandbox import host; print(host.up(pathlib.Path({str(folder)!r})).pid)"
    starter = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, check=True)
    at = host.status(folder)
    assert at is not None
    assert at.pid == int(starter.stdout)
    assert os.getsid(at.pid) == at.pid
    assert _answers(at)


def test_down_ends_it_and_the_next_start_has_the_same_addresses(folder: Path) -> None:
    """`down` leaves no process; the next `up` reuses ports, settings and certificates."""
    first = host.up(folder)
    settings, ca = first.settings.read_bytes(), first.ca.read_bytes()
    assert host.down(folder)
    assert not host.down(folder)
    assert host.status(folder) is None
    assert not _answers(first)
    second = host.up(folder)
    assert (second.gateway, second.control) == (first.gateway, first.control)
    assert (second.settings.read_bytes(), second.ca.read_bytes()) == (settings, ca)


def test_when_the_port_is_taken_only_the_address_in_the_settings_changes(folder: Path) -> None:
    """A gateway that must move rewrites its own line of settings.env and nothing an operator wrote there."""
    first = host.up(folder)
    host.down(folder)
    text = first.settings.read_text() + "# kept\nEXTRA=1\n"
    first.settings.write_text(text)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", int(first.gateway.rsplit(":", 1)[1])))
        squatter.listen()
        second = host.up(folder)
    assert second.gateway != first.gateway
    assert second.settings.read_text() == text.replace(first.gateway, second.gateway)


def test_a_killed_host_is_noticed_and_started_again(folder: Path) -> None:
    """After SIGKILL nothing claims that the host runs, and `up` starts a new one."""
    first = host.up(folder)
    os.kill(first.pid, signal.SIGKILL)
    _until(lambda: host.status(folder) is None)
    assert host.up(folder).pid != first.pid


def test_a_host_nobody_uses_ends_by_itself(folder: Path) -> None:
    """The host ends once its activity file is older than its idle time."""
    at = host.up(folder, idle_s=0.2)
    _until(lambda: host.status(folder) is None)
    assert "not used for 0.2 s" in at.log.read_text()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda f: (f / "settings.env").write_text("VITE_IKHOKHA_API_KEY=only\n"),
            "VITE_IKHOKHA_API_SECRET is missing",
        ),
        (lambda f: (f / "tls").write_text("not a folder"), "tls"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_no_process(
    folder: Path, damage: Callable[[Path], object], said: str
) -> None:
    """A host that cannot start is an error with the end of its log; after the cause is gone it starts."""
    folder.mkdir()
    damage(folder)
    with pytest.raises(host.HostFailed) as failed:
        host.up(folder)
    assert said in str(failed.value)
    assert "Traceback" not in str(failed.value)
    assert failed.value.remedy
    assert host.status(folder) is None
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    assert _answers(host.up(folder))


_HOLDER = """
import asyncio, sys
from sandbox.gateway.remote import Control
async def hold():
    async with Control(sys.argv[1], sys.argv[2]).holding(outage=True):
        print("held", flush=True)
        await asyncio.sleep(600)
asyncio.run(hold())
"""


def test_faults_end_with_the_process_that_holds_them(folder: Path) -> None:
    """A prober that is killed leaves no gateway in trouble behind, on which the next deploy would fail."""
    at = host.up(folder)
    control = Control(at.control, at.token.reveal())
    argv = [sys.executable, "-c", _HOLDER, at.control, at.token.reveal()]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert asyncio.run(control.faults())["outage"] is True
        holder.kill()
    _until(lambda: not asyncio.run(control.faults())["outage"])


def test_bytes_that_are_no_text_break_no_request(folder: Path) -> None:
    """An `Expect` header that is not UTF-8, to which the HTTP library itself would answer 500, is refused."""
    at = host.up(folder)
    address = httpx.URL(at.gateway)
    with socket.create_connection((address.host, address.port or 443), timeout=20) as plain:
        trust = ssl.create_default_context(cafile=at.ca)
        with trust.wrap_socket(plain, server_hostname=address.host) as line:
            line.sendall(b"GET /nowhere HTTP/1.1\r\nHost: gateway\r\nExpect: \xe2\x80\r\n\r\n")
            assert line.recv(4096).split(b" ")[1] == b"417"


def _answers(at: host.HostAddresses) -> bool:
    try:
        httpx.get(at.control, headers={"Authorization": f"Bearer {at.token.reveal()}"}, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def _until(holds: Callable[[], bool]) -> None:
    """Returns once it holds; the test's own time limit ends it."""
    while not holds():
        time.sleep(0.02)
