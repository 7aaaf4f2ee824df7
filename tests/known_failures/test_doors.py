"""Known failures of deploy tools with maintenance modes and failure hooks, each the other way round."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.events import Kind
from sandbox.drills import customer
from sandbox.drills.scene import Scene
from tests.crash.scenes import build
from tests.known_failures import engine, standing
from tests.known_failures.engine import At, run

pytestmark = pytest.mark.timeout(180)


def test_maintenance_mode_left_on(folder: Path) -> None:
    """Tools switch maintenance on before a deploy and off after it, so a deploy that fails in between leaves the shop
    closed; here one that could be taken back opens again."""
    build(folder, "ignores-amount")
    assert run(folder, "deploy") == 3
    assert (standing.page(folder), standing.doors(folder)) == (200, [])
    assert standing.broken_invariants(folder) == []


def test_a_failing_failure_hook_that_hides_the_first_error(folder: Path) -> None:
    """Tools whose failure hook fails report the hook's error and forget why the deploy had failed; here the first
    error comes first, what failed after it is told as well, and one rollback opens what the failure had closed."""
    good = standing.live(folder)
    build(folder, "ignores-amount")
    lost = At(Kind.STEP_FINISHED, "release.switch", engine.lose_settings)
    assert run(folder, "deploy", lost) == 4
    assert (standing.page(folder), standing.doors(folder)) == (503, ["maintenance", "payments-off"])
    engine.find_settings(folder)
    (first,) = engine.of_last_run(folder, Kind.RUN_FAILED)
    (ended,) = engine.of_last_run(folder, Kind.RUN_FINISHED)
    closed = engine.of_last_run(folder, Kind.CLOSED)[0]
    assert first.data["step"] == "payment.refuses_wrong_amount"
    assert ended.data["summary"].startswith(first.data["error"])
    assert "checkpoint settings" in closed.data["why"]
    assert first.seq < closed.seq
    assert run(folder, "rollback") == 0
    assert (standing.page(folder), standing.doors(folder), standing.live(folder)) == (200, [], good)
    assert standing.broken_invariants(folder) == []


def test_maintenance_mode_switched_off_by_the_next_deploy(folder: Path) -> None:
    """Tools that switch maintenance off at the end of a deploy open a shop that somebody had closed on purpose; here a
    door that a person closed stays closed, with who and why, through deploys and rollbacks."""
    told = standing.closed_by_a_person(folder)
    try:
        build(folder)
        good = standing.live(folder)
        assert run(folder, "deploy") == 0
        assert (standing.page(folder), standing.said_at_the_door(folder)) == (503, told)
        assert run(folder, "rollback") == 0
        assert (standing.page(folder), standing.said_at_the_door(folder)) == (503, told)
        assert standing.live(folder) == good
    finally:
        standing.door(folder, "maintenance").unlink()
    assert standing.broken_invariants(folder) == []


def test_webhooks_refused_while_the_site_is_closed(folder: Path) -> None:
    """A maintenance page in front of everything answers the gateway's webhooks with 503 too, and a gateway that never
    repeats one leaves a customer without what was paid; here webhooks come through the closed door."""
    scene = Scene(folder)

    async def bought() -> customer.Order:
        one = await customer.order(scene)
        standing.closed_by_a_person(folder)
        await customer.pay(scene, one)
        await customer.delivered(scene, one)
        return one

    try:
        one = asyncio.run(bought())
        assert standing.page(folder) == 503
        customer.active_once(scene, one)
    finally:
        standing.door(folder, "maintenance").unlink(missing_ok=True)
    assert standing.broken_invariants(folder) == []
