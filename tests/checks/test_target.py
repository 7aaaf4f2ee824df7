"""target.has_room, rollback.rehearsed and health.ready."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from checks import CHECKS
from checks.judging import Unjudged
from checks.target_has_room import Place, Room, free_kib
from pipeline.contracts import Completed, ReleaseId, Started, World
from pipeline.errors import LeaseLost, ReleaseNotReady, TargetError
from pipeline.verdict import Verdict
from tests.checks.worlds import RELEASE, Machine, Merchant, Stage, Till, ask, at, world

ROOM = CHECKS["target.has_room"]
Shopping = tuple[Merchant, Till, World]


async def test_a_target_with_room_passes(tmp_path: Path) -> None:
    """An area that does not exist yet is judged by the nearest folder above it."""
    finding = await ask(ROOM, world(tmp_path / "not" / "there"), free_mib=1, advise_mib=1)
    assert (finding.verdict, finding.evidence["folder"]) == (Verdict.PASS, str(tmp_path)), finding


@pytest.mark.parametrize(
    ("place", "verdict"),
    [
        (Place("/srv/a", "/srv", True, 2_000_000), Verdict.PASS),
        (Place("/srv/a", "/srv", True, 500_000), Verdict.ADVICE),
        (Place("/srv/a", "/srv", True, 100_000), Verdict.FAIL),
        (Place("/srv/a", "/srv", False, 2_000_000), Verdict.FAIL),
    ],
)
def test_room_is_judged_by_space_and_permission(place: Place, verdict: Verdict) -> None:
    """Too little space or no permission fails; little space is advised."""
    assert ROOM.judge(place, Room()).verdict is verdict


async def test_a_file_where_the_area_should_be_fails(tmp_path: Path) -> None:
    """Releases cannot lie below something that is no folder."""
    (tmp_path / "area").write_text("in the way")
    assert (await ask(ROOM, world(tmp_path))).verdict is Verdict.FAIL


@pytest.mark.parametrize("text", ["", "Filesystem\n", "a\nb c d\n", "h\n/dev/x 10 10 -1 5% /\n"])
def test_an_unreadable_answer_of_df_is_an_error(text: str) -> None:
    """Free space that cannot be read is unknown, not enough."""
    with pytest.raises(Unjudged) as unjudged:
        free_kib(text)
    assert unjudged.value.finding.verdict is Verdict.ERROR


class Unreachable(Machine):
    async def run(self, argv: Any, *, timeout: float, stdin: bytes = b"") -> Completed:
        raise TargetError("ssh host a: no route", "Check the network.")


async def test_a_target_out_of_reach_is_an_error(tmp_path: Path) -> None:
    """Nothing is known of a machine that cannot be asked."""
    made = world(tmp_path)
    made = replace(made, target=replace(made.target, host=Unreachable(), area=PurePosixPath("/srv")))
    finding = await ask(ROOM, made)
    assert (finding.verdict, finding.remedy) == (Verdict.ERROR, "Check the network.")


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Started(ReleaseId("r1"), 0.7, {"release": "r1"}), Verdict.PASS),
        (Started(ReleaseId("r1"), 0.7, {"release": "r2"}), Verdict.FAIL),
        (Started(ReleaseId("r1"), 0.7, {}), Verdict.FAIL),
        (Started(ReleaseId("r1"), 21.0, {"release": "r1"}), Verdict.FAIL),
        (ReleaseNotReady("r1 exited with 1"), Verdict.FAIL),
        (TargetError("the supervisor is gone"), Verdict.ERROR),
    ],
)
async def test_a_rollback_is_rehearsed(tmp_path: Path, outcome: Any, verdict: Verdict) -> None:
    """The last verified release must start in time and be the one it says."""
    made = at(world(tmp_path), previous=ReleaseId("r1"))
    stage: Any = Stage(outcome)
    made = replace(made, target=replace(made.target, traffic=stage))
    assert (await ask(CHECKS["rollback.rehearsed"], made)).verdict is verdict


async def test_a_first_release_has_nothing_to_rehearse(tmp_path: Path) -> None:
    """The first release skips the rehearsal and says why; a lost lease is not the check's to judge."""
    made = world(tmp_path)
    finding = await ask(CHECKS["rollback.rehearsed"], made)
    assert (finding.verdict, "first release" in finding.reason) == (Verdict.SKIPPED, True)
    stage: Any = Stage(LeaseLost("taken over"))
    made = at(replace(made, target=replace(made.target, traffic=stage)), previous=ReleaseId("r1"))
    with pytest.raises(LeaseLost):
        await ask(CHECKS["rollback.rehearsed"], made)


@pytest.mark.parametrize(
    ("wrong", "verdict", "word"),
    [
        ({}, Verdict.PASS, RELEASE),
        ({"live": 503}, Verdict.FAIL, "answered 503"),
        ({"release": "old"}, Verdict.FAIL, "'old'"),
        ({"ready": 503}, Verdict.FAIL, "answered 503"),
        ({"parts": {"gateway": "ok", "webhook": "ok", "configuration": "ok"}}, Verdict.FAIL, "database: missing"),
        (
            {"parts": {"database": "locked", "gateway": "away", "webhook": "ok", "configuration": "ok"}},
            Verdict.FAIL,
            "database: locked",
        ),
        (
            {"parts": {"database": "ok", "gateway": "away", "webhook": "ok", "configuration": "ok"}},
            Verdict.INCONCLUSIVE,
            "'away'",
        ),
    ],
)
async def test_the_new_release_is_ready(shopping: Shopping, wrong: dict[str, Any], verdict: Verdict, word: str) -> None:
    """Live, ready, the new id and every part ok; a gateway that is away keeps the release from being proven."""
    merchant, _, made = shopping
    for name, value in wrong.items():
        setattr(merchant, name, value)
    finding = await ask(CHECKS["health.ready"], made)
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding


async def test_no_release_is_not_ready(shopping: Shopping) -> None:
    """Where nothing is deployed there is nothing to be ready."""
    assert (await ask(CHECKS["health.ready"], at(shopping[2], release=None))).verdict is Verdict.INCONCLUSIVE
