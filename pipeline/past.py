"""What a journal remembers, for checks that judge by it: findings and ended runs, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts import PastFinding, PastRun
from pipeline.errors import TollgateError
from pipeline.events import Entry, Kind
from pipeline.journal import JournalReader
from pipeline.verdict import Verdict


class Remembered:
    """`pipeline.contracts.Past` over the entries of a whole journal.

    `environment`: runs of any other are left out, as where a journal was copied from beside another environment.
    """

    def __init__(self, entries: Sequence[Entry], environment: str = "") -> None:
        self._findings: dict[str, list[PastFinding]] = {}
        self._runs: dict[str, list[PastRun]] = {}
        verbs: dict[str, str] = {}
        for entry in entries:
            match entry.kind:
                case Kind.RUN_STARTED:
                    if environment in ("", entry.data.get("environment")):
                        verbs[entry.run] = str(entry.data["verb"])
                case Kind.FINDING if entry.run in verbs:
                    one = PastFinding(
                        entry.at,
                        entry.run,
                        str(entry.data["check"]),
                        Verdict(entry.data["verdict"]),
                        entry.data["evidence"],
                    )
                    self._findings.setdefault(one.check, []).append(one)
                case Kind.RUN_FINISHED if entry.run in verbs:
                    verb = verbs[entry.run]
                    run = PastRun(entry.at, entry.run, verb, str(entry.data["outcome"]))
                    self._runs.setdefault(verb, []).append(run)
                case _:
                    pass

    def findings(self, check: str) -> Sequence[PastFinding]:
        return self._findings.get(check, [])[::-1]

    def runs(self, verb: str) -> Sequence[PastRun]:
        return self._runs.get(verb, [])[::-1]


def whole_record(journal: JournalReader | None, environment: str) -> Sequence[Entry]:
    """Every entry of an environment's journal, oldest first; none where there is no journal.

    Raises TollgateError when the chain is broken: what was altered proves nothing.
    """
    if journal is None:
        return ()
    if broken := journal.verify():
        raise TollgateError(
            f"the record of {environment} is not what was written, so nothing is judged by it: {broken[0].what}",
            f"`./inv audit --env {environment}` shows every break. Find out who changed the file, then put it back "
            "from a backup, or move it away: then what it proved has to be proved anew.",
        )
    return journal.entries()


def remembered(journal: JournalReader | None, environment: str) -> Remembered:
    """What an environment's journal proves. Raises TollgateError as `whole_record` does."""
    return Remembered(whole_record(journal, environment), environment)
