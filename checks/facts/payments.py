"""Payments of our own: made through the service, marked as smoke payments, and read again.

Nothing here touches a payment it did not make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from checks.judging import Unjudged, counted
from pipeline.asking_again import Patience, retrying, unless_busy
from pipeline.contracts import PayLink, World
from pipeline.errors import ServiceGarbled
from pipeline.spec import Course
from pipeline.verdict import Finding, Verdict

if TYPE_CHECKING:
    from pipeline.service import Answer


@dataclass(frozen=True)
class Created:
    """What became of asking the service for a payment. `link` is None when it made none, and `flaw` says why."""

    reference: str
    course: str
    cents: int
    status: int
    took_ms: float
    link: PayLink | None
    flaw: str

    @property
    def asked(self) -> str:
        return f"payment {self.reference} of {self.cents} cents for {self.course}"


@dataclass(frozen=True)
class Standing:
    """What the service says of one reference. `status` is '' when it never saw it."""

    status: str
    active: bool
    activations: int

    @property
    def enrolled(self) -> bool:
        return self.active or self.activations > 0

    def as_data(self) -> Mapping[str, object]:
        return {"status": self.status or "never seen", "active": self.active, "activations": self.activations}

    def __str__(self) -> str:
        return f"payment {self.status or 'never seen'}, {counted(self.activations, 'activation')}"


async def create(world: World, course: Course, cents: int, *, mark: str = "", again: str = "") -> Created:
    """Asks the service for a payment under a new smoke reference. Raises ServiceUnreachable.

    `mark` stands in the reference after the smoke prefix. `again` is a reference of ours whose request is repeated as
    it was: the service answers with the same link, or 409.
    """
    reference = again or f"{world.spec.contract.smoke_prefix}{mark}{world.random.getrandbits(64):016x}"
    answer = await world.service.create_payment(reference, cents, course.id, proof=world.run.proof_token)
    link, flaw = _link(answer)
    return Created(reference, course.id, cents, answer.status, answer.took_ms, link, flaw)


def _link(answer: Answer) -> tuple[PayLink | None, str]:
    if answer.status not in (200, 201):
        return None, f"answered {answer.status}"
    try:
        url, link_id = answer.member("paylinkUrl"), answer.member("paylinkID")
    except ServiceGarbled as error:
        return None, str(error)
    if not (isinstance(link_id, str) and link_id and isinstance(url, str) and _is_address(url)):
        return None, (
            f"answered {answer.status} with paylinkUrl {url!r} and paylinkID {link_id!r}; "
            "an address and a text are expected"
        )
    return PayLink(link_id, url), ""


def _is_address(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


async def unpaid(world: World, purpose: str) -> tuple[Created, PayLink]:
    """A smoke payment for one check alone, never paid. Raises Unjudged when the service makes none."""
    course = world.spec.contract.smoke_course
    created = await world.facts.once(("unpaid payment", purpose), lambda: create(world, course, course.cents))
    if created.link is None:
        raise Unjudged(
            Finding(
                Verdict.INCONCLUSIVE,
                f"the service made no payment to prove this on: {created.asked} {created.flaw} after "
                f"{created.took_ms:g} ms",
                remedy_for(created.status),
                {"reference": created.reference, "status": created.status, "took_ms": created.took_ms},
            )
        )
    return created, created.link


async def standing(world: World, reference: str) -> Standing:
    """Reads payment and enrolment. Raises ServiceError when the service cannot be asked or answers nonsense."""
    payment = await world.service.payment(reference)
    enrolment = await world.service.enrolment(reference)
    return Standing(_status(payment), *_enrolled(enrolment))


async def read_standing(world: World, reference: str) -> Standing:
    """The same for a proof whose point is what the order became, not the first answer: what may yet come is awaited."""

    async def ask() -> Standing:
        payment = unless_busy(await world.service.payment(reference), world.clock.now())
        enrolment = unless_busy(await world.service.enrolment(reference), world.clock.now())
        return Standing(_status(payment), *_enrolled(enrolment))

    return await retrying(ask, Patience.of(world))


async def link_of(world: World, reference: str) -> str:
    """The gateway's link ID of a payment of ours; '' where the service does not tell it. Raises ServiceUnreachable."""
    answer = await retrying(lambda: world.service.payment(reference), Patience.of(world))
    if answer.status != 200:
        return ""
    try:
        link_id = answer.member("paylinkID")
    except ServiceGarbled:
        return ""
    return link_id if isinstance(link_id, str) else ""


def _status(answer: Answer) -> str:
    if answer.status == 404:
        return ""
    status = answer.member("status")
    if answer.status != 200 or not isinstance(status, str) or not status:
        raise ServiceGarbled(
            f"GET {answer.path}: answered {answer.status} in {answer.took_ms:g} ms with status {status!r}; "
            "a text is expected"
        )
    return status


def _enrolled(answer: Answer) -> tuple[bool, int]:
    if answer.status == 404:
        return False, 0
    active, count = answer.member("active"), answer.member("activations")
    if answer.status != 200 or not isinstance(active, bool) or not isinstance(count, int) or isinstance(count, bool):
        raise ServiceGarbled(
            f"GET {answer.path}: answered {answer.status} in {answer.took_ms:g} ms with active {active!r} and "
            f"activations {count!r}; "
            "a boolean and a count are expected"
        )
    return active, count


def remedy_for(status: int) -> str:
    """What to do about a payment that was not created, by the service's answer."""
    if status == 429:
        return "The rate limit answered: wait a minute, or lower the traffic from this address, then run again."
    if status in (502, 503):
        return (
            "The gateway refuses or is away, or payments are switched off. API key invalid or missing: check "
            "VITE_IKHOKHA_API_KEY and VITE_IKHOKHA_API_SECRET; else check the gateway and `./inv status`."
        )
    if status in (400, 422):
        return "The smoke course is not as the service knows it: compare contract.smoke_course with its catalogue."
    if status in (401, 403):
        return "The service must take payments without a login at contract.create; see docs/service.md."
    if status in (404, 405):
        return "Set contract.create to the path where the service takes payments."
    return "Look at the service's own log for this reference; the answer must follow docs/service.md."
