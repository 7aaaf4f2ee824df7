"""The page on notices: its example loads, its table is the code's, and its addresses are of services that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import wiring
from pipeline.loader import load
from pipeline.notice_addresses import wrong_with
from pipeline.notice_post import LIMIT_S
from pipeline.notice_words import TEMPLATES
from pipeline.notices import SETTLE_S
from pipeline.secrets import Secret
from pipeline.spec import Notice, NoticeEvent

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "notices.md").read_text("utf-8")
ADDRESSES = re.findall(r"^\| [^|]+ \| `([a-z]+://[^`]+)` \|$", PAGE, re.MULTILINE)
_ASK = """
import json, sys, apprise
print(json.dumps([apprise.Apprise.instantiate(address) is not None for address in json.loads(sys.argv[1])]))
"""


def test_the_example_is_a_pipeline(tmp_path: Path) -> None:
    """What a reader copies into pipeline.yaml is accepted, with the defaults that the table tells."""
    example = re.findall(r"^```yaml\n.*?^(    notices:\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    shipped = (ROOT / "pipeline.yaml").read_text("utf-8")
    at = "    url: https://app.betaskill.com\n"
    assert shipped.count(at) == 1
    (tmp_path / "pipeline.yaml").write_text(shipped.replace(at, at + example), "utf-8")
    spec = load(tmp_path / "pipeline.yaml", wiring.names(wiring.catalogue()))
    named = {one.to: one.on for one in spec.environments["production"].notices}
    assert named["on-call"] == ("person needed", "reopened")
    assert named["ops-slack"] == Notice(to="x", address_from="X").on


def test_every_event_is_told_and_has_its_words() -> None:
    """The table names every event once, says which are told by default, and each has a template of its own."""
    rows = re.findall(r"^\| `([a-z ]+)` \| [^|]+ \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert [event for event, _ in rows] == list(get_args(NoticeEvent))
    assert tuple(event for event, default in rows if default == "yes") == Notice(to="x", address_from="X").on
    for event in get_args(NoticeEvent):
        assert (TEMPLATES / f"{event.replace(' ', '_')}.txt.j2").is_file()


def test_the_limits_are_those_of_the_code() -> None:
    """How long a notice may hold up the end of a command is what the page says."""
    assert f"within {LIMIT_S:g} s" in PAGE
    assert f"{SETTLE_S:g} s at most" in PAGE


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_of_the_page_is_a_mistake(address: str) -> None:
    """Each example has a form that `config-check` accepts, and holds no real key."""
    assert wrong_with(Secret(address)) == ""


def test_apprise_understands_the_addresses_of_the_page() -> None:
    """With keys of the right shape in place of its words, each example is an address that Apprise takes."""
    made = [_with_keys(address) for address in ADDRESSES]
    asked = subprocess.run([sys.executable, "-c", _ASK, json.dumps(made)], capture_output=True, text=True, check=True)
    assert len(made) >= 5
    assert [address for address, good in zip(made, json.loads(asked.stdout), strict=True) if not good] == []


def _with_keys(address: str) -> str:
    keys = {"TokenA": "T1JJ3T3L2", "TokenB": "A1BRTD4JD", "TokenC": "TIiajkdnlazkcOXrIdevi7FQ"}
    keys |= {"HOST": "prod.shop.test", "WORKFLOW": "a" * 32, "SIGNATURE": "b" * 43}
    keys |= {"INTEGRATION_KEY": "c" * 32, "API_KEY": "d" * 20, "USER": "ops", "PASSWORD": "made-up"}
    for word, key in keys.items():
        address = address.replace(word, key)
    return address
