"""How long the gates take: all of them together against the longest alone, and `validate` without network.

Run: `.venv/bin/python benchmarks/gates.py`. It works on a clone of this repository in a temporary folder, with the
pipeline.yaml that stands here, its own sandbox, made-up credentials for production and a drill on record, and removes
all of it. Prints medians of 7 runs each, after one that is not counted.

1. Sandbox: the wall time of the stage `gates` of `validate`, beside its longest single gate, as the journal has them.
2. Production: `validate --env production --offline` from start to end, beside bare `--list`, taken in turn.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

from pipeline.events import Entry, Kind  # noqa: E402
from pipeline.journal import Journal  # noqa: E402
from sandbox.drills.faults import FAULTS  # noqa: E402
from sandbox.drills.record import on_record  # noqa: E402

RUNS = 7
INVOKE = (sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME))


@dataclass(frozen=True)
class Gates:
    """One run of the stage, in s. `blocked`: the gates that did not promote."""

    wall: float
    steps: dict[str, float]
    blocked: tuple[str, ...]

    @property
    def longest(self) -> float:
        return max(self.steps.values())


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tollgate-gates-") as folder:
        root = Path(folder, "clone")
        prepare(root)
        try:
            sandbox(root)
            production(root)
        finally:
            invoke(root, "sandbox.down")


def prepare(root: Path) -> None:
    """A clean checkout with a history, good settings for production, and a drill on record."""
    git(HOME, "clone", "-q", "--no-hardlinks", str(HOME), str(root))
    listed = git(HOME, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (HOME / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HOME / name, root / name)
    git(root, "add", "-A")
    git(root, "-c", "user.name=b", "-c", "user.email=b@b.test", "commit", "-q", "--allow-empty", "-m", "As it stands")
    secret = secrets.token_hex(24)
    values = {
        "VITE_NODE_ENV": "production",
        "VITE_IKHOKHA_API_URL": "https://api.ikhokha.com",
        "VITE_IKHOKHA_API_KEY": f"IK{secrets.token_hex(15).upper()}",
        "VITE_IKHOKHA_API_SECRET": secret,
        "VITE_IKHOKHA_WEBHOOK_SECRET": secret,
        "VITE_IKHOKHA_TEST_MODE": "false",
    }
    dotenv = root / ".env.production"
    dotenv.touch(mode=0o600)
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    asyncio.run(drilled(root / "pipeline.yaml"))


async def drilled(spec: Path) -> None:
    async with on_record(spec, list(FAULTS.values()), every=True) as kept:
        for fault in FAULTS.values():
            kept.begin(fault)
            kept.end(fault, [], 0.0)


def git(folder: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True).stdout


def invoke(root: Path, *args: str) -> float:
    """Seconds that a command takes; how it ends is in its journal."""
    begun = time.perf_counter()
    given = {name: value for name, value in os.environ.items() if not name.startswith("VITE_")}
    spec = () if args[0] == "--list" else ("--spec", str(root / "pipeline.yaml"))
    subprocess.run([*INVOKE, *args, *spec], cwd=root, env=given, check=False, capture_output=True)
    return time.perf_counter() - begun


def sandbox(root: Path) -> None:
    runs = [gates(root, "sandbox", "validate") for _ in range(RUNS + 1)][1:]
    wall = statistics.median(run.wall for run in runs)
    longest = statistics.median(run.longest for run in runs)
    ratio = statistics.median(run.wall / run.longest for run in runs)
    together = statistics.median(sum(run.steps.values()) for run in runs)
    say(f"sandbox: {len(runs[0].steps)} gates in {wall:.3f} s, the longest alone {longest:.3f} s, ratio {ratio:.2f}")
    say(f"  one after the other they would take {together:.2f} s; blocked: {', '.join(runs[-1].blocked) or 'none'}")
    slowest(runs)


def production(root: Path) -> None:
    offline = ("validate", "--env", "production", "--offline")
    pairs = [(invoke(root, *offline), invoke(root, "--list")) for _ in range(RUNS + 1)][1:]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    run = read(root, "production")
    say(f"production --offline: {len(run.steps)} gates, {ours:.3f} s from start to end; bare --list {bare:.3f} s")
    say(f"  in the stage {run.wall:.3f} s, the longest gate {run.longest:.3f} s")
    say(f"  blocked: {', '.join(run.blocked) or 'none'}")
    slowest([run])


def gates(root: Path, environment: str, *args: str) -> Gates:
    invoke(root, *args, "--env", environment)
    return read(root, environment)


def read(root: Path, environment: str) -> Gates:
    """The last run of an environment, as its journal tells it."""
    with Journal.read(root / ".tollgate" / environment / "journal.sqlite") as journal:
        entries: Sequence[Entry] = journal.entries()
    own = [entry for entry in entries if entry.run == entries[-1].run and entry.data.get("stage") == "gates"]
    steps = {entry.data["step"]: entry.data["took_s"] for entry in own if entry.kind is Kind.STEP_FINISHED}
    blocked = [e.data["step"] for e in own if e.kind is Kind.STEP_FINISHED and e.data["outcome"] == "failed"]
    wall = next(entry.data["took_s"] for entry in own if entry.kind is Kind.STAGE_FINISHED)
    return Gates(wall, steps, tuple(blocked))


def slowest(runs: Sequence[Gates]) -> None:
    medians = {name: statistics.median(run.steps.get(name, 0.0) for run in runs) for name in runs[0].steps}
    for name, took in sorted(medians.items(), key=lambda item: -item[1])[:5]:
        say(f"  {took:.3f} s  {name}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
