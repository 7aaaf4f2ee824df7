"""What speaks for and against a credential, in words that give nothing of it away."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path

from pydantic import Field

from checks.judging import Unjudged
from pipeline import exposed
from pipeline.contracts import World
from pipeline.notice_addresses import secrets_in
from pipeline.secrets import Secret
from pipeline.spec import Frozen
from pipeline.verdict import Finding, Place, Verdict, inconclusive

KEY_BAD = "API key invalid or missing"
MISMATCH = "Webhook signature mismatch"
"""Words of the troubleshooting guide; operators search for them."""

SHIPPED = Path(__file__).resolve().parents[1] / "exposed.txt"
"""The list of exposed credentials that everybody gets; a team's own lies beside its pipeline.yaml."""

BURNT = "it was published and is burnt"


class Strength(Frozen):
    """What a credential must at least be. Bits are estimated from the characters used."""

    min_length: int = Field(12, ge=8)
    min_bits: int = Field(40, ge=20)


_KEY_LENGTH = 12
"""A shorter part of an address may be a name that stands in files for its own reasons."""


def held(world: World) -> Mapping[str, Secret]:
    """The secrets of the run's settings by the names of their settings, without empty ones."""
    values = world.settings.values.items()
    return {name: v.value for name, v in values if isinstance(v.value, Secret) and v.value.reveal()}


def searched_for(world: World) -> Mapping[str, Secret]:
    """The same, with the keys in the addresses of notices: what must stand in no file that others see."""
    addresses = {name: v.value for name, v in world.settings.addresses.items() if isinstance(v.value, Secret)}
    keys = {
        f"{name}, key {number}": key
        for name, address in addresses.items()
        for number, key in enumerate((one for one in secrets_in(address) if len(one.reveal()) >= _KEY_LENGTH), 1)
    }
    return {**held(world), **keys}


def none_held(world: World, what: str) -> Finding:
    """The finding where the settings hold no secret at all; `what` was not done for that reason."""
    return inconclusive(
        f"the settings of {world.environment_name} hold no credential, so {what}",
        "Declare the gateway's credentials under `settings:` with `type: secret` and name a source that has them.",
    )


# ---- the lists of exposed ones ------------------------------------------------------------------------------


async def burnt(world: World, shipped: Path = SHIPPED) -> Set[str]:
    """The hashes of every credential known to be exposed. Raises Unjudged where a list cannot be read."""
    return await world.facts.once("credentials.burnt", lambda: asyncio.to_thread(_burnt, world.root, shipped))


def _burnt(root: Path, shipped: Path) -> Set[str]:
    known: set[str] = set()
    for path, shown, needed in ((shipped, f"checks/{exposed.FILE}", True), (root / exposed.FILE, exposed.FILE, False)):
        try:
            listed = exposed.parse(path.read_text("utf-8"))
        except FileNotFoundError:
            if not needed:
                continue
            raise Unjudged(_unreadable(shown, 1, "the list is missing")) from None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise Unjudged(_unreadable(shown, 1, why or "it is not text in UTF-8")) from None
        if listed.broken:
            line = listed.broken[0]
            raise Unjudged(_unreadable(shown, line, "neither a hash of 64 hex digits nor a comment")) from None
        if needed and not listed.hashes:
            raise Unjudged(_unreadable(shown, 1, "the list is empty")) from None
        known |= listed.hashes
    return frozenset(known)


def _unreadable(file: str, line: int, why: str) -> Finding:
    return Finding(
        Verdict.ERROR,
        f"{file}:{line}: the list of exposed credentials cannot be read: {why}",
        f"Mend {file}: one hash a line, or a comment. If a credential itself stands there, take it out, make a new one "
        "at the gateway, and list the old one with ./inv expose.",
        places=(Place(file, line, why),),
    )


# ---- one credential -----------------------------------------------------------------------------------------

_SAMPLES = (
    "changeme|change me|change this|replace ?me|replace this|your|example|sample|placeholder|dummy|fake|todo|fixme|tbd|"
    "insert|secret here|key here|password|none|null|undefined|redacted|removed|hidden|test|testing|foo|bar|default"
)
_PLACEHOLDER = re.compile(rf"(?<![a-z0-9])(?:{_SAMPLES})(?![a-z0-9])")
_TEMPLATE = re.compile(r"<[^<>]*>|\$\{[^}]*\}|\{\{.*\}\}|^\$[A-Za-z_]+$|^%[A-Za-z_]+%$")
_FILLER = re.compile(r"^(.)\1*$|xxxx|XXXX|\*{3,}|\.{3,}")
_SEQUENCE = re.compile("0123456789|1234567|7654321|abcdefg|qwerty|asdfgh|deadbeef")
_ORDINARY = (
    "my our the this is it super very top secret key token id api app application client webhook hook ikhokha pay "
    "payment payments gateway production prod staging stage development dev live local demo admin user pass word value "
    "string credential credentials course courses shop store company business merchant account here goes real hello "
    "world welcome letmein please new old for and of abc"
)
_LONGEST_FIRST = "|".join(sorted(_ORDINARY.split(), key=len, reverse=True))
_MADE_OF_WORDS = re.compile(rf"(?=.*[a-z])(?:{_LONGEST_FIRST}|[0-9]|[^a-z0-9])++")
"""Possessive: a value that is made of many such words and one letter more is judged in one pass."""
_NAMED = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]{3,}=[^=]")
_LONGEST_PERIOD = 64


def problems(value: str, burnt: Set[str], strength: Strength) -> tuple[str, ...]:
    """What speaks against a credential. Pure; () when nothing does."""
    trimmed = value.strip()
    if not trimmed:
        return ("it is empty",)
    found = []
    if exposed.hashed(trimmed) in burnt or exposed.hashed(value) in burnt:
        found.append(BURNT)
    if _is_sample(trimmed):
        found.append("it looks like a placeholder")
    if len(trimmed) > 1 and trimmed[0] == trimmed[-1] and trimmed[0] in "\"'`":
        found.append("it still has the quotes around it")
    elif _NAMED.match(trimmed):
        found.append("it begins with the name of a variable and an equals sign")
    if len(trimmed) < strength.min_length:
        found.append(f"it has {len(trimmed)} characters, at least {strength.min_length} are expected")
    elif _bits(trimmed) < strength.min_bits or _repeats(trimmed):
        found.append(f"it repeats itself (under {strength.min_bits} bits of entropy)")
    return tuple(found)


def _is_sample(trimmed: str) -> bool:
    lower = trimmed.lower()
    plain = re.sub(r"[-_ ]+", " ", lower)
    return bool(
        _PLACEHOLDER.search(plain)
        or _TEMPLATE.search(trimmed)
        or _FILLER.search(trimmed)
        or _SEQUENCE.search(lower)
        or _MADE_OF_WORDS.fullmatch(lower)
    )


def _bits(value: str) -> float:
    counts = Counter(value).values()
    return -sum(n * math.log2(n / len(value)) for n in counts)


def _repeats(value: str) -> bool:
    """Whether it is one short text over and over, the last time perhaps cut."""
    return any(value[at:] == value[:-at] for at in range(1, min(len(value) // 2, _LONGEST_PERIOD) + 1))
