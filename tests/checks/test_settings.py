"""The gates over settings, names, credentials and endpoints."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checks import CHECKS
from checks.credentials_not_placeholders import EXPOSED, Strength, exposed_fingerprints, problems
from pipeline.contracts import Addresses, World
from pipeline.secrets import Secret
from pipeline.settings import SettingMistake, Settings
from pipeline.verdict import Verdict
from tests.checks.worlds import SPEC, URL, ask, random_text, world

GOOD = {
    "VITE_NODE_ENV": "production",
    "VITE_IKHOKHA_API_URL": "https://api.ikhokha.com",
    "VITE_IKHOKHA_API_KEY": Secret("IK" + random_text()),
    "VITE_IKHOKHA_API_SECRET": Secret(random_text()),
    "VITE_IKHOKHA_TEST_MODE": "false",
}


def production(root: Path, spec: dict[str, Any] | None = None, **changed: str | Secret | None) -> World:
    values = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    made = world(root, environment="production", values=values, spec=spec)
    return replace(made, addresses=Addresses(URL, "https://api.ikhokha.com"))


def environments(**changed: dict[str, Any]) -> dict[str, Any]:
    """The spec with keys of environments changed."""
    given = SPEC["environments"]
    return {"environments": {name: {**value, **changed.get(name, {})} for name, value in given.items()}}


GATES = (
    "settings.valid",
    "settings.test_mode_off",
    "settings.names_fit_environment",
    "credentials.not_placeholders",
    "endpoints.https_on_expected_host",
)


@pytest.mark.parametrize("name", GATES)
async def test_good_production_settings_pass(tmp_path: Path, name: str) -> None:
    """Real credentials, the production endpoint and test mode off pass every gate over settings."""
    finding = await ask(CHECKS[name], production(tmp_path))
    assert finding.verdict is Verdict.PASS, finding


async def test_every_mistake_is_listed_with_its_fix(tmp_path: Path) -> None:
    """settings.valid tells all mistakes at once, each with where, found, allowed and fix."""
    mistakes = tuple(SettingMistake(f"VITE_{n}", f".env:{n}", f"found {n}", f"allowed {n}", f"fix {n}") for n in "AB")
    made = production(tmp_path)
    made = replace(made, settings=replace(made.settings, mistakes=mistakes))
    finding = await ask(CHECKS["settings.valid"], made)
    assert finding.verdict is Verdict.FAIL
    for n in "AB":
        assert f"VITE_{n} (.env:{n}): found found {n}, allowed allowed {n}" in finding.reason
        assert f"VITE_{n}: fix {n}" in finding.remedy


async def test_no_settings_are_not_valid_settings(tmp_path: Path) -> None:
    """Where no setting was found there is nothing to pass."""
    made = replace(production(tmp_path), settings=Settings({}, (), ("environment",)))
    assert (await ask(CHECKS["settings.valid"], made)).verdict is Verdict.INCONCLUSIVE
    for name in GATES[1:]:
        assert (await ask(CHECKS[name], made)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("environment", "value", "verdict"),
    [
        ("production", "false", Verdict.PASS),
        ("production", "true", Verdict.FAIL),
        ("production", "False", Verdict.FAIL),
        ("production", "", Verdict.FAIL),
        ("sandbox", "true", Verdict.FAIL),
        ("staging", "true", Verdict.ADVICE),
        ("staging", "yes", Verdict.FAIL),
    ],
)
async def test_test_mode(tmp_path: Path, environment: str, value: str, verdict: Verdict) -> None:
    """Only `false` is off; an environment that lists `true` itself is advised."""
    values = {**GOOD, "VITE_IKHOKHA_TEST_MODE": value}
    finding = await ask(CHECKS["settings.test_mode_off"], world(tmp_path, environment=environment, values=values))
    assert finding.verdict is verdict
    if verdict is Verdict.FAIL:
        assert finding.reason.startswith("Test mode must be disabled in production")
        assert finding.remedy == "set VITE_IKHOKHA_TEST_MODE=false"


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"url": "https://staging.betaskill.com"}, "named for staging"),
        ({"url": "https://dev.betaskill.com"}, "named for dev"),
        ({"url": "https://shop.example.com"}, "named for example"),
        ({"url": "https://app-staging.shop.co.za"}, "named for staging"),
        ({"url": "https://127.0.0.1:8443"}, "this machine"),
        ({"url": "https://shop.local"}, "private network"),
        ({"url": "sandbox"}, "sandbox"),
        ({"settings_from": [{"dotenv": ".env.staging"}]}, "named for staging"),
        ({"settings_from": ["environment", {"dotenv": "config/development.env"}]}, "named for development"),
        ({"settings_from": [{"dotenv": ".tollgate/sandbox/settings.env"}]}, "named for sandbox"),
        ({"settings_from": [{"dotenv": "/etc/shop/.env.example"}]}, "named for example"),
        ({"target": {"kind": "local", "path": "/srv/staging"}}, "same target"),
        ({"allowed": {"VITE_NODE_ENV": ["staging"]}}, "VITE_NODE_ENV"),
    ],
)
async def test_names_of_another_environment_are_refused(tmp_path: Path, changed: dict[str, Any], word: str) -> None:
    """Production takes neither address, nor target, nor settings that are named for another environment."""
    made = production(tmp_path, environments(production=changed))
    finding = await ask(CHECKS["settings.names_fit_environment"], made)
    assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding


@pytest.mark.parametrize("url", ["https://test-prep.com", "https://app.test-prep.co.za", "https://latest.shop.com"])
async def test_a_company_may_be_called_what_it_likes(tmp_path: Path, url: str) -> None:
    """Only the part of a host that the team chose for the environment is judged."""
    made = production(tmp_path, environments(production={"url": url}))
    finding = await ask(CHECKS["settings.names_fit_environment"], made)
    assert finding.verdict is Verdict.PASS, finding


async def test_the_sandbox_and_staging_fit_themselves(tmp_path: Path) -> None:
    """The environments that ship are named right."""
    for name in ("sandbox", "staging"):
        made = world(tmp_path, environment=name, values=GOOD)
        finding = await ask(CHECKS["settings.names_fit_environment"], made)
        assert finding.verdict is Verdict.PASS, finding


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "your-secret-here",
        "your_api_key_goes_here",
        "CHANGEME-CHANGEME",
        "change-me-please-now",
        "xxxxxxxxxxxxxxxxxxxx",
        "aaaaaaaaaaaaaaaaaaaa",
        "example-secret-0a1b2c",
        "<IKHOKHA_API_SECRET>",
        "${IKHOKHA_API_SECRET}",
        "{{ secrets.API_SECRET }}",
        "sandbox-secret-0123456789abcdef",
        "abababababababababab",
        "k7Gq2mZ",
        "****************",
    ],
)
def test_placeholders_are_recognised(value: str) -> None:
    """A sample, a template, filler, something short or something repeating is no credential."""
    assert problems(value, frozenset(), Strength())


def test_random_credentials_are_not_mistaken_for_placeholders() -> None:
    """No false alarm on two thousand random credentials in the forms gateways give out."""
    for _ in range(1000):
        for value in (random_text(), "IK" + random_text()[:30].upper()):
            assert not problems(value, frozenset(), Strength())


def test_published_credentials_are_refused() -> None:
    """A credential whose fingerprint is on the list is burnt; the list ships with two."""
    value, fingerprints = random_text(), exposed_fingerprints(EXPOSED.read_text("utf-8"))
    assert len(fingerprints) >= 2
    assert not problems(value, fingerprints, Strength())
    burnt = frozenset({hashlib.sha256(f"tollgate-exposed:{value}".encode()).hexdigest()})
    assert problems(value, burnt, Strength()) == ("it was published and is burnt",)
    assert problems(f" {value}\n", burnt, Strength()) == ("it was published and is burnt",)


async def test_findings_on_credentials_do_not_show_them(tmp_path: Path) -> None:
    """A refused credential is named by its setting and source; no part of the value is printed."""
    finding = await ask(
        CHECKS["credentials.not_placeholders"], production(tmp_path, VITE_IKHOKHA_API_KEY=Secret("your-Zq8-here"))
    )
    assert finding.verdict is Verdict.FAIL
    assert "API key invalid or missing: VITE_IKHOKHA_API_KEY (dotenv .env:3)" in finding.reason
    assert "Zq8" not in repr(finding)


async def test_equal_secrets_are_a_note(tmp_path: Path) -> None:
    """For iKhokha one secret signs both ways: equal secrets pass, with a note in the evidence."""
    same = Secret(random_text())
    made = production(tmp_path, VITE_IKHOKHA_API_SECRET=same, VITE_IKHOKHA_WEBHOOK_SECRET=same)
    finding = await ask(CHECKS["credentials.not_placeholders"], made)
    assert finding.verdict is Verdict.PASS
    assert "equal" in str(finding.evidence["notes"])


async def test_a_spec_without_secrets_judges_no_credential(tmp_path: Path) -> None:
    """Nothing declared is not a pass."""
    made = production(
        tmp_path,
        {"settings": {"A": {"type": "text"}}},
        VITE_IKHOKHA_API_KEY=None,
        VITE_IKHOKHA_API_SECRET=None,
    )
    assert (await ask(CHECKS["credentials.not_placeholders"], made)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://pay.ikhokha.com", "development endpoint"),
        ("http://api.ikhokha.com", "https is required"),
        ("https://api.ikhokha.com.evil.net", "allowed: https://api.ikhokha.com"),
        ("https://api.ikhokha.com:8443", "allowed"),
        ("https://api.ikhokha.com/other", "more than scheme and host"),
        ("https://user:hunter2-hunter2@api.ikhokha.com", "more than scheme and host"),
        ("api.ikhokha.com", "no address"),
        ("https://api.ikhokha.com:port", "no address"),
        ("", "not set"),
    ],
)
async def test_wrong_endpoints_are_refused(tmp_path: Path, url: str, word: str) -> None:
    """Payments go to the one https address the environment allows, and nowhere else."""
    finding = await ask(CHECKS["endpoints.https_on_expected_host"], production(tmp_path, VITE_IKHOKHA_API_URL=url))
    assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding
    assert finding.remedy == "set VITE_IKHOKHA_API_URL=https://api.ikhokha.com"
    assert "hunter2" not in repr(finding)


async def test_an_environment_that_allows_no_endpoint_is_refused(tmp_path: Path) -> None:
    """Where pipeline.yaml names no expected address, no address is the expected one."""
    made = production(tmp_path, environments(production={"allowed": {}}))
    assert (await ask(CHECKS["endpoints.https_on_expected_host"], made)).verdict is Verdict.FAIL


async def test_the_sandbox_stands_for_its_own_gateway(tmp_path: Path) -> None:
    """In the sandbox the word `sandbox` means the gateway's address of this run."""
    made = world(tmp_path, gateway="https://127.0.0.1:4711", service="https://127.0.0.1:4712")
    assert (await ask(CHECKS["endpoints.https_on_expected_host"], made)).verdict is Verdict.PASS
    made = replace(made, addresses=Addresses("http://127.0.0.1:4712", "https://127.0.0.1:4711"))
    assert (await ask(CHECKS["endpoints.https_on_expected_host"], made)).verdict is Verdict.FAIL
