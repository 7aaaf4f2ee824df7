"""The verbs `close` and `open`: what a person shuts at once, and what a person lets in again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import commands
import wiring
from commands import Flags
from pipeline.contracts import SwitchName, SwitchOn
from pipeline.errors import Exit, TollgateError, Usage

if TYPE_CHECKING:
    from pipeline.closing import Done
    from pipeline.run_record import Outcome
    from pipeline.session import Session


def close(flags: Flags, *, payments: bool, test_mode: bool, reason: str) -> int:
    """Closes at once, whoever is at work: pages and payments, or only what is named."""
    doors = _named(payments=payments, test_mode=test_mode) or (SwitchName.MAINTENANCE,)

    async def verb() -> Exit:
        from pipeline import closing

        if not reason.strip():
            raise Usage(
                "close: --reason is missing; who is paged next reads it, and so does whoever opens again",
                f'`./inv close --env {flags.env} --reason "gateway trouble"`',
            )
        chosen = wiring.choose_to_go_back(flags.spec, flags.env, sys.stderr.write)
        done, plan = closing.Done(), closing.planned(chosen.spec, chosen.name, closing.CLOSE, doors)

        async def act(session: Session) -> Outcome:
            switches = await wiring.doors_at(chosen, session.redactor.text)
            return await closing.close(session, switches, plan, doors, reason=reason, done=done)

        def tell(session: Session, outcome: Outcome, paths: Any) -> None:
            _tell(flags, session, outcome, done, paths)
            if not flags.json:
                sys.stdout.write(_beside(wiring.at_work(chosen)))

        try:
            return await commands.run(flags, chosen, act, tell=tell, asks=False)
        except TollgateError as error:
            if not done.stand:  # nothing was reached, not even a file
                by_hand = "To close without all this, write the file by hand: docs/incident.md, Closing by hand."
                error.remedy = f"{error.remedy} {by_hand}".strip()
            raise

    return commands.ended(flags, verb)


def open_(flags: Flags, *, maintenance: bool, payments: bool, test_mode: bool, reason: str, yes: bool) -> int:
    """Opens what persons closed, all of it or only what is named, where the live release is known to be good."""
    only = _named(maintenance=maintenance, payments=payments, test_mode=test_mode)

    async def verb() -> Exit:
        from pipeline import closing, opening
        from pipeline.run_record import Outcome

        chosen, done = wiring.choose(flags.spec, flags.env), closing.Done()

        async def act(session: Session) -> Outcome:
            shut = await opening.closed(session)
            doors = {door: value for door, value in shut.items() if not only or door in only}
            done.stand.update({door: shut.get(door) for door in SwitchName})
            _show(flags, session, shut)
            opening.refuse_unfinished(session, doors)
            if not doors:
                nothing = f"nothing of {flags.env} is closed by a person" + (", of what was named" if only else "")
                return Outcome(session.recorder.run, Exit.DONE, nothing)
            if not yes and not chosen.in_sandbox:
                await commands.confirm(flags.env, closing.OPEN)
            plan = closing.planned(chosen.spec, chosen.name, closing.OPEN, tuple(doors))
            by = commands.owner(session)
            return await opening.reopen(session, plan, by, doors, reason=reason, done=done)

        def tell(session: Session, outcome: Outcome, paths: Any) -> None:
            _tell(flags, session, outcome, done, paths)

        return await commands.run(flags, chosen, act, tell=tell)

    return commands.ended(flags, verb)


def _named(*, maintenance: bool = False, payments: bool = False, test_mode: bool = False) -> tuple[SwitchName, ...]:
    wanted = {
        SwitchName.MAINTENANCE: maintenance,
        SwitchName.PAYMENTS_OFF: payments,
        SwitchName.TEST_MODE: test_mode,
    }
    return tuple(door for door, named in wanted.items() if named)


def _show(flags: Flags, session: Session, shut: Mapping[SwitchName, SwitchOn]) -> None:
    """What is closed, before anybody is asked."""
    from pipeline.words import one_line, printable

    lines = [
        f"{door.value}: closed since {value.since or 'an unknown time'} by {value.who}: {value.why}"
        for door, value in shut.items()
    ]
    stream = sys.stderr if flags.json else sys.stdout
    for line in lines:
        stream.write(f"{session.redactor.text(one_line(printable(line)))}\n")


def _tell(flags: Flags, session: Session, outcome: Outcome, done: Done, paths: Any) -> None:
    from pipeline.tables import print_json

    clean = session.redactor.text
    if flags.json:
        print_json(_document(flags, replace(outcome, summary=clean(outcome.summary)), done))
        return
    for one in done.asked:
        sys.stdout.write(f"  {clean(str(one))}\n")
    if paths is None:  # nothing was on record, so nothing was told
        sys.stdout.write(f"{clean(outcome.summary)}\n")
    else:
        sys.stdout.write(f"Report: {paths.html}\n")


def _document(flags: Flags, outcome: Outcome, done: Done) -> dict[str, Any]:
    return {
        "run": outcome.run,
        "environment": flags.env,
        "summary": outcome.summary,
        "exit_code": int(outcome.exit),
        "changed": [door.value for door in done.changed],
        "doors": {door.value: _shown(value) for door, value in done.stand.items()},
        "asked": [asdict(one) for one in done.asked],
    }


def _shown(value: SwitchOn | None) -> dict[str, str] | None:
    """Without the proof: it is no secret, and of no use to anybody."""
    return None if value is None else {"who": value.who, "why": value.why, "since": value.since, "run": value.run}


def _beside(run: str) -> str:
    """What becomes of the door when a run is at work; '' where none is."""
    return (
        f"At work now: {run}. It leaves this door closed; `./inv open` opens it when that has ended.\n" if run else ""
    )
