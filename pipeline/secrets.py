"""Secrets: a type that never prints its value, and the redactor every output passes."""

from __future__ import annotations

import hashlib


class Secret:
    """A value that must not leave: prints `[redacted]`, compares by value, is revealed only by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def fingerprint(self) -> str:
        """Eight hex characters that tell two secrets apart and give neither away."""
        return hashlib.sha256(b"tollgate-fingerprint:" + self._value.encode()).hexdigest()[:8]

    def __repr__(self) -> str:
        return "[redacted]"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "[redacted]"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        raise TypeError("a Secret is never pickled")
