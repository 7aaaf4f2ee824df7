"""An environment as earlier runs left it, made without running them: releases on its target, and a record."""

from __future__ import annotations

import asyncio
import sys

import pytest
from invoke.program import Program

import tasks
from pipeline.clock import SystemClock
from pipeline.contracts import ReleaseState
from pipeline.events import Kind
from pipeline.journal import Journal
from pipeline.secrets import Redactor
from tests.cli.cli import Cli, Ended
from tests.targets.areas import opened

GOOD, BAD, NEWEST = "20260101T000000-aaaaaaa", "20260102T000000-bbbbbbb", "20260103T000000-ccccccc"
_STATES = {GOOD: ReleaseState.VERIFIED, BAD: ReleaseState.BAD, NEWEST: ReleaseState.VERIFIED}


def stands(cli: Cli) -> Cli:
    """The newest is live by its link, and nothing runs. Each verified one has its run, with one proof, on record."""
    asyncio.run(_stage(cli))
    area = cli.state / "target"
    (area / "current").symlink_to(area / "releases" / NEWEST)
    with Journal.open(cli.state / "journal.sqlite", clock=SystemClock(), redactor=Redactor([])) as journal:
        for release in (GOOD, NEWEST):
            _record(journal, f"run-of-{release}", release)
    return cli


def typed(cli: Cli, capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """`./inv WORDS` on this environment, within this process: for what starts nothing."""
    out, err = sys.stdout, sys.stderr
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            Program(namespace=tasks.ns).run(["inv", *words, "--spec", str(cli.spec)])
            raise SystemExit(0)
    finally:
        sys.stdout, sys.stderr = out, err
    said = capsys.readouterr()
    return Ended(int(ended.value.code or 0), said.out, said.err)


async def _stage(cli: Cli) -> None:
    cli.state.mkdir(parents=True)
    area = await opened(cli.state / "target")
    for release, state in _STATES.items():
        await area.target.releases.mark(await area.stage(release), state, "as it was left")


def _record(journal: Journal, run: str, release: str) -> None:
    plan = {"verb": "deploy", "environment": "sandbox", "service": "betaskill-courses", "stages": []}
    started = {
        "verb": "deploy",
        "environment": "sandbox",
        "service": "betaskill-courses",
        "release": release,
        "previous": None,
        "who": "thandi",
        "machine": "test",
        "reason": "",
        "spec_digest": "spec",
        "questionnaire": None,
        "plan_digest": "plan",
        "plan": plan,
        "resumes": "",
    }
    finding = {"verdict": "PASS", "reason": "as it should be", "remedy": "", "evidence": {}, "rows": [], "pci": []}
    where = {"stage": "prove", "step": "health.ready", "check": "health.ready", "places": []}
    journal.append(run, Kind.RUN_STARTED, started)
    journal.append(run, Kind.RELEASE_MARKED, {"release": release, "state": "live", "why": "switched in"})
    journal.append(run, Kind.FINDING, {**where, **finding})
    journal.append(run, Kind.RELEASE_MARKED, {"release": release, "state": "verified", "why": "proven"})
    done = {"outcome": "done", "exit_code": 0, "summary": f"{release} is live and verified in sandbox", "took_s": 1.0}
    journal.append(run, Kind.RUN_FINISHED, done)
