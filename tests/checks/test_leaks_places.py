"""Where secrets hide: packed files, the history of a repository, and the record of earlier runs."""

from __future__ import annotations

import asyncio
import base64
import bz2
import gzip
import json
import lzma
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import leaks_none_in_bundle, leaks_none_in_history, leaks_none_in_records, leaks_none_in_source
from checks.facts import history, leaks
from checks.facts.folders import below
from checks.facts.object_stream import Stream
from checks.facts.repository import GitFailed
from checks.facts.sieve import Sieve
from checks.facts.unpacking import Unreadable, members
from checks.judging import Unjudged
from pipeline.contracts import World
from pipeline.secrets import Secret
from pipeline.verdict import Verdict
from tests.checks.leak_planting import ENCODERS, git, letters, pieces, twenty_secrets, vite_like
from tests.checks.production import environments
from tests.checks.worlds import URL, ask, at, random_text, world

SOURCE, BUNDLE = leaks_none_in_source.CHECK, leaks_none_in_bundle.CHECK
HISTORY, RECORDS = leaks_none_in_history.CHECK, leaks_none_in_records.CHECK
SECRET = random_text()
SETTING = "VITE_IKHOKHA_API_SECRET"
VALUES = twenty_secrets()


def holding(root: Path, values: dict[str, str]) -> World:
    """A world whose settings hold these secrets."""
    return world(root, values={name: Secret(value) for name, value in values.items()})


# ---- files -------------------------------------------------------------------------------------------------


def zipped(data: bytes) -> bytes:
    path = Path(os.environ.get("TMPDIR", "/tmp"), f"{letters(20)}.zip")  # noqa: S108 - gone with the next line
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", data)
    packed = path.read_bytes()
    path.unlink()
    return packed


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "brotli": (".js.br", brotli.compress),
    "zip": (".zip", zipped),
    "xz": (".xz", lzma.compress),
    "bzip2": (".bz2", bz2.compress),
    "gzip of two parts": (".gz", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(7)),
    "gzip in zip": (".zip", lambda data: zipped(gzip.compress(data))),
}


def test_twenty_secrets_in_every_encoding_are_found_in_a_tree(tmp_path: Path) -> None:
    """Each file is named with the line, and only the files that hold a secret are named."""
    vite_like(tmp_path / "dist", kilobytes=40)
    planted = set()
    for number, encode in enumerate(ENCODERS.values()):
        for setting, value in VALUES.items():
            file = tmp_path / f"{number}" / f"{setting}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"one\ntwo\nkey: " + encode(value) + b" .\nfour\n")
            planted.add((setting, f"{number}/{setting}.txt", 3))
    files = [(str(path.relative_to(tmp_path)), path) for path in tmp_path.rglob("*") if path.is_file()]
    found = leaks.search(files, {name: Secret(value) for name, value in VALUES.items()}, "the tree")
    assert {(leak.setting, leak.file, leak.line) for leak in found.leaks} == planted
    assert found.unread == ()


@pytest.mark.parametrize("kind", PACKERS)
async def test_a_secret_in_a_packed_file_is_found(tmp_path: Path, kind: str) -> None:
    """A packed file is opened, also inside another one, and the line in its member is told."""
    suffix, pack = PACKERS[kind]
    (tmp_path / f"app{suffix}").write_bytes(pack(b"one\nlet key = '" + SECRET.encode() + b"'\n"))
    finding = await ask(SOURCE, holding(tmp_path, {SETTING: SECRET}))
    assert finding.verdict is Verdict.FAIL
    assert f"{SETTING} in app{suffix}!" in finding.reason
    assert ":2 (raw)" in finding.reason
    assert SECRET not in repr(finding)


@given(st.binary(max_size=300), st.sampled_from([b"\x1f\x8b\x08", b"PK\x03\x04", b"\xfd7zXZ\x00", b"BZh91AY&SY", b""]))
@settings(max_examples=150, deadline=None)
def test_no_packed_data_is_opened_by_guess(junk: bytes, magic: bytes) -> None:
    """Broken archives are named as unreadable; nothing else is ever raised."""
    for name in ("a.js", "a.br"):
        try:
            assert all(isinstance(content, bytes) for _, content in members(name, magic + junk))
        except Unreadable as error:
            assert str(error)


async def test_a_leak_in_a_source_map_names_the_source(tmp_path: Path) -> None:
    """Of a map the original file and its line are named, though the value is in pieces over several lines."""
    dist = tmp_path / "dist"
    dist.mkdir()
    split = " +\n  ".join(f'"{piece}"' for piece in pieces(SECRET, 7))
    told = {
        "sources": ["../src/a.ts", "../src/pay.ts"],
        "sourcesContent": ["let a", f"// pay\nconst key =\n {split}\n"],
    }
    (dist / "index.js.map").write_text(json.dumps(told))
    finding = await ask(BUNDLE, at(holding(tmp_path, {SETTING: SECRET}), artifact=dist))
    assert f"{SETTING} in dist/index.js.map!../src/pay.ts:3 (raw (split))" in finding.reason, finding
    assert [(place.file, place.line) for place in finding.places] == [("dist/index.js.map", 1)]


async def test_a_secret_in_the_name_of_a_file_is_found(tmp_path: Path) -> None:
    """The name of a file is public where the file is."""
    (tmp_path / f"{SECRET}.txt").write_text("nothing")
    assert (await ask(SOURCE, holding(tmp_path, {SETTING: SECRET}))).verdict is Verdict.FAIL


@pytest.mark.parametrize("before", [0, 1, leaks.CHUNK - 5, leaks.CHUNK - leaks.OVERLAP - 5, 3 * leaks.CHUNK])
def test_a_value_is_found_wherever_a_chunk_ends(tmp_path: Path, before: int) -> None:
    """Large files are read in chunks, and a value that lies on a border is found once, on its line."""
    (tmp_path / "big").write_bytes(b"x" * (before // 2) + b"\n" + b"y" * (before - before // 2) + SECRET.encode())
    found = leaks.search([("big", tmp_path / "big")], {SETTING: Secret(SECRET)}, "a file")
    assert [(leak.line, leak.encoding) for leak in found.leaks] == [(2, "raw")]


def test_each_of_many_places_in_a_large_member_has_its_line(tmp_path: Path) -> None:
    """Lines are counted through all chunks of what was packed, also where two chunks share a place."""
    lines = [b"x" * 900] * (2 * leaks.CHUNK // 900)
    wanted = [1, 2, (leaks.CHUNK - leaks.OVERLAP // 2) // 901, (leaks.CHUNK - 5000) // 901, len(lines)]
    for number in wanted:
        lines[number - 1] = SECRET.encode()
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    found = leaks.search([("a.gz", tmp_path / "a.gz")], {SETTING: Secret(SECRET)}, "a file")
    assert [leak.line for leak in found.leaks] == wanted


# ---- history -----------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "main.js").write_text("console.log('hello')\n")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "Begin")
    return root


def committed(root: Path, name: str, content: bytes, message: str = "More") -> str:
    (root / name).write_bytes(content)
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", message)
    return git(root, "rev-parse", "HEAD")[:10]


async def test_a_clean_history_passes(repository: Path) -> None:
    """Every object was searched, and they are counted."""
    finding = await ask(HISTORY, holding(repository, {SETTING: SECRET}))
    assert (finding.verdict, finding.evidence["files"]) == (Verdict.PASS, 3), finding


async def test_a_secret_that_was_deleted_again_is_found(repository: Path) -> None:
    """The commit that brought it, the path and the line are named, in loose objects and in packs."""
    commit = committed(repository, "pay ment.js", b"//\nlet key = '" + SECRET.encode() + b"'\n")
    git(repository, "rm", "--quiet", "pay ment.js")
    git(repository, "commit", "--quiet", "-m", "Take it out")
    assert (await ask(SOURCE, holding(repository, {SETTING: SECRET}))).verdict is Verdict.PASS
    for _ in range(2):
        finding = await ask(HISTORY, holding(repository, {SETTING: SECRET}))
        assert finding.verdict is Verdict.FAIL
        assert f"{SETTING} in {commit}:pay ment.js:2 (raw)" in finding.reason
        assert SECRET not in repr(finding)
        git(repository, "gc", "--quiet", "--aggressive")


async def test_messages_tags_and_names_are_searched(repository: Path) -> None:
    """A commit message, a tag's message and a file's name are part of the history."""
    others = {name: random_text() for name in ("MESSAGE", "TAG", "NAME")}
    committed(repository, "a", b"a", f"The key is {others['MESSAGE']}")
    git(repository, "tag", "-a", "v1", "-m", others["TAG"])
    committed(repository, others["NAME"], b"b")
    finding = await ask(HISTORY, holding(repository, others))
    found = {(leak["setting"], str(leak["file"]).split(" ")[0]) for leak in finding.evidence["leaks"]}  # type: ignore[attr-defined]
    assert found == {("MESSAGE", "commit"), ("TAG", "tag"), ("NAME", "tree")}


async def test_what_no_branch_reaches_is_searched(repository: Path) -> None:
    """A commit that was amended away, and a file that was only ever added, are still in the repository."""
    first, second = random_text(), random_text()
    committed(repository, "a.js", first.encode())
    (repository / "a.js").write_text("clean")
    git(repository, "commit", "--quiet", "-a", "--amend", "-m", "Clean")
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "hash-object", "-w", "--stdin", stdin=second.encode())
    finding = await ask(HISTORY, holding(repository, {"FIRST": first, "SECOND": second}))
    assert finding.verdict is Verdict.FAIL
    assert finding.reason.count("which no commit reaches") == 2


async def test_packed_files_of_the_history_are_opened(repository: Path) -> None:
    """gzip and zip are known by their content, brotli by the name it has in some commit."""
    values = {"GZIP": random_text(), "ZIP": random_text(), "BROTLI": random_text()}
    one = committed(repository, "a.bin", gzip.compress(values["GZIP"].encode()))
    two = committed(repository, "b.bin", zipped(values["ZIP"].encode()))
    three = committed(repository, "c.js.br", brotli.compress(values["BROTLI"].encode()))
    finding = await ask(HISTORY, holding(repository, values))
    for name, place in (
        ("GZIP", f"{one}:a.bin!gzip"),
        ("ZIP", f"{two}:b.bin!a/b.txt"),
        ("BROTLI", f"{three}:c.js.br!"),
    ):
        assert f"{name} in {place}" in finding.reason, finding


async def test_twenty_secrets_in_every_encoding_are_found_in_git_objects(repository: Path) -> None:
    """Each of them is found, whichever object it is in, and its path is right."""
    for number, encode in enumerate(ENCODERS.values()):
        for setting, value in VALUES.items():
            (repository / f"{setting}.{number}.txt").write_bytes(b"one\nkey: " + encode(value) + b" .\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "All")
    git(repository, "gc", "--quiet")
    found = await history.search(str(repository), "", Sieve({name: Secret(value) for name, value in VALUES.items()}))
    by_setting = {setting: sum(leak.setting == setting for leak in found.leaks) for setting in VALUES}
    assert by_setting == {
        setting: len({encode(value) for encode in ENCODERS.values()}) for setting, value in VALUES.items()
    }
    looked_up = [leak for leak in found.leaks if ":" in leak.file]
    assert looked_up
    assert all(leak.file.split(":")[1].startswith(f"{leak.setting}.") and leak.line == 2 for leak in looked_up)


async def test_the_history_of_a_nested_checkout_is_searched(repository: Path) -> None:
    """A repository inside the repository has a history of its own; the finding says which one holds the secret."""
    inner = repository / "vendor"
    inner.mkdir()
    git(inner, "init", "--quiet")
    committed(inner, "x.js", SECRET.encode())
    committed(inner, "x.js", b"clean")
    finding = await ask(HISTORY, holding(repository, {SETTING: SECRET}))
    assert (finding.verdict, f"{SETTING} in vendor " in finding.reason) == (Verdict.FAIL, True), finding


@pytest.mark.parametrize(("option", "word"), [("--depth=1", "shallow"), ("--filter=blob:none", "partial")])
async def test_a_clone_without_all_of_its_history_fails(
    repository: Path, tmp_path: Path, option: str, word: str
) -> None:
    """What is not there was not searched."""
    committed(repository, "main.js", b"two")
    git(repository, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", option, f"file://{repository}", "clone")
    finding = await ask(HISTORY, holding(tmp_path / "clone", {SETTING: SECRET}))
    assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding
    assert "fetch-depth: 0" in finding.remedy


async def test_no_history_is_inconclusive(tmp_path: Path, repository: Path) -> None:
    """Without git, with a damaged object, or with too little time nothing was proven."""
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "a").write_text("a")
    assert (await ask(HISTORY, holding(plain, {SETTING: SECRET}))).verdict is Verdict.INCONCLUSIVE
    assert (await ask(HISTORY, holding(repository, {SETTING: SECRET}), within="0 ms")).verdict is Verdict.INCONCLUSIVE
    blob = git(repository, "rev-parse", "HEAD:main.js")
    damaged = repository / ".git" / "objects" / blob[:2] / blob[2:]
    damaged.chmod(0o600)
    damaged.write_bytes(b"junk")
    assert (await ask(HISTORY, holding(repository, {SETTING: SECRET}))).verdict is Verdict.INCONCLUSIVE


async def test_nothing_of_the_environment_steers_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that point git elsewhere, as in a hook, do not: the repository of pipeline.yaml is searched."""
    committed(repository, "x.js", SECRET.encode())
    committed(repository, "x.js", b"clean")
    git(repository, "replace", git(repository, "rev-parse", "HEAD~1"), git(repository, "rev-parse", "HEAD"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere")
    assert (await ask(HISTORY, holding(repository, {SETTING: SECRET}))).verdict is Verdict.FAIL


@given(st.lists(st.binary(max_size=400), max_size=6), st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_a_stream_of_objects_may_be_cut_anywhere(contents: list[bytes], cuts: list[int], where: int) -> None:
    """However git's output is cut into pieces, each object is counted and each hit lies in its object."""
    contents.append(b"z" * where + SECRET.encode())
    data = b"".join(b"%040x blob %d\n%b\n" % (n, len(one), one) for n, one in enumerate(contents))
    stream = Stream(Sieve({SETTING: Secret(SECRET)}))
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in pairwise(edges):
        stream.feed(data[begin:end])
    seen = stream.end()
    assert seen.objects == len(contents)
    assert {(int(hit.object.name, 16), hit.offset) for hit in seen.hits} >= {(len(contents) - 1, where)}


@given(st.binary(max_size=600))
@settings(max_examples=100, deadline=None)
def test_no_stream_makes_the_search_crash(data: bytes) -> None:
    """What is no list of objects is refused in words."""
    stream = Stream(Sieve({SETTING: Secret(SECRET)}))
    try:
        stream.feed(data)
        stream.end()
    except GitFailed as error:
        assert str(error)


def test_memory_and_time_are_bounded_for_all_that_is_packed_together(tmp_path: Path) -> None:
    """Many small members that unpack to much each are given up on, as one large one is."""
    bombs = tmp_path / "bombs.zip"
    with zipfile.ZipFile(bombs, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.gz", gzip.compress(bytes(4000)))
    sieve = Sieve({SETTING: Secret(SECRET)})
    assert list(leaks.in_members("bombs.zip", bombs.read_bytes(), sieve, 20_000)) == []
    with pytest.raises(Unreadable, match="unpacks to more"):
        list(leaks.in_members("bombs.zip", bombs.read_bytes(), sieve, 10_000))


@pytest.mark.parametrize(
    "begin", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"]
)
async def test_what_cannot_be_unpacked_is_not_clean(tmp_path: Path, begin: bytes) -> None:
    """An archive in a format that nothing here reads may hold anything."""
    (tmp_path / "backup").write_bytes(begin + bytes(40))
    finding = await ask(SOURCE, holding(tmp_path, {SETTING: SECRET}))
    assert (finding.verdict, "cannot be unpacked" in finding.reason) == (Verdict.INCONCLUSIVE, True)


async def test_a_member_that_was_cut_off_is_not_clean(tmp_path: Path) -> None:
    """What the rest of it would have held nobody knows."""
    (tmp_path / "app.gz").write_bytes(gzip.compress(letters(9000).encode())[:-400])
    finding = await ask(SOURCE, holding(tmp_path, {SETTING: SECRET}))
    assert (finding.verdict, "app.gz: it cannot be unpacked" in finding.reason) == (Verdict.INCONCLUSIVE, True)


@pytest.mark.parametrize("place", ["name", "folder", "member", "escaped"])
async def test_a_value_in_a_name_is_told_without_the_name(tmp_path: Path, place: str) -> None:
    """The file is refused, and what the finding prints of its name leaves the value out."""
    if place == "member":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(f"{SECRET}.txt", f"key: {SECRET}")
    elif place == "escaped":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            name = "".join(f"%{ord(char):02x}" if at % 6 == 5 else char for at, char in enumerate(SECRET))
            archive.writestr(f"{name}.txt", f"key: {SECRET}")
    else:
        file = tmp_path / (f"{SECRET}.txt" if place == "name" else f"{SECRET}/a.txt")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"key: {SECRET}")
    finding = await ask(SOURCE, holding(tmp_path, {SETTING: SECRET}))
    assert finding.verdict is Verdict.FAIL
    assert SECRET[:5] not in repr(finding)
    assert SETTING in finding.reason


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    """What is below it was not searched, and is not left out in silence."""
    with pytest.raises(Unjudged) as raised:
        list(below(tmp_path / "gone"))
    assert raised.value.finding.verdict is Verdict.INCONCLUSIVE


# ---- records -----------------------------------------------------------------------------------------------


async def test_the_record_is_searched_and_what_holds_secrets_on_purpose_is_not(tmp_path: Path) -> None:
    """A journal or a report of any environment that holds a secret fails; settings, keys and release areas may."""
    made = holding(tmp_path, {SETTING: SECRET})
    assert (await ask(RECORDS, made)).verdict is Verdict.SKIPPED
    sandbox = tmp_path / ".tollgate" / "sandbox"
    for folder in ("tls", "gateway", "target/releases/1", "reports/run-1"):
        (sandbox / folder).mkdir(parents=True)
    for file in ("settings.env", "tls/key", "gateway/db", "target/releases/1/settings.json"):
        (sandbox / file).write_text(SECRET)
    assert (await ask(RECORDS, made)).verdict is Verdict.SKIPPED
    (sandbox / "journal.sqlite").write_bytes(b"SQLite format 3\0")
    assert (await ask(RECORDS, made)).verdict is Verdict.PASS
    for file in ("reports/run-1/report.html", "journal.sqlite-wal", "../staging/journal.sqlite"):
        leak = sandbox / file
        leak.parent.mkdir(exist_ok=True)
        leak.write_bytes(b"\0\1" + base64.b64encode(b"k=" + SECRET.encode()))
        finding = await ask(RECORDS, made)
        assert (finding.verdict, leak.name in finding.reason) == (Verdict.FAIL, True), finding
        leak.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_a_record_nobody_may_read_is_inconclusive(tmp_path: Path) -> None:
    """What cannot be opened was not searched."""
    journal = tmp_path / ".tollgate" / "sandbox" / "journal.sqlite"
    journal.parent.mkdir(parents=True)
    journal.write_text("x")
    journal.chmod(0)
    assert (await ask(RECORDS, holding(tmp_path, {SETTING: SECRET}))).verdict is Verdict.INCONCLUSIVE


async def test_records_kept_elsewhere_are_searched(tmp_path: Path) -> None:
    """Reports behind a link to another disk, and a journal behind one, are records; a link to itself ends."""
    made = holding(tmp_path / "shop", {SETTING: SECRET})
    state, disk = tmp_path / "shop" / ".tollgate" / "staging", tmp_path / "disk"
    disk.mkdir()
    state.mkdir(parents=True)
    (state / "reports").symlink_to(disk)
    (state / "again").symlink_to(tmp_path / "shop" / ".tollgate")
    (state / "settings.env").write_text(SECRET)
    (state / "journal").write_text("x")
    assert (await ask(RECORDS, made)).verdict is Verdict.PASS
    (disk / "report.html").write_text(SECRET)
    assert (await ask(RECORDS, at(made))).verdict is Verdict.FAIL
    (disk / "report.html").unlink()
    (tmp_path / "elsewhere").write_text(SECRET)
    (state / "journal").unlink()
    (state / "journal").symlink_to(tmp_path / "elsewhere")
    assert (await ask(RECORDS, at(made))).verdict is Verdict.FAIL


async def test_an_environment_may_be_called_cache(tmp_path: Path) -> None:
    """The record of an environment is searched whatever its name."""
    spec = environments(cache={"url": URL, "target": {"kind": "local", "path": "c"}, "settings_from": ["environment"]})
    (tmp_path / ".tollgate" / "cache").mkdir(parents=True)
    (tmp_path / ".tollgate" / "cache" / "journal").write_text(SECRET)
    made = holding(tmp_path, {SETTING: SECRET})
    assert (await ask(RECORDS, made)).verdict is Verdict.SKIPPED
    named = world(tmp_path, values={SETTING: Secret(SECRET)}, spec=spec)
    assert (await ask(RECORDS, named)).verdict is Verdict.FAIL


async def test_a_record_that_is_no_file_is_inconclusive(tmp_path: Path) -> None:
    """A pipe in place of a journal cannot be searched."""
    (tmp_path / ".tollgate" / "sandbox").mkdir(parents=True)
    os.mkfifo(tmp_path / ".tollgate" / "sandbox" / "journal.sqlite")
    async with asyncio.timeout(60):
        finding = await ask(RECORDS, holding(tmp_path, {SETTING: SECRET}))
    assert finding.verdict is Verdict.INCONCLUSIVE


async def test_no_search_without_secrets_passes(repository: Path) -> None:
    """Settings without a secret, or with one too short to search for, prove nothing anywhere."""
    (repository / ".tollgate" / "sandbox").mkdir(parents=True)
    (repository / ".tollgate" / "sandbox" / "journal.sqlite").write_text("x")
    for check in (SOURCE, HISTORY, RECORDS):
        made = holding(repository, {"SHORT": "abc123", SETTING: SECRET})
        assert (await ask(check, made)).verdict is Verdict.FAIL
        bare = replace(made, settings=world(repository, values={"A": "text"}).settings)
        assert (await ask(check, at(bare))).verdict is Verdict.INCONCLUSIVE


async def test_a_search_takes_no_lock_away(tmp_path: Path) -> None:
    """While a run holds its journal, reading the record leaves the journal locked for everybody else."""
    folder = tmp_path / ".tollgate" / "sandbox"
    folder.mkdir(parents=True)
    journal = sqlite3.connect(folder / "journal.sqlite", isolation_level=None)
    try:
        journal.execute("PRAGMA journal_mode = WAL")
        journal.execute("CREATE TABLE entries (id INTEGER)")
        journal.execute("BEGIN IMMEDIATE")
        finding = await ask(RECORDS, world(tmp_path))
        assert (finding.verdict.value, finding.evidence["files"]) == ("PASS", 3)
        rival = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        argv = [sys.executable, "-c", rival, str(folder / "journal.sqlite")]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True)
        assert "database is locked" in done.stderr
    finally:
        journal.close()
