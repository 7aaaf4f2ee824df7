"""credentials.not_placeholders: every secret is a real one, and none of those already published."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.spec import Frozen
from pipeline.verdict import Finding, failed, inconclusive, passed

EXPOSED = Path(__file__).with_name("exposed.txt")

_WORDS = (
    "changeme|change me|change this|replace ?me|replace this|your|example|sample|placeholder|dummy|fake|todo|fixme|tbd|"
    "insert|secret here|key here|password|none|null|undefined|redacted|removed|hidden|test|testing|foo|bar|default"
)
_PLACEHOLDER = re.compile(rf"(?<![a-z0-9])(?:{_WORDS})(?![a-z0-9])")
_TEMPLATE = re.compile(r"<[^<>]*>|\$\{[^}]*\}|\{\{.*\}\}|^\$[A-Za-z_]+$|^%[A-Za-z_]+%$")
_FILLER = re.compile(r"^(.)\1*$|xxxx|XXXX|\*{3,}|\.{3,}|0123456789|1234567|abcdefg|qwerty")


class Strength(Frozen):
    """What a credential must at least be. Bits are estimated from the characters used."""

    min_length: int = 12
    min_bits: int = 40


@dataclass(frozen=True)
class Credential:
    """What was found out about one secret; never the secret itself."""

    name: str
    source: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Credentials:
    """`equal` lists groups of settings that share one value."""

    judged: tuple[Credential, ...]
    equal: tuple[tuple[str, ...], ...]


async def gather(world: World, params: Strength) -> Credentials:
    exposed = exposed_fingerprints(EXPOSED.read_text("utf-8"))
    declared = [name for name, setting in world.spec.settings.items() if setting.type == "secret" and setting.required]
    held = {name: v for name, v in world.settings.values.items() if isinstance(v.value, Secret)}
    judged = []
    by_value: dict[str, list[str]] = {}
    for name in sorted({*declared, *held}):
        value = world.settings.text(name)
        source = held[name].source if name in held else "no source"
        judged.append(Credential(name, source, problems(value, exposed, params)))
        if value:
            by_value.setdefault(value, []).append(name)
    return Credentials(tuple(judged), tuple(tuple(names) for names in by_value.values() if len(names) > 1))


def exposed_fingerprints(text: str) -> Set[str]:
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


def problems(value: str, exposed: Set[str], strength: Strength) -> tuple[str, ...]:
    """What speaks against a credential, in words that give nothing of it away. Pure."""
    trimmed = value.strip()
    if not trimmed:
        return ("it is empty",)
    found = []
    if _fingerprint(trimmed) in exposed or _fingerprint(value) in exposed:
        found.append("it was published and is burnt")
    plain = re.sub(r"[-_ ]+", " ", trimmed.lower())
    if _PLACEHOLDER.search(plain) or _TEMPLATE.search(trimmed) or _FILLER.search(trimmed):
        found.append("it looks like a placeholder")
    if len(trimmed) < strength.min_length:
        found.append(f"it has {len(trimmed)} characters, at least {strength.min_length} are expected")
    elif _bits(trimmed) < strength.min_bits:
        found.append(f"it repeats itself (under {strength.min_bits} bits of entropy)")
    return tuple(found)


def _fingerprint(value: str) -> str:
    return hashlib.sha256(b"tollgate-exposed:" + value.encode()).hexdigest()


def _bits(value: str) -> float:
    counts = Counter(value).values()
    return -sum(n * math.log2(n / len(value)) for n in counts)


def judge(credentials: Credentials, _params: Strength) -> Finding:
    notes = [
        f"{' and '.join(names)} are equal: right for iKhokha, whose one secret signs both ways"
        for names in credentials.equal
    ]
    if not credentials.judged:
        return inconclusive(
            "pipeline.yaml declares no secret, so no credential was judged",
            "Declare the gateway's credentials under `settings:` with `type: secret`.",
        )
    bad = [credential for credential in credentials.judged if credential.problems]
    if bad:
        return failed(
            "API key invalid or missing: " + "; ".join(f"{c.name} ({c.source}): {', '.join(c.problems)}" for c in bad),
            "\n".join(f"{c.name}: {_fix(c)}" for c in bad),
            credentials={c.name: list(c.problems) for c in bad},
            notes=notes,
        )
    return passed(
        f"{len(credentials.judged)} credentials look real and none is on the list of published ones",
        credentials={c.name: c.source for c in credentials.judged},
        notes=notes,
    )


def _fix(credential: Credential) -> str:
    if "it was published and is burnt" in credential.problems:
        return "make a new one in the gateway's dashboard, revoke this one, and put the new one in a safe source."
    return "put the real value from the gateway's dashboard into a source under settings_from."


CHECK = Check(
    name="credentials.not_placeholders",
    promise="Every credential is a real one that was never published.",
    rows=("G1", "G12", "G17", "T1", "T2", "T4"),
    gather=gather,
    judge=judge,
    params=Strength,
    why="A sample value passes every check of form and fails at the first customer; a published one lets others sign.",
)
