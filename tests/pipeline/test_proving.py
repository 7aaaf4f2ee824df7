"""The old release is proven before the switch: with its own settings, through closed doors, and for itself alone."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from checks import CHECKS
from pipeline.contracts import SwitchName, World
from pipeline.errors import Exit
from pipeline.events import Kind
from pipeline.spec import Accepted, Database
from pipeline.verdict import Finding, failed, passed
from pipeline.vouched import asked_when_verified
from tests.pipeline.rooms import ALL, NEW, NEXT, OLD, STORY, Yard

GATE = "database.old_release_works"
DEPLOY = [
    {"act": "release.stage"},
    {"act": "database.migrate", "needs": ["release.stage"], "checkpoints": ["database"]},
    {"check": GATE, "needs": ["database.migrate"]},
    {"act": "release.switch", "needs": [GATE], "checkpoints": ALL},
]
PROVE = [
    {"check": "proof.one"},
    {"check": "proof.two", "needs": ["proof.one"], "retries": 1, "timeout": "500 ms"},
]
BAD = failed("it does not hold", "mend it")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path, {**STORY, "deploy": DEPLOY, "prove": PROVE})
    yard.checks[GATE] = CHECKS[GATE]
    yard.verified(OLD)
    database = Database(migrate=("up",), revert=("down",), version=("version",))
    yard.spec = yard.spec.model_copy(update={"database": database})
    return yard


def gate(yard: Yard) -> Any:
    return next(told for told in yard.told(Kind.FINDING) if told["check"] == GATE)


async def test_old_release_is_proven_as_itself_and_then_the_new_one(yard: Yard) -> None:
    """The proofs ask the old release with its own settings before the switch, and the new one after it: exit 0."""

    async def seen(world: World) -> Finding:
        asked.append((world.run.release, yard.ground.live, world.settings.text("API_SECRET")))
        return passed("seen")

    asked: list[Any] = []
    yard.says["proof.one"] = seen
    assert (await yard.deploy()).exit is Exit.DONE
    assert asked == [(OLD, OLD, "of " + OLD), (NEW, NEW, yard.secret.reveal())]


async def test_proofs_of_the_old_release_do_not_vouch_for_the_new_one(yard: Yard) -> None:
    """What the old release passed stands in the finding of the gate; each proof on record is the new one's own."""
    assert (await yard.deploy()).exit is Exit.DONE
    found = [(told["stage"], told["check"]) for told in yard.told(Kind.FINDING)]
    assert found.count(("prove", "proof.one")) == 1
    assert ("deploy", "proof.one") not in found
    assert set(gate(yard)["evidence"]["proofs"]) == {"proof.one", "proof.two"}
    assert "proof.one" in (asked_when_verified(yard.entries(), NEW) or ())


async def test_door_that_a_person_closed_lets_the_proofs_of_the_old_release_pass(yard: Yard) -> None:
    """A deploy under maintenance proves the old release too: its proofs carry what the closed door lets pass."""

    async def door(world: World) -> Finding:
        found = await world.target.switches.read(SwitchName.MAINTENANCE)
        token = hashlib.sha256(world.run.proof_token.reveal().encode()).hexdigest()
        return passed("it passes") if found is not None and found.proof == token else BAD

    before = yard.maintenance()
    yard.says["proof.one"] = door
    assert (await yard.deploy()).exit is Exit.DONE
    assert yard.ground.switches[SwitchName.MAINTENANCE].why == before.why


@pytest.mark.parametrize("bad", ["proof.one", "proof.two"])
async def test_failed_proof_of_the_old_release_takes_the_migration_back(yard: Yard, bad: str) -> None:
    """Nothing is switched when the old release fails a proof; the gate names it, all others are told too: exit 3."""
    tries: list[int] = []

    async def say(world: World) -> Finding:
        tries.append(1)
        gate_is_asked = not yard.told(Kind.WAYBACK_STARTED)
        return BAD if gate_is_asked else passed("as it should be")

    yard.says[bad] = say
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live) == (Exit.RESTORED, OLD)
    assert f"{bad}: FAIL: it does not hold" in gate(yard)["reason"]
    assert set(gate(yard)["evidence"]["proofs"]) == {"proof.one", "proof.two"}
    assert f"activate {NEW}" not in yard.ground.done
    assert len(tries) == (2 if bad == "proof.one" else 3), "with its retries, and once on the way back"


async def test_proof_that_does_not_end_is_no_pass(yard: Yard) -> None:
    """A proof of the old release that is not done within its limit fails the gate."""

    async def never(_world: World) -> Finding:
        if yard.told(Kind.WAYBACK_STARTED):
            return passed("as it should be")
        await asyncio.Event().wait()
        return BAD

    yard.says["proof.two"] = never
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert "proof.two: ERROR: not done within its limit of 0.5 s" in gate(yard)["reason"]


async def test_what_somebody_answers_for_counts_for_the_old_release_too(yard: Yard) -> None:
    """A finding that is accepted for a time is advice in the gate as it is in the proofs."""
    until = f"{yard.clock.now() + timedelta(days=2):%Y-%m-%d}"
    entry = Accepted(check="proof.one", reason="It comes in May", by="Thandi", until=until)
    yard.spec = yard.spec.model_copy(update={"accepted": (entry,)})
    yard.says["proof.one"] = BAD
    assert (await yard.deploy()).exit is Exit.DONE
    assert gate(yard)["evidence"]["proofs"]["proof.one"].startswith("ADVICE")


async def test_resumed_run_asks_the_gate_that_it_had_not_finished(yard: Yard) -> None:
    """A run killed after it migrated is resumed with the gate, which asks what is live then."""
    await yard.killed_at(Kind.STEP_FINISHED, step="database.migrate", release=NEXT)
    assert (await yard.resume()).exit is Exit.DONE
    assert (gate(yard)["evidence"]["release"], yard.ground.live) == (OLD, NEXT)


def test_the_gate_is_never_accepted() -> None:
    """Nobody answers for an old release that does not work: it is what a way back leads to."""
    assert not CHECKS[GATE].acceptable
