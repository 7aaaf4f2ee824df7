"""csp_evaluator in QuickJS, with our loader and our URL, against the same package in Node."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from checks.csp.evaluator import VENDORED, evaluate
from tests.peers.peers import HERE, needs_peers, node

pytestmark = needs_peers

_DIRECTIVES = (
    "default-src script-src script-src-elem script-src-attr object-src base-uri style-src img-src report-uri foo"
)
_SOURCES = """
'self' 'none' 'unsafe-inline' 'unsafe-eval' 'unsafe-hashes' 'strict-dynamic' 'nonce-abc' 'nonce-abcdefgh!' data: *
'nonce-abcdefghijkl' 'sha256-AAAA' https: http: blob: self unsafe-inline nonce-abcdefgh script-src *.googleapis.com
ajax.googleapis.com https://ajax.googleapis.com/ajax/libs/ //www.google.com/ https://*.test:* *.test http://a.test
127.0.0.1 [::1] [2001:db8::1] https://[::ffff:1.2.3.4]:8443 https://1.2.3.4/x/../y/ 'wasm-unsafe-eval' a_b.test
"""
_ODD = """
0x7f.1 a.test:99999 1.2.3.4.5 256.1.1.1 https://%61.test/%2e%2e/b https://a.test/x%zz http://[ ] % user@a.test
https:///a.test *.* https://a.test:080/ https://a.test: 01.02.03.04 4294967296 1e3.test a..test . .. a.test\\b ^a.test
[1::2::3] [::1%25x] a.test:x https://0300.1 |x https://a.test:443/./p 'sha1-AAAA' a.test:* *:* [fe80:0:0:0:0:0:0:1]:1
"""
DIRECTIVES, SOURCES, ODD = _DIRECTIVES.split(), _SOURCES.split(), _ODD.split()


def made_up(count: int) -> list[str]:
    """Policies put together of what real ones hold, one in three with what they should not hold; always the same."""
    chance = random.Random(7)  # noqa: S311  # it must be the same each time

    def directive(sources: list[str]) -> str:
        return " ".join((chance.choice(DIRECTIVES), *chance.choices(sources, k=chance.randint(0, 4))))

    pools = [SOURCES, SOURCES, [*SOURCES, *ODD]]
    return ["; ".join(directive(pools[n % 3]) for _ in range(chance.randint(1, 5))) for n in range(count)]


def test_what_is_vendored_is_what_npm_installs() -> None:
    """Every vendored module is byte for byte the one that npm installs, of the version the provenance names."""
    installed = HERE / "node_modules" / "csp_evaluator"
    for file in VENDORED.rglob("*.js"):
        name = file.relative_to(VENDORED)
        assert file.read_bytes() == (installed / "dist" / name).read_bytes(), name
    assert (VENDORED / "LICENSE").read_bytes() == (installed / "LICENSE").read_bytes()
    stated = re.search(r"sha512-\S+", (VENDORED / "PROVENANCE").read_text("utf-8"))
    assert stated
    assert stated[0] in (HERE / "package-lock.json").read_text("utf-8")


@pytest.mark.parametrize("origin", ["its own published tests", "put together"])
def test_the_same_findings_as_in_node(origin: str) -> None:
    """Every policy gets the same findings in both engines; where Node throws, we name the source that it threw on."""
    policies = node("csp.mjs", "own") if origin == "its own published tests" else made_up(400)
    policies = [policy for policy in policies if policy.isascii()]
    assert len(policies) >= 60
    differing = []
    thrown = 0
    for policy, theirs, ours in zip(policies, node("csp.mjs", given=policies), evaluate(policies), strict=True):
        found = [[w.kind, w.severity, w.directive, w.value, w.description] for w in ours.weaknesses]
        thrown += "thrown" in theirs
        same = bool(ours.unreadable) if "thrown" in theirs else found == theirs["findings"] and not ours.unreadable
        if ours.problem or not same:
            differing.append((policy, theirs, ours))
    assert differing == []
    assert (20 < thrown < 200) or origin != "put together", f"Node throws on {thrown}: too few or too many to compare"


def test_the_lock_names_no_host() -> None:
    """The lock file pins by hash alone, so that it installs from whichever registry the team uses."""
    lock = Path(HERE / "package-lock.json").read_text("utf-8")
    assert "://" not in lock
    assert lock.count('"integrity"') >= 200
