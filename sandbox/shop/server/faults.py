"""What can be wrong with a release on purpose. A drill builds one in; a normal build has none.

Every fault is one branch `if faults.on("name")` at the place it breaks. The build reads this table too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FAULTS: Mapping[str, str] = {
    "secret-in-bundle": "The script every visitor downloads contains the gateway's API secret.",
    "accepts-unsigned-webhook": "A webhook is accepted whatever its signature says.",
    "webhook-not-idempotent": "Each delivery of a paid webhook activates the enrolment once more.",
    "webhook-500": "Every webhook is answered with 500 and has no effect.",
    "activates-without-payment": "A webhook that says SUCCESS activates the enrolment, and the gateway is not asked.",
    "ignores-amount": "Any amount is accepted for a course, and what was paid is never compared.",
    "slow-initialisation": "Each payment takes six seconds longer to initialise.",
    "error-rate-30": "Three in ten ordinary payments fail with 500; smoke payments do not.",
    "no-rate-limit": "Nothing is limited, however many requests come from one source.",
    "rate-limit-shuts-out-gateway": "Webhooks are limited whatever their signature says, the gateway's among them.",
    "never-ready": "The release starts and never says that it is ready.",
    "crash-on-start": "The release ends with an error while it starts.",
}


@dataclass(frozen=True)
class Faults:
    """The faults built into this release."""

    names: frozenset[str] = frozenset()

    def on(self, name: str) -> bool:
        if name not in FAULTS:
            raise KeyError(f"{name} is not in the table of faults")
        return name in self.names


def unknown(names: Iterable[str]) -> list[str]:
    """The names that are not in the table."""
    return sorted(set(names) - set(FAULTS))


def read(path: Path) -> Faults:
    """The faults a release carries. Raises ValueError for a file the build did not write."""
    names = json.loads(path.read_text("utf-8"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or unknown(names):
        raise ValueError(f"{path.name}: a list of known faults is expected")
    return Faults(frozenset(names))
