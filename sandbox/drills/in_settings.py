"""Faults in the settings a release is to run with."""

from __future__ import annotations

import secrets as tokens
from pathlib import Path

from pipeline.errors import Exit, TollgateError
from sandbox.drills.fault import Fault, Leaves, deploy
from sandbox.drills.scene import Do, Scene


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


async def _as_before(scene: Scene) -> None:
    _aside(scene).replace(scene.settings)


def _aside(scene: Scene) -> Path:
    """Among what holds secrets on purpose: elsewhere a gate finds it, and hides which one finds the fault."""
    return scene.state / "gateway" / "settings.aside"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


FAULTS = (
    Fault(
        "wrong-api-secret",
        "The release is deployed with an API secret the gateway does not know.",
        (deploy(Exit.REFUSED),),
        Leaves.AS_BEFORE,
        frozenset({"credentials.accepted_by_gateway", "credentials.not_placeholders"}),
        prepare=_with_setting("VITE_IKHOKHA_API_SECRET", tokens.token_hex(16)),
        heal=_as_before,
    ),
    Fault(
        "test-mode-on",
        "Test mode is on in an environment that takes real payments.",
        (deploy(Exit.REFUSED),),
        Leaves.AS_BEFORE,
        frozenset({"settings.test_mode_off", "settings.valid"}),
        prepare=_with_setting("VITE_IKHOKHA_TEST_MODE", "true"),
        heal=_as_before,
    ),
)
