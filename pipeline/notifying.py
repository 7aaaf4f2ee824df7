"""The verb notify: one test notice to each, waited for, as a run of its own on record."""

from __future__ import annotations

from pipeline.errors import Exit
from pipeline.notices import TEST
from pipeline.plan import Plan
from pipeline.run_record import Outcome, finish, start
from pipeline.session import Session
from pipeline.words import count

VERB = "notify"


async def notify(session: Session) -> Outcome:
    """DONE when everybody was reached, else REFUSED. Takes no lease and changes nothing."""
    begun, notices = session.world.clock.monotonic(), session.notices
    start(session, Plan(VERB, session.environment, session.spec.service, ()), session.world, None, reason="")
    if notices is not None:
        notices.tell((TEST,), on_record=True)
        await notices.settle()
    outcomes = notices.outcomes if notices is not None else []
    lost = [one.to for one in outcomes if one.error]
    if lost or not outcomes:
        summary = f"not reached: {', '.join(lost)}" if lost else "nobody was told"
        remedy = "Correct the address, or mend what it names; docs/notices.md has examples."
        return finish(session, Exit.REFUSED, summary, remedy, begun)
    return finish(session, Exit.DONE, f"{count(len(outcomes), 'test notice')} taken", "", begun)
