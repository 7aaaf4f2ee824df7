"""urls.callbacks_answer: the addresses that the gateway and its payers call back lead to the service and answer.

Nothing is changed: pages are read, the webhook path gets an unsigned POST, which a service refuses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import Field

from checks.facts import vantage
from checks.facts.callbacks import parsed, paths, private, sandboxed, shown, split
from checks.facts.told import Told, finding_of
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, SecurityEvent, When, World
from pipeline.errors import ServiceUnreachable
from pipeline.spec import Duration, Frozen, UrlPath
from pipeline.verdict import Finding, Verdict, passed

_RESOLVED_WITHIN_S = 10.0


class Answering(Frozen):
    """Which former webhook paths must answer too, and how to look from outside."""

    formerly: tuple[UrlPath, ...] = Field((), description="Webhook paths of before that payments still call.")
    outside: tuple[str, ...] = Field(
        (),
        description="A command that asks from another place: each address is appended, it prints the HTTP status.",
    )
    outside_within: Duration = Field(vantage.LIMIT_S, description="The longest one such command may take.")


@dataclass(frozen=True)
class Asked:
    """One address. `status` 0: no answer, and `why` says so. `location` is where a redirect leads, without query."""

    kind: str
    method: str
    path: str
    status: int
    location: str = ""
    why: str = ""
    took_ms: float = 0.0

    @property
    def told(self) -> str:
        led = f" to {self.location}" if self.location else ""
        found = f"answered {self.status}{led} in {self.took_ms:g} ms" if self.status else f"no answer ({self.why})"
        return f"{self.method} {self.path} ({self.kind}): {found}"


@dataclass(frozen=True)
class Outside:
    """What the operator's command printed for one address."""

    kind: str
    url: str
    seen: vantage.Seen
    took_ms: int = 0
    """How long the command took."""


@dataclass(frozen=True)
class Answers:
    """`addresses` are what the host resolves to here; empty, with `unresolved`, when it does not."""

    base: str
    sandbox: bool
    addresses: tuple[str, ...]
    unresolved: str
    asked: tuple[Asked, ...]
    outside: tuple[Outside, ...]


@or_finding
async def gather(world: World, params: Answering) -> Answers:
    base = world.service.base
    addresses, unresolved = await _resolved(urlsplit(base).hostname or "")
    wanted: list[tuple[str, str, str]] = [
        (kind, "POST" if kind == "webhook" else "GET", path) for kind, path in paths(world).items()
    ]
    wanted += [("former webhook", "POST", path) for path in params.formerly]
    if addresses:
        world.security(SecurityEvent(world.clock.now(), "probe.sent", "urls.callbacks_answer", "an unsigned webhook"))
    asked = await asyncio.gather(*(_ask(world, *one) for one in wanted)) if addresses else ()
    outside: list[Outside] = []
    if params.outside and not sandboxed(world):
        urls = [(kind, base + path) for kind, _, path in wanted]
        outside = await asyncio.gather(*(_from_outside(world, params, *one) for one in urls))
    return Answers(base, sandboxed(world), addresses, unresolved, tuple(asked), tuple(outside))


async def _resolved(host: str) -> tuple[tuple[str, ...], str]:
    try:
        async with asyncio.timeout(_RESOLVED_WITHIN_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return (), f"no answer from the name servers within {_RESOLVED_WITHIN_S:g} s"
    except (OSError, UnicodeError) as error:
        return (), f"it does not resolve ({type(error).__name__}: {error})"
    return tuple(dict.fromkeys(str(address[4][0]) for address in found)), ""


async def _from_outside(world: World, params: Answering, kind: str, url: str) -> Outside:
    begun = world.clock.monotonic()
    seen = await vantage.look([*params.outside, url], limit_s=params.outside_within)
    return Outside(kind, url, seen, round((world.clock.monotonic() - begun) * 1000))


async def _ask(world: World, kind: str, method: str, path: str) -> Asked:
    from pipeline.service import PROOF_HEADER  # brings httpx along

    # The proof passes the maintenance page: after a restore the pages are closed to everybody else.
    proof = {PROOF_HEADER: world.run.proof_token.reveal()}
    sent = {"content": b"{}", "headers": {"Content-Type": "application/json"}} if method == "POST" else {}
    try:
        answer = await world.service.request(method, path, **{"headers": proof, **sent})  # type: ignore[arg-type]
    except ServiceUnreachable as error:
        return Asked(kind, method, path, 0, why=str(error)[:200])
    location = shown(answer.headers.get("location", "")) if 300 <= answer.status < 400 else ""
    return Asked(kind, method, path, answer.status, location, took_ms=answer.took_ms)


# ---- judging -----------------------------------------------------------------------------------------------


@unless_finding
def judge(fact: Answers, _params: Answering) -> Finding:
    told = [*_resolution(fact), *(one for asked in fact.asked for one in _answer(fact, asked)), *_outside(fact)]
    evidence: dict[str, object] = {
        "base": fact.base,
        "resolves_to": list(fact.addresses),
        "answers": [
            {"what": a.kind, "path": a.path, "status": a.status, "location": a.location, "took_ms": a.took_ms}
            for a in fact.asked
        ],
        "outside": [{"what": o.kind, "url": o.url, "status": o.seen.status} for o in fact.outside],
    }
    if not fact.asked and not told:
        told = [(Verdict.INCONCLUSIVE, "no address was asked", "This is a bug in the check.")]
    if told:
        return finding_of(told, evidence, f"{fact.base}: ")
    answers = ", ".join(f"{a.path} {a.status} in {a.took_ms:g} ms" for a in fact.asked)
    return passed(f"{fact.base}: the webhook path refuses strangers and the pages answer ({answers})", **evidence)


def _resolution(fact: Answers) -> Sequence[Told]:
    host = urlsplit(fact.base).hostname or ""
    if not fact.addresses:
        verdict = Verdict.INCONCLUSIVE if "within" in fact.unresolved else Verdict.FAIL
        return [(verdict, f"{host}: {fact.unresolved}", "Make a DNS record for the host, or correct `url`.")]
    inner = [a for a in fact.addresses if (address := parsed(a)) is not None and private(address)]
    if fact.sandbox or not inner:
        return []
    found = f"{host} resolves to {', '.join(inner)} here, an address the gateway cannot reach"
    if fact.outside:  # a name may lead elsewhere inside a network; what counts is what is seen from outside
        return [(Verdict.ADVICE, found, "Ask public name servers on this machine to see what the gateway sees.")]
    fix = "Let the host resolve to its public address; with an inner address on purpose, give `with: {outside: [...]}`."
    return [(Verdict.FAIL, found, fix)]


def _answer(fact: Answers, asked: Asked) -> Sequence[Told]:
    log = "See the service's own log, and what the front makes of this path."
    if asked.status == 0:
        return [(Verdict.FAIL, asked.told, "See that the service serves on its public address. " + log)]
    if asked.status >= 500:
        return [(Verdict.FAIL, asked.told, log)]
    if asked.status == 429:
        fix = "Wait a minute, or lower the traffic from this address, then run again."
        return [(Verdict.INCONCLUSIVE, f"{asked.told}: the rate limit answered", fix)]
    return _webhook(asked) if asked.method == "POST" else _page(fact, asked)


def _webhook(asked: Asked) -> Sequence[Told]:
    told = f"{asked.told}; a refusal (401) is expected for an unsigned POST"
    if asked.status in (404, 405):
        fix = f"Serve POST {asked.path}: the gateway calls it for every payment that was made with it."
    elif 300 <= asked.status < 400:
        fix = "Answer at the address itself: a gateway follows no redirect, or repeats it as a GET without the body."
    elif asked.status < 300:
        fix = "Refuse webhooks without a valid signature with 401; see webhook.refuses_unsigned."
    else:
        return []
    return [(Verdict.FAIL, told, fix)]


def _page(fact: Answers, asked: Asked) -> Sequence[Told]:
    told = f"{asked.told}; 200 is expected"
    if asked.status == 200:
        return []
    if not 300 <= asked.status < 400:
        return [(Verdict.FAIL, told, f"Serve a page at {asked.path}, or set its key under `contract:`.")]
    if _only_a_slash(fact.base, asked):
        fix = "Set the path under `contract:` and in the service as the page's own address is, slash and all."
        return [(Verdict.ADVICE, f"{told} without a detour over a trailing slash", fix)]
    return [(Verdict.FAIL, told, "Serve the page at this address itself: a payer with a receipt must not be lost.")]


def _only_a_slash(base: str, asked: Asked) -> bool:
    mine, there = urlsplit(base), split(asked.location)
    path = asked.location if there is None else there.path
    if there is not None and (there.scheme, there.netloc) != (mine.scheme, mine.netloc):
        return False
    return path in (asked.path + "/", asked.path.rstrip("/"))


def _outside(fact: Answers) -> Sequence[Told]:
    if fact.sandbox:
        return []
    if not fact.outside:
        fix = "Give a command that asks from another place: `with: {outside: [ssh, HOST, status-of]}`; docs/service.md."
        return [(Verdict.ADVICE, "seen only from this machine, not as the gateway sees it", fix)]
    told: list[Told] = []
    for one in fact.outside:
        seen, where = one.seen, f"from outside, {one.url} ({one.kind}, the command took {one.took_ms} ms)"
        if seen.status == 0 and seen.why != "no answer there":
            fix = "Run the command of `outside` by hand with this address: it must print the HTTP status."
            told.append((Verdict.INCONCLUSIVE, f"{where}: {seen.why}", fix))
        elif seen.status == 0 or seen.status >= 500:
            fix = "Open the way from the internet: DNS, firewall, the front's configuration."
            told.append((Verdict.FAIL, f"{where}: {seen.status or 'no answer'}", fix))
        elif one.kind in ("success", "failure", "cancel") and seen.status != 200:
            fix = "Serve the page to everybody: payers come from anywhere."
            told.append((Verdict.FAIL, f"{where}: {seen.status}; 200 is expected", fix))
        elif 300 <= seen.status < 400:
            fix = "Answer at the address itself: a gateway follows no redirect."
            told.append((Verdict.FAIL, f"{where}: {seen.status}, a redirect", fix))
    return told


CHECK = Check(
    name="urls.callbacks_answer",
    promise="The webhook, success, failure and cancel URLs resolve, are reachable, and answer as they should.",
    rows=("G7", "G11", "T10", "T14"),
    gather=gather,
    judge=judge,
    params=Answering,
    network=True,
    when=When.LIVE,
    why="A webhook path that redirects or is gone is found by the first customer who paid and got nothing.",
    looks_at=(
        "What the service's host resolves to; what an unsigned POST to the webhook path and a GET of each page are "
        "answered; and, where `outside` names a command, the same seen from another place."
    ),
    fix=(
        "Answer at exactly these addresses: 401 for an unsigned webhook, 200 for the pages, no redirect, no trailing "
        "slash added, on a public address."
    ),
    see_it_fail="`SANDBOX_FAULT=webhook-500 ./inv deploy`: the webhook path answers a stranger with 500.",
)
