"""endpoints.https_on_expected_host: money and customers go to the right address, over TLS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from checks.facts.environments import is_production
from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.spec import Frozen
from pipeline.verdict import Finding, failed, passed


class Endpoints(Frozen):
    """Which setting holds the gateway's address, and the hosts that are for development only."""

    setting: str = "VITE_IKHOKHA_API_URL"
    development_hosts: tuple[str, ...] = ("pay.ikhokha.com",)


@dataclass(frozen=True)
class Addressed:
    """`api_url` is '' when unset. `allowed` has the sandbox's own address in place of the word `sandbox`."""

    environment: str
    api_url: str
    source: str
    allowed: tuple[str, ...]
    service_url: str
    sandbox: bool


async def gather(world: World, params: Endpoints) -> Addressed:
    setting = world.settings.values.get(params.setting)
    allowed = world.environment.allowed.get(params.setting, ())
    return Addressed(
        environment=world.environment_name,
        api_url="" if setting is None or isinstance(setting.value, Secret) else setting.value,
        source="no source" if setting is None else setting.source,
        allowed=tuple(world.addresses.gateway if url == "sandbox" else url for url in allowed),
        service_url=world.addresses.service or world.environment.url,
        sandbox=world.environment.url == "sandbox",
    )


def judge(fact: Addressed, params: Endpoints) -> Finding:
    mistakes = [*_api(fact, params), *_service(fact)]
    if mistakes:
        return failed(
            f"environment {fact.environment}: " + "; ".join(found for found, _ in mistakes),
            "\n".join(dict.fromkeys(fix for _, fix in mistakes)),
            api_url=_without_password(fact.api_url),
            service_url=fact.service_url,
            allowed=list(fact.allowed),
        )
    return passed(
        f"payments go to {fact.api_url} and customers to {fact.service_url}, both https and as expected",
        api_url=_without_password(fact.api_url),
        service_url=fact.service_url,
    )


Mistake = tuple[str, str]


def _api(fact: Addressed, params: Endpoints) -> list[Mistake]:
    name, url = params.setting, fact.api_url
    shown = _without_password(url)
    if not fact.allowed:
        fix = f"List the gateway's address under environments.{fact.environment}.allowed.{name}."
        return [(f"pipeline.yaml does not say which {name} is expected", fix)]
    fix = f"set {name}={fact.allowed[0]}"
    if not url:
        return [(f"{name} is not set", fix)]
    parts = _parts(url)
    if parts is None or not parts.hostname:
        return [(f"{name} is {shown!r} ({fact.source}), which is no address", fix)]
    mistakes = []
    if parts.scheme != "https":
        mistakes.append((f"{name} is {shown} ({fact.source}): {parts.scheme or 'no scheme'}, https is required", fix))
    listed = _origin(parts) in {_origin(p) for a in fact.allowed if (p := _parts(a)) is not None}
    if parts.hostname in params.development_hosts and (is_production(fact.environment) or not listed):
        mistakes.append((f"{name} is {shown} ({fact.source}): the development endpoint", fix))
    elif not listed:
        mistakes.append((f"{name} is {shown} ({fact.source}); allowed: {', '.join(fact.allowed)}", fix))
    elif parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
        mistakes.append((f"{name} ({fact.source}) carries more than scheme and host", fix))
    elif not fact.sandbox and _loopback(parts.hostname):
        mistakes.append((f"{name} is {shown} ({fact.source}): this machine, not a gateway", fix))
    return mistakes


def _service(fact: Addressed) -> list[Mistake]:
    if fact.sandbox and fact.service_url == "sandbox":
        return []  # the sandbox chooses its address when it starts, and speaks TLS only
    parts = _parts(fact.service_url)
    if parts is not None and parts.scheme == "https" and parts.hostname:
        return []
    fix = f"Set environments.{fact.environment}.url to an https address."
    return [(f"the service's address is {fact.service_url!r}: https is required", fix)]


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number raises here
    except ValueError:
        return None
    return parts


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//[removed]@", url)


def _origin(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or 443


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


CHECK = Check(
    name="endpoints.https_on_expected_host",
    promise="The gateway's and the service's addresses are https and on the hosts this environment allows.",
    rows=("G2", "G3", "G10", "G11", "G17", "T3", "T5", "T7", "T14"),
    gather=gather,
    judge=judge,
    params=Endpoints,
    why="The development endpoint takes no real payments; a wrong host gets customers' money or credentials.",
    pci=("4.2.1",),
    looks_at=(
        "The gateway's address in the settings, the addresses that `environments.NAME.allowed` lists for it, and the "
        "service's own address. It reads them and asks nobody."
    ),
    fix=(
        "Set `VITE_IKHOKHA_API_URL` to the address that the environment allows: `https://api.ikhokha.com` takes real "
        "payments, `https://pay.ikhokha.com` is for development only. Give the service an https address under `url`."
    ),
    see_it_fail=(
        "Set `VITE_IKHOKHA_API_URL=https://pay.ikhokha.com` in the settings of an environment, then "
        "`./inv validate --offline --env NAME`."
    ),
)
