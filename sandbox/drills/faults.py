"""The table of faults: what is broken, who must catch it, how it must end. What is not here is not drilled."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.drills import at_gateway, at_runner, at_target, in_record, in_settings, releases
from sandbox.drills.fault import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for subject in (in_settings, releases, at_gateway, at_target, at_runner, in_record)
    for fault in subject.FAULTS
}
