"""What a person sees before a rollback: the screen says what is then done, `--dry-run` changes nothing at all."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

import commands
from pipeline import rollback_screen, rolling_back
from pipeline.contracts import Captured, Confirmation, ReleaseId, RestoreContext, SwitchName
from pipeline.errors import Exit, LeaseHeld, Refused, TargetError
from pipeline.events import Kind
from pipeline.lease import Lease, Owner, held
from pipeline.rollback_screen import Foreseen
from pipeline.verdict import failed
from rollback import CHECKPOINTS
from tests.cli.cli import Cli, on
from tests.cli.standing import BAD, GOOD, NEWEST, stands, typed
from tests.pipeline.rooms import NEW, NEXT, OLD, STORY, Yard, spec_of


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


async def foreseen(yard: Yard, to: str | None = None) -> Foreseen:
    """The rollback as it would go now."""
    said: list[str] = []
    with yard.opened() as session:
        look = replace(rolling_back.Look.of(session), tell=said.append)
        choice = await rolling_back.choose(look, to)
        lease = held(session.lease_file)
        plan = yard.plan("rollback", ("prove",))
        checks, record = session.catalogue.checks, session.record
        return await rollback_screen.foresee(look, choice, plan, checks, lease, said, record=record)


async def shown(yard: Yard, to: str | None = None) -> str:
    return " ".join(rollback_screen.screen(await foreseen(yard, to)).split())


# ---- what it says is what is done --------------------------------------------------------------------------


async def test_screen_tells_the_steps_of_the_rollback_in_their_order(yard: Yard) -> None:
    """What stands on the screen is what the record then says was done, in that order."""
    await yard.deploy(NEW)
    said = [step.what for step in (await foreseen(yard)).steps]
    begun = len(yard.entries())
    assert (await yard.rollback()).exit is Exit.DONE
    names = {
        Kind.PAYMENTS_CLOSED: "close",
        Kind.RELEASE_MARKED: "mark",
        Kind.FINDING: "prove",
        Kind.RECONCILED: "reconcile",
    }
    done = [
        entry.data["name"] if entry.kind is Kind.CHECKPOINT_RESTORING else names[entry.kind]
        for entry in yard.entries()[begun:]
        if entry.kind in (*names, Kind.CHECKPOINT_RESTORING)
    ]
    assert list(dict.fromkeys(done)) == said


async def test_screen_tells_what_is_live_and_what_it_goes_back_to_and_why(yard: Yard) -> None:
    """What is live and since when, the goal, why that one, and which proofs vouch for it in which run."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    text = await shown(yard)
    assert f"live {NEXT}, verified since 2" in text
    assert f"goes back to {NEW} because the last verified release but the live one verified 2" in text
    asked = max(
        entry.at
        for entry in yard.entries()
        if entry.run == "run-1" and entry.data.get("stage") == "prove" and entry.kind is Kind.FINDING
    )
    assert f"its proofs 2 passed {asked:%Y-%m-%d %H:%M:%S} UTC in run run-1" in text
    assert f"settings those kept with {NEW} come into force" in text
    assert "prove 2 proofs: proof.one, proof.two" in text


async def test_screen_tells_proofs_that_are_not_on_record(yard: Yard) -> None:
    """Nothing is made up for a release that another record vouches for."""
    await yard.deploy(NEW)
    assert "its proofs not recorded here" in await shown(yard)


async def test_screen_tells_proofs_that_do_not_decide(yard: Yard) -> None:
    """A proof that is newer than the release is named as one that only tells."""
    await yard.deploy(OLD)
    yard.spec = spec_of({**STORY, "prove": [*STORY["prove"], {"check": "proof.new"}]})
    yard.checks["proof.new"] = replace(yard.checks["proof.one"], name="proof.new", acceptable=True)
    await yard.deploy(NEW)
    assert (await foreseen(yard)).only_tell == ("proof.new",)
    assert "so they do not decide: proof.new" in await shown(yard)


async def test_screen_tells_an_unfinished_run(yard: Yard) -> None:
    """After a crash the run that was left unfinished is named with where it stands, and its release is the bad one."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.switch")
    text = await shown(yard)
    assert "unfinished deploy run-1; it stands at step.finished deploy release.switch at 2" in text
    assert f"live {NEW}, not verified" in text
    assert "because it was live and verified before run run-1" in text
    assert f"mark {NEW} becomes bad" in text


async def test_screen_of_a_run_that_changed_nothing(yard: Yard) -> None:
    """Where the unfinished run had changed nothing the screen promises nothing but to set it aside."""
    await yard.killed_at(Kind.STEP_FINISHED, step="release.stage")
    seen = await foreseen(yard)
    assert ([step.what for step in seen.steps], seen.proofs) == (["run"], ())
    assert "sets that run aside; what is live stays as it is" in await shown(yard)


async def test_screen_tells_who_is_at_work(yard: Yard) -> None:
    """While another run holds the lease the screen says so and what comes of it; nothing is taken over."""
    await yard.deploy(NEW)
    lease = Lease.take(yard.folder / "lease.sqlite", owner=Owner.this_process("run-9", "sipho"), clock=yard.clock)
    try:
        text = await shown(yard)
        with pytest.raises(LeaseHeld):
            await yard.rollback()
    finally:
        lease.release()
    assert "AT WORK NOW a command since 2" in text and "run run-9 of sipho on " in text
    assert "Until it ends a rollback is refused (exit 5)" in text
    assert (await foreseen(yard)).held is False


async def test_door_that_a_person_closed_is_shown_and_stays(yard: Yard) -> None:
    """Whoever is paged sees that the page is closed by a person, who and why, and that a rollback leaves it so."""
    await yard.deploy(NEW)
    yard.maintenance()
    text = await shown(yard)
    assert "maintenance on since 2026-01-01 00:00:00 UTC by sipho: stock-taking" in text
    assert "maintenance stays closed, since 2026-01-01T00:00:00+00:00 by sipho: stock-taking" in text
    assert (await yard.rollback()).exit is Exit.DONE
    assert SwitchName.MAINTENANCE in yard.ground.switches


async def test_screen_where_nothing_is_clear(yard: Yard) -> None:
    """A target that cannot say what serves is shown as unclear, with its own words, and the goal all the same."""
    await yard.deploy(NEW)
    yard.ground.broken["live"] = TargetError("half switched")
    text = await shown(yard)
    assert "live unclear what is live is unclear: half switched" in text
    assert f"goes back to {NEW}" in text


async def test_goal_that_is_damaged_is_told_before_it_is_needed(yard: Yard) -> None:
    """A release whose bytes changed since they were staged cannot be gone back to, and the screen says so first."""

    async def reread(_release: ReleaseId) -> str:
        raise TargetError("app.py: its bytes are not those that were staged")

    await yard.deploy(NEW)
    assert (await foreseen(yard)).damaged == ""
    yard.ground.reread = reread  # type: ignore[method-assign]
    assert "DAMAGED going back to it would fail, name another with --to: app.py: its bytes" in await shown(yard)


async def test_screen_after_a_rollback_that_needs_a_person(yard: Yard) -> None:
    """After exit 4 the screen says that a person is needed, who closed the doors, and that they will open."""
    await yard.deploy(NEW)
    yard.says = {"proof.two": failed("it does not hold", "mend it")}
    assert (await yard.rollback()).exit is Exit.PERSON_NEEDED
    text = await shown(yard)
    assert "unfinished rollback run-2; closed, a person is needed" in text
    assert f"goes back to {OLD} because run run-2 was going back to it" in text
    assert "maintenance on since 2" in text and "by thandi, run run-2: proof.two" in text
    assert "6. test-mode new payments move money" in text and "8. maintenance no maintenance page" in text


async def test_payments_are_compared_since_the_release_took_them(yard: Yard) -> None:
    """A release takes payments from its switch on, which is before it was verified: none in between is left out."""
    await yard.deploy(NEW)
    switched = next(one.at for one in yard.entries() if one.data.get("state") == "live")
    yard.ground.records[NEW] = replace(yard.ground.records[NEW], since=switched + timedelta(minutes=20))
    with yard.opened() as session:
        assert (await rolling_back.choose(rolling_back.Look.of(session), None)).since == switched


async def test_only_what_was_agreed_to_is_done(yard: Yard) -> None:
    """What changed between the screen and the yes is not done: exit 1, nothing on record."""
    await yard.deploy(NEW)
    await yard.deploy(NEXT)
    with yard.opened() as session:
        agreed = await rolling_back.choose(rolling_back.Look.of(session), None)
    yard.ground.live = NEW
    before = yard.entries()
    plan = yard.plan("rollback", ("prove",))
    with yard.opened() as session, pytest.raises(Refused, match="changed while you were asked"):
        owner = Owner.this_process(session.recorder.run)
        await rolling_back.rollback(session, plan, owner, to=None, reason="", agreed=agreed)
    assert yard.entries() == before
    yard.ground.live = NEXT
    with yard.opened() as session:
        owner = Owner.this_process(session.recorder.run)
        outcome = await rolling_back.rollback(session, plan, owner, to=None, reason="", agreed=agreed)
    assert (outcome.exit, yard.ground.live) == (Exit.DONE, NEW)


@pytest.mark.parametrize("width", [80, 60])
async def test_screen_is_one_screen(yard: Yard, width: int) -> None:
    """However much there is to say, every line fits, and at 80 columns all fits a terminal of 24 lines."""
    proofs = [{"check": f"proof.with_a_long_name_{n}"} for n in range(40)]
    yard = Yard(yard.folder / "long", {**STORY, "prove": proofs})
    yard.verified(ReleaseId("20261122T100809043Z-0123abc"), live=False)
    yard.verified(ReleaseId("20261122T100858776Z-0123abc"))
    lines = rollback_screen.screen(await foreseen(yard), width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    assert width < 80 or len(lines) <= 22


def test_every_checkpoint_says_in_words_what_restoring_does() -> None:
    """No step of the screen is a name alone."""
    assert [one.name for one in CHECKPOINTS.values() if not isinstance(one, rollback_screen.InWords)] == []


async def test_checkpoint_without_words_is_on_the_screen_all_the_same(yard: Yard) -> None:
    """A team's own checkpoint that says nothing of itself is still a step that is shown."""
    await yard.deploy(NEW)

    class Own:
        name, reopens = "cache", False

        async def capture(self, _context: RestoreContext) -> Captured:
            return {}

        async def restore(self, _context: RestoreContext, _captured: Captured) -> None: ...

        async def confirm(self, _context: RestoreContext, _captured: Captured) -> Confirmation:
            return Confirmation(True, "cold", "cold")

    yard.checkpoints["cache"] = Own()
    assert "cache put back as it was captured" in await shown(yard)


# ---- the question ------------------------------------------------------------------------------------------


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal of our own in place of stdin; what is written to it was typed."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


async def test_only_the_name_of_the_environment_is_a_yes(keyboard: int) -> None:
    """Whoever is asked must type the environment's name; anything else, and the end of input, is a no."""
    os.write(keyboard, b"production\n")
    await commands.confirm("production")
    for typed_instead in (b"y\n", b"staging\n", b"\n", b"\x04"):
        os.write(keyboard, typed_instead)
        with pytest.raises(Refused, match="nothing was changed"):
            await commands.confirm("production")


async def test_question_can_be_interrupted(keyboard: int) -> None:
    """Ctrl-C ends the waiting for an answer at once: nothing blocks until somebody types."""
    asked = asyncio.create_task(commands.confirm("production"))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


# ---- the command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """An environment whose service does not run, as after a reboot: one live release, one before it, one bad."""
    return stands(on(tmp_path_factory.mktemp("standing")))


def _found(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every file with its bytes and when it was changed, but what SQLite keeps beside a database that is read."""
    return {
        str(path): (path.lstat().st_mtime_ns, str(path.readlink()) if path.is_symlink() else path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
        if not path.name.endswith(("-shm", "-wal"))
    }


def test_dry_run_changes_nothing(standing: Cli) -> None:
    """`--dry-run` shows the screen and ends with 0; no file is touched, nothing is started, nothing is on record."""
    before = _found(standing.folder)
    ended = standing.run("rollback", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert f"live          {NEWEST}, verified; it does not run now and is" in ended.out
    assert f"goes back to  {GOOD}" in ended.out
    assert "Nothing was changed. To do it: `./inv rollback --env sandbox`" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert _found(standing.folder) == before


def test_dry_run_prints_one_document(standing: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` the dry run is one document that holds all that the screen says, and more."""
    ended = typed(standing, capsys, "rollback", "--dry-run", "--json", "--to", NEWEST)
    assert ended.code == 0
    assert (ended.data["live"], ended.data["goes_back_to"], ended.data["because"]) == (NEWEST, NEWEST, "--to names it")
    assert ended.data["vouched"]["proofs"] == 1
    assert {"dry_run", "steps", "proofs", "unfinished", "lease", "doors"} <= set(ended.data)
    assert ended.data["proofs"][0] == "health.ready"


def test_unverified_goal_is_refused_with_the_list(standing: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """`--to` takes only a verified release: anything else ends with 1 and the list of releases, states and times."""
    ended = typed(standing, capsys, "rollback", "--to", BAD, "--json", "--dry-run")
    assert (ended.code, ended.data["exit_code"]) == (1, 1)
    assert [(one["release"], one["state"]) for one in ended.data["releases"]] == [
        (NEWEST, "verified"),
        (BAD, "bad"),
        (GOOD, "verified"),
    ]
    assert all(datetime.fromisoformat(one["since"]) <= datetime.now(UTC) for one in ended.data["releases"])
    assert f"{BAD} is not a verified release of sandbox" in ended.err
    assert "release  " in ended.err
