"""Every error has a class, and every class says what the engine and what a person does."""

from __future__ import annotations

import asyncio
import errno
import inspect
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import errors
from pipeline.contracts import World
from pipeline.database import explained
from pipeline.errors import Exit, OutcomeUnknown, TollgateError, disk_error
from pipeline.events import Kind
from pipeline.interrupts import Interrupted
from pipeline.plan import PlannedStep
from pipeline.recovery import BY_NAME, CLASSES, Does, classify
from pipeline.report import as_html, as_json_text, as_markdown, build
from pipeline.stages import StepFailed
from pipeline.verdict import Finding, Verdict
from tests.pipeline.rooms import OLD, Yard


def of(error: BaseException, cause: BaseException) -> BaseException:
    """As `raise error from cause` leaves it."""
    error.__cause__ = cause
    return error


STEP: Any = PlannedStep.__new__(PlannedStep)
CASES: list[tuple[BaseException, str]] = [
    (OSError(errno.ENOSPC, "No space left on device", "/srv/x"), "disk-full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk-full"),
    (OSError(errno.EROFS, "Read-only file system"), "disk-read-only"),
    (errors.DiskFull("full"), "disk-full"),
    (of(errors.TargetError("/srv: full"), OSError(errno.ENOSPC, "no")), "disk-full"),
    (errors.TargetError("`cp` ended with 1: cp: error writing 'x': No space left on device"), "disk-full"),
    (errors.CommandFailed("`sh` ended with 2: mkdir: 'x': Read-only file system"), "disk-read-only"),
    (OSError(errno.EACCES, "Permission denied"), "bug"),
    (OutcomeUnknown("a link may exist"), "outcome-unknown"),
    (errors.GatewayUnreachable("no answer"), "gateway-down"),
    (errors.CredentialsRefused("no", status=401), "gateway-refuses-credentials"),
    (errors.GatewayRefused("slow down", status=429), "gateway-limits"),
    (errors.GatewayRefused("no", status=400), "gateway-refuses"),
    (errors.GatewayGarbled("what?"), "gateway-garbled"),
    (errors.ServiceUnreachable("no answer"), "service-out-of-reach"),
    (errors.ServiceGarbled("what?"), "service-garbled"),
    (errors.ReleaseNotReady("not ready"), "service-not-ready"),
    (errors.TargetError("out of reach"), "host-lost"),
    (TimeoutError(), "time-out"),
    (of(errors.CommandFailed("`npm` did not end within 5 s"), TimeoutError()), "time-out"),
    (errors.CommandFailed("it ended with 2", returncode=2), "command-failed"),
    (httpx.ConnectError("no"), "network"),
    (ConnectionResetError(), "network"),
    (errors.CapReached("too much"), "cap-reached"),
    (errors.Usage("what?"), "settings-wrong"),
    (errors.LeaseHeld("held"), "lease-held"),
    (errors.LeaseLost("lost"), "lease-lost"),
    (errors.RecordDamaged("altered"), "record-damaged"),
    (errors.RecordUnusable("locked"), "record-unusable"),
    (of(errors.PersonNeeded("closed"), errors.RecordUnusable("locked")), "record-unusable"),
    (Interrupted("by a signal"), "interrupted"),
    (asyncio.CancelledError(), "interrupted"),
    (errors.NothingToRestore("none"), "nothing-to-restore"),
    (errors.PersonNeeded("unfinished"), "person-needed"),
    (StepFailed(STEP, "it does not hold", ""), "refused"),
    (StepFailed(STEP, "no answer", "", error_class="gateway-down"), "gateway-down"),
    (of(StepFailed(STEP, "late", ""), TimeoutError()), "time-out"),
    (of(StepFailed(STEP, "not ready", ""), errors.ReleaseNotReady("no")), "service-not-ready"),
    (StepFailed(STEP, "x", "", error_class="a class of tomorrow"), "refused"),
    (KeyError("x"), "bug"),
    (RuntimeError("x"), "bug"),
]


@pytest.mark.parametrize(("error", "name"), CASES, ids=lambda value: type(value).__name__ if value else "")
def test_an_error_has_the_class_that_an_operator_would_give_it(error: BaseException, name: str) -> None:
    """Each error of ours and of the system is told apart by what there is to be done about it."""
    assert classify(error).name == name


def test_every_error_of_ours_has_a_class_of_its_own_right() -> None:
    """No member of the tree of errors is taken for a bug."""
    ours = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TollgateError)]
    assert len(ours) > 20
    assert [kind for kind in ours if classify(kind("told")).name == "bug"] == []


def test_every_class_says_what_is_done_and_by_whom() -> None:
    """A class without a word for the engine or for the person would leave somebody alone at 3 a.m."""
    for one in BY_NAME.values():
        assert one.what and one.engine and one.person and one.does, one.name
    assert {one.name for one in CLASSES} == set(BY_NAME)
    assert [one.name for one in BY_NAME.values() if Does.RETRY in one.does] == [
        name for name in BY_NAME if name in ("gateway-down", "service-out-of-reach", "network")
    ]


def test_what_may_create_money_is_never_asked_again() -> None:
    """An unknown outcome is a matter for a person, after its status was asked."""
    assert classify(OutcomeUnknown("a link may exist")).does == (Does.ASK,)


def test_disk_errors_say_which_file_and_what_to_do() -> None:
    """A full disk, a used-up quota and a read-only file system are told from each other, and from anything else."""
    for number, said in (
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the quota of its owner is used up"),
        (errno.EROFS, "mounted read-only"),
    ):
        found = disk_error(OSError(number, "x", "/srv/app/file"))
        assert found is not None and str(found).startswith("/srv/app/file: ") and said in str(found) and found.remedy
    assert disk_error(OSError(errno.EACCES, "x")) is None
    assert disk_error(ValueError()) is None


def test_a_full_disk_under_the_journal_is_one(tmp_path: Path) -> None:
    """SQLite's word for a full disk is the same error as the system's."""
    with (
        pytest.raises(errors.DiskFull, match="the disk is full"),
        sqlite3.connect(tmp_path / "x") as connection,
        explained(tmp_path / "x", "journal", 1),
    ):
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE x (y)")
        connection.execute("INSERT INTO x VALUES (zeroblob(100000))")


# ---- in a run ----------------------------------------------------------------------------------------------


def saying(error: Exception) -> Any:
    async def say(_world: World) -> Finding:
        raise error

    return say


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.GatewayUnreachable("no answer"), "gateway-down"),
        (OSError(errno.ENOSPC, "No space left on device", "dist/x"), "disk-full"),
        (ZeroDivisionError("x"), "bug"),
    ],
)
async def test_the_class_of_the_first_error_is_on_record_and_in_the_report(
    tmp_path: Path, error: Exception, name: str
) -> None:
    """A run that fails says of which class its first error was: in the journal and in every report."""
    yard = Yard(tmp_path)
    yard.verified(OLD)
    yard.says["gate.one"] = saying(error)
    assert (await yard.deploy()).exit is Exit.REFUSED
    (failed,) = yard.told(Kind.RUN_FAILED)
    assert failed["error_class"] == name
    report = build(yard.entries())
    for text in (as_markdown(report), as_html(report), as_json_text(report)):
        assert name in text
    if name == "disk-full":
        assert failed["error"] == "gate.one: dist/x: the disk is full"


async def test_a_judged_failure_is_a_refusal_and_older_records_have_no_class(tmp_path: Path) -> None:
    """A check that found something is no error of its own; a report of a record without classes says nothing of one."""
    yard = Yard(tmp_path)
    yard.verified(OLD)
    yard.says["gate.one"] = Finding(Verdict.FAIL, "it does not hold", "mend it")
    await yard.deploy()
    assert yard.told(Kind.RUN_FAILED)[0]["error_class"] == "refused"
    older = [
        type(one)(**{**vars(one), "data": {name: value for name, value in one.data.items() if name != "error_class"}})
        for one in yard.entries()
    ]
    report = build(older)
    assert report.first_error is not None and report.first_error.error_class == ""
    assert "errors.md" not in as_html(report)
