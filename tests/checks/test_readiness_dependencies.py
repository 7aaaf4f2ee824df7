"""dependencies.audited, against programs that print what the auditors print."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from checks.dependencies_audited import CHECK
from checks.facts import audits
from pipeline.verdict import Finding, Verdict
from tests.checks.worlds import ask, random_text, world

PROGRAM = """#!{python}
import json, os, sys, time
with open({log!r}, "a") as log:
    pins = open(sys.argv[2]).read() if sys.argv[1] == "-r" else ""
    told = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "names": sorted(os.environ), "pins": pins}}
    log.write(json.dumps(told) + "\\n")
sys.stdout.write({out!r})
sys.stdout.flush()
sys.stderr.write({err!r})
time.sleep({hangs_s})
sys.exit({code})
"""
Program = Callable[..., None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program on the PATH, which holds nothing else; what it was called with goes to `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, out: Any = "", *, code: int = 0, err: str = "", hangs_s: int = 0) -> None:
        path = folder / name
        text = out if isinstance(out, str) else json.dumps(out)
        log = str(tmp_path / "calls")
        path.write_text(PROGRAM.format(python=sys.executable, log=log, out=text, err=err, code=code, hangs_s=hangs_s))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def app(root: Path, **files: str) -> Path:
    folder = root / "app"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".").replace("_", "-")).write_text(content)
    return folder


def calls(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "calls").read_text().splitlines()]


NPM_LOCK = json.dumps(
    {
        "lockfileVersion": 3,
        "packages": {"": {"dependencies": {"lodash": "4.17.4"}}, "node_modules/lodash": {"version": "4.17.4"}},
    },
    indent=2,
)
COUNTS = {"info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0}


def npm_says(*severities: str) -> dict[str, Any]:
    """What npm 7 and later print; the first package is lodash."""
    names = ["lodash", *(f"package-{n}" for n in range(1, len(severities)))]
    found = {
        name: {
            "name": name,
            "severity": severity,
            "isDirect": True,
            "via": [{"source": 1, "title": f"Prototype of {name}", "url": f"https://advisories.test/GHSA-{name}"}],
            "range": "<4.17.12",
            "fixAvailable": {"name": name, "version": "4.17.21", "isSemVerMajor": False},
        }
        for name, severity in zip(names, severities, strict=False)
    }
    counts = {**COUNTS, **{severity: severities.count(severity) for severity in severities}}
    metadata = {"vulnerabilities": {**counts, "total": len(severities)}, "dependencies": {"prod": 41, "total": 57}}
    return {"auditReportVersion": 2, "vulnerabilities": found, "metadata": metadata}


def pip_says(*ids: str, skipped: bool = False) -> dict[str, Any]:
    vulns = [{"id": id_, "fix_versions": ["3.1.6"], "aliases": [f"CVE-{id_}"], "description": "A hole."} for id_ in ids]
    packages: list[dict[str, Any]] = [
        {"name": "idna", "version": "3.7", "vulns": []},
        {"name": "jinja2", "version": "3.1.0", "vulns": vulns},
    ]
    if skipped:
        packages.append({"name": "ours", "skip_reason": "Dependency not found on the index"})
    return {"dependencies": packages, "fixes": []}


async def audit(folder: Path, **params: Any) -> Finding:
    return await ask(CHECK, world(folder), **params)


@pytest.mark.parametrize(
    ("severities", "params", "verdict"),
    [
        ((), {}, Verdict.PASS),
        (("high",), {}, Verdict.FAIL),
        (("critical",), {}, Verdict.FAIL),
        (("low", "moderate"), {}, Verdict.ADVICE),
        (("moderate", "low"), {"fail_at": "moderate"}, Verdict.FAIL),
        (("high",), {"fail_at": "critical"}, Verdict.ADVICE),
        (("apocalyptic",), {"fail_at": "critical"}, Verdict.FAIL),
    ],
)
async def test_npm_is_believed(
    tmp_path: Path, program: Program, severities: tuple[str, ...], params: dict[str, Any], verdict: Verdict
) -> None:
    """What npm names from the chosen severity on blocks, below it is advised; an unknown severity is the worst."""
    program("npm", npm_says(*severities), code=1 if severities else 0)
    finding = await audit(app(tmp_path, package_lock__json=NPM_LOCK), **params)
    assert finding.verdict is verdict, finding
    if severities:
        assert "lodash <4.17.12" in finding.reason
        assert "GHSA-lodash" in finding.reason
        assert "lodash: lodash 4.17.21" in finding.remedy
        place = finding.places[0]
        assert "node_modules/lodash" in (tmp_path / "app" / place.file).read_text().splitlines()[place.line - 1]
    else:
        assert "57 packages" in finding.reason


async def test_an_auditor_gets_the_operators_environment_and_no_secret(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm runs in the folder of the lock file with the operator's registry settings, without those of the service."""
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://registry.test")
    monkeypatch.setenv("VITE_IKHOKHA_API_SECRET", random_text())
    program("npm", npm_says())
    await audit(app(tmp_path, package_lock__json=NPM_LOCK, npm_shrinkwrap__json=NPM_LOCK))
    (call,) = calls(tmp_path)
    assert call["cwd"] == str(tmp_path / "app")
    assert {"--omit=dev", "--offline=false"} <= set(call["argv"])
    assert "NPM_CONFIG_REGISTRY" in call["names"]
    assert "VITE_IKHOKHA_API_SECRET" not in call["names"]


@asynccontextmanager
async def registry(advisories: dict[str, Any]) -> AsyncIterator[str]:
    """A registry on loopback that knows these advisories, and of each package one version."""

    async def bulk(request: web.Request) -> web.Response:
        asked = json.loads(gzip.decompress(await request.read()))
        return web.json_response({name: advisories[name] for name in asked if name in advisories})

    async def packument(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        versions = {"4.17.4": {"name": name, "version": "4.17.4", "dist": {}}}
        return web.json_response({"name": name, "dist-tags": {"latest": "4.17.4"}, "versions": versions})

    app = web.Application(handler_args={"auto_decompress": False})
    app.router.add_post("/-/npm/v1/security/advisories/bulk", bulk)
    app.router.add_get("/{name}", packument)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, a Debian package")
async def test_npm_itself_is_understood(tmp_path: Path) -> None:
    """The npm that is installed finds the hole that a registry knows, and none where the registry knows none."""
    hole = {"id": 1, "url": "https://a.test/GHSA-1", "title": "A hole", "severity": "high", "vulnerable_versions": "<5"}
    folder = app(tmp_path, package_lock__json=NPM_LOCK, package__json='{"dependencies": {"lodash": "4.17.4"}}')
    (folder / ".npmrc").write_text("offline=true\naudit=false\n")
    common = (f"--cache={tmp_path / 'cache'}", f"--userconfig={tmp_path / 'none'}", "--fetch-retries=0")
    for advisories, verdict in (({"lodash": [hole]}, Verdict.FAIL), ({}, Verdict.PASS)):
        async with registry(advisories) as address:
            finding = await audit(folder, npm=("npm", f"--registry={address}", *common))
        assert finding.verdict is verdict, finding


OLD_NPM = {
    "advisories": {
        "577": {"module_name": "lodash", "severity": "low", "title": "Prototype", "url": "https://a.test/577"}
    },
    "metadata": {"vulnerabilities": {**COUNTS, "low": 1}, "totalDependencies": 9},
}


async def test_the_older_form_of_npm_is_understood(tmp_path: Path, program: Program) -> None:
    """npm 6 and pnpm say the same in other words."""
    program("npm", OLD_NPM, code=1)
    finding = await audit(app(tmp_path, package_lock__json=NPM_LOCK))
    assert (finding.verdict, "lodash" in finding.reason) == (Verdict.ADVICE, True), finding


@pytest.mark.parametrize(
    ("says", "code", "word"),
    [
        ("", 0, "no JSON object: nothing"),
        ("audited 57 packages", 0, "no JSON object: audited 57 packages"),
        ('{"vulnerabilities": {', 0, "no JSON object"),
        ([], 0, "no JSON object"),
        ({}, 0, "not even none"),
        ({"error": {"code": "ENOLOCK", "summary": "This command requires a lockfile"}}, 1, "requires a lockfile"),
        (
            {"message": "503 - POST https://u:pw-x@registry.test/bulk", "error": {"summary": ""}},
            1,
            "https://registry.test",
        ),
        ({"vulnerabilities": {}}, 0, "no counts"),
        ({**npm_says(), "metadata": {"vulnerabilities": {**COUNTS, "high": 3}}}, 1, "does not list"),
        (npm_says(), 1, "ended with 1"),
        (npm_says(), 254, "ended with 254"),
    ],
)
async def test_what_is_no_audit_by_npm_leaves_it_open(
    tmp_path: Path, program: Program, says: Any, code: int, word: str
) -> None:
    """Junk, an error, half an answer or one that contradicts its exit code is not a clean audit."""
    program("npm", says, code=code, err="npm warn\n")
    finding = await audit(app(tmp_path, package_lock__json=NPM_LOCK))
    assert (finding.verdict, word in finding.reason) == (Verdict.INCONCLUSIVE, True), finding
    assert "pw-x" not in repr(finding)


@pytest.mark.parametrize(
    ("says", "code", "verdict", "word"),
    [
        (pip_says(), 0, Verdict.PASS, "2 packages in requirements.txt"),
        (pip_says("PYSEC-1"), 1, Verdict.FAIL, "jinja2 3.1.0 (unknown, PYSEC-1"),
        (pip_says("PYSEC-1", skipped=True), 1, Verdict.FAIL, "jinja2"),
        (pip_says(skipped=True), 0, Verdict.INCONCLUSIVE, "ours (Dependency not found on the index)"),
        ("", 1, Verdict.INCONCLUSIVE, "no JSON list"),
        ({"dependencies": "none"}, 0, Verdict.INCONCLUSIVE, "no JSON list"),
        ({"dependencies": [{"name": "idna"}]}, 0, Verdict.INCONCLUSIVE, "idna (no answer for it)"),
        (pip_says(), 2, Verdict.INCONCLUSIVE, "ended with 2"),
    ],
)
async def test_pip_audit_is_believed(
    tmp_path: Path, program: Program, says: Any, code: int, verdict: Verdict, word: str
) -> None:
    """pip-audit states no severity, so what it names blocks; what it could not look at leaves it open."""
    program("pip-audit", says, code=code, err="ERROR: no route\n")
    hashed = "idna==3.7 --hash=sha256:00\njinja2==3.1.0 \\\n    --hash=sha256:11\n"
    finding = await audit(app(tmp_path, requirements__txt=hashed, requirements_dev__txt="pytest==1"))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding
    assert [place.line for place in finding.places] == ([2] if verdict is Verdict.FAIL else [])
    (call,) = calls(tmp_path)
    assert call["argv"][-1] == "--disable-pip"


UV = """version = 1
[[package]]
name = "shop"
version = "1.0"
source = { virtual = "." }
[[package]]
name = "jinja2"
version = "3.1.0"
source = { registry = "https://registry.test/simple" }
"""
POETRY = '[[package]]\nname = "jinja2"\nversion = "3.1.0"\ngroups = ["main"]\n[metadata]\nlock-version = "2.1"\n'


@pytest.mark.parametrize(("name", "lock"), [("uv__lock", UV), ("poetry__lock", POETRY)])
async def test_other_locks_of_python_go_to_pip_audit(tmp_path: Path, program: Program, name: str, lock: str) -> None:
    """Every package that uv.lock or poetry.lock pins is audited, the project itself is not."""
    program("pip-audit", pip_says("PYSEC-1"), code=1)
    finding = await audit(app(tmp_path, **{name: lock}))
    assert finding.verdict is Verdict.FAIL, finding
    assert calls(tmp_path)[0]["pins"] == "jinja2==3.1.0\n"
    place = finding.places[0]
    assert 'name = "jinja2"' in (tmp_path / "app" / place.file).read_text().splitlines()[place.line - 1]


async def test_all_locks_are_audited_and_the_worst_counts(tmp_path: Path, program: Program) -> None:
    """A clean audit of one file says nothing of another; a vulnerability outweighs what is not known."""
    program("npm", npm_says("high"), code=1)
    folder = app(tmp_path, package_lock__json=NPM_LOCK, requirements__txt="idna==3.7")
    assert (await audit(folder)).verdict is Verdict.FAIL
    program("npm", npm_says())
    finding = await audit(folder)
    assert (finding.verdict, "no program `pip-audit`" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding
    program("pip-audit", pip_says())
    assert (await audit(folder)).verdict is Verdict.PASS
    assert (await audit(folder, paths=("requirements.txt",))).evidence["lock_files"] == {
        "requirements.txt": {"packages": 2, "vulnerable": 0}
    }


async def test_an_auditor_that_hangs_is_stopped(tmp_path: Path, program: Program) -> None:
    """A registry that never answers leaves the audit open, in the time that was given."""
    program("npm", hangs_s=600)
    finding = await audit(app(tmp_path, package_lock__json=NPM_LOCK), within="300 ms")
    assert (finding.verdict, "did not end within 0.3 s" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_without_a_lock_file_or_an_auditor_nothing_is_audited(tmp_path: Path, program: Program) -> None:
    """No lock file, one that cannot be read, a path that is not there, no program: each blocks and says the fix."""
    assert program
    cases: list[tuple[dict[str, str], dict[str, Any], str]] = [
        ({}, {}, "no lock file is in ."),
        ({"requirements_dev__txt": "pytest==1"}, {}, "no lock file is in ."),
        ({"requirements_docker__txt": "flask==1"}, {}, "no program `pip-audit`"),
        ({"yarn__lock": "# yarn lockfile v1"}, {}, "yarn.lock: its kind is not read here"),
        ({}, {"paths": ("frontend",)}, "there is no"),
        ({"uv__lock": "package = []"}, {}, "uv.lock names none"),
        ({"uv__lock": "[[package]"}, {}, "no lock file that this check can read"),
        ({"package_lock__json": NPM_LOCK}, {"paths": ("package-lock.json",)}, "no program `npm`"),
    ]
    for number, (files, params, word) in enumerate(cases):
        finding = await audit(app(tmp_path / str(number), **files), **params)
        assert (finding.verdict, word in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_the_auditor_may_be_another_command(tmp_path: Path, program: Program) -> None:
    """pip-audit need not be installed beside Tollgate: a command that runs it is named in pipeline.yaml."""
    program("runner", pip_says())
    folder = app(tmp_path, requirements__txt="idna==3.7")
    command = (str(tmp_path / "bin" / "runner"),)
    assert (await audit(folder, pip_audit=command)).verdict is Verdict.PASS


# ---- reading what others print ---------------------------------------------------------------------------------

KEYS = [
    *("vulnerabilities", "advisories", "metadata", "dependencies", "error", "summary", "via", "severity", "url"),
    *("fixAvailable", "vulns", "name", "version", "id", "aliases", "fix_versions", "skip_reason", "total", "low"),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(audits.SEVERITIES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=15,
)


@given(ANYTHING.map(json.dumps) | st.text(max_size=60))
def test_nothing_an_auditor_prints_makes_the_check_stumble(text: str) -> None:
    """Whatever is printed is an audit or the reason why it is none; what is no audit names nothing."""
    for told in (audits.npm(text), audits.pip(text)):
        assert not (told.why and told.found)
        assert all(one.severity in audits.SEVERITIES for one in told.found)
        assert all("\n" not in one.title and len(one.title) <= 160 for one in told.found)


@given(st.text(alphabet=st.sampled_from('[]package=\n"nv.1\x00\\ {}'), max_size=80), st.text(max_size=10))
def test_no_lock_file_makes_the_check_stumble(text: str, package: str) -> None:
    """A lock file that was cut or mangled is read or refused."""
    for line in audits.pinned("[[package]]\n" + text) or ():
        assert re.fullmatch(r"[\w.-]+==[\w.!+-]+", line)
    assert 1 <= audits.line_of(text, package) <= text.count("\n") + 1


def test_a_lock_with_a_strange_name_in_it_is_refused() -> None:
    """A name that is no package's, which could be an option or another address, never reaches an auditor."""
    for name in ("--index-url=https://evil.test", "a b", "", "a\nb", "../a"):
        assert audits.pinned(f"[[package]]\nname = {json.dumps(name)}\nversion = '1'\n") is None
    assert audits.pinned('[[package]]\nname = "a"\nversion = "1 --hash"\n') is None
