"""Known failures of deploy tools with releases, each the other way round."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.events import Kind
from tests.crash.scenes import build
from tests.known_failures import engine, standing
from tests.known_failures.engine import run

pytestmark = pytest.mark.timeout(180)


def test_a_rollback_onto_a_half_built_release_that_exits_0(folder: Path) -> None:
    """Capistrano takes the second-newest folder, whatever lies in it; here only a verified release is gone back to."""
    good = standing.live(folder)
    half = standing.area(folder) / "releases" / f"{good}-half"
    bad = standing.newer(folder)
    half.mkdir()
    (half / "index.html").write_text("the build was killed here", "utf-8")
    assert sorted([good, half.name, bad]) == [good, half.name, bad]
    assert run(folder, "rollback", to=half.name) == 1
    assert standing.live(folder) == bad
    assert run(folder, "rollback") == 0
    assert (standing.live(folder), standing.states(folder)[half.name]) == (good, "building")
    assert run(folder, "rollback") == 1  # only the half-built one is left, and a bad one
    assert standing.live(folder) == good
    assert standing.broken_invariants(folder) == []


def test_code_goes_back_and_settings_stay_new(folder: Path) -> None:
    """Tools that link the old code and leave the new configuration run a mixture nobody ever tested; here the process
    that serves after a rollback has the settings that its release was verified with."""
    old, source = standing.live(folder), folder / ".tollgate" / "sandbox" / "settings.env"
    before = source.read_text("utf-8")
    timeout = standing.process_variables(folder)["VITE_IKHOKHA_TIMEOUT"]
    source.write_text(re.sub(r"(?m)^(VITE_IKHOKHA_TIMEOUT)=.*$", r"\1=31000", before), "utf-8")
    try:
        build(folder)
        assert run(folder, "deploy") == 0
        assert standing.process_variables(folder)["VITE_IKHOKHA_TIMEOUT"] == "31000"
        assert run(folder, "rollback") == 0  # although the source of the settings still has the new ones
    finally:
        source.write_text(before, "utf-8")
    assert standing.live(folder) == old
    assert standing.process_variables(folder)["VITE_IKHOKHA_TIMEOUT"] == timeout != "31000"
    in_force = json.loads((standing.area(folder) / "releases" / old / "settings.json").read_text("utf-8"))
    assert in_force["VITE_IKHOKHA_TIMEOUT"] == timeout
    assert standing.broken_invariants(folder) == []


def test_the_last_good_release_pruned_by_failed_ones(folder: Path) -> None:
    """Tools that keep the newest N folders count failed deploys, until no good one is left; here only verified ones
    count, and after more failures than are kept a rollback still has where to go."""
    good = standing.live(folder)
    build(folder, "crash-on-start")
    assert [run(folder, "deploy") for _ in range(2)] == [3, 3]  # as many as are kept
    build(folder)
    assert run(folder, "deploy") == 0
    new = standing.live(folder)
    assert new != good
    assert "bad" not in standing.states(folder).values()  # what nothing can go back to was removed
    assert run(folder, "rollback") == 0
    assert standing.live(folder) == good
    assert standing.broken_invariants(folder) == []


def test_half_the_hosts_new_half_old(folder: Path) -> None:
    """Tools that switch in two places leave one new and one old, and call it deployed; here link and process must
    agree: a deploy refuses a half state, and one rollback mends it."""
    good, other = standing.live(folder), standing.newer(folder)
    current = standing.area(folder) / "current"
    current.unlink()
    current.symlink_to(standing.area(folder) / "releases" / good)  # what runs is the other one still
    build(folder)
    with pytest.raises(Exception, match="half switched"):
        standing.live(folder)
    assert run(folder, "deploy") != 0
    assert engine.entries(folder)[-1].kind is not Kind.CHECKPOINT_ARMED
    assert run(folder, "rollback", to=good) == 0
    assert standing.live(folder) == good
    assert standing.process_variables(folder)["RELEASE_ID"] == good
    assert standing.states(folder)[other] in ("verified", "bad")
    assert standing.broken_invariants(folder) == []
