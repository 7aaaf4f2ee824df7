"""A real nginx for tests: any `server` blocks, on ports of loopback that nobody else can take.

    @needs_nginx
    def test_something(tmp_path: Path) -> None:
        with nginx(tmp_path, "server { listen LISTEN_1; return 301 https://localhost:PORT_2$request_uri; }"
                             "server { listen LISTEN_2 ssl; ssl_certificate a.pem; ssl_certificate_key a.key; }") as it:
            assert httpx.get(f"http://127.0.0.1:{it.ports[1]}/").status_code == 301

`LISTEN_1` to `LISTEN_9` stand for 127.0.0.1:PORT, `PORT_1` to `PORT_9` for the port alone.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx, a Debian package")

_STARTS_WITHIN_S = 30.0
_CONFIGURATION = """
{user}daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {more}
{servers}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx. `ports` by the number in `LISTEN_n`; `folder` holds access.log and error.log."""

    ports: Mapping[int, int]
    folder: Path
    pid: int

    @property
    def errors(self) -> str:
        return (self.folder / "error.log").read_text("utf-8", "replace")


@contextmanager
def nginx(folder: Path, servers: str, *, more: str = "") -> Iterator[Nginx]:
    """Runs nginx with these `server` blocks until the end of the block, as the user who runs the tests.

    `more` goes into the `http` block before them, e.g. `limit_req_zone`. Its own files lie in `folder`/nginx; several
    may run at once in different folders. Raises AssertionError with nginx's own words when it does not start.
    """
    home = folder / "nginx"
    home.mkdir(parents=True)
    with ExitStack() as held:
        # nginx takes listening sockets over by number from this variable: so no port is guessed and none is lost
        sockets = {
            int(n): held.enter_context(_listening()) for n in sorted(set(re.findall(r"LISTEN_([1-9])", servers)))
        }
        ports = {n: listener.getsockname()[1] for n, listener in sockets.items()}
        for n, port in ports.items():
            servers = servers.replace(f"LISTEN_{n}", f"127.0.0.1:{port}").replace(f"PORT_{n}", str(port))
        # started by root, its workers would become somebody who may not read a test's folder
        user = f"user {getpass.getuser()};\n" if os.geteuid() == 0 else ""
        configuration = home / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(user=user, folder=home, more=more, servers=servers), "utf-8")
        numbers = [listener.fileno() for listener in sockets.values()]
        with (home / "output").open("wb") as output:
            process = subprocess.Popen(
                ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(configuration)],
                env={"PATH": os.environ["PATH"], "NGINX": "".join(f"{number};" for number in numbers)},
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait(process, home)
            yield Nginx(ports, home, process.pid)
        finally:
            _stop(process)


def _listening() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _wait(process: subprocess.Popen[bytes], home: Path) -> None:
    """Until it has written its process id, which it does once its configuration stands."""
    written, deadline = home / "nginx.pid", time.monotonic() + _STARTS_WITHIN_S
    while not (written.is_file() and written.read_bytes().strip()):
        if process.poll() is not None or time.monotonic() > deadline:
            said = "".join(
                p.read_text("utf-8", "replace") for p in (home / "output", home / "error.log") if p.is_file()
            )
            raise AssertionError(f"nginx did not start:\n{said}")
        time.sleep(0.01)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)
