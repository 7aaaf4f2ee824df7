"""What a journal remembers, for checks that judge by it: findings and ended runs, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts import PastFinding, PastRun
from pipeline.events import Entry, Kind
from pipeline.verdict import Verdict


class Remembered:
    """`pipeline.contracts.Past` over the entries of a whole journal."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._findings: dict[str, list[PastFinding]] = {}
        self._runs: dict[str, list[PastRun]] = {}
        verbs: dict[str, str] = {}
        for entry in entries:
            match entry.kind:
                case Kind.RUN_STARTED:
                    verbs[entry.run] = str(entry.data["verb"])
                case Kind.FINDING:
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
