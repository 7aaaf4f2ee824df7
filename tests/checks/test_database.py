"""database.old_release_works: what the proofs of the old release mean for the new one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from checks.database_old_release_works import OnTheNewSchema, judge
from pipeline.contracts import Proof
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict, advice, failed, inconclusive, passed, skipped

FINE, BAD = Proof("health.ready", passed("ready")), Proof("payment.is_paid", failed("no such column: price", "mend"))
UNSURE = Proof("webhook.arrives", inconclusive("the gateway was away", "wait"))
ADVISED, NONE = Proof("pages.csp_strict", advice("a wildcard", "narrow it")), Proof("a.b", skipped("not here"))


def judged(proofs: Sequence[Proof], says: object = "1-old") -> Finding:
    return judge(OnTheNewSchema("1-old", says, 0.4, proofs), NoParams())


@pytest.mark.parametrize(
    ("proofs", "verdict"),
    [
        ([FINE], Verdict.PASS),
        ([FINE, ADVISED, NONE], Verdict.PASS),
        ([FINE, BAD], Verdict.FAIL),
        ([FINE, UNSURE], Verdict.FAIL),
        ([NONE], Verdict.INCONCLUSIVE),
        ([], Verdict.INCONCLUSIVE),
    ],
)
def test_only_an_old_release_that_passes_every_proof_lets_the_new_one_on(
    proofs: Sequence[Proof], verdict: Verdict
) -> None:
    """One proof that does not promote is enough to go back, and none at all is no pass."""
    finding = judged(proofs)
    assert finding.verdict is verdict
    assert finding.verdict is Verdict.PASS or finding.remedy


def test_the_proof_that_failed_is_named_with_its_reason() -> None:
    """A person reads what broke, and how many more did."""
    assert "payment.is_paid: FAIL: no such column: price; 1 more proof did not pass" in judged([BAD, UNSURE]).reason


def test_another_release_under_its_name_fails() -> None:
    """A process that names another release is not the one that a way back leads to."""
    finding = judged([FINE], says="0-older")
    assert (finding.verdict, "says it is '0-older'" in finding.reason) == (Verdict.FAIL, True)
