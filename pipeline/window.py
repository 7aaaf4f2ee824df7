"""Since when payments are reconciled: what an operator asks for, or where the record says that whole books end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import Usage
from pipeline.events import Entry, Kind
from pipeline.spec import Duration

LONGEST = timedelta(days=30)
"""How far back payments are compared."""

VERB = "reconcile"
_STEP = timedelta(minutes=1)
"""What a clock may be corrected by, unnoticed: less than a comparison allows two clocks to differ."""
_ALLOWED = "An instant with its time zone, like 2026-11-20T08:00:00Z, or a duration like 2h or 3d"


def asked_since(text: str, now: datetime, *, longest: timedelta | None = LONGEST) -> datetime:
    """What `--since` means. Total: raises Usage, and nothing else, for what it does not."""
    since, allowed = _instant(text), _ALLOWED + (f"; at most {longest.days} d." if longest is not None else ".")
    if since is None:
        try:
            seconds = TypeAdapter(Duration).validate_python(text.strip() if text.isascii() else "")
            since = now - timedelta(seconds=seconds)
        except (ValidationError, OverflowError):
            raise Usage(f"--since {text[:80]!r}: neither an instant nor a duration", allowed) from None
    if since >= now:
        raise Usage(f"--since {text}: that is not in the past", allowed)
    if longest is not None and since < now - longest:
        raise Usage(f"--since {text}: longer ago than {longest.days} d", allowed)
    return since


def _instant(text: str) -> datetime | None:
    """None for what is no instant at all. Raises Usage for one whose zone is not said: by hours it would be wrong."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    raise Usage(f"--since {text}: it does not say its time zone", f"UTC is `{found.isoformat()}Z`.")


def since_on_record(entries: Sequence[Entry], environment: str, now: datetime) -> datetime:
    """Where whole books end: everything before was compared and agreed, and no payment of before was unpaid then.

    Only runs of `reconcile` count, for a deploy compares no more than itself; and one that was asked for a shorter
    time counts only where it continues what was whole. One whose clock was ahead counts for nothing: a later entry, or
    the clock now, says an earlier time. Without any, or with none in 30 d, it is 30 d ago.
    """
    runs, whole_until = set[str](), datetime.min.replace(tzinfo=UTC)
    earliest_after = [*accumulate((entry.at for entry in reversed(entries)), min, initial=now)][::-1][1:]
    for entry, earliest in zip(entries, earliest_after, strict=True):
        data = entry.data
        if entry.kind is Kind.RUN_STARTED and (data["verb"], data["environment"]) == (VERB, environment):
            runs.add(entry.run)
        elif entry.kind is Kind.RECONCILED and entry.run in runs and data["ok"]:
            until = datetime.fromisoformat(data["whole_until"])
            continues = datetime.fromisoformat(data["since"]) <= max(whole_until, entry.at - LONGEST)
            if continues and max(until, entry.at) <= min(earliest, entry.at) + _STEP:
                whole_until = until
    return max(whole_until, now - LONGEST)
