"""What is on record about credentials: their fingerprints, and when each was first seen.

A fingerprint is 8 hex digits of a SHA-256, 32 bits. Of a random value with 64 bits or more it leaves 32 bits unknown,
which nobody can try out at a gateway. Of a value that can be guessed it would confirm the guess: such a value's
fingerprint does not go on record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from checks.facts.credentials import Strength, problems
from pipeline.contracts import PastFinding
from pipeline.secrets import Secret

CHECK = "credentials.rotated"
"""The check in whose evidence the fingerprints are."""

_FINGERPRINT = re.compile(r"[0-9a-f]{8}")
_RECORDABLE = Strength(min_length=16)


def may_be_recorded(secret: Secret) -> bool:
    """Whether the value is too long and too random to be found from its fingerprint."""
    return not problems(secret.reveal(), frozenset(), _RECORDABLE)


def first_seen(findings: Sequence[PastFinding]) -> Mapping[str, datetime]:
    """When each fingerprint was first seen, under whatever name. Pure; what is not of the right shape is left out."""
    seen: dict[str, datetime] = {}
    for finding in findings:
        for _name, fingerprint, since in _recorded(finding):
            earliest = min(since or finding.at, finding.at)
            seen[fingerprint] = min(seen.get(fingerprint, earliest), earliest)
    return seen


def in_use(findings: Sequence[PastFinding]) -> tuple[datetime, Mapping[str, str]] | None:
    """The last record that has fingerprints: when it was made, and the name by fingerprint. None: there is none."""
    for finding in findings:
        names = {fingerprint: name for name, fingerprint, _ in _recorded(finding)}
        if names:
            return finding.at, names
    return None


def _recorded(finding: PastFinding) -> Iterator[tuple[str, str, datetime | None]]:
    credentials = finding.evidence.get("credentials")
    for name, entry in credentials.items() if isinstance(credentials, Mapping) else ():
        fingerprint = entry.get("fingerprint") if isinstance(entry, Mapping) else None
        if isinstance(fingerprint, str) and _FINGERPRINT.fullmatch(fingerprint):
            yield str(name), fingerprint, _instant(entry.get("first_seen"))


def _instant(text: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if instant is None:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
