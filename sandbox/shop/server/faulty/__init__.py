"""How each fault of the table breaks the shop: what it puts in the place of a careful answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ..seams import Seams
from .bodies import BREAKS as BODIES
from .creating import BREAKS as CREATING
from .doors import BREAKS as DOORS
from .kit import Break
from .meaning import BREAKS as MEANING
from .signatures import BREAKS as SIGNATURES
from .stamps import BREAKS as STAMPS
from .wishes import BREAKS as WISHES

BREAKS: Mapping[str, Break] = MappingProxyType(
    {
        **DOORS,
        **BODIES,
        **SIGNATURES,
        **STAMPS,
        **MEANING,
        **WISHES,
        **CREATING,
    }
)

IN_PAGES = frozenset({"secret-in-bundle"})
"""Faults that the build puts into the pages: the server is the careful one."""


def broken(names: Iterable[str]) -> Seams:
    """The shop's seams with these faults. Raises KeyError for a name that is none."""
    seams = Seams()
    for name in sorted(set(names) - IN_PAGES):
        seams = BREAKS[name](seams)
    return seams
