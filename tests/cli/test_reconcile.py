"""`./inv reconcile` against a shop that is live in a sandbox of its own: what it finds, mends and leaves."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from dotenv import dotenv_values

import books
import wiring
from commands import Flags
from pipeline.clock import SystemClock
from pipeline.events import Entry, Kind
from pipeline.lease import Lease, Owner
from sandbox import host
from sandbox.gateway.remote import Control
from tests.cli.cli import Cli, on
from tests.crash import runs
from tests.crash.conftest import build
from tests.sandbox.shops import SandboxGateway, eventually, new_reference

RELEASE = "20260101T000000000Z-0000000"


@dataclass(frozen=True)
class Story:
    """`empty` is what the command said before anything was live: exit code and document."""

    cli: Cli
    url: str
    gateway: SandboxGateway
    empty: tuple[int, Any]

    def made(self) -> tuple[str, str]:
        """A payment that nobody has paid: its reference and its link. The shop asks nobody about it by itself."""
        reference = new_reference()
        body = {"reference": reference, "amount": 49900, "currency": "ZAR", "course": "python-101"}
        with httpx.Client(verify=self.gateway.tls, trust_env=False, timeout=20) as client:
            created = client.post(f"{self.url}/api/payments", json=body)
        assert created.status_code == 201, created.text
        data = self.cli.state / "target" / "shared" / "data" / "orders.sqlite"
        with closing(sqlite3.connect(data, timeout=20, isolation_level=None)) as shop:
            shop.execute("UPDATE orders SET next_check_at = NULL WHERE reference = ?", (reference,))
        return reference, created.json()["paylinkUrl"]

    def lost(self) -> str:
        """A payment that was paid, and whose webhook never came."""
        self.gateway.faults(withhold_webhooks=True)
        reference, url = self.made()
        self.gateway.pay(url)
        return reference

    def delivered(self, reference: str) -> bool:
        """Whether the service accepted a webhook of the gateway's own."""
        control = Control(self.gateway.addresses.control, self.gateway.addresses.token.reveal())
        return any((one["reference"], one["status"]) == (reference, 200) for one in asyncio.run(control.deliveries()))

    def activations(self, reference: str) -> int:
        with httpx.Client(verify=self.gateway.tls, trust_env=False, timeout=20) as client:
            return int(client.get(f"{self.url}/api/enrolments/{reference}").json()["activations"])


def of(entries: tuple[Entry, ...], kind: Kind) -> list[Any]:
    """The data of the last run's entries of a kind."""
    return [entry.data for entry in entries if entry.run == entries[-1].run and entry.kind is kind]


def asked(cli: Cli, **given: Any) -> tuple[int, Any]:
    """The exit code, and the one JSON document on stdout."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = books.reconcile(Flags("sandbox", str(cli.spec), json=True), **given)
    cli.printed += [out.getvalue(), err.getvalue()]
    return code, json.loads(out.getvalue())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A folder in whose sandbox one release is live and verified, and how it was before."""
    cli = on(tmp_path_factory.mktemp("books"))
    text = re.sub(r"(?m)^contract:.*$", "contract:\n  enrolment_within: 500 ms", cli.spec.read_text("utf-8"))
    cli.spec.write_text(text, "utf-8")
    build(cli.folder)
    try:
        empty = asked(cli)
        made = cli.state / "settings.env"
        made.write_text(re.sub(r"(?m)^(VITE_IKHOKHA_RETRY_DELAY)=.*$", r"\1=100", made.read_text("utf-8")), "utf-8")
        asyncio.run(runs.make_verified(cli.folder, RELEASE))
        url = asyncio.run(wiring.address(wiring.choose(str(cli.spec), "sandbox")))
        addresses = host.status(cli.state)
        assert url is not None
        assert addresses is not None
        settings = {name: value or "" for name, value in dotenv_values(addresses.settings, interpolate=False).items()}
        tls = ssl.create_default_context(cafile=str(addresses.ca))
        yield Story(cli, url, SandboxGateway(addresses, tls, settings), empty)
    finally:
        runs.stop(cli.folder)


@pytest.fixture
def gateway(story: Story) -> Iterator[SandboxGateway]:
    """A gateway to be broken: its faults end with the test, and what they left open is settled before the next."""
    yield story.gateway
    story.gateway.faults()
    assert eventually(lambda: asked(story.cli)[0] == 0)


def test_books_that_agree_end_with_0_and_send_nothing(story: Story) -> None:
    """One paid, one not: exit 0, no lease, nothing delivered, one entry with the window that was compared."""
    (reference, url), (unpaid, _) = story.made(), story.made()
    story.gateway.pay(url)
    assert eventually(lambda: story.activations(reference) == 1)
    code, said = asked(story.cli)
    assert (code, said["agree"], said["mismatches"], said["repair"]) == (0, True, [], None)
    entries = story.cli.entries()
    (told,) = of(entries, Kind.RECONCILED)
    assert (told["ok"], told["repaired"], told["paid"]) == (True, [], said["paid"])
    assert of(entries, Kind.RUN_STARTED)[0]["verb"] == "reconcile"
    assert not of(entries, Kind.LEASE_TAKEN)
    assert story.activations(unpaid) == 0


def test_a_lost_webhook_is_named_and_its_repair_is_offered(story: Story, gateway: SandboxGateway) -> None:
    """Exit 1 with reference, cents and what to do; the command that mends it is printed, and nothing is sent."""
    reference = story.lost()
    code, said = asked(story.cli, since="1h")
    assert (code, said["agree"]) == (1, False)
    (one,) = said["mismatches"]
    assert (one["reference"], one["what"], one["cents"]) == (reference, "paid, not activated", 49900)
    assert "--apply" in one["to do"]
    assert re.fullmatch(r"\./inv reconcile --env sandbox --since \S+ --apply", said["repair"])
    assert story.activations(reference) == 0


def test_apply_delivers_once_and_on_record(story: Story, gateway: SandboxGateway) -> None:
    """Each delivery is on record before it is sent, then what came of it; what is not paid is never delivered."""
    (unpaid, _), reference = story.made(), story.lost()
    code, said = asked(story.cli, apply=True)
    assert (code, said["agree"], said["repaired"]) == (0, True, [reference]), said
    assert (story.activations(reference), story.activations(unpaid)) == (1, 0)
    entries = story.cli.entries()
    of_this = [entry for entry in entries if entry.run == entries[-1].run]
    told = [entry.kind.value for entry in of_this if entry.data.get("stage") == "repair"]
    assert told == ["step.started", "step.finished"]
    assert [entry.data["step"] for entry in of_this if entry.data.get("stage") == "repair"] == [
        f"webhook of {reference}"
    ] * 2
    assert len(of(entries, Kind.LEASE_TAKEN)) == 1

    again = asked(story.cli, apply=True)
    assert (again[0], again[1]["repaired"]) == (0, [])
    assert not [entry for entry in of(story.cli.entries(), Kind.STEP_STARTED) if entry["stage"] == "repair"]
    gateway.faults()  # the gateway's own webhook comes after all
    assert eventually(lambda: story.delivered(reference))
    assert story.activations(reference) == 1


def test_what_is_still_not_activated_is_for_a_person(story: Story, gateway: SandboxGateway) -> None:
    """A payment the service refuses to activate, because the amounts differ, is delivered to nobody: exit 1."""
    reference = story.lost()
    gateway.faults(withhold_webhooks=True, amount_off=-100)
    code, said = asked(story.cli, apply=True, since="1h")
    assert (code, said["repaired"], said["repair"]) == (1, [], None)
    found = {one["reference"]: one for one in said["mismatches"]}
    assert (found[reference]["what"], found[reference]["cents"]) == ("amounts differ", 49800)
    assert "refund the difference" in of(story.cli.entries(), Kind.RUN_FAILED)[0]["remedy"]
    gateway.faults()
    assert eventually(lambda: story.activations(reference) == 1)


def test_of_a_silent_gateway_nothing_is_claimed(story: Story, gateway: SandboxGateway) -> None:
    """Without the gateway's word the books are neither right nor wrong: exit 1, and no count is told."""
    gateway.faults(outage=True)
    code, said = asked(story.cli, since="1h")
    assert (code, said["agree"], "paid" in said) == (1, None, False)
    assert of(story.cli.entries(), Kind.RECONCILED) == []
    assert "no answer" in of(story.cli.entries(), Kind.RUN_FAILED)[0]["error"]


def test_apply_waits_for_no_rival(story: Story) -> None:
    """While another run holds the environment, nothing is repaired: exit 5."""
    lease = Lease.take(
        story.cli.state / "target" / "lease.sqlite", owner=Owner.this_process("rival"), clock=SystemClock()
    )
    try:
        assert asked(story.cli, apply=True)[0] == 5
        assert asked(story.cli)[0] == 0
    finally:
        lease.release()


def test_a_time_that_is_none_is_refused(story: Story) -> None:
    """Exit 2 with what is allowed, and no run is on record."""
    before = len(story.cli.entries())
    code, said = asked(story.cli, since="yesterday")
    assert (code, "--since" in said["error"], bool(said["remedy"])) == (2, True, True)
    assert len(story.cli.entries()) == before


def test_a_person_reads_a_table(story: Story, gateway: SandboxGateway) -> None:
    """In a terminal's width the references, what is wrong and the repair are told, and where the report lies."""
    reference = story.lost()
    ended = story.cli.run("reconcile", "--since", "1h")
    assert ended.code == 1, ended.err
    assert reference in ended.out
    assert "paid, not activated" in ended.out
    assert re.search(r"Repair: `\./inv reconcile --env sandbox --since \S+ --apply`", ended.out)
    assert "Report: " in ended.out


def test_where_nothing_is_live_nobody_is_asked(story: Story) -> None:
    """Exit 1 with the command that puts a release live."""
    code, said = story.empty
    assert (code, "nothing is live" in said["error"], "./inv deploy" in said["remedy"]) == (1, True, True)


def test_the_next_run_begins_where_the_books_were_whole(story: Story) -> None:
    """Without --since a run goes back to the oldest payment that might still have been paid, and no further."""
    story.made()
    assert asked(story.cli)[0] == 0
    (first,) = of(story.cli.entries(), Kind.RECONCILED)
    _, said = asked(story.cli)
    assert datetime.fromisoformat(first["whole_until"]) < datetime.now(UTC)
    assert said["since"] == datetime.fromisoformat(first["whole_until"]).isoformat(timespec="seconds")
