"""How quickly known secrets are found, beside ripgrep and a pattern scanner over the same files, on one core.

Run: `.venv/bin/python -m benchmarks.leaks [MB [RUNS]]`, 300 MB and 3 runs by default. It makes a tree of bundles with
their maps, sources and images, plants 20 secrets in every encoding and packed, and searches it in turn with each tool;
then files nobody made for the purpose, those of this interpreter's packages, and a repository of 10,000 objects. Prints
MB/s (10^6 bytes of files, from a warm cache) by the clock and by processor time, ratios of medians, and how many of
what was planted each tool found.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import brotli

from checks.facts import history, leaks
from checks.facts.sieve import Sieve
from pipeline.secrets import Secret, spellings
from tests.checks.leak_planting import ENCODERS, git, letters, twenty_secrets, vite_like

OBJECTS = 10_000
PACKED = (".gz", ".br", ".zip", ".whl", ".xz", ".bz2")
DISTINCT = 24
"""Megabytes of the tree that differ; the rest are copies under other names, each with a first line of its own."""


def files_of(tree: Path) -> list[tuple[str, str]]:
    skipped = len(str(tree)) + 1
    return [(f"{folder}/{name}"[skipped:], f"{folder}/{name}") for folder, _, names in os.walk(tree) for name in names]


def grow(tree: Path, megabytes: int) -> None:
    """Bundles, a third of them cut into files of 2 to 40 kB as a source tree has them."""
    first = tree / "0"
    while size_of(first) < DISTINCT * 10**6 if first.exists() else True:
        vite_like(first / letters(6), kilobytes=1500)
    chance = random.Random(1)  # noqa: S311 - the same sizes each time
    for number, (name, path) in enumerate(files_of(first)):
        if number % 3 == 0 and name.endswith(".js"):
            data, at = Path(path).read_bytes(), 0
            Path(path).unlink()
            while at < len(data):
                size = chance.randrange(2_000, 40_000)
                Path(f"{path}.{at}.js").write_bytes(data[at : at + size])
                at += size
    copies = 1
    while (copies + 1) * size_of(first) <= megabytes * 10**6:
        for name, path in files_of(first):
            copy = tree / str(copies) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(b"/* %d */\n" % copies + Path(path).read_bytes())
        copies += 1


def size_of(tree: Path) -> int:
    return sum(Path(path).stat().st_size for _, path in files_of(tree))


def plant(tree: Path, values: Mapping[str, str]) -> set[tuple[str, str]]:
    """(setting, file) of everything planted."""
    planted = set()
    for number, encode in enumerate(ENCODERS.values()):
        for setting, value in values.items():
            for suffix, pack in (("txt", bytes), ("gz", gzip.compress), ("br", brotli.compress)):
                file = tree / "planted" / str(number) / f"{setting}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(pack(b"one\nkey: " + encode(value) + b" .\n"))
                planted.add((setting, str(file.relative_to(tree))))
    return planted


def timed(run: Callable[[], set[str]]) -> tuple[float, float, set[str]]:
    """Seconds by the clock and of the processor, those of other programs that were run included."""
    begun, worked = time.perf_counter(), sum(os.times()[:4])
    found = run()
    return time.perf_counter() - begun, sum(os.times()[:4]) - worked, found


def ours(tree: Path, secrets: Mapping[str, Secret]) -> set[str]:
    found = leaks.search(files_of(tree), secrets, "the tree")
    return {f"{leak.setting} {leak.file.partition('!')[0]}" for leak in found.leaks}


def ripgrep(tree: Path, patterns: Path, *words: str) -> set[str]:
    argv = ["rg", "-F", "-f", str(patterns), "-a", "-l", "-j1", "--no-ignore", "--hidden", *words, "."]
    out = subprocess.run(argv, cwd=tree, capture_output=True, check=False, text=True).stdout
    files = [line.removeprefix("./") for line in out.splitlines()]
    return {f"{Path(file).name.split('.')[0]} {file}" for file in files}


def kingfisher(tree: Path, scanner: object) -> set[str]:
    found = set()
    for name, path in files_of(tree):
        if any(one.visible for one in scanner.scan_file(path)):  # type: ignore[attr-defined]
            found.add(f"{Path(name).name.split('.')[0]} {name}")
    return found


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def compare(tree: Path, values: Mapping[str, str], runs: int) -> None:
    from kingfisher_sdk import Rules, Scanner

    planted = {f"{setting} {file}" for setting, file in plant(tree, values)}
    secrets = {name: Secret(value) for name, value in values.items()}
    size, count = size_of(tree), len(files_of(tree))
    say(
        f"{count} files, {size / 10**6:.0f} MB; {len(planted)} plants: 20 secrets in {len(ENCODERS)} encodings, "
        "each plain, gzip and brotli"
    )
    patterns = tree.parent / "patterns"
    forms = {form for value in values.values() for form in spellings(value) if b"\n" not in form and b"\0" not in form}
    patterns.write_bytes(b"\n".join(sorted(forms)) + b"\n")
    begun = time.perf_counter()
    scanner = Scanner(Rules(cache_dir=tree.parent / "rules"), redact=True)
    say(f"kingfisher compiles its rules in {time.perf_counter() - begun:.1f} s (not counted below)")
    tools: dict[str, Callable[[], set[str]]] = {"ours": lambda: ours(tree, secrets)}
    if shutil.which("rg"):
        tools[f"rg -F -f ({len(forms)} forms)"] = lambda: ripgrep(tree, patterns)
    tools["kingfisher"] = lambda: kingfisher(tree, scanner)
    found = race(tools, size, runs)
    for name, files in found.items():
        say(f"{name:24} found {len(files & planted)} of {len(planted)}, false alarms {len(files - planted)}")


def race(tools: Mapping[str, Callable[[], set[str]]], size: int, runs: int) -> dict[str, set[str]]:
    """Runs the tools in turn and says how quick they were. What each found."""
    next(iter(tools.values()))()  # warms the cache
    took: dict[str, list[float]] = {name: [] for name in tools}
    worked: dict[str, list[float]] = {name: [] for name in tools}
    found: dict[str, set[str]] = {}
    for _ in range(runs):
        for name, run in tools.items():
            seconds, work, found[name] = timed(run)
            took[name].append(seconds)
            worked[name].append(work)
    megabytes, mine = size / 10**6, statistics.median(took["ours"])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        say(
            f"{name:24} {megabytes / median:6.0f} MB/s (best {megabytes / min(seconds):.0f}; by processor time "
            f"{megabytes / statistics.median(worked[name]):.0f})   {median / mine:6.2f} times our time"
        )
    return found


def compare_real(values: Mapping[str, str], patterns: Path, runs: int) -> None:
    """Real files, where blanks and quotes come irregularly. Packed ones, which only we open, are left out."""
    tree = Path(sysconfig.get_path("purelib"))
    sizes = {path: path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink()}
    files = [(str(path.relative_to(tree)), str(path)) for path in sizes if path.suffix not in PACKED]
    size = sum(sizes[Path(path)] for _, path in files)
    say(f"the packages of this interpreter: {len(files)} files, {size / 10**6:.0f} MB")
    secrets = {name: Secret(value) for name, value in values.items()}
    tools: dict[str, Callable[[], set[str]]] = {
        "ours": lambda: {str(leak) for leak in leaks.search(files, secrets, "the packages").leaks}
    }
    if shutil.which("rg"):
        left_out = [f"--glob=!*{suffix}" for suffix in PACKED]
        tools["rg -F -f"] = lambda: ripgrep(tree, patterns, *left_out)
    for name, found in race(tools, size, runs).items():
        say(f"{name:24} false alarms {len(found)}")


def fast_import(values: Mapping[str, str]) -> Iterator[bytes]:
    """A history of one commit a hundred files, with the plants among them."""
    plants = [b"key: " + encode(value) + b" .\n" for encode in ENCODERS.values() for value in values.values()]
    blobs = [f"export const {letters(12)} = '{letters(4000)}'\n".encode() for _ in range(OBJECTS - len(plants) - 300)]
    contents = [*plants, *blobs]
    for commit, at in enumerate(range(0, len(contents), 100)):
        yield b"commit refs/heads/main\ncommitter T <t@example.com> %d +0000\ndata 4\nMore\n" % (commit + 1_700_000_000)
        for number, content in enumerate(contents[at : at + 100]):
            yield b"M 100644 inline f%d\ndata %d\n%b\n" % (at + number, len(content), content)


def compare_history(root: Path, values: Mapping[str, str], runs: int) -> None:
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "fast-import", "--quiet", stdin=b"".join(fast_import(values)))
    expected = {(name, encode(value)) for encode in ENCODERS.values() for name, value in values.items()}
    took = []
    for _ in range(runs):
        begun = time.perf_counter()
        sieve = Sieve({name: Secret(value) for name, value in values.items()})
        found = asyncio.run(history.search(str(root), "", sieve))
        took.append(time.perf_counter() - begun)
    clean = Sieve({name: Secret(value) for name, value in twenty_secrets().items()})
    begun = time.perf_counter()
    nothing = asyncio.run(history.search(str(root), "", clean))
    say(
        f"history: {found.objects} objects in {statistics.median(took):.2f} s with the commits of 20 hits looked up, "
        f"{time.perf_counter() - begun:.2f} s without a hit; found {len(found.leaks)} of {len(expected)} plants, "
        f"false alarms {len(nothing.leaks)}"
    )


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    megabytes, runs = [*given, *(300, 3)[len(given) :]]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    values = twenty_secrets()
    say(f"one core; load of the machine {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        grow(tree, megabytes)
        compare(tree, values, runs)
        compare_real(values, Path(folder) / "patterns", runs)
        compare_history(Path(folder) / "repository", values, runs)


if __name__ == "__main__":
    main()
