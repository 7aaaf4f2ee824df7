"""How long a way back takes: until the old release serves again, and until all is confirmed, proven and open.

Run: `.venv/bin/python benchmarks/rollback.py [ROLLBACKS [FAILED_DEPLOYS]]` (20 and 0), in a sandbox of its own with the
shipped pipeline. Each rollback is `./inv rollback --yes` as an operator types it, each failed deploy one of a release
that takes unsigned webhooks. When traffic is back is not the pipeline's word: a client of its own asks the service over
TLS, on a new connection every few ms, which release answers. Printed, medians first:

1. from the decision (the first entry of the way back) until a release but the bad one answers, and none else;
2. from the decision until it is open: confirmed, proven by every proof of the pipeline, reconciled;
3. from the command's start until the same two;
4. requests of that client without an answer;
5. by hand, beside each: the same release's process started on a spare port until it answers, and stopped with SIGTERM
   and started again until it answers.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

import wiring  # noqa: E402
from pipeline.contracts import ReleaseId, ReleaseState  # noqa: E402
from pipeline.events import Entry, Kind  # noqa: E402
from sandbox.drills.fault import WATCH_S  # noqa: E402
from sandbox.drills.run import stage  # noqa: E402
from sandbox.drills.scene import Scene  # noqa: E402
from targets import status_local  # noqa: E402

BAD_BUILD = "accepts-unsigned-webhook"
PAUSE_S = 0.005


@dataclass(frozen=True)
class Asked:
    """One answer of the service: when, in s since the epoch, its status (0: there was none), and by which release."""

    at: float
    status: int
    release: str


@dataclass(frozen=True)
class WayBack:
    """Seconds. `confirmed` is the pipeline's own word for what `traffic` is the client's."""

    traffic: float
    confirmed: float
    whole: float
    command_to_traffic: float
    command_to_open: float
    unanswered: int


def main() -> None:
    rollbacks = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    deploys = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    say(f"load average {os.getloadavg()[0]:.1f} before")
    asyncio.run(measure(rollbacks, deploys))
    say(f"load average {os.getloadavg()[0]:.1f} after")


async def measure(rollbacks: int, deploys: int) -> None:
    async with stage(HOME / "pipeline.yaml") as scene:
        found, started, restarted = list[WayBack](), list[float](), list[float]()
        for _ in range(rollbacks):
            await newer_release(scene)
            found.append(await way_back(scene, "rollback", "--yes", ends=0))
            by_hand = await asyncio.to_thread(bare, scene, await serving(scene))
            started.append(by_hand[0])
            restarted.append(by_hand[1])
        if found:
            told(f"{rollbacks} rollbacks", found)
            say(f"  by hand: started until it answers       {spread(started)}")
            say(f"  by hand: stopped, started, answers      {spread(restarted)}")
            say(f"  traffic back beside the bare start      {median(ratios(found, started)):.2f}, median of the pairs")
            say(f"  traffic back beside stopping, starting  {median(ratios(found, restarted)):.2f}")
        failed = [await way_back(scene, "deploy", "--watch", WATCH_S, build=BAD_BUILD, ends=3) for _ in range(deploys)]
        if failed:
            told(f"{deploys} failed deploys", failed)


def ratios(found: Sequence[WayBack], beside: Sequence[float]) -> list[float]:
    return [one.traffic / other for one, other in zip(found, beside, strict=True)]


def told(what: str, found: Sequence[WayBack]) -> None:
    say(what)
    say(f"  decision to traffic back, by a client   {spread([one.traffic for one in found])}")
    say(f"  decision to release confirmed           {spread([one.confirmed for one in found])}")
    say(f"  decision to open                        {spread([one.whole for one in found])}")
    say(f"  command to traffic back                 {spread([one.command_to_traffic for one in found])}")
    say(f"  command to open                         {spread([one.command_to_open for one in found])}")
    say(f"  requests without an answer              {sum(one.unanswered for one in found)}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"


# ---- one way back ------------------------------------------------------------------------------------------


async def newer_release(scene: Scene) -> None:
    """A release that is live and verified, put there by the target alone, so that there is one to go back from."""
    chosen = wiring.choose(str(scene.folder / "pipeline.yaml"), "sandbox")

    async def anyone() -> None:
        return None

    target, settings = await wiring.open_target(chosen, anyone), await wiring.settings_of(chosen)
    values = {name: found.value for name, found in settings.values.items()}
    release = ReleaseId(f"2999{time.time_ns() // 1_000_000}-bench")
    await target.releases.stage(release, scene.folder / "dist", values)
    await target.traffic.activate(release)
    await target.releases.mark(release, ReleaseState.VERIFIED, "made for a benchmark")


async def way_back(scene: Scene, *args: str, ends: int, build: str = "") -> WayBack:
    address, before = str((await scene.status())["address"]), len(scene.entries())
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "ask", address, str(scene.state / "tls" / "ca.pem")), stdout=subprocess.PIPE
    )
    begun = time.time()
    ended = await scene.struck(args, build_fault=build)
    asking.send_signal(signal.SIGINT)
    said, _ = await asking.communicate()
    if ended.code != ends:
        raise SystemExit(f"{args[0]} ended with {ended.code}, expected {ends}:\n{ended.tail()}")
    entries = scene.entries()[before:]
    answers = [Asked(*json.loads(line)) for line in said.decode().splitlines()]
    decided = moment(entries, Kind.WAYBACK_STARTED)
    traffic = back(answers, entries)
    opened = moment(entries, Kind.REOPENED)
    return WayBack(
        traffic=traffic - decided,
        confirmed=moment(entries, Kind.CHECKPOINT_CONFIRMED, name="release") - decided,
        whole=opened - decided,
        command_to_traffic=traffic - begun,
        command_to_open=opened - begun,
        unanswered=sum(one.status == 0 for one in answers),
    )


def back(answers: Sequence[Asked], entries: Sequence[Entry]) -> float:
    """When the goal answered first, after the last answer of any other release."""
    goal = next(str(entry.data["release"]) for entry in entries if entry.kind is Kind.WAYBACK_STARTED)
    last_other = max(index for index, one in enumerate(answers) if one.release not in ("", goal))
    return next(one.at for one in answers[last_other:] if one.release == goal)


def moment(entries: Sequence[Entry], kind: Kind, **said: str) -> float:
    return next(entry.at.timestamp() for entry in entries if entry.kind is kind and said.items() <= entry.data.items())


# ---- the client --------------------------------------------------------------------------------------------


def ask(address: str, ca_file: str) -> None:
    """Asks which release answers until it is interrupted; then prints a line for each answer."""
    trusted, answers = ssl.create_default_context(cafile=ca_file), list[Asked]()
    try:
        while True:
            answers.append(asked(address, trusted))
            time.sleep(PAUSE_S)
    except KeyboardInterrupt:
        for one in answers:
            say(json.dumps([one.at, one.status, one.release]))


def asked(address: str, trusted: ssl.SSLContext) -> Asked:
    parts = urlsplit(address)
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port or 443, timeout=10, context=trusted)
    status, release = 0, ""
    try:
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        said = json.loads(answer.read())
        status = answer.status
        release = str(said["release"]) if status == 200 else ""
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        pass
    finally:
        connection.close()
    return Asked(time.time(), status, release)


# ---- by hand -----------------------------------------------------------------------------------------------


async def serving(scene: Scene) -> int:
    """The process that serves now."""
    return int((await status_local(scene.area))["serving"][0]["pid"])


def bare(scene: Scene, pid: int) -> tuple[float, float]:
    """The release that runs as `pid`, started on a spare port, and stopped and started: seconds until it answers."""
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    kept = dict(word.split("=", 1) for word in words if "=" in word)
    environment = {name: value for name, value in kept.items() if not name.startswith(("LISTEN_", "NOTIFY_"))}
    folder, trusted = str(Path(f"/proc/{pid}/cwd").readlink()), ssl.create_default_context(cafile=kept["CA_FILE"])
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        environment["PORT"] = str(spare.getsockname()[1])
    first, started = start(folder, environment, trusted)
    begun = time.monotonic()
    first.terminate()
    first.wait()
    second, _ = start(folder, environment, trusted)
    restarted = time.monotonic() - begun
    second.terminate()
    second.wait()
    return started, restarted


def start(
    folder: str, environment: Mapping[str, str], trusted: ssl.SSLContext
) -> tuple[subprocess.Popen[bytes], float]:
    begun = time.monotonic()
    argv = ["python", "-m", "shop"]
    process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not asked(f"https://127.0.0.1:{environment['PORT']}", trusted).release:
        if process.poll() is not None:
            raise SystemExit(f"the release ended with {process.returncode}")
        time.sleep(PAUSE_S)
    return process, time.monotonic() - begun


if __name__ == "__main__":
    ask(*sys.argv[2:]) if sys.argv[1:2] == ["ask"] else main()
