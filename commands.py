"""What each verb does between its flags and its exit code. Prints for a person, or one JSON document with `--json`."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import wiring
from pipeline.errors import Exit, Refused, TollgateError, Usage, disk_error

if TYPE_CHECKING:
    from pipeline.contracts import ReleaseRecord
    from pipeline.events import Entry, Listener
    from pipeline.rollback_screen import Foreseen
    from pipeline.rolling_back import Choice, Look
    from pipeline.run_record import Outcome
    from pipeline.secrets import Redactor
    from pipeline.session import Session


@dataclass(frozen=True)
class Flags:
    """What every verb takes."""

    env: str = "sandbox"
    spec: str = str(wiring.HOME / "pipeline.yaml")
    json: bool = False


def ended(flags: Flags, verb: Callable[[], Awaitable[Exit]]) -> int:
    """Runs a verb; returns the exit code. What an operator can mend is a message, what only we can is called a bug.

    Whoever reads what it prints may go away: that never changes what it does or how it ends.
    """
    sys.stdout, sys.stderr = _Lasting(sys.stdout), _Lasting(sys.stderr)
    try:
        return int(asyncio.run(_within(verb)))
    except TollgateError as error:
        _say_error(flags, error.exit_code, str(error), error.remedy)
        return int(error.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say_error(flags, Exit.INTERRUPTED, "interrupted", f"`./inv status --env {flags.env}` shows how it stands.")
        return int(Exit.INTERRUPTED)
    except Exception as error:
        if (disk := disk_error(error)) is not None:
            _say_error(flags, disk.exit_code, str(disk), disk.remedy)
            return int(disk.exit_code)
        log = _keep_traceback(flags)
        _say_error(flags, Exit.BUG, "this is a bug of Tollgate, not of your service", f"Report it with {log}.")
        return int(Exit.BUG)


class _Lasting(io.TextIOBase):
    """A stream that goes on when its reader is gone, or when there never was one."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._gone()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._gone()

    def _gone(self) -> None:
        """The interpreter flushes the real stream at its end, so its descriptor must not fail there."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


async def _within(verb: Callable[[], Awaitable[Exit]]) -> Exit:
    """SIGTERM ends a command as Ctrl-C does; a run, which must clean up, takes the signals over."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await verb()


def _say_error(flags: Flags, code: Exit, message: str, remedy: str, releases: Sequence[Mapping[str, Any]] = ()) -> None:
    """`releases`: those a person may have meant, as rows."""
    from pipeline.tables import print_json, print_table

    if flags.json:
        listed = {"releases": releases} if releases else {}
        print_json({"error": message, "remedy": remedy, "exit_code": int(code), **listed})
    sys.stderr.write(f"{message}\n" + (f"  Fix: {remedy}\n" if remedy else ""))
    if releases:
        sys.stderr.write("\n")
        print_table([tuple(row.values()) for row in releases], tuple(releases[0]), sys.stderr)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from pipeline.console import escape_data

        sys.stderr.write(f"::error title=Tollgate::{escape_data(message)}\n")


def _keep_traceback(flags: Flags) -> str:
    """A traceback without values: frames and the error's type, so that no secret can stand in it. Where it lies."""
    kind, _, frames = sys.exc_info()
    text = "".join(traceback.format_tb(frames)) + f"{getattr(kind, '__name__', kind)}\n"
    path = Path(flags.spec).resolve().parent / ".tollgate" / "bug.log"
    try:
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return f"what you did; its traceback could not be kept in {path} ({error.strerror})"
    return str(path)


# ---- runs --------------------------------------------------------------------------------------------------


def deploy(flags: Flags, *, resume: bool, watch: float | None, reason: str = "") -> int:
    async def verb() -> Exit:
        from pipeline import runner

        chosen = wiring.choose(flags.spec, flags.env)
        if not resume:
            return await run(
                flags,
                chosen,
                lambda session: _deploy(session, chosen, reason, watch),
                changes=True,
                release=True,
                watch=watch,
            )
        unfinished = _unfinished(chosen)

        async def go_on(session: Session) -> Outcome:
            return await runner.resume(session, _plan(chosen, "deploy", watch=watch), owner(session), unfinished)

        runner.refuse_resuming(unfinished, _plan(chosen, "deploy"), flags.env)
        return await run(flags, chosen, go_on, changes=True, continues=unfinished, watch=watch)

    return ended(flags, verb)


async def _deploy(session: Session, chosen: wiring.Chosen, reason: str, watch: float | None) -> Outcome:
    from pipeline import runner

    return await runner.deploy(session, _plan(chosen, "deploy", watch=watch), owner(session), reason=reason)


def _unfinished(chosen: wiring.Chosen) -> Any:
    """The unfinished run that `--resume` continues. Raises Refused when there is none."""
    from pipeline.standing import open_runs

    found = [one for one in open_runs(_entries(chosen)) if one.verb == "deploy"]
    if not found:
        raise Refused(f"no deploy to {chosen.name} was left unfinished", f"`./inv deploy --env {chosen.name}`")
    return found[0]


def rollback(
    flags: Flags, *, to: str | None, reason: str, yes: bool, dry_run: bool = False, test_mode: bool = False
) -> int:
    async def verb() -> Exit:
        from pipeline.rolling_back import NoGoal

        chosen = wiring.choose_to_go_back(flags.spec, flags.env, sys.stderr.write)
        try:
            if dry_run:
                return await _foretell_rollback(flags, chosen, to, test_mode)
            return await run(
                flags,
                chosen,
                lambda session: _roll_back(flags, chosen, session, to, reason, yes, test_mode),
                changes=True,
                goes_back=True,
            )
        except NoGoal as refused:
            _say_error(flags, refused.exit_code, str(refused), refused.remedy, releases=_rows(refused.releases))
            return refused.exit_code

    return ended(flags, verb)


async def _foretell_rollback(flags: Flags, chosen: wiring.Chosen, to: str | None, test_mode: bool) -> Exit:
    """Shows what a rollback would do. Starts nothing, takes no lease, leaves nothing on record."""
    from pipeline import rollback_screen, rolling_back
    from pipeline.clock import SystemClock
    from pipeline.salvage import believed_of
    from pipeline.tables import print_json

    said: list[str] = []
    record = believed_of(chosen.journal)
    look = rolling_back.Look(
        environment=flags.env,
        target=await wiring.looking_at(chosen),
        clock=SystemClock(),
        who=wiring.who(),
        checkpoints=chosen.tables.checkpoints,
        entries=record.entries,
        tell=said.append,
        comes_up=await wiring.comes_up(chosen),
        at_work=_at_work(chosen),
        broken=record.told,
    )
    choice = await rolling_back.choose(look, to, test_mode=test_mode)
    seen = await _foreseen(chosen, look, choice, said)
    if flags.json:
        print_json(rollback_screen.as_data(seen))
    else:
        again = f"./inv rollback --env {flags.env}" + (f" --to {to}" if to else "")
        again += " --test-mode" if test_mode else ""
        sys.stdout.write(f"{rollback_screen.screen(seen)}\nNothing was changed. To do it: `{again}`\n")
    return Exit.DONE


def _at_work(chosen: wiring.Chosen) -> str:
    """The run that a rollback would stop or wait for first; '' for none."""
    from pipeline import takeover
    from pipeline.lease import held

    return takeover.at_work(held(chosen.lease_file), str(chosen.journal))


async def _foreseen(
    chosen: wiring.Chosen, look: Look, choice: Choice, said: Sequence[str], *, read_all: bool = True
) -> Foreseen:
    from pipeline import rollback_screen
    from pipeline.lease import held

    plan = _plan(chosen, "rollback", ("prove",))
    checks, lease = chosen.tables.checks, held(chosen.lease_file)
    record = str(chosen.journal)
    return await rollback_screen.foresee(look, choice, plan, checks, lease, said, record=record, read_all=read_all)


async def _roll_back(
    flags: Flags, chosen: wiring.Chosen, session: Session, to: str | None, reason: str, yes: bool, test_mode: bool
) -> Outcome:
    """Shows the screen, asks where somebody must say yes, and then does that and nothing else."""
    from pipeline import rollback_screen, rolling_back

    said: list[str] = []
    look = replace(rolling_back.Look.of(session, _at_work(chosen)), tell=said.append)
    choice = await rolling_back.choose(look, to, test_mode=test_mode)
    refused = False
    try:
        seen = await _foreseen(chosen, look, choice, said, read_all=not yes)
        shown, refused = rollback_screen.screen(seen), seen.refused
    except TollgateError as error:  # what cannot be shown in full is done all the same
        shown = f"back to {choice.release or 'a closed service'}: {choice.why_that}; more cannot be shown: {error}\n"
    (sys.stderr if flags.json else sys.stdout).write(session.redactor.text(shown) + "\n")
    asks = not yes and flags.env != "sandbox" and not refused  # nobody is asked about what is refused
    if asks:
        await confirm(flags.env)
    by, plan = owner(session), _plan(chosen, "rollback", ("prove",))
    agreed = choice if asks else None
    at_work = choice.at_work
    return await rolling_back.rollback(
        session, plan, by, to=to, reason=reason, agreed=agreed, at_work=at_work, test_mode=test_mode
    )


def _rows(releases: Sequence[ReleaseRecord]) -> list[Mapping[str, Any]]:
    return [{"release": one.id, "state": one.state.value, "since": one.since} for one in releases]


async def confirm(env: str, verb: str = "rollback") -> None:
    """Raises Usage where nobody can be asked, Refused for any other answer; Ctrl-C ends it at once."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise Usage(f"{verb} of {env} asks before it acts, and nobody is at the keyboard", "Add --yes.")
    sys.stderr.write(f"Type the environment's name to go on ({env}): ")
    sys.stderr.flush()
    if (await _typed()).strip() != env:
        raise Refused("not confirmed, nothing was changed", "Start again, or add --yes.")


async def _typed() -> str:
    """A line from the terminal, waited for where a signal can end the waiting."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    except asyncio.CancelledError:
        sys.stderr.write("\n")
        raise
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


def validate(flags: Flags, *, offline: bool) -> int:
    async def verb() -> Exit:
        from pipeline import runner
        from pipeline.recommendations import as_list, recommendations

        chosen = wiring.choose(flags.spec, flags.env)
        plan = _plan(chosen, "validate", ("gates",), offline=offline)
        advised: list[str] = []

        async def judged(session: Session) -> Outcome:
            outcome = await runner.look(session, plan)
            if outcome.exit is Exit.DONE:
                advised.extend(recommendations(flags.env, session.journal.entries(session.recorder.run)))
            return outcome

        code = await run(flags, chosen, judged)
        if code is Exit.DONE and not flags.json:
            sys.stdout.write(f"\n{flags.env.capitalize()} configuration validation passed\n")
            whole = _plan(chosen, "validate", ("gates",))
            sys.stdout.write(_left_out(flags.env, plan, whole))
            sys.stdout.write("\nRecommendations:\n")
            sys.stdout.write(as_list(advised, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
        return code

    return ended(flags, verb)


def _left_out(env: str, plan: Any, whole: Any) -> str:
    """What an offline validation did not ask: without it said, its end would read like a whole one's."""
    asked = {step.name for stage in plan.stages for step in stage.steps}
    gone = [step.name for stage in whole.stages for step in stage.steps if step.name not in asked]
    if not gone:
        return ""
    return (
        f"Not asked, because of --offline: {', '.join(gone)}.\n"
        f"A deploy asks all of them: `./inv validate --env {env}` does so now.\n"
    )


def verify(flags: Flags) -> int:
    async def verb() -> Exit:
        from pipeline import runner

        chosen = wiring.choose(flags.spec, flags.env)
        return await run(flags, chosen, lambda session: runner.look(session, _plan(chosen, "verify", ("prove",))))

    return ended(flags, verb)


def _plan(
    chosen: wiring.Chosen,
    verb: str,
    stages: Sequence[str] | None = None,
    *,
    offline: bool = False,
    watch: float | None = None,
) -> Any:
    from pipeline import plan
    from pipeline.spec import STAGES

    return plan.make(
        chosen.spec, chosen.name, chosen.tables.checks, verb=verb, stages=stages or STAGES, offline=offline, watch=watch
    )


def owner(session: Session) -> Any:
    from pipeline.lease import Owner

    return Owner.this_process(session.recorder.run, session.who)


async def run(
    flags: Flags,
    chosen: wiring.Chosen,
    act: Callable[[Session], Awaitable[Outcome]],
    *,
    tell: Callable[[Session, Outcome, Any], None] | None = None,
    **opening: Any,
) -> Exit:
    """Opens the environment, runs `act` under the console's eyes, and leaves the report.

    `tell` prints what came of it, with the paths of the report (None: it could not be written).
    """
    from pipeline import console

    with ExitStack() as stack:

        def listeners(redactor: Redactor) -> Sequence[Listener]:
            stream = sys.stderr if flags.json else sys.stdout
            kind = "plain" if flags.json else console.choose(os.environ, stream)
            return [stack.enter_context(console.listener(kind, stream, redactor=redactor))]

        async with wiring.opened(chosen, listeners, **opening) as session:
            try:
                outcome = await act(session)
            except Exception as error:
                await _tell_failed(flags, session, error)
                if isinstance(error, TollgateError):
                    _leave_report(session)
                    redact(error, session)
                raise
            await _tell_people(flags, session, outcome.exit)
            paths = _leave_report(session)
            if tell is not None:
                tell(session, outcome, paths)
            else:
                _tell_run(flags, session, outcome, paths)
            _tell_incident(flags, paths)
        return outcome.exit


async def _tell_people(flags: Flags, session: Session, code: Exit) -> None:
    """Waits for the notices under way, then says who was told."""
    if session.notices is not None:
        if waited_for := session.notices.under_way:
            sys.stderr.write(session.redactor.text(f"Telling {', '.join(waited_for)} ...\n"))
        await session.notices.settle()
        for line in session.notices.lines(needed=code is Exit.PERSON_NEEDED):
            (sys.stderr if flags.json else sys.stdout).write(session.redactor.text(f"{line}\n"))


async def _tell_failed(flags: Flags, session: Session, error: Exception) -> None:
    """A run that ended by an error: those who must know are told where a person is needed."""
    if session.notices is not None:
        await session.notices.failed(error, changed=session.recorder.changed)
    code = error.exit_code if isinstance(error, TollgateError) else Exit.BUG
    await _tell_people(flags, session, Exit(code))


def redact(error: TollgateError, session: Session) -> None:
    """Takes the run's secrets out of an error that is going to be printed."""
    error.args = (session.redactor.text(str(error)),)
    error.remedy = session.redactor.text(error.remedy)


def _leave_report(session: Session) -> Any:
    """Writes the report, and the job summary where a workflow asks for one. None when that failed, or nothing is on
    record: how a run ended does not depend on its report.
    """
    from pipeline import report

    try:
        entries = session.journal.entries(session.recorder.run)
        if not entries:
            return None
        built = report.build(entries)
        paths = report.write(built, session.state / "reports" / session.recorder.run, session.catalogue.checks)
        _leave_incident(session.to_be_told(), session.recorder.run, paths.html.parent)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            report.write_job_summary(Path(summary), built)
    except Exception as error:
        known = disk_error(error) or error
        why = session.redactor.text(
            str(known) if isinstance(known, TollgateError) else f"{type(error).__name__}: {error}"
        )
        sys.stderr.write(f"the report could not be written: {why}\n  Fix: `./inv report` writes it anew.\n")
        return None
    return paths


def _leave_incident(entries: Sequence[Entry], run: str, folder: Path) -> None:
    """Writes incident.md beside the report of a run that went a way back."""
    from pipeline import incident

    built = incident.build(entries, run)
    if built is not None:
        incident.write(built, folder)


def _tell_incident(flags: Flags, paths: Any) -> None:
    from pipeline.incident import FILE

    if paths is not None and (paths.html.parent / FILE).exists():
        (sys.stderr if flags.json else sys.stdout).write(f"Incident: {paths.html.parent / FILE}\n")


def _tell_run(flags: Flags, session: Session, outcome: Outcome, paths: Any) -> None:
    from pipeline.tables import print_json

    if flags.json and paths is not None:
        import json

        print_json(json.loads(paths.json.read_text(encoding="utf-8")))
    elif flags.json:
        clean = session.redactor.text
        print_json({"run": outcome.run, "summary": clean(outcome.summary), "exit_code": int(outcome.exit)})
    elif paths is not None:
        sys.stdout.write(f"Report: {paths.html}\n")


# ---- looking -----------------------------------------------------------------------------------------------


def plan(flags: Flags) -> int:
    async def verb() -> Exit:
        from pipeline.tables import print_json, print_plan

        chosen = wiring.choose(flags.spec, flags.env)
        data = _plan(chosen, "deploy").as_data()
        print_json(data) if flags.json else print_plan(data)
        return Exit.DONE

    return ended(flags, verb)


def expose(flags: Flags, *, why: str) -> int:
    """Puts the hash of an exposed credential on the team's list, beside pipeline.yaml."""

    async def verb() -> Exit:
        from datetime import UTC, datetime

        from checks.facts.credentials import SHIPPED
        from pipeline import exposed

        chosen = wiring.choose(flags.spec, flags.env)
        value = exposed.ask(sys.stdin)
        added = exposed.add(chosen.root / exposed.FILE, value, why, on=datetime.now(UTC).date(), also=[SHIPPED])
        _print(flags, {"list": str(added.path), "hash": added.hash}, lambda: _print_exposed(added.path))
        return Exit.DONE

    return ended(flags, verb)


def _print_exposed(path: Path) -> None:
    sys.stdout.write(f"Listed in {path}: every gate refuses this value from now on.\n")
    sys.stdout.write(
        f"Next: make a new credential in the gateway's dashboard, revoke the old one, commit {path.name}.\n"
    )


def config_check(flags: Flags) -> int:
    """The settings as a run would see them; exit 1 when one is wrong."""

    async def verb() -> Exit:
        from checks.settings_valid import undeclared

        chosen = wiring.choose(flags.spec, flags.env)
        settings = await wiring.settings_of(chosen)
        rows = [
            {"name": value.name, "value": _shown(value.value), "source": value.source}
            for value in (*settings.values.values(), *settings.addresses.values())
        ]
        told: list[Any] = [*settings.mistakes, *undeclared(chosen.spec.gateway, chosen.spec.settings)]
        mistakes = [
            {"name": one.name, "where": one.where, "found": one.found, "allowed": one.allowed, "fix": one.remedy}
            for one in told
        ]
        _print(
            flags,
            {"environment": flags.env, "sources": list(settings.sources), "settings": rows, "mistakes": mistakes},
            lambda: _print_settings(flags.env, settings.sources, rows, mistakes),
        )
        return Exit.REFUSED if mistakes else Exit.DONE

    return ended(flags, verb)


def _shown(value: object) -> str:
    from pipeline.secrets import Secret

    if not isinstance(value, Secret):
        return str(value)
    from checks.facts.rotation import may_be_recorded

    told = f"fingerprint {value.fingerprint()}" if may_be_recorded(value) else "too weak for a fingerprint"
    return f"[redacted] {told}"


def _print_settings(
    env: str, sources: Sequence[str], rows: Sequence[Mapping[str, str]], mistakes: Sequence[Mapping[str, str]]
) -> None:
    from pipeline.tables import print_table

    sys.stdout.write(f"Settings of {env}, looked for in: {', then '.join(sources)}\n\n")
    print_table([(row["name"], row["value"], row["source"]) for row in rows], ("name", "value", "source"))
    for one in mistakes:
        sys.stdout.write(
            f"\n{one['name']} ({one['where']}): found {one['found']}; allowed: {one['allowed']}\n  Fix: {one['fix']}\n"
        )
    sys.stdout.write("\nAll settings are valid.\n" if not mistakes else f"\n{len(mistakes)} to mend.\n")


def status(flags: Flags) -> int:
    async def verb() -> Exit:
        from pipeline.lease import held
        from pipeline.salvage import believed_of
        from pipeline.standing import open_runs

        chosen = wiring.choose_to_go_back(flags.spec, flags.env, sys.stderr.write)
        target = await wiring.looking_at(chosen)
        live, problem = await _live(target)
        address = await wiring.address(chosen)
        if live is None and not problem and address is not None:
            problem = "closed: no release serves, visitors get 503"
        releases = await target.releases.all()
        record = believed_of(chosen.journal)
        unfinished = open_runs(record.entries)
        from pipeline.contracts import SwitchName

        data = {
            "environment": flags.env,
            "live": live,
            "address": address,
            "problem": problem or None,
            "maintenance": await _door(target, SwitchName.MAINTENANCE),
            "payments": await _door(target, SwitchName.PAYMENTS_OFF, on="open"),
            "test mode": await _door(target, SwitchName.TEST_MODE),
            "lease": held(chosen.lease_file),
            "record": f"{record.told}; `./inv audit --env {flags.env}`" if record.breaks else None,
            "unfinished": [
                {"run": one.run, "verb": one.verb, "stands at": one.stands_at, "changed": one.changed}
                for one in unfinished
            ],
            "releases": [
                {"release": one.id, "state": one.state.value, "since": one.since, "why": one.why} for one in releases
            ],
        }
        _print(flags, data, lambda: _print_status(data))
        return Exit.DONE

    return ended(flags, verb)


async def _live(target: Any) -> tuple[str | None, str]:
    try:
        return await target.traffic.live(), ""
    except TollgateError as error:
        return None, str(error)


async def _door(target: Any, name: Any, on: str = "off") -> str:
    """How a door stands; one that cannot be read hides nothing else of what `status` shows."""
    try:
        return _switch(await target.switches.read(name), on=on)
    except TollgateError as error:
        return f"unclear: {error}"


def _lease(info: Any) -> str | None:
    if info is None:
        return None
    over = f"; {info.asked_by} (rollback) takes it over" if info.asked_by else ""
    return f"{info.state.value}: {info.owner}, until {info.expires_at:%H:%M:%S} UTC{over}"


def _switch(value: Any, on: str = "off") -> str:
    return (
        on if value is None else f"{'closed' if on == 'open' else 'on'} since {value.since} by {value.who}: {value.why}"
    )


def _print_status(data: Mapping[str, Any]) -> None:
    from pipeline.tables import print_status

    shown = {**data, "lease": _lease(data["lease"])}
    print_status({key: value for key, value in shown.items() if value not in (None, [])})


def history(flags: Flags) -> int:
    async def verb() -> Exit:
        from pipeline.tables import print_history

        chosen = wiring.choose_to_go_back(flags.spec, flags.env, sys.stderr.write)
        with wiring.recorded(chosen) as journal:
            runs = journal.runs() if journal else []
        _print(flags, runs, lambda: print_history(runs))
        return Exit.DONE

    return ended(flags, verb)


def report(flags: Flags, *, run: str | None) -> int:
    async def verb() -> Exit:
        from pipeline import report as reports

        chosen = wiring.choose_to_go_back(flags.spec, flags.env, sys.stderr.write)
        entries = _entries(chosen)
        known = list(dict.fromkeys(entry.run for entry in entries))
        wanted = run or (known[-1] if known else None)
        if wanted is None or wanted not in known:
            raise Usage(
                f"no run {wanted or ''} of {flags.env} is on record",
                f"`./inv history --env {flags.env}` lists them" + (f"; the last is {known[-1]}." if known else "."),
            )
        own = [entry for entry in entries if entry.run == wanted]
        paths = reports.write(reports.build(own), chosen.state / "reports" / wanted, chosen.tables.checks)
        _leave_incident(entries, wanted, paths.html.parent)
        if flags.json:
            sys.stdout.write(paths.json.read_text(encoding="utf-8"))
        else:
            sys.stdout.write(paths.markdown.read_text(encoding="utf-8") + f"\nAs a page: {paths.html}\n")
        _tell_incident(flags, paths)
        return Exit.DONE

    return ended(flags, verb)


def checks(flags: Flags) -> int:
    async def verb() -> Exit:
        chosen = wiring.choose(flags.spec, flags.env)
        stages = {step.plugin: stage.name for stage in _plan(chosen, "deploy").stages for step in stage.steps}
        rows = [
            {
                "check": check.name,
                "used in": stages.get(check.name, "no stage"),
                "promise": check.promise,
                "rows": ", ".join(check.rows),
            }
            for check in chosen.tables.checks.values()
        ]
        _print(flags, rows, lambda: _print_checks(rows))
        return Exit.DONE

    return ended(flags, verb)


def _print_checks(rows: Sequence[Mapping[str, str]]) -> None:
    for row in rows:
        sys.stdout.write(f"{row['check']}  ({row['used in']}; {row['rows']})\n    {row['promise']}\n")


# ---- sandbox and drills ------------------------------------------------------------------------------------


def sandbox(flags: Flags, *, do: str) -> int:
    async def verb() -> Exit:
        chosen = wiring.choose(flags.spec, flags.env)
        if not chosen.in_sandbox:
            raise Usage(f"{flags.env} is no sandbox: its url is {chosen.environment.url}", "Use --env sandbox.")
        data = await wiring.sandbox(chosen, do)
        from pipeline.tables import print_status

        _print(flags, data, lambda: print_status(data))
        return Exit.DONE

    return ended(flags, verb)


def drill(flags: Flags, *, fault: str | None, every: bool, listing: bool) -> int:
    async def verb() -> Exit:
        from sandbox.drills.run import drill as play

        if flags.env != "sandbox":
            raise Usage(f"--env {flags.env}: a drill breaks what it deploys", "Drills run in a sandbox of their own.")
        return await play(flags.spec, fault=fault, every=every, listing=listing, as_json=flags.json)

    return ended(flags, verb)


def _entries(chosen: wiring.Chosen) -> Sequence[Entry]:
    with wiring.recorded(chosen) as journal:
        return journal.entries() if journal else []


def _print(flags: Flags, data: Any, human: Callable[[], None]) -> None:
    from pipeline.tables import print_json

    if flags.json:
        print_json(data)
    else:
        human()
