"""Judging what probes came to: tables of cases, and whatever else may come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.facts.payments import Standing
from checks.probes.judging import allowed, finding, result
from checks.probes.playing import Late, Played, Run
from checks.probes.probe import (
    CLOSED,
    INVALID,
    REFUSED,
    SILENT,
    TAKEN,
    Effect,
    Probe,
    Reply,
    Severity,
    Shown,
    Turn,
)
from checks.probes.scene import Scene
from pipeline.verdict import Verdict

NEVER = Standing("", False, 0)
PENDING = Standing("pending", False, 0)
UNKNOWN = Standing("unknown", False, 0)
FAILED = Standing("failed", False, 0)
PAID = Standing("paid", True, 1)
TWICE = Standing("paid", True, 2)
ENROLLED = Standing("pending", True, 1)
UNDONE = Standing("failed", False, 1)


async def _unplayed(_scene: Scene) -> Shown:
    raise AssertionError("judging plays nothing")


def probe(
    name: str = "webhook.x",
    answers: tuple[int, ...] = REFUSED,
    effect: Effect | None = Effect.UNCHANGED,
    severity: Severity = Severity.HIGH,
) -> Probe:
    return Probe(name, "something", answers, effect, severity, "Mend it.", _unplayed, Turn.FORGED)


def shown(
    *statuses: int, before: Standing | None = PENDING, after: Standing | None = PENDING, wrong: str = "", lost: str = ""
) -> Shown:
    return Shown(
        "smoke-1", tuple(Reply("a forgery", status, 12.5, lost=lost) for status in statuses), before, after, wrong
    )


OK = Reply("the control", 200, 3.0)


def run(*played: Played, first: Reply = OK, last: Reply = OK, late: tuple[Late, ...] = (), alive: bool = True) -> Run:
    return Run(first, last, played, late, took_ms=1200, alive=alive)


@pytest.mark.parametrize(
    ("answers", "status", "alive", "verdict", "word"),
    [
        (REFUSED, 401, True, Verdict.PASS, "401 in 12.5 ms"),
        (REFUSED, 403, True, Verdict.PASS, "403"),
        (REFUSED, 404, True, Verdict.FAIL, "allowed: 400, 401, 403"),
        (REFUSED, 200, True, Verdict.FAIL, "answered 200"),
        (REFUSED, 302, True, Verdict.FAIL, "answered 302"),
        (REFUSED, 429, True, Verdict.INCONCLUSIVE, "which is no refusal"),
        (INVALID, 429, True, Verdict.INCONCLUSIVE, "which is no refusal"),
        (REFUSED, 500, True, Verdict.FAIL, "may break the service"),
        (REFUSED, 502, True, Verdict.FAIL, "may break the service"),
        (REFUSED, 502, False, Verdict.INCONCLUSIVE, "does not live"),
        ((502, 503), 503, True, Verdict.PASS, "503"),
        ((502, 503), 503, False, Verdict.INCONCLUSIVE, "does not live"),
        (REFUSED, CLOSED, True, Verdict.FAIL, "no answer"),
        (REFUSED, CLOSED, False, Verdict.INCONCLUSIVE, "does not live"),
        ((CLOSED, 413), CLOSED, True, Verdict.PASS, "no answer"),
        ((CLOSED, 413), CLOSED, False, Verdict.INCONCLUSIVE, "does not live"),
        ((CLOSED, 413), SILENT, True, Verdict.FAIL, "no answer"),
        (TAKEN, 204, True, Verdict.PASS, "204"),
        (TAKEN, 401, True, Verdict.FAIL, "allowed: 2xx"),
    ],
)
def test_answers(answers: tuple[int, ...], status: int, alive: bool, verdict: Verdict, word: str) -> None:
    """An answer is right only where the table says so; a limit and a dead process never are."""
    one = result(Played(probe(answers=answers), shown(status), alive=alive))
    assert (one.verdict, word in one.reason) == (verdict, True), one


@pytest.mark.parametrize(
    ("effect", "before", "after", "verdict"),
    [
        (Effect.UNCHANGED, PENDING, PENDING, Verdict.PASS),
        (Effect.UNCHANGED, PENDING, UNKNOWN, Verdict.PASS),
        (Effect.UNCHANGED, NEVER, NEVER, Verdict.PASS),
        (Effect.UNCHANGED, NEVER, PENDING, Verdict.FAIL),
        (Effect.UNCHANGED, PENDING, FAILED, Verdict.FAIL),
        (Effect.UNCHANGED, PENDING, ENROLLED, Verdict.FAIL),
        (Effect.UNCHANGED, None, PENDING, Verdict.INCONCLUSIVE),
        (Effect.UNCHANGED, PENDING, None, Verdict.INCONCLUSIVE),
        (Effect.NOT_PAID, None, PENDING, Verdict.PASS),
        (Effect.NOT_PAID, None, FAILED, Verdict.PASS),
        (Effect.NOT_PAID, PENDING, PAID, Verdict.FAIL),
        (Effect.NOT_PAID, PENDING, ENROLLED, Verdict.FAIL),
        (Effect.NOT_FAILED, PENDING, PENDING, Verdict.PASS),
        (Effect.NOT_FAILED, PENDING, FAILED, Verdict.FAIL),
        (Effect.NOT_FAILED, PENDING, PAID, Verdict.FAIL),
        (Effect.PAID_ONCE, PAID, PAID, Verdict.PASS),
        (Effect.PAID_ONCE, PENDING, PAID, Verdict.PASS),
        (Effect.PAID_ONCE, PAID, TWICE, Verdict.FAIL),
        (Effect.PAID_ONCE, PAID, UNDONE, Verdict.FAIL),
        (Effect.PAID_ONCE, PENDING, PENDING, Verdict.FAIL),
        (Effect.PAID_ONCE, PAID, None, Verdict.INCONCLUSIVE),
        (Effect.NO_ORDER, None, NEVER, Verdict.PASS),
        (Effect.NO_ORDER, None, FAILED, Verdict.PASS),
        (Effect.NO_ORDER, None, PENDING, Verdict.FAIL),
        (Effect.NO_ORDER, None, PAID, Verdict.FAIL),
        (Effect.FIRST_KEPT, PENDING, PENDING, Verdict.PASS),
        (Effect.FIRST_KEPT, PENDING, FAILED, Verdict.FAIL),
        (None, None, None, Verdict.PASS),
    ],
)
def test_effects(effect: Effect | None, before: Standing | None, after: Standing | None, verdict: Verdict) -> None:
    """What the order became counts whatever the status code said; what was not read is no pass."""
    one = result(Played(probe(effect=effect), shown(401, before=before, after=after)))
    assert one.verdict is verdict, one
    assert one.let_in is (verdict is Verdict.FAIL)


def test_one_wrong_reply_among_right_ones_fails() -> None:
    """A probe of several messages passes only when each of them was answered rightly."""
    assert result(Played(probe(), shown(401, 401))).verdict is Verdict.PASS
    assert result(Played(probe(), shown(401, 200, 429))).verdict is Verdict.FAIL
    assert result(Played(probe(), shown(401, 429))).verdict is Verdict.INCONCLUSIVE
    assert result(Played(probe(), shown())).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("played", "verdict"),
    [
        (Played(probe(), skipped="it needs the sandbox"), Verdict.SKIPPED),
        (Played(probe(), unshown="no payment was made"), Verdict.INCONCLUSIVE),
        (Played(probe(), crashed="KeyError: 'x'"), Verdict.ERROR),
        (Played(probe()), Verdict.INCONCLUSIVE),
        (Played(probe(), shown(401, wrong="an address a stranger chose")), Verdict.FAIL),
        (Played(probe(), shown(CLOSED, lost="ConnectError: refused")), Verdict.INCONCLUSIVE),
        (Played(probe(answers=(CLOSED,)), shown(CLOSED, lost="ConnectTimeout: 5 s")), Verdict.INCONCLUSIVE),
        (Played(probe(answers=(CLOSED,)), shown(CLOSED, lost="ConnectError: refused")), Verdict.INCONCLUSIVE),
        (Played(probe(answers=(CLOSED,)), shown(CLOSED, lost="nothing listens there")), Verdict.PASS),
        (Played(probe(), shown(CLOSED, lost="ReadError")), Verdict.FAIL),
    ],
)
def test_what_was_not_seen_does_not_pass(played: Played, verdict: Verdict) -> None:
    """A probe that was skipped, broke or saw something else wrong never passes."""
    one = result(played)
    assert one.verdict is verdict
    assert finding(run(played)).verdict is verdict


REFUSED_CONTROL = Reply("the control", 401, 3.0)


@pytest.mark.parametrize(
    ("played", "verdict"),
    [
        (Played(probe(), shown(401)), Verdict.INCONCLUSIVE),
        (Played(probe(), shown(200)), Verdict.FAIL),
        (Played(probe(), shown(500)), Verdict.FAIL),
        (Played(probe(), shown(401, after=PAID)), Verdict.FAIL),
        (Played(probe(answers=TAKEN), shown(401)), Verdict.INCONCLUSIVE),
        (Played(probe(answers=TAKEN), shown(401, wrong="the canonical form was refused")), Verdict.INCONCLUSIVE),
        (Played(probe(answers=TAKEN), shown(200, wrong="other bytes were taken")), Verdict.FAIL),
        (Played(probe(), crashed="KeyError"), Verdict.ERROR),
    ],
)
@pytest.mark.parametrize("where", ["first", "last"])
def test_without_the_control_refusals_prove_nothing(played: Played, verdict: Verdict, where: str) -> None:
    """Where the correctly signed control is refused, only what was let in counts, and nothing passes."""
    bad = REFUSED_CONTROL
    found = finding(run(played, first=bad) if where == "first" else run(played, last=bad))
    assert found.verdict is verdict
    assert "so no refusal proves anything" in found.reason
    assert "Webhook signature mismatch" in found.remedy


@pytest.mark.parametrize(
    ("status", "passes"), [(200, True), (202, True), (404, True), (429, False), (503, False), (0, False)]
)
def test_what_the_control_may_be_answered(status: int, passes: bool) -> None:
    """2xx, or 404 for an order nobody made; anything else leaves the refusals without worth."""
    found = finding(run(Played(probe(), shown(401)), last=Reply("the control", status, 3.0)))
    assert (found.verdict is Verdict.PASS) is passes


def test_a_service_that_is_dead_in_the_end_passes_nothing() -> None:
    """Refusals of a process that died are worth nothing."""
    assert finding(run(Played(probe(), shown(401)), alive=False)).verdict is Verdict.INCONCLUSIVE


def test_the_finding_names_the_worst_first() -> None:
    """All failing probes are named, the critical ones first, each with what came back and its fix."""
    mild = Played(probe("webhook.a", severity=Severity.MEDIUM), shown(200))
    grave = Played(probe("webhook.z", severity=Severity.CRITICAL), shown(401, after=PAID))
    found = finding(run(mild, grave, Played(probe("webhook.b"), shown(429))))
    assert found.verdict is Verdict.FAIL
    assert found.reason.index("webhook.z (critical)") < found.reason.index("webhook.a (medium)")
    assert "webhook.b" not in found.reason
    assert found.remedy.splitlines() == ["webhook.z: Mend it.", "webhook.a: Mend it."]
    assert found.evidence["counts"] == {"FAIL": 2, "INCONCLUSIVE": 1}


def test_many_failures_are_told_shortly() -> None:
    """Of many failing probes each is named, and the first ones are told."""
    found = finding(run(*(Played(probe(f"webhook.n{n:02d}"), shown(200)) for n in range(20))))
    assert all(f"webhook.n{n:02d}" in found.reason for n in range(20))
    assert found.reason.count("was answered") < 12


def test_a_late_effect_is_a_failure() -> None:
    """An order that changed after the probes had looked fails, and names those that may have done it."""
    late = Late("smoke-1", "payment paid, 1 activation", ("webhook.a", "webhook.b"))
    played = (Played(probe("webhook.a"), shown(401)), Played(probe("webhook.b"), shown(401)))
    found = finding(run(*played, late=(late,)))
    assert found.verdict is Verdict.FAIL
    assert "one of webhook.a, webhook.b" in found.reason


def test_a_late_effect_is_laid_to_the_message_that_was_taken() -> None:
    """Of the probes that used an order, the one whose message was accepted fails; each keeps one row."""
    late = Late("smoke-1", "payment paid, 1 activation", ("webhook.a", "webhook.b"))
    played = (Played(probe("webhook.a"), shown(401)), Played(probe("webhook.b", answers=TAKEN), shown(200)))
    rows = finding(run(*played, late=(late,))).evidence["probes"]
    assert [(row["name"], row["verdict"]) for row in rows] == [("webhook.a", "PASS"), ("webhook.b", "FAIL")]


def test_nothing_chosen_is_no_pass() -> None:
    """No probe at all is not a pass, and neither are only skipped ones."""
    assert finding(run()).verdict is Verdict.INCONCLUSIVE
    assert finding(run(Played(probe(), skipped="it needs the sandbox"))).verdict is Verdict.SKIPPED


def test_the_evidence_tells_each_probe() -> None:
    """The evidence says for each probe what was sent, what came back, how long it took and what the order became."""
    found = finding(run(Played(probe(), shown(401, 401, 403)), Played(probe("webhook.y"), skipped="why")))
    rows = json.loads(json.dumps(found.evidence))["probes"]
    assert [row["name"] for row in rows] == ["webhook.x", "webhook.y"]
    assert rows[0]["statuses"] == {"401": 2, "403": 1}
    assert (rows[0]["sent"], rows[0]["took_ms"], rows[0]["reference"]) == (["a forgery"], 12.5, "smoke-1")
    assert rows[0]["before"] == rows[0]["after"] == {"status": "pending", "active": False, "activations": 0}
    assert rows[1]["verdict"] == "SKIPPED"


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (REFUSED, "400, 401, 403"),
        ((*TAKEN, 404), "2xx, 404"),
        ((*INVALID, CLOSED), "4xx but 429, a closed connection"),
        ((CLOSED, 301, 308, *INVALID), "301, 308, 4xx but 429, a closed connection"),
        ((200, 502), "200, 502"),
    ],
)
def test_right_answers_are_readable(answers: tuple[int, ...], text: str) -> None:
    """The statuses that are right are told in a few words."""
    assert allowed(probe(answers=answers)) == text


standings = st.none() | st.builds(
    Standing, st.sampled_from(["", "pending", "paid", "failed", "odd"]), st.booleans(), st.integers(0, 3)
)
replies = st.builds(
    Reply,
    st.just("a forgery"),
    st.sampled_from([-1, 0, 200, 204, 302, 400, 401, 404, 413, 429, 500, 503]),
    st.just(1.0),
)
plays = st.builds(
    Played,
    st.builds(
        probe,
        answers=st.sampled_from([REFUSED, INVALID, TAKEN, (CLOSED, 413)]),
        effect=st.none() | st.sampled_from(Effect),
    ),
    st.none()
    | st.builds(
        Shown,
        st.just("smoke-1"),
        st.lists(replies, max_size=4).map(tuple),
        standings,
        standings,
        st.sampled_from(["", "odd"]),
    ),
    unshown=st.sampled_from(["", "why"]),
    alive=st.booleans(),
)


@given(st.lists(plays, max_size=4), replies, replies, st.booleans())
def test_whatever_came_only_what_is_right_passes(played: list[Played], first: Reply, last: Reply, alive: bool) -> None:
    """Nothing that probes may come to breaks the judgement, and a pass means that every answer was right."""
    found = finding(run(*played, first=first, last=last, alive=alive))
    json.dumps(found.evidence)
    if found.verdict is Verdict.PASS:
        assert alive
        assert {first.status, last.status} <= {200, 204, 404}
        for one in played:
            assert one.shown is not None
            assert one.shown.replies
            assert all(reply.status in one.probe.answers and reply.status != 429 for reply in one.shown.replies)
    else:
        assert found.remedy or found.verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("bodies", "verdict"),
    [
        ((b"no", b"no"), Verdict.PASS),
        ((b'{"id":"7f3a09bc11"}', b'{"id":"0091aa7e55"}'), Verdict.PASS),
        ((b"wrong length", b"wrong bytes"), Verdict.ADVICE),
    ],
)
def test_refusals_that_tell_what_was_wrong_are_advised_against(bodies: tuple[bytes, bytes], verdict: Verdict) -> None:
    """Bad signatures that are refused in different words pass with advice; an ID of the request is no difference."""
    names = ("webhook.signature-made-up", "webhook.signature-truncated")
    played = [
        Played(probe(name), Shown("smoke-1", (Reply("a forgery", 401, 1.0, body),), PENDING, PENDING))
        for name, body in zip(names, bodies, strict=True)
    ]
    assert finding(run(*played)).verdict is verdict
