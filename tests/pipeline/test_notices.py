"""Who is told how a run goes: by whom a notice is received, what is in it, and that it changes nothing of the run."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from random import SystemRandom
from typing import Any, get_args

import pytest

from pipeline import closing, console, incident, opening, report, rolling_back, runner
from pipeline.closing import Done
from pipeline.contracts import SwitchName
from pipeline.errors import Exit, PersonNeeded, TargetError, TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import Journal
from pipeline.lease import Owner
from pipeline.notice_post import SENDER, Post
from pipeline.notice_words import Writer
from pipeline.notices import LATE_S, NOBODY, Notices, Recipient
from pipeline.run_record import Outcome
from pipeline.secrets import Redactor, Secret
from pipeline.spec import Notice, NoticeEvent
from pipeline.standing import open_runs
from pipeline.verdict import failed
from tests.pipeline.rooms import NEW, NEXT, OLD, Killed, StubbornClock, Yard
from tests.pipeline.test_doors import Hand
from tests.servers.receivers import nobody_listens, receiving

ALL = frozenset(get_args(NoticeEvent))
DEFAULT = frozenset(Notice(to="ops", address_from="NOTICE_OPS").on)
ADDRESS = Secret("jsons://ops:let-me-in@hooks.shop.test/T0pS3cretKey")


class Desk:
    """Takes notices for `Notices`. `says`: what it answers each time; None: nothing, for ever."""

    def __init__(self, says: str | None = "") -> None:
        self.says = says
        self.taken: list[tuple[str, str, str]] = []
        self.closed = False

    async def send(self, address: Secret, title: str, body: str, *, kind: str) -> str:
        self.taken.append((title, body, kind))
        if self.says is None:
            await asyncio.Event().wait()
        return self.says or ""

    async def close(self) -> None:
        self.closed = True

    @property
    def titles(self) -> list[str]:
        return [title.partition(": ")[2] for title, _, _ in self.taken]


class Told:
    """Runs of a yard whose people are told. `recipients` None: one who is told everything."""

    def __init__(self, yard: Yard, carrier: Any, recipients: Sequence[Recipient] | None = None) -> None:
        self.yard, self.carrier = yard, carrier
        self.recipients = [Recipient("ops", ADDRESS, ALL)] if recipients is None else recipients
        self.notices = self._notices()

    def _notices(self) -> Notices:
        redactor = Redactor([self.yard.secret])
        writer = Writer("shop", "staging", "thandi", redactor.text)
        return Notices("staging", self.recipients, self.carrier, writer.words)

    async def run(self, act: Any, **opening: Any) -> Outcome:
        self.notices = self._notices()
        with self.yard.opened(listeners=[self.notices], **opening) as session:
            self.notices.begin(session.recorder.record, session.journal.entries)
            try:
                outcome: Outcome = await act(session, Owner.this_process(session.recorder.run))
            except TollgateError as error:
                await self.notices.failed(error, changed=session.recorder.changed)
                raise
            finally:
                await self.notices.close()
            return outcome

    async def deploy(self, release: Any = NEW) -> Outcome:
        async def act(session: Any, owner: Owner) -> Outcome:
            outcome = await runner.deploy(session, self.yard.plan(), owner)
            await self.notices.settle()
            return outcome

        return await self.run(act, release=release)

    async def rollback(self) -> Outcome:
        async def act(session: Any, owner: Owner) -> Outcome:
            plan = self.yard.plan("rollback", ("prove",))
            outcome = await rolling_back.rollback(session, plan, owner, to=None, reason="it was slow")
            await self.notices.settle()
            return outcome

        return await self.run(act)

    async def resume(self) -> Outcome:
        unfinished = next(one for one in open_runs(self.yard.entries()) if one.verb == "deploy")

        async def act(session: Any, owner: Owner) -> Outcome:
            outcome = await runner.resume(session, self.yard.plan(), owner, unfinished)
            await self.notices.settle()
            return outcome

        return await self.run(act, release=unfinished.release, run=unfinished.run)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


def bad(yard: Yard, check: str = "watch.one") -> None:
    """The new release does not hold, and says the secret when it is asked why."""
    yard.says[check] = failed(f"it is slow, says {yard.secret.reveal()}", "make it quick")


def not_restored(yard: Yard) -> None:
    bad(yard)
    yard.ground.broken[f"activate {OLD}"] = TargetError("the disk is full")


def recorded(yard: Yard) -> list[tuple[str, str, bool | None]]:
    return [(one["to"], one["event"], one["ok"]) for one in yard.told(Kind.NOTICE)]


# ---- to real receivers, through Apprise ----------------------------------------------------------------------


async def test_a_failed_deploy_reaches_webhook_chat_and_mailbox(yard: Yard) -> None:
    """Each of those named learns on one screen what happened, why, what is live, and which run to look at."""
    bad(yard)
    async with receiving() as (hooks, mail):
        at = f"127.0.0.1:{hooks.port}"
        recipients = [
            Recipient("webhook", Secret(f"json://{at}/plain"), DEFAULT),
            Recipient("chat", Secret(f"mmost://{at}/3ccdd113474722377935511fc85d3dd4"), DEFAULT),
            Recipient("mailbox", Secret(f"mailto://127.0.0.1:{mail.port}/b@shop.test?from=a@shop.test"), DEFAULT),
        ]
        told = Told(yard, Post(os.environ, SystemRandom(), yard.clock.sleep), recipients)
        assert (await told.deploy()).exit is Exit.RESTORED
        webhook = json.loads(hooks.bodies("/plain")[0])
        assert (webhook["title"], webhook["type"]) == ("shop staging: deploy failed, taken back", "warning")
        chat = json.loads(hooks.bodies("/hooks/")[0])["text"]
        subject, letter = mail.got[0]
        assert subject == webhook["title"]
        for text in (webhook["message"], chat, letter):
            assert "watch.one: it is slow, says [redacted]" in text
            assert f"Release {OLD} serves and takes payments" in text
            assert "Run run-1, by thandi." in text
            assert yard.secret.reveal() not in text
    assert [len(hooks.got), len(mail.got)] == [2, 1]
    assert {one for one in recorded(yard) if one[2]} == {(one.name, "rolled back", True) for one in recipients}


async def test_receivers_that_fail_change_nothing_of_a_run(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    """One that is down, answers 500 or garbage, or not at all: the run ends as it does, and each is named with why."""
    bad(yard)
    async with receiving() as (hooks, _):
        at = f"127.0.0.1:{hooks.port}"
        with nobody_listens() as nobody:
            ways = {
                "down": f"json://{at.partition(':')[0]}:{nobody.getsockname()[1]}/x",
                "500": f"json://ops:pw12@{at}/500/T0pS3cretKey",
                "garbage": f"json://{at}/garbage",
                "hang": f"json://{at}/hang",
                "unknown": "json://",
            }
            recipients = [Recipient(name, Secret(address), ALL) for name, address in ways.items()]
            told = Told(yard, Post(os.environ, SystemRandom(), yard.clock.sleep), recipients)
            assert (await told.deploy()).exit is Exit.RESTORED
    assert [len(hooks.bodies(path)) for path in ("500", "garbage")] == [4, 4]
    failed_ones = {(one["to"], one["event"]) for one in yard.told(Kind.NOTICE) if one["ok"] is False}
    assert failed_ones == {(name, event) for name in ways for event in ("started", "rolled back")}
    said = " ".join(told.notices.lines(needed=False))
    assert "NOT told 500 (rolled back): Failed to send JSON POST notification" in said
    assert "NOT told unknown (rolled back): it is no address that Apprise understands" in said
    assert not [part for part in ("pw12", "T0pS3cretKey") if part in said + repr(yard.told(Kind.NOTICE))]
    assert capfd.readouterr() == ("", "")
    untold = Yard(yard.folder / "untold")
    untold.verified(OLD)
    bad(untold)
    assert (await untold.deploy()).exit is Exit.RESTORED
    assert _kinds(yard.entries()) == _kinds(untold.entries())
    with Journal.read(yard.folder / "journal.sqlite") as journal:
        assert journal.verify() == ()


def _kinds(entries: Sequence[Entry]) -> list[str]:
    return sorted(entry.kind for entry in entries if entry.kind is not Kind.NOTICE)


async def test_what_sends_ends_with_the_command(yard: Yard) -> None:
    """A receiver that never answers holds nothing up for ever: what speaks to it is ended, and that is on record."""
    async with receiving() as (hooks, _):
        post = Post(os.environ, SystemRandom(), yard.clock.sleep)
        told = Told(
            yard, post, [Recipient("ops", Secret(f"json://127.0.0.1:{hooks.port}/hang"), frozenset({"started"}))]
        )

        async def act(session: Any, owner: Owner) -> Outcome:
            outcome = await runner.deploy(session, yard.plan(), owner)
            waiting = asyncio.create_task(told.notices.settle())
            while not hooks.got:
                await asyncio.sleep(0.01)
            waiting.cancel()
            await waiting
            return outcome

        assert (await told.run(act, release=NEW)).exit is Exit.DONE
    assert recorded(yard) == [("ops", "started", None), ("ops", "started", False)]
    assert told.notices.lines(needed=False) == ["NOT told ops (started): given up: the command ended first"]


def test_what_sends_ends_with_a_run_that_is_killed() -> None:
    """When whoever asked is gone, nothing more is sent in its name and no process is left."""
    hanging = socket.create_server(("127.0.0.1", 0))
    notice = {
        "id": 1,
        "address": f"json://127.0.0.1:{hanging.getsockname()[1]}",
        "title": "t",
        "body": "b",
        "kind": "info",
    }
    sender = subprocess.Popen(
        [sys.executable, "-I", str(SENDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with hanging, sender:
        assert sender.stdin is not None
        sender.stdin.write(json.dumps(notice) + "\n")
        sender.stdin.flush()
        taken, _ = hanging.accept()
        with taken:
            sender.stdin.close()
            assert sender.wait(60) == 0


# ---- which events, and to whom -------------------------------------------------------------------------------


async def test_each_is_told_what_its_list_names(yard: Yard) -> None:
    """Whoever asked for the end alone is not told of the start, and nobody is told twice of one thing."""
    desk = Desk()
    await Told(yard, desk, [Recipient("a", ADDRESS, ALL), Recipient("b", ADDRESS, frozenset({"deployed"}))]).deploy()
    assert sorted(desk.titles) == ["deploy started", "deployed", "deployed"]
    told = {("a", "started", True), ("a", "deployed", True), ("b", "deployed", True)}
    assert {one for one in recorded(yard) if one[2]} == told


async def test_a_refused_deploy_says_that_nothing_was_changed(yard: Yard) -> None:
    """A gate that refuses is told with its fix and the next command."""
    yard.says["gate.two"] = failed("the key is old", "make a new key")
    desk = Desk()
    assert (await Told(yard, desk, [Recipient("ops", ADDRESS, DEFAULT)]).deploy()).exit is Exit.REFUSED
    ((title, body, kind),) = desk.taken
    assert (title, kind) == ("shop staging: deploy refused, nothing was changed", "warning")
    assert "the key is old" in body and "1. make a new key" in body and "./inv deploy --env staging" in body


async def test_a_person_that_is_needed_is_told_what_to_do(yard: Yard) -> None:
    """Exit 4 pages somebody with the first error and the manual steps; what opens it again is told as that."""
    not_restored(yard)
    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", ADDRESS, DEFAULT)])
    assert (await told.deploy()).exit is Exit.PERSON_NEEDED
    title, body, kind = desk.taken[-1]
    assert (title, kind) == ("shop staging: A PERSON IS NEEDED", "failure")
    assert "it is slow" in body and "It is closed." in body and "Mend: checkpoint release: the disk is full" in body
    assert NOBODY not in " ".join(told.notices.lines(needed=True))
    yard.ground.broken.clear()
    yard.says.clear()
    assert (await told.rollback()).exit is Exit.DONE
    assert desk.titles == ["A PERSON IS NEEDED", "open again"]
    assert f"Release {OLD} serves" in desk.taken[-1][1]


async def test_an_address_that_only_a_secret_manager_has_is_asked_for_beside_the_way_back(yard: Yard) -> None:
    """A rollback waits for no secret manager; whoever is to be told is looked up when there is something to tell."""
    yard.verified(NEW)
    asked: list[int] = []

    async def late() -> Secret | None:
        asked.append(len(yard.told(Kind.RUN_FINISHED)))
        return ADDRESS if len(asked) == 1 else None

    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", None, DEFAULT, "NOTICE_OPS has no value", late)])
    assert (await told.rollback()).exit is Exit.DONE
    assert (asked, desk.titles) == ([1], ["rolled back"])
    assert (await told.deploy(NEXT)).exit is Exit.DONE
    told.recipients = [Recipient("ops", None, frozenset({"deployed"}), "NOTICE_OPS has no value", late)]
    assert (await told.deploy("5-last")).exit is Exit.DONE
    assert told.notices.lines(needed=False) == ["NOT told ops (deployed): NOTICE_OPS has no value"]


async def test_a_rollback_that_was_asked_for_is_told_once(yard: Yard) -> None:
    """A rollback with nothing gone wrong before it is told as done, with its reason; nothing had needed reopening."""
    yard.verified(NEW)
    desk = Desk()
    assert (await Told(yard, desk).rollback()).exit is Exit.DONE
    assert desk.titles == ["rollback started", "rolled back"]
    assert "Why: it was slow." in desk.taken[-1][1]


@pytest.mark.parametrize(
    ("verb", "outcome", "title"),
    [
        ("deploy", "taken over", "deploy stopped, a rollback took over"),
        ("deploy", "interrupted", "deploy refused, nothing was changed"),
        ("deploy", "swallowed", "A PERSON IS NEEDED"),
        ("rollback", "bug", "A PERSON IS NEEDED"),
        ("reconcile", "person needed", "A PERSON IS NEEDED"),
        ("open", "person needed", "A PERSON IS NEEDED"),
        ("close", "refused", "A PERSON IS NEEDED"),
        ("close", "interrupted", ""),
        ("validate", "refused", ""),
        ("verify", "swallowed", ""),
    ],
)
async def test_how_a_run_ended_decides_what_is_told(yard: Yard, verb: str, outcome: str, title: str) -> None:
    """An ending that this version has no word for calls a person; verbs that only look are nobody's business."""
    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", ADDRESS, DEFAULT)])

    async def act(session: Any, _owner: Owner) -> Outcome:
        session.recorder.record(Kind.RUN_STARTED, verb=verb, environment="staging", service="shop")
        session.recorder.record(Kind.RUN_FINISHED, outcome=outcome, exit_code=9, summary="by a whale", took_s=1.0)
        await told.notices.settle()
        return Outcome("run-1", Exit.BUG, "")

    await told.run(act)
    assert desk.titles == ([title] if title else [])
    assert verb not in ("deploy", "rollback") or "by a whale" in desk.taken[0][1]


# ---- doors that people close and open -------------------------------------------------------------------------


async def _doors(told: Told, verb: str, *doors: SwitchName) -> Outcome:
    """`./inv close` or `./inv open` of these doors."""
    yard = told.yard

    async def act(session: Any, owner: Owner) -> Outcome:
        plan = closing.planned(yard.spec, "staging", verb, doors)
        if verb == closing.CLOSE:
            hand, why = Hand(yard), f"the bank called, {yard.secret.reveal()}"
            outcome = await closing.close(session, hand, plan, doors, reason=why, done=Done())
        else:
            shut = {door: value for door, value in (await opening.closed(session)).items() if door in doors}
            outcome = await opening.reopen(session, plan, owner, shut, reason="it is over", done=Done())
        await told.notices.settle()
        return outcome

    return await told.run(act)


@pytest.mark.parametrize(
    ("doors", "closed", "opened"),
    [
        ([SwitchName.MAINTENANCE], "CLOSED by thandi", "opened by thandi"),
        ([SwitchName.PAYMENTS_OFF, SwitchName.TEST_MODE], "CLOSED by thandi", "opened by thandi"),
        ([SwitchName.TEST_MODE], "test mode ON, no money moves", "test mode off, payments are real again"),
    ],
)
async def test_what_people_close_and_open_is_told(
    yard: Yard, doors: list[SwitchName], closed: str, opened: str
) -> None:
    """Closing and opening are told once, with who, why and what visitors meet; test mode alone is no opening."""
    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", ADDRESS, DEFAULT)])
    assert (await _doors(told, "close", *doors)).exit is Exit.DONE
    assert (await _doors(told, "close", *doors)).exit is Exit.DONE
    assert desk.titles == [closed], "closed already, and told again"
    body = desk.taken[0][1]
    assert all(closing.MEANS[door] in body for door in doors) and "Why: the bank called" in body
    assert "./inv open" in body and "--env staging" in body and yard.secret.reveal() not in body
    assert (await _doors(told, "open", *doors)).exit is Exit.DONE
    assert desk.titles == [closed, opened]
    assert "Why: it is over." in desk.taken[1][1]


async def test_what_stays_closed_is_told_with_what_was_opened(yard: Yard) -> None:
    """Opening one of two doors says which one is still shut, so that nobody takes the shop for open."""
    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", ADDRESS, frozenset({"reopened"}))])
    await _doors(told, "close", SwitchName.MAINTENANCE, SwitchName.PAYMENTS_OFF)
    await _doors(told, "open", SwitchName.PAYMENTS_OFF)
    assert desk.titles == ["opened by thandi"]
    assert "payments-off off" in desk.taken[0][1] and "still on: maintenance" in desk.taken[0][1]


async def test_a_way_back_behind_a_closed_door_does_not_say_open(yard: Yard) -> None:
    """With a person's maintenance page on, a rollback is told as done and closed, and nobody reads that it pays."""
    yard.verified(NEW)
    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", ADDRESS, frozenset({"rolled back", "reopened"}))])
    await _doors(told, "close", SwitchName.MAINTENANCE)
    assert (await told.rollback()).exit is Exit.DONE
    assert desk.titles == ["rolled back"]
    built = report.build([one for one in yard.entries() if one.run == yard.entries()[-1].run])
    assert built.live.sentence == (
        f"Release {OLD} serves; it is verified. A person closed it, and it stays so until `./inv open`: maintenance."
    )
    assert built.live.sentence in desk.taken[0][1]
    assert built.way_back is not None and "; done after" in str(built.way_back.quick)
    shown = StringIO()
    with console.listener("plain", shown, redactor=Redactor([])) as listener:
        for entry in (one for one in yard.entries() if one.run == yard.entries()[-1].run):
            listener(entry)
    last = next(line for line in shown.getvalue().splitlines() if "Traffic back on" in line)
    assert "closed" in last and "open after" not in last
    assert "maintenance on since" in shown.getvalue() and "a person opens it" in shown.getvalue()
    told.recipients = [Recipient("ops", ADDRESS, frozenset({"deployed"}))]
    assert (await told.deploy(NEXT)).exit is Exit.DONE
    assert f"Release {NEXT} serves; it is verified. A person closed it" in desk.taken[-1][1]


# ---- runs that were killed, and a record that cannot be written ------------------------------------------------


async def test_a_killed_run_is_told_by_what_puts_it_right(yard: Yard) -> None:
    """A killed deploy tells nobody; resumed, it does not say again that it started, and says how it ended."""
    desk = Desk()
    told = Told(yard, desk)
    dead: list[bool] = []

    def around(when: str, _n: int) -> None:
        marks = yard.told(Kind.RELEASE_MARKED)
        if dead or (when == "after" and marks and marks[-1]["state"] == "live"):
            dead.append(True)
            raise Killed

    yard.around = around
    with pytest.raises(Killed):
        await told.deploy()
    yard.around = None
    assert desk.titles == ["deploy started"]
    with pytest.raises(PersonNeeded):
        await told.deploy(NEXT)
    assert desk.titles == ["deploy started", "A PERSON IS NEEDED"]
    assert "was left unfinished" in desk.taken[-1][1]
    assert (await told.resume()).exit is Exit.DONE
    assert desk.titles == ["deploy started", "A PERSON IS NEEDED", "deployed"]


class Dying:
    """What carries notices, in a command that is killed while it does."""

    async def send(self, *_notice: object, **_kind: str) -> str:
        raise Killed

    async def close(self) -> None:
        pass


class Later(StubbornClock):
    """Long after."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=LATE_S + 1)


async def test_a_run_that_was_killed_while_it_told_is_told_once(yard: Yard) -> None:
    """What a killed command could not tell any more is told late by a later run, once, and not while it may live."""
    bad(yard)
    told, desk = Told(yard, Dying(), [Recipient("ops", ADDRESS, DEFAULT)]), Desk()
    assert (await told.deploy()).exit is Exit.RESTORED
    assert recorded(yard) == [("ops", "rolled back", None)]
    yard.says.clear()
    told.carrier = desk
    assert (await told.deploy(NEXT)).exit is Exit.DONE
    assert desk.titles == [], "the command that was to tell it may be at it still"
    yard.clock = Later()
    for release in ("5-last", "6-more"):
        assert (await told.deploy(release)).exit is Exit.DONE
    assert desk.titles == ["deploy failed, taken back"]
    assert "it is slow" in desk.taken[0][1] and "Told late" in desk.taken[0][1]
    assert yard.told(Kind.NOTICE)[-1]["of_run"] == "run-1"
    page = report.as_markdown(report.build([one for one in yard.entries() if one.run == "run-3"]))
    assert "ops (rolled back, of run run-1)" in page


async def test_a_record_that_cannot_be_written_is_told_all_the_same(yard: Yard) -> None:
    """Where the journal fails under a run that changed something, a person is called though nothing can be kept."""
    desk = Desk()
    told = Told(yard, desk, [Recipient("ops", ADDRESS, DEFAULT)])

    def around(when: str, _n: int) -> None:
        if when == "before" and yard.told(Kind.CHECKPOINT_ARMED):
            raise TollgateError(f"{yard.secret.reveal()}: the journal cannot be written: disk full", "make room")

    yard.around = around
    with pytest.raises(PersonNeeded):
        await told.deploy()
    yard.around = None
    assert desk.titles == ["A PERSON IS NEEDED"]
    assert yard.secret.reveal() not in desk.taken[0][1]
    assert "disk full" in desk.taken[0][1] and "./inv status --env staging" in desk.taken[0][1]
    assert told.notices.lines(needed=True) == ["Told ops: person needed."]


@pytest.mark.parametrize(
    ("recipients", "why"),
    [
        ([], "staging has no notices in pipeline.yaml"),
        ([Recipient("ops", ADDRESS, frozenset({"started"}))], "nobody's list in staging has `person needed`"),
        ([Recipient("ops", ADDRESS, DEFAULT)], "every notice failed"),
        ([Recipient("ops", None, DEFAULT, "NOTICE_OPS has no value")], "every notice failed"),
    ],
)
async def test_nobody_told_is_said_in_plain_words(yard: Yard, recipients: list[Recipient], why: str) -> None:
    """When a person is needed and no notice arrived, whoever reads console, report or incident.md is told so."""
    not_restored(yard)
    told = Told(yard, Desk("the line is dead"), recipients)
    assert (await told.deploy()).exit is Exit.PERSON_NEEDED
    assert f"{NOBODY} that a person is needed: {why}." in told.notices.lines(needed=True)[-1]
    built = incident.build(yard.entries(), "run-1")
    assert built is not None
    for page in (incident.as_markdown(built), report.as_markdown(built.run), report.as_html(built.run)):
        assert NOBODY in page
