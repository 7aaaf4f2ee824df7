"""`close`, `open` and `rollback --test-mode` as an operator types them, on a real shop and its gateway."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dotenv import dotenv_values

from gateways import ikhokha_wire as wire
from sandbox import host
from sandbox.shoppers import GOOD_CARD, filled
from targets import service_address
from tests.cli.cli import Cli
from tests.crash import runs
from tests.crash.conftest import HERE, build
from tests.sandbox.shops import WEBHOOK, eventually, new_reference

STAGING = """
  staging:
    url: https://127.0.0.1:1
    target: {kind: local, path: .tollgate/staging/target}
    settings_from:
      - {dotenv: .tollgate/sandbox/settings.env}
      - {command: [echo, "NOTICE_OPS=json://127.0.0.1:1/ManagedKeyOfOps"]}
    notices: [{to: ops, address_from: NOTICE_OPS}]
"""


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A sandbox with a verified release, and an environment `staging` where nobody answers."""
    folder = tmp_path_factory.mktemp("doors")
    shutil.copy(HERE / "pipeline.yaml", folder)
    with (folder / "pipeline.yaml").open("a", encoding="utf-8") as spec:
        spec.write(STAGING)
    build(folder)
    cli = Cli(folder)
    try:
        ended = cli.run("deploy")
        assert ended.code == 0, ended.out + ended.err
        yield cli
    finally:
        runs.stop(folder)


@pytest.fixture(autouse=True)
def opened(cli: Cli) -> Iterator[None]:
    yield
    for name in ("maintenance", "payments-off", "test-mode"):
        (cli.state / "target/shared" / name).unlink(missing_ok=True)


class Customer:
    """Somebody at the shop's address."""

    def __init__(self, cli: Cli) -> None:
        self._tls = ssl.create_default_context(cafile=str(cli.state / "tls" / "ca.pem"))
        self._gateway = host.status(cli.state)
        self._settings = dotenv_values(cli.state / "settings.env", interpolate=False)
        address = asyncio.run(service_address(cli.state / "target"))
        self.http = httpx.Client(base_url=str(address), verify=self._tls, trust_env=False)

    def buy(self, reference: str) -> httpx.Response:
        wanted = {"reference": reference, "amount": 49900, "currency": "ZAR", "course": "python-101"}
        return self.http.post("/api/payments", json=wanted)

    def pay(self, url: str) -> None:
        """By the gateway's pay page and a good test card."""
        assert self._gateway is not None
        with httpx.Client(verify=self._tls, trust_env=False) as client:
            form = filled(client.get(url).text, GOOD_CARD)
            sent = client.post(self._gateway.gateway + form.action, data=form.fields)
            assert sent.status_code == 303, sent.text

    def webhook(self, link_id: str, reference: str) -> httpx.Response:
        """As the gateway signs it."""
        text = wire.webhook_text(link_id, reference, "SUCCESS")
        signature = wire.sign(str(self._settings["VITE_IKHOKHA_WEBHOOK_SECRET"]), WEBHOOK, text)
        headers = {"ik-appid": str(self._settings["VITE_IKHOKHA_API_KEY"]), "ik-sign": signature}
        return self.http.post(WEBHOOK, content=text.encode(), headers={**headers, "Content-Type": "application/json"})

    def activations(self, reference: str) -> int:
        return int(self.http.get(f"/api/enrolments/{reference}").json()["activations"])


@pytest.fixture
def customer(cli: Cli) -> Iterator[Customer]:
    customer = Customer(cli)
    yield customer
    customer.http.close()


def asked(document: Any) -> dict[str, str]:
    return {one["what"]: one["answered"] for one in document["asked"]}


def test_closed_shop_takes_webhooks_and_no_visitors_until_a_person_opens(cli: Cli, customer: Customer) -> None:
    """Close shuts pages and new payments at once, a payment made before still activates, and open lets in again."""
    reference = new_reference()
    link = customer.buy(reference).json()["paylinkUrl"]
    closed = cli.run("close", "--reason", "gateway trouble", "--json")
    assert (closed.code, closed.data["changed"]) == (0, ["maintenance"])
    assert asked(closed.data) == {
        "GET /": "503",
        "POST /api/payments": "503",
        f"POST {WEBHOOK}": "401, webhooks answer",
    }
    assert (customer.http.get("/").status_code, customer.buy(new_reference()).status_code) == (503, 503)
    customer.pay(link)
    assert eventually(lambda: customer.activations(reference) == 1), "a webhook was refused while the shop was closed"
    opened = cli.run("open", "--reason", "it is over", "--json")
    assert (opened.code, opened.data["changed"], opened.data["doors"]["maintenance"]) == (0, ["maintenance"], None)
    assert (customer.http.get("/").status_code, customer.buy(new_reference()).status_code) == (200, 201)


def test_the_next_deploy_leaves_maintenance_on(cli: Cli, customer: Customer) -> None:
    """Known failure of other tools: maintenance that a person switched on is switched off by the next deploy."""
    closed = cli.run("close", "--reason", "stock-taking")
    stays = "A person closed it, and it stays so until `./inv open`: maintenance."
    assert (closed.code, stays in closed.out) == (0, True)
    deployed = cli.run("deploy")
    assert deployed.code == 0, deployed.out
    assert stays in deployed.out, "it reads as if customers could pay"
    assert customer.http.get("/").status_code == 503
    again = cli.run("close", "--reason", "another", "--json")
    assert (again.code, again.data["changed"], again.data["doors"]["maintenance"]["why"]) == (0, [], "stock-taking")


def test_rollback_with_test_mode_moves_no_money_until_a_person_opens(cli: Cli, customer: Customer) -> None:
    """After `rollback --test-mode` customers pay nothing and get nothing, the books agree, and open makes it real."""
    asyncio.run(runs.make_verified(cli.folder, "29991231T000000000Z-test"))
    back = cli.run("rollback", "--test-mode", "--reason", "orders look wrong")
    assert back.code == 0, back.out
    assert "test mode    on: new payments move no money until `./inv open`" in back.out
    assert "in test mode, no money moves" in back.out
    incident = next(line for line in back.out.splitlines() if line.startswith("Incident: ")).removeprefix("Incident: ")
    assert "`./inv open --test-mode` lets customers pay again." in Path(incident).read_text("utf-8")
    assert cli.run("status", "--json").data["test mode"].endswith(": orders look wrong")
    reference = new_reference()
    made = customer.buy(reference).json()
    customer.pay(made["paylinkUrl"])
    assert customer.webhook(made["paylinkID"], reference).json()["result"] == "test"
    assert customer.activations(reference) == 0
    assert cli.run("reconcile", "--since", "1h").code == 0
    assert (
        cli.run("open", "--payments", "--json").data["summary"].startswith("nothing of sandbox is closed by a person")
    )
    opened = cli.run("open", "--test-mode", "--json")
    assert (opened.code, asked(opened.data)) == (0, {"test mode": "off"})
    real = new_reference()
    customer.pay(customer.buy(real).json()["paylinkUrl"])
    assert eventually(lambda: customer.activations(real) == 1)
    assert customer.activations(reference) == 0


def test_close_without_a_reason_is_told_what_to_type(cli: Cli) -> None:
    """A reason is what the next one who is paged reads: without it nothing is closed, and the command is shown."""
    ended = cli.run("close")
    assert (ended.code, "--reason" in ended.err) == (2, True)
    assert not (cli.state / "target/shared/maintenance").exists()


def test_close_where_nobody_answers_writes_the_file_and_needs_a_person(cli: Cli) -> None:
    """Where the service cannot be asked the door is closed all the same, and exit 4 says to close the proxy; whoever is
    to be told is looked up in the secret manager that the closing did not wait for."""
    ended = cli.run("close", "--env", "staging", "--payments", "--reason", "gateway trouble", "--json")
    assert (ended.code, ended.data["changed"]) == (4, ["payments-off"])
    assert "no answer" in asked(ended.data)["POST /api/payments"]
    assert (cli.folder / ".tollgate/staging/target/shared/payments-off").exists()
    assert "NOT told ops (person needed): " in ended.err and "NOTICE_OPS has no value" not in ended.err
    assert "NOBODY WAS TOLD" in ended.err and "ManagedKeyOfOps" not in ended.out + ended.err


def test_open_outside_the_sandbox_asks_first(cli: Cli) -> None:
    """Nothing is opened for customers of real money unless somebody types the environment's name, or --yes."""
    shared = cli.folder / ".tollgate/staging/target/shared"
    shared.mkdir(parents=True, exist_ok=True)
    (shared / "maintenance").write_text('{"who": "ops", "why": "by hand", "since": "2026-11-22T03:00:00+00:00"}')
    asks = cli.run("open", "--env", "staging")
    assert (asks.code, "maintenance: closed since 2026-11-22T03:00:00+00:00 by ops: by hand" in asks.out) == (2, True)
    assert "open of staging asks before it acts" in asks.err
    refused = cli.run("open", "--env", "staging", "--yes")
    assert (refused.code, "no release is live in staging" in refused.err) == (1, True)
    assert (shared / "maintenance").exists()
