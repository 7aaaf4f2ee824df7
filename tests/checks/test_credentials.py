"""The gates over credentials: real ones, accepted ones, ones that were tried first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checks import credentials_accepted_by_gateway, credentials_not_placeholders, credentials_tried_in_staging
from checks.facts.credentials import SHIPPED, Strength, burnt, problems
from checks.judging import Unjudged
from gateways import GATEWAYS
from pipeline import exposed
from pipeline.clock import SystemClock
from pipeline.contracts import Addresses, GatewayPayment, World
from pipeline.errors import GatewayRefused
from pipeline.secrets import Secret
from pipeline.spec import Contract
from pipeline.verdict import Verdict
from tests.checks.production import days_ago, environments, found, production, remembering
from tests.checks.worlds import URL, QuickClock, ask, random_text, world
from tests.pipeline.standin import FUZZ
from tests.sandbox.gateway_rig import Rig, rig, settings

REAL = credentials_not_placeholders.CHECK
ACCEPTED = credentials_accepted_by_gateway.CHECK
TRIED = credentials_tried_in_staging.CHECK


# ---- credentials.not_placeholders ---------------------------------------------------------------------------


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
        "hunterhunterhunterhunt",
        "mysecretkey12345",
        "ikhokha-webhook-secret-2024",
        "SuperSecretApiKey!!",
        "ABCDEFGHIJKLMNOPQRST",
        "sk_test_9fK2mQx7LpT4vR8w",
        "'9fK2mQx7LpT4vR8w'",
        "VITE_IKHOKHA_API_KEY=9fK2mQx7LpT4vR8w",
        "k7Gq2mZ",
        "****************",
    ],
)
def test_placeholders_are_recognised(value: str) -> None:
    """A sample, a template, filler, made of words, pasted with its name, short or repeating: no credential."""
    assert problems(value, frozenset(), Strength())


def test_random_credentials_are_not_mistaken_for_placeholders() -> None:
    """No false alarm on two thousand random credentials in the forms gateways give out."""
    for _ in range(1000):
        for value in (random_text(), "IK" + random_text()[:30].upper()):
            assert not problems(value, frozenset(), Strength())


@hypothesis_settings(FUZZ, max_examples=150)
@given(st.text(max_size=60) | st.lists(st.sampled_from(["key", "api", "secret", "pass", "word", "x"])).map("".join))
def test_any_value_is_judged(value: str) -> None:
    """No text makes the judgement of a credential raise or run away, and no finding repeats it."""
    told = problems(value, frozenset(), Strength())
    assert all(len(value) < 8 or value not in one for one in told)


def test_a_long_chain_of_words_is_judged_at_once() -> None:
    """A value made to send a pattern into endless tries is judged in one pass."""
    assert problems("apikey-password" * 2000, frozenset(), Strength())
    assert not problems(random_text() + "apikey-password" * 2000 + "zq", frozenset(), Strength())
    assert not problems("apikey-password" * 2000 + random_text(), frozenset(), Strength())


def test_published_credentials_are_refused() -> None:
    """A credential whose hash is on a list is burnt, with the blanks that were pasted along as well."""
    value = random_text()
    known = frozenset({exposed.hashed(value)})
    assert problems(value, known, Strength()) == ("it was published and is burnt",)
    assert problems(f" {value}\n", known, Strength()) == ("it was published and is burnt",)
    assert not problems(value, exposed.parse(SHIPPED.read_text("utf-8")).hashes, Strength())


async def test_the_teams_own_list_counts(tmp_path: Path) -> None:
    """What `expose` wrote beside pipeline.yaml blocks from the next run on."""
    value = random_text()
    made = production(tmp_path, VITE_IKHOKHA_API_KEY=Secret(value))
    assert (await ask(REAL, made)).verdict is Verdict.PASS
    exposed.add(tmp_path / exposed.FILE, value, "in a screenshot", on=SystemClock().now().date())
    finding = await ask(REAL, production(tmp_path, VITE_IKHOKHA_API_KEY=Secret(value)))
    assert finding.verdict is Verdict.FAIL
    assert "burnt" in finding.reason
    assert "revoke" in finding.remedy
    assert await burnt(made) == exposed.parse(SHIPPED.read_text("utf-8")).hashes
    both = await burnt(production(tmp_path))
    assert both == exposed.parse(SHIPPED.read_text("utf-8")).hashes | {exposed.hashed(value)}


@pytest.mark.parametrize("content", [b"not a hash\n", b"\xff\n"])
async def test_a_list_that_cannot_be_read_is_no_pass(tmp_path: Path, content: bytes) -> None:
    """With a broken list nobody knows what is burnt; its line is named and not shown."""
    (tmp_path / exposed.FILE).write_bytes(content)
    finding = await ask(REAL, production(tmp_path))
    assert (finding.verdict, finding.places[0].file, finding.places[0].line) == (Verdict.ERROR, exposed.FILE, 1)
    assert "not a hash" not in finding.reason


async def test_findings_on_credentials_do_not_show_them(tmp_path: Path) -> None:
    """A refused credential is named by its setting and source; no part of the value is printed."""
    finding = await ask(REAL, production(tmp_path, VITE_IKHOKHA_API_KEY=Secret("your-Zq8-here")))
    assert finding.verdict is Verdict.FAIL
    assert "API key invalid or missing: VITE_IKHOKHA_API_KEY (dotenv .env:3)" in finding.reason
    assert "Zq8" not in repr(finding)


async def test_a_missing_credential_is_told(tmp_path: Path) -> None:
    """A credential that no source has is named with the words of the troubleshooting guide."""
    finding = await ask(REAL, production(tmp_path, VITE_IKHOKHA_API_KEY=None))
    assert finding.verdict is Verdict.FAIL
    assert "API key invalid or missing: VITE_IKHOKHA_API_KEY (no source): it is empty" in finding.reason


async def test_equal_secrets_are_a_note(tmp_path: Path) -> None:
    """For iKhokha one secret signs both ways: equal secrets pass, with a note."""
    finding = await ask(REAL, production(tmp_path))
    assert finding.verdict is Verdict.PASS
    assert "whose one secret signs both ways" in str(finding.evidence["notes"])


async def test_equal_secrets_fail_where_a_gateway_has_two(tmp_path: Path) -> None:
    """A gateway outside the table of one-secret schemes signs each way with a secret of its own."""
    finding = await ask(REAL, production(tmp_path, {"gateway": "other"}))
    assert finding.verdict is Verdict.FAIL
    assert "VITE_IKHOKHA_API_SECRET and VITE_IKHOKHA_WEBHOOK_SECRET have the same value" in finding.reason
    own = production(tmp_path, {"gateway": "other"}, VITE_IKHOKHA_WEBHOOK_SECRET=Secret(random_text()))
    assert (await ask(REAL, own)).verdict is Verdict.PASS


async def test_a_key_that_is_the_secret_is_refused(tmp_path: Path) -> None:
    """The key travels in clear beside each signature: a secret equal to it is none."""
    same = Secret(random_text())
    made = production(
        tmp_path, VITE_IKHOKHA_API_KEY=same, VITE_IKHOKHA_API_SECRET=same, VITE_IKHOKHA_WEBHOOK_SECRET=same
    )
    finding = await ask(REAL, made)
    assert (finding.verdict, "have the same value" in finding.reason) == (Verdict.FAIL, True)


async def test_a_webhook_secret_of_its_own_is_refused_for_ikhokha(tmp_path: Path) -> None:
    """iKhokha signs webhooks with the Application Secret: another one would refuse every real webhook."""
    finding = await ask(REAL, production(tmp_path, VITE_IKHOKHA_WEBHOOK_SECRET=Secret(random_text())))
    assert finding.verdict is Verdict.FAIL
    assert finding.reason.startswith("Webhook signature mismatch: ")


async def test_a_spec_without_secrets_judges_no_credential(tmp_path: Path) -> None:
    """Nothing declared is not a pass."""
    made = world(tmp_path, values={"A": "b"}, spec={"settings": {"A": {"type": "text"}}})
    assert (await ask(REAL, made)).verdict is Verdict.INCONCLUSIVE


async def test_an_empty_list_of_exposed_credentials_clears_none(tmp_path: Path) -> None:
    """The list that ships with Tollgate is never empty: one that is was lost."""
    lost = tmp_path / "lost.txt"
    lost.write_text("# nothing but words\n")
    with pytest.raises(Unjudged, match="the list is empty"):
        await burnt(production(tmp_path), lost)


# ---- credentials.accepted_by_gateway ------------------------------------------------------------------------


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as made:
        yield made


def signing(base: World, served: Rig, address: str = "", **changes: str) -> World:
    """The same world before the sandbox gateway, with settings changed."""
    known = settings(address or served.base, VITE_IKHOKHA_RETRY_ATTEMPTS="1", **changes)
    client = GATEWAYS["ikhokha"](known, served.http, QuickClock(), Contract())
    return replace(base, settings=known, gateway=client, addresses=Addresses(served.base, address or served.base))


async def test_the_gateway_accepts_the_right_credentials(tmp_path: Path, gateway: Rig) -> None:
    """A signed read-only call with the account's own key and secret passes."""
    finding = await ask(ACCEPTED, signing(production(tmp_path), gateway))
    assert finding.verdict is Verdict.PASS, finding


@pytest.mark.parametrize(
    "changes",
    [
        {"VITE_IKHOKHA_API_SECRET": random_text()},
        {"VITE_IKHOKHA_API_KEY": "IK" + random_text()},
        {"VITE_IKHOKHA_API_KEY": ""},
    ],
)
async def test_the_gateway_refuses_wrong_credentials(tmp_path: Path, gateway: Rig, changes: dict[str, str]) -> None:
    """A wrong secret, another account's key and a missing one fail in the words of the troubleshooting guide."""
    finding = await ask(ACCEPTED, signing(production(tmp_path), gateway, **changes))
    assert finding.verdict is Verdict.FAIL, finding
    assert finding.reason.startswith("API key invalid or missing: ")
    assert all(not value or value not in repr(finding) for value in changes.values())


async def test_a_gateway_that_is_away_accepts_nothing(tmp_path: Path, gateway: Rig) -> None:
    """Where nobody listens, and where nobody answers in time, nothing was accepted."""
    nowhere = signing(production(tmp_path), gateway, "https://127.0.0.1:9")
    assert (await ask(ACCEPTED, nowhere)).verdict is Verdict.INCONCLUSIVE
    finding = await ask(ACCEPTED, signing(production(tmp_path), gateway), within=0.0)
    assert (finding.verdict, "no answer within 0 s" in finding.reason) == (Verdict.INCONCLUSIVE, True)


class Listening:
    """A gateway that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []

    async def history(self, since: datetime, until: datetime) -> Sequence[GatewayPayment]:
        self.asked.append((since, until))
        return ()


async def test_the_call_is_small(tmp_path: Path) -> None:
    """One call, for the payments of the last minute: no list of a busy day is fetched."""
    gateway = Listening()
    made: World = replace(production(tmp_path), gateway=gateway)  # type: ignore[arg-type]
    assert (await ask(ACCEPTED, made)).verdict is Verdict.PASS
    [(since, until)] = gateway.asked
    assert (until - since).total_seconds() == 60


class Refusing:
    """A gateway that refuses for a reason of its own."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def history(self, _since: object, _until: object) -> object:
        raise GatewayRefused("GET history: refused", "wait", status=self.status)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (401, Verdict.FAIL),
        (403, Verdict.FAIL),
        (404, Verdict.INCONCLUSIVE),
        (429, Verdict.INCONCLUSIVE),
        (500, Verdict.INCONCLUSIVE),
    ],
)
async def test_only_a_refusal_of_who_asks_is_about_credentials(tmp_path: Path, status: int, verdict: Verdict) -> None:
    """A gateway that is overloaded or at another address has judged no credential."""
    made: World = replace(production(tmp_path), gateway=Refusing(status))  # type: ignore[arg-type]
    assert (await ask(ACCEPTED, made)).verdict is verdict


# ---- credentials.tried_in_staging ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trials", "verdict", "word"),
    [
        ([], Verdict.FAIL, "has no call"),
        ([(1, Verdict.PASS)], Verdict.PASS, "accepted"),
        ([(29.9, Verdict.PASS)], Verdict.PASS, "accepted"),
        ([(30.1, Verdict.PASS)], Verdict.FAIL, "within 30 days is required"),
        ([(1, Verdict.FAIL), (2, Verdict.PASS)], Verdict.FAIL, "refused"),
        ([(1, Verdict.PASS), (2, Verdict.FAIL)], Verdict.PASS, "accepted"),
        ([(1, Verdict.INCONCLUSIVE), (2, Verdict.PASS)], Verdict.PASS, "accepted"),
        ([(1, Verdict.INCONCLUSIVE), (2, Verdict.ERROR)], Verdict.FAIL, "has no call"),
    ],
)
async def test_credentials_are_tried_in_staging_first(
    tmp_path: Path, trials: list[tuple[float, Verdict]], verdict: Verdict, word: str
) -> None:
    """The last trial that came to a judgement must have passed, and not long ago; else the command to run is told."""
    made = production(tmp_path)
    past = [found(ACCEPTED.name, one, days_ago(made, days)) for days, one in trials]
    finding = await ask(TRIED, remembering(made, staging=past))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding
    assert verdict is Verdict.PASS or "./inv validate --env staging" in finding.remedy


async def test_a_trial_elsewhere_does_not_count(tmp_path: Path) -> None:
    """The record of production says nothing of staging; staging itself is where the trial is."""
    made = production(tmp_path)
    passes = [found(ACCEPTED.name, Verdict.PASS, days_ago(made, 1))]
    assert (await ask(TRIED, remembering(made, production=passes))).verdict is Verdict.FAIL
    assert (await ask(TRIED, production(tmp_path, environment="staging"))).verdict is Verdict.SKIPPED


async def test_a_trial_that_proves_nothing_does_not_count(tmp_path: Path) -> None:
    """The sandbox's gateway accepts its own credentials, and a record of tomorrow was written by a wrong clock."""
    made = production(tmp_path)
    passes = [found(ACCEPTED.name, Verdict.PASS, days_ago(made, 1))]
    assert (await ask(TRIED, remembering(made, sandbox=passes), environment="sandbox")).verdict is Verdict.FAIL
    ahead = [found(ACCEPTED.name, Verdict.PASS, days_ago(made, -400))]
    assert (await ask(TRIED, remembering(made, staging=ahead))).verdict is Verdict.INCONCLUSIVE


async def test_an_environment_that_is_not_there_is_no_trial(tmp_path: Path) -> None:
    """A name that pipeline.yaml does not have is a mistake, with the nearest one that it has."""
    finding = await ask(TRIED, production(tmp_path), environment="stageing")
    assert (finding.verdict, "did you mean staging?" in finding.remedy) == (Verdict.FAIL, True)
    uat = {"url": URL, "target": {"kind": "local", "path": "uat"}, "settings_from": ["environment"]}
    made = production(tmp_path, environments(uat=uat))
    made = remembering(made, uat=[found(ACCEPTED.name, Verdict.PASS, days_ago(made, 1))])
    assert (await ask(TRIED, made, environment="uat")).verdict is Verdict.PASS
    assert (await ask(TRIED, made)).verdict is Verdict.FAIL
