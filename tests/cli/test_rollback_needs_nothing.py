"""A rollback in an incident needs nothing that the bad release, or the change that brought it, could have broken."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from pipeline.events import Kind
from sandbox import host
from sandbox.gateway.remote import Control
from targets import service_address
from tests.cli.cli import Cli
from tests.crash import conftest, runs

TOOLS = ("mkdir", "rm", "tar", "sync", "find", "sha256sum", "ln", "readlink", "install")
"""What a host must offer; git, npm and whatever else a build needs are not among them."""
BAD = "29991231T000000001Z-bad"
UNREADABLE = "stages:\n  gates: [\n"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def incident(tmp_path: Path) -> Iterator[Cli]:
    """A verified release, and a newer one live, as an ordinary deploy left them."""
    text = (conftest.HERE / "pipeline.yaml").read_text("utf-8")
    manager = "settings_from: [{command: [touch, asked]}, "
    assert "settings_from: [" in text
    (tmp_path / "pipeline.yaml").write_text(text.replace("settings_from: [", manager), "utf-8")
    conftest.build(tmp_path)
    try:
        assert runs.in_a_process(tmp_path, "deploy") == 0
        asyncio.run(runs.make_verified(tmp_path, BAD))
        (tmp_path / "asked").unlink()
        yield Cli(tmp_path)
    finally:
        (tmp_path / "pipeline.yaml").write_text(text, "utf-8")
        runs.stop(tmp_path)


def good(cli: Cli) -> str:
    """The release that the first deploy verified."""
    marked = [entry.data for entry in cli.entries() if entry.kind is Kind.RELEASE_MARKED]
    return next(str(data["release"]) for data in marked if data["state"] == "verified")


def break_everything(cli: Cli) -> dict[str, str]:
    """The bad release's code is gone, its settings are garbage, pipeline.yaml and the source of the settings are
    garbage, and no build tool is on the PATH. The environment to type a command in."""
    target = cli.state / "target"
    shutil.rmtree(target / "releases" / BAD)
    (target / "settings" / f"{BAD}.json").write_bytes(b"\x00garbage\xff")
    (cli.state / "settings.env").write_bytes(b"\x00garbage\xff\n=\n")
    cli.spec.write_text(UNREADABLE, "utf-8")
    shutil.rmtree(cli.folder / "dist")
    tools = cli.folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(tools)}


def asked(cli: Cli, path: str) -> tuple[int, str]:
    """What a visitor gets: the status and the body."""
    address = asyncio.run(service_address(cli.state / "target"))
    trusted = ssl.create_default_context(cafile=str(cli.state / "tls" / "ca.pem"))
    try:
        with urllib.request.urlopen(f"{address}{path}", context=trusted, timeout=10) as answer:  # noqa: S310 - our own
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_it_restores_with_everything_broken_that_a_bad_release_can_break(incident: Cli) -> None:
    """With the bad release's code deleted, its settings, the settings' source and pipeline.yaml unreadable and no build
    tool at hand, one command brings the old release back, proven and open, asks no secret manager, and says by which
    pipeline.yaml it went."""
    first = incident.entries()[0].run
    ended = incident.run("rollback", "--yes", env=break_everything(incident))
    assert ended.code == 0, ended.out + ended.err
    assert json.loads(asked(incident, "/health/live")[1])["release"] == good(incident)
    assert asked(incident, "/")[0] == 200
    assert not (incident.folder / "asked").exists(), "the secret manager was asked"
    said = " ".join(ended.err.split())
    assert "pipeline.yaml cannot be used: 1 mistake; `./inv plan` tells them." in said
    assert f"In its place stands, byte for byte, what run {first} went by" in said
    assert incident.run("rollback", "--yes", "--env", "staging").code == 2, "of another environment nothing is kept"


def test_with_the_gateway_down_it_restores_and_stays_closed(incident: Cli) -> None:
    """With the gateway away too, the old release is back and closed, the proofs that could not be asked are named, and
    once the gateway answers one more rollback opens it."""
    running = host.status(incident.state)
    assert running is not None
    control = Control(running.control, running.token.reveal())
    tools = break_everything(incident)
    asyncio.run(control.set_faults(outage=True))
    ended = incident.run("rollback", "--yes", env=tools)
    assert ended.code == 4, ended.out + ended.err
    assert json.loads(asked(incident, "/health/live")[1])["release"] == good(incident)
    assert asked(incident, "/")[0] == 503
    assert "payment.is_paid" in ended.out and "a person must do this now" in ended.out
    asyncio.run(control.clear_faults())
    again = incident.run("rollback", "--yes", env=tools)
    assert again.code == 0, again.out + again.err
    assert asked(incident, "/")[0] == 200


def test_what_is_looked_at_goes_by_the_kept_pipeline(incident: Cli) -> None:
    """With pipeline.yaml unreadable, `status`, `reconcile`, `report` and `history` go by the copy of the last run and
    say so; a copy that is not, byte for byte, what a run went by is not used: what to do is said, and nothing done."""
    kept = list((incident.state / "specs").iterdir())
    assert [path.read_bytes() for path in kept] == [incident.spec.read_bytes()]
    first = incident.entries()[0].run
    incident.spec.write_text(UNREADABLE, "utf-8")
    for verb in ("status", "reconcile", "report", "history"):
        ended = incident.run(verb, "--json")
        assert ended.code == 0 and ended.data, ended.out + ended.err
        assert f"In its place stands, byte for byte, what run {first} went by" in " ".join(ended.err.split())
    kept[0].write_bytes(kept[0].read_bytes() + b"# changed\n")
    before = len(incident.entries())
    ended = incident.run("rollback", "--yes")
    assert ended.code == 2 and len(incident.entries()) == before
    assert "git checkout HEAD~1 -- pipeline.yaml" in ended.err
