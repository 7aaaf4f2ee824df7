"""What looks like a credential, and client code that makes secrets public."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import leaks_no_public_secrets, leaks_no_secret_patterns
from checks.facts.client_code import is_config, prefixes_of, sightings, without_comments
from checks.facts.source_tree import SourceTree
from checks.leaks_no_secret_patterns import Allowed, Patterns, Resemblance, Scan
from pipeline.contracts import World
from pipeline.secrets import Secret
from pipeline.verdict import Finding, Verdict
from tests.checks.leak_planting import git, letters, vite_like
from tests.checks.worlds import ask, at, world

PATTERNS, PUBLIC = leaks_no_secret_patterns.CHECK, leaks_no_public_secrets.CHECK

# ---- patterns ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> World:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text(".tollgate/\nignored/\n")
    (tmp_path / "main.py").write_text("print('hello')\n")
    return world(tmp_path)


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def stripe_key() -> str:
    return "sk_" + "live_" + letters(24)


async def test_what_looks_like_a_credential_is_found_and_nothing_else(checkout: World) -> None:
    """Ordinary code and a bundle pass; keys are found with file, line and rule, never shown; a false alarm is allowed
    by path and rule; a pipe is not waited for. One test, because compiling the rules takes seconds; the later scans
    find them compiled."""
    vite_like(checkout.root / "public", kilobytes=40, dice=random.Random("a bundle"))  # noqa: S311 - the same one each time
    (checkout.root / "ignored").mkdir()
    (checkout.root / "ignored" / "key.pem").write_text(private_key())
    finding = await ask(PATTERNS, checkout)
    assert (finding.verdict, finding.evidence["files"]) == (Verdict.PASS, 16), finding
    assert any((checkout.root / ".tollgate" / "cache").iterdir())

    key, stripe = private_key(), stripe_key()
    (checkout.root / "certs").mkdir()
    (checkout.root / "certs" / "key.pem").write_text(key)
    (checkout.root / "pay.js").write_text(f"// pay\n\nconst stripe = '{stripe}'\n")
    finding = await ask(PATTERNS, at(checkout))
    assert finding.verdict is Verdict.FAIL
    assert {(place.file, place.line) for place in finding.places} == {("certs/key.pem", 1), ("pay.js", 3)}
    assert "private-key in certs/key.pem:1" in finding.reason
    assert stripe not in repr(finding)
    assert key.splitlines()[1] not in repr(finding)

    allow = {"path": "pay.*", "rule": "stripe-*", "reason": "a sample of the provider"}
    finding = await ask(PATTERNS, at(checkout), allow=(allow,))
    assert (finding.verdict, "pay.js" in finding.reason) == (Verdict.FAIL, False), finding
    (checkout.root / "certs" / "key.pem").unlink()
    assert (await ask(PATTERNS, at(checkout), allow=(allow,))).verdict is Verdict.PASS

    git(checkout.root, "add", "pay.js")
    (checkout.root / "pay.js").unlink()
    os.mkfifo(checkout.root / "pay.js")
    finding = await ask(PATTERNS, at(checkout))
    assert (finding.verdict, "pay.js: not a regular file" in finding.reason) == (Verdict.INCONCLUSIVE, True)


def test_the_judgement_of_a_scan() -> None:
    """Confidence decides, exceptions that fit nothing are advice, and what was not scanned is no pass."""
    one = Resemblance("a.py", 3, "generic", "low")

    def verdict(params: Patterns, files: int = 2, rules: int = 9, unread: tuple[str, ...] = ()) -> Finding:
        return PATTERNS.judge(Scan(files, rules, (one,), unread, "the source tree"), params)

    stale = Allowed(path="b.py", reason="was removed")
    assert verdict(Patterns()).verdict is Verdict.PASS
    assert verdict(Patterns(confidence="low")).verdict is Verdict.FAIL
    assert verdict(Patterns(allow=(stale,))).verdict is Verdict.ADVICE
    assert verdict(Patterns(), unread=("c.py: OSError",)).verdict is Verdict.INCONCLUSIVE
    assert verdict(Patterns(), files=0).verdict is Verdict.INCONCLUSIVE
    assert verdict(Patterns(), rules=0).verdict is Verdict.INCONCLUSIVE


async def test_a_repository_git_cannot_list_is_not_scanned_by_guess(checkout: World) -> None:
    """Both checks of the code say that they could not see it."""
    (checkout.root / ".git" / "config").write_text("[broken")
    for check in (PATTERNS, PUBLIC):
        assert (await ask(check, checkout)).verdict is Verdict.INCONCLUSIVE


# ---- public variables --------------------------------------------------------------------------------------

SECRETS = frozenset({"VITE_KEY", "NUXT_PUBLIC_API_SECRET", "PUBLIC_KEY", "REACT_APP_KEY", "API_KEY", "APP_KEY"})
PUBLIC_ONES = SECRETS - {"API_KEY", "APP_KEY"}


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("a.js", "let x = 1\nfetch(import.meta.env.VITE_KEY)", [(2, "VITE_KEY")]),
        ("a.jsx", "process.env.REACT_APP_KEY", [(1, "REACT_APP_KEY")]),
        ("a.ts", "import.meta\n  .env?.VITE_KEY", [(1, "VITE_KEY")]),
        ("a.ts", "import.meta.env['VITE_KEY']", [(1, "VITE_KEY")]),
        ("a.ts", "const { MODE, VITE_KEY: k } = process.env", [(1, "VITE_KEY")]),
        ("a.ts", "`${import.meta.env.VITE_KEY}`", [(1, "VITE_KEY")]),
        ("a.vue", "<p>https://x.y {{ import.meta.env.VITE_KEY }}</p>", [(1, "VITE_KEY")]),
        ("a.svelte", "import { PUBLIC_KEY } from '$env/static/public'", [(1, "PUBLIC_KEY")]),
        ("a.svelte", "import { env } from '$env/dynamic/public'\nenv.PUBLIC_KEY", [(2, "PUBLIC_KEY")]),
        ("a.ts", "useRuntimeConfig().public.apiSecret", [(1, "NUXT_PUBLIC_API_SECRET")]),
        ("index.html", "<p>\n%VITE_KEY%</p>", [(2, "VITE_KEY")]),
        ("a.js", "x = /[/*]/; y = import.meta.env.VITE_KEY // */", [(1, "VITE_KEY")]),
        ("a.js", "f('http://x/' + import.meta.env.VITE_KEY)", [(1, "VITE_KEY")]),
        ("a.js", "import.meta.env[name]", [(1, "")]),
        ("a.js", "import.meta.env[`VITE_${name}`]", [(1, "")]),
        ("a.js", "const env = import.meta.env\nenv[key]", [(1, "")]),
        ("a.js", "// import.meta.env.VITE_KEY\n/*\nimport.meta.env[key]\n*/", []),
        ("index.html", "<!-- %VITE_KEY% -->", []),
        ("a.js", "import.meta.env.MODE; import.meta.env['VITE_URL']; process.env.API_KEY", []),
        ("env.d.ts", "interface ImportMetaEnv { readonly VITE_KEY: string }\ninterface M { env: ImportMetaEnv }", []),
        ("vite.config.ts", "define: {\n  'process.env': loadEnv(mode, cwd(), '')}", [(2, ""), (2, "")]),
        ("vite.config.ts", "define: { __K__: JSON.stringify(env.API_KEY) }", [(1, "API_KEY")]),
        ("vite.config.js", "define: { ...process.env }", [(1, "")]),
        ("vite.config.js", "envPrefix: ''", [(1, "")]),
        ("vite.config.js", "envPrefix: ['VITE_', '']", [(1, "")]),
        ("vite.config.js", "build: {\n sourcemap: true }", [(2, "")]),
        ("vite.config.js", "define: { 'process.env': {} }, build: { sourcemap: 'hidden' }, x: env.API_KEY", []),
    ],
)
def test_each_trap_is_seen_on_its_line(file: str, source: str, found: list[tuple[int, str]]) -> None:
    """Every way in which a bundler makes a variable public is seen; comments, types and other names are not."""
    assert [(one.line, one.name) for one in sightings(file, source, PUBLIC_ONES, SECRETS)] == found


@given(st.text(alphabet=st.sampled_from("'\"`/*\\\n{}[](),.:=<!->% aimport.meta.env.VITE_KEY#$"), max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_read_as_code(source: str) -> None:
    """No text makes the reading fail, and taking comments out keeps every line where it was."""
    for file in ("a.js", "a.vue", "vite.config.ts"):
        assert all(1 <= one.line <= source.count("\n") + 1 for one in sightings(file, source, PUBLIC_ONES, SECRETS))
    for markup in (True, False):
        left = without_comments(source, markup=markup)
        assert (len(left), left.count("\n")) == (len(source), source.count("\n"))
    assert all(isinstance(prefix, str) for prefix in prefixes_of(source))


def test_configurations_are_known_by_their_names() -> None:
    """Vite's and the frameworks' own files are read as configuration, others as code."""
    assert all(map(is_config, ("vite.config.ts", "web/vite.config.prod.mjs", "astro.config.mjs", "nuxt.config.ts")))
    assert not any(map(is_config, ("src/config.ts", "invite.config.ts.txt", "vite.ts")))


async def test_client_code_that_reads_a_secret_fails(tmp_path: Path) -> None:
    """The file and line are named; server code that is listed may read it."""
    made = world(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "pay.ts").write_text("\nexport const key = import.meta.env.VITE_IKHOKHA_API_SECRET\n")
    finding = await ask(PUBLIC, made)
    assert finding.verdict is Verdict.FAIL
    assert "src/pay.ts:2 reads a secret: VITE_IKHOKHA_API_SECRET" in finding.reason
    assert [(place.file, place.line) for place in finding.places] == [("src/pay.ts", 2)]
    listed = await ask(PUBLIC, made, server=("src/*",))
    assert (listed.verdict, "beside the 1 file listed as server code" in listed.reason) == (Verdict.SKIPPED, True)


async def test_a_source_without_files_is_no_source_without_client_code(tmp_path: Path) -> None:
    """Where git ignores everything nothing was looked at."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*\n")
    (tmp_path / "pay.ts").write_text("import.meta.env.VITE_IKHOKHA_API_SECRET")
    assert (await ask(PUBLIC, world(tmp_path))).verdict is Verdict.INCONCLUSIVE
    (tmp_path / ".gitignore").write_text("*.ts\n")
    assert (await ask(PUBLIC, world(tmp_path))).verdict is Verdict.SKIPPED


async def test_client_code_without_traps_passes(tmp_path: Path) -> None:
    """Reading what is public by intent is no finding, and packages are not client code of this project."""
    (tmp_path / "node_modules" / "x").mkdir(parents=True)
    (tmp_path / "node_modules" / "x" / "a.js").write_text("import.meta.env.VITE_IKHOKHA_API_SECRET")
    (tmp_path / "main.ts").write_text("fetch(import.meta.env.VITE_IKHOKHA_API_URL)")
    finding = await ask(PUBLIC, world(tmp_path))
    assert (finding.verdict, finding.evidence["files"]) == (Verdict.PASS, 1), finding


async def test_taking_all_variables_is_advice_until_one_of_them_is_secret(tmp_path: Path) -> None:
    """`import.meta.env[key]` leaks as soon as a secret has a public name, the project's own prefix included."""
    declared = {"settings": {"SHOP_KEY": {"type": "secret"}, "VITE_URL": {"type": "url"}}}
    made = world(tmp_path, spec=declared, values={"SHOP_KEY": Secret(letters(30)), "VITE_URL": "https://x.y"})
    (tmp_path / "main.js").write_text("use(import.meta.env[key])")
    assert (await ask(PUBLIC, made)).verdict is Verdict.ADVICE
    (tmp_path / "vite.config.js").write_text("export default { envPrefix: ['VITE_', 'SHOP_'] }")
    assert (await ask(PUBLIC, world(tmp_path, spec=declared))).verdict is Verdict.FAIL


async def test_a_setting_that_holds_the_value_of_a_secret_is_one(tmp_path: Path) -> None:
    """A copy of a secret under a harmless name is as public as the secret."""
    value = letters(30)
    made = world(tmp_path, values={"VITE_IKHOKHA_API_SECRET": Secret(value), "VITE_TITLE": value})
    (tmp_path / "main.js").write_text("show(import.meta.env.VITE_TITLE)")
    assert (await ask(PUBLIC, made)).verdict is Verdict.FAIL


async def test_client_code_that_cannot_be_read_is_inconclusive(tmp_path: Path) -> None:
    """A script that is too large to be read as code was not judged."""
    (tmp_path / "huge.js").write_bytes(b" " * (8 * 1024 * 1024 + 1))
    assert (await ask(PUBLIC, world(tmp_path))).verdict is Verdict.INCONCLUSIVE


async def test_a_pipe_in_place_of_a_script_keeps_nobody_waiting(tmp_path: Path) -> None:
    """What is no file was not judged."""
    os.mkfifo(tmp_path / "main.js")
    async with asyncio.timeout(60):
        assert (await ask(PUBLIC, world(tmp_path))).verdict is Verdict.INCONCLUSIVE


def test_a_comment_without_an_end_hides_nothing() -> None:
    """What was taken for the beginning of a comment is code, and a file full of them is read once."""
    code = "/* a */ /*" * 50_000 + " import.meta.env.VITE_KEY"
    assert [one.name for one in sightings("a.js", code, PUBLIC_ONES, SECRETS)] == ["VITE_KEY"]
    page = "<!-- %VITE_KEY% --><!--" + " <!-" * 50_000 + "%VITE_KEY%"
    assert [one.name for one in sightings("a.html", page, PUBLIC_ONES, SECRETS)] == ["VITE_KEY"]


def test_the_names_of_a_source_tree_lead_to_its_files() -> None:
    """A printed name is the path from the folder of pipeline.yaml."""
    tree = SourceTree("/app", ("src/a.js",), "the source tree")
    assert list(tree.named()) == [("src/a.js", "/app/src/a.js")]


def test_the_checks_load_no_scanner() -> None:
    """A command that needs no scanner does not wait for one: it is loaded when a check asks for it."""
    code = "import sys, checks.leaks_no_secret_patterns, checks.leaks_none_in_history as _; "
    code += "sys.exit(any(name in sys.modules for name in ('kingfisher_sdk', 'ahocorasick_rs', 'brotli')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
