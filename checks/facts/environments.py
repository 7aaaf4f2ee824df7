"""What the name of an environment says about it."""

from __future__ import annotations

import re

PRODUCTION = frozenset({"production", "prod", "prd", "live"})
_WORD = re.compile(r"[A-Za-z_-]{1,16}|[01]")
_NOT_YET = frozenset({"pre", "non", "not"})


def words(name: str) -> frozenset[str]:
    """The words of a name, a path or a host, in lower case: `app-staging.shop` is app, staging, shop."""
    return frozenset(word for word in re.split(r"[^a-z0-9]+", name.lower()) if word)


def is_production(environment: str) -> bool:
    """Whether real customers pay there, by its name: `production`, `prod-eu`, `live2`; not `pre-production`."""
    said = {word.rstrip("0123456789") for word in words(environment)}
    return bool(said & PRODUCTION) and not said & _NOT_YET


def shown(value: str) -> str:
    """A value for a finding. What is no short word is not shown: a secret may stand under the wrong name."""
    return repr(value) if _WORD.fullmatch(value.strip()) or not value.strip() else f"{len(value)} characters, not shown"
