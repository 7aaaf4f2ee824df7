"""Plays the crash matrix and writes docs/crash-matrix.md.

python -m tests.crash.matrix [--only KIND] [--jobs 2]   plays every case, or those of one kind
python -m tests.crash.matrix --missing                  plays what the document does not tell as put right
python -m tests.crash.matrix --learn                    learns from unharmed runs how many entries each writes
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.crash import document, learned, mounts, runs, scenes
from tests.crash.cases import KINDS, Case, cases
from tests.crash.learned import Learned
from tests.crash.playing import Place, Result, needs_disks, play


def learn(folder: Path) -> dict[str, Learned]:
    """Runs every scene once, unharmed, and returns what each wrote."""
    found: dict[str, Learned] = {}
    scenes.new_place(folder, deployed=False)
    try:
        for scene in scenes.SCENES.values():
            scene.prepare(folder)
            ended = runs.ran(folder, scene.verb)
            if ended.code != (3 if scene.back else 0):
                raise RuntimeError(f"{scene.name}, which nothing struck, ended with {ended.code}:\n{ended.said}")
            labels = runs.labels_of_last_run(folder)
            first = labels.index("run.failed") + 1 if scene.back else 0
            found[scene.name] = learned.from_run(labels, scenes.trace(folder), first=first)
            learned.LEARNED[scene.name] = found[scene.name]
    finally:
        runs.stop(folder)
    return found


def shared(chosen: Sequence[Case], jobs: int) -> list[Result]:
    """Plays cases in as many processes as `jobs`, each with a sandbox of its own."""
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        started = []
        for job in range(jobs):
            mine = chosen[job::jobs]
            out = Path(folder) / f"results-{job}.jsonl"
            (Path(folder) / f"cases-{job}").write_text("\n".join(str(case) for case in mine))
            argv = [sys.executable, "-m", "tests.crash.matrix", "--play", str(Path(folder) / f"cases-{job}"), str(out)]
            alone = [] if mounts.why_not() else ["unshare", "-m", "--propagation", "private"]
            started.append((subprocess.Popen([*alone, *argv]), out))
        try:
            for process, _ in started:
                process.wait()
        finally:
            for process, _ in started:
                process.terminate()
        return [one for _, out in started if out.exists() for one in _read(out, chosen)]


def _read(out: Path, chosen: Sequence[Case]) -> list[Result]:
    named = {str(case): case for case in chosen}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return [Result(named[one["case"]], one["ended"], one["by"], tuple(one["problems"])) for one in lines]


def played_here(names: Sequence[str], out: Path) -> int:
    """Plays those cases one after the other, and writes each result down."""
    known = {str(case): case for case in cases()}
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder, out.open("w") as results:
        plain, disks = Path(folder) / "plain", Path(folder) / "disks"
        with Place(plain) as here, Place(disks, disks=True) as there:
            for at, name in enumerate(names, 1):
                case = known[name]
                try:
                    result = play(there if needs_disks(case) else here, case)
                except Exception as error:  # the next case is played in a new place
                    with contextlib.suppress(Exception):
                        (there if needs_disks(case) else here).leave()
                    result = Result(case, 0, "", (f"{type(error).__name__}: {error}",))
                line = {"case": name, "ended": result.ended, "by": result.by, "problems": result.problems}
                results.write(json.dumps(line) + "\n")
                results.flush()
                say(f"[{at}/{len(names)}] {name}: {result.ended}, {result.by or 'nothing to do'}", *result.problems)
    return 0


def say(*lines: str) -> None:
    sys.stdout.write("\n    ".join(lines) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.matrix", description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=sorted(KINDS), help="the cases of one kind")
    parser.add_argument("--match", default="", help="the cases whose name has this in it; writes no document")
    parser.add_argument("--missing", action="store_true", help="only what the document does not tell as put right")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--learn", action="store_true", help="learn what each verb writes, then end")
    parser.add_argument("--play", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    chosen = parser.parse_args(arguments)
    if chosen.play:
        return played_here(Path(chosen.play[0]).read_text().splitlines(), Path(chosen.play[1]))
    if chosen.learn:
        with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
            learned.write(learn(Path(folder)))
        made = document.rows(cases(), [], document.told())  # what is not as it was is told as not played
        document.FILE.write_text(document.text(made), encoding="utf-8")
        return 0
    everything = cases()
    wanted = [case for case in everything if chosen.only in (None, case.kind) and chosen.match in str(case)]
    if chosen.missing:
        absent = {str(case) for case in document.missing(everything)}
        wanted = [case for case in wanted if str(case) in absent]
    if chosen.list:
        say(*(str(case) for case in wanted), f"{len(wanted)} of {len(everything)}")
        return 0
    if mounts.why_not() and any(map(needs_disks, wanted)):
        say(f"left out, because this machine {mounts.why_not()}: cases with a disk of their own")
        wanted = [case for case in wanted if not needs_disks(case)]
    results = shared(wanted, chosen.jobs)
    wrong = [result for result in results if result.problems]
    for result in wrong:
        say(f"{result.case}:", *result.problems)
    say(f"{len(results)} of {len(wanted)} cases played, {len(wrong)} wrong")
    if not chosen.match:
        made = document.rows(everything, results, document.told())
        document.FILE.write_text(document.text(made), encoding="utf-8")
    return 1 if wrong or len(results) < len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
