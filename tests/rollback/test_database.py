"""A deploy that migrates a database: the old release is proven on the new schema, and a failure takes it back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts import World
from pipeline.errors import Exit
from pipeline.events import Kind
from pipeline.verdict import Finding, failed, passed
from rollback import CHECKPOINTS
from tests.pipeline.rooms import NEW, OLD
from tests.rollback.ledgers import GATE, IRREVERSIBLE, TOTAL, Ledger, deploys_in_a_process, ledger
from tests.targets.areas import started, stopped_after, until

BAD = failed("it does not hold", "mend it")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with stopped_after(tmp_path / "area"):
        yield await ledger(tmp_path)


def bad_release(books: Ledger) -> None:
    """The new release fails a proof after the switch; the old one passes."""

    async def say(world: World) -> Finding:
        return BAD if world.run.release == NEW else passed("as it should be")

    books.yard.says["watch.one"] = say


def confirmed(books: Ledger, name: str = "database") -> dict[str, Any]:
    return [dict(told) for told in books.yard.told(Kind.CHECKPOINT_CONFIRMED) if told["name"] == name][-1]


async def test_migration_that_both_releases_work_with_is_deployed(books: Ledger) -> None:
    """The old release is started anew and proven on the migrated schema, then the new one takes the traffic: exit 0."""
    books.builds(migration="adds")
    outcome = await books.yard.deploy()
    assert outcome.exit is Exit.DONE, outcome
    assert (await books.live(), books.version, books.columns) == (NEW, 2, ["reference", "price", "note"])
    (gate,) = [told for told in books.yard.told(Kind.FINDING) if told["check"] == GATE]
    assert gate["verdict"] == "PASS"
    assert (gate["evidence"]["release"], set(gate["evidence"]["proofs"])) == (OLD, {"proof.one", "proof.two"})
    (line,) = [line for line in books.yard.output if "migrated with" in line]
    assert line == f"the schema is at version 2; {NEW} migrated with [redacted]"
    assert books.yard.secret.reveal() not in str([*books.yard.output, *books.yard.entries()])


@pytest.mark.parametrize("old", [{}, {"crashes": True}], ids=["it answers errors", "it does not even start"])
async def test_schema_that_breaks_the_old_release_is_taken_back(tmp_path: Path, old: dict[str, Any]) -> None:
    """Before anything is switched the old release fails on the migrated schema: it is reverted, exit 3."""
    async with stopped_after(tmp_path / "area"):
        books = await ledger(tmp_path, **old)
        books.builds(migration="renames", column="cents")
        outcome = await books.yard.deploy()
        assert outcome.exit is Exit.RESTORED, (outcome, books.yard.told(Kind.CLOSED))
        assert GATE in outcome.summary
        assert (await books.live(), books.version, books.columns) == (OLD, 1, ["reference", "price"])
        assert (await books.answer())[1]["total"] == TOTAL
        assert (await books.states())[NEW] == "bad"
        assert "release.switch" not in [told["step"] for told in books.yard.told(Kind.STEP_STARTED)]


async def test_failure_after_the_switch_reverts_the_schema_once_the_old_release_serves(books: Ledger) -> None:
    """The way back puts the release back first and the schema after it, whatever order they were armed in: exit 3."""
    books.builds(migration="adds")
    bad_release(books)
    assert (await books.yard.deploy()).exit is Exit.RESTORED
    assert (await books.live(), books.version, books.columns) == (OLD, 1, ["reference", "price"])
    restored = [told["name"] for told in books.yard.told(Kind.CHECKPOINT_RESTORING)]
    assert restored[:3] == ["settings", "release", "database"]
    assert all(CHECKPOINTS[name].reopens for name in restored[3:])
    assert confirmed(books)["found"] == "schema version 1"


async def test_irreversible_migration_stays_and_the_old_release_is_proven_on_it(books: Ledger) -> None:
    """What cannot be reverted stays, is told with its reason, and the old release serves on the schema: exit 3."""
    books.builds(migration="adds")
    books.said(**IRREVERSIBLE)
    bad_release(books)
    assert (await books.yard.deploy()).exit is Exit.RESTORED
    assert (await books.live(), books.version, (await books.answer())[0]) == (OLD, 2, 200)
    assert "no way back: the notes of customers would be lost" in confirmed(books)["found"]


async def test_irreversible_migration_that_breaks_the_old_release_closes(books: Ledger) -> None:
    """Where the schema can neither stay nor go back, the service is closed and a person is needed: exit 4."""
    books.builds(migration="renames", column="cents")
    books.said(**IRREVERSIBLE)
    outcome = await books.yard.deploy()
    assert outcome.exit is Exit.PERSON_NEEDED
    assert (books.version, (await books.answer("/"))[0]) == (2, 503)


@pytest.mark.parametrize(
    ("traits", "told"),
    [
        ({"revert": "fails"}, "cannot drop what customers filled in"),
        ({"version": "fails"}, "no such table: versions"),
    ],
    ids=["revert fails", "version fails"],
)
async def test_revert_that_fails_closes_and_hides_nothing(books: Ledger, traits: dict[str, Any], told: str) -> None:
    """When the schema is not known to be back, the service is closed with the first error kept: exit 4, repeatable."""
    books.builds(migration="renames", column="cents", **traits)
    outcome = await books.yard.deploy()
    assert outcome.exit is Exit.PERSON_NEEDED
    assert (await books.answer("/"))[0] == 503
    first = "database.migrate" if "version" in traits else GATE
    assert books.yard.told(Kind.RUN_FAILED)[0]["error"].startswith(first)
    assert outcome.summary.startswith(first)
    assert told in confirmed(books)["error"]
    closed = books.yard.told(Kind.CLOSED)[0]
    assert "checkpoint database" in closed["why"]


async def test_revert_is_not_run_from_a_release_that_was_changed(books: Ledger) -> None:
    """The code that reverts is that which was staged; where a byte of it differs it is not run, and that is told."""

    async def deface(world: World) -> Finding:
        if world.run.release == NEW:
            (books.area / "releases" / NEW / "ledger" / "schema.py").write_text("raise SystemExit(0)")
            return BAD
        return passed("as it should be")

    books.builds(migration="adds")
    books.yard.says["watch.one"] = deface
    assert (await books.yard.deploy()).exit is Exit.PERSON_NEEDED
    assert books.version == 2
    assert "database.revert of 2-new cannot be run" in confirmed(books)["error"]
    assert "schema.py" in confirmed(books)["error"]


async def test_migration_that_was_cut_off_half_way_is_taken_back(books: Ledger) -> None:
    """A migration whose process is killed in the middle leaves no half schema: it is reverted, exit 3."""
    books.builds(migration="adds", stops=True)
    deploy = asyncio.create_task(books.yard.deploy())
    os.kill(await _half_way(books, lambda: not deploy.done()), signal.SIGKILL)
    outcome = await deploy
    assert (outcome.exit, "ended with 137" in outcome.summary) == (Exit.RESTORED, True)
    assert (await books.live(), books.version, books.columns) == (OLD, 1, ["reference", "price"])


async def test_migration_that_outlives_its_run_is_waited_for(books: Ledger) -> None:
    """When only the pipeline is killed, its migration goes on; a rollback waits for its end and reverts all of it."""
    books.builds(migration="adds", stops=True)
    process = deploys_in_a_process(books.yard.folder)
    try:
        pid = await _half_way(books, lambda: process.poll() is None)
    finally:
        process.kill()
        process.wait()
    rollback = asyncio.create_task(books.yard.rollback())

    async def reached() -> bool:
        assert not rollback.done(), rollback
        return any(told["name"] == "database" for told in books.yard.told(Kind.CHECKPOINT_RESTORING))

    await until(reached, within=60)
    assert started(pid), "the migration ended with its run"
    (books.data / "go-on").touch()
    assert (await rollback).exit is Exit.DONE
    assert (started(pid), await books.live(), books.version, books.columns) == ("", OLD, 1, ["reference", "price"])


@pytest.mark.parametrize(
    ("kind", "having"),
    [
        (Kind.CHECKPOINT_ARMED, {"name": "database"}),
        (Kind.STEP_FINISHED, {"step": "database.migrate"}),
    ],
    ids=["before it migrates", "after it migrated"],
)
async def test_rollback_of_a_killed_run_needs_no_spec_for_the_schema(
    books: Ledger, kind: Kind, having: dict[str, Any]
) -> None:
    """What a killed run had migrated is reverted by what it captured, whatever pipeline.yaml says of it since."""
    books.builds(migration="adds")
    await books.yard.killed_at(kind, **having)
    books.said(revert=["false"], version=["false"], migrate=["false"])
    outcome = await books.yard.rollback()
    assert outcome.exit is Exit.DONE, outcome
    assert (await books.live(), books.version, books.columns) == (OLD, 1, ["reference", "price"])


async def test_rollback_killed_around_the_revert_is_repeated(books: Ledger) -> None:
    """A way back that is killed after it reverted is repeated: it reverts no further."""
    books.builds(migration="adds")
    await books.yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    await books.yard.rollback_killed_at(Kind.CHECKPOINT_CONFIRMED, name="database")
    assert (await books.yard.rollback()).exit is Exit.DONE
    assert (await books.live(), books.version) == (OLD, 1)


async def test_killed_migration_is_resumed(books: Ledger) -> None:
    """A run that was killed before it migrated goes on from what it had captured, and the release is verified."""
    books.builds(migration="adds")
    await books.yard.killed_at(Kind.CHECKPOINT_ARMED, name="database")
    assert (await books.yard.resume()).exit is Exit.DONE
    assert (await books.live(), books.version, (await books.states())[NEW]) == (NEW, 2, "verified")


async def test_first_release_has_no_old_one_to_prove(tmp_path: Path) -> None:
    """With nothing live the gate is skipped for that reason; a failure still takes the schema back: exit 3, closed."""
    async with stopped_after(tmp_path / "area"):
        books = await ledger(tmp_path, first=True)
        books.builds(migration="adds")
        bad_release(books)
        assert (await books.yard.deploy()).exit is Exit.RESTORED
        (gate,) = [told for told in books.yard.told(Kind.FINDING) if told["check"] == GATE]
        assert (gate["verdict"], "first release" in gate["reason"]) == ("SKIPPED", True)
        assert (await books.live(), books.version) == (None, 1)


async def _half_way(books: Ledger, runs: Callable[[], bool]) -> int:
    """The pid of the migration that stands half-way."""
    path = books.data / "half-way"

    async def there() -> str:
        assert runs(), "the deploy ended before its migration stood half-way"
        return path.read_text() if path.exists() else ""

    return int(await until(there, within=60))
