"""Policies as browsers read them, and the evaluator that is vendored: unmodified, bounded, answering to anything."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checks import pages_csp_strict
from checks.csp.evaluator import LONGEST, VENDORED, Evaluation, Limits, Weakness, evaluate
from checks.csp.policy import missing, policies
from checks.csp.verdicts import BY_SEVERITY, counting, verdict_of
from pipeline.spec import NoParams
from pipeline.verdict import Verdict
from tests.checks.sites import CSP

_DIRECTIVES = "default-src script-src script-src-elem object-src base-uri form-action frame-ancestors img-src x-y"
_SOURCES = (
    "'self' 'none' 'unsafe-inline' 'unsafe-eval' 'strict-dynamic' 'nonce-abcdefghij' 'sha256-AAAA' * https: data: self "
    "https://a.test *.googleapis.com http://b.test:80/x/ [::1] 127.0.0.1 [ ] https://:1 // %zz %41.test a.test:99999 "
    "__proto__ constructor ' 0x7f.1 1.2.3.4.5 https://[::1%25x] ;; script-src"
)
DIRECTIVES, SOURCES = _DIRECTIVES.split(), _SOURCES.split()
SERIALIZED = st.lists(
    st.tuples(st.sampled_from(DIRECTIVES), st.lists(st.sampled_from(SOURCES) | st.text(max_size=6), max_size=5)),
    max_size=6,
).map(lambda parts: ";".join(" ".join((name, *values)) for name, values in parts))


def test_the_evaluator_is_what_was_published() -> None:
    """Each vendored file has the SHA-256 that its provenance lists, and there is no other file."""
    text = (VENDORED / "PROVENANCE").read_text("utf-8")
    listed = dict(reversed(pair) for pair in re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE))
    there = {str(file.relative_to(VENDORED)) for file in VENDORED.rglob("*") if file.is_file()} - {"PROVENANCE"}
    assert set(listed) == there
    for name, expected in listed.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == expected, name
    assert len([name for name in there if name.endswith(".js")]) == 12
    assert "Apache License" in (VENDORED / "LICENSE").read_text("utf-8")


def test_importing_the_checks_loads_no_engine() -> None:
    """A run that judges no page starts no JavaScript."""
    code = "import sys, checks, checks.pages_csp_strict; sys.exit('quickjs' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@given(SERIALIZED | st.text())
@settings(max_examples=60)
@example("script-src 'self'; script-src-elem; __proto__ x; constructor y; toString z")
@example("a" * (LONGEST + 1))
@example("script-src \0")
def test_any_policy_is_evaluated_or_said_not_to_be(serialized: str) -> None:
    """Whatever a header holds, each policy of it gets an evaluation or a reason why there is none."""
    read = policies([serialized])
    evaluations = evaluate([policy.text for policy in read])
    assert len(evaluations) == len(read)
    for policy, evaluation in zip(read, evaluations, strict=True):
        assert not evaluation.problem or len(policy.text) > LONGEST
    for _weakness, verdict in counting(read, evaluations):
        assert verdict in (Verdict.FAIL, Verdict.ADVICE)
    list(missing(read))


def test_a_flood_of_sources_does_not_hold_the_run_up() -> None:
    """The largest policy that is evaluated at all is answered, or given up with a reason."""
    flood = "script-src " + " ".join(f"*.h{n}.test" for n in range(1150))
    assert len(flood) <= LONGEST
    (evaluation,) = evaluate([flood])
    assert evaluation.problem.startswith("the evaluator gave up") or len(evaluation.weaknesses) >= 1150


@pytest.mark.parametrize(
    ("limits", "why"), [(Limits(cpu_s=0.0), "interrupted"), (Limits(memory=400_000), "out of memory")]
)
def test_an_evaluation_has_limits(limits: Limits, why: str) -> None:
    """Out of time or memory the evaluator gives up with a reason, and a policy that was not evaluated never passes."""
    (evaluation,) = evaluate(["script-src " + " ".join(f"h{n}.test" for n in range(900))], limits)
    assert evaluation.problem.startswith("the evaluator gave up: ")
    assert why in evaluation.problem
    page = pages_csp_strict.Guarded("/", policies([CSP]), (evaluation,), 0, 0)
    assert pages_csp_strict.judge(pages_csp_strict.Policies((page,), ()), NoParams()).verdict is Verdict.INCONCLUSIVE


def test_what_cannot_be_a_policy_is_not_evaluated() -> None:
    """Text that no header can carry, and text too long, is answered with a reason."""
    long, high, null = evaluate(["a" * (LONGEST + 1), "default-src é", "default-src \0"])
    assert (long.weaknesses, "16384" in long.problem) == ((), True)
    assert high.problem == null.problem == "it holds characters that no policy may hold"


def test_policies_are_split_as_browsers_split_them() -> None:
    """Commas part policies, the first directive of a name counts, one with characters beyond ASCII is dropped."""
    read = policies(["Default-SRC 'none';;default-src *, ,;", "img-src\t'self'; font-src \xe9", "frame-ancestors *"])
    assert [policy.text for policy in read] == ["default-src 'none'", "img-src 'self'", "frame-ancestors *"]
    assert [policy.dropped for policy in read] == [
        ("default-src: it is given twice and the first counts",),
        ("font-src: it holds a character beyond ASCII",),
        (),
    ]


@pytest.mark.parametrize(
    ("serialized", "rules"),
    [
        ("form-action 'self'; frame-ancestors 'none'; base-uri 'none'", []),
        ("form-action 'self', frame-ancestors 'none', base-uri 'self'", []),
        ("form-action https:; frame-ancestors *; base-uri http:", ["form-action", "frame-ancestors", "base-uri"]),
        ("form-action *; frame-ancestors 'none'; base-uri 'none', form-action 'self'", []),
        (
            "form-action *:443; frame-ancestors HTTPS://*:*; base-uri http://*/",
            ["form-action", "frame-ancestors", "base-uri"],
        ),
        ("form-action *.shop.test; frame-ancestors https://*.shop.test:*; base-uri 'self'", []),
        ("form-action; frame-ancestors; base-uri", []),
        ("default-src 'none'", ["form-action", "frame-ancestors", "base-uri"]),
    ],
)
def test_what_the_evaluator_does_not_ask_for(serialized: str, rules: list[str]) -> None:
    """form-action, frame-ancestors and base-uri are required, and one of several policies may bring each."""
    assert [rule.directive for rule, _ in missing(policies([serialized]))] == rules


@pytest.mark.parametrize("severity", ["HIGH", "SYNTAX", "MEDIUM", "HIGH_MAYBE", "NEVER_HEARD_OF"])
def test_a_severity_blocks(severity: str) -> None:
    """What the evaluator calls high or medium blocks, and so does a severity that nobody has judged yet."""
    assert verdict_of(Weakness("PLAIN_WILDCARD", severity, "script-src", "*", "")) is Verdict.FAIL


def test_every_severity_of_the_evaluator_is_judged() -> None:
    """The table holds each severity that the vendored evaluator knows."""
    named = re.findall(r'Severity\["(\w+)"\] = \d+', (VENDORED / "finding.js").read_text("utf-8"))
    assert set(named) == set(BY_SEVERITY)


def test_sources_that_no_browser_reads_are_told() -> None:
    """A source that is no address is named and left out, and the rest of the policy is evaluated."""
    (evaluation,) = evaluate(["script-src https://a.test:99999 'unsafe-inline'; object-src 'none'"])
    assert evaluation.unreadable == (("script-src", "https://a.test:99999"),)
    assert [weakness.kind for weakness in evaluation.weaknesses] == ["SCRIPT_UNSAFE_INLINE"]


def test_one_policy_closes_what_another_leaves_open() -> None:
    """A hole counts only where every policy leaves it open; one that was not evaluated closes nothing."""
    both = policies(["script-src 'unsafe-inline'; object-src 'none'", "default-src 'none'; base-uri 'none'"])
    loose, tight = evaluate([policy.text for policy in both])
    assert list(counting(both, (loose, tight))) == []
    kinds = [weakness.kind for weakness, _ in counting(both, (loose, Evaluation(problem="gave up")))]
    assert kinds == ["SCRIPT_UNSAFE_INLINE"]
