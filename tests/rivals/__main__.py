"""`python -m tests.rivals 200`: that many deploys and rollbacks at once on one sandbox, and what became of them.

A second number says how often one that is refused tries again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.crash import runs as crash
from tests.crash.conftest import HERE, build
from tests.rivals import runs


def main(rivals: int, tries: int) -> int:
    with tempfile.TemporaryDirectory(prefix="rivals") as name:
        folder = Path(name)
        shutil.copy(HERE / "pipeline.yaml", folder)
        build(folder)
        try:
            assert crash.in_a_process(folder, "deploy") == 0
            build(folder)
            asyncio.run(crash.make_verified(folder, "29990101T000000-rivals"))
            fight = runs.fight(folder, rivals, [], tries)
            left = len(crash.unfinished(folder))
            if left:
                assert crash.in_a_process(folder, "rollback") == 0
            broken = asyncio.run(crash.broken_invariants(folder))
        finally:
            crash.stop(folder)
            refusals = (folder / "refusals").read_text() if (folder / "refusals").exists() else ""
    told = Counter(line.split(" ", 3)[2] + " " + line.rpartition(": ")[2][:100] for line in refusals.splitlines())
    sys.stdout.write(f"exit codes: {dict(Counter(fight.codes))}\nrefusals: {len(refusals.splitlines())}\n")
    sys.stdout.write("".join(f"  {number:4} x {line}\n" for line, number in told.most_common(12)))
    sys.stdout.write(f"left unfinished: {left}\noverlapping: {fight.overlapping}\nbroken: {broken}\n")
    return 1 if broken or fight.overlapping else 0


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
