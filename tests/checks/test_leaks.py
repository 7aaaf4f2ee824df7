"""The searches for secrets in source and bundle."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from checks import CHECKS
from checks.facts import leaks
from pipeline.contracts import World
from pipeline.secrets import Secret
from pipeline.settings import SettingValue
from pipeline.verdict import Verdict
from tests.checks.worlds import ask, at, random_text, world

SOURCE, BUNDLE = CHECKS["leaks.none_in_source"], CHECKS["leaks.none_in_bundle"]
SECRET = random_text()


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> World:
    root = tmp_path / "app"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "main.js").write_text("console.log('hello')\n")
    (root / ".gitignore").write_text(".env*\n")
    (root / ".env.production").write_text(f"VITE_IKHOKHA_API_SECRET={SECRET}\n")
    return world(root, secret=SECRET)


@pytest.fixture
def bundle(tmp_path: Path) -> World:
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<!doctype html>")
    return at(world(tmp_path, secret=SECRET), artifact=dist)


async def test_a_clean_checkout_passes_and_ignored_files_are_left_alone(checkout: World) -> None:
    """Git ignores the dotenv file with the secrets, so it is no leak."""
    finding = await ask(SOURCE, checkout)
    assert (finding.verdict, finding.evidence["files"]) == (Verdict.PASS, 2), finding


async def test_the_key_of_a_notice_in_a_file_is_found(checkout: World) -> None:
    """An address pasted into a file that git keeps blocks, by its variable's name; its host and words do not."""
    key = random_text()
    value = SettingValue("NOTICE_OPS", Secret(f"json://hooks.shop.test/services/{key}"), "environment")
    asked = replace(checkout, settings=replace(checkout.settings, addresses={"NOTICE_OPS": value}))
    (checkout.root / "notes.md").write_text("We write to https://hooks.shop.test/services/ when it is bad.\n")
    assert (await ask(SOURCE, asked)).verdict is Verdict.PASS
    (checkout.root / "notes.md").write_text(f"curl https://hooks.shop.test/services/{key}\n")
    finding = await ask(SOURCE, asked)
    assert finding.verdict is Verdict.FAIL
    assert "NOTICE_OPS, key 1" in finding.reason and key not in finding.reason


@pytest.mark.parametrize("tracked", [True, False])
async def test_a_secret_in_a_file_of_the_checkout_is_found(checkout: World, tracked: bool) -> None:
    """Committed or not yet: file, line and setting are named, the value is not."""
    (checkout.root / "pay.js").write_text(f"// one\n\nconst key = '{SECRET}'\n")
    if tracked:
        git(checkout.root, "add", "pay.js")
    finding = await ask(SOURCE, checkout)
    assert finding.verdict is Verdict.FAIL
    assert "VITE_IKHOKHA_API_SECRET in pay.js:3" in finding.reason
    assert (finding.evidence["file"], finding.evidence["line"]) == ("pay.js", 3)
    assert SECRET not in repr(finding)


async def test_a_nested_checkout_is_searched_too(checkout: World) -> None:
    """A repository inside the repository is source as well."""
    inner = checkout.root / "vendor"
    inner.mkdir()
    git(inner, "init", "--quiet")
    (inner / "x").write_text(SECRET)
    assert (await ask(SOURCE, checkout)).verdict is Verdict.FAIL


async def test_a_checkout_git_cannot_list_is_inconclusive(checkout: World) -> None:
    """A broken repository is not searched by guess."""
    (checkout.root / ".git" / "HEAD").write_text("nonsense")
    (checkout.root / ".git" / "config").write_text("[broken")
    finding = await ask(SOURCE, checkout)
    assert (finding.verdict, "git could not list" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_without_git_every_file_but_the_declared_sources_is_searched(tmp_path: Path) -> None:
    """A plain copy of the source is searched; the dotenv file the environment declares is where secrets belong."""
    made = world(tmp_path, secret=SECRET, environment="production")
    (tmp_path / ".env.production").write_text(SECRET)
    assert (await ask(SOURCE, made)).verdict is Verdict.INCONCLUSIVE
    (tmp_path / "a.py").write_text("pass")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "x").write_text(SECRET)
    assert (await ask(SOURCE, at(made))).verdict is Verdict.PASS
    (tmp_path / ".env.copy").write_text(SECRET)
    assert (await ask(SOURCE, at(made))).verdict is Verdict.FAIL


def plain(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def gzipped(path: Path, data: bytes) -> None:
    path.with_suffix(".js.gz").write_bytes(gzip.compress(data))


def zipped_twice(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.gz", gzip.compress(data))


def source_map(path: Path, data: bytes) -> None:
    path.with_suffix(".js.map").write_text(json.dumps({"sourcesContent": [data.decode()]}))


def far_in(path: Path, data: bytes) -> None:
    path.write_bytes(b"\n" * (leaks.CHUNK - 10) + data)


@pytest.mark.parametrize("write", [plain, gzipped, zipped_twice, source_map, far_in])
@pytest.mark.parametrize(
    "encode", [str.encode, lambda s: base64.b64encode(s.encode()), lambda s: s.encode().hex().encode()]
)
async def test_a_secret_in_the_bundle_is_found(
    bundle: World, write: Callable[[Path, bytes], None], encode: Callable[[str], bytes]
) -> None:
    """Plain, encoded, compressed, in a source map or across a reader's chunks: the release is blocked with the fix."""
    assert bundle.run.artifact is not None
    write(bundle.run.artifact / "assets" / "index.js", b'const a="' + encode(SECRET) + b'"')
    finding = await ask(BUNDLE, bundle)
    assert finding.verdict is Verdict.FAIL
    assert "VITE_IKHOKHA_API_SECRET in dist/assets/index" in finding.reason
    assert "import.meta.env" in finding.remedy
    assert SECRET not in repr(finding)


async def test_line_numbers_hold_across_chunks(bundle: World) -> None:
    """A leak far into a large file is named with its own line."""
    assert bundle.run.artifact is not None
    far_in(bundle.run.artifact / "big.js", SECRET.encode())
    finding = await ask(BUNDLE, bundle)
    assert finding.evidence["line"] == leaks.CHUNK - 10 + 1


async def test_a_clean_bundle_passes_and_an_empty_one_proves_nothing(bundle: World) -> None:
    """No file searched is not a pass, nor is a build that left no folder."""
    assert bundle.run.artifact is not None
    assert (await ask(BUNDLE, bundle)).verdict is Verdict.PASS
    (bundle.run.artifact / "index.html").unlink()
    assert (await ask(BUNDLE, bundle)).verdict is Verdict.INCONCLUSIVE
    assert (await ask(BUNDLE, at(bundle, artifact=None))).verdict is Verdict.INCONCLUSIVE
    assert (await ask(BUNDLE, at(bundle, artifact=bundle.root / "none"))).verdict is Verdict.INCONCLUSIVE


async def test_what_cannot_be_unpacked_was_not_searched(bundle: World) -> None:
    """A broken archive is inconclusive and named."""
    assert bundle.run.artifact is not None
    (bundle.run.artifact / "broken.gz").write_bytes(b"\x1f\x8b broken")
    finding = await ask(BUNDLE, bundle)
    assert (finding.verdict, "dist/broken.gz" in finding.reason) == (Verdict.INCONCLUSIVE, True), finding


async def test_short_secrets_and_no_secrets_are_not_clean(bundle: World) -> None:
    """A value too short to search for fails and is named; settings without secrets prove nothing."""
    values = {"VITE_IKHOKHA_API_KEY": Secret("abc123"), "B": Secret(SECRET)}
    finding = await ask(BUNDLE, replace(bundle, settings=world(bundle.root, values=values).settings))
    assert (finding.verdict, "VITE_IKHOKHA_API_KEY" in finding.reason) == (Verdict.FAIL, True)
    finding = await ask(BUNDLE, replace(bundle, settings=world(bundle.root, values={"A": "text"}).settings))
    assert finding.verdict is Verdict.INCONCLUSIVE
