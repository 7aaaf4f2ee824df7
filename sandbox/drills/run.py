"""The verb `drill`: plays faults one after the other on one stage, and prints the table."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Exit, TollgateError, Usage
from pipeline.names import nearest
from pipeline.tables import print_json, print_table
from sandbox import host
from sandbox.drills import judge, record
from sandbox.drills.fault import WATCH_S, Fault, Leaves
from sandbox.drills.faults import FAULTS
from sandbox.drills.scene import HOME, Amiss, Scene
from targets import stop_local


@dataclass(frozen=True)
class Row:
    """One drill: caught by whom, after how long, how each command ended, and what did not go as it must.

    `exit_code` is that of the last command, `commands` all of them as they were typed.
    """

    fault: str
    caught_by: str
    after_s: float | None
    exit_code: int
    commands: tuple[str, ...]
    ended: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


async def drill(spec: str, *, fault: str | None, every: bool, listing: bool, as_json: bool) -> Exit:
    """Exit 0 only if every fault asked for was caught, the service ended as I2 says, and I1 and I3 hold.

    The drill is put on record in the journal of the environment `sandbox` beside `spec`.
    """
    if listing:
        _print_list(as_json)
        return Exit.DONE
    if fault is None and not every:
        raise Usage("drill: no fault was named", "Use --fault NAME, --all, or --list.")
    rows = []
    named = dict.fromkeys(name.strip() for name in (fault or "").split(","))
    faults = list(FAULTS.values()) if every else [FAULTS[_known(name)] for name in named]
    stands: judge.Standing | None = None
    async with record.on_record(Path(spec), faults, every=every) as kept, stage(Path(spec)) as scene:
        for one in faults:
            if not as_json:
                sys.stdout.write(f"{one.name}: {one.promise}\n")
                sys.stdout.flush()
            begun = time.monotonic()
            kept.begin(one)
            row, stands = await play(scene, one, stands)
            rows.append(row)
            kept.learn(scene)
            kept.end(one, rows[-1].problems, time.monotonic() - begun)
            if not as_json:
                _print_row(rows[-1])
    if as_json:
        print_json({"ok": all(row.ok for row in rows), "run": kept.run, "drills": rows})
    else:
        _print_table(rows)
        sys.stdout.write(f"On record as run {kept.run} of the sandbox.\n")
    return Exit.DONE if all(row.ok for row in rows) else Exit.REFUSED


@contextlib.asynccontextmanager
async def stage(spec: Path) -> AsyncIterator[Scene]:
    """A folder outside every repository with a copy of the spec, its sandbox up and a healthy release verified."""
    folder = Path(tempfile.mkdtemp(prefix="tollgate-drill-"))
    try:
        (folder / "pipeline.yaml").write_text(_for_a_drill(spec.read_text(encoding="utf-8")), encoding="utf-8")
        scene = Scene(folder)
        try:
            first = await scene.run("deploy", "--watch", WATCH_S)
            if first.code != Exit.DONE:
                raise TollgateError(
                    f"the healthy release could not be deployed (exit {first.code}), so nothing can be drilled:\n"
                    f"{first.tail()}",
                    "`./inv deploy` shows why.",
                )
            yield scene
        finally:
            if (await scene.run("sandbox.down")).code != Exit.DONE:  # it refuses while a run is at work
                await stop_local(scene.area)
                host.down(scene.state)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _for_a_drill(text: str) -> str:
    """The spec with our build named by its whole path, and less patience with a release that never gets ready."""
    text = text.replace("sandbox/shop/build.py", str(HOME / "sandbox/shop/build.py"))
    return re.sub(r"ready_within: [^,}\n]+", "ready_within: 8 s", text)


async def play(scene: Scene, fault: Fault, before: judge.Standing | None = None) -> tuple[Row, judge.Standing | None]:
    """One fault on a stage whose live release is verified; leaves the stage so again.

    `before`: how the stage stands, where that is known. Returns how it stands afterwards, None: not looked at again.
    """
    before = before or await judge.standing(scene)
    begun_after = scene.last()
    seen: list[str] = []
    await _seen(seen, fault.prepare(scene))
    ended, typed = [], []
    for one in fault.commands:
        words = one.words(scene.live())
        ended.append(await scene.struck(words, build_fault=one.build, at=one.at, strike=one.strike))
        typed.append(f"{' '.join(words)}: exit {ended[-1].code}")
    step, after_s = judge.caught_by(scene.entries(after=begun_after))
    now: judge.Standing | None
    now = after = await judge.standing(scene)
    problems = judge.problems_of_run(fault, ended, step, before, after)
    await _seen(seen, fault.holds(scene))
    await _seen(seen, fault.heal(scene))
    how = "closed" if after.closed else f"{after.live} live and {after.state}"
    if fault.leaves in (Leaves.CLOSED, Leaves.UNFINISHED):
        now = await _put_right(scene, before, problems)
        how += ", put right by `rollback`"
    problems += [*seen, *await judge.problems_of_books(scene), *judge.problems_of_secrets(scene)]
    if not fault.caught_by:
        step, after_s = fault.catcher, None
    took = None if after_s is None else round(after_s, 1)
    row = Row(fault.name, step or "nothing", took, ended[-1].code, tuple(typed), how, tuple(problems))
    return row, now if now is not None and now.known_good else None


async def _seen(problems: list[str], work: Awaitable[None]) -> None:
    """What a part of a drill sees amiss is a problem of that drill, and the next one is played all the same."""
    try:
        await work
    except Amiss as amiss:
        problems.append(str(amiss))


async def _put_right(scene: Scene, before: judge.Standing, problems: list[str]) -> judge.Standing:
    """One command brings back the release that was good before."""
    ended = await scene.run("rollback", "--yes")
    now = await judge.standing(scene)
    if ended.code != Exit.DONE or not now.known_good or now.live != before.live:
        problems.append(f"I2: `rollback` ended with {ended.code} and left {now}: {ended.tail()}")
    return now


def _known(fault: str) -> str:
    if fault in FAULTS:
        return fault
    guess = nearest(fault, FAULTS)
    raise Usage(
        f"--fault {fault}: there is no such fault; there are {', '.join(FAULTS)}",
        f"Did you mean {guess}?" if guess else "",
    )


def _print_list(as_json: bool) -> None:
    if as_json:
        print_json([{"fault": one.name, "what": one.promise} for one in FAULTS.values()])
    else:
        print_table([(one.name, one.promise) for one in FAULTS.values()], ("fault", "what is broken"))


def _print_row(row: Row) -> None:
    when = "" if row.after_s is None else f" after {row.after_s} s"
    if len(row.commands) > 1 or not row.commands[0].startswith("deploy"):
        sys.stdout.writelines(f"  {command}\n" for command in row.commands)
    sys.stdout.write(f"  caught by {row.caught_by}{when}; exit {row.exit_code}; {row.ended}\n")
    sys.stdout.writelines(f"  NOT AS IT MUST BE: {problem}\n" for problem in row.problems)
    sys.stdout.flush()


def _print_table(rows: list[Row]) -> None:
    sys.stdout.write("\n")
    print_table(
        [
            (row.fault, row.caught_by, "" if row.after_s is None else f"{row.after_s} s", row.exit_code, _held(row))
            for row in rows
        ],
        ("fault", "caught by", "after", "exit", "invariants"),
    )
    bad = sum(not row.ok for row in rows)
    sys.stdout.write(
        f"\n{len(rows)} drilled, every fault caught, I1, I2 and I3 hold.\n"
        if not bad
        else f"\n{bad} not as it must be.\n"
    )


def _held(row: Row) -> str:
    return "hold" if row.ok else "; ".join(row.problems)[:200]
