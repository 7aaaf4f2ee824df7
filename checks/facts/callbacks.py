"""Where the gateway and its payers come back to: the addresses a service hands out with every payment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from pipeline.contracts import World
from pipeline.secrets import Secret

Kind = Literal["webhook", "success", "failure", "cancel"]
KINDS: tuple[Kind, ...] = ("webhook", "success", "failure", "cancel")

_LOCAL_NAMES = (".localhost", ".local", ".internal", ".test", ".invalid", ".lan", ".home.arpa", ".onion")


@dataclass(frozen=True)
class Callback:
    """One address. `source` is the key of pipeline.yaml or the setting that says so; `expected` is its path there."""

    kind: Kind
    url: str
    source: str
    expected: str


def sandboxed(world: World) -> bool:
    return world.environment.url == "sandbox"


def base(world: World) -> str:
    """The service's public address without a trailing slash; '' for a sandbox that was never started."""
    url = world.addresses.service if sandboxed(world) else world.environment.url
    return "" if url == "sandbox" else url.rstrip("/")


def paths(world: World) -> Mapping[Kind, str]:
    contract = world.spec.contract
    return {
        "webhook": contract.webhook,
        "success": contract.success_page,
        "failure": contract.failure_page,
        "cancel": contract.cancel_page,
    }


def callbacks(world: World, settings: Mapping[Kind, str]) -> tuple[Callback, ...]:
    """The four addresses. Where `settings` names the setting that holds one, its value; else base and path."""
    found = []
    for kind, path in paths(world).items():
        name = settings.get(kind)
        if name is None:
            key = "contract.webhook" if kind == "webhook" else f"contract.{kind}_page"
            found.append(Callback(kind, base(world) + path, key, path))
            continue
        setting = world.settings.values.get(name)
        value = "" if setting is None or isinstance(setting.value, Secret) else setting.value
        found.append(Callback(kind, value, f"setting {name}", path))
    return tuple(found)


def split(url: str) -> SplitResult | None:
    """The parts of an address, None for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number raises here
    except ValueError:
        return None
    return parts if parts.hostname else None


def shown(url: str) -> str:
    """An address as a finding may show it: no credentials, no query, no fragment, not longer than a line."""
    return re.sub(r"//[^/]*@", "//[removed]@", re.split(r"[?#]", url, maxsplit=1)[0])[:200]


def private_name(host: str) -> bool:
    """Whether a host is an address or a name that only this machine or this network knows."""
    address = parsed(host)
    if address is not None:
        return private(address)
    label = host.rstrip(".").lower().rsplit(".", 1)[-1]
    # 127.1, 2130706433 and 0x7f000001 are 127.0.0.1 to most resolvers; no domain ends in a number.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", label):
        return True
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith(_LOCAL_NAMES)


def private(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is not one of the public internet's."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return not (mapped or address).is_global or address.is_multicast


def parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.split("%", 1)[0])
    except ValueError:
        return None
