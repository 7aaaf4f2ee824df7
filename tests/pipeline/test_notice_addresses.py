"""The addresses of notices: whether one can be right, what in it is secret, and that nothing of it leaves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.loader import load
from pipeline.notice_addresses import SCHEMES, hide, secrets_in, wrong_with
from pipeline.secrets import Redactor, Secret
from pipeline.settings import Settings
from pipeline.sources import resolve
from tests.pipeline.standin import EXAMPLE, NAMES
from tests.pipeline.test_sources import good

_ASK = """
import apprise
from apprise.manager_plugins import NotificationManager
print(" ".join(sorted(NotificationManager().schemas())))
"""


def test_every_scheme_that_apprise_speaks_is_known() -> None:
    """No address that Apprise would take is refused for its scheme, and none that it would not take passes."""
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True)
    assert set(asked.stdout.split()) == SCHEMES


def test_apprise_is_loaded_by_the_process_that_sends_alone() -> None:
    """Commands that list, judge or deploy start as fast as ever, and no log of Apprise reaches their output."""
    home = Path(__file__).resolve().parents[2]
    rooms = ("pipeline", "checks", "rollback", "targets", "gateways", "sandbox")
    sources = [*home.glob("*.py"), *(path for room in rooms for path in (home / room).rglob("*.py"))]
    loading = [path.name for path in sources if re.search(r"^\s*(import|from) apprise", path.read_text("utf-8"), re.M)]
    assert loading == ["notice_sender.py"]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("slack://TokenA/TokenB/TokenC", ""),
        ("https://hooks.slack.com/services/T1/B1/x", ""),
        ("MAILTO://a:b@shop.test", ""),
        ("slak://TokenA/TokenB", "the scheme slak, which nothing is known by; did you mean slack://?"),
        ("slack://", "8 characters without a scheme or without what follows it"),
        ("T0kenT0kenT0ken", "15 characters without a scheme or without what follows it"),
        ("slack://Token A/x", "17 characters with a blank among them"),
        ("T0kenT0kenT0ken://x", "the scheme of 15 characters, which nothing is known by"),
    ],
)
def test_what_is_wrong_with_an_address_is_told_without_it(address: str, found: str) -> None:
    """A slip of the pen is found before a notice is needed, and no part of a key is printed."""
    assert wrong_with(Secret(address)) == found


@pytest.mark.parametrize(
    ("address", "secret", "open_"),
    [
        ("slack://botname@T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkc/#channel", ["T1JJ3T3L2", "TIiajkdnlazkc"], ["channel"]),
        ("json://ops:correct-horse@127.0.0.1:80/api/webhooks/x", ["correct-horse"], ["/api/webhooks", "127.0.0.1"]),
        ("mailtos://ops:p%40ssw0rd%21@smtp.shop.test?to=on@shop.test", ["p%40ssw0rd%21", "p@ssw0rd!"], ["shop.test"]),
        ("tgram://123456789:ABC-defGHI/77", ["123456789", "ABC-defGHI"], []),
        ("ntfy://averylongtopicthatnobodyguesses", ["averylongtopicthatnobodyguesses"], []),
    ],
)
def test_keys_in_an_address_are_redacted_and_names_are_not(address: str, secret: list[str], open_: list[str]) -> None:
    """What opens a door is redacted wherever it stands; a host or a word of the address stays readable elsewhere."""
    redactor = Redactor(secrets_in(Secret(address)))
    assert [redactor.text(f"<{part}>") for part in secret] == ["<[redacted]>"] * len(secret)
    assert [redactor.text(part) for part in open_] == open_


def test_what_was_said_of_an_address_does_not_hold_it() -> None:
    """However short a password is, the error that is kept does not repeat it."""
    address = Secret("json://ops:pw12@127.0.0.1/T0pS3cretKey")
    assert hide("401 for ops with pw12 at 127.0.0.1/T0pS3cretKey", address) == (
        "401 for ops with [redacted] at 127.0.0.1/[redacted]"
    )


# ---- as settings are resolved --------------------------------------------------------------------------------


async def resolved(tmp_path: Path, **variables: str) -> Settings:
    """Settings of production, whose pipeline.yaml names two who are told."""
    text = EXAMPLE.read_text("utf-8")
    at = "  production:\n"
    notices = "    notices: [{to: ops, address_from: NOTICE_OPS}, {to: boss, address_from: NOTICE_BOSS}]\n"
    assert text.count(at) == 1
    (tmp_path / "pipeline.yaml").write_text(text.replace(at, at + notices), "utf-8")
    spec = load(tmp_path / "pipeline.yaml", NAMES)
    return await resolve(
        spec, "production", root=tmp_path, process_environment={**good(), **variables}, gateway_address=None, run=None
    )


async def test_addresses_come_from_the_environments_sources_and_are_no_settings(tmp_path: Path) -> None:
    """An address is found where settings are, is redacted, and is not among what a service is started with."""
    found = await resolved(
        tmp_path, NOTICE_OPS="slack://T0kenAAAA/T0kenBBBB/T0kenCCCC", NOTICE_BOSS="mailto://b@c.test"
    )
    assert found.mistakes == ()
    assert {name: value.source for name, value in found.addresses.items()} == {
        "NOTICE_OPS": "environment",
        "NOTICE_BOSS": "environment",
    }
    assert not {"NOTICE_OPS", "NOTICE_BOSS"} & set(found.values)
    assert Redactor(found.secrets()).text("at T0kenBBBB") == "at [redacted]"
    assert "T0ken" not in repr(found)


async def test_an_address_that_is_missing_or_malformed_is_a_mistake_with_its_fix(tmp_path: Path) -> None:
    """Who cannot be told is named before the deploy, with the variable to set."""
    found = await resolved(tmp_path, NOTICE_OPS="slak://T0kenAAAA/x")
    ops, boss = found.mistakes
    assert (ops.name, ops.where) == ("NOTICE_OPS", "environment")
    assert "did you mean slack://?" in ops.found and "docs/notices.md" in ops.remedy
    assert boss.found == "no value in any source"
    assert boss.remedy == "set NOTICE_BOSS in the environment, or take boss out of environments.production.notices"
    assert "T0kenAAAA" not in repr(found.mistakes)
