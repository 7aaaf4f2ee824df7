"""What a person sees of a run while it goes on: a live terminal, plain lines, or a GitHub Actions log.

Every text of an event passes the redactor and loses its control characters before it is laid out, so that neither a
wrapped line nor a command's output can carry a secret or forge a line. Listeners only listen; none steers a run.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pipeline import story
from pipeline.accepting import State
from pipeline.contracts import SwitchName
from pipeline.events import Entry, Event, Kind, Output
from pipeline.qr import as_lines, modules
from pipeline.quickness import Quickness, quickness
from pipeline.shut_doors import stays_shut
from pipeline.telling import Manner
from pipeline.words import Redacts, count, each_text, fold, one_line, printable, sentence, took

ConsoleKind = Literal["terminal", "plain", "github"]
_BLOCKING = ("FAIL", "ERROR", "INCONCLUSIVE")
_BAD_OUTCOMES = ("failed", "timed out")
_KEPT_LINES = 20
"""How many of a command's last lines are shown when it fails (its output is not kept in the journal)."""
_LIVE_LINES = 3
_PASSING_EVERY_S = 15.0
"""How often a countdown is shown where its lines cannot take each other's place."""
_OF_ONE_FINDING = 3
_OF_ONE_LEVEL = 7
"""Annotations of findings. GitHub shows ten of a level for a step: the others are for what a person must do."""


def choose(environment: Mapping[str, str], stream: TextIO) -> ConsoleKind:
    """Which listener fits: GitHub Actions says so itself, a terminal that can move its cursor is live, else plain."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return "github"
    if stream.isatty() and environment.get("TERM") != "dumb":
        return "terminal"
    return "plain"


def listener(
    kind: ConsoleKind,
    stream: TextIO,
    *,
    redactor: Redacts,
    environment: Mapping[str, str] = os.environ,
    width: int | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ConsoleListener:
    """The listener of a kind. Use it as a context manager: `close()` gives the terminal back also after an error.

    `environment` is asked for NO_COLOR and COLUMNS. `width` (columns) and `now` are for what the terminal would say.
    """
    match kind:
        case "terminal":
            console = Console(
                file=stream,
                force_terminal=True,
                width=width,
                no_color=bool(environment.get("NO_COLOR")),
                highlight=False,
                markup=False,
                emoji=False,
                _environ=environment,
            )
            return Terminal(console, redactor, now)
        case "plain":
            return Plain(stream, redactor, now)
        case "github":
            return GitHub(stream, redactor, now)


@dataclass
class _Running:
    """A step that has begun and not ended, as the console follows it."""

    stage: str
    step: str
    since: datetime
    limit_s: float | None
    attempt: int
    finding: Mapping[str, Any] | None
    armed: list[str]
    lines: deque[str]
    passing: str = ""
    passed_at: datetime | None = None


class ConsoleListener:
    """Follows a run: which steps are under way, what they found, what came before. Kinds of console lay it out."""

    def __init__(self, redactor: Redacts) -> None:
        self._redactor = redactor
        self._forget()

    def _forget(self) -> None:
        self._entries: list[Entry] = []
        self._running: dict[tuple[str, str], _Running] = {}
        self._ended_steps: set[str] = set()
        self._start: datetime | None = None
        self._stage_begun: Entry | None = None
        self._errors: list[story.FirstError] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the output; safe to repeat."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Output):
            self._output(replace(event, line=self._clean(event.line).replace("\n", " ")))
            return
        if event.kind is Kind.NOTICE and self._start is None:
            return  # of a run that has ended: whoever waits for it tells
        entry = replace(event, data=each_text(event.data, self._clean))
        self._start = self._start or entry.at
        self._entries.append(entry)
        self._follow(entry)
        for one in self._worth_telling(entry):
            self._entry(one)
        if entry.kind is Kind.STEP_FINISHED:
            self._running.pop(_key(entry), None)
            self._ended_steps.add(str(entry.data.get("step")))
        if entry.kind is Kind.RUN_FINISHED:
            self._finished(story.build(self._entries))
            self._forget()

    def _worth_telling(self, entry: Entry) -> tuple[Entry, ...]:
        """A stage is told with the first that happens in it: of one where nothing is left to do nothing is told."""
        if entry.kind is Kind.STAGE_STARTED:
            self._stage_begun = entry
            return ()
        begun, self._stage_begun = self._stage_begun, None
        if begun is None:
            return (entry,)
        return () if entry.kind is Kind.STAGE_FINISHED else (begun, entry)

    def _short(self, text: str) -> str:
        """The text with every error that was told already named by its step, not told again."""
        for error in self._errors:
            text = error.named_in(text)
        return text

    def _clean(self, text: str) -> str:
        return self._redactor.text(printable(text))

    def _follow(self, entry: Entry) -> None:
        data = entry.data
        match entry.kind:
            case Kind.STEP_STARTED:
                limit, attempt = data.get("limit_s"), data.get("attempt")
                self._running[_key(entry)] = _Running(
                    stage=str(data.get("stage")),
                    step=str(data.get("step")),
                    since=entry.at,
                    limit_s=limit if isinstance(limit, int | float) else None,
                    attempt=attempt if isinstance(attempt, int) else 1,
                    finding=None,
                    armed=[],
                    lines=deque(maxlen=_KEPT_LINES),
                )
            case Kind.FINDING:
                if running := self._running.get(_key(entry)):
                    running.finding = data
                if data.get("verdict") in _BLOCKING:
                    self._errors.append(_error(data, str(data.get("reason") or "")))
            case Kind.STEP_FINISHED if data.get("error"):
                self._errors.append(_error(data, _why_not(data)))
            case Kind.WAYBACK_STARTED:
                self._running.clear()
            case Kind.CHECKPOINT_ARMED if running := self._running.get(_key(entry)):
                running.armed.append(str(data.get("name")))
            case _:
                pass

    def _quick(self, entry: Entry) -> Quickness | None:
        return quickness(self._entries) if entry.kind is Kind.REOPENED else None

    def _since_start(self, entry: Entry) -> float:
        return (entry.at - (self._start or entry.at)).total_seconds()

    def _output(self, output: Output) -> None:
        raise NotImplementedError

    def _entry(self, entry: Entry) -> None:
        raise NotImplementedError

    def _finished(self, report: story.RunReport) -> None:
        raise NotImplementedError


def _due(running: _Running, now: datetime) -> bool:
    """Whether it is time for another line of a step's countdown."""
    if running.passed_at and (now - running.passed_at).total_seconds() < _PASSING_EVERY_S:
        return False
    running.passed_at = now
    return True


def _key(entry: Entry) -> tuple[str, str]:
    return str(entry.data.get("stage")), str(entry.data.get("step"))


def _error(data: Mapping[str, Any], error: str) -> story.FirstError:
    return story.FirstError(str(data.get("stage")), str(data.get("step")), error, str(data.get("remedy") or ""))


def _mark(data: Mapping[str, Any], finding: Mapping[str, Any] | None) -> str:
    """One word for how a step ended: the mark of a check that came to its end, else the outcome."""
    outcome = str(data.get("outcome"))
    return _finding_mark(finding) if finding and outcome in story.JUDGED else outcome


def _finding_mark(finding: Mapping[str, Any]) -> str:
    accepted = finding.get("accepted")
    counts = isinstance(accepted, Mapping) and accepted.get("state") == State.COUNTS
    return story.ACCEPTED if counts else str(finding.get("verdict"))


def _accepted_by(finding: story.FindingLine) -> str:
    """Who answers for a finding, why, and until when."""
    one = finding.accepted
    return f"until {one.until} by {one.by}: {sentence(one.reason)}" if one else ""


def _not_needed(report: story.RunReport) -> list[str]:
    """Acceptances of what passes by now."""
    return [
        f"{one.check} passes: take its entry out of `accepted` in pipeline.yaml."
        for one in report.accepted
        if one.accepted and one.accepted.state is State.NOT_NEEDED
    ]


def _steps_of(plan: object, stage: str) -> int | None:
    """How many steps the plan gives a stage."""
    stages = plan.get("stages") if isinstance(plan, Mapping) else None
    for one in stages if isinstance(stages, list) else []:
        if isinstance(one, Mapping) and one.get("name") == stage and isinstance(one.get("steps"), list):
            return len(one["steps"])
    return None


# ---- what the entries that are not steps say, for every kind of console -------------------------------------


def _story_line(entry: Entry, short: Callable[[str], str], quick: Quickness | None = None) -> tuple[str, str] | None:
    """A mark and a sentence for an entry of a run's frame and of its way back; None for what is told elsewhere.

    `short` names what was told already instead of telling it again; `quick` is how quick a way back was.
    """
    data = {key: "" if value is None else value for key, value in entry.data.items()}
    match entry.kind:
        case Kind.LEASE_TAKEN if data.get("from_dead_owner"):
            return "note", f"The lease was taken over from {data['from_dead_owner']}, which is no longer alive."
        case Kind.RUN_FAILED:
            place = " / ".join(str(part) for part in (data.get("stage"), data.get("step")) if part)
            return "failed", place or short(str(data.get("error", "")))  # a step has just said why
        case Kind.RELEASE_MARKED:
            why = short(str(data.get("why", "")))
            by_this_run = not why or entry.run in why
            return str(data.get("state")), f"release {data.get('release')}" + ("" if by_this_run else f": {why}")
        case Kind.WAYBACK_STARTED:
            to = f"back to release {data['release']}" if data.get("release") else "there is no release to go back to"
            return "way back", f"{short(str(data.get('why')))}; {to}"
        case Kind.PAYMENTS_CLOSED:
            return "closed", "No new payments are taken; webhooks stay open."
        case Kind.DOOR_CLOSED | Kind.DOOR_OPENED:
            return _door(entry.kind, data)
        case Kind.CHECKPOINT_CONFIRMED:
            return _confirmed(data)
        case Kind.RECONCILED:
            return _reconciled(data)
        case Kind.REOPENED:
            release = data.get("release")
            told = f"Release {release} takes payments again" if release else "No release is live, as before"
            tests = " in test mode, no money moves" if release and data.get("test_mode") else ""
            mark = "closed" if quick and quick.shut else "open"  # what a person closed, this run does not open
            return mark, f"{quick}{tests}." if quick and str(quick) else f"{told}{tests}{_after(data)}."
        case Kind.CLOSED if str(data.get("how")).startswith(story.NOT_CLOSED):
            return "NOT CLOSED", f"The service is {data['how']}"
        case Kind.CLOSED:  # why is told by what stands before it, and by the manual steps at the end
            return "CLOSED", f"The service stays closed ({data.get('how')})."
        case Kind.RECORD_BROKEN:
            return "BROKEN", f"{data.get('told')}. `./inv audit` shows every break."
        case Kind.NOTICE if data.get("ok") != "":
            ok = data.get("ok") is True
            return ("told" if ok else "NOT TOLD"), f"{data.get('to')}: {data.get('error') or story.notice_of(data)}"
        case Kind.RUN_SUPERSEDED:
            return "note", f"Run {data.get('of_run')}, left unfinished, was put right by run {data.get('by_run')}."
        case _:
            return None


def _door(kind: Kind, data: Mapping[str, Any]) -> tuple[str, str]:
    door, who = str(data.get("door")), data.get("who")
    opened, tests = kind is Kind.DOOR_OPENED, door == SwitchName.TEST_MODE
    mark = ("test off" if opened else "test mode") if tests else ("open" if opened else "closed")
    told = f"closed since {data.get('since')} by {who}" if opened else f"by {who}, until a person opens it"
    return mark, f"{door}, {told}: {data.get('why')}"


def _after(data: Mapping[str, Any]) -> str:
    seconds = data.get("took_s")
    return f", {took(seconds)} after the decision" if isinstance(seconds, int | float) else ""


def _confirmed(data: Mapping[str, Any]) -> tuple[str, str]:
    if data.get("ok") is True and stays_shut(data):
        return "closed", f"{data.get('found')}; a person opens it"
    if data.get("ok") is True:
        return "restored", f"{data.get('name')}: read again and confirmed"
    said = [f"found {data['found']}" if data.get("found") else "", str(data.get("error") or "")]
    expected = f"expected {data['expected']}" if data.get("expected") else ""
    return "NOT RESTORED", f"{data.get('name')}: " + "; ".join(part for part in (*said, expected) if part)


def _reconciled(data: Mapping[str, Any]) -> tuple[str, str]:
    repaired = data.get("repaired") or []
    told = f"{data.get('paid')} paid at the gateway, {data.get('activated')} activated"
    if repaired:
        told += f", {count(len(repaired), 'activation')} caught up"
    if data.get("ok") is True:
        return "reconciled", told
    wrong = [
        f"{one.get('reference')}: found {one.get('found')}, expected {one.get('expected')}"
        for one in data.get("mismatches") or []
        if isinstance(one, Mapping)
    ]
    return "NOT EQUAL", "; ".join([told, *wrong, *([str(data["error"])] if data.get("error") else [])])


def _title(entry: Entry) -> str:
    data = entry.data
    resumed = ", resumed" if data.get("resumes") else ""
    return f"{data.get('verb')} {data.get('service')} to {data.get('environment')}{resumed}"


def _header(entry: Entry) -> list[str]:
    """What stands under the title of a run; what is not recorded is left out."""
    data = entry.data
    said = [("release", data.get("release")), ("last verified", data.get("previous")), ("reason", data.get("reason"))]
    lines = [f"{name} {value}" for name, value in said if value]
    return [*lines, *(["what was done before is not done again"] if data.get("resumes") else [])]


def _ended(report: story.RunReport) -> str:
    return f"{report.outcome or 'ended'} (exit {report.exit_code}) after {took(report.took_s)}"


def _what_to_do(report: story.RunReport) -> str:
    """The first error's remedy, else what the report says; where a person must act, the manual steps say it last."""
    remedy = report.first_error.remedy if report.first_error else ""
    return remedy or ("" if report.closed else " ".join(report.answers.todo))


def _numbered(report: story.RunReport) -> list[str]:
    return [f"{number}. {step}" for number, step in enumerate(report.closed.manual if report.closed else (), 1)]


def _why_not(data: Mapping[str, Any]) -> str:
    """A step's error without the step's name, which stands before it already."""
    return str(data.get("error") or "").removeprefix(f"{data.get('step')}: ")


# ---- plain lines ---------------------------------------------------------------------------------------------


class Plain(ConsoleListener):
    """One line for each event that matters, with the time since the start of the run."""

    def __init__(
        self, stream: TextIO, redactor: Redacts, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(redactor)
        self._stream = stream
        self._now = now
        self._at = 0.0

    def _line(self, text: str, indent: str = "") -> None:
        self._stream.write(f"[{self._at:7.1f} s] {indent}{one_line(text)}\n")
        self._stream.flush()

    def _output(self, output: Output) -> None:
        # An output line carries no time: it is shown with that of the last entry, or with now where a check waits.
        at = self._at
        if output.manner is not None:
            now = self._now()
            at = max(at, (now - (self._start or now)).total_seconds())
            running = self._running.get((output.stage, output.step))
            if output.manner is Manner.PASSING and not (running and _due(running, now)):
                return
            self._at = at  # what follows without a time of its own is not earlier
        place = ": ".join(part for part in (output.stage, output.step) if part)
        self._stream.write(f"[{at:7.1f} s] {place} | {one_line(output.line)}\n")
        self._stream.flush()

    def _entry(self, entry: Entry) -> None:
        self._at = self._since_start(entry)
        data = entry.data
        match entry.kind:
            case Kind.RUN_STARTED:
                self._line(f"{_title(entry)}, run {entry.run}, by {data.get('who')} on {data.get('machine')}")
                for line in _header(entry):
                    self._line(line)
            case Kind.STAGE_STARTED:
                self._stage_started(str(data.get("stage")))
            case Kind.CHECKPOINT_ARMED:
                self._line(f"{data.get('stage')}: {data.get('step')}: way back armed: {data.get('name')}")
            case Kind.FINDING if _key(entry) not in self._running:
                self._found(data)
            case Kind.STEP_FINISHED:
                self._step_finished(entry)
            case Kind.STAGE_FINISHED:
                self._stage_finished(data)
            case _:
                if told := _story_line(entry, self._short, self._quick(entry)):
                    self._tell(entry.kind, *told)

    def _stage_started(self, stage: str) -> None:
        self._line(f"{stage}: started")

    def _stage_finished(self, data: Mapping[str, Any]) -> None:
        self._line(f"{data.get('stage')}: {data.get('outcome')} in {took(data.get('took_s'))}")

    def _tell(self, kind: Kind, mark: str, text: str) -> None:
        self._line(f"{mark}: {text}")

    def _found(self, data: Mapping[str, Any]) -> None:
        self._line(f"{data.get('stage')}: {_finding_mark(data)} {data.get('check')}")
        if data.get("verdict") != "PASS":
            self._why(data.get("reason"), data.get("remedy"))

    def _step_finished(self, entry: Entry) -> None:
        running = self._running.get(_key(entry))
        finding = running.finding if running else None
        data = entry.data
        mark = _mark(data, finding)
        again = f", attempt {running.attempt}" if running and running.attempt > 1 else ""
        self._line(f"{data.get('stage')}: {mark} {data.get('step')} ({took(data.get('took_s'))}{again})")
        if finding is None or mark != _finding_mark(finding):
            self._why(_why_not(data), data.get("remedy"))
        elif mark != "PASS":
            self._why(finding.get("reason"), finding.get("remedy"))

    def _why(self, reason: object, remedy: object) -> None:
        if reason:
            self._line(str(reason), "    ")
        if remedy:
            self._line(f"Fix: {remedy}", "    ")

    def _finished(self, report: story.RunReport) -> None:
        for finding in report.recommendations:
            self._line(f"recommendation: {finding.check}: {finding.remedy}")
        for finding in report.accepted:
            if finding.mark == story.ACCEPTED:
                self._line(f"accepted: {finding.check}: {_accepted_by(finding)}")
        for line in _not_needed(report):
            self._line(f"accepted: {line}")
        self._line(f"{_ended(report)}: {self._short(report.summary)}")
        if told := story.not_passed(report):
            self._line(told)
        self._line(f"the service: {report.answers.service}")
        if error := report.first_error:
            self._line(f"first error{error.of_class}: {error.told}")
            if todo := _what_to_do(report):
                self._line(f"what to do: {todo}" if not report.closed else f"its fix: {todo}")
        if manual := _numbered(report):
            self._line("a person must do this now:")
            for step in manual:
                self._line(step, "    ")


# ---- GitHub Actions ------------------------------------------------------------------------------------------


def escape_data(text: str) -> str:
    """A workflow command's message: only these three characters could end it or be taken for an escape."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """A workflow command's property, where `:` and `,` end it as well."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


class GitHub(Plain):
    """Plain lines in one group for each stage, and an annotation for each finding a person must read."""

    def __init__(
        self, stream: TextIO, redactor: Redacts, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(stream, redactor, now)
        self._group_open = False
        self._annotated: Counter[str] = Counter()
        self._left_out = 0

    def close(self) -> None:
        self._ungroup()

    def _line(self, text: str, indent: str = "") -> None:
        super()._line(_harmless(text), indent)

    def _output(self, output: Output) -> None:
        super()._output(replace(output, line=_harmless(output.line)))

    def _command(self, name: str, message: str, **properties: object) -> None:
        given = ",".join(
            f"{key}={escape_property(_harmless(str(value)))}" for key, value in properties.items() if value
        )
        self._stream.write(f"::{name}{' ' if given else ''}{given}::{escape_data(_harmless(message))}\n")
        self._stream.flush()

    def _group(self, title: str) -> None:
        self._ungroup()
        self._command("group", title)
        self._group_open = True

    def _ungroup(self) -> None:
        if self._group_open:
            self._command("endgroup", "")
            self._group_open = False

    def _stage_started(self, stage: str) -> None:
        self._group(stage)

    def _stage_finished(self, data: Mapping[str, Any]) -> None:
        super()._stage_finished(data)
        self._ungroup()

    def _entry(self, entry: Entry) -> None:
        if entry.kind is Kind.WAYBACK_STARTED:
            self._group("way back")
        super()._entry(entry)
        if entry.kind is Kind.FINDING:
            self._annotate(entry.data)

    def _tell(self, kind: Kind, mark: str, text: str) -> None:
        if kind in (Kind.RUN_FAILED, Kind.CLOSED):
            self._ungroup()
        super()._tell(kind, mark, text)
        if mark in ("NOT RESTORED", "NOT EQUAL", "NOT CLOSED"):
            self._command("error", text, title=mark)

    def _annotate(self, data: Mapping[str, Any]) -> None:
        """One annotation for each place of a finding; of many only the first, the rest is counted at the end."""
        verdict = str(data.get("verdict"))
        level = "error" if verdict in _BLOCKING else "warning" if verdict == "ADVICE" else ""
        if not level:
            return
        title = f"{_finding_mark(data)} {data.get('check')}"
        message = "\n".join(
            [str(data.get("reason") or ""), *([f"Fix: {data['remedy']}"] if data.get("remedy") else [])]
        )
        places = _places(data)
        room = min(_OF_ONE_FINDING, _OF_ONE_LEVEL - self._annotated[level])
        self._annotated[level] += min(len(places), max(room, 0))
        self._left_out += max(len(places) - max(room, 0), 0)
        for file, line, what in places[: max(room, 0)]:
            said = f"{what}\n{message}" if what else message
            self._command(level, said, file=file, line=line, title=title)

    def _step_finished(self, entry: Entry) -> None:
        super()._step_finished(entry)
        running = self._running.get(_key(entry))
        data = entry.data
        if data.get("outcome") in _BAD_OUTCOMES and not (running and running.finding):
            remedy = f"\nFix: {data['remedy']}" if data.get("remedy") else ""
            self._command("error", f"{_why_not(data) or data.get('outcome')}{remedy}", title=f"{data.get('step')}")

    def _finished(self, report: story.RunReport) -> None:
        self._ungroup()
        if self._left_out:
            told = f"{count(self._left_out, 'further annotation')} left out here; the report has them all"
            self._command("warning", told, title="Tollgate")
        self._annotated, self._left_out = Counter(), 0
        if manual := _numbered(report):
            self._command("error", "\n".join(manual), title="a person must do this now")
        super()._finished(report)


def _places(data: Mapping[str, Any]) -> list[tuple[object, object, str]]:
    """File, line and what is there, of each place of a finding; one without a file where it names none."""
    places = data.get("places")
    found = [
        (one.get("file"), one.get("line"), str(one.get("what") or ""))
        for one in (places if isinstance(places, list) else [])
        if isinstance(one, Mapping) and one.get("file")
    ]
    if found:
        return found
    evidence = data.get("evidence")
    place = evidence if isinstance(evidence, Mapping) else {}
    file = place.get("file")
    return [(file, place.get("line") if file else None, "")]


def _harmless(text: str) -> str:
    """`##[name]` anywhere in a line is a workflow command of the old form; ours begin their lines, so `::` cannot."""
    return text.replace("##[", "## [")


# ---- a live terminal -----------------------------------------------------------------------------------------

_STYLES = {
    "PASS": "green",
    "done": "green",
    "restored": "green",
    "told": "dim",
    "reconciled": "green",
    "open": "bold green",
    "ADVICE": "cyan",
    "ACCEPTED": "yellow",
    "SKIPPED": "dim",
    "skipped": "dim",
    "note": "dim",
    "building": "dim",
    "staged": "dim",
    "live": "dim",
    "verified": "green",
    "bad": "yellow",
    "closed": "yellow",
    "test mode": "yellow",
    "cancelled": "yellow",
    "INCONCLUSIVE": "yellow",
    "interrupted": "yellow",
}
_BAD = "bold red"
_SIGNS = {"green": "✓", "bold green": "✓", "cyan": "i", "dim": "·", "yellow": "!", _BAD: "✗"}
_ASCII_SIGNS = {"✓": "+", "✗": "x", "·": "-"}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER = "|/-\\"
_MARK_WIDTH = len("INCONCLUSIVE") + 2
_NARROW = 64
"""Below this many columns marks are not padded to one column."""


@dataclass(frozen=True)
class _ShownStep:
    name: str
    since: datetime
    limit_s: float | None
    lines: tuple[str, ...]
    passing: str


@dataclass(frozen=True)
class _Shown:
    """What stands below the scrolled lines: a value of its own, since rich draws it from another thread."""

    steps: tuple[_ShownStep, ...] = ()
    progress: str = ""


class Terminal(ConsoleListener):
    """What ended scrolls by; what runs stands below it with its time and a command's last lines."""

    def __init__(self, console: Console, redactor: Redacts, now: Callable[[], datetime]) -> None:
        super().__init__(redactor)
        self._console = console
        self._now = now
        self._stage = ""
        self._stage_done = 0
        self._plan: object = None
        self._shown = _Shown()
        self._unicode = (console.encoding or "").lower().startswith("utf")
        self._live = Live(
            get_renderable=self._under_way,
            console=console,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        self._shown = self._view()

    def _view(self, but: tuple[str, str] | None = None) -> _Shown:
        """What runs now, without the step `but`, which is just ending."""
        total = _steps_of(self._plan, self._stage)
        return _Shown(
            steps=tuple(
                _ShownStep(step.step, step.since, step.limit_s, tuple(step.lines)[-_LIVE_LINES:], step.passing)
                for key, step in self._running.items()
                if key != but
            ),
            progress=f"{self._stage}: {self._stage_done} of {count(total, 'step')} ended" if total else "",
        )

    def close(self) -> None:
        self._live.stop()

    def refresh(self) -> None:
        """Draws what is under way now, not at the next tick."""
        self._live.refresh()

    # -- what ended

    def _print(self, *lines: Text) -> None:
        for line in lines:
            self._console.print(line, no_wrap=True, overflow="crop")

    def _output(self, output: Output) -> None:
        running = self._running.get((output.stage, output.step))
        if output.manner is Manner.PASSING:
            if running:
                running.passing = output.line
        elif output.manner is not None:
            if output.manner is Manner.SCAN:
                self._console.print(Text(f"      {output.line}", "bold"), soft_wrap=True)
                self._print(*self._code(output.line))
            else:
                self._print(*self._indented(output.line, 6, "bold"))
        elif running:
            running.lines.append(output.line)
        elif output.step not in self._ended_steps:
            self._print(*self._row("note", output.line, ""))

    def _entry(self, entry: Entry) -> None:
        data = entry.data
        match entry.kind:
            case Kind.RUN_STARTED:
                self._plan = data.get("plan")
                self._run_started(entry)
                self._live.start()
            case Kind.STAGE_STARTED:
                self._stage, self._stage_done = str(data.get("stage")), 0
                self._heading(self._stage)
            case Kind.STEP_FINISHED:
                self._stage_done += 1
                self._shown = self._view(but=_key(entry))
                self._step_finished(entry)
            case Kind.FINDING if _key(entry) not in self._running:
                self._found(data, "")
            case Kind.STAGE_FINISHED:
                self._stage = ""
            case Kind.WAYBACK_STARTED:
                self._heading("way back")
                self._print(*self._indented((_story_line(entry, self._short) or ("", ""))[1], 2))
            case Kind.RUN_FAILED:
                pass  # the finding has just been shown, and the summary repeats it last
            case _:
                if told := _story_line(entry, self._short, self._quick(entry)):
                    seconds = data.get("took_s") if entry.kind is Kind.CHECKPOINT_CONFIRMED else None
                    self._print(*self._row(*told, took(seconds) if isinstance(seconds, int | float) else ""))

    def _run_started(self, entry: Entry) -> None:
        data = entry.data
        self._print(*self._folded(_title(entry), "bold"))
        said = [f"run {entry.run} by {data.get('who')} on {data.get('machine')}", *_header(entry)]
        self._print(*self._folded("\n".join(said), "dim"))

    def _heading(self, title: str) -> None:
        self._print(Text(), *self._folded(title, "bold"))

    def _step_finished(self, entry: Entry) -> None:
        data = entry.data
        running = self._running.get(_key(entry))
        finding = running.finding if running else None
        mark = _mark(data, finding)
        name = str(data.get("step"))
        if running and running.attempt > 1:
            name += f" (attempt {running.attempt})"
        seconds = data.get("took_s")
        self._print(*self._row(mark, name, took(seconds) if isinstance(seconds, int | float) else ""))
        if running and running.armed:
            self._print(*self._indented(f"way back armed: {', '.join(running.armed)}", 6, "dim"))
        judged = finding is not None and mark == _finding_mark(finding)
        if finding and judged:
            self._reasons(mark, finding)
        if running and str(data.get("outcome")) in _BAD_OUTCOMES:
            for line in running.lines:
                self._print(*self._indented(f"| {line}", 6, "dim"))
        if not judged:
            self._why(_why_not(data), data.get("remedy"))

    def _found(self, data: Mapping[str, Any], time: str) -> None:
        mark = _finding_mark(data)
        self._print(*self._row(mark, str(data.get("check")), time))
        self._reasons(mark, data)

    def _reasons(self, mark: str, finding: Mapping[str, Any]) -> None:
        """Why, for all that is not a plain pass; a recommendation's remedy waits for the end of the run."""
        if mark == "SKIPPED":
            self._print(*self._indented(str(finding.get("reason") or ""), 6, "dim"))
        elif mark == "ADVICE":
            self._why(finding.get("reason"), None)
        elif mark != "PASS":
            self._why(finding.get("reason"), finding.get("remedy"))

    def _why(self, reason: object, remedy: object) -> None:
        if reason:
            self._print(*self._indented(str(reason), 6))
        if remedy:
            self._print(*self._indented(f"Fix: {remedy}", 6, "bold"))

    def _finished(self, report: story.RunReport) -> None:
        self._live.stop()
        if report.recommendations:
            self._heading("recommendations")
            for finding in report.recommendations:
                self._print(*self._row("ADVICE", finding.check, ""), *self._indented(finding.remedy, 6))
        self._accepted(report)
        outcome, ended = str(report.outcome or "ended"), _ended(report)
        self._print(Text())
        self._print(*self._folded(outcome.upper() + ended.removeprefix(outcome), f"bold {_STYLES.get(outcome, _BAD)}"))
        said = (sentence(self._short(report.summary)), story.not_passed(report))
        self._print(*self._folded("\n".join([*filter(None, said), f"The service: {report.answers.service}"])))
        if error := report.first_error:
            self._heading(f"what went wrong first{error.of_class}")
            self._print(*self._indented(error.told, 2, "red"))
            if todo := _what_to_do(report):
                label, style = ("Its fix", "") if report.closed else ("What to do", "bold")
                self._print(*self._indented(f"{label}: {todo}", 2, style))
        if manual := _numbered(report):
            self._heading("a person must do this now")
            for step in manual:
                first, *more = fold(step, self._width - 5)
                self._print(Text(f"  {first}", "bold"), *(Text(f"     {part}", "bold") for part in more))

    def _accepted(self, report: story.RunReport) -> None:
        accepted, not_needed = [one for one in report.accepted if one.mark == story.ACCEPTED], _not_needed(report)
        if accepted or not_needed:
            self._heading("accepted findings")
        for finding in accepted:
            self._print(*self._row(finding.mark, finding.check, ""), *self._indented(_accepted_by(finding), 6))
        for line in not_needed:
            self._print(*self._row("note", line, ""))

    # -- what runs

    def _under_way(self) -> RenderableType:
        shown, now = self._shown, self._now()
        frames = _SPINNER if self._unicode else _ASCII_SPINNER
        frame = frames[int(now.timestamp() * 8) % len(frames)]
        lines: list[Text] = []
        for step in shown.steps:
            limit = f" of {took(step.limit_s)}" if step.limit_s else ""
            spent = took((now - step.since).total_seconds())
            lines += self._row_of(Text(f"{frame} running", "blue"), step.name, f"{spent}{limit}")
            lines += [self._indented(f"| {line}", 6, "dim")[0] for line in step.lines]
            if step.passing:
                lines += self._indented(step.passing, 6, "bold")
        room = max(self._console.height - 3, 3)
        if len(lines) > room:
            lines = [*lines[: room - 1], Text(f"  and {count(len(lines) - room + 1, 'line')} more", "dim")]
        if lines and shown.progress:
            lines += self._indented(shown.progress, 2, "dim")
        return Group(*lines)

    # -- laying out

    def _code(self, link: str) -> list[Text]:
        """The link as a QR code, dark on light whatever the terminal's own colours; nothing where it cannot be drawn.

        Without colours the light modules are drawn, as most terminals are dark.
        """
        if not self._unicode:
            return []
        rows = modules(link)
        if self._console.no_color:
            rows = tuple(tuple(not module for module in row) for row in rows)
        lines = as_lines(rows)
        if not lines or len(lines[0]) + 4 > self._width:
            return []
        style = "" if self._console.no_color else "#000000 on #ffffff"
        return [Text("    ").append(line, style) for line in lines]

    @property
    def _width(self) -> int:
        return max(self._console.width - 1, 20)

    def _folded(self, text: str, style: str = "") -> list[Text]:
        return [Text(line, style) for line in fold(text, self._width)]

    def _indented(self, text: str, indent: int, style: str = "") -> list[Text]:
        indent = indent if self._width >= _NARROW else min(indent, 4)
        lines = fold(text, self._width - indent)
        return [Text(" " * indent).append(line, style) for line in lines]

    def _row(self, mark: str, text: str, time: str) -> list[Text]:
        style = _STYLES.get(mark, _BAD)
        sign = _SIGNS[style] if self._unicode else _ASCII_SIGNS.get(_SIGNS[style], _SIGNS[style])
        return self._row_of(Text(f"{sign} {mark}", style), text, time)

    def _row_of(self, mark: Text, text: str, time: str) -> list[Text]:
        """A mark, a text that is folded beside it, and a time at the right."""
        padding = _MARK_WIDTH - mark.cell_len if self._width >= _NARROW else 0
        left = Text("  ").append_text(mark).append(" " * (max(padding, 0) + 2))
        right = cell_len(time) + 2 if time else 0
        room = self._width - left.cell_len - right
        if room < 12 or (self._width < _NARROW and len(fold(text, room)) > 3):
            head = Text("  ").append_text(mark)
            if time:
                head.append(f"  {time}", "dim")
            return [head, *self._indented(text, 4)]
        first, *more = fold(text, room)
        line = left.copy().append(first)
        if time:
            line.append(" " * (self._width - line.cell_len - cell_len(time))).append(time, "dim")
        return [line, *(Text(" " * left.cell_len).append(part) for part in more)]
