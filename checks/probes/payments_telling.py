"""What an answer to a customer must not name while the gateway is in trouble: the kinds, never the text itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from checks.facts.telling import told
from pipeline.contracts import World

GATEWAYS_OWN = ("Merchant account on hold", "It works!")
"""What the sandbox's gateway says when it refuses or talks nonsense; it is meant for the merchant, not the customer."""

_ROWS = (
    (
        "a library",
        r"\b(?:aiohttp|httpx|httpcore|python-requests|urllib3?|axios|undici|node-fetch|okhttp|guzzle|reqwest|"
        r"sqlalchemy|sqlite3?|psycopg2?|asyncpg|mongoose|typeorm)\b",
    ),
    (
        "an exception of the program",
        r"\b(?:Remote|Local|Server)?(?:Connect|Connection|Connector|Disconnected|Protocol|Read|Write|Pool|Client|"
        r"Timeout|JSON|JSONDecode|Key|Type|Value|Attribute|Syntax|Fetch|SSL|OS|Operational)"
        r"(?:Error|Exception|Timeout|Refused|Reset)(?:Error|Exception)?\b|"
        r"\b(?:ECONNREFUSED|ECONNRESET|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN)\b|\bErrno \d|socket hang up|"
        r"Unexpected token|Expecting value",
    ),
    ("a file of the program", r"\b[\w-]{1,80}\.(?:py|js|mjs|ts|php|rb|go|rs|java|kt|cs)\b(?::\d+|\", line)?"),
)
_PATTERNS = tuple((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in _ROWS)


def tells(world: World, body: bytes) -> tuple[str, ...]:
    """The kinds of what the body gives away of the inside; () for nothing. Pure."""
    text = body.decode("utf-8", "replace").replace(urlsplit(world.addresses.service).netloc, "")
    kinds = [*told(text), *(what for what, pattern in _PATTERNS if pattern.search(text))]
    lowered = text.lower()
    if any(host in lowered for host in _hosts(world.addresses.gateway)):
        kinds.append("the gateway's address")
    if any(name.lower() in lowered for name in _names(world)):
        kinds.append("the name of a setting")
    if any(phrase.lower() in lowered for phrase in GATEWAYS_OWN):
        kinds.append("the gateway's own words")
    return tuple(dict.fromkeys(kinds))


def _hosts(url: str) -> Iterable[str]:
    """Host and port as they may be written; a bare loopback address is as telling as a name."""
    parts = urlsplit(url.lower())
    return {one for one in (parts.netloc, parts.hostname) if one}


def _names(world: World) -> Iterable[str]:
    return [name for name in (*world.settings.values, *world.spec.settings) if "_" in name]
