"""Faults that strike whoever deploys: killed, paused, interrupted, and two at once."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

from pipeline.events import Kind
from pipeline.lease import State, held
from sandbox.drills import customer
from sandbox.drills.fault import (
    Command,
    Fault,
    Leaves,
    Words,
    deploy,
    deploying,
    roll_back,
    to_the_live_one,
    typing,
)
from sandbox.drills.scene import Amiss, Process, Scene, Strike, eventually
from sandbox.gateway.remote import Control

RUN_OUT_S = 60.0
"""A lease that nobody renews is taken to have run out by then."""

_SLOW_S = 1.0
_NOT_TARGETS_STATE = ("lease.sqlite", "run/", "shared/data/", "fence")
"""What changes at a target while a run changes nothing: leases, logs, and customers' orders."""


def _signal(number: int) -> Strike:
    async def send(_: Scene, process: Process) -> None:
        process.send_signal(number)

    return send


_kill = _signal(signal.SIGKILL)


def _rival(words: Words, exit_code: int) -> Strike:
    """Another command at the same moment, which must end with `exit_code`."""

    async def come(scene: Scene, _: Process) -> None:
        await _typed(scene, words, exit_code)

    return come


async def _typed(scene: Scene, words: Words, exit_code: int) -> None:
    ended = await scene.struck(words(scene.live()))
    if ended.code != exit_code:
        raise Amiss(f"the other command ended with {ended.code}, expected {exit_code}:\n{ended.tail()}")


# ---- paused -------------------------------------------------------------------------------------------------


async def _pause_past_its_lease(scene: Scene, process: Process) -> None:
    """It sleeps, its lease runs out, another takes over and ends; then it wakes up and may change nothing."""
    await _stop_between_writes(scene, process)
    try:
        await eventually("the lease of a paused run ran out", _ran_out(scene), within_s=RUN_OUT_S)
        await _typed(scene, typing("rollback", "--yes"), 0)
        before = _target(scene)
    finally:
        process.send_signal(signal.SIGCONT)
    await process.wait()
    after = _target(scene)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise Amiss(f"a run that had lost its lease changed {', '.join(changed[:5])}")


async def _stop_between_writes(scene: Scene, process: Process) -> None:
    """Stopped in the middle of one, it would hold a lock that the next owner waits for; that is another fault."""

    async def stopped() -> bool:
        process.send_signal(signal.SIGSTOP)
        while not _is_stopped(process):
            await asyncio.sleep(0)
        if _nobody_writes(scene):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    await eventually("a run could be stopped between two writes", stopped, within_s=customer.SOON_S)


def _is_stopped(process: Process) -> bool:
    """Raises ProcessLookupError when it has ended."""
    try:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        raise ProcessLookupError from None
    if state in "ZX":
        raise ProcessLookupError
    return state == "T"


def _nobody_writes(scene: Scene) -> bool:
    try:
        for path in (scene.journal, scene.area / "lease.sqlite"):
            with closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
        with (scene.area / "fence").open("rb") as fence:
            fcntl.flock(fence, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (sqlite3.OperationalError, BlockingIOError):
        return False
    return True


def _ran_out(scene: Scene) -> Callable[[], Awaitable[bool]]:
    async def ran_out() -> bool:
        lease = held(scene.area / "lease.sqlite")
        return lease is None or lease.state is not State.HELD

    return ran_out


def _target(scene: Scene) -> Mapping[str, bytes | str]:
    """Every file of the target that only a run may change."""
    found = {str(path.relative_to(scene.area)): path for path in scene.area.rglob("*")}
    return {
        name: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for name, path in found.items()
        if (path.is_symlink() or path.is_file()) and not name.startswith(_NOT_TARGETS_STATE)
    }


# ---- during reconcile ---------------------------------------------------------------------------------------


async def lose_a_webhook(scene: Scene) -> None:
    """A customer pays, and the gateway's webhook never comes."""
    one = await customer.order(scene)
    await customer.control(scene).set_faults(withhold_webhooks=True)
    await customer.pay(scene, one)


async def _lose_one_slowly(scene: Scene) -> None:
    await lose_a_webhook(scene)
    await customer.control(scene).set_faults(slow_s=_SLOW_S)


async def _kill_and_go_on(scene: Scene, process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    await customer.control(scene).set_faults(slow_s=0.0)


async def activated_once(scene: Scene) -> None:
    customer.active_once(scene, customer.kept(scene))


async def webhook_comes_late(scene: Scene) -> None:
    """The gateway delivers it after all: once more than was needed, and harmless."""
    found: Control = customer.control(scene)
    await found.clear_faults()
    await customer.delivered(scene, customer.kept(scene))


async def _payments_stay_closed(scene: Scene) -> None:
    if not (scene.area / "shared" / "payments-off").exists():
        raise Amiss("I2: a way back was killed half-way and new payments are taken")


async def _no_lease_is_left(scene: Scene) -> None:
    if (lease := held(scene.area / "lease.sqlite")) is not None:
        raise Amiss(f"the lease is still held: {lease.state.value} by {lease.owner}")


FAULTS = (
    Fault(
        "runner-killed",
        "The runner gets SIGKILL between the switch and the proofs.",
        (deploy(-signal.SIGKILL, strike=_kill),),
        Leaves.UNFINISHED,
    ),
    Fault(
        "killed-between-settings-and-release",
        "A rollback gets SIGKILL when the settings are back and the release is not.",
        (roll_back(-signal.SIGKILL, at=(Kind.CHECKPOINT_CONFIRMED, "settings"), strike=_kill),),
        Leaves.UNFINISHED,
        holds=_payments_stay_closed,
    ),
    Fault(
        "killed-before-reopening",
        "A rollback gets SIGKILL when the release is back and its doors are still closed.",
        (roll_back(-signal.SIGKILL, at=(Kind.CHECKPOINT_CONFIRMED, "release"), strike=_kill),),
        Leaves.UNFINISHED,
        holds=_payments_stay_closed,
    ),
    Fault(
        "reconcile-killed",
        "A reconcile gets SIGKILL while it delivers a lost webhook, and is typed again.",
        (
            Command(
                typing("reconcile", "--apply"),
                -signal.SIGKILL,
                at=(Kind.STEP_STARTED, "webhook of"),
                strike=_kill_and_go_on,
            ),
            Command(typing("reconcile", "--apply"), 0),
        ),
        Leaves.AS_BEFORE,
        catcher="the service, which activates once",
        prepare=_lose_one_slowly,
        holds=activated_once,
        heal=webhook_comes_late,
    ),
    Fault(
        "sigterm-in-the-middle",
        "The runner gets SIGTERM when the new release has just taken the traffic.",
        (deploy(3, strike=_signal(signal.SIGTERM)),),
        Leaves.AS_BEFORE,
        catcher="the runner",
        holds=_no_lease_is_left,
    ),
    Fault(
        "ctrl-c-in-the-gates",
        "Ctrl-C ends a deploy in its gates; no lock may be left behind.",
        (
            deploy(130, at=(Kind.STAGE_STARTED, ""), strike=_signal(signal.SIGINT)),
            Command(typing("reconcile", "--apply"), 0),
        ),
        Leaves.AS_BEFORE,
        catcher="the runner",
        holds=_no_lease_is_left,
    ),
    Fault(
        "rival-deploy",
        "A deploy is started while another one is at work.",
        (deploy(0, strike=_rival(deploying, 5)),),
        Leaves.ANOTHER,
        catcher="the lease",
    ),
    Fault(
        "rival-rollback",
        "A second rollback is typed while a rollback is at work.",
        (roll_back(0, strike=_rival(to_the_live_one, 5)),),
        Leaves.AS_BEFORE,
        catcher="the lease",
    ),
    Fault(
        "paused-owner",
        "A rollback sleeps past its lease, another takes over and ends, and then the first wakes up.",
        (roll_back(4, at=(Kind.CHECKPOINT_CONFIRMED, "release"), strike=_pause_past_its_lease),),
        Leaves.AS_BEFORE,
        catcher="the fence",
    ),
    Fault(
        "rollback-of-a-running-deploy",
        "A deploy is at work when somebody types `rollback`.",
        (deploy(5, strike=_rival(typing("rollback", "--yes"), 0)),),
        Leaves.AS_BEFORE,
        catcher="the lease, which the rollback takes over",
    ),
)
