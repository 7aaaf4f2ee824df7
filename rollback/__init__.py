"""Checkpoints: what a step may change and how to put it back. One that is not in `CHECKPOINTS` does not exist.

A way back restores in reverse of this order: settings are right before the release is started again, and the switches
(`reopens`) come last, after the proofs.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contracts import Checkpoint
from rollback import maintenance, payments, release, settings

CHECKPOINTS: Mapping[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (release.CHECKPOINT, settings.CHECKPOINT, maintenance.CHECKPOINT, payments.CHECKPOINT)
}
