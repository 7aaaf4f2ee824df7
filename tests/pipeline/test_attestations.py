"""Signed records: real keys, real signatures by ssh-keygen, a real git repository; every way not to count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import attesting, ssh_signatures
from pipeline.attestations import (
    Attestation,
    Item,
    Record,
    State,
    TextEvidence,
    parse,
    read_instant,
    standing,
    written,
)
from pipeline.errors import Refused, Usage
from pipeline.ssh_signatures import NAMESPACE, Key, principals
from tests.pipeline.desk import DAY, ITEM, NOW, SIPHO, THANDI, Desk, desk, git, make_key, needs_ssh, signers

pytestmark = needs_ssh


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder, "thandi"), make_key(folder, "sipho")


@pytest.fixture
def at(tmp_path: Path, keys: tuple[Key, Key]) -> Desk:
    return desk(tmp_path, keys)


async def state(at: Desk, item: Item = ITEM, now: datetime = NOW, **shelf: Any) -> Attestation:
    return (await standing(at.shelf(now, **shelf), [item]))[item.name]


# ---- what counts -------------------------------------------------------------------------------------------


async def test_a_signed_record_counts_until_its_day(at: Desk) -> None:
    """A record signed by somebody on the list holds until its time has run out, and then tells who had signed."""
    at.write()
    held = await state(at, now=NOW + timedelta(days=89))
    assert (held.state, held.by, held.until) == (State.VALID, THANDI, NOW + timedelta(days=90)), held
    over = await state(at, now=NOW + timedelta(days=90))
    assert (over.state, over.by, over.done) == (State.EXPIRED, THANDI, NOW)


async def test_every_item_is_looked_up_at_once(at: Desk) -> None:
    """Each item gets its own answer."""
    other = dataclasses.replace(ITEM, name="privacy-policy")
    at.write()
    found = await standing(at.shelf(), [ITEM, other])
    assert {name: one.state for name, one in found.items()} == {"pci-dss": State.VALID, "privacy-policy": State.MISSING}


async def test_nobody_can_sign_for_longer_than_the_item_allows(at: Desk) -> None:
    """A record that claims a century, though rightly signed, runs out when the item says."""
    at.write(lasts=36_500 * DAY)
    assert (await state(at, now=NOW + timedelta(days=89))).state is State.VALID
    assert (await state(at, now=NOW + timedelta(days=91))).state is State.EXPIRED


async def test_a_commit_after_it_changes_nothing_for_what_is_bound_to_time(at: Desk) -> None:
    """Work goes on; the record and later commits leave a signature as good as it was."""
    at.write()
    (at.root / "app.py").write_text("1", "utf-8")
    at.commit()
    assert (await state(at, spec_digest="cd" * 32)).state is State.VALID


async def test_a_pipeline_may_lie_in_a_folder_of_the_repository(tmp_path: Path, keys: tuple[Key, Key]) -> None:
    """Signers and records are those beside pipeline.yaml; a change anywhere in the repository voids what it binds."""
    git(tmp_path, "init", "-q", "-b", "main")
    inner = Desk(tmp_path / "deploy", *keys)
    inner.root.mkdir()
    inner.allow(signers({THANDI: inner.thandi}))
    (tmp_path / "app.py").write_text("1", "utf-8")
    git(tmp_path, "add", "-A")
    inner.commit()
    bound = dataclasses.replace(ITEM, bound_to="revision")
    inner.write(bound)
    inner.commit()
    assert (await state(inner, bound)).state is State.VALID
    (tmp_path / "app.py").write_text("2", "utf-8")
    assert (await state(inner, bound)).state is State.VOID


# ---- what does not -----------------------------------------------------------------------------------------


async def test_nothing_there_is_missing(at: Desk) -> None:
    """No file is no signature."""
    assert (await state(at)).state is State.MISSING


async def test_every_altered_byte_is_noticed(at: Desk) -> None:
    """A later day, another name or any other changed letter makes the record altered or unreadable, never valid."""
    at.write()
    file = at.shelf().record(ITEM.name)
    whole = file.read_bytes()
    for old, new in ((b"2027-", b"2029-"), (b"Monday", b"Sunday"), (b"thandi@", b"sandra@"), (b'": 1\n', b'": 1 \n')):
        assert old in whole
        file.write_bytes(whole.replace(old, new))
        found = await state(at)
        assert found.state in (State.ALTERED, State.UNREADABLE, State.FOREIGN), (old, found)
        assert found.by == ""
    file.write_bytes(whole)
    assert (await state(at)).state is State.VALID


async def test_a_signature_of_another_record_does_not_fit(at: Desk) -> None:
    """Last year's signature beside this year's record is no signature of it."""
    at.write(evidence="last year")
    old = at.shelf().signature(ITEM.name).read_bytes()
    at.write(evidence="this year")
    at.shelf().signature(ITEM.name).write_bytes(old)
    assert (await state(at)).state is State.ALTERED


async def test_a_missing_or_empty_signature_is_unsigned(at: Desk) -> None:
    """A record alone says nothing."""
    at.write()
    at.shelf().signature(ITEM.name).write_bytes(b"\n")
    assert (await state(at)).state is State.UNSIGNED
    at.shelf().signature(ITEM.name).unlink()
    assert (await state(at)).state is State.UNSIGNED


async def test_a_key_that_is_not_listed_is_foreign(at: Desk) -> None:
    """Whoever is not in allowed_signers cannot sign, under no name."""
    for name in (SIPHO, THANDI):
        at.write(key=at.sipho, by=name)
        assert (await state(at)).state is State.FOREIGN


async def test_nobody_signs_in_anothers_name(at: Desk) -> None:
    """A listed person who writes another listed person's name is foreign there."""
    at.allow(signers({THANDI: at.thandi, SIPHO: at.sipho}))
    at.write(key=at.sipho, by=THANDI)
    found = await state(at)
    assert (found.state, SIPHO in found.why) == (State.FOREIGN, True), found


async def test_a_key_counts_only_in_its_time(at: Desk) -> None:
    """Somebody whose key ran out has no signature in force from that day on."""
    at.allow(signers({THANDI: at.thandi}, f'namespaces="{NAMESPACE}",valid-before="20261201"'))
    at.write()
    assert (await state(at, now=NOW + timedelta(days=1))).state is State.VALID
    assert (await state(at, now=NOW + timedelta(days=30))).state is State.FOREIGN


async def test_a_key_listed_for_another_purpose_does_not_sign(at: Desk) -> None:
    """A key that may only sign commits is no signature here."""
    at.allow(signers({THANDI: at.thandi}, 'namespaces="git"'))
    at.write()
    assert (await state(at)).state is State.ALTERED


async def test_nobody_adds_themselves_without_a_commit(at: Desk) -> None:
    """A list of signers that stands in no commit was reviewed by nobody."""
    list_of_signers = at.shelf().signers
    list_of_signers.write_text(signers({THANDI: at.thandi, SIPHO: at.sipho}), "utf-8")
    at.write(key=at.sipho, by=SIPHO)
    found = await state(at)
    assert (found.state, "last commit" in found.why) == (State.FOREIGN, True), found
    at.commit()
    assert (await state(at)).state is State.VALID
    list_of_signers.unlink()
    assert (await state(at)).state is State.FOREIGN


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"environment": "staging"}, "environment production"),
        ({"service": "other"}, "service shop"),
    ],
)
async def test_a_record_copied_elsewhere_does_not_count(at: Desk, changed: dict[str, str], word: str) -> None:
    """A signature for one environment or service is none for another."""
    made = at.write()
    shelf = at.shelf(**changed)
    shelf.record(ITEM.name).parent.mkdir(exist_ok=True)
    shelf.record(ITEM.name).write_bytes(made.as_bytes())
    shelf.signature(ITEM.name).write_bytes(at.shelf().signature(ITEM.name).read_bytes())
    found = await state(at, **changed)
    assert (found.state, word in found.why) == (State.ELSEWHERE, True), found


async def test_a_record_of_another_item_does_not_count(at: Desk) -> None:
    """A signature for one item, renamed, is none for another."""
    made = at.write()
    other = dataclasses.replace(ITEM, name="privacy-policy")
    at.shelf().record(other.name).write_bytes(made.as_bytes())
    at.shelf().signature(other.name).write_bytes(at.shelf().signature(ITEM.name).read_bytes())
    assert (await state(at, other)).state is State.ELSEWHERE


async def test_words_that_changed_are_signed_anew(at: Desk) -> None:
    """Nobody signed for what the item says only now."""
    at.write()
    assert (await state(at, dataclasses.replace(ITEM, title="And paid for"))).state is State.VOID


async def test_what_is_bound_to_the_spec_is_void_when_it_changes(at: Desk) -> None:
    """A changed pipeline.yaml asks for a new signature where the item says so."""
    bound = dataclasses.replace(ITEM, bound_to="spec")
    at.write(bound)
    assert (await state(at, bound)).state is State.VALID
    assert (await state(at, bound, spec_digest="cd" * 32)).state is State.VOID


async def test_what_is_bound_to_a_revision_is_void_with_the_next_change(at: Desk) -> None:
    """Committing signatures keeps such a record; a change of any other file, committed or not, voids it."""
    (at.root / "app.py").write_text("1", "utf-8")
    at.commit()
    bound = dataclasses.replace(ITEM, bound_to="revision")
    at.write(bound)
    at.commit("the record itself")
    assert (await state(at, bound)).state is State.VALID
    (at.root / "app.py").write_text("2", "utf-8")
    assert (await state(at, bound)).state is State.VOID
    at.commit()
    assert (await state(at, bound)).state is State.VOID


async def test_a_revision_outside_our_history_is_void(at: Desk) -> None:
    """What was signed on a branch that never came in, or for a commit nobody has, does not count."""
    git(at.root, "switch", "-q", "-c", "aside")
    aside = at.commit("aside")
    git(at.root, "switch", "-q", "main")
    at.commit("main goes on")
    for revision in (aside, "0" * 40):
        at.write(revision=revision)
        assert (await state(at)).state is State.VOID


async def test_a_shallow_clone_or_no_git_cannot_tell(at: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the history is missing nothing is proven, and nothing is called void either."""
    at.write()
    at.commit("the record")
    at.commit("one more")
    there = tmp_path_factory.mktemp("clone")
    git(there, "clone", "-q", "--depth", "1", at.root.as_uri(), "shallow")
    found = await state(dataclasses.replace(at, root=there / "shallow"))
    assert (found.state, "shallow" in found.why) == (State.UNKNOWN, True), found
    git(there, "clone", "-q", at.root.as_uri(), "whole")
    assert (await state(dataclasses.replace(at, root=there / "whole"))).state is State.VALID
    (there / "whole" / ".git").rename(there / "git")
    assert (await state(dataclasses.replace(at, root=there / "whole"))).state is State.UNKNOWN


async def test_a_record_from_the_future_does_not_count(at: Desk) -> None:
    """A signature dated ahead, so as to last longer, is refused; a clock a little ahead is not."""
    at.write()
    assert (await state(at, now=NOW - timedelta(days=1))).state is State.FUTURE
    assert (await state(at, now=NOW - timedelta(minutes=1))).state is State.VALID


async def test_a_document_that_changed_is_no_evidence(at: Desk) -> None:
    """A signed document of the repository must stay what it was; one kept elsewhere is known by its digest alone."""
    document = at.root / "docs.md"
    document.write_text("we looked", "utf-8")
    at.write(evidence="docs.md")
    assert (await state(at)).state is State.VALID
    document.write_text("we did not look", "utf-8")
    assert (await state(at)).state is State.VOID
    document.unlink()
    assert (await state(at)).state is State.VOID
    outside = at.root.with_name(at.root.name + "-outside.md")
    outside.write_text("far away", "utf-8")
    at.write(evidence=str(outside))
    outside.unlink()
    assert (await state(at)).state is State.VALID


# ---- whatever lies in the files ----------------------------------------------------------------------------


@given(record=st.binary(max_size=300), signature=st.binary(max_size=300), allowed=st.binary(max_size=300))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_give_a_state(at: Desk, record: bytes, signature: bytes, allowed: bytes) -> None:
    """Whatever the files hold, the answer is a state and never `valid`."""
    shelf = at.shelf()
    if not shelf.signature(ITEM.name).exists():
        at.write()
    files = (shelf.record(ITEM.name), shelf.signature(ITEM.name), shelf.signers)
    for path, content in zip(files, (record, signature, allowed), strict=True):
        good = path.read_bytes()
        path.write_bytes(content)
        assert (await state(at)).state is not State.VALID
        path.write_bytes(good)
    assert (await state(at)).state is State.VALID


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8), st.text(max_size=20)
)
@settings(max_examples=60)
def test_a_record_with_any_value_in_it_is_read_or_refused(value: object, key: str) -> None:
    """No value of any member makes the reader raise, and what it reads it would write the same."""
    known = {**_RECORD.model_dump(mode="json"), key: value}
    for member in (*_RECORD.model_dump(), key):
        for data in (known, {**_RECORD.model_dump(mode="json"), member: value}):
            encoded = (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace")
            found = parse(encoded)
            assert found is None or found.as_bytes() == encoded


_RECORD = Record(
    service="shop",
    environment="production",
    item="pci-dss",
    statement="The questionnaire is filled in",
    by=THANDI,
    at=written(NOW),
    valid_until=written(NOW + timedelta(days=1)),
    evidence=TextEvidence(text="seen"),
    revision="a" * 40,
    since="",
    spec_digest="b" * 64,
)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"by"', b'"by": "x", "by"'),
        lambda data: data.replace(b"\n", b""),
        lambda data: data + b" ",
        lambda data: b"[" * 60_000,
        lambda data: data.replace(b"2026-11-22", b"2026-11-31"),
        lambda data: data.replace(b"2026-11-22T06:00:00Z", b"2026-11-22T06:00:00+02"),
        lambda data: data.replace(THANDI.encode(), b"two words"),
        lambda data: data.replace(b'"version": 1', b'"version": 2'),
    ],
)
def test_a_record_reads_in_one_way_only(change: Callable[[bytes], bytes]) -> None:
    """Doubled members, other spacing, impossible days and other forms are no record."""
    data = _RECORD.as_bytes()
    assert parse(data) == _RECORD
    assert change(data) != data
    assert parse(change(data)) is None


async def test_what_is_no_ordinary_file_is_unreadable(at: Desk) -> None:
    """A folder, a dangling link or a huge file in the record's place is told and not read."""
    place = at.shelf().record(ITEM.name)
    place.mkdir(parents=True)
    assert (await state(at)).state is State.UNREADABLE
    place.rmdir()
    place.symlink_to(at.root / "nowhere")
    assert (await state(at)).state is State.UNREADABLE
    place.unlink()
    place.write_bytes(b" " * 100_000)
    assert (await state(at)).state is State.UNREADABLE


async def test_without_ssh_keygen_nothing_is_verified(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program is missing the answer is that nothing could be verified, neither yes nor no."""
    at.write()
    monkeypatch.setenv("PATH", str(at.root))
    assert (await state(at)).state is State.UNKNOWN


# ---- signing -----------------------------------------------------------------------------------------------


def test_both_files_are_replaced_or_none(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second file cannot be written, the pair that was there is still the pair that is there."""
    at.write(evidence="the first time")
    before = [path.read_bytes() for path in (at.shelf().record(ITEM.name), at.shelf().signature(ITEM.name))]
    made = attesting.record(at.shelf(), ITEM, by=THANDI, revision="a" * 40, shown=TextEvidence(text="again"), lasts=DAY)
    with pytest.raises(TypeError):
        attesting.keep(at.shelf(), made, None)  # type: ignore[arg-type]
    assert [path.read_bytes() for path in (at.shelf().record(ITEM.name), at.shelf().signature(ITEM.name))] == before


def test_a_record_names_the_range_since_the_last_one(at: Desk) -> None:
    """Each record says from which revision to which its signer looked."""
    first = at.write()
    second = at.write(revision=at.commit())
    assert (first.since, second.since) == ("", first.revision)


def test_a_key_with_a_passphrase_is_refused_where_nobody_types(at: Desk, tmp_path: Path) -> None:
    """A job does not hang on a question that nobody sees."""
    locked = make_key(tmp_path, "locked", passphrase="not-a-real-one")
    with pytest.raises(Refused) as caught:
        ssh_signatures.sign(b"x", locked, typing=False)
    assert "passphrase" in str(caught.value)
    assert "ssh-add" in caught.value.remedy


def test_whoever_is_not_listed_gets_the_line_to_add(at: Desk) -> None:
    """A refusal names the very line that would allow the key, and that line works."""
    assert attesting.signer(at.shelf(), at.thandi) == THANDI
    git(at.root, "config", "user.email", SIPHO)
    with pytest.raises(Refused) as caught:
        attesting.signer(at.shelf(), at.sipho)
    line = caught.value.remedy.splitlines()[-1].strip()
    with at.shelf().signers.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert attesting.signer(at.shelf(), at.sipho) == SIPHO


async def test_a_signature_that_would_not_count_is_not_kept(at: Desk) -> None:
    """Whoever is listed for something else only is told so when signing, not at the deploy."""
    at.allow(signers({THANDI: at.thandi}, 'namespaces="git"'))
    made = attesting.record(at.shelf(), ITEM, by=THANDI, revision="a" * 40, shown=TextEvidence(text="seen"), lasts=DAY)
    with pytest.raises(Refused, match="would not be accepted"):
        await attesting.tried(at.shelf(), made, ssh_signatures.sign(made.as_bytes(), at.thandi, typing=False))


def test_the_key_of_git_is_the_default(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --key the key is the one git signs commits with, given as a file or in full, else the usual one."""
    monkeypatch.setenv("HOME", str(at.root))
    with pytest.raises(Refused, match="there is no key"), attesting.chosen_key(at.root, ""):
        pass
    git(at.root, "config", "user.signingkey", str(at.sipho.file))
    git(at.root, "config", "gpg.format", "ssh")
    for value in (str(at.sipho.file), at.sipho.line, f"key::{at.sipho.line}"):
        git(at.root, "config", "user.signingkey", value)
        with attesting.chosen_key(at.root, "") as key:
            assert key.blob == at.sipho.blob
    with attesting.chosen_key(at.root, str(at.thandi.file)) as key:
        assert key.blob == at.thandi.blob


@pytest.mark.parametrize("asked", ["90", "-1d", "91d", "0 s", "1 s", "ninety", "١d", ""])
def test_only_a_sensible_period_is_taken(asked: str) -> None:
    """A signature lasts at most as long as the item allows; nothing said means just that long."""
    if not asked:
        assert attesting.lasting(ITEM, asked) == ITEM.valid_for
        return
    with pytest.raises(Usage) as caught:
        attesting.lasting(ITEM, asked)
    assert caught.value.remedy


def test_periods_are_read_with_and_without_a_space() -> None:
    """`30d` and `30 d` mean the same."""
    assert attesting.lasting(ITEM, "30d") == attesting.lasting(ITEM, "30 d") == 30 * DAY


@pytest.mark.parametrize("text", ["", "ok", "x" * 501, "no/such/report.pdf", "report.pdf"])
def test_evidence_is_a_sentence_or_a_file_that_exists(tmp_path: Path, text: str) -> None:
    """A mistyped path is a mistake and not a sentence."""
    with pytest.raises(Usage) as caught:
        attesting.evidence(tmp_path, text)
    assert caught.value.remedy
    assert attesting.evidence(tmp_path, "see https://example.com/report.pdf") is not None


@given(st.text(max_size=120))
@settings(max_examples=100)
def test_any_list_of_signers_is_read(text: str) -> None:
    """Whatever stands in allowed_signers, looking for a key in it raises nothing."""
    assert isinstance(principals(text, Key(Path("k"), "ssh-ed25519 AAAA")), tuple)


def test_an_instant_reads_back() -> None:
    """What is written to the second is what is read."""
    assert read_instant(written(NOW)) == NOW


# ---- a list of signers that only looks committed ------------------------------------------------------------


@pytest.mark.parametrize("how", ["--assume-unchanged", "--skip-worktree"])
async def test_a_list_that_git_was_told_not_to_look_at_counts_for_nobody(at: Desk, how: str) -> None:
    """Nobody adds their key by hiding the changed list of signers from git."""
    git(at.root, "update-index", how, "attestations/allowed_signers")
    at.shelf().signers.write_text(signers({SIPHO: at.sipho}), "utf-8")
    at.write(key=at.sipho, by=SIPHO)
    assert git(at.root, "diff", "HEAD", "--", "attestations/allowed_signers") == ""
    assert (await state(at)).state is State.FOREIGN


async def test_a_list_that_is_a_link_to_another_file_counts_for_nobody(at: Desk, tmp_path_factory: Any) -> None:
    """A committed link says nothing of what stands in the file it leads to."""
    outside = tmp_path_factory.mktemp("outside") / "signers"
    outside.write_text(signers({SIPHO: at.sipho}), "utf-8")
    at.shelf().signers.unlink()
    at.shelf().signers.symlink_to(outside)
    at.commit()
    at.write(key=at.sipho, by=SIPHO)
    assert (await state(at)).state is State.FOREIGN


async def test_a_list_whose_change_a_filter_undoes_counts_for_nobody(at: Desk) -> None:
    """A filter of this checkout can make git see the committed list; the signature is held against what stands here."""
    committed = at.root / "committed"
    committed.write_bytes(at.shelf().signers.read_bytes())
    git(at.root, "config", "filter.undo.clean", f"cat {committed}")
    (at.root / ".git" / "info").mkdir(exist_ok=True)
    (at.root / ".git" / "info" / "attributes").write_text("attestations/allowed_signers filter=undo\n", "utf-8")
    at.shelf().signers.write_text(signers({SIPHO: at.sipho}), "utf-8")
    at.write(key=at.sipho, by=SIPHO)
    assert git(at.root, "diff", "HEAD", "--", "attestations/allowed_signers") == ""
    assert (await state(at)).state is State.FOREIGN


async def test_a_hidden_file_voids_what_is_bound_to_a_revision(at: Desk) -> None:
    """A file that git does not look at may be another one than the one that was signed for."""
    (at.root / "app.py").write_text("1", "utf-8")
    git(at.root, "add", "-A")
    at.commit()
    bound = dataclasses.replace(ITEM, bound_to="revision")
    at.write(bound)
    at.commit()
    assert (await state(at, bound)).state is State.VALID
    git(at.root, "update-index", "--assume-unchanged", "app.py")
    (at.root / "app.py").write_text("2", "utf-8")
    assert (await state(at, bound)).state is State.VOID


async def test_two_who_sign_at_once_leave_one_whole_pair(at: Desk) -> None:
    """However two signers of one item meet, the record and the signature that stay belong together."""
    made = [
        attesting.record(
            at.shelf(),
            ITEM,
            by=THANDI,
            revision=git(at.root, "rev-parse", "HEAD"),
            shown=TextEvidence(text=f"seen by {number}"),
            lasts=DAY,
        )
        for number in range(2)
    ]
    pairs = [(one, ssh_signatures.sign(one.as_bytes(), at.thandi, typing=False)) for one in made]
    with ThreadPoolExecutor(2) as both:
        for _ in range(40):
            for ended in [both.submit(attesting.keep, at.shelf(), *pair) for pair in pairs]:
                ended.result()
            here = (at.shelf().record(ITEM.name).read_bytes(), at.shelf().signature(ITEM.name).read_bytes())
            assert here in [(one.as_bytes(), signature) for one, signature in pairs]
    assert (await state(at)).state is State.VALID


async def test_a_time_beyond_the_calendar_is_no_error(at: Desk) -> None:
    """An item that holds for ages holds until the end of the calendar."""
    ages = dataclasses.replace(ITEM, valid_for=1e15)
    at.write(ages, lasts=1e15)
    assert (await state(at, ages)).state is State.VALID
