"""Faults where releases run: settings, release folders, switches, processes and the disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

from pipeline.errors import Exit, TollgateError
from pipeline.events import Entry, Kind
from sandbox.drills import customer
from sandbox.drills.fault import Command, Fault, Leaves, deploy, deploying, roll_back, typing
from sandbox.drills.scene import Amiss, Moment, Process, Scene
from targets import status_local

HALF_BUILT = "29991231T235959999Z-half"
"""Newer than every release there is."""
_CAUGHT_UNSIGNED = frozenset(
    {"webhook.refuses_unsigned", "webhook.refuses_wrong_signature", "webhook.refuses_tampered"}
)
_DOORS_ARE_ARMED: Moment = (Kind.CHECKPOINT_ARMED, "payments")
_RELEASE_IS_BACK: Moment = (Kind.CHECKPOINT_CONFIRMED, "release")


# ---- settings ----------------------------------------------------------------------------------------------


async def _lose_old_settings(scene: Scene, _: Process) -> None:
    """The settings of the last verified release are gone, both the file in force and the kept copy."""
    for path in _settings_files(scene, _last_verified(scene)):
        path.rename(path.with_name(path.name + ".lost"))


async def _find_old_settings(scene: Scene) -> None:
    for path in _settings_files(scene, _last_verified(scene)):
        lost = path.with_name(path.name + ".lost")
        if lost.exists():
            lost.replace(path)


def _settings_files(scene: Scene, release: str) -> tuple[Path, Path]:
    """The file in force, and the copy kept when the release was staged."""
    return scene.area / "releases" / release / "settings.json", scene.area / "settings" / f"{release}.json"


def _last_verified(scene: Scene) -> str:
    verified = [
        str(entry.data["release"])
        for entry in scene.entries()
        if entry.kind is Kind.RELEASE_MARKED and entry.data["state"] == "verified"
    ]
    return verified[-1]


async def _edit_settings_by_hand(scene: Scene) -> None:
    in_force, _ = _settings_files(scene, scene.live())
    edited = json.loads(in_force.read_text(encoding="utf-8")) | {"VITE_IKHOKHA_TEST_MODE": "true"}
    in_force.write_text(json.dumps(edited), encoding="utf-8")


async def _settings_as_verified(scene: Scene) -> None:
    in_force, kept = _settings_files(scene, scene.live())
    if in_force.read_bytes() != kept.read_bytes() or in_force.stat().st_mode & 0o077:
        raise Amiss(f"I2: {in_force.name} of the live release is not, in private, what it was verified with")


# ---- release folders ---------------------------------------------------------------------------------------


async def _flip_a_byte(scene: Scene) -> None:
    """Done twice, it is undone."""
    path = scene.area / "releases" / scene.live() / "shop" / "app.py"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def _flip_it_back(scene: Scene) -> None:
    path = scene.area / "releases" / _last_verified(scene) / "shop" / "app.py"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def _half_build_a_newer_one(scene: Scene) -> None:
    """After one more release was deployed: a folder newer than it, as a staging that was killed leaves it."""
    ended = await scene.run(*deploying(scene.live()))
    if ended.code != Exit.DONE:
        raise TollgateError(f"the drill's second release could not be deployed (exit {ended.code}):\n{ended.tail()}")
    half = scene.area / "releases" / HALF_BUILT
    half.mkdir()
    shutil.copy(scene.area / "releases" / scene.live() / "manifest.json", half)


async def _remove_it(scene: Scene) -> None:
    shutil.rmtree(scene.area / "releases" / HALF_BUILT)


# ---- switches, processes, the disk ---------------------------------------------------------------------------


async def _put_a_folder_in_its_place(scene: Scene, _: Process) -> None:
    """The file that closes payments becomes something that can be neither read, written nor removed as a file."""
    switch = scene.area / "shared" / "payments-off"
    switch.unlink(missing_ok=True)
    (switch / "not-empty").mkdir(parents=True)


async def _take_it_away(scene: Scene) -> None:
    shutil.rmtree(scene.area / "shared" / "payments-off", ignore_errors=True)


async def _first_error_is_first(scene: Scene) -> None:
    """Although the way back failed as well, the run says first what went wrong first."""
    mine = _last_run(scene)
    first = next(entry for entry in mine if entry.kind is Kind.RUN_FAILED)
    closed = [str(entry.data["why"]) for entry in mine if entry.kind is Kind.CLOSED]
    summary = str(mine[-1].data["summary"])
    if first.data["step"] != "release.switch" or not summary.startswith(str(first.data["error"])):
        raise Amiss(f"the first error, {first.data['error']!r}, should come first: {summary!r}")
    if not any("payments" in why for why in closed):
        raise Amiss(f"the way back should have failed at the switch `payments-off`, found {closed}")


def _last_run(scene: Scene) -> list[Entry]:
    """The entries of the last run that changed something or tried to."""
    entries = scene.entries()
    run = next(entry.run for entry in reversed(entries) if entry.kind is Kind.RUN_FINISHED)
    return [entry for entry in entries if entry.run == run]


async def _kill_the_supervisor(scene: Scene) -> None:
    """Its releases hold the socket as well, so customers notice nothing."""
    address = await customer.service(scene)
    os.kill(int(_supervisor(scene)["pid"]), signal.SIGKILL)
    if (found := await customer.page(scene, address)) != 200:
        raise Amiss(f"the supervisor was killed and visitors get {found}, expected 200")


async def _kill_the_live_process(scene: Scene, _: Process) -> None:
    """Long before the switch: what the supervisor brings back is what a failed deploy would return to."""
    serving = (await status_local(scene.area))["serving"]
    if not serving:
        raise Amiss("nothing served, so nothing was killed")
    for process in serving:
        os.kill(int(process["pid"]), signal.SIGKILL)


def _supervisor(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scene.area / "run" / "supervisor.json").read_text(encoding="utf-8"))
    return found


async def _no_more_bytes(_: Scene, process: Process) -> None:
    """From now on each byte that the run, or a command it starts, would add to any file is refused by the kernel."""
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))


FAULTS = (
    Fault(
        "restore-of-settings-fails",
        "A bad release must be taken back, and the settings of the good one are lost.",
        (deploy(4, build="accepts-unsigned-webhook", strike=_lose_old_settings),),
        Leaves.CLOSED,
        _CAUGHT_UNSIGNED,
        heal=_find_old_settings,
    ),
    Fault(
        "settings-drifted",
        "Somebody edited the settings of the live release by hand.",
        (roll_back(0),),
        Leaves.AS_BEFORE,
        catcher="the checkpoint settings",
        prepare=_edit_settings_by_hand,
        holds=_settings_as_verified,
    ),
    Fault(
        "release-damaged",
        "A byte of the release that a rollback leads to is not the one that was staged.",
        (roll_back(4),),
        Leaves.CLOSED,
        catcher="the manifest of the release",
        prepare=_flip_a_byte,
        heal=_flip_it_back,
    ),
    Fault(
        "half-built-newest",
        "The newest folder of all is a release that was never finished.",
        (Command(typing("rollback", "--yes", "--to", HALF_BUILT), 1), Command(typing("rollback", "--yes"), 0)),
        Leaves.AS_BEFORE,
        catcher="the record of the release",
        prepare=_half_build_a_newer_one,
        heal=_remove_it,
    ),
    Fault(
        "switch-broken",
        "The switch that closes payments cannot be read, written or removed any more.",
        (roll_back(4, at=_RELEASE_IS_BACK, strike=_put_a_folder_in_its_place),),
        Leaves.CLOSED,
        catcher="the way back",
        heal=_take_it_away,
    ),
    Fault(
        "way-back-fails-too",
        "A release crashes while it starts, and then the way back fails as well.",
        (deploy(4, build="crash-on-start", at=_DOORS_ARE_ARMED, strike=_put_a_folder_in_its_place),),
        Leaves.CLOSED,
        frozenset({"release.switch"}),
        holds=_first_error_is_first,
        heal=_take_it_away,
    ),
    Fault(
        "supervisor-killed",
        "What holds the service's socket gets SIGKILL, and a rollback is typed.",
        (roll_back(0),),
        Leaves.AS_BEFORE,
        catcher="the next command, which starts it again",
        prepare=_kill_the_supervisor,
    ),
    Fault(
        "live-process-killed",
        "The live release's process gets SIGKILL while its successor is being built.",
        (deploy(0, at=(Kind.STEP_STARTED, "build"), strike=_kill_the_live_process),),
        Leaves.ANOTHER,
        catcher="the supervisor, which starts it again",
    ),
    Fault(
        "disk-full",
        "The disk takes no byte more in the middle of a rollback.",
        (roll_back(4, at=(Kind.CHECKPOINT_CONFIRMED, "settings"), strike=_no_more_bytes),),
        Leaves.CLOSED,
        catcher="the journal",
    ),
)
