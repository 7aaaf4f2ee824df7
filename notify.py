"""The verb `notify`: a test notice to everybody an environment names, on record: an alert is known to arrive."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import commands
import wiring
from commands import Flags
from pipeline.errors import Exit, Refused

if TYPE_CHECKING:
    from pipeline.run_record import Outcome
    from pipeline.session import Session


def notify(flags: Flags) -> int:
    """Exit 1 when somebody was not reached, or nobody is named."""

    async def verb() -> Exit:
        from pipeline import notifying

        chosen = wiring.choose(flags.spec, flags.env)
        if not chosen.environment.notices:
            raise Refused(
                f"{flags.env} names nobody who is told",
                f"Name them under environments.{flags.env}.notices in pipeline.yaml; docs/notices.md shows how.",
            )

        def tell(session: Session, outcome: Outcome, paths: Any) -> None:
            if flags.json:
                from pipeline.tables import print_json

                outcomes = session.notices.outcomes if session.notices is not None else ()
                told = [
                    {"to": one.to, "told": not one.error, "error": session.redactor.text(one.error)} for one in outcomes
                ]
                print_json({"run": outcome.run, "told": told, "exit_code": int(outcome.exit)})
            elif paths is not None:
                sys.stdout.write(f"Report: {paths.html}\n")

        return await commands.run(flags, chosen, notifying.notify, tell=tell)

    return commands.ended(flags, verb)
