"""tls.redirects_to_https: nothing of the service is served over plain http."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from checks.facts.plain_http import Door, Heard, PlainHttp, ask
from checks.facts.tls import Asked
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.verdict import Finding, Verdict, failed, inconclusive, passed

_REDIRECTS = (301, 302, 307, 308)
_TURNED_AWAY = (400, 403, 404, 410, 421, 426)
"""Answers that serve nothing: wrong protocol, forbidden, not here. 401 and 405 mean that the request was considered."""
_FIX = "Redirect all of it where http arrives: `return 308 https://$host$request_uri;` in nginx, then reload it."
_AGAIN = "See what that port does; redirect all of it to https or close it, let this machine reach it, then run again."


class Plain(Asked):
    """Which port is asked for plain http: 80 of a service on 443, else the service's own; `port` names another."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None


@or_finding
async def gather(world: World, params: Plain) -> PlainHttp:
    async def asked() -> PlainHttp:
        return await ask(world, params.port, params.within)

    return await world.facts.once(("plain http", params.port, params.within), asked)


@unless_finding
def judge(fact: PlainHttp, _params: Plain) -> Finding:
    where = f"http://{fact.host}:{fact.port}"
    evidence = {
        "asked": where,
        "addresses": {address: door.value for address, door in fact.doors.items()},
        "answers": {heard.asked: f"{heard.said} {heard.location[:200]}".rstrip() for heard in fact.heard},
    }
    judged = [(heard, *_of(heard, fact)) for heard in fact.heard]
    wrong = [f"{heard.asked} {said}" for heard, verdict, said in judged if verdict is Verdict.FAIL]
    unknown = [f"{heard.asked} {said}" for heard, verdict, said in judged if verdict is Verdict.INCONCLUSIVE]
    unknown += [f"{address} gives no answer" for address, door in fact.doors.items() if door is Door.SILENT]
    if wrong:
        return failed(
            f"{where}: {'; '.join(wrong)}; a redirect to https://{fact.host} or no answer is allowed", _FIX, **evidence
        )
    if unknown:
        return inconclusive(f"{where}: {'; '.join(unknown)}", _AGAIN, **evidence)
    if Door.OPEN in fact.doors.values():
        redirected = sum(1 for heard in fact.heard if heard.status in _REDIRECTS)
        return passed(
            f"{where}: {counted(len(fact.heard), 'path')} asked without TLS, {redirected} redirected to https, "
            f"{len(fact.heard) - redirected} turned away",
            **evidence,
        )
    if Door.REFUSED in fact.doors.values():
        return passed(f"{where}: nobody listens there, so nothing is served without TLS", **evidence)
    return inconclusive(f"{where}: this machine has no way there, so what it serves is not known", _AGAIN, **evidence)


def _of(heard: Heard, fact: PlainHttp) -> tuple[Verdict, str]:
    if heard.unknown:
        return Verdict.INCONCLUSIVE, heard.said
    if heard.status in _REDIRECTS:
        if leads_home(heard.location, fact.host, fact.https_port):
            return Verdict.PASS, "is redirected to https"
        return Verdict.FAIL, f"is redirected ({heard.status}) to {heard.location[:200]!r}"
    if heard.status == 429 or heard.status >= 500:
        return Verdict.INCONCLUSIVE, heard.said
    if heard.status == 0 or heard.status in _TURNED_AWAY:
        return Verdict.PASS, heard.said
    return Verdict.FAIL, heard.said


def leads_home(location: str, host: str, port: int) -> bool:
    """Whether a Location is an https address of the same host and port. Never raises, whatever the header says."""
    try:
        parts = urlsplit(location)
        return (
            parts.scheme == "https"
            and (parts.hostname or "").rstrip(".") == host.rstrip(".").lower()
            and (parts.port or 443) == port
            and not (parts.username or parts.password)
        )
    except ValueError:
        return False


CHECK = Check(
    name="tls.redirects_to_https",
    promise="Plain http to the service's host serves nothing: it is redirected to https, or nobody listens.",
    rows=("G3", "G7", "G11", "G14", "T4", "T7"),
    gather=gather,
    judge=judge,
    params=Plain,
    network=True,
    why="Whoever sits between a customer and a page served over http changes where the money goes.",
    pci=("4.2.1",),
    looks_at=(
        "One GET over plain http, at each address of the host, for every page and payment endpoint of the "
        "contract, on port 80 of a service that is "
        "on 443, else on the service's own port. A redirect (301, 302, 307, 308) to https on the same host, a refusal "
        "to serve, or a closed port is right."
    ),
    fix=_FIX,
    see_it_fail="Let the proxy's server on port 80 serve the pages in place of redirecting, then run `./inv validate`.",
)
