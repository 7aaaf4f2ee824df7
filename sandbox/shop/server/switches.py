"""The switch files an operator puts into the shared folder, read on each request."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

PROOF_HEADER = "X-Tollgate-Proof"
MAINTENANCE = "maintenance"
PAYMENTS_OFF = "payments-off"
TEST_MODE = "test-mode"
"""Closed by it: the way to real money. New payments are made in the gateway's test mode."""


class Switches:
    """A switch is on while its file exists. A file that cannot be read is on, and nothing passes it."""

    def __init__(self, shared_dir: Path) -> None:
        self._shared_dir = shared_dir

    def closed(self, name: str, proof: str | None) -> bool:
        """Whether the door `name` is closed to a request that carries `proof` (the header's value, or None)."""
        try:
            content = (self._shared_dir / name).read_bytes()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return not _passes(content, proof)


def _passes(content: bytes, proof: str | None) -> bool:
    if not proof:
        return False
    try:
        switch = json.loads(content)
    except (ValueError, RecursionError):
        return False
    expected = switch.get("proof") if isinstance(switch, dict) else None
    if not isinstance(expected, str) or len(expected) != 64 or not expected.isascii():
        return False
    found = hashlib.sha256(proof.encode("utf-8", "surrogateescape")).hexdigest()
    return hmac.compare_digest(found, expected)
