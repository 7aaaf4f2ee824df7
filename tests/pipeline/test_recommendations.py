"""What an operator is told when the gates have passed."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from pipeline.recommendations import as_list, recommendations
from tests.pipeline import runs

WHO = {"by": "Thandi Nkosi", "reason": "The fix comes in May", "until": "2026-04-30"}


def validated(*findings: tuple[str, str, dict[str, object]]) -> runs.Tale:
    tale = runs.Tale()
    tale.starts("validate", environment="production")
    for name, verdict, said in findings:
        tale.check("gates", name, verdict, **said)
    tale.ends("done", 0, "validate of production passed")
    return tale


def test_what_the_gates_advise_comes_before_the_duties() -> None:
    """Advice of this run first, then what is accepted, then what is due every week, month and quarter."""
    accepted = {**WHO, "verdict": "FAIL", "state": "accepted"}
    gone = {**WHO, "verdict": "PASS", "state": "not needed any more"}
    tale = validated(
        ("a.weak", "ADVICE", {"reason": "it is weak", "remedy": "accept nothing", "accepted": accepted}),
        ("b.soon", "ADVICE", {"reason": "it ends soon", "remedy": "Renew it"}),
        ("c.fine", "PASS", {"accepted": gone}),
        ("d.fine", "PASS", {}),
    )
    lines = recommendations("production", tale.entries)
    assert lines[:4] == (
        "b.soon: Renew it.",
        "a.weak, accepted by Thandi Nkosi: mend it before 2026-04-30 is over. accept nothing.",
        "c.fine passes: take its entry out of `accepted` in pipeline.yaml.",
        "Rehearse the way back before you deploy: ./inv drill --all.",
    )
    assert "Review the payment logs every week." in lines
    assert "Rehearse" not in "".join(recommendations("staging", tale.entries))


def test_without_advice_the_duties_are_told() -> None:
    """A validation that found nothing to recommend still names the recurring work of row G16."""
    lines = recommendations("staging", validated(("d.fine", "PASS", {})).entries)
    assert len(lines) == 3 and recommendations("staging", []) == lines
    assert "./inv verify --env staging." in lines[1]


@pytest.mark.parametrize("width", [80, 40, 24])
def test_the_list_keeps_to_a_terminal_and_is_one_line_each_in_a_file(width: int) -> None:
    """Folded where a person reads it on a screen, whole lines where a file or another program does."""
    lines = recommendations("production", [])
    shown = as_list(lines, width)
    assert all(cell_len(line) < width for line in shown.splitlines())
    assert "".join(shown.replace("  - ", "").split()) == "".join("".join(lines).split())
    assert as_list(lines).splitlines() == [f"  - {line}" for line in lines]
