"""Who takes the money. A gateway that is not in the table does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pipeline.telling import silent

if TYPE_CHECKING:
    from random import Random

    import httpx

    from pipeline.contracts import Clock, Gateway, SigningScheme
    from pipeline.settings import Settings
    from pipeline.spec import Contract


def _ikhokha(
    settings: Settings,
    http: Callable[[], httpx.AsyncClient],
    clock: Clock,
    contract: Contract,
    random: Random | None = None,
    tell: Callable[[str], None] = silent,
) -> Gateway:
    from gateways.ikhokha import IKhokha

    scheme = SCHEMES[contract.webhook_scheme](settings, contract.webhook_tolerance)
    return IKhokha(settings, http, clock, scheme, random=random, tell=tell)


def _ikhokha_signing(settings: Settings, _tolerance_s: float) -> SigningScheme:
    from gateways.ikhokha_signing import IKhokhaSigning

    return IKhokhaSigning(
        settings.text("VITE_IKHOKHA_API_KEY").strip(), settings.text("VITE_IKHOKHA_API_SECRET").strip()
    )


def _standard_signing(settings: Settings, tolerance_s: float) -> SigningScheme:
    from gateways.standard_signing import StandardSigning

    return StandardSigning.of(settings.text("VITE_IKHOKHA_WEBHOOK_SECRET"), tolerance_s)


SCHEMES: Mapping[str, Callable[..., SigningScheme]] = MappingProxyType(
    {"ikhokha": _ikhokha_signing, "standard-webhooks": _standard_signing}
)
"""Name in `contract.webhook_scheme` of pipeline.yaml -> maker(settings, tolerance in s)."""

GATEWAYS: Mapping[str, Callable[..., Gateway]] = MappingProxyType({"ikhokha": _ikhokha})
"""Name in `gateway:` of pipeline.yaml -> maker(settings, http, clock, contract, random, tell), which imports what it
needs. `tell` is told what is asked again, by chance (`random`) not at once.
"""
