"""The verb `export`: the entries of the journal as lines of JSON, for what collects logs."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import commands
import wiring
from commands import Flags
from pipeline.errors import Exit, PersonNeeded, RecordDamaged, Refused, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pipeline.chain import Head
    from pipeline.journal import JournalReader

_LAST = 2**62
_AFTER = re.compile(r"([0-9]{1,18})(?::([0-9a-f]{64}))?")


def export(flags: Flags, *, since: str = "", security: bool = False, run: str = "", after: str = "") -> int:
    """Writes a line for each entry that was asked for; the chain is verified on the way, from its first entry on.

    Exit 4 at the first break, when what is whole before it is written. `after` is the number of an entry that the
    collector has, or NUMBER:HASH, which is then held against the journal.
    """

    async def verb() -> Exit:
        from pipeline.clock import SystemClock
        from pipeline.window import asked_since

        begin = asked_since(since, SystemClock().now(), longest=None) if since else None
        known = _known(after)
        chosen = wiring.choose(flags.spec, flags.env)
        with wiring.recorded(chosen) as journal:
            _refuse_without(journal, run, flags.env)
            if journal is not None:
                for line in _lines(journal, begin, known, run, security=security, env=flags.env):
                    sys.stdout.write(line + "\n")
                    sys.stdout.flush()
        return Exit.DONE

    return commands.ended(flags, verb)


def _refuse_without(journal: JournalReader | None, run: str, env: str) -> None:
    if journal is None:
        raise Refused(f"{env} has no journal yet", f"`./inv deploy --env {env}` begins one.")
    if run and run not in journal.runs_until(_LAST):
        raise Usage(f"no run {run[:80]} of {env} is on record", f"`./inv history --env {env}` lists them.")


def _known(after: str) -> Head | None:
    """What the collector has. Raises Usage for what is neither a number nor NUMBER:HASH."""
    from pipeline.chain import Head

    if not after:
        return None
    found = _AFTER.fullmatch(after.strip()) if after.isascii() else None
    if found is None:
        raise Usage(
            f"--after {after[:100]!r}: neither the number of an entry nor NUMBER:HASH",
            "`seq`, or `seq` and `hash`, of the last line you have; leave it out for all.",
        )
    return Head(int(found[1]), found[2] or "")


def _lines(
    journal: JournalReader, begin: datetime | None, known: Head | None, run: str, *, security: bool, env: str
) -> Iterator[str]:
    from pipeline import security_log
    from pipeline.chain import Break, as_json_line

    seen, after, heads = 0, known.seq if known else 0, [known] if known and known.hash else []
    try:
        for one in journal.verified(*heads):
            if isinstance(one, Break):
                raise RecordDamaged(f"the record is broken, nothing is exported from there on: {one}")  # noqa: TRY301
            seen = one.seq
            if one.seq > after and run in ("", one.run) and (begin is None or security or one.at >= begin):
                yield from security_log.lines([one], begin) if security else [as_json_line(one)]
    except RecordDamaged as error:
        raise PersonNeeded(str(error), _audit(env)) from error
    if after > seen:
        raise PersonNeeded(f"entry {after}, which you have, is missing: the record ends with entry {seen}", _audit(env))


def _audit(env: str) -> str:
    return f"`./inv audit --env {env}` shows every break. Keep the file, and find out who had access to it."
