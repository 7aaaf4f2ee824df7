"""Time stamps of webhooks that are not looked at, or break what looks at them. Only Standard Webhooks has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from multidict import CIMultiDict, CIMultiDictProxy

from .. import standard_webhooks as standard
from ..config import Config
from ..schemes import Delivery, Judged
from ..seams import Seams
from .kit import Break

_STAMP = standard.HEADER_TIME
_EVER_S = 1e12


def _old_ones_too(seams: Seams) -> Seams:
    def verify(config: Config, delivery: Delivery) -> Judged:
        return seams.verify(replace(config, webhook_tolerance_s=_EVER_S), delivery)

    return replace(seams, verify=verify)


def _without_one(seams: Seams) -> Seams:
    """Where there is no stamp, what was signed is ID and body alone, or the stamp of this very second."""

    def verify(config: Config, delivery: Delivery) -> Judged:
        if _STAMP in delivery.headers:
            return seams.verify(config, delivery)
        tried = (seams.verify(config, _stamped(delivery, int(delivery.at) - ago)) for ago in range(-2, 61))
        return next((judged for judged in tried if judged.text is not None), Judged(None, "no fitting signature"))

    return replace(seams, verify=verify)


def _stamped(delivery: Delivery, at: int) -> Delivery:
    headers = CIMultiDict(delivery.headers)
    headers[_STAMP] = str(at)
    return replace(delivery, headers=CIMultiDictProxy(headers))


def _of_any_form(seams: Seams) -> Seams:
    def verify(config: Config, delivery: Delivery) -> Judged:
        int(delivery.headers.get(_STAMP, "0"))
        return seams.verify(config, delivery)

    return replace(seams, verify=verify)


BREAKS: Mapping[str, Break] = {
    "ignores-stamp": _old_ones_too,
    "ignores-missing-stamp": _without_one,
    "breaks-on-odd-stamps": _of_any_form,
}
