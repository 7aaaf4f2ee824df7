"""Requests for payments that are granted although they are wrong, or that break what judges them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from ..answers import problem
from ..config import Config, Course
from ..gateway import Addresses
from ..seams import Seams
from ..wanted import Judge, Wanted, without_duplicates
from .kit import Break, instead

Members = dict[str, Any]


@dataclass(frozen=True)
class _Addressed(Wanted):
    """A request that says where the gateway shall send its webhook and the customer; '' where it does not."""

    success: str = ""
    callback: str = ""


def _members(body: bytes) -> Members:
    """The request's members; {} for what is no object, or names a member twice."""
    with suppress(ValueError, RecursionError):
        members = json.loads(body.decode("utf-8"), object_pairs_hook=without_duplicates)
        return members if isinstance(members, dict) else {}
    return {}


def _mended(mend: Callable[[Members, Mapping[str, Course]], Members | None]) -> Break:
    """A fault that makes a wrong request right before it is judged; None leaves it as it is."""

    def apply(seams: Seams) -> Seams:
        def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
            mended = mend(_members(body), courses)
            return seams.judge(body if mended is None else json.dumps(mended).encode(), courses)

        return replace(seams, judge=judge)

    return apply


def _at_any_price(allowed: Callable[[object], int | None]) -> Break:
    """A fault that takes what `allowed` makes of the amount, and charges it where the gateway can."""

    def apply(seams: Seams) -> Seams:
        def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
            members = _members(body)
            course, amount = courses.get(str(members.get("course"))), allowed(members.get("amount"))
            if course is None or amount is None:
                return seams.judge(body, courses)
            judged = seams.judge(json.dumps({**members, "amount": course.cents}).encode(), courses)
            return replace(judged, amount=amount) if isinstance(judged, Wanted) else judged

        return replace(seams, judge=judge)

    return apply


def _whole(amount: object) -> int | None:
    return max(1, abs(amount)) if type(amount) is int and abs(amount) <= 100_000_000 else None


def _rounded(amount: object) -> int | None:
    return round(amount) if isinstance(amount, float) and 1 <= amount <= 1e8 else None


def _converted(amount: object) -> int | None:
    if not isinstance(amount, str | bool):
        return None
    with suppress(ValueError):
        return max(1, int(amount))
    return None


def _positive(amount: object) -> int | None:
    return amount if type(amount) is int and 1 <= amount <= 100_000_000 else None


def _in_rand(members: Members, _courses: Mapping[str, Course]) -> Members | None:
    return {**members, "currency": "ZAR"} if isinstance(members.get("currency"), str) else None


def _for_anything(seams: Seams) -> Seams:
    def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
        name, amount = (_members(body).get(member) for member in ("course", "amount"))
        if isinstance(name, str) and type(amount) is int and 1 <= amount <= 100_000_000:
            courses = {**courses, name: courses.get(name) or Course(name, name[:40], amount, listed=False)}
        return seams.judge(body, courses)

    return replace(seams, judge=judge)


def _with_a_reference(members: Members, _courses: Mapping[str, Course]) -> Members | None:
    if members.get("reference"):
        return None
    return {**members, "reference": f"smoke-{secrets.token_hex(8)}"}


def _of_any_reference(seams: Seams) -> Seams:
    def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
        members = _members(body)
        reference = members.get("reference")
        if not isinstance(reference, str) or not reference:
            return seams.judge(body, courses)
        judged = seams.judge(json.dumps({**members, "reference": "smoke-short"}).encode(), courses)
        return replace(judged, reference=reference) if isinstance(judged, Wanted) else judged

    return replace(seams, judge=judge)


def _breaks(on: Callable[[bytes], object]) -> Break:
    """A fault that looks at each request before it is judged, and lets pass what goes wrong with that."""

    def apply(seams: Seams) -> Seams:
        def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
            on(body)
            return seams.judge(body, courses)

        return replace(seams, judge=judge)

    return apply


def _amount_in_eight_bytes(body: bytes) -> None:
    amount = _members(body).get("amount")
    if isinstance(amount, int | float):
        int(amount).to_bytes(8, "big", signed=True)


def _file_of_that_name(body: bytes) -> None:
    reference = _members(body).get("reference")
    if isinstance(reference, str):
        with suppress(OSError):
            Path(reference).stat()


def _first_amount_charged(seams: Seams) -> Seams:
    def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
        first, last = _each_of_two(body)
        judged = seams.judge(json.dumps(last).encode() if last else body, courses)
        if not isinstance(judged, Wanted):
            return judged
        amount = first.get("amount", judged.amount)
        return replace(judged, amount=amount) if type(amount) is int and amount > 0 else problem(422, "amount")

    return replace(seams, judge=judge)


def _each_of_two(body: bytes) -> tuple[Members, Members]:
    """The members where the first of a name counts, and where the last does; nothing for what is no object."""
    with suppress(ValueError, RecursionError):
        first = json.loads(body, object_pairs_hook=lambda members: dict(reversed(members)))
        last = json.loads(body)
        if isinstance(last, dict):
            return first, last
    return {}, {}


def _with_addresses(careful: Judge) -> Judge:
    def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
        judged = careful(body, courses)
        if not isinstance(judged, Wanted):
            return judged
        members = _members(body)
        urls = members.get("urls")
        said = {**(urls if isinstance(urls, dict) else {}), **members}
        success, callback = (_first(said, names) for names in (("successUrl", "successPageUrl"), ("callbackUrl",)))
        return _Addressed(judged.reference, judged.amount, judged.course, judged.test, success, callback)

    return judge


def _first(said: Members, names: tuple[str, ...]) -> str:
    return next((said[name] for name in names if isinstance(said.get(name), str)), "")


def _to_the_callers_addresses(seams: Seams) -> Seams:
    def addresses(config: Config, wanted: Wanted) -> Addresses:
        own = seams.addresses(config, wanted)
        if not isinstance(wanted, _Addressed):
            return own
        return replace(own, success=wanted.success or own.success, callback=wanted.callback or own.callback)

    return replace(seams, judge=_with_addresses(seams.judge), addresses=addresses)


BREAKS: Mapping[str, Break] = {
    "takes-any-whole-amount": _at_any_price(_whole),
    "takes-fractions": _at_any_price(_rounded),
    "takes-text-amounts": _at_any_price(_converted),
    "breaks-on-huge-amounts": _breaks(_amount_in_eight_bytes),
    "ignores-amount": lambda seams: instead(same_cents=lambda _order, _paid: True)(_at_any_price(_positive)(seams)),
    "ignores-currency": _mended(_in_rand),
    "sells-anything": _for_anything,
    "makes-up-references": _mended(_with_a_reference),
    "takes-any-reference": _of_any_reference,
    "breaks-on-nul": _breaks(_file_of_that_name),
    "takes-callers-urls": _to_the_callers_addresses,
    "breaks-on-odd-payment-bodies": _breaks(lambda body: json.loads(body.decode("utf-8"))),
    "first-duplicate-pays": _first_amount_charged,
}
