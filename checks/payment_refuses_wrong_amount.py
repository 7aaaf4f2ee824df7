"""payment.refuses_wrong_amount: a course costs what it costs, to the cent."""

from __future__ import annotations

from dataclasses import dataclass

from checks.facts.payments import Created, Standing, create, read_standing, unpaid
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict, failed, inconclusive, passed


@dataclass(frozen=True)
class WrongAmounts:
    """Two payments of one cent too few and too many; the right amount was accepted before (`control`)."""

    control: Created
    price: int
    tried: tuple[tuple[Created, Standing], ...]


@or_finding
async def gather(world: World, _params: NoParams) -> WrongAmounts:
    course = world.spec.contract.smoke_course
    control, _ = await unpaid(world, "payment.refuses_wrong_amount")
    tried = []
    for cents in (course.cents - 1, course.cents + 1):
        created = await create(world, course, cents)
        tried.append((created, await read_standing(world, created.reference)))
    return WrongAmounts(control, course.cents, tuple(tried))


@unless_finding
def judge(fact: WrongAmounts, _params: NoParams) -> Finding:
    measured = {
        "price_cents": fact.price,
        "control": {"cents": fact.control.cents, "status": fact.control.status, "took_ms": fact.control.took_ms},
        "tried": [{"cents": c.cents, "status": c.status, "took_ms": c.took_ms, **s.as_data()} for c, s in fact.tried],
    }
    if not fact.tried:
        return inconclusive("no wrong amount was tried", "This is a bug in the check.", **measured)
    findings = [_amount(fact, created, after, measured) for created, after in fact.tried]
    found = [finding for finding in findings if finding is not None]
    if found:
        return next((finding for finding in found if finding.verdict is Verdict.FAIL), found[0])
    answers = " and ".join(f"{c.cents} cents with {c.status} in {c.took_ms:g} ms" for c, _ in fact.tried)
    return passed(
        f"the course of {fact.price} cents was accepted at its price ({fact.control.status} in "
        f"{fact.control.took_ms:g} ms) and refused at {answers}",
        **measured,
    )


def _amount(fact: WrongAmounts, made: Created, after: Standing, measured: dict[str, object]) -> Finding | None:
    told = f"{made.asked}, whose price is {fact.price} cents: answered {made.status} in {made.took_ms:g} ms"
    fix = "Compare the amount with the course's own price on the server and answer 400 or 422; never trust the client."
    if made.status in (200, 201):
        return failed(f"{told}; expected 400 or 422", fix, **measured)
    if after.enrolled or after.status == "paid":
        return failed(f"{told}, yet afterwards: {after}", fix, **measured)
    if made.status >= 500 and made.status != 503:
        return failed(f"{told}; expected 400 or 422: a wrong amount must not break the service", fix, **measured)
    if made.status not in (400, 422):
        return inconclusive(
            f"{told}: something else answered, so the amount was not judged",
            "Find what refused it (rate limit, payments switched off, another rule), then run again.",
            **measured,
        )
    return None


CHECK = Check(
    name="payment.refuses_wrong_amount",
    promise="A payment of one cent less or more than the course's price is refused.",
    rows=("G13", "T12"),
    gather=gather,
    judge=judge,
    params=NoParams,
    acceptable=False,
    network=True,
    when=When.LIVE,
    why="An amount the browser may choose is a discount the customer may choose.",
    pci=("6.5.1",),
    looks_at=(
        "The answers to two smoke payments of one cent less and one cent more than the course's price, after one at "
        "its price was accepted, and whether anything was enrolled."
    ),
    fix="Compare the amount with the course's own price on the server and answer 400 or 422; never trust the client.",
    see_it_fail="`./inv drill --fault ignores-amount` deploys a shop that takes any amount.",
)
