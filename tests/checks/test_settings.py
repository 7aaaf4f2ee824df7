"""The gates over settings, names, credentials and endpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checks import CHECKS
from pipeline.contracts import Addresses
from pipeline.settings import SettingMistake, Settings, SettingValue
from pipeline.verdict import Verdict
from tests.checks.production import GOOD, NINE, environments, production
from tests.checks.worlds import SPEC, URL, ask, random_text, world

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


async def test_a_setting_of_the_guide_must_be_declared(tmp_path: Path) -> None:
    """What pipeline.yaml leaves out, or declares as another type, would not be judged; unless it says it is unused."""
    short = {name: setting for name, setting in NINE.items() if name != "VITE_IKHOKHA_TIMEOUT"}
    short["VITE_IKHOKHA_API_KEY"] = {"type": "text"}
    made = production(tmp_path, {"settings": short})
    finding = await ask(CHECKS["settings.valid"], made)
    assert finding.verdict is Verdict.FAIL
    assert "VITE_IKHOKHA_TIMEOUT: {type: milliseconds}" in finding.remedy
    assert "declare VITE_IKHOKHA_API_KEY with `type: secret`" in finding.remedy
    short["VITE_IKHOKHA_API_KEY"] = {"type": "secret"}
    unused = await ask(
        CHECKS["settings.valid"], production(tmp_path, {"settings": short}), unused=("VITE_IKHOKHA_TIMEOUT",)
    )
    assert unused.verdict is Verdict.PASS


async def test_a_number_without_a_range_is_advised_against(tmp_path: Path) -> None:
    """A time limit of any length is valid only by name."""
    open_end = {**NINE, "VITE_IKHOKHA_TIMEOUT": {"type": "milliseconds", "default": 45000}}
    finding = await ask(CHECKS["settings.valid"], production(tmp_path, {"settings": open_end}))
    assert (finding.verdict, "VITE_IKHOKHA_TIMEOUT has no range" in finding.reason) == (Verdict.ADVICE, True)


async def test_sources_that_disagree_are_advised_against(tmp_path: Path) -> None:
    """A variable of the shell that takes the place of another value is never silent."""
    made = production(tmp_path)
    url = SettingValue("VITE_IKHOKHA_API_URL", "https://api.ikhokha.com", "environment (told)", (".env.production:2",))
    settings = replace(made.settings, values={**made.settings.values, "VITE_IKHOKHA_API_URL": url})
    finding = await ask(CHECKS["settings.valid"], replace(made, settings=settings))
    assert (finding.verdict, "VITE_IKHOKHA_API_URL is from environment (told)" in finding.reason) == (
        Verdict.ADVICE,
        True,
    )


EXTRA = ("prod-eu", "pre-production")


@pytest.mark.parametrize(
    ("environment", "value", "verdict"),
    [
        ("production", "false", Verdict.PASS),
        ("production", "true", Verdict.FAIL),
        ("production", "False", Verdict.FAIL),
        ("production", "", Verdict.FAIL),
        ("prod-eu", "true", Verdict.FAIL),
        ("pre-production", "true", Verdict.ADVICE),
        ("sandbox", "true", Verdict.FAIL),
        ("staging", "true", Verdict.ADVICE),
        ("staging", "yes", Verdict.FAIL),
    ],
)
async def test_test_mode(tmp_path: Path, environment: str, value: str, verdict: Verdict) -> None:
    """Only `false` is off; an environment that lists `true` itself is advised, unless it is named for production."""
    both = {"allowed": {"VITE_IKHOKHA_TEST_MODE": ["true", "false"]}, "settings_from": ["environment"]}
    more = {name: {"url": URL, "target": {"kind": "local", "path": name}, **both} for name in EXTRA}
    made = production(tmp_path, environments(**more), environment, VITE_IKHOKHA_TEST_MODE=value)
    finding = await ask(CHECKS["settings.test_mode_off"], made)
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
        ({"url": "https://100.64.0.7"}, "private network"),
        ({"url": "sandbox"}, "sandbox"),
        ({"settings_from": [{"dotenv": ".env.staging"}]}, "named for staging"),
        ({"settings_from": ["environment", {"dotenv": "config/development.env"}]}, "named for development"),
        ({"settings_from": [{"dotenv": ".tollgate/sandbox/settings.env"}]}, "named for sandbox"),
        ({"settings_from": [{"dotenv": "/etc/shop/.env.example"}]}, "named for example"),
        ({"settings_from": [{"dotenv": ".env.local"}]}, "named for local"),
        ({"settings_from": [{"dotenv": "./.env"}]}, "reads the same settings file .env"),
        (
            {"settings_from": [{"command": ["/usr/local/bin/vault", "kv", "secret/staging"]}]},
            "arguments name staging",
        ),
        ({"settings_from": [{"command": ["vault", "-path=kv/dev"]}]}, "arguments name dev"),
        ({"target": {"kind": "local", "path": "/srv/staging"}}, "same target"),
        ({"allowed": {"VITE_NODE_ENV": ["staging"]}}, "VITE_NODE_ENV"),
    ],
)
async def test_names_of_another_environment_are_refused(tmp_path: Path, changed: dict[str, Any], word: str) -> None:
    """Production takes neither address, nor target, nor settings that are named for another environment."""
    other = {
        "url": "https://a.betaskill.com",
        "target": {"kind": "local", "path": "a"},
        "settings_from": [{"dotenv": ".env"}],
    }
    made = production(tmp_path, environments(production=changed, other=other))
    finding = await ask(CHECKS["settings.names_fit_environment"], made)
    assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding


@pytest.mark.parametrize("name", ["VITE_NODE_ENV", "VITE_IKHOKHA_TEST_MODE"])
async def test_what_was_pasted_under_the_wrong_name_is_not_shown(tmp_path: Path, name: str) -> None:
    """A value that is no short word may be a credential of anybody."""
    value = random_text()
    for check in GATES[1:]:
        finding = await ask(CHECKS[check], production(tmp_path, **{name: value}))
        assert value not in repr(finding)
    shown = await ask(CHECKS["settings.names_fit_environment"], production(tmp_path, VITE_NODE_ENV="staging"))
    assert "'staging'" in shown.reason


@pytest.mark.parametrize("environment", ["production", "prod-eu", "live2", "prd"])
async def test_no_list_lets_production_run_in_a_development_mode(tmp_path: Path, environment: str) -> None:
    """`allowed` of an environment that is named for production cannot say otherwise."""
    other = {**SPEC["environments"]["production"], "allowed": {"VITE_NODE_ENV": ["development", "production"]}}
    spec = {"environments": {environment: other}}
    check = CHECKS["settings.names_fit_environment"]
    for mode, verdict in (("production", Verdict.PASS), ("development", Verdict.FAIL)):
        finding = await ask(check, production(tmp_path, spec, environment, VITE_NODE_ENV=mode))
        assert finding.verdict is verdict, finding


async def test_vites_own_name_for_a_file_that_git_does_not_take_is_right(tmp_path: Path) -> None:
    """`.env.production.local` belongs to production; `.env.local` belongs to whoever works there."""
    check = CHECKS["settings.names_fit_environment"]
    for file, verdict in ((".env.production.local", Verdict.PASS), (".env.local", Verdict.FAIL)):
        spec = environments(production={"settings_from": [{"dotenv": file}]})
        assert (await ask(check, production(tmp_path, spec))).verdict is verdict


@pytest.mark.parametrize(
    "shared", [{"url": "https://APP.shop.co.za"}, {"target": {"kind": "local", "path": "/srv/x/"}}]
)
async def test_one_place_spelt_in_two_ways_is_one_place(tmp_path: Path, shared: dict[str, Any]) -> None:
    """A slash at the end, or capitals in a host, make no other address and no other target."""
    here = {"url": "https://app.shop.co.za", "target": {"kind": "local", "path": "/srv/x"}}
    other = {"url": "https://b.shop.co.za", "target": {"kind": "local", "path": "b"}, "settings_from": ["environment"]}
    made = production(tmp_path, environments(production=here, other={**other, **shared}))
    finding = await ask(CHECKS["settings.names_fit_environment"], made)
    assert (finding.verdict, "environment other has the same" in finding.reason) == (Verdict.FAIL, True), finding


async def test_a_command_that_reads_production_itself_is_right(tmp_path: Path) -> None:
    """Where programs lie and what they are called says nothing of an environment."""
    command = {"command": ["/usr/local/bin/vault", "test", "--config=/usr/local/etc/v.hcl", "secret/production"]}
    made = production(tmp_path, environments(production={"settings_from": [command]}))
    finding = await ask(CHECKS["settings.names_fit_environment"], made)
    assert finding.verdict is Verdict.PASS, finding


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
