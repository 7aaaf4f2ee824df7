"""Checkpoint `maintenance`: whether visitors see the maintenance page."""

from __future__ import annotations

from pipeline.contracts import SwitchName
from rollback.switch import SwitchCheckpoint

CHECKPOINT = SwitchCheckpoint("maintenance", SwitchName.MAINTENANCE, "no maintenance page")
