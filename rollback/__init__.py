"""Checkpoints: what a step may change and how to put it back. One that is not in `CHECKPOINTS` does not exist.

A way back restores in reverse of this order: settings are right before the release is started again, the schema and
the operator's own commands follow the traffic, and the switches (`reopens`) come last, after the proofs.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contracts import Checkpoint
from rollback import command, database, maintenance, payments, release, settings, test_mode, traffic

CHECKPOINTS: Mapping[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        command.CHECKPOINT,
        database.CHECKPOINT,
        traffic.CHECKPOINT,
        release.CHECKPOINT,
        settings.CHECKPOINT,
        maintenance.CHECKPOINT,
        payments.CHECKPOINT,
        test_mode.CHECKPOINT,
    )
}
