"""The verb `audit`: is the record what was written, as far as its chain and all that remembers its heads can tell?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import commands
import wiring
from commands import Flags
from pipeline.errors import Exit, PersonNeeded, RecordDamaged, Refused, TollgateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.chain import Break
    from pipeline.heads import Remembered
    from pipeline.journal import JournalReader

SHOWN = 30
"""Breaks printed for a person; `--json` has all of them."""

_ASIDE = (
    "Only where you know that you put an older journal back, or moved it aside: move `journal.head` and the reports of "
    "the runs that are missing aside as well."
)


def audit(flags: Flags) -> int:
    """Exit 4 when the record is broken or cannot be read, 1 when there is nothing to verify."""

    async def verb() -> Exit:
        from pipeline import heads
        from pipeline.tables import print_json

        chosen = wiring.choose(flags.spec, flags.env)
        remembered, unread = heads.of_reports(chosen.state / "reports")
        breaks, entries, head = _audited(chosen, remembered)
        if entries is None and not breaks:
            raise Refused(f"{flags.env} has no journal yet", f"`./inv deploy --env {flags.env}` begins one.")
        data = {
            "entries": entries or 0,
            "head": head,
            "reports": len(remembered),
            "unread": unread,
            "breaks": breaks,
        }
        if flags.json:
            print_json(data)
        else:
            _print(data)
        return Exit.PERSON_NEEDED if breaks else Exit.DONE

    return commands.ended(flags, verb)


def _audited(chosen: wiring.Chosen, remembered: Sequence[Remembered]) -> tuple[Sequence[Break], int | None, str]:
    """The breaks, how many entries there are (None: there is no journal), and the hash of the last."""
    from pipeline import heads
    from pipeline.chain import Break

    try:
        with wiring.recorded(chosen) as journal:
            if journal is not None:
                return _read(journal, remembered)
    except RecordDamaged as error:
        return [Break(None, "the file cannot be opened", str(error), "the journal that was written")], 0, ""
    except TollgateError as error:
        raise PersonNeeded(f"the record cannot be verified: {error}", error.remedy) from error
    return heads.missing(chosen.journal, remembered), None, ""


def _read(journal: JournalReader, remembered: Sequence[Remembered]) -> tuple[Sequence[Break], int, str]:
    breaks = journal.verify(*remembered)
    if breaks:
        return breaks, 0, ""
    head = journal.head()
    return breaks, head.seq, head.hash if head.seq else ""


def _print(data: Mapping[str, Any]) -> None:
    breaks: Sequence[Break] = data["breaks"]
    for one in breaks[:SHOWN]:
        of = f"\n  entry:    {one.seq}, {one.kind} of run {one.run}" if one.run else ""
        sys.stdout.write(f"BROKEN {one.what}{of}\n  found:    {one.found}\n  expected: {one.expected}\n")
    if len(breaks) > SHOWN:
        sys.stdout.write(f"{len(breaks) - SHOWN} more stand in `--json`.\n")
    for path in data["unread"]:
        sys.stdout.write(f"Note: {path} cannot be read, so the head of its run was not compared.\n")
    if breaks:
        sys.stdout.write("The record was altered. Keep the file, and find out who had access to it.\n")
        if any("missing" in one.what for one in breaks):
            sys.stdout.write(f"{_ASIDE}\n")
        return
    reports = data["reports"]
    compared = f"; {reports} reports have heads of it" if reports > 1 else "; 1 report has its head" * reports
    sys.stdout.write(f"The chain of {data['entries']} entries is whole{compared}. Head: {data['head']}\n")
