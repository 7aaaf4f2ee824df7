"""Notices as an operator meets them: configured in pipeline.yaml, sent by a whole deploy, tried by `./inv notify`."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.events import Kind
from tests.cli.cli import Cli, Ended
from tests.crash.conftest import HERE as CRASH
from tests.crash.conftest import build
from tests.servers.receivers import Hooks, nobody_listens, receiving

_BUILD = """  build:
    - run: [python, -c, "import os; print('sees', sorted(n for n in os.environ if n.startswith('NOTICE')))"]
  deploy:
"""
_NOTICES = """    notices:
      - {to: ops, address_from: NOTICE_OPS, on: [started, refused, rolled back]}
      - {to: pager, address_from: NOTICE_PAGER}
    settings_from: [environment, """
KEY = "T0pS3cretKeyOfTheHook"


@contextmanager
def hooks() -> Iterator[Hooks]:
    """A receiver in a thread of its own: the commands under test are processes."""
    loop, ready, made = asyncio.new_event_loop(), threading.Event(), list[Hooks]()
    end = asyncio.Event()

    async def serve() -> None:
        async with receiving() as (found, _):
            made.append(found)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


@dataclass
class Story:
    """What happened in turn: the addresses judged, a test notice, and a deploy of a bad release."""

    cli: Cli
    hooks: Hooks
    unaddressed: Ended
    validated: Ended
    notified: Ended
    deployed: Ended


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    cli = Cli(tmp_path_factory.mktemp("notices"))
    spec = (CRASH / "pipeline.yaml").read_text("utf-8")
    spec = spec.replace("  deploy:\n", _BUILD).replace("    settings_from: [", _NOTICES)
    cli.spec.write_text(spec, "utf-8")
    build(cli.folder, "takes-any-whole-amount")
    with hooks() as found, nobody_listens() as nobody:
        there = {
            "NOTICE_OPS": f"json://127.0.0.1:{found.port}/ops/{KEY}",
            "NOTICE_PAGER": f"json://127.0.0.1:{nobody.getsockname()[1]}/{KEY}",
        }
        try:
            yield Story(
                cli,
                found,
                cli.run("config-check", env={"NOTICE_OPS": f"jsn://127.0.0.1/{KEY}"}),
                cli.run("validate", "--json", env=there),
                cli.run("notify", "--json", env=there),
                cli.run("deploy", env=there),
            )
        finally:
            cli.run("sandbox.down")


def test_an_address_that_cannot_be_right_is_told_before_it_is_needed(story: Story) -> None:
    """`config-check` names a missing and a misspelt address with the fix, ends with 1, and shows no key."""
    out = " ".join(story.unaddressed.out.split())
    assert story.unaddressed.code == 1
    assert "did you mean json://?" in out
    assert "set NOTICE_PAGER in the environment, or take pager out of environments.sandbox.notices" in out


def test_validate_judges_addresses_and_sends_nothing(story: Story) -> None:
    """A configuration with good addresses passes, and nobody is told of it."""
    assert story.validated.code == 0, story.validated.err
    assert not [body for body in story.hooks.bodies("/ops/") if "validate" in body]


def test_notify_says_who_was_reached(story: Story) -> None:
    """A test notice goes to each; one that does not arrive makes it exit 1, and all of it is on record."""
    assert story.notified.code == 1
    told = {one["to"]: (one["told"], bool(one["error"])) for one in story.notified.data["told"]}
    assert told == {"ops": (True, False), "pager": (False, True)}
    assert json.loads(story.hooks.bodies("/ops/")[0])["title"] == "betaskill-courses sandbox: test notice"
    run = story.notified.data["run"]
    kept = {(e.data["to"], e.data["ok"]) for e in story.cli.entries() if e.run == run and e.kind is Kind.NOTICE}
    assert kept == {("ops", None), ("ops", True), ("pager", None), ("pager", False)}


def test_a_bad_deploy_is_told_and_ends_as_it_would(story: Story) -> None:
    """People learn the start, and the end with its first error; the pager that is down changes nothing but a line."""
    assert story.deployed.code == 3, story.deployed.out + story.deployed.err
    titles = [json.loads(body)["title"].partition(": ")[2] for body in story.hooks.bodies("/ops/")]
    assert titles == ["test notice", "deploy started", "deploy failed, taken back"]
    body = json.loads(story.hooks.bodies("/ops/")[-1])["message"]
    assert "First error: prove / payment.refuses_wrong_amount" in body
    assert "No release is live, as before this run." in body
    assert re.search(r"NOT told pager \(rolled back\): .*127\.0\.0\.1", story.deployed.out)
    assert "Told ops: rolled back." in story.deployed.out
    report = Path(re.findall(r"^Report: (.+)$", story.deployed.out, re.MULTILINE)[0])
    assert "told: ops (started), ops (rolled back); not reached: pager" in report.with_suffix(".md").read_text("utf-8")


def test_addresses_reach_neither_steps_nor_service_nor_any_output(story: Story) -> None:
    """A command of a step does not see them, the release is not staged with them, and no file or screen has the key."""
    assert "sees []" in story.deployed.out
    kept = [path for path in story.cli.folder.rglob("settings*.json") if "NOTICE" in path.read_text("utf-8")]
    kept += [path for path in (story.cli.state / "target" / "settings").glob("*") if KEY in path.read_text("utf-8")]
    assert kept == []
    assert not [text for text in story.cli.printed if KEY in text]
    assert not [path for path in story.cli.left_behind() if KEY.encode() in path.read_bytes()]


def test_a_run_whose_notices_are_on_record_is_vouched_for(story: Story) -> None:
    """The chain is whole with what was recorded after the run had ended, and the run is no unfinished one."""
    assert story.cli.run("audit").code == 0
    assert story.cli.run("status", "--json").data["unfinished"] == []
