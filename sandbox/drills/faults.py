"""The table of faults: what is broken, who must catch it, how the run must end."""

from __future__ import annotations

import asyncio
import secrets as tokens
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Exit, TollgateError
from pipeline.events import Kind
from sandbox import host
from sandbox.drills.scene import Moment, Scene
from sandbox.gateway.remote import Control

SWITCHED: Moment = (Kind.STEP_FINISHED, "release.switch")
"""The new release has just taken the traffic."""

Do = Callable[[Scene], Awaitable[None]]
Strike = Callable[[Scene, asyncio.subprocess.Process], Awaitable[None]]


async def _nothing(_: Scene) -> None:
    """Nothing is to be prepared or mended."""


@dataclass(frozen=True)
class Fault:
    """`caught_by`: the steps that may catch it, empty where the runner itself is struck. `exit`: of the deploy.

    `build` is a fault built into the release. `prepare` happens before the deploy; `strike` when the new release has
    just taken the traffic; `heal` after the deploy, before the environment is put right again.
    """

    name: str
    promise: str
    caught_by: frozenset[str]
    exit: int
    build: str = ""
    prepare: Do = _nothing
    strike: Strike | None = None
    heal: Do = _nothing


def _in_release(name: str, promise: str, *caught_by: str, exit_code: Exit = Exit.RESTORED) -> Fault:
    return Fault(name, promise, frozenset(caught_by), int(exit_code), build=name)


_EVERY_PROOF_THAT_ASKS_IT = frozenset(
    {
        "health.ready",
        "payment.initialises",
        "payment.is_paid",
        "payment.refuses_wrong_amount",
        "webhook.arrives",
        "webhook.refuses_unsigned",
        "webhook.refuses_wrong_signature",
        "webhook.refuses_tampered",
        "webhook.duplicate_is_harmless",
        "enrolment.active_once",
        "enrolment.needs_payment",
    }
)
"""The proofs run side by side: whichever asks the gateway first tells that it is gone."""


# ---- settings ----------------------------------------------------------------------------------------------


def _with_setting(name: str, value: str) -> Do:
    async def change(scene: Scene) -> None:
        kept = _aside(scene)
        if not kept.exists():
            _write_private(kept, scene.settings.read_text(encoding="utf-8"))
        lines = scene.settings.read_text(encoding="utf-8").splitlines()
        changed = [f"{name}={value}" if line.startswith(f"{name}=") else line for line in lines]
        if changed == lines:
            raise TollgateError(f"the drill found no {name} in {scene.settings}")
        _write_private(scene.settings, "\n".join(changed) + "\n")

    return change


async def _settings_as_before(scene: Scene) -> None:
    _aside(scene).replace(scene.settings)


def _aside(scene: Scene) -> Path:
    """Among what holds secrets on purpose: elsewhere a gate finds it, and hides which one finds the fault."""
    return scene.state / "gateway" / "settings.aside"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


# ---- the gateway and the runner ----------------------------------------------------------------------------


async def _gateway_down(scene: Scene, _: asyncio.subprocess.Process) -> None:
    await _control(scene).set_faults(outage=True)


async def _gateway_back(scene: Scene) -> None:
    await _control(scene).clear_faults()


def _control(scene: Scene) -> Control:
    running = host.status(scene.state)
    if running is None:
        raise TollgateError("the drill's sandbox gateway does not run")
    return Control(running.control, running.token.reveal())


async def _kill(_: Scene, process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)


# ---- the target --------------------------------------------------------------------------------------------


async def _lose_old_settings(scene: Scene, _: asyncio.subprocess.Process) -> None:
    """The settings of the last verified release are gone, both the file in force and the kept copy."""
    old = _last_verified(scene)
    for path in _settings_files(scene, old):
        path.rename(path.with_name(path.name + ".lost"))


async def _find_old_settings(scene: Scene) -> None:
    old = _last_verified(scene)
    for path in _settings_files(scene, old):
        lost = path.with_name(path.name + ".lost")
        if lost.exists():
            lost.replace(path)


def _settings_files(scene: Scene, release: str) -> tuple[Path, Path]:
    return scene.area / "releases" / release / "settings.json", scene.area / "settings" / f"{release}.json"


def _last_verified(scene: Scene) -> str:
    verified = [
        str(entry.data["release"])
        for entry in scene.entries()
        if entry.kind is Kind.RELEASE_MARKED and entry.data["state"] == "verified"
    ]
    return verified[-1]


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        _in_release(
            "secret-in-bundle",
            "The script every visitor downloads contains the gateway's API secret.",
            "leaks.none_in_bundle",
            exit_code=Exit.REFUSED,
        ),
        Fault(
            "wrong-api-secret",
            "The release is deployed with an API secret the gateway does not know.",
            frozenset({"credentials.accepted_by_gateway", "credentials.not_placeholders"}),
            int(Exit.REFUSED),
            prepare=_with_setting("VITE_IKHOKHA_API_SECRET", tokens.token_hex(16)),
            heal=_settings_as_before,
        ),
        Fault(
            "test-mode-on",
            "Test mode is on in an environment that takes real payments.",
            frozenset({"settings.test_mode_off", "settings.valid"}),
            int(Exit.REFUSED),
            prepare=_with_setting("VITE_IKHOKHA_TEST_MODE", "true"),
            heal=_settings_as_before,
        ),
        _in_release(
            "accepts-unsigned-webhook",
            "A webhook is accepted whatever its signature says.",
            "webhook.refuses_unsigned",
            "webhook.refuses_wrong_signature",
            "webhook.refuses_tampered",
        ),
        _in_release(
            "webhook-not-idempotent",
            "Each delivery of a paid webhook activates the enrolment once more.",
            "webhook.duplicate_is_harmless",
            "enrolment.active_once",
        ),
        _in_release(
            "webhook-500",
            "Every webhook is answered with 500 and has no effect.",
            "webhook.arrives",
            "webhook.duplicate_is_harmless",
            "webhook.refuses_unsigned",
            "webhook.refuses_wrong_signature",
            "webhook.refuses_tampered",
            "enrolment.active_once",
            "enrolment.needs_payment",
            "urls.callbacks_answer",
        ),
        _in_release(
            "activates-without-payment",
            "A webhook that says SUCCESS activates the enrolment, and the gateway is not asked.",
            "enrolment.needs_payment",
            "webhook.refuses_unsigned",
            "webhook.refuses_wrong_signature",
            "webhook.refuses_tampered",
        ),
        _in_release(
            "ignores-amount",
            "Any amount is accepted for a course, and what was paid is never compared.",
            "payment.refuses_wrong_amount",
        ),
        _in_release(
            "slow-initialisation",
            "Each payment takes six seconds longer to initialise.",
            "payment.initialises",
        ),
        _in_release(
            "error-rate-30",
            "Three in ten ordinary payments fail with 500; smoke payments do not.",
            "watch.payment_success",
        ),
        _in_release("never-ready", "The release starts and never says that it is ready.", "release.switch"),
        _in_release("crash-on-start", "The release ends with an error while it starts.", "release.switch"),
        Fault(
            "runner-killed",
            "The runner gets SIGKILL between the switch and the proofs.",
            frozenset(),
            -signal.SIGKILL,
            strike=_kill,
        ),
        Fault(
            "restore-of-settings-fails",
            "A bad release must be taken back, and the settings of the good one are lost.",
            frozenset({"webhook.refuses_unsigned", "webhook.refuses_wrong_signature", "webhook.refuses_tampered"}),
            int(Exit.PERSON_NEEDED),
            build="accepts-unsigned-webhook",
            strike=_lose_old_settings,
            heal=_find_old_settings,
        ),
        Fault(
            "gateway-down-during-proof",
            "The gateway goes away when the new release has just taken the traffic.",
            _EVERY_PROOF_THAT_ASKS_IT,
            int(Exit.PERSON_NEEDED),
            strike=_gateway_down,
            heal=_gateway_back,
        ),
    )
}
