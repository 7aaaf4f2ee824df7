"""Ctrl-C, SIGTERM and SIGHUP, as real signals to this process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline import rolling_back
from pipeline.contracts import World
from pipeline.errors import Exit
from pipeline.events import Entry, Event, Kind
from pipeline.interrupts import Interrupted, Interrupts
from pipeline.lease import Owner
from pipeline.verdict import Finding, passed
from tests.pipeline.rooms import NEW, OLD, Yard

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    return yard


def signalled(*numbers: signal.Signals, release: str | None = NEW) -> Any:
    """A check during which this process gets signals; it would never end by itself."""

    async def say(world: World) -> Finding:
        if world.run.release != release:
            return passed("not about this one")
        for number in numbers:
            os.kill(os.getpid(), number)
        await asyncio.Event().wait()
        raise AssertionError

    return say


@pytest.mark.parametrize("number", SIGNALS)
async def test_signal_before_a_change(yard: Yard, number: signal.Signals) -> None:
    """A signal during the gates ends the run with nothing changed: exit 130."""
    yard.says = {"gate.two": signalled(number)}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.done) == (Exit.INTERRUPTED, [])
    assert yard.told(Kind.RUN_FINISHED)[0]["outcome"] == "interrupted"
    assert any("interrupted" in line for line in yard.output)


@pytest.mark.parametrize("number", SIGNALS)
async def test_signal_after_a_change(yard: Yard, number: signal.Signals) -> None:
    """A signal after the switch is answered by the way back: exit 3, the old release serves."""
    yard.says = {"watch.one": signalled(number)}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.state(NEW)) == (Exit.RESTORED, OLD, "bad")
    assert yard.told(Kind.RUN_FAILED)[0]["error"] == "interrupted by a signal"


async def test_signals_on_the_way_back_change_nothing(yard: Yard) -> None:
    """While things are put back a signal, and another, only gets an answer: the way back goes on to its end."""

    async def signals_while_proving(world: World) -> Finding:
        if world.run.release == OLD:
            for number in SIGNALS * 2:
                os.kill(os.getpid(), number)
            await asyncio.sleep(0)
        return passed("seen")

    yard.says = {"watch.one": signalled(signal.SIGINT), "proof.one": signals_while_proving}
    outcome = await yard.deploy()
    assert (outcome.exit, yard.ground.live, yard.ground.switches) == (Exit.RESTORED, OLD, {})
    assert any("a signal does not stop this" in line for line in yard.output)


async def test_second_signal_does_not_cut_cleaning_up_short(yard: Yard) -> None:
    """A step that cleans up after a first Ctrl-C is not disturbed by a second."""

    async def cleans_up(world: World) -> Finding:
        if world.run.release != NEW:
            return passed("not about this one")
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(3):
                await asyncio.sleep(0)
            cleaned.append(True)
        raise AssertionError

    cleaned: list[bool] = []
    yard.says = {"watch.one": cleans_up}
    assert (await yard.deploy()).exit is Exit.RESTORED
    assert cleaned == [True]


async def test_signal_before_a_rollback_acts(yard: Yard) -> None:
    """A signal before a rollback's first change ends it with nothing changed and nothing on record."""
    yard.verified(NEW)
    asked = yard.ground.all

    async def signalled_while_choosing() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        while not any("interrupted" in line for line in yard.output):
            await asyncio.sleep(0)
        return await asked()

    yard.ground.all = signalled_while_choosing  # type: ignore[method-assign]
    with pytest.raises(Interrupted) as ended:
        await yard.rollback()
    assert (ended.value.exit_code, yard.ground.done, yard.entries()) == (Exit.INTERRUPTED, [], ())


async def test_rollback_goes_on_through_signals(yard: Yard) -> None:
    """Once a rollback has begun no signal stops it."""
    yard.verified(NEW)

    def interrupt(event: Event) -> None:
        if isinstance(event, Entry) and event.kind is Kind.WAYBACK_STARTED:
            os.kill(os.getpid(), signal.SIGTERM)

    with yard.opened(listeners=[interrupt]) as session:
        plan = yard.plan("rollback", ("prove",))
        outcome = await rolling_back.rollback(session, plan, Owner.this_process("run-1"), to=None, reason="")
    assert (outcome.exit, yard.ground.live) == (Exit.DONE, OLD)


async def test_handlers_are_given_back() -> None:
    """After a run signals end the process again."""
    usual = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    with Interrupts(lambda _line: None):
        assert [signal.getsignal(number) for number in SIGNALS] != usual
    assert [signal.getsignal(number) for number in SIGNALS] == usual


async def test_signal_that_came_before_the_work_ends_it_at_once() -> None:
    """Work that is begun after a signal came never starts."""
    begun: list[bool] = []
    came = asyncio.Event()

    async def work() -> None:
        begun.append(True)

    with Interrupts(lambda _line: came.set()) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        await came.wait()
        assert isinstance(await interrupts.until(work()), Interrupted)
    assert begun == []


async def test_error_of_the_work_is_handed_back() -> None:
    """What ended the work is returned, not raised: an error as it was, None when it was done."""

    async def fail() -> None:
        raise ValueError("as it was")

    async def good() -> None: ...

    with Interrupts(lambda _line: None) as interrupts:
        assert str(await interrupts.until(fail())) == "as it was"
        assert await interrupts.until(good()) is None
