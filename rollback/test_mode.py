"""Checkpoint `test-mode`: whether new payments are made in the gateway's test mode, which moves no money."""

from __future__ import annotations

from pipeline.contracts import SwitchName
from rollback.switch import SwitchCheckpoint

CHECKPOINT = SwitchCheckpoint("test-mode", SwitchName.TEST_MODE, "new payments move money", on="stays on")
