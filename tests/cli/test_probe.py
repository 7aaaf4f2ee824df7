"""The verb `probe`: what it plans, what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len

import probing
import wiring
from checks import withstands_probes
from checks.probes.table import PROBES
from commands import Flags
from pipeline.contracts import Check, World
from pipeline.errors import Usage
from pipeline.plan import Plan
from pipeline.verdict import Verdict
from tests.cli.cli import on, production
from tests.probes.shop_rig import shop, till

ASKED: tuple[Check, ...] = (withstands_probes.WEBHOOK, withstands_probes.PAYMENT)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> wiring.Chosen:
    spec = on(tmp_path_factory.mktemp("probe")).spec
    return wiring.choose(str(spec), "sandbox")


def planned(chosen: wiring.Chosen, **flags: str) -> Plan:
    known = {**chosen.tables.checks, **{check.name: check for check in ASKED}}
    return probing.planned(replace(chosen, tables=replace(chosen.tables, checks=known)), **flags)


def asked(plan: Plan) -> dict[str, Any]:
    return {step.plugin: step.params for stage in plan.stages for step in stage.steps}


# ---- what is planned ---------------------------------------------------------------------------------------


def test_both_tables_are_played_as_a_proof_of_what_is_live(sandbox: wiring.Chosen) -> None:
    """Without flags all probes are played, in the stage of the proofs, though pipeline.yaml may not name them."""
    plan = planned(sandbox)
    assert (plan.verb, plan.environment, [stage.name for stage in plan.stages]) == ("probe", "sandbox", ["prove"])
    assert list(asked(plan)) == ["webhook.withstands_probes", "payment.withstands_probes"]
    assert all(params.only == () for params in asked(plan).values())
    assert all(step.limit == 600 for step in plan.stages[0].steps)


def test_cards_are_for_the_sandbox_unless_somebody_says_otherwise(sandbox: wiring.Chosen) -> None:
    """By default nothing is paid outside the sandbox; flags decide mode and cap."""
    staging = replace(sandbox, name="staging", environment=sandbox.spec.environments["staging"])
    assert {params.mode for params in asked(planned(sandbox)).values()} == {"card"}
    assert {params.mode for params in asked(planned(staging)).values()} == {"initialise"}
    told = asked(planned(staging, mode="card", cap="250"))
    assert {(params.mode, params.cap) for params in told.values()} == {("card", 250)}


def test_only_the_checks_of_the_probes_named_are_asked(sandbox: wiring.Chosen) -> None:
    """A probe named alone asks its own check alone, and each check only for its own probes."""
    only = asked(planned(sandbox, only="payment.amount-zero"))
    assert {name: params.only for name, params in only.items()} == {
        "payment.withstands_probes": ("payment.amount-zero",)
    }
    both = asked(planned(sandbox, only="payment.body-large, webhook.unsigned,payment.body-large"))
    assert {name: params.only for name, params in both.items()} == {
        "webhook.withstands_probes": ("webhook.unsigned",),
        "payment.withstands_probes": ("payment.body-large",),
    }


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"only": "webhook.unsignd"}, "Did you mean webhook.unsigned"),
        ({"only": ", ,"}, "names of probes are expected"),
        ({"mode": "operator"}, "initialise or card"),
        ({"cap": "-1"}, "whole number of cents"),
        ({"cap": "1.50"}, "whole number of cents"),
        ({"cap": "9" * 12}, "whole number of cents"),
        ({"cap": "٣"}, "whole number of cents"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_sent(
    sandbox: wiring.Chosen, flags: dict[str, str], told: str
) -> None:
    """A mistyped probe, mode or cap ends with what is allowed."""
    with pytest.raises(Usage) as refused:
        planned(sandbox, **flags)
    assert told in f"{refused.value} {refused.value.remedy}"


def test_nothing_live_is_nothing_to_probe(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where no release serves, the verb ends with 1 and says what to do; nothing is sent and nothing recorded."""
    cli = on(tmp_path)
    spec = yaml.safe_load(cli.spec.read_text("utf-8"))
    spec["environments"]["production"]["target"]["path"] = "target"
    cli.spec.write_text(json.dumps(spec), "utf-8")
    (tmp_path / ".env.production").write_text("".join(f"{n}={v}\n" for n, v in production().items()), "utf-8")
    (tmp_path / ".env.production").chmod(0o600)
    assert probing.probe(Flags("production", str(cli.spec)), only="webhook.unsigned") == 1
    said = capfd.readouterr()
    assert "nothing is live in production" in said.err
    assert "./inv deploy --env production" in said.err
    assert "verdict" not in said.out


# ---- what is listed ----------------------------------------------------------------------------------------


def fits(text: str) -> bool:
    return all(cell_len(line) <= 80 for line in text.splitlines())


def test_the_list_names_every_probe_and_sends_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--list` needs no pipeline.yaml and no service, and fits a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert probing.probe(Flags(spec="/nowhere/pipeline.yaml"), listing=True) == 0
    said = capfd.readouterr().out
    assert all(f"\n{name} " in said for name in PROBES)
    assert fits(said)
    assert probing.probe(Flags(spec="/nowhere/pipeline.yaml", json=True), listing=True) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["probe"] for row in rows] == list(PROBES)
    assert all(row["sends"] and row["fix"] and row["allowed"] for row in rows)


# ---- what is shown -----------------------------------------------------------------------------------------


async def found(world: World, *names: str, mode: str = "initialise") -> list[Mapping[str, Any]]:
    """The findings of both checks over these probes, as the journal gives them back."""
    findings = []
    for check in ASKED:
        own = [name for name in names if check.name.startswith(name.partition(".")[0])]
        if own:
            params = check.params.model_validate({"only": tuple(own), "mode": mode})
            finding = check.judge(await check.gather(world, params), params)
            told = {"verdict": finding.verdict.value, "reason": finding.reason, "remedy": finding.remedy}
            findings.append({"check": check.name, **told, "evidence": json.loads(json.dumps(finding.evidence))})
    return findings


def shown(findings: Iterable[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    probing.show(list(findings))
    said: str = capsys.readouterr().out
    assert fits(said)
    return said


async def test_each_probe_has_a_line_with_what_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A careful shop gives a table of verdicts, statuses and milliseconds, the skipped with a reason, and totals."""
    async with till(tmp_path) as gateway, shop(gateway, tmp_path) as rig:
        names = ("webhook.unsigned", "webhook.success-twice", "payment.amount-huge", "payment.gateway-refuses")
        said = shown(await found(rig.world, *names), monkeypatch, capsys)
    lines = {words[1]: words for words in map(str.split, said.splitlines()) if len(words) > 1}
    assert lines["webhook.unsigned"][:3] == ["PASS", "webhook.unsigned", "401"]
    assert lines["payment.gateway-refuses"][2] == "502"
    assert lines["payment.gateway-refuses"][3].isdigit()
    assert "422 x2 400" in said
    assert "SKIPPED webhook.success-twice" in said
    assert "a paid smoke payment" in said
    assert said.endswith("4 probes: 3 PASS, 1 SKIPPED\n")
    assert "Fix:" not in said


async def test_a_failed_probe_is_told_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A careless shop: below the table stands what was sent, what came back, what is allowed, and the fix."""
    async with till(tmp_path) as gateway, shop(gateway, tmp_path, "takes-text-amounts") as rig:
        findings = await found(rig.world, "payment.amount-text", "payment.amount-zero")
    assert [finding["verdict"] for finding in findings] == [Verdict.FAIL.value]
    said = shown(findings, monkeypatch, capsys)
    assert "FAIL payment.amount-text (medium)" in said
    assert f"Fix: {PROBES['payment.amount-text'].fix}" in " ".join(said.split())
    assert "was answered 201" in " ".join(said.split())
    assert said.endswith("2 probes: 1 FAIL, 1 PASS\n")


async def test_a_finding_without_probes_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where mode card would cost real money nothing is played, and that is said with its fix."""
    async with till(tmp_path) as gateway, shop(gateway, tmp_path) as rig:
        real = replace(rig.world, addresses=replace(rig.world.addresses, gateway="https://gateway.test"))
        said = shown(await found(real, "webhook.unsigned", mode="card"), monkeypatch, capsys)
    assert "FAIL webhook.withstands_probes" in said
    assert "Fix:" in said
    assert said.endswith("0 probes: none was played\n")


async def test_a_refused_control_is_told_although_each_probe_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that refuses the gateway's own webhooks proves nothing by refusing forged ones."""
    async with till(tmp_path) as gateway, shop(gateway, tmp_path) as rig:
        other = rig.world.gateway.scheme.with_secret("another-made-up-secret")
        rig.world.gateway.scheme = other
        findings = await found(rig.world, "webhook.unsigned")
    said = " ".join(shown(findings, monkeypatch, capsys).split())
    assert "INCONCLUSIVE webhook.unsigned" in said
    assert "It was answered 401 before the probes and 401 after them" in said
    assert "Webhook signature mismatch" in said
