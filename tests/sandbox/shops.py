"""Real shops for tests: built by the build step, run as processes on loopback, paid at the real sandbox gateway."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from gateways import ikhokha_wire as wire
from sandbox import host
from sandbox.gateway.faults import Faults
from sandbox.shoppers import GOOD_CARD, filled

ROOT = Path(__file__).resolve().parent.parent.parent
WEBHOOK = "/api/webhooks/ikhokha"
PRICES = {"smoke-001": 100, "python-101": 49900}


def new_reference(prefix: str = "order-") -> str:
    return prefix + secrets.token_hex(8)


def build(out: Path, *, fault: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the build step as the pipeline does."""
    argv = [sys.executable, "sandbox/shop/build.py", "--out", str(out)]
    environment = {"PATH": os.environ["PATH"], "SANDBOX_FAULT": fault, **(env or {})}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


def eventually(found: Callable[[], bool], *, within: float = 15.0) -> bool:
    """Whether it became true; looks often, for at most `within` s."""
    deadline = time.monotonic() + within
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass(frozen=True)
class SandboxGateway:
    """The sandbox gateway of a folder, and what a drill may do to it."""

    addresses: host.HostAddresses
    tls: ssl.SSLContext
    settings: Mapping[str, str]

    def faults(self, **members: object) -> None:
        """Switches these faults on and all others off, in one step."""
        headers = {"Authorization": f"Bearer {self.addresses.token.reveal()}"}
        with httpx.Client(base_url=self.addresses.control, headers=headers, verify=self.tls, trust_env=False) as client:
            client.post("/faults", json=Faults().as_data() | members).raise_for_status()

    def payments(self, reference: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.addresses.token.reveal()}"}
        with httpx.Client(base_url=self.addresses.control, headers=headers, verify=self.tls, trust_env=False) as client:
            return [row for row in client.get("/payments").json() if row["reference"] == reference]

    def pay(self, url: str, card: str = GOOD_CARD) -> str:
        """Pays as a browser would; where the gateway sends the customer next."""
        with httpx.Client(verify=self.tls, trust_env=False) as client:
            form = filled(client.get(url).text, card)
            answer = client.post(self.addresses.gateway + form.action, data=form.fields)
            assert answer.status_code == 303, answer.text
            return answer.headers["location"]

    def signed(self, link_id: str, reference: str, status: str = "SUCCESS") -> tuple[bytes, dict[str, str]]:
        """A webhook as the gateway would send it."""
        text = wire.webhook_text(link_id, reference, status)
        return text.encode(), self.headers(text)

    def headers(self, text: str) -> dict[str, str]:
        signature = wire.sign(self.settings["VITE_IKHOKHA_WEBHOOK_SECRET"], WEBHOOK, text)
        return {"ik-appid": self.settings["VITE_IKHOKHA_API_KEY"], "ik-sign": signature}


@contextmanager
def sandbox_gateway(folder: Path) -> Iterator[SandboxGateway]:
    addresses = host.up(folder)
    try:
        settings = {name: value or "" for name, value in dotenv_values(addresses.settings, interpolate=False).items()}
        yield SandboxGateway(addresses, ssl.create_default_context(cafile=str(addresses.ca)), settings)
    finally:
        host.down(folder)


@dataclass
class Area:
    """What outlives a release: the listening socket, the data, the switches, and the address."""

    folder: Path
    gateway: SandboxGateway
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        (self.folder / "shared" / "data").mkdir(parents=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.socket.getsockname()[1]}"

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    def switch(self, name: str, content: str | None) -> None:
        path = self.shared / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)

    def build(self, name: str, *, fault: str = "") -> Path:
        out = self.folder / "releases" / name
        done = build(out, fault=fault, env=self.gateway.settings)
        assert done.returncode == 0, done.stderr
        return out

    def environment(self, release: str, **changed: str) -> dict[str, str]:
        tls = self.gateway.addresses.ca.parent
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            **self.gateway.settings,
            "RELEASE_ID": release,
            "DATA_DIR": str(self.shared / "data"),
            "SHARED_DIR": str(self.shared),
            "PUBLIC_URL": self.url,
            "CA_FILE": str(self.gateway.addresses.ca),
            "TLS_CERT": str(tls / "server.pem"),
            "TLS_KEY": str(tls / "server.key"),
            **changed,
        }

    @contextmanager
    def running(self, release: Path, *, ready: bool = True, **changed: str) -> Iterator[Running]:
        """A release on the area's socket, started the way a supervisor does it; killed at the end if it still runs."""
        shop = Running(self, release, changed)
        try:
            if ready:
                shop.wait_until_ready()
            yield shop
        finally:
            shop.end()

    def close(self) -> None:
        self.socket.close()


class Running:
    """A release's process, and a client's view of it."""

    def __init__(self, area: Area, release: Path, changed: Mapping[str, str]) -> None:
        self.area = area
        self.url = area.url
        self.log = area.folder / f"{release.name}.log"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify = area.folder / f"{release.name}-{secrets.token_hex(4)}.sock"
        self._notices.bind(str(notify))
        inherited = area.socket.fileno()
        start = f'exec 3<&{inherited}; export LISTEN_PID=$$; exec "$0" -m shop'
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", start, sys.executable],
                cwd=release,
                env=area.environment(release.name, LISTEN_FDS="1", NOTIFY_SOCKET=str(notify), **changed),
                pass_fds=(inherited,),
                stdout=log,
                stderr=log,
            )
        self.client = httpx.Client(base_url=self.url, verify=area.gateway.tls, trust_env=False, timeout=20)

    def wait_for(self, notice: bytes, *, within: float = 20.0) -> bool:
        """Whether the release said so before it ended or time ran out."""
        deadline = time.monotonic() + within
        self._notices.settimeout(0.1)
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self._notices.recv(100) == notice:
                    return True
            except TimeoutError:
                continue
        return False

    def wait_until_ready(self) -> None:
        assert self.wait_for(b"READY=1"), self.log.read_text()

    def end(self) -> None:
        self.client.close()
        self._notices.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def create(self, reference: str, *, course: str = "python-101", **changed: object) -> httpx.Response:
        wanted = {"reference": reference, "amount": PRICES[course], "currency": "ZAR", "course": course}
        return self.client.post("/api/payments", json={**wanted, **changed})

    def status(self, reference: str) -> str:
        return str(self.client.get(f"/api/payments/{reference}").json()["status"])

    def activations(self, reference: str) -> int:
        return int(self.client.get(f"/api/enrolments/{reference}").json()["activations"])

    def webhook(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        return self.client.post(WEBHOOK, content=body, headers={"Content-Type": "application/json", **headers})

    def metric(self, series: str) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"{series} is not there")

    def paid(self, reference: str, *, course: str = "python-101") -> str:
        """Creates and pays; waits for the enrolment. The paylinkID."""
        created = self.create(reference, course=course)
        assert created.status_code == 201, created.text
        self.area.gateway.pay(created.json()["paylinkUrl"])
        assert eventually(lambda: self.activations(reference) > 0), self.log.read_text()
        return str(created.json()["paylinkID"])


def switched_on(token: str = "") -> str:
    """A switch file's content; `token` may pass it."""
    proof = hashlib.sha256(token.encode()).hexdigest() if token else ""
    return json.dumps({"who": "test", "why": "test", "since": "2026-01-01T00:00:00Z", "proof": proof})
