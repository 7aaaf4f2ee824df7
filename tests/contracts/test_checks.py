"""What holds for every check of the table, whatever it checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from checks import CHECKS
from pipeline.contracts import Check, When
from pipeline.spec import Frozen
from pipeline.verdict import Finding, Verdict
from tests.checks.worlds import Till, ask, world

ROOT = Path(__file__).resolve().parents[2]
ROWS = {f"G{n}" for n in range(1, 22)} | {f"T{n}" for n in range(1, 23)}
every_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
ASKING = {name: check for name, check in CHECKS.items() if check.network or check.when is not When.ANY}
every_asking_check = pytest.mark.parametrize("check", ASKING.values(), ids=ASKING.keys())


@every_check
def test_a_check_describes_itself(check: Check) -> None:
    """Name, promise, reason and rows are there for the catalogue."""
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)", check.name)
    assert CHECKS[check.name] is check
    assert re.fullmatch(r"[A-Z].{20,150}\.", check.promise), check.promise
    assert re.fullmatch(r"[A-Z].{10,}\.", check.why), check.why
    assert check.rows
    assert set(check.rows) <= ROWS
    assert list(check.rows) == sorted(check.rows, key=lambda row: (row[0], int(row[1:])))
    assert issubclass(check.params, Frozen)
    check.params()
    assert check.network or check.when is not When.LIVE


@every_check
def test_a_check_fills_its_page(check: Check) -> None:
    """A reader learns what it looks at, how to mend what it finds and how to see it fail."""
    for text in (check.looks_at, check.fix, check.see_it_fail):
        assert re.fullmatch(r"[A-Z`].{15,}[.`]", text), (check.name, text)
    assert all(re.fullmatch(r"\d+(\.\d+){1,3}", number) for number in check.pci)


@every_check
def test_a_line_of_the_troubleshooting_guide_is_said_word_for_word(check: Check) -> None:
    """What its page calls a line of the guide stands in the code that makes its findings, not on its page alone."""
    shared = [ROOT / "checks" / "judging.py", ROOT / "pipeline" / "sources.py", *(ROOT / "checks/facts").glob("*.py")]
    own = Path(sys.modules[check.judge.__module__].__file__ or "")
    said = [text for path in (own, *shared) for text in _texts_of_findings(ast.parse(path.read_text("utf-8")))]
    for line in check.says:
        assert any(line in text for text in said), line


def _texts_of_findings(node: ast.AST) -> Iterator[str]:
    """All texts of a module but those that describe its checks."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    describes = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check"
    for inner in () if describes else ast.iter_child_nodes(node):
        made = isinstance(node, ast.Module) and isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call)
        yield from () if made else _texts_of_findings(inner)


@every_asking_check
async def test_a_check_never_passes_where_nothing_answers(check: Check, tmp_path: Path) -> None:
    """With no service, no gateway and no bundle, whatever needs one blocks and says what to do."""
    finding = await ask(check, world(tmp_path, till=Till("", outage=True)))
    if finding.verdict.promotes:
        assert check.name in ("target.has_room", "rollback.rehearsed") or finding.verdict is Verdict.SKIPPED
    else:
        assert finding.remedy


@every_asking_check
def test_a_finding_in_place_of_a_fact_is_passed_on(check: Check) -> None:
    """What could not be observed reaches the operator word for word."""
    told = Finding(Verdict.ERROR, "the moon is in the way", "wait")
    assert check.judge(told, check.params()) is told


def test_every_check_of_the_shipped_pipeline_exists_and_takes_its_parameters() -> None:
    """pipeline.yaml names only checks of the table, each with parameters it accepts, and no check is forgotten."""
    stages = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))["stages"]
    steps = [step for stage in stages.values() for step in stage if "check" in step]
    for step in steps:
        CHECKS[step["check"]].params(**step.get("with", {}))
    assert {step["check"] for step in steps} == set(CHECKS) - {
        "database.old_release_works"
    }  # the shop migrates nothing


def test_no_check_module_is_left_out_of_the_table() -> None:
    """A file on disk that holds a check is in the table."""
    table = (ROOT / "checks" / "__init__.py").read_text("utf-8")
    for path in (ROOT / "checks").glob("*.py"):
        if path.name != "__init__.py" and "Check(" in path.read_text("utf-8"):
            assert f"    {path.stem}," in table, path


def test_importing_the_table_loads_nothing_heavy() -> None:
    """Commands that only read the table do not pay for HTTP clients, parsers or search automata."""
    heavy = ("httpx", "aiohttp", "ahocorasick_rs", "prometheus_client", "cryptography")
    told = "import sys, checks; print(' '.join(n for n in sys.argv[1:] if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", told, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
