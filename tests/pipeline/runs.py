"""Runs as their journals would hold them, for tests and for looking at what a person sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.events import Entry, Kind

START = datetime(2026, 3, 14, 9, 30, 0, tzinfo=UTC)
RELEASE = "20260314T093000-4f9811d"
PREVIOUS = "20260312T161544-9c02b7e"

GATES = (
    "settings.valid",
    "settings.test_mode_off",
    "settings.names_fit_environment",
    "credentials.not_placeholders",
    "endpoints.https_on_expected_host",
    "leaks.none_in_source",
    "target.has_room",
)
PROOFS = (
    "health.ready",
    "payment.initialises",
    "payment.is_paid",
    "webhook.arrives",
    "enrolment.active_once",
    "enrolment.needs_payment",
    "payment.refuses_wrong_amount",
    "webhook.refuses_unsigned",
    "webhook.refuses_wrong_signature",
    "webhook.refuses_tampered",
    "webhook.duplicate_is_harmless",
)
WATCHES = ("watch.payment_success", "watch.initialisation_time", "watch.webhook_time", "watch.webhook_validation")
TEST_MODE = (
    "Test mode must be disabled in production: VITE_IKHOKHA_TEST_MODE is true in .env.production, allowed is false."
)
UNSIGNED = (
    "POST /api/webhooks/ikhokha without a signature was answered with 200 in 12 ms and activated the enrolment "
    "smoke-3f9a; 401 and no effect are expected."
)
CHECKPOINTS = ("release", "settings", "maintenance", "payments")


class Tale:
    """Writes entries as a journal would: numbered, chained, at a time that only moves forward."""

    def __init__(self, run: str = "20260314T093000-7d1f") -> None:
        self.run = run
        self.at = START
        self.entries: list[Entry] = []
        self._begun: dict[str, datetime] = {}

    def tell(self, kind: Kind, after: float = 0.02, **data: Any) -> None:
        self.at += timedelta(seconds=after)
        previous = self.entries[-1].hash if self.entries else "0" * 64
        text = json.dumps([previous, self.run, self.at.isoformat(), kind, data], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.entries.append(Entry(len(self.entries) + 1, self.run, self.at, kind, data, previous, digest))

    def starts(self, verb: str = "deploy", environment: str = "sandbox", **data: Any) -> None:
        said: dict[str, Any] = {
            "verb": verb,
            "environment": environment,
            "service": "betaskill-courses",
            "release": RELEASE if verb == "deploy" else None,
            "previous": PREVIOUS,
            "who": "thandi",
            "machine": "deploy-1",
            "reason": "",
            "spec_digest": "5e" * 32,
            "plan": plan(verb, environment),
            "resumes": None,
        }
        self.tell(Kind.RUN_STARTED, 0, **{**said, **data})
        self.tell(Kind.LEASE_TAKEN, token=41, owner="thandi@deploy-1", from_dead_owner=None)

    def check(self, stage: str, name: str, verdict: str = "PASS", after: float = 0.1, **finding: Any) -> None:
        self.begins(stage, name)
        self.judged(stage, name, verdict, after, **finding)

    def together(self, stage: str, names: Sequence[str], after: float = 0.1) -> None:
        """Checks that run side by side."""
        for name in names:
            self.begins(stage, name)
        for name in names:
            self.judged(stage, name, after=after)

    def begins(self, stage: str, name: str) -> None:
        self.tell(Kind.STEP_STARTED, 0.001, stage=stage, step=name, does=f"check {name}", limit_s=60.0, attempt=1)
        self._begun[name] = self.at

    def judged(self, stage: str, name: str, verdict: str = "PASS", after: float = 0.1, **finding: Any) -> None:
        said = self.found(stage, name, verdict, after, **finding)
        good = verdict in ("PASS", "ADVICE", "SKIPPED")
        self.tell(
            Kind.STEP_FINISHED,
            0.001,
            stage=stage,
            step=name,
            outcome="skipped" if verdict == "SKIPPED" else "done" if good else "failed",
            error="" if good else f"{name}: {said['reason']}",
            remedy="" if good else said["remedy"],
            took_s=(self.at - self._begun[name]).total_seconds(),
        )

    def found(self, stage: str, name: str, verdict: str = "PASS", after: float = 0.1, **finding: Any) -> dict[str, Any]:
        """A finding alone: all that is on record of a proof on the way back."""
        said = {"reason": "as it should be", "remedy": "", "evidence": {}, "rows": [], **finding}
        self.tell(Kind.FINDING, after, stage=stage, step=name, check=name, verdict=verdict, **said)
        return said

    def step(self, stage: str, name: str, does: str, after: float = 0.6, armed: Sequence[str] = (), **end: Any) -> None:
        self.tell(Kind.STEP_STARTED, 0.0, stage=stage, step=name, does=does, limit_s=90.0, attempt=1)
        for checkpoint in armed:
            self.tell(Kind.CHECKPOINT_ARMED, stage=stage, step=name, name=checkpoint, captured={"was": PREVIOUS})
        said = {"outcome": "done", "error": "", "remedy": "", "took_s": after}
        self.tell(Kind.STEP_FINISHED, after, stage=stage, step=name, **{**said, **end})

    def stage(self, name: str, outcome: str = "done") -> _Stage:
        return _Stage(self, name, outcome)

    def ends(self, outcome: str, code: int, summary: str) -> None:
        took = (self.at - START).total_seconds()
        self.tell(Kind.RUN_FINISHED, outcome=outcome, exit_code=code, summary=summary, took_s=took)


class _Stage:
    """`with tale.stage("gates"):` tells its start and its end."""

    def __init__(self, tale: Tale, name: str, outcome: str) -> None:
        self._tale, self._name, self._outcome = tale, name, outcome

    def __enter__(self) -> None:
        self._begun = self._tale.at
        self._tale.tell(Kind.STAGE_STARTED, stage=self._name)

    def __exit__(self, *_: object) -> None:
        took = (self._tale.at - self._begun).total_seconds()
        self._tale.tell(Kind.STAGE_FINISHED, stage=self._name, outcome=self._outcome, took_s=took)


def plan(verb: str = "deploy", environment: str = "sandbox") -> dict[str, Any]:
    """What `Plan.as_data()` gives for the shipped spec, shortened."""
    switch = {
        **_planned("release.switch", "act release.switch", "restores release, settings, maintenance, payments"),
        "needs": ["release.stage", "rollback.rehearsed"],
        "checkpoints": list(CHECKPOINTS),
        "limit_s": 90.0,
    }
    stages: dict[str, list[dict[str, Any]]] = {
        "gates": [_planned(name, f"check {name}") for name in GATES],
        "build": [_planned("build", "run python sandbox/shop/build.py"), _planned("leaks.none_in_bundle")],
        "deploy": [_planned("release.stage", "act release.stage"), _planned("rollback.rehearsed"), switch],
        "prove": [_planned(name) for name in PROOFS],
        "watch": [_planned("shoppers", "run python -m sandbox.shoppers"), *(_planned(name) for name in WATCHES)],
        "finish": [_planned("release.verify", "act release.verify")],
    }
    chosen = {"deploy": list(stages), "verify": ["prove"], "validate": ["gates"]}.get(verb, [])
    return {
        "verb": verb,
        "environment": environment,
        "service": "betaskill-courses",
        "stages": [{"name": name, "steps": stages[name]} for name in chosen],
    }


def _planned(name: str, does: str = "", way_back: str = "nothing to put back: it changes nothing") -> dict[str, Any]:
    return {
        "name": name,
        "does": does or f"check {name}",
        "with": {},
        "limit_s": 60.0,
        "needs": [],
        "retries": 0,
        "checkpoints": [],
        "way_back": way_back,
    }


def _until_switched(tale: Tale) -> None:
    tale.starts()
    with tale.stage("gates"):
        tale.together("gates", GATES, 0.06)
    with tale.stage("build"):
        tale.step("build", "build", "run python sandbox/shop/build.py", 1.2)
        tale.check("build", "leaks.none_in_bundle")
    with tale.stage("deploy"):
        tale.step("deploy", "release.stage", "act release.stage", 0.3)
        tale.check("deploy", "rollback.rehearsed", after=1.1)
        tale.step("deploy", "release.switch", "act release.switch", 1.4, armed=CHECKPOINTS)
        tale.tell(Kind.RELEASE_MARKED, release=RELEASE, state="live", why="switched in by this run")


def passing() -> list[Entry]:
    """Everything holds; one gate recommends something, one is skipped for a reason."""
    tale = Tale()
    _until_switched(tale)
    with tale.stage("prove"):
        tale.together("prove", PROOFS, 0.25)
    with tale.stage("watch"):
        tale.step("watch", "shoppers", "run python -m sandbox.shoppers", 5.0)
        tale.check(
            "watch",
            "watch.payment_success",
            "ADVICE",
            after=5.1,
            reason="94.2% of 120 payments succeeded in 5.0 s: above the alert line of 90%, under the target of 95%.",
            remedy="Look at the failed payments in the service's log before you deploy the next release.",
            evidence={
                "series": series(120, 7),
                "target": 0.95,
                "alert": 0.90,
                "success": 113,
                "failure": 5,
                "error": 2,
            },
            rows=["G9", "G15"],
        )
        tale.check("watch", "watch.initialisation_time", evidence={"p95_ms": 212.0, "limit_ms": 5000})
        tale.check("watch", "watch.webhook_time", "SKIPPED", reason="This service measures no webhook times.")
    with tale.stage("finish"):
        tale.step("finish", "release.verify", "act release.verify", 0.1)
        tale.tell(Kind.RELEASE_MARKED, release=RELEASE, state="verified", why="proven and watched by this run")
    tale.ends("done", 0, f"Release {RELEASE} was deployed to sandbox, proven and watched.")
    return tale.entries


def refused() -> list[Entry]:
    """Two gates do not promote; nothing was changed."""
    tale = Tale()
    tale.starts(environment="production")
    with tale.stage("gates", "failed"):
        tale.check("gates", "settings.valid")
        tale.check(
            "gates",
            "settings.test_mode_off",
            "FAIL",
            reason=TEST_MODE,
            remedy="set VITE_IKHOKHA_TEST_MODE=false",
            evidence={"file": ".env.production", "line": 7, "found": "true", "allowed": ["false"]},
            rows=["G2", "G17", "T4"],
        )
        tale.check(
            "gates",
            "endpoints.https_on_expected_host",
            "INCONCLUSIVE",
            after=10.0,
            reason="GET https://api.ikhokha.com: no answer within 10 s.",
            remedy="See whether this machine may reach api.ikhokha.com on port 443, then run it again.",
            rows=["G3", "G10"],
        )
    tale.tell(
        Kind.RUN_FAILED,
        stage="gates",
        step="settings.test_mode_off",
        error=f"settings.test_mode_off: {TEST_MODE}",
        remedy="set VITE_IKHOKHA_TEST_MODE=false",
    )
    tale.ends("refused", 1, "Two gates refused the deploy to production; nothing was changed.")
    return tale.entries


def _fails_and_goes_back(tale: Tale) -> None:
    _until_switched(tale)
    with tale.stage("prove", "failed"):
        tale.check("prove", "health.ready")
        tale.check(
            "prove",
            "webhook.refuses_unsigned",
            "FAIL",
            after=0.4,
            reason=UNSIGNED,
            remedy="Verify IK-SIGN over the canonical form first in the webhook handler, and answer 401.",
            evidence={"sent": "unsigned SUCCESS", "status": 200, "took_ms": 12.4, "activations": 1},
            rows=["G11", "T6"],
        )
        tale.step("prove", "webhook.refuses_tampered", "check webhook.refuses_tampered", outcome="cancelled")
    tale.tell(
        Kind.RUN_FAILED,
        stage="prove",
        step="webhook.refuses_unsigned",
        error=f"webhook.refuses_unsigned: {UNSIGNED}",
        remedy="Verify IK-SIGN over the canonical form first in the webhook handler, and answer 401.",
    )
    tale.tell(Kind.RELEASE_MARKED, release=RELEASE, state="bad", why=f"webhook.refuses_unsigned: {UNSIGNED}")
    tale.tell(
        Kind.WAYBACK_STARTED,
        why=f"webhook.refuses_unsigned: {UNSIGNED}",
        release=PREVIOUS,
        checkpoints=[{"name": name, "captured": {"was": PREVIOUS}} for name in CHECKPOINTS],
        of_run=tale.run,
    )
    tale.tell(Kind.PAYMENTS_CLOSED, why=f"webhook.refuses_unsigned: {UNSIGNED}")


def _restore(tale: Tale, name: str, ok: bool = True, **said: Any) -> None:
    tale.tell(Kind.CHECKPOINT_RESTORING, name=name)
    data = {"ok": ok, "found": PREVIOUS, "expected": PREVIOUS, "error": "", "took_s": 0.3}
    tale.tell(Kind.CHECKPOINT_CONFIRMED, 0.3, name=name, **{**data, **said})


def restored() -> list[Entry]:
    """A proof fails after the switch; the way back is confirmed."""
    tale = Tale()
    _fails_and_goes_back(tale)
    for name in ("maintenance", "settings", "release"):
        _restore(tale, name)
    for name in PROOFS:
        tale.found("prove", name, after=0.2)
    tale.tell(Kind.RECONCILED, ok=True, paid=5, activated=5, repaired=["order-0031"], mismatches=[], error="")
    _restore(tale, "payments")
    tale.tell(Kind.REOPENED, release=PREVIOUS, took_s=4.2)
    tale.ends("restored", 3, f"webhook.refuses_unsigned: {UNSIGNED}; restored and confirmed: {PREVIOUS}")
    return tale.entries


def _cannot_go_back() -> Tale:
    tale = Tale()
    _fails_and_goes_back(tale)
    _restore(tale, "maintenance")
    _restore(
        tale,
        "settings",
        False,
        found="1f0c7d",
        expected="9be441",
        error="settings.env could not be written: read-only file system",
    )
    _restore(tale, "release")
    tale.tell(
        Kind.RECONCILED,
        ok=False,
        paid=6,
        activated=5,
        repaired=[],
        mismatches=[{"reference": "order-0044", "found": "paid, not activated", "expected": "1 activation"}],
        error="",
    )
    why = "checkpoint settings: settings.env could not be written: read-only file system"
    tale.tell(Kind.CLOSED, why=why, how="maintenance switch", manual=_manual(why))
    return tale


def _manual(why: str) -> list[str]:
    return [
        "The service in sandbox is closed for new payments and must stay so until this is done.",
        f"Mend: {why}",
        f"`./inv status --env sandbox` shows what runs; the goal is release {PREVIOUS} with its own settings.",
        "Then `./inv rollback --env sandbox` restores, confirms, proves and reopens; it is safe to repeat.",
    ]


def person_needed() -> list[Entry]:
    """A proof fails after the switch, and the way back cannot be confirmed: the service stays closed."""
    tale = _cannot_go_back()
    closed = f"sandbox is closed: the way back to {PREVIOUS} could not be confirmed"
    tale.ends("person needed", 4, f"webhook.refuses_unsigned: {UNSIGNED}; {closed}")
    return tale.entries


def not_closed() -> list[Entry]:
    """Worse: not even closing works."""
    tale = _cannot_go_back()
    at_once = "sandbox is NOT closed. Close it by hand at once, in the proxy in front of it."
    why = "checkpoint settings: settings.env could not be written: read-only file system"
    how = "not closed: maintenance switch: no answer; closing the target: no answer"
    tale.tell(Kind.CLOSED, why=why, how="the target answers 503 itself", manual=_manual(why))
    tale.tell(Kind.CLOSED, why=why, how=how, manual=[at_once, *_manual(why)[1:]])
    tale.ends("person needed", 4, "sandbox IS NOT CLOSED AND MUST BE, BY HAND")
    return tale.entries


def interrupted() -> list[Entry]:
    """Ctrl-C during the build."""
    tale = Tale()
    tale.starts()
    with tale.stage("gates"):
        tale.together("gates", GATES, 0.06)
    with tale.stage("build", "cancelled"):
        tale.step("build", "build", "run python sandbox/shop/build.py", 0.7, outcome="cancelled")
    tale.tell(Kind.RUN_FAILED, stage="", step="", error="interrupted by Ctrl-C", remedy="Run it again when you like.")
    tale.ends("interrupted", 130, "interrupted by Ctrl-C; nothing was changed")
    return tale.entries


def taken_over() -> list[Entry]:
    """A rollback stops it while it proves the release that it has switched in."""
    tale = Tale()
    _until_switched(tale)
    with tale.stage("prove", "cancelled"):
        tale.step("prove", "health.ready", "check health.ready", 0.3, outcome="cancelled")
    over = "taken over by run 20260314T093100-11aa of sipho on deploy-2, process 4711 (rollback): enrolments look wrong"
    remedy = "That rollback puts right what this run changed; `./inv status` shows how far it is."
    tale.tell(Kind.RUN_FAILED, stage="", step="", error=over, remedy=remedy)
    tale.ends("taken over", 5, f"{over}; nothing more was changed")
    return tale.entries


def bug() -> list[Entry]:
    """Something of the pipeline itself broke before the first change."""
    tale = Tale()
    tale.starts()
    error = "a bug of Tollgate: KeyError: 'gates'"
    tale.tell(Kind.RUN_FAILED, stage="", step="", error=error, remedy="Report it with bug.log.")
    tale.ends("bug", 70, f"{error}; nothing was changed")
    return tale.entries


def crashed() -> list[Entry]:
    """The runner was killed between the switch and its proofs."""
    tale = Tale()
    _until_switched(tale)
    tale.tell(Kind.STAGE_STARTED, stage="prove")
    tale.tell(Kind.STEP_STARTED, stage="prove", step="health.ready", does="check health.ready", limit_s=60.0, attempt=1)
    return tale.entries


def resumed() -> list[Entry]:
    """`./inv deploy --resume` finishes, two hours later, what the crashed run left behind."""
    tale = Tale()
    tale.entries = crashed()
    tale.at = tale.entries[-1].at + timedelta(hours=2)
    reason = f"resumed; it stood at step.started prove health.ready at {tale.entries[-1].at:%Y-%m-%d %H:%M:%S} UTC"
    tale.starts(who="sipho", reason=reason, resumes=tale.run)
    for name in ("gates", "build", "deploy"):
        with tale.stage(name):
            pass
    with tale.stage("prove"):
        tale.together("prove", PROOFS, 0.25)
    with tale.stage("finish"):
        tale.step("finish", "release.verify", "act release.verify", 0.1)
        tale.tell(Kind.RELEASE_MARKED, release=RELEASE, state="verified", why=f"all stages of run {tale.run} passed")
    tale.tell(
        Kind.RUN_FINISHED,
        outcome="done",
        exit_code=0,
        summary=f"{RELEASE} is live and verified in sandbox",
        took_s=3.1,
    )
    return tale.entries


def rolled_back() -> list[Entry]:
    """`./inv rollback` puts right what the crashed run left behind."""
    tale = Tale("20260314T094500-02ac")
    tale.starts("rollback", release=PREVIOUS, reason="the runner was killed")
    tale.tell(
        Kind.WAYBACK_STARTED,
        why="the runner was killed",
        release=PREVIOUS,
        checkpoints=[{"name": name, "captured": {"was": PREVIOUS}} for name in CHECKPOINTS],
        of_run=crashed()[0].run,
    )
    tale.tell(Kind.PAYMENTS_CLOSED, why="the runner was killed")
    for name in ("maintenance", "settings", "release"):
        _restore(tale, name)
    tale.found("prove", "health.ready")
    tale.tell(Kind.RECONCILED, ok=True, paid=0, activated=0, repaired=[], mismatches=[], error="")
    _restore(tale, "payments")
    tale.tell(Kind.REOPENED, release=PREVIOUS, took_s=2.8)
    tale.tell(Kind.RUN_SUPERSEDED, of_run=crashed()[0].run, by_run=tale.run)
    tale.ends("done", 0, f"Release {PREVIOUS} serves again.")
    return tale.entries


def series(payments: int, bad: int, seconds: int = 5) -> list[dict[str, float]]:
    """Counts since the watch began, once every half second."""
    points = []
    for tick in range(seconds * 2 + 1):
        part = tick / (seconds * 2)
        failure = round(bad * part * 0.7)
        error = round(bad * part) - failure
        points.append(
            {"t_s": tick / 2, "success": round(payments * part) - failure - error, "failure": failure, "error": error}
        )
    return points


RUNS: Mapping[str, Callable[[], list[Entry]]] = {
    "passing": passing,
    "refused": refused,
    "restored": restored,
    "person needed": person_needed,
    "not closed": not_closed,
    "taken over": taken_over,
    "interrupted": interrupted,
    "bug": bug,
    "crashed": crashed,
    "resumed": resumed,
    "rolled back": rolled_back,
}


def prefixes(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """What a journal holds if the runner is killed after any of its entries; none at all comes first."""
    return (entries[:length] for length in range(len(entries) + 1))
