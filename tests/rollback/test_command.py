"""The operator's own checkpoint in whole deploys: real commands capture, restore and confirm a real file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts import Captured, Confirmation, RestoreContext, World
from pipeline.errors import Exit, TargetError
from pipeline.events import Kind
from pipeline.spec import CommandCheckpoint
from pipeline.verdict import Finding, failed, passed
from pipeline.wayback import Armed, limit_of
from rollback import CHECKPOINTS
from tests.pipeline.rooms import ALL, NEW, NEXT, OLD, STORY, Yard

RULES = 'cache "everything"\r\n\tbut caf\u00e9s \\ '
CDN: dict[str, Any] = {
    "capture": ["cat", "rules"],
    "restore": ["tee", "rules"],
    "confirm": ["cmp", "-", "rules"],
}
DEPLOY = [
    {"act": "release.stage"},
    {"act": "release.switch", "needs": ["release.stage"], "checkpoints": [*ALL, "command:cdn", "traffic"]},
]


def described(yard: Yard, **members: Any) -> None:
    said = CommandCheckpoint.model_validate_json(json.dumps({**CDN, **members}))
    yard.spec = yard.spec.model_copy(update={"checkpoints": {"cdn": said}})


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """The new release changes the rules and is bad."""
    yard = Yard(tmp_path, {**STORY, "deploy": DEPLOY})
    yard.verified(OLD)
    (tmp_path / "rules").write_bytes(RULES.encode())
    described(yard)

    async def spoils(world: World) -> Finding:
        if world.run.release == OLD:
            return passed("as it should be")
        (tmp_path / "rules").write_text("cache nothing")
        return failed("it does not hold", "mend it")

    yard.says["watch.one"] = spoils
    return yard


def rules(yard: Yard) -> str:
    return (yard.folder / "rules").read_bytes().decode()


async def test_what_a_command_captured_is_put_back_to_the_byte(yard: Yard) -> None:
    """After the traffic the operator's command gets what it printed, puts it back, and another one agrees: exit 3."""
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert rules(yard) == RULES
    restored = [told["name"] for told in yard.told(Kind.CHECKPOINT_RESTORING)]
    assert restored[:4] == ["settings", "release", "traffic", "command:cdn"]
    assert all(CHECKPOINTS[name].reopens for name in restored[4:])


async def test_rollback_needs_nothing_that_pipeline_yaml_says_now(yard: Yard) -> None:
    """A killed run's command is put back by what was captured, although its entry says other things since."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    (yard.folder / "rules").write_text("cache nothing")
    described(yard, capture=["false"], restore=["false"], confirm=["false"])
    assert (await yard.rollback()).exit is Exit.DONE
    assert rules(yard) == RULES


async def test_rollback_to_a_named_release_puts_the_command_back_too(yard: Yard) -> None:
    """With an unfinished run `--to` decides the release; what that run changed beside it is put back as it was."""
    yard.verified(NEW, live=False)
    yard.says = {}
    await yard.killed_at(Kind.STEP_FINISHED, release=NEXT, step="release.switch")
    (yard.folder / "rules").write_text("cache nothing")
    assert (await yard.rollback(NEW)).exit is Exit.DONE
    assert (yard.ground.live, rules(yard)) == (NEW, RULES)


async def test_rollback_with_nothing_unfinished_leaves_it_alone(yard: Yard) -> None:
    """A release that was verified leaves its commands behind it: a later rollback runs none of them."""
    yard.says = {}
    await yard.deploy()
    (yard.folder / "rules").write_text("as the operator likes it")
    assert (await yard.rollback()).exit is Exit.DONE
    assert rules(yard) == "as the operator likes it"
    assert "command:cdn" not in [told["name"] for told in yard.told(Kind.CHECKPOINT_RESTORING)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda _: b"", "printed nothing"),
        (lambda _: b"x" * 64_001, "printed 64001 bytes"),
        (lambda _: b"caf\xe9", "bytes that are no UTF-8"),
        (lambda secret: b"token: " + secret.encode(), "a secret, which the record does not keep"),
    ],
    ids=["nothing", "too much", "no text", "a secret"],
)
async def test_what_could_not_be_put_back_is_refused_before_anything_changes(
    yard: Yard, content: Callable[[str], bytes], told: str
) -> None:
    """What the record cannot keep whole ends the run before its first change: exit 1, and what was found is named."""
    (yard.folder / "rules").write_bytes(content(yard.secret.reveal()))
    outcome = await yard.deploy()
    assert (outcome.exit, told in outcome.summary) == (Exit.REFUSED, True), outcome
    assert (yard.ground.live, yard.told(Kind.CHECKPOINT_ARMED)) == (OLD, [])


async def test_secret_in_a_command_itself_is_refused(yard: Yard) -> None:
    """A command whose words hold a secret could not be read again from the record: exit 1."""
    described(yard, restore=["curl", "-H", f"token: {yard.secret.reveal()}"])
    outcome = await yard.deploy()
    assert (outcome.exit, yard.told(Kind.CHECKPOINT_ARMED)) == (Exit.REFUSED, [])
    assert "command:cdn: what it captured holds a secret" in outcome.summary


@pytest.mark.parametrize(
    ("member", "told"),
    [("restore", "`false` ended with 1, expected 0"), ("confirm", "found `false` ended with 1, expected `false` ends")],
)
async def test_command_that_fails_on_the_way_back_keeps_it_closed(yard: Yard, member: str, told: str) -> None:
    """A restore that fails, or a confirm that does not agree, is a failed way back: exit 4, the first error kept."""
    described(yard, **{member: ["false"]})
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live) == (Exit.PERSON_NEEDED, OLD)
    assert outcome.summary.startswith("watch.one: it does not hold")
    assert told in yard.told(Kind.CLOSED)[0]["why"]


async def test_release_that_stood_on_what_is_restored_after_it_is_tried_again(yard: Yard) -> None:
    """An old release that does not start until something after it is put back is tried once more: exit 3, not 4."""

    class Schema:
        name, reopens, section = "command", False, ""

        async def capture(self, _context: RestoreContext) -> Captured:
            return {}

        async def restore(self, _context: RestoreContext, _captured: Captured) -> None:
            yard.ground.broken.clear()

        async def confirm(self, _context: RestoreContext, _captured: Captured) -> Confirmation:
            return Confirmation(True, "back", "back")

    yard.checkpoints["command"] = Schema()
    yard.ground.broken = {f"activate {OLD}": TargetError("no such column")}
    assert (await yard.deploy()).exit is Exit.RESTORED
    told = [(told["name"], told["ok"]) for told in yard.told(Kind.CHECKPOINT_CONFIRMED)]
    assert [ok for name, ok in told if name == "release"] == [False, True]
    assert yard.ground.live == OLD


async def test_way_back_of_a_run_that_named_no_release_leads_to_what_was_live(tmp_path: Path) -> None:
    """Whatever a step arms, what was live is captured with it: the service is not closed for want of it."""
    switch = {"act": "release.switch", "needs": ["release.stage"], "checkpoints": ["traffic"]}
    yard = Yard(tmp_path, {**STORY, "deploy": [{"act": "release.stage"}, switch]})
    yard.verified(OLD)
    yard.says["watch.one"] = failed("it does not hold", "mend it")
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert (yard.ground.live, yard.told(Kind.REOPENED)[0]["release"]) == (OLD, OLD)


def test_slow_checkpoint_has_the_time_that_it_captured() -> None:
    """A migration of an hour may take its hour to go back; what captured no time has that of every checkpoint."""
    assert limit_of(Armed("database", {"limit_s": 3600.0})) == 3600
    assert limit_of(Armed("release", {"release": OLD})) == limit_of(Armed("command:cdn", {"limit_s": 1.0})) >= 60
