"""Who takes the money. A gateway that is not in the table does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from pipeline.contracts import Clock, Gateway
    from pipeline.settings import Settings


def _ikhokha(settings: Settings, http: Callable[[], httpx.AsyncClient], clock: Clock) -> Gateway:
    from gateways.ikhokha import IKhokha

    return IKhokha(settings, http, clock)


GATEWAYS: Mapping[str, Callable[..., Gateway]] = MappingProxyType({"ikhokha": _ikhokha})
"""Name in `gateway:` of pipeline.yaml -> maker(settings, http, clock), which imports the client when it is called."""
