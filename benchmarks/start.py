"""How long the command line takes to start: `./inv --list` beside bare Invoke with an empty task file.

Run: `.venv/bin/python benchmarks/start.py`. Prints medians of 15 runs each, taken in turn, and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 15
HOME = Path(__file__).resolve().parents[1]


def seconds(argv: list[str], cwd: str) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as empty:
        Path(empty, "tasks.py").write_text("from invoke import task\n\n\n@task\ndef nothing(c): pass\n")
        ours, bare = [str(HOME / "inv"), "--list"], [sys.executable, "-P", "-m", "invoke", "--list"]
        pairs = [(seconds(ours, empty), seconds(bare, empty)) for _ in range(RUNS + 1)][1:]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    sys.stdout.write(f"./inv --list {mine:.3f} s, bare Invoke {theirs:.3f} s, ratio {ratio:.2f}\n")


if __name__ == "__main__":
    main()
