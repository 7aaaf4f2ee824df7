"""urls.callbacks_safe: what the service hands to the gateway as its own addresses is safe, its own, and stays the same.

It asks nobody: the addresses come from pipeline.yaml and the settings, those of before from the record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pydantic import Field

from checks.facts.callbacks import Callback, Kind, base, callbacks, private_name, sandboxed, shown, split
from checks.facts.environments import is_production
from checks.facts.told import Told, finding_of
from checks.judging import or_finding, unless_finding
from checks.settings_names_fit_environment import DEVELOPMENT
from pipeline.contracts import Check, World
from pipeline.spec import Frozen, UrlPath
from pipeline.verdict import Finding, Verdict, passed

NAME = "urls.callbacks_safe"
_TUNNELS = ("ngrok.io", "ngrok.app", "ngrok.dev", "ngrok-free.app", "ngrok-free.dev", "trycloudflare.com", "loca.lt")
"""Hosts that lead to somebody's own machine for an hour."""
_WORDS = frozenset({*DEVELOPMENT, "staging", "stage", "sandbox", "local", "debug", "mock", "qa", "uat"})
_ODD = re.compile(r"//|\\|[\x00-\x20\x7f]|[{}]|%(?![0-9A-Fa-f]{2})|%(?:00|2[fF]|5[cC]|0[aAdD])")


class Callbacks(Frozen):
    """Where the service takes its addresses from, and which webhook paths of before it still serves."""

    settings: Mapping[Kind, str] = Field(
        default_factory=dict,
        description="Settings that hold a whole address (webhook, success, failure, cancel); else url and contract.",
    )
    formerly: tuple[UrlPath, ...] = Field((), description="Webhook paths of before that the service still serves.")


@dataclass(frozen=True)
class Before:
    """What the last finding on record that let a release pass had found; `run` names it."""

    run: str
    base: str
    paths: Mapping[str, str]


@dataclass(frozen=True)
class Handed:
    """`base` is '' for a sandbox that was never started: then only the paths can be judged."""

    environment: str
    sandbox: bool
    base: str
    callbacks: tuple[Callback, ...]
    before: Before | None


@or_finding
async def gather(world: World, params: Callbacks) -> Handed:
    return Handed(
        world.environment_name,
        sandboxed(world),
        base(world),
        callbacks(world, params.settings),
        _before(world),
    )


def _before(world: World) -> Before | None:
    for past in world.past(world.environment_name).findings(NAME):
        paths = past.evidence.get("paths")
        if past.verdict in (Verdict.PASS, Verdict.ADVICE) and isinstance(paths, Mapping):
            told = {str(kind): str(path) for kind, path in paths.items()}
            return Before(past.run, str(past.evidence.get("base", "")), told)
    return None


# ---- judging -----------------------------------------------------------------------------------------------


@unless_finding
def judge(fact: Handed, params: Callbacks) -> Finding:
    paths: dict[str, str] = {callback.kind: _path(callback) for callback in fact.callbacks}
    told = [*(one for callback in fact.callbacks for one in _callback(fact, callback)), *_stable(fact, params, paths)]
    evidence: dict[str, object] = {
        "base": fact.base,
        "paths": dict(paths),
        "urls": {callback.kind: shown(callback.url) for callback in fact.callbacks},
        "last_run": fact.before.run if fact.before else "",
    }
    if told:
        return finding_of(told, evidence, f"environment {fact.environment}: ")
    since = f", the paths as in run {fact.before.run}" if fact.before else ", none on record before"
    where = fact.base or "the sandbox's own address"
    return passed(f"webhook, success, failure and cancel URLs are https on {where}{since}", **evidence)


def _path(callback: Callback) -> str:
    parts = split(callback.url) if callback.source.startswith("setting ") else None
    return parts.path or "/" if parts else callback.expected


def _callback(fact: Handed, callback: Callback) -> Sequence[Told]:
    what, mine = f"{callback.kind} URL {shown(callback.url)!r} ({callback.source})", split(fact.base)
    fix = f"Make it {fact.base or 'the address of the environment'}{callback.expected}, and nothing more."
    if not callback.url:
        unset = f"{callback.kind} URL: {callback.source} has no value"
        return [(Verdict.FAIL, unset, f"Set it to {fact.base}{callback.expected}.")]
    told = [(Verdict.FAIL, f"{what}: {odd}", fix) for odd in _odd_path(callback)]
    if fact.sandbox and not fact.base:
        return told
    parts = split(callback.url)
    if parts is None or mine is None:
        return [*told, (Verdict.FAIL, f"{what}: no address with a host", fix)]
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "https":
        told.append((Verdict.FAIL, f"{what}: {parts.scheme or 'no scheme'}, https is required", fix))
    if "@" in parts.netloc:
        told.append((Verdict.FAIL, f"{what}: it carries credentials, which every log will keep", fix))
    if "?" in callback.url or "#" in callback.url:
        told.append((Verdict.FAIL, f"{what}: a query or a fragment; the signature covers the path alone", fix))
    if (host, parts.port or 443) != ((mine.hostname or "").rstrip("."), mine.port or 443):
        told.append((Verdict.FAIL, f"{what}: not on the environment's own domain {mine.netloc}", fix))
    if parts.path != callback.expected and callback.source.startswith("setting "):
        told.append((Verdict.FAIL, f"{what}: the contract has the path {callback.expected}", fix))
    if not fact.sandbox and private_name(host):
        told.append((Verdict.FAIL, f"{what}: {host} is a name of this machine or a private network", fix))
    if is_production(fact.environment):
        told += [(verdict, f"{what}: {odd}", fix) for verdict, odd in _development(host, parts.path)]
    return told


def _odd_path(callback: Callback) -> Sequence[str]:
    """What in a path makes servers, proxies and libraries read it differently."""
    path = _path(callback)
    found = []
    if _ODD.search(path):
        found.append("`//`, a backslash, a brace, white space or an encoded separator in the path")
    if {".", ".."} & set(unquote(path).split("/")):
        found.append("`.` or `..` as a part of the path")
    if not path.isascii():
        found.append("a character outside ASCII in the path")
    return found


def _development(host: str, path: str) -> Sequence[tuple[Verdict, str]]:
    found = []
    if host.endswith(tuple(f".{tunnel}" for tunnel in _TUNNELS)):
        found.append((Verdict.FAIL, f"{host} is a tunnel to somebody's own machine"))
    words = sorted(_WORDS & _words(_chosen(host)))
    if words:
        found.append((Verdict.FAIL, f"{host} is named for {words[0]}"))
    words = sorted(_WORDS & _words(path))
    if words:
        found.append((Verdict.ADVICE, f"the path {path} is named for {words[0]}"))
    return found


def _chosen(host: str) -> str:
    """The part of a host that names an environment, not the company: `app` of app.test-prep.co.za."""
    labels = host.split(".")
    company = 3 if len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3 else 2
    return ".".join(labels[:-company])


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[^a-z0-9]+", name.lower()) if word}


def _stable(fact: Handed, params: Callbacks, paths: Mapping[str, str]) -> Sequence[Told]:
    """Payments made before still call the addresses of before."""
    before = fact.before
    if before is None:
        return []
    told: list[Told] = []
    old = before.paths.get("webhook", paths["webhook"])
    if old != paths["webhook"] and old not in params.formerly:
        told.append(
            (
                Verdict.FAIL,
                f"the webhook path is {paths['webhook']}; in run {before.run} it was {old}, and the gateway still "
                "calls that for every payment made before",
                f"Serve {old} as well until those payments are settled, then say `with: {{formerly: [{old}]}}` here "
                "and at urls.callbacks_answer.",
            )
        )
    if not fact.sandbox and before.base and before.base != fact.base:
        told.append(
            (
                Verdict.ADVICE,
                f"the address is {fact.base}; in run {before.run} it was {before.base}",
                f"Keep {before.base} leading to this service until the payments made before are settled.",
            )
        )
    moved = [kind for kind, path in paths.items() if kind != "webhook" and before.paths.get(kind, path) != path]
    told += [
        (
            Verdict.ADVICE,
            f"the {kind} page is {paths[kind]}; in run {before.run} it was {before.paths[kind]}",
            f"Redirect {before.paths[kind]} to {paths[kind]}: payers with an open pay link come back there.",
        )
        for kind in moved
    ]
    return told


CHECK = Check(
    name=NAME,
    promise="Webhook, success, failure and cancel URLs are https, on the environment's own domain, and as before.",
    rows=("G3", "G11", "T7", "T14"),
    gather=gather,
    judge=judge,
    params=Callbacks,
    why="The gateway calls back where it was told to when the payment was made: a wrong address is a payment unseen.",
    looks_at=(
        "The environment's url with the contract's paths, or the settings that hold these addresses: scheme, host, "
        "credentials, query, odd characters; and the paths that the last run on record had."
    ),
    fix=(
        "Hand the gateway https addresses on the environment's own domain, without query, fragment or credentials. "
        "Serve a former webhook path until the payments made with it are settled, and list it under `formerly`."
    ),
    see_it_fail="Set `contract.webhook` to another path after a deploy, then run `./inv deploy` again.",
)
