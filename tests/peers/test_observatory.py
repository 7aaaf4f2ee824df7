"""Our verdicts on headers, cookies and policies beside those of MDN's HTTP Observatory, on the same served pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from checks import pages_cookies_safe, pages_csp_strict, pages_headers_safe
from pipeline.facts import Facts
from pipeline.spec import Spec
from pipeline.verdict import Verdict
from sandbox import authority
from tests.checks.sites import CSP, Reply, Site, serving, trusting
from tests.checks.worlds import ask
from tests.peers.peers import HERE, needs_node_20, needs_peers, node

pytestmark = [needs_peers, needs_node_20]

HEADERS, COOKIES, POLICY = "headers", "cookies", "policy"
CHECKS = {HEADERS: pages_headers_safe.CHECK, COOKIES: pages_cookies_safe.CHECK, POLICY: pages_csp_strict.CHECK}
THEIRS = {
    HEADERS: (
        "strict-transport-security",
        "x-content-type-options",
        "x-frame-options",
        "referrer-policy",
        "cross-origin-resource-policy",
    ),
    COOKIES: ("cookies",),
    POLICY: ("content-security-policy",),
}

Sent = Mapping[str, str | Sequence[str] | None]


@dataclass(frozen=True)
class Variant:
    """A page. `differs` gives, for each kind on which the two disagree, the reason; they agree on the others."""

    name: str
    sent: Sent = field(default_factory=dict)
    body: str = "<!doctype html><title>page</title>"
    differs: Mapping[str, str] = field(default_factory=dict)


STRICT = "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_FORMS = "we require form-action and base-uri, the Observatory does not"

VARIANTS = (
    Variant("careful"),
    Variant("no headers at all", dict.fromkeys(("Content-Security-Policy", "Strict-Transport-Security"))),
    Variant("hsts of one day", {"Strict-Transport-Security": "max-age=86400"}),
    Variant("hsts of 180 days", {"Strict-Transport-Security": "max-age=15552000; includeSubDomains"}),
    Variant("hsts without an age", {"Strict-Transport-Security": "includeSubDomains"}),
    Variant(
        "hsts twice, the first good",
        {"Strict-Transport-Security": ["max-age=31536000; includeSubDomains", "max-age=0"]},
        differs={HEADERS: "browsers take the first header (RFC 6797, 8.1); the Observatory refuses two"},
    ),
    Variant(
        "hsts with an age twice",
        {"Strict-Transport-Security": "max-age=31536000; max-age=31536000"},
        differs={HEADERS: "a directive given twice makes the header invalid (RFC 6797, 6.1); the Observatory takes it"},
    ),
    Variant("sniffing", {"X-Content-Type-Options": None}),
    Variant(
        "nosniff among others",
        {"X-Content-Type-Options": "nosniff, none"},
        differs={HEADERS: "browsers take the first value (Fetch); the Observatory wants no other"},
    ),
    Variant(
        "framed by anybody",
        {"X-Frame-Options": None, "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'self'"},
        differs={POLICY: "we require frame-ancestors in the policy, the Observatory takes X-Frame-Options as well"},
    ),
    Variant(
        "framed by anybody, says the policy",
        {
            "X-Frame-Options": None,
            "Content-Security-Policy": CSP.replace("frame-ancestors 'none'", "frame-ancestors *"),
        },
        differs={POLICY: "we refuse frame-ancestors for everybody, the Observatory only asks for the directive"},
    ),
    Variant(
        "frames by an old word",
        {"X-Frame-Options": "ALLOW-FROM https://a.test", "Content-Security-Policy": CSP.rpartition(";")[0]},
        differs={
            HEADERS: "no browser of today knows ALLOW-FROM, so anybody may frame the page; the Observatory passes it",
            POLICY: "we require frame-ancestors in the policy",
        },
    ),
    Variant("referrer told to all", {"Referrer-Policy": "unsafe-url"}),
    Variant("no referrer policy", {"Referrer-Policy": None}),
    Variant("referrer by the last known word", {"Referrer-Policy": "unsafe-url, strict-origin, later"}),
    Variant(
        "resources for all",
        {"Cross-Origin-Resource-Policy": "cross-origin"},
    ),
    Variant(
        "a shared cache",
        {"Cache-Control": "public, max-age=600"},
        differs={HEADERS: "the Observatory does not look at Cache-Control"},
    ),
    Variant("a version", {"Server": "nginx/1.25.3"}, differs={HEADERS: "the Observatory does not look at versions"}),
    Variant("a careful cookie", {"Set-Cookie": "__Host-session=1; Secure; HttpOnly; SameSite=Lax; Path=/"}),
    Variant(
        "a cookie without Secure",
        {"Set-Cookie": "theme=1; SameSite=Lax"},
    ),
    Variant("a session that scripts read", {"Set-Cookie": "session=1; Secure; SameSite=Lax"}),
    Variant(
        "a session without SameSite",
        {"Set-Cookie": "session=1; Secure; HttpOnly"},
        differs={COOKIES: "we require SameSite on sessions, the Observatory gives extra credit for it"},
    ),
    Variant("a SameSite that is none", {"Set-Cookie": "session=1; Secure; HttpOnly; SameSite=Sometimes"}),
    Variant("only reported", {"Content-Security-Policy": None, "Content-Security-Policy-Report-Only": CSP}),
    Variant("inline scripts", {"Content-Security-Policy": f"default-src 'none'; script-src 'unsafe-inline'; {STRICT}"}),
    Variant("scripts by scheme", {"Content-Security-Policy": f"default-src 'none'; script-src https:; {STRICT}"}),
    Variant(
        "eval",
        {"Content-Security-Policy": f"default-src 'none'; script-src 'self' 'unsafe-eval'; {STRICT}"},
        differs={POLICY: "csp_evaluator says perhaps medium, which is advice here; the Observatory fails it"},
    ),
    Variant(
        "a host of known bypasses",
        {"Content-Security-Policy": f"default-src 'none'; script-src https://ajax.googleapis.com; {STRICT}"},
        differs={POLICY: "csp_evaluator knows what that host serves, the Observatory does not"},
    ),
    Variant(
        "styles inline",
        {"Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; {STRICT}"},
    ),
    Variant(
        "no form-action",
        {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"},
        differs={POLICY: _FORMS},
    ),
    Variant(
        "a nonce that never changes",
        {"Content-Security-Policy": f"default-src 'none'; script-src 'nonce-0123456789ab'; {STRICT}"},
        differs={POLICY: "we ask twice, and a nonce is for one answer; the Observatory looks at one"},
    ),
    Variant("a hash", {"Content-Security-Policy": f"default-src 'none'; script-src 'sha256-{'A' * 43}='; {STRICT}"}),
    Variant(
        "two policies",
        {"Content-Security-Policy": ["script-src 'unsafe-inline'; object-src 'none'", CSP]},
        differs={
            POLICY: "a strict policy closes what a loose one leaves; the Observatory takes no directive in two policies"
        },
    ),
    Variant(
        "a policy in the page",
        {"Content-Security-Policy": None},
        body="<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; base-uri 'none'\">",
        differs={POLICY: "a meta element is weaker than a header, so we refuse it alone; the Observatory takes it"},
    ),
)


def test_differences_from_the_observatory_are_known(tmp_path: Path) -> None:
    """On each page the two agree, but for the differences that are listed with their reasons."""
    certificates = authority.ensure(tmp_path / "tls", datetime.now(UTC))
    paths = {f"/page-{number}": variant for number, variant in enumerate(VARIANTS)}
    site = Site({path: Reply(variant.body, headers=variant.sent) for path, variant in paths.items()})

    async def judged() -> tuple[dict[str, dict[str, Verdict]], dict[str, dict[str, dict[str, object]]]]:
        async with serving(certificates, site) as address:
            made = trusting(certificates, tmp_path, address)
            ours = {}
            for path in paths:
                contract = {"pages": [path], "success_page": path, "failure_page": path, "cancel_page": path}
                spec: Spec = made.spec.model_copy(
                    update={"contract": made.spec.contract.model_copy(update={**contract, "pages": (path,)})}
                )
                here = replace(made, spec=spec, facts=Facts())
                ours[path] = {kind: (await ask(check, here)).verdict for kind, check in CHECKS.items()}
            theirs = await asyncio.to_thread(
                node,
                "observatory.mjs",
                given={"port": urlsplit(address).port, "paths": list(paths)},
                NODE_EXTRA_CA_CERTS=str(certificates.ca),
            )
            return ours, theirs

    ours, theirs = asyncio.run(judged())
    surprises, agreed = [], {kind: {True: 0, False: 0} for kind in CHECKS}
    for path, variant in paths.items():
        for kind in CHECKS:
            mine = ours[path][kind].promotes
            peer = all(theirs[path][name]["pass"] for name in THEIRS[kind])
            if mine == peer:
                agreed[kind][mine] += 1
            if (mine == peer) is (kind in variant.differs):
                results = {name: theirs[path][name]["result"] for name in THEIRS[kind]}
                surprises.append(f"{variant.name}, {kind}: ours {ours[path][kind]}, theirs {results}")
    assert surprises == []
    assert all(agreed[kind][passed] >= 2 for kind in CHECKS for passed in (True, False)), agreed


def test_the_differences_are_in_the_documents() -> None:
    """docs/peers.md lists every difference that the comparison knows, and no other."""
    document = (HERE.parent.parent / "docs" / "peers.md").read_text("utf-8")
    rows = [line for line in document.splitlines() if line.startswith("| ") and not line.startswith("| page")]
    assert rows == rows_of_the_table()


def rows_of_the_table() -> list[str]:
    return [f"| {v.name} | {kind} | {reason} |" for v in VARIANTS for kind, reason in v.differs.items()]
