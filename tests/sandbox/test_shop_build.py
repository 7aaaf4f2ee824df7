"""The shop's build step and its table of faults."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sandbox.shop.server.faults import FAULTS
from sandbox.shop.server.faulty import BREAKS, IN_PAGES, broken
from sandbox.shop.server.seams import Seams
from tests.sandbox.shops import ROOT, build


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_sources_and_settings_give_the_same_bytes(tmp_path: Path) -> None:
    """A release can be built again and compared byte for byte."""
    env = {"VITE_IKHOKHA_TEST_MODE": "false"}
    build(tmp_path / "a", env=env)
    build(tmp_path / "b", env=env)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_build_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    """What an earlier build left in the folder never becomes part of a release."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "stale.js").write_text("old")
    build(tmp_path / "dist")
    assert "stale.js" not in contents(tmp_path / "dist")


def test_the_bundle_holds_only_what_the_script_reads(tmp_path: Path) -> None:
    """A secret in the environment of the build does not reach the release unless client code reads it."""
    secret = "made-up-" + "s" * 30
    build(tmp_path / "dist", env={"VITE_IKHOKHA_API_SECRET": secret, "VITE_IKHOKHA_TEST_MODE": "true"})
    everything = b"".join(contents(tmp_path / "dist").values())
    assert secret.encode() not in everything
    assert b'"true" === "true"' in everything


def test_a_secret_that_the_script_reads_is_in_the_bundle(tmp_path: Path) -> None:
    """The drill secret-in-bundle puts the API secret where every visitor finds it."""
    secret = "made-up-" + "s" * 30
    build(tmp_path / "dist", fault="secret-in-bundle", env={"VITE_IKHOKHA_API_SECRET": secret})
    assets = contents(tmp_path / "dist" / "public" / "assets")
    assert any(secret.encode() in asset for asset in assets.values())


def test_assets_are_named_after_their_content(tmp_path: Path) -> None:
    """A page that was loaded before a switch never gets another release's script under the old name."""
    build(tmp_path / "a", env={"VITE_IKHOKHA_TEST_MODE": "false"})
    build(tmp_path / "b", env={"VITE_IKHOKHA_TEST_MODE": "true"})
    names = [{path for path in contents(tmp_path / out) if path.endswith(".js")} for out in ("a", "b")]
    assert names[0].isdisjoint(names[1])


def test_pages_have_neither_inline_scripts_nor_inline_styles(tmp_path: Path) -> None:
    """The strict Content-Security-Policy breaks no page of the site."""
    build(tmp_path / "dist")
    pages = [file.read_text() for file in (tmp_path / "dist" / "public").rglob("*.html")]
    assert len(pages) == 6
    for page in pages:
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", page)
        assert "{{" not in page


def test_an_unknown_fault_is_refused_with_the_list(tmp_path: Path) -> None:
    """A drill with a misspelt fault never passes for a drill of a healthy release."""
    done = build(tmp_path / "dist", fault="webhook-501")
    assert done.returncode == 1
    assert "webhook-501" in done.stderr
    assert all(name in done.stderr for name in FAULTS)
    assert not (tmp_path / "dist").exists()


def test_the_sources_are_never_the_folder_to_remake() -> None:
    """A wrong --out does not remove the sources."""
    done = build(ROOT / "sandbox")
    assert done.returncode == 1
    assert (ROOT / "sandbox" / "shop" / "build.py").is_file()


def test_a_release_carries_its_faults_and_normally_none(tmp_path: Path) -> None:
    """A faulty release says so in its own folder."""
    build(tmp_path / "good")
    build(tmp_path / "bad", fault="webhook-500,never-ready")
    assert json.loads((tmp_path / "good" / "faults.json").read_text()) == []
    assert json.loads((tmp_path / "bad" / "faults.json").read_text()) == ["never-ready", "webhook-500"]


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_the_table_has_one_sentence(name: str) -> None:
    """Whoever drills reads what is broken."""
    assert re.fullmatch(r"[A-Z][^.]+\.", FAULTS[name].promise)


def test_every_fault_of_the_table_breaks_something() -> None:
    """No fault exists in name only, and none breaks the shop without being in the table."""
    assert set(BREAKS) | IN_PAGES == set(FAULTS)
    assert all(f'"{name}" in faults' in (ROOT / "sandbox" / "shop" / "build.py").read_text() for name in IN_PAGES)
    assert broken(IN_PAGES) == Seams()


@pytest.mark.parametrize("name", BREAKS)
def test_every_fault_changes_a_careful_answer(name: str) -> None:
    """A release with a fault is the careful one but for one or two answers."""
    faulty, careful = broken([name]), Seams()
    changed = [seam.name for seam in fields(Seams) if getattr(faulty, seam.name) != getattr(careful, seam.name)]
    assert 1 <= len(changed) <= 2, changed


def test_faults_come_together() -> None:
    """A release may be faulty in more than one way, and in all ways at once."""
    assert broken(BREAKS) != Seams()


def test_a_careful_release_has_no_fault() -> None:
    """Without a fault the careful answers stand."""
    assert broken([]) == Seams()


def test_a_release_imports_nothing_of_the_repository(tmp_path: Path) -> None:
    """A release runs from its own folder, wherever that is, and a careful one loads no fault."""
    build(tmp_path / "dist")
    probe = (
        "import sys, shop.__main__; print([n for n in sys.modules if n.partition('.')[0] in"
        " ('gateways', 'pipeline', 'sandbox', 'checks', 'rollback', 'targets') or 'faulty' in n])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path / "dist",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
