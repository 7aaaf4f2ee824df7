"""What a drill leaves on record, where the verbs that read records find it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from checks.drill_recent import CHECK
from pipeline import report
from pipeline.contracts import World
from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import Journal
from pipeline.past import Remembered
from pipeline.standing import open_runs
from pipeline.verdict import Verdict
from sandbox.drills.fault import Fault
from sandbox.drills.faults import FAULTS
from sandbox.drills.record import on_record
from sandbox.drills.scene import Scene
from tests.checks.worlds import ask, world
from tests.cli.cli import HOME, Cli

ALL = list(FAULTS.values())


def entries(spec: Path) -> Sequence[Entry]:
    with Journal.read(spec.parent / ".tollgate" / "sandbox" / "journal.sqlite") as journal:
        assert journal.verify() == ()
        return journal.entries()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes((HOME / "pipeline.yaml").read_bytes())
    return path


def judging(spec: Path) -> World:
    return replace(world(spec.parent, environment="production"), past=lambda _name: Remembered(entries(spec)))


async def drilled(spec: Path, faults: Sequence[Fault], *bad: str, every: bool = True) -> None:
    async with on_record(spec, faults, every=every) as kept:
        for fault in faults:
            kept.begin(fault)
            kept.end(fault, ["exit 0, expected 3:\nwhat it printed"] if fault.name in bad else [], 1.5)


async def test_a_good_drill_of_every_fault_is_on_record(spec: Path) -> None:
    """It counts for `drill.recent`, it can be reported, and it leaves nothing that a deploy would have to put right."""
    await drilled(spec, ALL)
    assert (await ask(CHECK, judging(spec))).verdict is Verdict.PASS
    assert open_runs(entries(spec)) == []
    told = report.build(entries(spec))
    assert (told.header.verb, told.outcome) == ("drill", report.Outcome.DONE)
    assert [step.name for stage in told.stages for step in stage.steps] == list(FAULTS)
    paths = report.write(told, spec.parent / "report")
    assert "every fault caught" in paths.markdown.read_text("utf-8")


async def test_a_drill_that_showed_a_fault_not_caught_is_on_record_as_such(spec: Path) -> None:
    """The last drill counts, its faults are named, and a drill of that one fault does not make it good."""
    await drilled(spec, ALL)
    await drilled(spec, ALL, "webhook-500")
    await drilled(spec, [FAULTS["webhook-500"]], every=False)
    finding = await ask(CHECK, judging(spec))
    assert (finding.verdict, "a fault was not caught" in finding.reason) == (Verdict.FAIL, True), finding
    run = str(finding.evidence["drill"])
    told = report.build([entry for entry in entries(spec) if entry.run == run])
    assert told.outcome is report.Outcome.REFUSED
    assert "webhook-500" in told.summary


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TollgateError("the healthy release could not be deployed (exit 1)"), "refused"),
        (asyncio.CancelledError(), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (RuntimeError("a bug"), "bug"),
    ],
)
async def test_a_drill_that_breaks_off_is_no_drill(spec: Path, error: BaseException, outcome: str) -> None:
    """However it ends, its end is on record, and it never passes for a drill that showed something."""
    with pytest.raises(type(error)):
        async with on_record(spec, ALL, every=True) as kept:
            kept.begin(ALL[0])
            kept.end(ALL[0], [], 1.0)
            raise error
    assert entries(spec)[-1].data["outcome"] == outcome
    assert (await ask(CHECK, judging(spec))).verdict is Verdict.FAIL


async def test_a_single_fault_that_was_not_caught_undoes_a_good_drill(spec: Path) -> None:
    """What a drill of one fault showed counts until every fault was drilled again; a good one adds nothing."""
    await drilled(spec, ALL)
    await drilled(spec, ALL[:1], every=False)
    assert (await ask(CHECK, judging(spec))).verdict is Verdict.PASS
    await drilled(spec, ALL[:1], ALL[0].name, every=False)
    assert (await ask(CHECK, judging(spec))).verdict is Verdict.FAIL
    await drilled(spec, ALL)
    assert (await ask(CHECK, judging(spec))).verdict is Verdict.PASS


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), RuntimeError("a bug")])
async def test_breaking_off_does_not_hide_a_fault_that_was_not_caught(spec: Path, error: BaseException) -> None:
    """After a good drill, one that showed a fault not caught counts, even when somebody pressed Ctrl-C upon it."""
    await drilled(spec, ALL)
    with pytest.raises(type(error)):
        async with on_record(spec, ALL, every=True) as kept:
            kept.begin(ALL[0])
            kept.end(ALL[0], ["exit 0, expected 3"], 1.0)
            raise error
    finding = await ask(CHECK, judging(spec))
    assert finding.verdict is Verdict.FAIL, finding
    assert ALL[0].name in entries(spec)[-1].data["summary"]


async def test_a_drill_that_stops_early_without_an_error_is_no_drill(spec: Path) -> None:
    """Faults that were never played were not caught."""
    async with on_record(spec, ALL, every=True) as kept:
        kept.begin(ALL[0])
        kept.end(ALL[0], [], 1.0)
    assert entries(spec)[-1].data["outcome"] == "refused"


async def test_no_secret_of_the_drilled_sandbox_goes_on_record(spec: Path, tmp_path: Path) -> None:
    """I3: what the commands of a drill printed may hold a secret; the journal does not."""
    scene, secret = Scene(tmp_path / "drill"), os.urandom(16).hex()
    scene.settings.parent.mkdir(parents=True)
    scene.settings.write_text(f"VITE_NODE_ENV=production\nVITE_IKHOKHA_API_SECRET={secret}\n")
    async with on_record(spec, ALL[:1], every=False) as kept:
        kept.begin(ALL[0])
        kept.learn(scene)
        kept.end(ALL[0], [f"I3: production printed {secret}"], 1.0)
    told = json.dumps([entry.data for entry in entries(spec)], default=str)
    assert secret not in told
    assert "I3: production printed" in told


async def test_the_verbs_read_a_drill(spec: Path) -> None:
    """`history`, `report` and `audit` show a drill of the sandbox like any other run."""
    await drilled(spec, ALL)
    cli = Cli(spec.parent)
    runs = cli.run("history", "--json")
    assert [(run["verb"], run["outcome"]) for run in runs.data] == [("drill", "done")], runs.err
    assert cli.run("report", "--json").data["header"]["verb"] == "drill"
    assert cli.run("audit").code == 0
    assert [entry.kind for entry in entries(spec)][-1] is Kind.RUN_FINISHED
