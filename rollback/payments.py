"""Checkpoint `payments`: whether new payments are taken."""

from __future__ import annotations

from pipeline.contracts import SwitchName
from rollback.switch import SwitchCheckpoint

CHECKPOINT = SwitchCheckpoint("payments", SwitchName.PAYMENTS_OFF, "new payments are taken again")
