"""What a switch says to an area's supervisor, as a command: copied beside it, and started many times a switch.

One file on the standard library alone, for any Linux machine with Python 3.11 or newer. It loads next to nothing, so
that it starts in a few milliseconds; what parses arguments or speaks of types stays out.

    up AREA LISTEN ACTIVITY IDLE [settle]   starts the supervisor when none runs; `settle` waits until it has settled
    ctl AREA COMMAND [ARGUMENT]             sends one command: status, settle, start, retire, rehearse, close, stop
    digest AREA FILE...                     the salted SHA-256 of files; the values themselves stay here

Each prints one JSON object. Exit codes: 0 done, 1 the command was refused or failed (the reply says why), 2 bad usage,
3 no supervisor runs.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_TRIES = 5
"""How often the supervisor tries a release, and then the closed page, at most (`supervisor.GIVE_UP_AFTER`)."""


def control(area: str, command: str, argument: str = "") -> dict[str, Any] | None:
    """The reply of the running supervisor, with `up` and `link` added; None when none runs."""
    state = _json_in(f"{area}/run/supervisor.json")
    if not state.get("pid") or _began(state["pid"]) != state.get("started"):
        return None
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(state["control"])
            client.sendall(json.dumps({"command": command, "argument": argument}).encode() + b"\n")
            with client.makefile("rb") as answer:
                text = answer.read()
        except OSError:
            return None
    if not text:
        return None
    return {**json.loads(text), "up": True, "protocol": state["protocol"], "pid": state["pid"], "link": _link(area)}


def up(area: str, listen: str, activity: str, idle: str, *, settle: bool) -> dict[str, Any]:
    """Starts the daemon detached when none runs; its status, with `settle` once it brings nothing back any more."""
    within = _json_in(f"{area}/run/config.json").get("ready_within")
    if not isinstance(within, int | float):
        return _not_up(area, f"{area}/run/config.json does not say how to start a release")
    # The longest way to settle: every try of the release, then of the closed page, runs out of time.
    longest_s, began = within * 2 * _TRIES + 10, time.monotonic()
    daemon = None
    while time.monotonic() - began < longest_s:
        reply = control(area, "settle" if settle else "status")
        if reply is not None:
            return reply
        if daemon is None:
            daemon = _start(area, listen, activity, idle)
        elif daemon.poll() not in (None, 0):
            with open(f"{area}/run/supervisor.log", encoding="utf-8", errors="replace") as log:  # noqa: PTH123
                return _not_up(area, "the supervisor did not start", "\n".join(log.read().strip().splitlines()[-5:]))
        time.sleep(0.02)
    return _not_up(area, f"no supervisor within {longest_s:g} s")


def _start(area: str, listen: str, activity: str, idle: str) -> Any:
    import subprocess

    daemon = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervisor.py")  # noqa: PTH100, PTH118, PTH120
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    rest = ("--activity", activity, "--idle", idle)
    log = os.open(f"{area}/run/supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", daemon, "serve", "--area", area, "--listen", listen, *rest],
            cwd="/",
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)


def digest(area: str, path: str) -> str:
    """HMAC-SHA256 of a file under the area's salt, in hex; '' when there is no such file."""
    import hmac

    try:
        content = _read(path)
    except FileNotFoundError:
        return ""
    return hmac.digest(_read(f"{area}/run/salt"), content, "sha256").hex()


def _not_up(area: str, error: str, tail: str = "", *, ok: bool = False) -> dict[str, Any]:
    """The reply when nobody can reply."""
    return {"ok": ok, "up": False, "link": _link(area), "error": error, "tail": tail}


def _link(area: str) -> str | None:
    """The release that `current` names, None when there is no link."""
    try:
        return os.readlink(f"{area}/current").rstrip("/").rpartition("/")[2]  # noqa: PTH115
    except OSError:
        return None


def _began(pid: int) -> str:
    """When a process began, in clock ticks since boot: what tells it from a later one with its pid. '' when gone."""
    try:
        return _read(f"/proc/{pid}/stat").decode().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _json_in(path: str) -> dict[str, Any]:
    """The JSON object in a file; empty when it is missing or torn."""
    try:
        found = json.loads(_read(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def main(arguments: Sequence[str]) -> int:
    match list(arguments):
        case ["up", area, listen, activity, idle, *settle] if settle in ([], ["settle"]):
            reply = up(os.path.abspath(area), listen, activity, idle, settle=bool(settle))  # noqa: PTH100
        case ["ctl", area, command, *argument] if len(argument) < 2:
            found = control(os.path.abspath(area), command, *argument)  # noqa: PTH100
            reply = found or _not_up(area, "no supervisor runs", ok=command in ("status", "stop"))
        case ["digest", area, *paths] if paths:
            reply = {"ok": True, "digests": {path: digest(area, path) for path in paths}}
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    sys.stdout.write(json.dumps(reply) + "\n")
    if reply["ok"]:
        return 0
    return 1 if reply["up"] else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
