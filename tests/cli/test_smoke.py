"""`./inv smoke` against a shop that is live in a sandbox of its own: what it pays, what it leaves, how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import httpx
import pytest

import smoke
import wiring
from commands import Flags
from pipeline.contracts import Addresses, ReleaseId
from pipeline.duties import last_pass
from pipeline.errors import Refused, Usage
from pipeline.events import Entry, Kind
from pipeline.past import remembered
from tests.checks.worlds import world
from tests.cli.cli import Cli, on
from tests.crash import runs
from tests.crash.conftest import build

RELEASE = "20260101T000000000Z-0000000"
PAID = ["payment.is_paid", "webhook.arrives", "enrolment.active_once"]
ALL = ["payment.initialises", *PAID, "webhook.duplicate_is_harmless"]


@dataclass(frozen=True)
class Story:
    """`empty` is what the command said before anything was live in its sandbox: exit code and document."""

    cli: Cli
    empty: tuple[int, Any]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A folder in whose sandbox one release is live and verified, and how it was before."""
    cli = on(tmp_path_factory.mktemp("smoke"))
    build(cli.folder)
    try:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()):
            code = smoke.smoke(Flags("sandbox", str(cli.spec), json=True))
        assert of(cli.entries(), Kind.MONEY_SPENT) == []
        asyncio.run(runs.make_verified(cli.folder, RELEASE))
        yield Story(cli, (code, json.loads(out.getvalue())))
    finally:
        runs.stop(cli.folder)


@pytest.fixture
def cli(story: Story) -> Cli:
    return story.cli


def smoked(cli: Cli, capsys: pytest.CaptureFixture[str], **given: Any) -> tuple[int, Any]:
    """The exit code, and the one JSON document on stdout."""
    capsys.readouterr()
    code = smoke.smoke(Flags("sandbox", str(cli.spec), json=True), **given)
    return code, json.loads(capsys.readouterr().out)


def of(entries: tuple[Entry, ...], kind: Kind) -> list[Any]:
    """The data of the last run's entries of a kind; none where nothing is on record."""
    return [entry.data for entry in entries if entry.run == entries[-1].run and entry.kind is kind]


def metrics(cli: Cli) -> str:
    chosen = wiring.choose(str(cli.spec), "sandbox")
    trust = ssl.create_default_context(cafile=cli.state / "tls" / "ca.pem")
    base = asyncio.run(wiring.address(chosen))
    with httpx.Client(verify=trust, trust_env=False) as client:
        page = client.get(f"{base}/metrics").text
    assert "payments_total" in page
    return page


def test_one_payment_is_followed_to_its_enrolment_and_moves_no_metric(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sandbox's card pays once, all five proofs pass, and what the shop counts stays as it was."""
    before = metrics(cli)
    code, report = smoked(cli, capsys)
    assert (code, report["header"]["verb"]) == (0, "smoke")
    assert {one["check"]: one["verdict"] for one in report["findings"]} == dict.fromkeys(ALL, "PASS")
    (payment,) = report["smoke"]
    (spent,) = of(cli.entries(), Kind.MONEY_SPENT)
    assert (spent["reference"], spent["cents"], spent["cap_cents"]) == (payment["reference"], 100, 100)
    assert [what for what, _ in payment["moments"]] == ["paid", "webhook received", "enrolment active"]
    assert metrics(cli) == before


def test_its_record_is_the_proof_of_the_monthly_duty(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing is paid the webhook is tested all the same, and the duty counts from then."""
    code, report = smoked(cli, capsys, mode="initialise")
    verdicts = {one["check"]: one["verdict"] for one in report["findings"]}
    assert (code, verdicts) == (0, dict.fromkeys(ALL, "PASS") | dict.fromkeys(PAID, "SKIPPED"))
    assert of(cli.entries(), Kind.MONEY_SPENT) == []
    chosen = wiring.choose(str(cli.spec), "sandbox")
    duty = chosen.spec.duties["test-webhooks"]
    with wiring.recorded(chosen) as journal:
        past = remembered(journal, "sandbox")
    assert duty.proven_by is not None
    done = last_pass(past.findings(duty.proven_by), datetime.now(UTC))
    assert done is not None
    assert past.runs("smoke")[0].outcome == "done"
    assert done <= past.runs("smoke")[0].at


def test_a_cap_below_the_price_sends_nothing(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 1, and no payment was asked for."""
    code, report = smoked(cli, capsys, cap="99")
    assert code == 1
    assert "nothing was sent" in report["first_error"]["error"]
    assert report["smoke"] == []


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"mode": "crad"}, 2, ("initialise, operator, card", "Did you mean card?")),
        ({"cap": "1.50"}, 2, ("a whole number of cents", "R 1.50 is `--cap 150`")),
    ],
)
def test_a_mistyped_flag_is_refused_with_what_is_allowed(
    cli: Cli, capsys: pytest.CaptureFixture[str], given: dict[str, str], code: int, words: tuple[str, ...]
) -> None:
    """Nothing is started, and the message says what may be typed."""
    found, said = smoked(cli, capsys, **given)
    assert (found, said["exit_code"]) == (code, code)
    for word in words:
        assert word in said["error"] + said["remedy"]


def test_a_person_is_shown_the_link_and_may_leave_it_unpaid(cli: Cli) -> None:
    """Outside a terminal amount, account and link are lines; Ctrl-C ends the waiting with 130 and a record."""
    process = cli.start("smoke", "--mode", "operator")
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "/pay/" in line:
            process.send_signal(signal.SIGINT)
            break
    ended = cli.end(process)
    assert ended.code == 130, said + ended.out + ended.err
    for words in (r"To pay: R 1\.00 for smoke-001", r"account mode live", r"https://127\.0\.0\.1:\d+/pay/\w+"):
        assert re.search(words, said), said
    assert not re.search("[█▀▄]", said)
    assert [data["outcome"] for data in of(cli.entries(), Kind.RUN_FINISHED)] == ["interrupted"]
    assert len(of(cli.entries(), Kind.MONEY_SPENT)) == 1


def test_where_nothing_is_live_nothing_is_paid(story: Story) -> None:
    """It ends with 1 and names the command that puts a release live; its record holds no payment."""
    code, said = story.empty
    assert (code, "nothing is live" in said["error"], "./inv deploy" in said["remedy"]) == (1, True, True)


# ---- before real money -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("testing", "words"), [("false", "R 1.00 of real money"), ("true", "account mode test")])
def test_what_a_person_agrees_to_names_amount_cap_and_account(tmp_path: Path, testing: str, words: str) -> None:
    """Amount, cap, account mode and gateway are told; for the sandbox's gateway there is nothing to agree to."""
    values = {"VITE_IKHOKHA_TEST_MODE": testing}
    asked = world(tmp_path, gateway="https://api.ikhokha.com", values=values)
    told = smoke.money(asked, 250)
    assert words in told
    assert "R 2.50" in told
    assert "https://api.ikhokha.com" in told
    assert smoke.money(replace(asked, addresses=Addresses("", "https://127.0.0.1:9")), 250) == ""


class _Live:
    async def live(self) -> ReleaseId:
        return ReleaseId(RELEASE)


class _Session:
    """As much of a session as is asked before anything runs: a release is live at a gateway that takes money."""

    environment = "production"

    def __init__(self, folder: Path) -> None:
        self.world = world(folder, gateway="https://api.ikhokha.com")
        traffic: Any = _Live()
        self.world = replace(self.world, target=replace(self.world.target, traffic=traffic))

    async def of_release(self, _release: ReleaseId) -> Any:
        return self.world


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Types lines at a terminal that is this process's stdin."""
    master, slave = os.openpty()
    typed: TextIO = os.fdopen(slave, "r")
    monkeypatch.setattr("sys.stdin", typed)
    yield lambda text: (os.write(master, text.encode()), None)[1]
    typed.close()
    os.close(master)


@pytest.mark.parametrize(("typed", "goes_on"), [("production\n", True), ("yes\n", False), ("\n", False)])
async def test_only_the_name_of_the_environment_is_a_yes(
    tmp_path: Path, keyboard: Callable[[str], None], capsys: pytest.CaptureFixture[str], typed: str, goes_on: bool
) -> None:
    """Before real money is asked for a person types where; anything else sends nothing."""
    keyboard(typed)
    session: Any = _Session(tmp_path)
    if goes_on:
        await smoke._consent(session, 100)
    else:
        with pytest.raises(Refused, match="nothing was sent"):
            await smoke._consent(session, 100)
    assert "account mode live" in capsys.readouterr().err


@pytest.mark.parametrize("stdin", [io.StringIO("production\n"), None])
async def test_nobody_at_the_keyboard_is_no_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None
) -> None:
    """A job, with its stdin closed or not, must say --yes; without it nothing is sent."""
    session: Any = _Session(tmp_path)
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(Usage, match="nobody is at the keyboard"):
        await smoke._consent(session, 100)


async def test_waiting_for_a_yes_can_be_broken_off(tmp_path: Path, keyboard: Callable[[str], None]) -> None:
    """Ctrl-C at the question ends it."""
    session: Any = _Session(tmp_path)
    asked = asyncio.create_task(smoke._consent(session, 100))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


def test_every_mode_asks_the_same_proofs() -> None:
    """Each has room for the person who pays beyond its own work."""
    for mode in smoke.MODES:
        steps = smoke.steps(mode, 100)
        assert [step.check for step in steps] == ALL
        waits = smoke.WAIT_S if mode == "operator" else 0
        assert all(step.timeout > waits + 60 for step in steps)
