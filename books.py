"""The verb `reconcile`: gateway and service compared, what does not agree told with what to do, the repair offered."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import commands
import wiring
from commands import Flags
from pipeline.errors import Exit

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.reconcile import Reconciliation
    from pipeline.reconciling import Books
    from pipeline.run_record import Outcome
    from pipeline.session import Session

SHOWN = 50
"""Rows printed for a person; `--json` has all of them."""


def reconcile(flags: Flags, *, since: str = "", apply: bool = False) -> int:
    """`since` '' goes back to where the record says that whole books end. Without `apply` nothing is sent."""

    async def verb() -> Exit:
        from pipeline import reconciling
        from pipeline.clock import SystemClock
        from pipeline.window import asked_since

        asked = asked_since(since, SystemClock().now()) if since else None
        chosen = wiring.choose_to_go_back(flags.spec, flags.env, sys.stderr.write)
        plan = reconciling.planned(chosen.spec, chosen.name, apply=apply)
        books = reconciling.Books()

        async def compare(session: Session) -> Outcome:
            if apply:
                return await reconciling.apply(session, plan, commands.owner(session), asked, books)
            return await reconciling.look(session, plan, asked, books)

        def tell(session: Session, outcome: Outcome, paths: Any) -> None:
            _tell(flags, session, books, outcome, str(paths.html) if paths is not None else "", offered=not apply)

        return await commands.run(flags, chosen, compare, tell=tell, changes=apply)

    return commands.ended(flags, verb)


def _tell(flags: Flags, session: Session, books: Books, outcome: Outcome, report: str, *, offered: bool) -> None:
    from pipeline.tables import print_json

    clean = session.redactor.text
    if flags.json:
        print_json(_document(flags, books, replace(outcome, summary=clean(outcome.summary)), offered=offered))
        return
    if books.result is not None and books.since is not None:
        _print(flags, books.result, books.since, offered=offered)
    if report:
        sys.stdout.write(f"Report: {report}\n")


def _document(flags: Flags, books: Books, outcome: Outcome, *, offered: bool) -> dict[str, Any]:
    from pipeline.reconciling import offer

    said = {"run": outcome.run, "environment": flags.env, "summary": outcome.summary, "exit_code": int(outcome.exit)}
    result, since = books.result, books.since
    if result is None or since is None:
        return {**said, "agree": None}
    return {
        **said,
        "agree": result.ok,
        "since": since.isoformat(timespec="seconds"),
        "paid": result.paid,
        "activated": result.activated,
        "repaired": list(result.repaired),
        "mismatches": _rows(result),
        "pending": [
            {"reference": one.reference, "cents": one.amount, "since": one.created, "status": one.status}
            for one in result.pending
        ],
        "repair": (offer(flags.env, result, since) or None) if offered else None,
    }


def _rows(result: Reconciliation) -> list[dict[str, Any]]:
    return [{**one.as_data(), "to do": one.todo} for one in result.mismatches]


def _print(flags: Flags, result: Reconciliation, since: datetime, *, offered: bool) -> None:
    from pipeline.reconciling import offer
    from pipeline.tables import print_table

    told = f"compared since {since:%Y-%m-%d %H:%M:%S} UTC: {result.paid} paid, {result.activated} activated"
    sys.stdout.write(f"\nBooks of {flags.env}, {told}\n")
    rows = _rows(result)
    if rows:
        sys.stdout.write("\n")
        print_table([tuple(str(value) for value in row.values()) for row in rows[:SHOWN]], tuple(rows[0]))
    if len(rows) > SHOWN:
        sys.stdout.write(f"{len(rows) - SHOWN} more stand in `--json`.\n")
    if result.repaired:
        sys.stdout.write(f"Delivered again: {_few([*result.repaired])}\n")
    if result.pending:
        named = _few([one.reference for one in result.pending])
        sys.stdout.write(f"Note: pending for more than an hour, most likely left by their customers: {named}\n")
    if offered and (command := offer(flags.env, result, since)):
        sys.stdout.write(f"Repair: `{command}` delivers the webhooks of what is paid and not activated again.\n")


def _few(references: Sequence[str]) -> str:
    from pipeline.words import printable

    more = f" and {len(references) - 10} more" if len(references) > 10 else ""
    return printable(", ".join(references[:10])) + more
