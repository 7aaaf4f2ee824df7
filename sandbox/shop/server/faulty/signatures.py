"""Webhooks that are believed although their signature does not fit, or not believed although it does."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from multidict import CIMultiDict, CIMultiDictProxy

from .. import ikhokha_wire as wire
from ..config import WEBHOOK_PATH, Config
from ..schemes import Delivery, Judged, Verify
from ..seams import Seams
from .kit import Break, instead

_HEX = re.compile(r"[0-9a-f]{64}")


def _also(accepts: Callable[[Config, Delivery], bool], at_most: int = 1) -> Break:
    """A fault that accepts more than what is right, from the right sender, with `at_most` so many signatures."""

    def apply(seams: Seams) -> Seams:
        def verify(config: Config, delivery: Delivery) -> Judged:
            judged = seams.verify(config, delivery)
            right = delivery.headers.getall(wire.HEADER_APP, []) in ([], [config.app_id])
            few = len(delivery.headers.getall(wire.HEADER_SIGN, [])) <= at_most
            if judged.text is None and right and few and accepts(config, delivery):
                return Judged(delivery.body, "")
            return judged

        return replace(seams, verify=verify)

    return apply


def _given(delivery: Delivery) -> str:
    return delivery.headers.get(wire.HEADER_SIGN, "")


def _wanted(config: Config, delivery: Delivery) -> str:
    """The right signature; '' for a body that has none."""
    canonical = wire.canonical(delivery.body)
    return wire.sign(config.webhook_secret, WEBHOOK_PATH, canonical.decode()) if canonical is not None else ""


def _signed(config: Config, path: str, text: bytes | None) -> str:
    return wire.sign(config.webhook_secret, path, text.decode()) if text is not None else ""


def _fits(given: str, *wanted: str) -> bool:
    return given != "" and given in wanted


def _everything(_config: Config, delivery: Delivery) -> Judged:
    return Judged(delivery.body, "")


def _is_empty(_config: Config, delivery: Delivery) -> bool:
    return wire.HEADER_SIGN in delivery.headers and not _given(delivery).strip()


def _looks_right(_config: Config, delivery: Delivery) -> bool:
    return bool(_HEX.fullmatch(_given(delivery)))


def _begins_right(config: Config, delivery: Delivery) -> bool:
    return len(_given(delivery)) >= 8 and _wanted(config, delivery).startswith(_given(delivery))


def _has_more(config: Config, delivery: Delivery) -> bool:
    wanted = _wanted(config, delivery)
    return wanted != "" and _given(delivery).startswith(wanted)


def _in_any_case(config: Config, delivery: Delivery) -> bool:
    return _fits(_given(delivery).lower(), _wanted(config, delivery))


def _in_base64(config: Config, delivery: Delivery) -> bool:
    try:
        return _fits(base64.b64decode(_given(delivery), validate=True).hex(), _wanted(config, delivery))
    except (binascii.Error, ValueError):
        return False


def _with_prefix(config: Config, delivery: Delivery) -> bool:
    return _fits(_given(delivery).removeprefix("sha256="), _wanted(config, delivery))


def _over_the_body_alone(config: Config, delivery: Delivery) -> bool:
    return _fits(_given(delivery), _signed(config, "", wire.canonical(delivery.body)))


def _over_a_path_of_the_senders(config: Config, delivery: Delivery) -> bool:
    path = delivery.headers.get("x-original-uri", "")
    return path != "" and _fits(_given(delivery), _signed(config, path, wire.canonical(delivery.body)))


def _over_the_query(config: Config, delivery: Delivery) -> bool:
    return _fits(_given(delivery), _signed(config, delivery.target, wire.canonical(delivery.body)))


def _either(config: Config, delivery: Delivery) -> bool:
    given = delivery.headers.getall(wire.HEADER_SIGN, [])
    return _wanted(config, delivery) in given if given else False


def _of_a_neighbour(config: Config, delivery: Delivery) -> bool:
    """Made for this path and this paylink: the status and the end of the reference may have been others."""
    members = _members(delivery.body)
    link_id, reference = (str(members.get(name, "")) for name in ("paylinkID", "externalTransactionID"))
    references = [reference, *(reference[:-1] + end for end in "0123456789abcdef")]
    texts = [
        wire.webhook_text(link_id, other, status) for other in references for status in (wire.SUCCESS, wire.FAILURE)
    ]
    return _fits(_given(delivery), *(_signed(config, WEBHOOK_PATH, text.encode()) for text in texts))


def _in_the_usual_order(config: Config, delivery: Delivery) -> bool:
    """The members of a webhook, in the order in which the gateway sends them."""
    members = _members(delivery.body)
    names = ("paylinkID", "status", "externalTransactionID", "responseCode")
    first = {name: members[name] for name in names if name in members}
    text = json.dumps(first | dict(members), ensure_ascii=False, separators=(",", ":"))
    return _fits(_given(delivery), _signed(config, WEBHOOK_PATH, wire.canonical(text.encode("utf-8", "replace"))))


def _members(body: bytes) -> Mapping[str, object]:
    try:
        members = json.loads(body.decode())
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _of_any_sender(seams: Seams) -> Seams:
    def verify(config: Config, delivery: Delivery) -> Judged:
        headers = CIMultiDict(delivery.headers)
        headers.popall(wire.HEADER_APP, None)
        return seams.verify(config, replace(delivery, headers=CIMultiDictProxy(headers)))

    return replace(seams, verify=verify)


def _raw(seams: Seams) -> Seams:
    return replace(seams, verify=_over_the_bytes(seams.verify))


def _over_the_bytes(careful: Verify) -> Verify:
    def verify(config: Config, delivery: Delivery) -> Judged:
        judged = careful(config, delivery)
        if judged.text is not None and judged.text != delivery.body:
            return Judged(None, "the signature does not fit")
        return judged

    return verify


BREAKS: Mapping[str, Break] = {
    "accepts-unsigned-webhook": instead(verify=_everything),
    "accepts-empty-signature": _also(_is_empty),
    "accepts-any-signature": _also(_looks_right),
    "signs-nothing-of-the-body": _also(_of_a_neighbour),
    "compares-what-was-given": _also(_begins_right),
    "compares-the-beginning": _also(_has_more),
    "ignores-case-of-signature": _also(_in_any_case),
    "takes-base64-signature": _also(_in_base64),
    "takes-prefixed-signature": _also(_with_prefix),
    "leaves-path-out": _also(_over_the_body_alone),
    "takes-any-path": _also(_over_a_path_of_the_senders),
    "signs-the-query": _also(_over_the_query),
    "takes-either-header": _also(_either, at_most=2),
    "ignores-sender": _of_any_sender,
    "verifies-raw-bytes": _raw,
    "sorts-keys": _also(_in_the_usual_order),
}
