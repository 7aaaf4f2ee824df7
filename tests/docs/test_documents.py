"""The documents say what is true: commands, links, names, defaults and exit codes are held against the code."""

from __future__ import annotations

import re
import shlex
import sys
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from invoke.exceptions import ParseError
from invoke.parser import Parser
from pydantic import BaseModel

import tasks
from checks import CHECKS
from pipeline import spec
from pipeline.contracts import Check
from pipeline.errors import Exit
from pipeline.verdict import Verdict
from rollback import CHECKPOINTS
from sandbox import authority
from sandbox.drills.faults import FAULTS
from sandbox.shop.server.faults import FAULTS as BUILT_IN
from tests.checks.worlds import ask, random_text, shop

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
ROWS = [*(f"G{n}" for n in range(1, 22)), *(f"T{n}" for n in range(1, 23))]
VERBS = {name for context in tasks.ns.to_contexts() for name in (context.name, *context.aliases)}


def test_the_documents_are_there() -> None:
    """A reader finds the page that each question needs."""
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} <= names
    pages = ("checks/README", "exit-codes", "incident", "pipeline", "requirements", "sandbox", "service", "workflows")
    assert {f"docs/{page}.md" for page in pages} <= names
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


# ---- commands ----------------------------------------------------------------------------------------------


def _typed(text: str) -> Iterator[list[str]]:
    """The words after `./inv` of every line that a reader is shown to type."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
            words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)]
            assert words[0] == "./inv", line
            yield words[1:]


def _parses(words: list[str]) -> bool:
    try:
        Parser(contexts=tasks.ns.to_contexts()).parse_argv(words)
    except ParseError:
        return False
    return True


@every_document
def test_every_command_shown_exists(path: Path) -> None:
    """What a reader types as it is written is a command with those flags."""
    for words in _typed(path.read_text("utf-8")):
        assert _parses(words), f"./inv {' '.join(words)}"


@every_document
def test_every_command_mentioned_exists(path: Path) -> None:
    """A command named in a sentence is one that can be typed."""
    mentioned = re.findall(r"`\./inv ([a-z][^`\n]*)`", path.read_text("utf-8"))
    for text in mentioned:
        verb = text.split()[0]
        assert verb in VERBS, text
        known = next(c for c in tasks.ns.to_contexts() if verb in (c.name, *c.aliases)).flags
        assert set(re.findall(r"--[a-z-]+", text)) <= set(known), text


def test_a_command_that_does_not_exist_is_noticed() -> None:
    """The two tests above can fail."""
    assert not _parses(["deploy", "--nope"])
    assert not _parses(["deplyo"])


def test_the_readme_names_every_command() -> None:
    """A newcomer sees all that can be typed."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert {verb for verb in VERBS if verb and f"`./inv {verb}`" not in text} == set()


# ---- links and names ---------------------------------------------------------------------------------------


@every_document
def test_links_and_pictures_resolve(path: Path) -> None:
    """No link between the documents leads nowhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (path.parent / target.partition("#")[0]).exists(), target


@every_document
def test_files_of_the_repository_that_are_named_exist(path: Path) -> None:
    """A path in a sentence is where it says; the example check of CONTRIBUTING.md is the reader's own to make."""
    rooms = "checks|rollback|targets|gateways|pipeline|sandbox|tests|docs|templates|.github"
    for name in re.findall(rf"`((?:{rooms})/[A-Za-z0-9_./-]*)`", path.read_text("utf-8")):
        if name not in ("checks/pages_tell_no_version.py", "rollback/NAME.py"):
            assert (ROOT / name).exists(), name


def test_checks_that_cover_a_requirement_exist() -> None:
    """A check that the page of requirements counts on stands in the catalogue, and none is left out."""
    text = (ROOT / "docs" / "requirements.md").read_text("utf-8")
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", text)) == set(CHECKS)


def test_every_requirement_has_its_line() -> None:
    """No row of the requirements is passed over, and each says what covers it or that nothing does yet."""
    text = (ROOT / "docs" / "requirements.md").read_text("utf-8")
    lines = [line.strip("| ").split("|") for line in text.splitlines() if re.match(r"\| [GT]\d", line)]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in lines}
    assert list(cells) == ROWS
    assert [row for row, cell in cells.items() if not any(cell[1:])] == []


def test_a_check_covers_only_rows_that_it_claims() -> None:
    """The page of requirements and the checks' own rows tell the same story."""
    text = (ROOT / "docs" / "requirements.md").read_text("utf-8")
    for row, line in re.findall(r"^\| ([GT]\d+) (.*)$", text, re.MULTILINE):
        for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", line):
            assert row in CHECKS[name].rows, f"{name} does not claim {row}"


def test_the_drill_that_is_shown_exists() -> None:
    """The fault that a reader is told to try can be tried."""
    text = "".join(path.read_text("utf-8") for path in DOCUMENTS)
    assert set(re.findall(r"--fault ([a-z0-9-]+)", text)) <= set(FAULTS)
    assert set(re.findall(r"SANDBOX_FAULT=([a-z0-9-]+)", text)) <= set(BUILT_IN)


# ---- tables held against the code --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "docs/exit-codes.md"])
def test_exit_codes_are_those_of_the_code(name: str) -> None:
    """A job that relies on the table is not misled."""
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", (ROOT / name).read_text("utf-8"), re.MULTILINE)]
    assert codes == [int(code) for code in Exit]


def _models(model: type[BaseModel], seen: dict[type[BaseModel], None]) -> dict[type[BaseModel], None]:
    if model not in seen:
        seen[model] = None
        for field in model.model_fields.values():
            for found in _classes(field.annotation):
                _models(found, seen)
    return seen


def _classes(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _classes(inner)


def test_every_key_of_pipeline_yaml_is_explained() -> None:
    """An operator finds each key that the file may have."""
    text = "".join(
        (ROOT / "docs" / name).read_text("utf-8") for name in ("pipeline.md", "checkpoints.md", "service.md")
    )
    words = {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[a-z_]+", span)}
    keys = {field.alias or name for model in _models(spec.Spec, {}) for name, field in model.model_fields.items()}
    assert len(keys) > 60
    assert keys - words == set()


def test_the_defaults_of_the_contract_are_told() -> None:
    """What a service must offer where the spec says nothing is what the page says."""
    text = (ROOT / "docs" / "service.md").read_text("utf-8")
    for name, default in spec.Contract().model_dump().items():
        line = next((line for line in text.splitlines() if line.startswith("| `") and f"`{name}`" in line), "")
        told = f"{default:g} s" if isinstance(default, float) else default
        assert line, name
        assert not isinstance(told, str) or f"`{told}`" in line, line


def test_the_checkpoints_are_told() -> None:
    """All that an act may arm is named where acts are explained."""
    text = (ROOT / "docs" / "pipeline.md").read_text("utf-8")
    assert [name for name in CHECKPOINTS if f"`{name}`" not in text] == []


# ---- the example of CONTRIBUTING.md ------------------------------------------------------------------------


async def test_the_example_check_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever copies the example has a check that the contract tests accept, that judges a real server, and a test."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    check, test = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    module = types.ModuleType("checks.pages_tell_no_version")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(check, "pages_tell_no_version.py", "exec"), module.__dict__)  # noqa: S102 - it is our own document
    made = module.CHECK
    assert isinstance(made, Check)
    assert set(made.rows) <= set(ROWS)
    assert made.name not in CHECKS
    assert made.looks_at and made.fix and made.see_it_fail
    async with shop(authority.ensure(tmp_path / "tls", datetime.now(UTC)), tmp_path, random_text()) as (_, _, world):
        finding = await ask(made, world)
        served = (await world.service.request("GET", "/")).headers["server"]
    assert re.search(r"\d", served)
    assert finding.verdict is Verdict.FAIL and served in finding.reason
    proof: dict[str, object] = {"__name__": "test_pages_tell_no_version"}
    exec(compile(test, "test_pages_tell_no_version.py", "exec"), proof)  # noqa: S102
    judged = next(value for name, value in proof.items() if name.startswith("test_"))
    cases = judged.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert cases
    for case in cases:
        judged(*case)  # type: ignore[operator]
