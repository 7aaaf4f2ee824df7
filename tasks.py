"""The verbs an operator types. Each reads its flags and ends with an exit code of the table in docs/exit-codes.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Collection, Context, Exit, task

if TYPE_CHECKING:
    import commands

HERE = Path(__file__).resolve().parent
SPEC = str(HERE / "pipeline.yaml")
COMMON = {
    "env": "Environment of pipeline.yaml to act on (default: sandbox).",
    "spec": "Another pipeline.yaml; its paths are relative to it.",
    "json": "Print one JSON document on stdout and nothing else there.",
}


def _flags(c: Context, env: str, spec: str, json: bool) -> commands.Flags:
    """Refuses Invoke's dry mode, under which commands would seem to succeed."""
    import commands

    if c.config.run.dry or os.environ.get("INVOKE_RUN_DRY"):
        sys.stderr.write("--dry is refused: it would make every command seem to succeed.\n  Fix: use `./inv plan`.\n")
        raise Exit(code=2)
    return commands.Flags(env=env, spec=spec, json=json)


def _end(code: int) -> None:
    if code:
        raise Exit(code=code)


@task(
    help={
        **COMMON,
        "resume": "Continue an unfinished deploy from its first step not finished.",
        "watch": "Watch the first transactions for so many seconds instead of `watch_for`.",
        "reason": "Why, for the record.",
    }
)
def deploy(
    c: Context,
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
    resume: bool = False,
    watch: str | None = None,
    reason: str = "",
) -> None:
    """Deploy: gates, build, deploy, prove, watch; taken back when it is bad."""
    import commands

    flags = _flags(c, env, spec, json)
    _end(commands.deploy(flags, resume=resume, watch=_seconds(watch), reason=reason))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 86_400:
        sys.stderr.write(f"--watch: found {text!r}; a whole number of seconds from 1 to 86400 is allowed\n")
        raise Exit(code=2)
    return float(text)


@task(help=COMMON)
def plan(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Show every step of a deploy with its time limit and its way back. Changes nothing."""
    import commands

    _end(commands.plan(_flags(c, env, spec, json)))


@task(help={**COMMON, "offline": "Only the gates that need no network."})
def validate(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False, offline: bool = False) -> None:
    """Run the gates alone: may this configuration go live?"""
    import commands

    _end(commands.validate(_flags(c, env, spec, json), offline=offline))


@task(help={**COMMON, "why": "How it got out, in one line, for whoever reads the list."})
def expose(c: Context, why: str = "", env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """List a credential as exposed: it is asked for unseen, or read from stdin; only its hash is kept."""
    import commands

    _end(commands.expose(_flags(c, env, spec, json), why=why))


@task(help=COMMON)
def config_check(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Show the settings as a run would see them, with their sources; secrets as fingerprints."""
    import commands

    _end(commands.config_check(_flags(c, env, spec, json)))


@task(help=COMMON)
def verify(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Run the proofs against the release that is live."""
    import commands

    _end(commands.verify(_flags(c, env, spec, json)))


@task(
    help={
        **COMMON,
        "mode": "`initialise` pays nothing, `operator` shows a link for a person to pay, `card` pays by test card "
        "(default: card in the sandbox, initialise elsewhere).",
        "cap": "The most that this run may spend, in cents (default: the price of the smoke course).",
        "yes": "Do not ask before real money is asked for (for jobs).",
    }
)
def smoke(
    c: Context,
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
    mode: str = "",
    cap: str = "",
    yes: bool = False,
) -> None:
    """Make one small payment against what is live, and follow it to the enrolment."""
    import smoke as smoking

    _end(smoking.smoke(_flags(c, env, spec, json), mode=mode, cap=cap, yes=yes))


@task(
    help={
        **COMMON,
        "only": "Only these probes, with commas between them; names as in `probe --list`.",
        "mode": "`card` pays smoke payments by test card (default in the sandbox), `initialise` pays nothing.",
        "cap": "The most that the smoke payments of mode card may cost, in cents.",
        "list": "List the probes, and send nothing.",
    }
)
def probe(
    c: Context,
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
    only: str = "",
    mode: str = "",
    cap: str = "",
    list: bool = False,  # noqa: A002 - it is the flag's name
) -> None:
    """Send what strangers and attackers may send, and show what the service does with it."""
    import probing

    flags = _flags(c, env, spec, json)
    _end(probing.probe(flags, only=only, mode=mode, cap=cap, listing=list))


@task(
    help={
        **COMMON,
        "to": "A verified release; by default what an unfinished run would go back to, or the last verified one.",
        "reason": "Why, for the record.",
        "yes": "Do not ask (for jobs).",
        "dry-run": "Show what would be done, and change nothing.",
        "test-mode": "Open with test mode on: new payments move no money until `./inv open`.",
    }
)
def rollback(
    c: Context,
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
    to: str | None = None,
    reason: str = "",
    yes: bool = False,
    dry_run: bool = False,
    test_mode: bool = False,
) -> None:
    """Go back to the last verified release, confirm it, prove it, reopen."""
    import commands

    flags = _flags(c, env, spec, json)
    _end(commands.rollback(flags, to=to, reason=reason, yes=yes, dry_run=dry_run, test_mode=test_mode))


@task(
    help={
        **COMMON,
        "reason": "Why, for the record and for whoever opens again.",
        "payments": "Only new payments; pages stay.",
        "test-mode": "Only money: new payments are made in the gateway's test mode.",
    }
)
def close(
    c: Context,
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
    reason: str = "",
    payments: bool = False,
    test_mode: bool = False,
) -> None:
    """Close at once: pages and new payments answer 503, webhooks stay open. A run at work respects it."""
    import doors

    _end(doors.close(_flags(c, env, spec, json), payments=payments, test_mode=test_mode, reason=reason))


@task(
    name="open",
    help={
        **COMMON,
        "reason": "Why, for the record.",
        "maintenance": "Only pages.",
        "payments": "Only new payments.",
        "test-mode": "Only money: new payments are real again.",
        "yes": "Do not ask (for jobs).",
    },
)
def open_(
    c: Context,
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
    reason: str = "",
    maintenance: bool = False,
    payments: bool = False,
    test_mode: bool = False,
    yes: bool = False,
) -> None:
    """Open what persons closed, where a verified release serves and is ready."""
    import doors

    only = {"maintenance": maintenance, "payments": payments, "test_mode": test_mode}
    _end(doors.open_(_flags(c, env, spec, json), **only, reason=reason, yes=yes))


@task(
    help={
        **COMMON,
        "since": "Payments made since then: an instant (2026-11-20T08:00:00Z) or a duration (2h, 3d), at most 30 d "
        "(default: where the books of the last `reconcile` end).",
        "apply": "Deliver the webhooks again of what is paid and not activated, once and on record.",
    }
)
def reconcile(
    c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False, since: str = "", apply: bool = False
) -> None:
    """Compare what the gateway was paid with what the service activated. Exit 1 while they do not agree."""
    import books

    _end(books.reconcile(_flags(c, env, spec, json), since=since, apply=apply))


@task(help=COMMON)
def notify(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Send a test notice to everybody who is told how runs go. Exit 1 when one was not reached."""
    import notify as notifying

    _end(notifying.notify(_flags(c, env, spec, json)))


@task(help=COMMON)
def status(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Show what is live, what is closed, who holds the lease, and what is unfinished."""
    import commands

    _end(commands.status(_flags(c, env, spec, json)))


@task(help=COMMON)
def history(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """List the runs on record."""
    import commands

    _end(commands.history(_flags(c, env, spec, json)))


@task(help={**COMMON, "run": "A run of `history`; the last one by default."})
def report(c: Context, run: str = "", env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Write and show the report of a run."""
    import commands

    _end(commands.report(_flags(c, env, spec, json), run=run or None))


@task(help=COMMON)
def audit(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Verify that the record is whole."""
    import auditing

    _end(auditing.audit(_flags(c, env, spec, json)))


@task(
    help={
        "since": "Only entries since then: an instant (2026-11-20T08:00:00Z) or a duration (2h, 3d).",
        "security": "Only security events, in the form of docs/security-events.md.",
        "run": "Only this run of `history`.",
        "after": "Only entries after the one of this number; NUMBER:HASH also proves that it is still there.",
        "env": COMMON["env"],
        "spec": COMMON["spec"],
    }
)
def export(
    c: Context,
    since: str = "",
    security: bool = False,
    run: str = "",
    after: str = "",
    env: str = "sandbox",
    spec: str = SPEC,
) -> None:
    """Write the record as lines of JSON, for a log collector. Exit 4 where it is broken."""
    import export as exporting

    _end(exporting.export(_flags(c, env, spec, json=False), since=since, security=security, run=run, after=after))


@task(help=COMMON)
def checks(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """List every check with its promise, and the stage that uses it."""
    import commands

    _end(commands.checks(_flags(c, env, spec, json)))


@task(
    positional=["item"],
    help={
        "item": "One of the sign-offs or duties of pipeline.yaml.",
        "evidence": "What you looked at: a sentence, or the path of a document, whose digest is signed.",
        "valid-for": "How long the signature lasts, e.g. 90d (default: as long as pipeline.yaml allows).",
        "key": "Your SSH key (default: the one git signs with, else ~/.ssh/id_ed25519).",
        **COMMON,
    },
)
def attest(
    c: Context,
    item: str,
    evidence: str = "",
    valid_for: str = "",
    key: str = "",
    env: str = "sandbox",
    spec: str = SPEC,
    json: bool = False,
) -> None:
    """Sign for an item that only a person can answer, with your SSH key."""
    import people

    _end(people.attest(_flags(c, env, spec, json), item, evidence=evidence, valid_for=valid_for, key=key))


@task(help={**COMMON, "strict": "Exit 1 while a line is open."})
def checklist(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False, strict: bool = False) -> None:
    """Show the guide's whole checklist: each line evidenced, signed or open."""
    import people

    _end(people.checklist(_flags(c, env, spec, json), strict=strict))


@task(help=COMMON)
def duties(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Show recurring work, when it was last done, when it is due. Exit 1 while one is overdue."""
    import people

    _end(people.duties(_flags(c, env, spec, json)))


@task(
    help={
        "fault": "One fault of `drill --list`, or several: a,b.",
        "all": "Every fault; exit 0 only if each was caught and the invariants hold.",
        "list": "List the faults.",
        **COMMON,
        "env": "The sandbox, which is the only place for a drill (default: sandbox).",
    }
)
def drill(
    c: Context,
    env: str = "sandbox",
    fault: str | None = None,
    all: bool = False,  # noqa: A002 - it is the flag's name
    list: bool = False,  # noqa: A002
    spec: str = SPEC,
    json: bool = False,
) -> None:
    """Switch on a fault and show what the pipeline does, in a sandbox of its own."""
    import commands

    _end(commands.drill(_flags(c, env, spec, json), fault=fault, every=all, listing=list))


@task(help=COMMON)
def up(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Start the sandbox, or find it running; show its addresses."""
    import commands

    _end(commands.sandbox(_flags(c, env, spec, json), do="up"))


@task(help=COMMON)
def down(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Stop the sandbox; its data stays."""
    import commands

    _end(commands.sandbox(_flags(c, env, spec, json), do="down"))


@task(name="status", help=COMMON)
def sandbox_status(c: Context, env: str = "sandbox", spec: str = SPEC, json: bool = False) -> None:
    """Show whether the sandbox runs, and where."""
    import commands

    _end(commands.sandbox(_flags(c, env, spec, json), do="status"))


# ---- for those who work on Tollgate itself -----------------------------------------------------------------


@task
def lint(c: Context) -> None:
    """ruff, mypy, import-linter, actionlint."""
    _end(_all_of(LINTERS))


@task(help={"k": "Only tests that match, as `pytest -k`."})
def test(c: Context, k: str = "") -> None:
    """Lint, then every test."""
    pytest = [sys.executable, "-m", "pytest", "-n", "4", "--no-loadscope-reorder", *(["-k", k] if k else [])]
    _end(_all_of([*LINTERS, pytest] if not k else [pytest]))


@task
def lock(c: Context) -> None:
    """Pin requirements.in and requirements-dev.in with hashes."""
    common = ["uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--universal"]
    common += ["--python-version", "3.11"]
    run = [*common, "requirements.in", "--output-file", "requirements.txt"]
    dev = [*common, "requirements-dev.in", "--constraint", "requirements.txt", "--output-file", "requirements-dev.txt"]
    _end(_all_of([run, dev]))


@task
def docs(c: Context) -> None:
    """Write what is generated: pipeline/schema.json and docs/checks.md."""
    import generated

    for path in generated.write():
        sys.stdout.write(f"{path}\n")


LINTERS = [
    ["ruff", "format", "--check", "--quiet", "."],
    ["ruff", "check", "--quiet", "."],
    ["mypy"],
    ["lint-imports"],
    ["actionlint"],
]


def _all_of(commands: list[list[str]]) -> int:
    """Runs each in the project's folder with its own environment first on PATH; the first bad exit code, or 0."""
    scripts = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")])}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start many processes, and each would compile everything anew
    first = 0
    for argv in commands:
        done = subprocess.run(argv, cwd=HERE, env=env, check=False)
        if done.returncode:
            sys.stderr.write(f"{' '.join(argv[:3])} ended with {done.returncode}\n")
        first = first or done.returncode
    return first


def _namespace() -> Any:
    sandbox = Collection("sandbox", up, down, sandbox_status)
    engine = [
        deploy,
        plan,
        validate,
        config_check,
        expose,
        verify,
        smoke,
        probe,
        rollback,
        close,
        open_,
        reconcile,
        notify,
        status,
        history,
        report,
        audit,
        export,
        checks,
        drill,
    ]
    ns = Collection(*engine, attest, checklist, duties, test, lint, lock, docs)
    ns.add_collection(sandbox)
    return ns


ns = _namespace()
