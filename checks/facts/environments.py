"""What the name of an environment says about it."""

from __future__ import annotations

import re

PRODUCTION = frozenset({"production", "prod", "live"})
_NOT_YET = frozenset({"pre", "non", "not"})


def words(name: str) -> frozenset[str]:
    """The words of a name, a path or a host, in lower case: `app-staging.shop` is app, staging, shop."""
    return frozenset(word for word in re.split(r"[^a-z0-9]+", name.lower()) if word)


def is_production(environment: str) -> bool:
    """Whether real customers pay there, by its name: `production`, `prod-eu`, `live`; not `pre-production`."""
    said = words(environment)
    return bool(said & PRODUCTION) and not said & _NOT_YET
