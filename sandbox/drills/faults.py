"""The table of faults: what is broken, who must catch it, how it must end. What is not here is not drilled."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.drills import at_gateway, at_runner, at_target, in_record, in_release, in_settings
from sandbox.drills.fault import Fault

SUBJECTS: Mapping[str, tuple[Fault, ...]] = {
    "Settings that must not go live": in_settings.FAULTS,
    "Faults built into a release": in_release.FAULTS,
    "The gateway and its webhooks": at_gateway.FAULTS,
    "The target": at_target.FAULTS,
    "Whoever deploys": at_runner.FAULTS,
    "The record": in_record.FAULTS,
}

FAULTS: Mapping[str, Fault] = {fault.name: fault for faults in SUBJECTS.values() for fault in faults}
