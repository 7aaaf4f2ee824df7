"""Runs one command of a release as its process runs: in its folder, with its settings, and never two at once.

    python -I -S - AREA RELEASE SECONDS ARGV...     this file on the input, so that nothing need be installed

On the standard library and the supervisor's copy in the area alone. The settings are read here, so no secret is handed
over. The lock is held by the command as well: when whoever started this is killed, the next one waits for its end, and
the time limit is kept here, so that it has one.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

BUSY = 75
"""The exit code when another command does not end: EX_TEMPFAIL of sysexits.h."""


def main(arguments: Sequence[str]) -> int:
    root, release, seconds, *argv = arguments
    limit = float(seconds)
    sys.path.insert(0, f"{root}/run")
    import supervisor  # type: ignore[import-not-found]

    area = supervisor.Area(supervisor.Path(root))
    lock = os.open(f"{root}/run/command.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _taken(lock, time.monotonic() + limit):
        at_work = os.pread(lock, 200, 0).decode("utf-8", "replace").strip()
        sys.stderr.write(f"a command that was started before is still at work after {limit:g} s: {at_work}\n")
        return BUSY
    os.closerange(3, lock)  # the fence of the run that started this: who takes over goes on, and its commands wait here
    os.closerange(lock + 1, 256)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{argv[0]} of {release}, pid {os.getpid()}, since {supervisor.now()}\n".encode(), 0)
    settings = supervisor.read_json(area.root / "settings" / f"{release}.json")
    state = supervisor.read_json(area.state)
    config = supervisor.Config.read(area, release)
    env = supervisor.environment(
        config,
        release=release,
        settings=settings,
        area=area,
        address=f"{config.scheme}://127.0.0.1:{state['port']}" if "port" in state else "",
        inherited=os.environ,
        python=sys.executable,
    )

    def stop(*_: object) -> None:
        sys.stderr.write(f"not done within {limit:g} s\n")
        sys.stderr.flush()
        os.killpg(0, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        ended = subprocess.run(
            argv, cwd=area.release(release), env=env, stdin=subprocess.DEVNULL, pass_fds=(lock,), check=False
        )
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]!r}: {error.strerror}\n")
        return 127
    return ended.returncode if ended.returncode >= 0 else 128 - ended.returncode


def _taken(lock: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
