"""The verbs that concern people: `attest` signs for an item, `checklist` and `duties` show what is open."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wiring
from commands import Flags, ended
from pipeline.errors import Exit, Refused, Usage

if TYPE_CHECKING:
    from checks.checklist import Answer, Records
    from pipeline.attestations import Item, Record, Shelf
    from pipeline.duties import Standing
    from pipeline.events import Entry
    from pipeline.revisions import Checkout


# ---- attest ------------------------------------------------------------------------------------------------


def attest(flags: Flags, item: str, *, evidence: str, valid_for: str = "", key: str = "") -> int:
    """Signs for an item and writes `attestations/ENVIRONMENT/ITEM.json` and its `.sig`."""

    async def verb() -> Exit:
        from pipeline import attesting, ssh_signatures
        from pipeline.revisions import checkout

        chosen = wiring.choose(flags.spec, flags.env)
        wanted, shelf = _item(chosen, item), _shelf(chosen)
        lasts = attesting.lasting(wanted, valid_for)
        tree = await checkout(chosen.root)
        await _settled(wanted, tree)
        shown = await asyncio.to_thread(attesting.evidence, chosen.root, evidence)
        with attesting.chosen_key(chosen.root, key) as own:
            by = attesting.signer(shelf, own)
            made = attesting.record(shelf, wanted, by=by, revision=tree.head, shown=shown, lasts=lasts)
            signature = await asyncio.to_thread(
                ssh_signatures.sign,
                made.as_bytes(),
                own,
                typing=sys.stdin is not None and sys.stdin.isatty() and not flags.json,
            )
        await attesting.tried(shelf, made, signature)
        await asyncio.to_thread(attesting.keep, shelf, made, signature)
        _say_signed(flags, shelf, wanted, made, await _to_commit(tree, made))
        return Exit.DONE

    return ended(flags, verb)


def _item(chosen: wiring.Chosen, name: str) -> Item:
    from pipeline.attestations import items
    from pipeline.names import listed, nearest

    known = items(chosen.spec)
    if name in known:
        return known[name]
    guess = nearest(name, known)
    raise Usage(
        f"{name}: pipeline.yaml has no sign-off or duty of this name; it has: {listed(known)}",
        f"Did you mean {guess}?" if guess else "Add it under sign_offs or duties.",
    )


async def _settled(item: Item, tree: Checkout) -> None:
    """Raises Refused where there is no revision to sign for, or not the one that others would see."""
    from pipeline.attestations import FOLDER

    if not tree.head:
        raise Refused(f"a signature names the revision it is for: {tree.problem}", "Commit first, then sign.")
    if item.bound_to == "revision" and not await tree.same_since(tree.head, FOLDER):
        raise Refused(
            f"{item.name} is bound to a revision, and files have changed since the last commit",
            "Commit them first, so that what you sign for is what others see.",
        )


def _shelf(chosen: wiring.Chosen) -> Shelf:
    from pipeline.attestations import Shelf
    from pipeline.clock import SystemClock

    return Shelf(chosen.root, chosen.spec.service, chosen.name, chosen.digest, SystemClock().now())


async def _to_commit(tree: Checkout, made: Record) -> list[str]:
    """What the signature rests on and others do not see yet: the list of signers, the document that was signed."""
    from pipeline.attestations import SIGNERS, KeptEvidence

    rests_on = [SIGNERS, *([made.evidence.path] if isinstance(made.evidence, KeptEvidence) else [])]
    return [path for path in rests_on if not await tree.committed(path)]


def _say_signed(flags: Flags, shelf: Shelf, item: Item, made: Record, to_commit: Sequence[str]) -> None:
    from pipeline.tables import print_json, print_status

    files = [str(path.relative_to(shelf.root)) for path in (shelf.record(made.item), shelf.signature(made.item))]
    if flags.json:
        print_json({**made.model_dump(mode="json"), "files": files, "to_commit": [*files, *to_commit]})
        return
    since = f", since {made.since[:12]}" if made.since else ""
    print_status(
        {
            item.kind: made.item,
            "says": made.statement,
            "for": f"{made.service}, {made.environment}",
            "signed by": made.by,
            "until": made.valid_until[:10],
            "revision": f"{made.revision[:12]}{since}",
            "written": files,
        }
    )
    sys.stdout.write("\nCommit both files: the signature counts wherever they are checked out.\n")
    if to_commit:
        sys.stdout.write(f"It does not count before these are committed as well: {', '.join(to_commit)}\n")


# ---- what is on record -------------------------------------------------------------------------------------


def _recorded(chosen: wiring.Chosen) -> Sequence[Entry]:
    """Raises TollgateError where the record was altered: it answers for nothing then."""
    from pipeline.past import whole_record

    with wiring.recorded(chosen) as journal:
        return whole_record(journal, chosen.name)


async def _records(chosen: wiring.Chosen) -> Records:
    """All that answers for a line of the checklist."""
    from checks.checklist import Records
    from checks.guide import LINES
    from pipeline.attestations import items, standing
    from pipeline.duties import standings
    from pipeline.past import Remembered

    shelf, entries = _shelf(chosen), _recorded(chosen)
    past, attested = Remembered(entries, chosen.name), await standing(shelf, items(chosen.spec).values())
    verbs = {verb for line in LINES for verb in line.runs}
    whole = _whole(chosen, entries)
    return Records(
        spec=chosen.spec,
        environment=chosen.name,
        now=shelf.now,
        checks=frozenset(chosen.tables.checks),
        findings=_last_findings(entries, chosen.name),
        runs={verb: runs[0] for verb in verbs if (runs := [one for one in past.runs(verb) if one.run in whole])},
        attested=attested,
        duties={one.name: one for one in standings(chosen.spec.duties, attested, past, shelf.now)},
    )


def _whole(chosen: wiring.Chosen, entries: Sequence[Entry]) -> frozenset[str]:
    """The runs that left out nothing: all but validations with `--offline`, or of before a gate was added."""
    from pipeline.events import Kind
    from pipeline.spec import CheckStep

    asked = {
        f"check {step.check}"
        for step in chosen.spec.steps("gates")
        if isinstance(step, CheckStep) and chosen.tables.checks[step.check].network
        if step.only is None or chosen.name in step.only
    }
    found = set()
    for entry in entries:
        if entry.kind is Kind.RUN_STARTED:
            did = {step["does"] for stage in entry.data["plan"]["stages"] for step in stage["steps"]}
            if entry.data["verb"] != "validate" or asked <= did:
                found.add(entry.run)
    return frozenset(found)


def _last_findings(entries: Sequence[Entry], environment: str) -> Mapping[str, Any]:
    """The newest finding of each check in the runs of an environment.

    What a deploy found of its new release counts only where that release stayed; gates, and the proofs on a way back,
    judge what is there in any case.
    """
    from checks.checklist import LastFinding
    from pipeline.accepting import State
    from pipeline.events import Kind
    from pipeline.verdict import Verdict

    found: dict[str, LastFinding] = {}
    verbs: dict[str, str] = {}
    going_back: set[str] = set()
    stayed = {one.run for one in entries if one.kind is Kind.RUN_FINISHED and one.data.get("outcome") == "done"}
    for entry in entries:
        if entry.kind is Kind.RUN_STARTED and entry.data.get("environment") == environment:
            verbs[entry.run] = str(entry.data.get("verb"))
        if entry.kind is Kind.WAYBACK_STARTED:
            going_back.add(entry.run)
        if entry.kind is Kind.FINDING and entry.run in verbs:
            of_release = verbs[entry.run] == "deploy" and entry.data.get("stage") not in ("gates", "build")
            if of_release and entry.run not in stayed | going_back:
                continue
            accepted = entry.data.get("accepted") or {}
            counts = accepted.get("state") == State.COUNTS
            found[str(entry.data["check"])] = LastFinding(
                Verdict(entry.data["verdict"]),
                entry.at,
                entry.run,
                str(entry.data.get("reason", "")),
                str(entry.data.get("remedy", "")),
                str(accepted["by"]) if counts else "",
                str(accepted["until"]) if counts else "",
            )
    return found


# ---- checklist ---------------------------------------------------------------------------------------------


def checklist(flags: Flags, *, strict: bool = False) -> int:
    """Every line of the guide with what answers for it; with `strict` exit 1 while one is open."""

    async def verb() -> Exit:
        from checks.checklist import Status, answers
        from checks.guide import LINES
        from pipeline.tables import print_json

        chosen = wiring.choose(flags.spec, flags.env)
        found = answers(LINES, await _records(chosen))
        counts = {status.value: sum(one.status is status for one in found) for status in Status}
        if flags.json:
            print_json({"environment": chosen.name, **counts, "lines": [_line_data(one) for one in found]})
        else:
            _print_checklist(chosen.name, found, counts)
        return Exit.REFUSED if strict and counts[Status.OPEN.value] else Exit.DONE

    return ended(flags, verb)


def _line_data(answer: Answer) -> dict[str, Any]:
    parts = [
        {
            "kind": part.kind,
            "name": part.name,
            "holds": part.holds,
            "told": _joined(part.told, [part.name], part.detail),
            "do": part.do,
            "run": part.run,
            "at": part.at,
        }
        for part in answer.parts
    ]
    return {"row": answer.line.row, "text": answer.line.text, "status": answer.status.value, "by": parts}


def _print_checklist(environment: str, found: Sequence[Answer], counts: Mapping[str, int]) -> None:
    from checks.checklist import Status
    from checks.guide import TITLES

    told = ", ".join(f"{number} {status}" for status, number in counts.items())
    _say(f"The guide's checklist for {environment}: {len(found)} lines, {told}")
    runs = _numbered_runs(found)
    for run, number in runs.items():
        sys.stdout.write(f"  [{number}] run {run}\n")
    row = ""
    for answer in found:
        if answer.line.row != row:
            row = answer.line.row
            sys.stdout.write(f"\n{row:<5}{TITLES[row]}\n")
        mark = "OPEN" if answer.status is Status.OPEN else answer.status.value
        _say(answer.line.text, f"  {mark:<11}", " " * 13)
        for line in _told(answer, runs):
            _say(line, " " * 13, " " * 15)
    if counts[Status.OPEN.value]:
        sys.stdout.write("\n")
        _say("A line is open until all that it names holds. Each says what to do.")


def _numbered_runs(found: Sequence[Answer]) -> Mapping[str, int]:
    """The runs that the lines speak of, newest first; an id begins with its instant."""
    runs = {part.run for answer in found for part in answer.parts if part.run}
    return {run: number for number, run in enumerate(sorted(runs, reverse=True), 1)}


def _told(answer: Answer, runs: Mapping[str, int]) -> list[str]:
    """How its parts stand, those that stand alike in one line; then each way to mend what does not hold."""
    from checks.checklist import Status

    alike: dict[tuple[str, str], list[str]] = {}
    for part in sorted(answer.parts, key=lambda part: not part.holds):
        when = f" ({part.at:%Y-%m-%d} [{runs[part.run]}])" if part.run and part.at else ""
        alike.setdefault((f"{part.told}{when}", part.detail), []).append(part.name)
    lines = [_joined(told, names, detail) for (told, detail), names in alike.items()]
    if answer.status is Status.OPEN:
        missing = [part for part in answer.parts if not part.holds] or [p for p in answer.parts if not p.proves]
        lines += [f"Do: {do}" for do in dict.fromkeys(part.do for part in missing)]
    return lines


def _joined(told: str, names: Sequence[str], detail: str) -> str:
    line = f"{told} {', '.join(names)}".strip()
    return f"{line}: {detail}" if detail else line


def _say(text: str, first: str = "", other: str = "") -> None:
    """Prints text folded to the terminal; `first` and `other` stand before its lines."""
    import shutil

    from pipeline.words import fold, printable

    room = min(shutil.get_terminal_size((100, 24)).columns, 110) - max(len(first), len(other))
    for number, line in enumerate(fold(printable(text), room)):
        sys.stdout.write(f"{other if number else first}{line}\n")


# ---- duties ------------------------------------------------------------------------------------------------


def duties(flags: Flags) -> int:
    """The recurring work with its last record and due date; exit 1 while one is overdue."""

    async def verb() -> Exit:
        from pipeline.duties import how_to_do
        from pipeline.tables import print_json

        chosen = wiring.choose(flags.spec, flags.env)
        records = await _records(chosen)
        found = list(records.duties.values())
        late = [one for one in found if one.overdue]
        commands = {one.name: how_to_do(chosen.spec, chosen.name, one) for one in found}
        if flags.json:
            rows = [{**_duty_data(one), "do": commands[one.name]} for one in found]
            print_json({"environment": chosen.name, "overdue": len(late), "duties": rows})
        else:
            _print_duties(chosen.name, records.now, found, commands)
        _tell_job(chosen.name, records.now, found, commands)
        return Exit.REFUSED if late else Exit.DONE

    return ended(flags, verb)


def _duty_data(one: Standing) -> dict[str, Any]:
    from pipeline.duties import days

    return {
        "duty": one.name,
        "title": one.title,
        "every": days(one.every),
        "last": one.last,
        "due": one.due,
        "by": one.by,
        "overdue": one.overdue,
        "note": one.note,
    }


def _print_duties(environment: str, now: datetime, found: Sequence[Standing], commands: Mapping[str, str]) -> None:
    from pipeline.tables import print_table

    late = [one for one in found if one.overdue]
    if not found:
        sys.stdout.write("pipeline.yaml lists no duties. Add the recurring work under duties.\n")
        return
    sys.stdout.write(f"Duties of {environment} on {now:%Y-%m-%d}: {len(found)}, of which {len(late)} overdue\n\n")
    print_table([_row(one) for one in found], _HEADERS)
    for one in late:
        sys.stdout.write(f"\n{one.name}\n")
        _say(one.title, "  ", "  ")
        if one.note:
            _say(f"A record lies there, but it does not count: {one.note}", "  ", "  ")
        _say(f"Then: {commands[one.name]}", "  ", "  ")


_HEADERS = ("", "duty", "every", "last", "due", "by")


def _row(one: Standing) -> tuple[str, ...]:
    from pipeline.duties import days

    last = f"{one.last:%Y-%m-%d}" if one.last else "never"
    due = f"{one.due:%Y-%m-%d}" if one.due else "now"
    return ("OVERDUE" if one.overdue else "ok", one.name, days(one.every), last, due, one.by)


def _tell_job(environment: str, now: datetime, found: Sequence[Standing], commands: Mapping[str, str]) -> None:
    """In a workflow: the table in the summary of the job, and a warning for each duty that is overdue."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(_summary(environment, now, found, commands))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from pipeline.console import escape_data

        for one in found:
            if one.overdue:
                told = f"{one.name} is overdue in {environment}: {one.title}"
                sys.stderr.write(f"::warning title=Duty overdue::{escape_data(told)}\n")


def _summary(environment: str, now: datetime, found: Sequence[Standing], commands: Mapping[str, str]) -> str:
    lines = [f"## Duties of {environment} on {now:%Y-%m-%d}", "", "| | duty | every | last | due | by |"]
    lines += ["|---|---|---|---|---|---|", *(f"| {' | '.join(map(_cell, _row(one)))} |" for one in found), ""]
    for one in found:
        if one.overdue:
            lines.append(f"- **{_cell(one.name)}**: {_cell(one.title)} Then `{commands[one.name]}`.")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Text that is only text in Markdown."""
    from pipeline.words import one_line, printable

    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", one_line(printable(text)))
