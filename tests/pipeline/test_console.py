"""The console: what a person sees while a run goes on, in a terminal, a log, and GitHub Actions."""

from __future__ import annotations

import io
import re
import secrets
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len

from pipeline import console, story
from pipeline.console import ConsoleKind, escape_data, escape_property
from pipeline.events import Entry, Event, Kind, Output
from pipeline.secrets import Redactor, Secret
from tests.pipeline import runs

KINDS: tuple[ConsoleKind, ...] = ("terminal", "plain", "github")
NASTY = "100% sure\r\nsecond, line: x::error::y ##[error]z \x1b[2J\x1b]0;t\x07"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(io.StringIO):
    """A stream that says it is a terminal; what was written is kept without its escapes."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return [line for part in _ANSI.sub("", self.getvalue()).split("\n") for line in part.split("\r")]


def shown(
    kind: ConsoleKind,
    events: list[Event],
    *,
    redactor: Redactor | None = None,
    width: int = 80,
    environment: dict[str, str] | None = None,
) -> Screen:
    """All that a console of `kind` prints for `events`."""
    screen = Screen()
    with console.listener(
        kind,
        screen,
        redactor=redactor or Redactor(),
        environment=environment or {"COLUMNS": str(width)},
        width=width,
        now=lambda: datetime(2026, 3, 14, 9, 31, tzinfo=UTC),
    ) as tell:
        for event in events:
            tell(event)
    return screen


def with_output(entries: list[Entry], line: str) -> list[Event]:
    """The entries, and after each start of a step a line its command prints."""
    events: list[Event] = []
    for entry in entries:
        events.append(entry)
        if entry.kind is Kind.STEP_STARTED:
            events.append(Output(entry.data["stage"], entry.data["step"], line))
    return events


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(params=list(runs.RUNS))
def entries(request: pytest.FixtureRequest) -> list[Entry]:
    return runs.RUNS[request.param]()


@pytest.mark.parametrize(
    ("environment", "terminal", "kind"),
    [
        ({"GITHUB_ACTIONS": "true"}, False, "github"),
        ({"GITHUB_ACTIONS": "true"}, True, "github"),
        ({"GITHUB_ACTIONS": "false"}, True, "terminal"),
        ({}, True, "terminal"),
        ({"NO_COLOR": "1"}, True, "terminal"),
        ({"TERM": "dumb"}, True, "plain"),
        ({}, False, "plain"),
    ],
)
def test_chooses_the_console_that_fits(environment: dict[str, str], terminal: bool, kind: ConsoleKind) -> None:
    """GitHub Actions gets annotations, a terminal gets live progress, anything else gets plain lines."""
    assert console.choose(environment, Screen() if terminal else io.StringIO()) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix_of_a_run_is_shown(kind: ConsoleKind, entries: list[Entry]) -> None:
    """A console that is closed after any entry leaves no traceback and no thread behind."""
    screen = Screen()
    with console.listener(kind, screen, redactor=Redactor(), environment={}, width=80) as tell:
        for entry in entries:
            tell(entry)
    for length in (0, 1, 2, len(entries) // 2):
        shown(kind, list(entries[:length]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_error_comes_last_with_what_to_do(kind: ConsoleKind) -> None:
    """A failed run that needs no person ends with what went wrong first and its fix."""
    for name in ("refused", "restored"):
        entries = runs.RUNS[name]()
        error = story.build(entries).first_error
        assert error is not None
        end = squeezed("\n".join(shown(kind, list(entries)).lines[-14:]))
        assert squeezed(error.error) in end
        assert end.endswith(squeezed(error.remedy))


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_manual_steps_stand_last(kind: ConsoleKind, width: int) -> None:
    """Where a person is needed, the last thing on the screen is the numbered list of what to do."""
    for name in ("person needed", "not closed"):
        entries = runs.RUNS[name]()
        closed = story.build(entries).closed
        assert closed is not None
        lines = [re.sub(r"^\[ *[\d.]+ s\]", "", line) for line in shown(kind, list(entries), width=width).lines]
        before, found, last = squeezed("\n".join(lines)).rpartition("apersonmustdothisnow")
        assert found and squeezed(runs.UNSIGNED) in before
        numbered = [f"{number}. {step}" for number, step in enumerate(closed.manual, 1)]
        assert last.removeprefix(":") == squeezed("".join(numbered))


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_told_more_than_twice(kind: ConsoleKind, entries: list[Entry]) -> None:
    """Why something failed is told where it failed and, of what failed first, once more at the end."""
    lines = [line for line in shown(kind, list(entries)).lines if not line.startswith("::")]
    text = squeezed("\n".join(lines))
    report = story.build(entries)
    for finding in report.blocking:
        first = finding is report.first_finding
        assert text.count(squeezed(finding.reason)) == (2 if first else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_not_named_twice_in_a_row(kind: ConsoleKind) -> None:
    """An error that begins with the name of its step is shown without it where the name stands already."""
    tale = runs.Tale()
    tale.starts()
    error = "build: not done within its limit of 5 s"
    tale.step("build", "build", "run npm run build", outcome="timed out", error=error, remedy="Raise `timeout`.")
    tale.tell(Kind.RUN_FAILED, stage="build", step="build", error=error, remedy="Raise `timeout`.")
    tale.ends("refused", 1, f"{error}; nothing was changed")
    lines = [" ".join(line.split()) for line in shown(kind, list(tale.entries)).lines if not line.startswith("::")]
    assert not [line for line in lines if "build: build:" in line]
    assert " ".join(lines).count("not done within its limit of 5 s") == 2
    assert any("build failed; nothing was changed" in line for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_recorded_is_left_out_of_the_header(kind: ConsoleKind) -> None:
    """A run that records no release and no last verified one says nothing of them."""
    tale = runs.Tale()
    tale.starts("verify", previous=None)
    text = "\n".join(shown(kind, list(tale.entries)).lines)
    assert "verify betaskill-courses to sandbox" in text
    assert "last verified" not in text and "release" not in text and "None" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_is_told_without_an_empty_place(kind: ConsoleKind) -> None:
    """An error that belongs to no step stands alone."""
    lines = shown(kind, list(runs.interrupted())).lines
    assert any(re.search(r"(^|\] |first error: | )interrupted by Ctrl-C$", line) for line in lines)
    assert not [line for line in lines if ": :" in line or " / :" in line]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_shows_only_what_it_does(kind: ConsoleKind) -> None:
    """A resumed run says where it stood, and of stages that were done before it says nothing."""
    entries = runs.resumed()
    again = next(i for i, entry in enumerate(entries) if entry.kind is Kind.RUN_STARTED and i)
    lines = shown(kind, list(entries[again:])).lines
    text = "\n".join(lines)
    assert "deploy betaskill-courses to sandbox, resumed" in text
    assert "it stood at step.started prove health.ready" in " ".join(text.split())
    assert "what was done before is not done again" in text
    assert not [line for line in lines if re.search(r"\b(gates|build)$|::gates|gates: started", line)]
    assert [line for line in lines if re.search(r"prove$|prove: started|::prove", line)]


@pytest.mark.parametrize("kind", KINDS)
def test_proofs_of_the_way_back_that_pass_are_names_only(kind: ConsoleKind) -> None:
    """On the way back a proof that passes takes one line; what it measured is in the report."""
    tale = runs.Tale()
    tale.starts("rollback")
    tale.tell(Kind.WAYBACK_STARTED, why="asked for", release=runs.PREVIOUS, checkpoints=[], of_run=tale.run)
    tale.found("prove", "health.ready", reason="answered 200 in 12 ms, and much more that nobody reads at night")
    (line,) = [line for line in shown(kind, list(tale.entries)).lines if "health.ready" in line]
    assert line.rstrip().endswith("health.ready")
    assert "nobody reads" not in "\n".join(shown(kind, list(tale.entries)).lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_belongs_to_no_step_is_shown(kind: ConsoleKind) -> None:
    """What a signal is answered with is seen, though no step printed it."""
    entries = runs.passing()
    events = [*entries[:3], Output("run", "signal", "interrupted: stopping"), Output("", "", "output lost: OSError")]
    text = "\n".join(shown(kind, list(events)).lines)
    assert "interrupted: stopping" in text and "output lost: OSError" in text
    assert " : " not in text


@pytest.mark.parametrize("kind", KINDS)
def test_events_out_of_order_lose_nothing(kind: ConsoleKind) -> None:
    """A step that ends after its stage, or after the way back began, is still shown with its finding."""
    tale = runs.Tale()
    tale.starts()
    tale.tell(Kind.STAGE_STARTED, stage="prove")
    tale.begins("prove", "health.ready")
    tale.begins("prove", "webhook.arrives")
    tale.tell(Kind.STAGE_FINISHED, stage="prove", outcome="failed", took_s=0.1)
    tale.judged("prove", "health.ready", "FAIL", reason="answered 503", remedy="Start it.")
    tale.tell(Kind.WAYBACK_STARTED, why="asked for", release=runs.PREVIOUS, checkpoints=[], of_run=tale.run)
    tale.judged("prove", "webhook.arrives", "FAIL", reason="none arrived", remedy="Wait.")
    text = "\n".join(shown(kind, list(tale.entries)).lines)
    for said in ("answered 503", "Fix: Start it.", "none arrived", "Fix: Wait."):
        assert said in text


@pytest.mark.parametrize("kind", KINDS)
def test_findings_show_reason_and_remedy(kind: ConsoleKind, entries: list[Entry]) -> None:
    """Whatever does not pass is shown with why and with its fix."""
    text = squeezed("\n".join(shown(kind, list(entries)).lines))
    report = story.build(entries)
    for finding in (*report.blocking, *report.recommendations):
        assert squeezed(finding.reason) in text and squeezed(finding.remedy) in text
        assert finding.verdict.value in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_reason_is_not_told_twice_beside_its_finding(kind: ConsoleKind) -> None:
    """A failed check says why once where it failed, and once more at the end."""
    text = squeezed("\n".join(line for line in shown(kind, list(runs.restored())).lines if not line.startswith("::")))
    assert text.count(squeezed(runs.UNSIGNED)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_back_is_told_step_by_step(kind: ConsoleKind) -> None:
    """Closing, each checkpoint, the books and the reopening are all shown."""
    text = "\n".join(shown(kind, list(runs.restored())).lines)
    assert "way back" in text and f"back to release {runs.PREVIOUS}" in text
    assert "No new payments are taken" in text
    for name in runs.CHECKPOINTS:
        assert re.search(rf"restored\W+{name}: read again and confirmed", text)
    assert "5 paid at the gateway, 5 activated, 1 activation caught up" in squeezed_lines(text)
    assert re.search(rf"Traffic back on {runs.PREVIOUS} after [\d.]+ m?s; open after [\d.]+ s\.", squeezed_lines(text))


def squeezed_lines(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
def test_manual_steps_are_shown_when_a_person_is_needed(kind: ConsoleKind) -> None:
    """Every manual step is printed whole, and so is a checkpoint that could not be restored."""
    entries = runs.person_needed()
    text = squeezed("\n".join(shown(kind, list(entries)).lines))
    closed = story.build(entries).closed
    assert closed is not None
    assert all(squeezed(step) in text for step in closed.manual)
    assert squeezed("NOT RESTORED") in text and "9be441" in text
    worse = squeezed("\n".join(shown(kind, list(runs.not_closed())).lines))
    assert squeezed("NOT CLOSED") in worse and worse.count(squeezed("The service stays closed")) == 2


@pytest.mark.parametrize("width", [80, 40, 24])
def test_terminal_keeps_to_its_width(width: int, entries: list[Entry]) -> None:
    """No line is wider than the terminal, whatever a command prints."""
    events = with_output(entries, "支付 " * 30 + "x" * 200)
    for line in shown("terminal", events, width=width).lines:
        assert cell_len(line) <= width, line


def test_terminal_breaks_names_between_their_parts() -> None:
    """In a narrow terminal a long check name is broken after a dot or an underscore."""
    lines = [line.strip() for line in shown("terminal", list(runs.passing()), width=30).lines]
    assert any(line.endswith(("endpoints.", "https_on_", "endpoints.https_on_")) for line in lines)


def test_terminal_shows_what_runs_with_its_time_and_last_lines() -> None:
    """While a command runs, its time, its limit and its last lines stand below what has ended."""
    entries = runs.passing()
    begun = next(i for i, entry in enumerate(entries) if entry.data.get("step") == "build")
    events = [*entries[: begun + 1], *(Output("build", "build", f"line {number}") for number in range(9))]
    screen = Screen()
    with console.listener(
        "terminal", screen, redactor=Redactor(), environment={}, width=80, now=lambda: entries[begun].at
    ) as tell:
        for event in events:
            tell(event)
        assert isinstance(tell, console.Terminal)
        tell.refresh()
        text = "\n".join(screen.lines)
    assert re.search(r"running +build +0\.0 s of 1 min 30 s", text)
    assert "| line 8" in text and "| line 6" in text and "| line 5" not in text
    assert "build: 0 of 2 steps ended" in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_command_shows_its_last_lines(kind: ConsoleKind) -> None:
    """A command that fails leaves its last output on the screen, for the journal does not keep it."""
    tale = runs.Tale()
    tale.starts()
    events: list[Event] = list(tale.entries)
    events += with_output([], "")
    before = len(tale.entries)
    tale.step(
        "build", "build", "run npm run build", outcome="failed", error="npm run build ended with 1", remedy="Mend it."
    )
    start, end = tale.entries[before:]
    events += [start, *(Output("build", "build", f"npm says {number}") for number in range(30)), end]
    text = "\n".join(shown(kind, events).lines)
    assert "npm says 29" in text and "npm says 15" in text
    assert "npm run build ended with 1" in text and "Mend it." in text


def test_marks_are_words_without_colour() -> None:
    """With NO_COLOR nothing is coloured, and every verdict is still a word."""
    screen = shown("terminal", list(runs.refused()), environment={"NO_COLOR": "1", "TERM": "xterm-256color"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", screen.getvalue())
    text = "\n".join(screen.lines)
    assert "PASS" in text and "FAIL" in text and "INCONCLUSIVE" in text and "REFUSED" in text


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_passes_the_console(kind: ConsoleKind) -> None:
    """A secret in a finding, in evidence, in output, split by wrapping or by escapes, is never shown."""
    secret = secrets.token_urlsafe(24)
    encoded = b64encode(secret.encode()).decode()
    said = f"{'found ' * 11}{secret} and {encoded} and {secret[:9]}\x1b[1m{secret[9:]}"
    tale = runs.Tale()
    tale.starts(reason=said, who=secret)
    tale.check("prove", "health.ready", "FAIL", reason=said, remedy=said, evidence={"file": secret, "line": 1})
    accepted = {"by": said, "reason": said, "until": said, "verdict": "FAIL", "state": "accepted"}
    places = [{"file": said, "line": 2, "what": said}]
    tale.check("prove", "leaks.none_in_bundle", "ADVICE", reason=said, remedy=said, accepted=accepted, places=places)
    tale.tell(Kind.CLOSED, why=said, how=said, manual=[said])
    tale.tell(Kind.RUN_FAILED, stage="prove", step="health.ready", error=said, remedy=said)
    tale.ends("person needed", 4, said)
    events = with_output(tale.entries, said)
    screen = shown(kind, events, redactor=Redactor([Secret(secret)]))
    assert "[redacted]" in screen.getvalue()
    text = squeezed(_ANSI.sub("", screen.getvalue()))
    assert secret not in text and encoded not in text
    assert secret[9:] not in text


def test_plain_is_one_line_for_each_event_with_its_time() -> None:
    """Every plain line begins with the time since the start of the run."""
    tale = runs.Tale()
    tale.starts()
    tale.check("prove", "health.ready", "FAIL", reason=NASTY, remedy=NASTY)
    for line in shown("plain", with_output(tale.entries, NASTY.replace("\r\n", " "))).getvalue().splitlines():
        assert re.match(r"\[ *\d+\.\d s\] +\S", line), line
        assert "\x1b" not in line


def test_github_groups_are_opened_and_closed(entries: list[Entry]) -> None:
    """Groups never nest, and every one is closed, also when the run is killed inside."""
    for part in (entries, entries[: len(entries) // 2]):
        depth = 0
        for line in shown("github", list(part)).lines:
            depth += line.startswith("::group::") - line.startswith("::endgroup::")
            assert depth in (0, 1)
        assert depth == 0


def test_github_annotates_what_a_person_must_read() -> None:
    """A finding that blocks is an error at its file and line; a recommendation is a warning."""
    lines = [line for line in shown("github", list(runs.refused())).lines if line.startswith("::error")]
    assert lines[0].startswith(
        "::error file=.env.production,line=7,title=FAIL settings.test_mode_off::Test mode must be"
    )
    assert lines[0].endswith("%0AFix: set VITE_IKHOKHA_TEST_MODE=false")
    assert len(lines) == 2
    warnings = [line for line in shown("github", list(runs.passing())).lines if line.startswith("::warning")]
    assert len(warnings) == 1 and "watch.payment_success" in warnings[0]


def accepting(places: int = 0) -> list[Entry]:
    """A finding that somebody answers for, one that passes by now, and one that fails at many places."""
    tale = runs.Tale()
    tale.starts()
    who = {"by": "Thandi Nkosi", "reason": "The fix comes in May", "until": "2026-04-30"}
    told = "accepted until 2026-04-30 by Thandi Nkosi: The fix comes in May; found: FAIL the policy is weak"
    counts = {**who, "verdict": "FAIL", "state": "accepted"}
    tale.check("gates", "pages.csp_strict", "ADVICE", reason=told, remedy="make it strict", accepted=counts)
    tale.check("gates", "clock.agrees", accepted={**who, "verdict": "PASS", "state": "not needed any more"})
    for name in ("a.one", "b.two", "c.three", "d.four") if places else ():
        where = [{"file": f"src/{name}.js", "line": n + 1, "what": f"secret {n}"} for n in range(places)]
        tale.check("gates", name, "FAIL", reason="it leaks", remedy="take it out", places=where)
    tale.ends("done", 0, "validated")
    return tale.entries


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_accepted_has_a_mark_of_its_own_and_comes_up_at_the_end(kind: ConsoleKind) -> None:
    """A finding that somebody answers for is never mistaken for a pass: who, why and until when are told twice."""
    text = squeezed_lines("\n".join(shown(kind, list(accepting())).lines))
    assert re.search(r"ACCEPTED +pages\.csp_strict", text)
    assert "the policy is weak" in text
    end = text.rpartition("pages.csp_strict")[2]
    assert "until 2026-04-30 by Thandi Nkosi: The fix comes in May." in end
    assert "clock.agrees passes: take its entry out of `accepted` in pipeline.yaml." in end
    assert "recommendation" not in text


def test_github_annotates_each_place_of_a_finding() -> None:
    """An annotation stands at the file and line that the finding names, with what is there, the reason and the fix."""
    lines = [line for line in shown("github", accepting(places=2)).lines if line.startswith("::error")]
    assert lines[0] == ("::error file=src/a.one.js,line=1,title=FAIL a.one::secret 0%0Ait leaks%0AFix: take it out")
    assert "file=src/a.one.js,line=2," in lines[1]
    accepted = [line for line in shown("github", list(accepting())).lines if line.startswith("::warning")]
    assert len(accepted) == 1 and "title=ACCEPTED pages.csp_strict::accepted until" in accepted[0]


def test_github_annotations_are_bounded_and_the_rest_is_counted() -> None:
    """No finding takes all the room, a run stays under what GitHub shows, and what is left out is counted."""
    lines = shown("github", accepting(places=9)).lines
    errors = [line for line in lines if line.startswith("::error")]
    assert [sum(name in line for line in errors) for name in ("a.one", "b.two", "c.three", "d.four")] == [3, 3, 1, 0]
    (rest,) = [line for line in lines if "left out here" in line]
    assert rest == "::warning title=Tollgate::29 further annotations left out here; the report has them all"
    assert "left out" not in "\n".join(shown("github", accepting(places=1)).lines)


def test_github_commands_cannot_be_forged() -> None:
    """What a finding or a command says is never taken for a workflow command."""
    tale = runs.Tale()
    tale.starts(service=NASTY)
    evidence = {"file": "a,b:c\n::stop-commands::x", "line": "1::error::"}
    tale.check("prove", "health.ready", "FAIL", reason=NASTY, remedy=NASTY, evidence=evidence)
    place = {**evidence, "what": NASTY}
    tale.check("prove", "webhook.arrives", "FAIL", reason=NASTY, remedy=NASTY, places=[place])
    for evil in ("::error::forged", "##[error]forged", "  ::add-mask::x", "a\n::error::forged", "\r::error::forged"):
        events = with_output(tale.entries, evil)
        for line in shown("github", events).getvalue().splitlines():
            assert "##[" not in line
            if line.lstrip().startswith("::"):
                assert re.match(r"::(group|endgroup|error( [^:]*)?)::", line), line
                assert "forged" not in line


@pytest.mark.parametrize("text", ["100%", "a\r\nb", "a:b,c", "%0A", "::error::", "plain"])
def test_github_escapes_are_undone_by_the_runner(text: str) -> None:
    """The runner reads back exactly what was escaped, and no character can end a command or a property early."""
    data, value = escape_data(text), escape_property(text)
    assert not set("\r\n") & set(data) and not set("\r\n:,") & set(value)
    for escaped, original in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        value = value.replace(escaped, original)
        data = data.replace(escaped, original) if escaped not in ("%3A", "%2C") else data
    assert value == data == text


def test_one_listener_follows_one_run_after_another() -> None:
    """A listener that has seen a run end begins the next from nothing."""
    text = shown("plain", [*runs.refused(), *runs.passing()]).getvalue()
    assert text.count("first error") == 1
    assert text.rstrip().endswith("it is verified.")


@pytest.mark.parametrize("kind", ["terminal", "plain", "github"])
def test_the_end_of_a_refused_run_names_every_check_that_did_not_pass(kind: ConsoleKind) -> None:
    """Whoever sees only the end of the output sees all that blocks, not only what failed first."""
    tale = runs.Tale()
    tale.starts("validate", environment="production", previous=None)
    for name in ("settings.valid", "drill.recent"):
        tale.check("gates", name, "FAIL", reason="it is bad", remedy="mend it")
    tale.tell(Kind.RUN_FAILED, stage="gates", step="settings.valid", error="it is bad", remedy="mend it")
    tale.ends("refused", 1, "settings.valid: it is bad")
    end = " ".join(shown(kind, tale.entries).getvalue().split("exit 1")[-1].split())
    assert "2 checks did not pass: settings.valid, drill.recent." in end
