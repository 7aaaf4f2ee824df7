"""credentials.not_placeholders: every secret is a real one, and none of those already published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from checks.facts.credentials import BURNT, KEY_BAD, MISMATCH, Strength, burnt, problems
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.verdict import Finding, failed, inconclusive, passed

ONE_SECRET: Mapping[str, frozenset[str]] = MappingProxyType(
    {"ikhokha": frozenset({"VITE_IKHOKHA_API_SECRET", "VITE_IKHOKHA_WEBHOOK_SECRET"})}
)
"""Gateways whose one secret signs requests and webhooks alike, and the settings that hold it. Of every other gateway
each setting has a secret of its own."""


@dataclass(frozen=True)
class Credential:
    """What was found out about one secret; never the secret itself."""

    name: str
    source: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Credentials:
    """`equal` lists groups of settings that share one value; `present` are those that have a value at all."""

    gateway: str
    judged: tuple[Credential, ...]
    present: frozenset[str]
    equal: tuple[tuple[str, ...], ...]


@or_finding
async def gather(world: World, params: Strength) -> Credentials:
    known = await burnt(world)
    declared = [name for name, setting in world.spec.settings.items() if setting.type == "secret" and setting.required]
    held = {name: v for name, v in world.settings.values.items() if isinstance(v.value, Secret)}
    judged = []
    by_value: dict[str, list[str]] = {}
    for name in sorted({*declared, *held}):
        value = world.settings.text(name)
        source = held[name].source if name in held else "no source"
        judged.append(Credential(name, source, problems(value, known, params)))
        if value:
            by_value.setdefault(value, []).append(name)
    equal = tuple(tuple(names) for names in by_value.values() if len(names) > 1)
    present = frozenset(name for names in by_value.values() for name in names)
    return Credentials(world.spec.gateway, tuple(judged), present, equal)


@unless_finding
def judge(credentials: Credentials, _params: Strength) -> Finding:
    if not credentials.judged:
        return inconclusive(
            "pipeline.yaml declares no secret, so no credential was judged",
            "Declare the gateway's credentials under `settings:` with `type: secret`.",
        )
    notes = _notes(credentials)
    bad = [credential for credential in credentials.judged if credential.problems]
    mistakes = [
        *((f"{KEY_BAD}: {c.name} ({c.source}): {', '.join(c.problems)}", f"{c.name}: {_fix(c)}") for c in bad),
        *_wrongly_equal(credentials),
        *_wrongly_different(credentials),
    ]
    if mistakes:
        return failed(
            "; ".join(found for found, _ in mistakes),
            "\n".join(dict.fromkeys(fix for _, fix in mistakes)),
            credentials={c.name: list(c.problems) for c in bad},
            notes=notes,
        )
    return passed(
        f"{counted(len(credentials.judged), 'credential')} present and real, none on the lists of exposed ones"
        + (f" ({'; '.join(notes)})" if notes else ""),
        credentials={c.name: c.source for c in credentials.judged},
        notes=notes,
    )


Mistake = tuple[str, str]


def _one_secret(credentials: Credentials) -> frozenset[str]:
    return ONE_SECRET.get(credentials.gateway, frozenset())


def _notes(credentials: Credentials) -> list[str]:
    return [
        f"{' and '.join(names)} are equal: right for {credentials.gateway}, whose one secret signs both ways"
        for names in credentials.equal
        if set(names) <= _one_secret(credentials)
    ]


def _wrongly_equal(credentials: Credentials) -> list[Mistake]:
    """A name that is sent in clear beside a signature, or a secret that serves two purposes."""
    return [
        (
            f"{KEY_BAD}: {' and '.join(names)} have the same value; {credentials.gateway} gives each its own",
            f"put each value from the gateway's dashboard under its own name: {', '.join(names)}.",
        )
        for names in credentials.equal
        if not set(names) <= _one_secret(credentials)
    ]


def _wrongly_different(credentials: Credentials) -> list[Mistake]:
    names = sorted(_one_secret(credentials) & credentials.present)
    if len(names) < 2 or any(set(names) <= set(group) for group in credentials.equal):
        return []
    return [
        (
            f"{MISMATCH}: {' and '.join(names)} differ, but one secret of {credentials.gateway} signs both ways",
            f"give {' and '.join(names)} the same value: the Application Secret of the gateway's dashboard.",
        )
    ]


def _fix(credential: Credential) -> str:
    if BURNT in credential.problems:
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
    pci=("6.5.6", "8.6.2"),
    acceptable=False,
    looks_at="The value of every setting of `type: secret`, the list of exposed credentials that ships with Tollgate, "
    "and `exposed.txt` beside pipeline.yaml. Both lists hold salted hashes, never values.",
    fix="Put the real value from the gateway's dashboard into a source under `settings_from`. After a leak, make a new "
    "credential, revoke the old one and add it to the list: `./inv expose`.",
    see_it_fail="Set `VITE_IKHOKHA_API_KEY=changeme-changeme` in the environment's dotenv file, then `./inv validate`.",
    says=(KEY_BAD, MISMATCH),
)
