"""What a customer may ask for: one course, at its own price, under a reference of the allowed form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .answers import problem
from .config import REFERENCE, Course


@dataclass(frozen=True)
class Wanted:
    """A valid request for a payment, in cents. `test`: made in the gateway's test mode, and never activated."""

    reference: str
    amount: int
    course: Course
    test: bool = False


Judge = Callable[[bytes, Mapping[str, Course]], Wanted | web.Response]


def judge(body: bytes, courses: Mapping[str, Course]) -> Wanted | web.Response:
    """A valid request, or the refusal: 400 or 422. Total."""
    try:
        request = json.loads(body.decode("utf-8"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError):
        return problem(400, "a JSON object without duplicate members is expected")
    if not isinstance(request, dict):
        return problem(400, "a JSON object is expected")
    reference, amount, course_id = request.get("reference"), request.get("amount"), request.get("course")
    if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
        return problem(422, "reference: 1 to 64 characters of A-Z a-z 0-9 . _ - are allowed")
    course = courses.get(course_id) if isinstance(course_id, str) else None
    if course is None:
        return problem(422, "course: there is no such course")
    if request.get("currency") != "ZAR":
        return problem(422, "currency: only ZAR is allowed")
    if type(amount) is not int or amount != course.cents:
        return problem(422, f"amount: the price of {course.id} is {course.cents} cents")
    return Wanted(reference, amount, course)


def without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`. Raises ValueError for a name that comes twice."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a duplicate member")
    return found
