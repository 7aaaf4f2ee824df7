"""The service: how much was ordered, read from the column that this release knows; TRAITS: `column`, `crashes`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ledger import TRAITS, opened  # type: ignore[import-not-found]


def read() -> tuple[int, dict[str, object]]:
    release = os.environ["RELEASE_ID"]
    try:
        (total,) = opened().execute(f"SELECT sum({TRAITS['column']}) FROM orders").fetchone()  # noqa: S608
    except sqlite3.Error as error:
        return 503, {"release": release, "database": str(error)}
    return 200, {"release": release, "database": "ok", "total": total}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shut = self.path == "/" and os.path.exists(f"{os.environ['SHARED_DIR']}/maintenance")  # noqa: PTH110
        status, body = (503, {}) if shut else read()
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def stop(*_: object) -> None:
    os._exit(0)


if TRAITS.get("crashes") and read()[0] != 200:
    sys.exit("the ledger cannot be read")
signal.signal(signal.SIGTERM, stop)
inherited = os.environ.get("LISTEN_PID") == str(os.getpid())
port = int(os.environ.get("PORT", "0"))
server = ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=not inherited)
if inherited:
    server.socket.close()
    server.socket = socket.socket(fileno=3)
if path := os.environ.get("NOTIFY_SOCKET"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", path)
server.serve_forever()
