"""The verb `probe`: sends what strangers, attackers and a gateway in trouble may send, and shows what came of it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import commands
import wiring
from commands import Flags
from pipeline.errors import Exit, Usage

if TYPE_CHECKING:
    from checks.probes.probe import Probe
    from pipeline.events import Entry
    from pipeline.plan import Plan
    from pipeline.run_record import Outcome
    from pipeline.session import Session
    from pipeline.spec import CheckStep

CHECKS = {"webhook": "webhook.withstands_probes", "payment": "payment.withstands_probes"}
"""Which check plays the probes whose names begin so."""
MODES = ("initialise", "card")
LIMIT = "10 min"
"""For each check; a service far away takes its time."""


def probe(flags: Flags, *, only: str = "", mode: str = "", cap: str = "", listing: bool = False) -> int:
    """Plays the probes against the live release, or lists them. Ends as `verify` does."""

    async def verb() -> Exit:
        from pipeline import runner

        if listing:
            _list(flags)
            return Exit.DONE
        chosen = wiring.choose(flags.spec, flags.env)
        plan = planned(chosen, only=only, mode=mode, cap=cap)
        entries: list[Entry] = []

        async def played(session: Session) -> Outcome:
            try:
                return await runner.look(session, plan)
            finally:
                entries.extend(session.journal.entries(session.recorder.run))

        code = await commands.run(flags, chosen, played)
        if not flags.json:
            show(found_by(entries))
        return code

    return commands.ended(flags, verb)


# ---- what is asked -----------------------------------------------------------------------------------------


def planned(chosen: wiring.Chosen, *, only: str = "", mode: str = "", cap: str = "") -> Plan:
    """The checks that play the probes, whether pipeline.yaml names them or not. Raises Usage for what does not exist.

    By default smoke payments are paid by card in the sandbox, and nowhere else.
    """
    from pipeline.plan import of_checks

    mode = mode or ("card" if chosen.in_sandbox else "initialise")
    if mode not in MODES:
        raise Usage(f"--mode: found {mode!r}; {' or '.join(MODES)} is allowed")
    settings: dict[str, object] = {"mode": mode}
    if cap:
        settings["cap"] = _cents(cap)
    names = _names(only)
    steps = [
        _step(check, {**settings, **({"only": [n for n in names if _theme(n) == theme]} if names else {})})
        for theme, check in CHECKS.items()
        if not names or any(_theme(name) == theme for name in names)
    ]
    return of_checks(chosen.spec, chosen.name, chosen.tables.checks, steps, verb="probe")


def _step(check: str, settings: Mapping[str, object]) -> CheckStep:
    import json

    from pipeline.spec import CheckStep

    return CheckStep.model_validate_json(json.dumps({"check": check, "with": settings, "timeout": LIMIT}))


def _cents(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise Usage(f"--cap: found {text!r}; a whole number of cents is allowed")
    return int(text)


def _names(only: str) -> Sequence[str]:
    """The probes named, in their order; () for all of them. Raises Usage for one that does not exist."""
    from checks.probes.table import PROBES
    from pipeline.names import nearest

    named = list(dict.fromkeys(part.strip() for part in only.split(",") if part.strip()))
    if only and not named:
        raise Usage("--only: names of probes are expected, with commas between them", "`./inv probe --list`")
    for name in named:
        if name not in PROBES:
            guess = nearest(name, PROBES)
            hint = f"Did you mean {guess}? " if guess else ""
            raise Usage(f"--only: there is no probe {name[:80]!r}", f"{hint}`./inv probe --list` shows all.")
    return named


def _theme(name: str) -> str:
    return name.partition(".")[0]


# ---- what was found ----------------------------------------------------------------------------------------


def found_by(entries: Sequence[Entry]) -> Sequence[Mapping[str, Any]]:
    """What the checks of a run found, with the probes in their evidence; as it is on record, without any secret."""
    from pipeline.events import Kind

    return [entry.data for entry in entries if entry.kind is Kind.FINDING and entry.data["check"] in CHECKS.values()]


def show(findings: Sequence[Mapping[str, Any]]) -> None:
    """Prints a line for each probe, below them what failed with its fix, what was skipped and why, and the totals."""
    from pipeline.tables import print_table
    from pipeline.words import count

    if not findings:
        return
    rows = [row for finding in findings for row in finding["evidence"].get("probes", ())]
    sys.stdout.write("\n")
    if rows:
        print_table([_row(row) for row in rows], _HEADERS)
    for row in rows:
        if row["verdict"] not in _GOOD:
            _say(f"{row['verdict']} {row['name']} ({row['severity']})", "\n")
            _say(str(row["reason"]), "    ")
            _say(f"Fix: {row['fix']}", "    ")
    _show_skipped(rows)
    for finding in findings:
        _show_unproven(finding)
    told = Counter(str(row["verdict"]) for row in rows)
    totals = ", ".join(f"{told[verdict]} {verdict}" for verdict in _WORST_FIRST if told[verdict])
    _say(f"{count(len(rows), 'probe')}: {totals or 'none was played'}", "\n")


_HEADERS = ("verdict", "probe", "came back", "ms")
_GOOD = ("PASS", "ADVICE", "SKIPPED")
_WORST_FIRST = ("FAIL", "ERROR", "INCONCLUSIVE", *_GOOD)


def _row(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    took = f"{row['took_ms']:.0f}" if row["statuses"] else "-"
    return (row["verdict"], row["name"], _came_back(row["statuses"]), took)


def _came_back(statuses: Mapping[str, int]) -> str:
    """`401`, `200 x50`, `422 400`, `closed`."""
    return " ".join(f"{status} x{times}" if times > 1 else status for status, times in statuses.items()) or "-"


def _show_skipped(rows: Sequence[Mapping[str, Any]]) -> None:
    why: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"] == "SKIPPED":
            why.setdefault(str(row["reason"]), []).append(str(row["name"]))
    for reason, names in why.items():
        _say(f"SKIPPED {', '.join(names)}", "\n")
        _say(reason, "    ")


def _show_unproven(finding: Mapping[str, Any]) -> None:
    """What no probe says of itself: that nothing was played, or that the control was not accepted."""
    evidence = finding["evidence"]
    if finding["verdict"] in _GOOD:
        return
    if not evidence.get("probes"):
        _say(f"{finding['verdict']} {finding['check']}", "\n")
        _say(str(finding["reason"]), "    ")
        _say(f"Fix: {finding['remedy']}", "    ")
    elif any(not (status.startswith("2") or status == "404") for status in evidence["control"]):
        first, last = evidence["control"]
        _say(f"{finding['check']}: the control, a correctly signed webhook, must be accepted", "\n")
        _say(f"It was answered {first} before the probes and {last} after them: no refusal proves anything.", "    ")
        _say(f"Fix: {finding['remedy'].partition(chr(10))[0]}", "    ")


def _say(text: str, before: str) -> None:
    """Prints text folded to the terminal, after a line break or with an indent."""
    import shutil

    from pipeline.words import fold, printable

    indent = before.replace("\n", "")
    sys.stdout.write(before.replace(" ", ""))
    room = min(shutil.get_terminal_size((80, 24)).columns, 110) - len(indent)
    for line in fold(printable(text), room):
        sys.stdout.write(f"{indent}{line}\n")


# ---- what there is -----------------------------------------------------------------------------------------


def _list(flags: Flags) -> None:
    from checks.probes.table import PROBES
    from pipeline.tables import print_json, print_table

    if flags.json:
        print_json([_data(probe) for probe in PROBES.values()])
        return
    print_table([(p.name, p.severity.value, p.sends) for p in PROBES.values()], ("probe", "severity", "sends"))
    sys.stdout.write("\n")
    _say(f"{len(PROBES)} probes. docs/probes.md says what a careful service answers to each.", "")


def _data(probe: Probe) -> dict[str, Any]:
    from checks.probes.judging import allowed

    return {
        "probe": probe.name,
        "severity": probe.severity.value,
        "sends": probe.sends,
        "allowed": allowed(probe),
        "leaves": probe.effect.value if probe.effect else None,
        "needs": sorted(need.value for need in probe.needs),
        "fix": probe.fix,
    }
