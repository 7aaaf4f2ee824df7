"""source.reviewed, against real repositories."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.facts import commits, tree
from checks.source_reviewed import CHECK
from pipeline.contracts import ReleaseId, ReleaseRecord, ReleaseState, World
from pipeline.verdict import Verdict
from tests.checks.worlds import ask, at, world

ANA, BEN, CAT = "Ana <ana@shop.test>", "Ben <ben@shop.test>", "Cat <cat@shop.test>"
WEB = "GitHub <noreply@github.com>"
SEEN_BY_BEN = f"Reviewed-by: {BEN}"


@dataclass
class Repository:
    """A repository in a folder, with a branch `main`."""

    folder: Path

    def git(self, *args: str, by: str = ANA, committed_by: str | None = None) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        for role, person in (("AUTHOR", by), ("COMMITTER", committed_by or by)):
            name, _, mail = person.partition(" <")
            environment |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": mail.rstrip(">")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *args], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, file: str, *trailers: str, by: str = ANA, committed_by: str | None = None) -> str:
        (self.folder / file).write_text(os.urandom(4).hex())
        self.git("add", "--", file)
        message = "\n".join([f"Change {file}", "", *trailers])
        self.git("commit", "-q", "-m", message, by=by, committed_by=committed_by)
        return self.git("rev-parse", "HEAD")

    def merge(self, branch: str, by: str, committed_by: str | None = None) -> None:
        self.git("merge", "-q", "--no-ff", "-m", f"Merge {branch}", branch, by=by, committed_by=committed_by)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "app"
    folder.mkdir()
    made = Repository(folder)
    made.git("init", "-q", "-b", "main")
    made.commit("first")
    return made


def released(made: Repository, revision: str, root: Path | None = None) -> World:
    """The world of a run before which `revision` was released."""
    previous = ReleaseId(f"20260101T000000000Z-{revision[:7]}")
    return at(world(root or made.folder), previous=previous)


class Known:
    """The releases of a target."""

    def __init__(self, *records: tuple[str, ReleaseState]) -> None:
        self._records = [
            ReleaseRecord(ReleaseId(name), state, datetime.now(UTC), "", "", "") for name, state in records
        ]

    async def all(self) -> Sequence[ReleaseRecord]:
        return self._records


def with_releases(made: Repository, *records: tuple[str, ReleaseState]) -> World:
    """The world of a run that is no deploy, with these releases on its target."""
    base, releases = world(made.folder), cast(Any, Known(*records))
    return replace(base, target=replace(base.target, releases=releases))


# ---- what git has ---------------------------------------------------------------------------------------------


async def test_a_clean_tree_on_a_branch_passes(repository: Repository) -> None:
    """Where no review is asked for, a clean tree whose revision a branch has is all there is to ask."""
    finding = await ask(CHECK, world(repository.folder))
    assert (finding.verdict, finding.evidence["on"]) == (Verdict.PASS, ["main"]), finding


@pytest.mark.parametrize("how", ["changed", "staged", "untracked", "in a folder", "deleted", "assumed", "skipped"])
async def test_a_file_that_git_has_not_fails(repository: Repository, how: str) -> None:
    """Changed, staged, unknown, deleted or hidden from git: the file is named; it is advice where that is chosen."""
    repository.git("config", "status.showUntrackedFiles", "no")
    file = {"untracked": "unknown file", "in a folder": "new/"}.get(how, "first")
    if how in ("assumed", "skipped"):
        repository.git("update-index", "--assume-unchanged" if how == "assumed" else "--skip-worktree", "first")
    if how == "in a folder":
        (repository.folder / "new").mkdir()
        (repository.folder / "new" / "file").write_text("x")
    elif how == "deleted":
        (repository.folder / file).unlink()
    else:
        (repository.folder / file).write_text("other")
    if how == "staged":
        repository.git("add", "first")
    finding = await ask(CHECK, world(repository.folder))
    assert (finding.verdict, [place.file for place in finding.places]) == (Verdict.FAIL, [file]), finding
    assert file in finding.reason
    assert (await ask(CHECK, world(repository.folder), dirty="advice")).verdict is Verdict.ADVICE


async def test_files_outside_the_folder_of_the_spec_count(repository: Repository) -> None:
    """In a repository of several apps a release carries the revision of all; places are seen from the spec."""
    repository.commit("second")
    inner = repository.folder / "shop" / "deploy"
    inner.mkdir(parents=True)
    (repository.folder / "first").write_text("other")
    (inner / "pipeline.yaml").write_text("version: 1")
    finding = await ask(CHECK, world(inner))
    assert {place.file for place in finding.places} == {"../../first", "../../shop/"}


async def test_the_record_of_the_runs_is_not_source(repository: Repository) -> None:
    """What a run writes about itself beside pipeline.yaml does not make the tree dirty, ignored or not."""
    (repository.folder / ".tollgate" / "production").mkdir(parents=True)
    (repository.folder / ".tollgate" / "production" / "journal.sqlite").write_text("")
    assert (await ask(CHECK, world(repository.folder))).verdict is Verdict.PASS


async def test_a_commit_put_in_place_of_another_deceives_nobody(repository: Repository) -> None:
    """A replacement that shows an unreviewed commit as a reviewed one is not looked at."""
    begin = repository.git("rev-parse", "HEAD")
    plain = repository.commit("second")
    fair = repository.git("commit-tree", "-p", begin, "-m", "Second", "-m", SEEN_BY_BEN, f"{plain}^{{tree}}")
    repository.git("replace", plain, fair)
    assert SEEN_BY_BEN in repository.git("log", "-1")
    assert (await ask(CHECK, released(repository, begin), reviewers=1)).verdict is Verdict.FAIL


async def test_a_revision_that_no_branch_has_fails(repository: Repository) -> None:
    """A detached revision may vanish; one on a branch other than those asked for was not merged yet."""
    repository.git("checkout", "-q", "--detach")
    repository.commit("loose")
    assert "not on any branch or tag" in (await ask(CHECK, world(repository.folder))).reason
    repository.git("branch", "feature")
    assert (await ask(CHECK, world(repository.folder))).verdict is Verdict.PASS
    finding = await ask(CHECK, world(repository.folder), branches=("main",))
    assert (finding.verdict, "not on main" in finding.reason) == (Verdict.FAIL, True)
    finding = await ask(CHECK, world(repository.folder), branches=("origin/main",))
    assert finding.verdict is Verdict.INCONCLUSIVE


# ---- who saw it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trailers", "asked", "verdict"),
    [
        ([SEEN_BY_BEN], 1, Verdict.PASS),
        ([f"Approved-by: {BEN}"], 1, Verdict.PASS),
        ([f"Reviewed-by: {CAT}", f"Approved-by: {BEN}"], 2, Verdict.PASS),
        ([], 1, Verdict.FAIL),
        ([f"Reviewed-by: {ANA}"], 1, Verdict.FAIL),
        (["Reviewed-by: Ana <other@shop.test>"], 1, Verdict.FAIL),
        (["Reviewed-by: Somebody <ANA@shop.test>"], 1, Verdict.FAIL),
        (["Reviewed-by: "], 1, Verdict.FAIL),
        ([f"Signed-off-by: {BEN}"], 1, Verdict.FAIL),
        ([SEEN_BY_BEN, f"Co-authored-by: {BEN}"], 1, Verdict.FAIL),
        ([SEEN_BY_BEN, f"Approved-by: {BEN}"], 2, Verdict.FAIL),
    ],
)
async def test_a_trailer_of_another_person_is_a_review(
    repository: Repository, trailers: Sequence[str], asked: int, verdict: Verdict
) -> None:
    """Only people who did not write a commit count, and each of them once."""
    begin = repository.git("rev-parse", "HEAD")
    repository.commit("second", *trailers)
    finding = await ask(CHECK, released(repository, begin), reviewers=asked)
    assert finding.verdict is verdict, finding
    assert ("'Change second' by Ana" in finding.reason) is (verdict is Verdict.FAIL)


@pytest.mark.parametrize(
    ("by", "committed_by", "verdict"),
    [
        (BEN, None, Verdict.PASS),
        (BEN, WEB, Verdict.PASS),
        (ANA, None, Verdict.FAIL),
        (ANA, WEB, Verdict.FAIL),
        (BEN, ANA, Verdict.FAIL),
    ],
)
async def test_whoever_merges_the_work_of_another_has_seen_it(
    repository: Repository, by: str, committed_by: str | None, verdict: Verdict
) -> None:
    """A merge commit by another person is a review of what it brings in; the website that made it is nobody."""
    begin = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "-b", "feature")
    repository.commit("second")
    repository.git("checkout", "-q", "main")
    repository.commit("third", SEEN_BY_BEN)
    repository.merge("feature", by, committed_by)
    finding = await ask(CHECK, released(repository, begin), reviewers=1)
    assert finding.verdict is verdict, finding
    assert finding.evidence["commits_judged"] == 3


async def test_a_merge_that_adds_something_of_its_own_is_to_be_reviewed(repository: Repository) -> None:
    """What a merge commit holds beyond its parents was seen by nobody but who made it."""
    begin = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "-b", "feature")
    repository.commit("second")
    repository.git("checkout", "-q", "main")
    repository.commit("third", SEEN_BY_BEN)
    repository.git("merge", "-q", "--no-ff", "--no-commit", "feature")
    (repository.folder / "third").write_text("something else")
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", "Merge feature, quietly", by=BEN)
    finding = await ask(CHECK, released(repository, begin), reviewers=1)
    assert (finding.verdict, "Merge feature, quietly" in finding.reason) == (Verdict.FAIL, True), finding


async def test_bringing_a_branch_up_to_date_is_no_review(repository: Repository) -> None:
    """Who merges main into a branch of their own has not seen what others put on main."""
    begin = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "-b", "feature")
    repository.commit("second", by=BEN)
    repository.git("checkout", "-q", "main")
    repository.commit("third")
    repository.git("checkout", "-q", "feature")
    repository.merge("main", BEN)
    repository.git("checkout", "-q", "main")
    repository.merge("feature", ANA)
    finding = await ask(CHECK, released(repository, begin), reviewers=1)
    unreviewed = cast(list[Any], finding.evidence["unreviewed"])
    assert (finding.verdict, "'Change third' by Ana" in finding.reason, len(unreviewed)) == (Verdict.FAIL, True, 1)


async def test_a_merge_of_many_is_to_be_reviewed(repository: Repository) -> None:
    """Of a merge of more than two git cannot tell what it adds, so that somebody else must have seen it."""
    begin = repository.git("rev-parse", "HEAD")
    for branch in ("one", "two"):
        repository.git("checkout", "-q", "-b", branch, begin)
        repository.commit(branch)
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "Merge many", "one", "two", by=BEN)
    finding = await ask(CHECK, released(repository, begin), reviewers=1)
    assert (finding.verdict, "'Merge many' by Ben" in finding.reason) == (Verdict.FAIL, True), finding


async def test_review_begins_at_the_last_release(repository: Repository) -> None:
    """What was released is not asked for again; before the first release all counts, or what follows `since`."""
    first, second = repository.git("rev-parse", "HEAD"), repository.commit("second")
    made = with_releases(repository)
    assert (await ask(CHECK, released(repository, second), reviewers=1)).verdict is Verdict.PASS
    assert (await ask(CHECK, made, reviewers=1)).evidence["commits_judged"] == 2
    repository.commit("third", SEEN_BY_BEN)
    assert (await ask(CHECK, made, reviewers=1, since=second)).verdict is Verdict.PASS
    assert (await ask(CHECK, made, reviewers=1, since=first)).verdict is Verdict.FAIL


async def test_validate_looks_for_the_last_release_itself(repository: Repository) -> None:
    """A run that is no deploy judges from the last verified release on, not from a staged or a bad one."""
    first = repository.git("rev-parse", "--short=7", "HEAD")
    second = repository.commit("second")[:7]
    made = with_releases(
        repository,
        (f"3-{second}", ReleaseState.STAGED),
        (f"2-{second}", ReleaseState.BAD),
        (f"1-{first}", ReleaseState.VERIFIED),
    )
    finding = await ask(CHECK, made, reviewers=1)
    assert (finding.verdict, finding.evidence["commits_judged"]) == (Verdict.FAIL, 1), finding


@pytest.mark.parametrize("release", ["20260101T000000000Z-norev", "by-hand", "20260101T000000000Z-fedcba9"])
async def test_a_release_of_an_unknown_revision_leaves_it_open(repository: Repository, release: str) -> None:
    """Where it cannot be said what is new since the last release, nothing is reviewed."""
    finding = await ask(CHECK, at(world(repository.folder), previous=ReleaseId(release)), reviewers=1)
    assert finding.verdict is Verdict.INCONCLUSIVE, finding


async def test_a_shallow_clone_leaves_it_open(repository: Repository, tmp_path: Path) -> None:
    """A checkout without history, as a workflow makes it, cannot show who reviewed."""
    repository.commit("second", SEEN_BY_BEN)
    clone = Repository(tmp_path / "clone")
    repository.git("clone", "-q", "--depth=1", repository.folder.as_uri(), str(clone.folder))
    finding = await ask(CHECK, world(clone.folder), reviewers=1)
    assert (finding.verdict, "fetch-depth: 0" in finding.remedy) == (Verdict.INCONCLUSIVE, True)
    assert (await ask(CHECK, world(clone.folder))).verdict is Verdict.PASS


async def test_without_git_nothing_is_known(tmp_path: Path) -> None:
    """No checkout, a broken one, and one without a commit are no reviewed source."""
    assert (await ask(CHECK, world(tmp_path))).verdict is Verdict.INCONCLUSIVE
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert (await ask(CHECK, world(tmp_path))).verdict is Verdict.INCONCLUSIVE
    (tmp_path / ".git").unlink()
    Repository(tmp_path).git("init", "-q")
    assert (await ask(CHECK, world(tmp_path))).verdict is Verdict.INCONCLUSIVE


async def test_a_repository_cannot_make_the_check_run_its_programs(repository: Repository, tmp_path: Path) -> None:
    """A configuration that would start a program on `git status` or `git log` starts none."""
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "diff.external", "gpg.program", "core.sshCommand"):
        repository.git("config", key, str(program))
    repository.git("config", "log.showSignature", "true")
    await ask(CHECK, with_releases(repository), reviewers=1)
    assert not ran.exists()


# ---- reading what git prints ---------------------------------------------------------------------------------


@given(st.text(alphabet=st.sampled_from("\0\n\x1f<>@ AaM?é"), max_size=120))
def test_nothing_git_prints_makes_a_reader_stumble(text: str) -> None:
    """File names, people and messages are whatever somebody wrote."""
    tree.entries(text)
    tree.hidden(text)
    commits.merges_with_files(text)
    assert all(person.known_as for person in commits.people(text))
    commits.reviewers(commits.parse(text))


async def test_a_tag_named_like_the_branch_is_not_the_branch(repository: Repository) -> None:
    """Whoever may push a tag cannot make a revision look as if it were on the branch that is asked for."""
    repository.git("checkout", "-q", "-b", "elsewhere")
    repository.commit("sneaked-in")
    repository.git("tag", "main")
    finding = await ask(CHECK, world(repository.folder), branches=("main",))
    assert (finding.verdict, "is not on main" in finding.reason) == (Verdict.FAIL, True), finding
    repository.git("checkout", "-q", "--detach", "refs/heads/main")
    repository.git("branch", "-q", "-D", "main")
    assert (await ask(CHECK, world(repository.folder), branches=("main",))).verdict is Verdict.INCONCLUSIVE


async def test_a_tag_named_like_the_last_release_does_not_shorten_the_review(repository: Repository) -> None:
    """Review begins at the released revision, not at a tag or branch that bears its first digits as a name."""
    first = repository.git("rev-parse", "HEAD")
    repository.commit("unseen")
    made = released(repository, first)
    assert (await ask(CHECK, made, reviewers=1)).verdict is Verdict.FAIL
    repository.git("tag", first[:7])
    finding = await ask(CHECK, made, reviewers=1)
    assert finding.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE), finding
