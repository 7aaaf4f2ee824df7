"""A site on loopback behind TLS that serves exactly what a test says, and the world in which it is judged."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from pipeline.contracts import PastFinding, PastRun, World
from pipeline.facts import Facts
from pipeline.verdict import Verdict
from sandbox.authority import Certificates
from tests.checks.worlds import world

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
GOOD: Mapping[str, str] = {
    "Content-Security-Policy": CSP,
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NAMED = ("/", "/success", "/failure", "/cancel")


@dataclass(frozen=True)
class Reply:
    """One answer. `headers` come after the good ones; a None takes one of those away, a list sends it several times."""

    body: str | bytes = "<!doctype html><title>page</title>"
    status: int = 200
    type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict)


@dataclass
class Site:
    """`replies` by path; other paths answer `missing`. `every` are headers of all answers. `seen` is what was asked."""

    replies: dict[str, Reply] = field(default_factory=lambda: dict.fromkeys(NAMED, Reply()))
    missing: Reply = Reply("not here", 404, "text/plain")
    every: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict)
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        self.bodies.append(await request.read())
        reply = self.replies.get(request.path_qs, self.replies.get(request.path, self.missing))
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        response = web.Response(status=reply.status, body=body)
        sent: dict[str, str | Sequence[str] | None] = {**GOOD, "Content-Type": reply.type, "Server": "shop"}
        for name, value in {**sent, **self.every, **reply.headers}.items():
            response.headers.popall(name, None)
            for one in [value] if isinstance(value, str) else value or ():
                response.headers.add(name, one)
        if "Server" not in response.headers:
            response.headers["Server"] = "shop"
        return response


@asynccontextmanager
async def serving(certificates: Certificates, site: Site) -> AsyncIterator[str]:
    """Serves until the end of the block; yields the address."""
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{rest:.*}", site.answer)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificates.server, certificates.key)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def trusting(certificates: Certificates, root: Path, service: str, spec: Mapping[str, Any] | None = None) -> World:
    """A world whose service is at that address and whose clients trust its certificate."""
    trust = ssl.create_default_context(cafile=certificates.ca)
    return world(root, service=service, gateway=service, trust=trust, spec=spec)


@asynccontextmanager
async def met(
    certificates: Certificates, root: Path, site: Site, spec: Mapping[str, Any] | None = None, **run: Any
) -> AsyncIterator[World]:
    """The world in which a check meets the site."""
    async with serving(certificates, site) as address:
        made = trusting(certificates, root, address, spec)
        yield replace(made, run=replace(made.run, **run))


@dataclass(frozen=True)
class Remembered:
    """A record with one finding."""

    finding: PastFinding

    def findings(self, check: str) -> Sequence[PastFinding]:
        return (self.finding,) if check == self.finding.check else ()

    def runs(self, verb: str) -> Sequence[PastRun]:
        return ()


def remembering(made: World, check: str, verdict: Verdict, **evidence: Any) -> World:
    """The same world with one finding of a check on record, of `run-0`."""
    past = PastFinding(datetime.now(UTC), "run-0", check, verdict, evidence)
    return replace(made, facts=Facts(), past=lambda _environment: Remembered(past))
