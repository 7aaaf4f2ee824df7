"""settings.names_fit_environment: what is deployed to an environment carries that environment's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePath
from posixpath import normpath
from urllib.parse import urlsplit

from checks.facts.environments import PRODUCTION as PRODUCTION
from checks.facts.environments import is_production, shown, words
from pipeline.contracts import Check, World
from pipeline.secrets import Secret
from pipeline.spec import Environment, FromCommand, FromDotenv, Frozen
from pipeline.verdict import Finding, failed, passed

_DEVELOPMENT = (
    "development develop dev devel example sample template test testing local staging stage sandbox demo qa uat "
    "preview preprod dummy mock"
)
DEVELOPMENT = frozenset(_DEVELOPMENT.split())
"""Words in a file's or host's name that say it is not meant for production."""
_IN_COMMANDS = frozenset({"development", "dev", "staging", "sandbox"})
"""Of those, the ones that mean an environment in a command too; `/usr/local` and `test` mean none."""


class Names(Frozen):
    """Which setting names the mode the service runs in."""

    setting: str = "VITE_NODE_ENV"


@dataclass(frozen=True)
class Place:
    """What distinguishes one environment from another."""

    url: str
    target: str


@dataclass(frozen=True)
class Fit:
    """`mode` is None when unset. `files`: the dotenv files each environment declares as sources, `commands` the
    commands this one does."""

    environment: str
    places: Mapping[str, Place]
    mode: str | None
    modes_allowed: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    commands: tuple[tuple[str, ...], ...]


async def gather(world: World, params: Names) -> Fit:
    setting = world.settings.values.get(params.setting)
    return Fit(
        environment=world.environment_name,
        places={name: Place(e.url, normpath(e.target.path)) for name, e in world.spec.environments.items()},
        mode=None if setting is None or isinstance(setting.value, Secret) else setting.value,
        modes_allowed=world.environment.allowed.get(params.setting, (world.environment_name,)),
        files={name: _dotenv_files(e) for name, e in world.spec.environments.items()},
        commands=tuple(s.command for s in world.environment.settings_from if isinstance(s, FromCommand)),
    )


def _dotenv_files(environment: Environment) -> tuple[str, ...]:
    return tuple(normpath(s.dotenv) for s in environment.settings_from if isinstance(s, FromDotenv))


def judge(fit: Fit, params: Names) -> Finding:
    mistakes = [*_mode(fit, params), *_files(fit), *_commands(fit), *_url(fit), *_shared(fit)]
    if mistakes:
        return failed(
            f"environment {fit.environment}: " + "; ".join(found for found, _ in mistakes),
            "\n".join(dict.fromkeys(fix for _, fix in mistakes)),
            mistakes=[found for found, _ in mistakes],
        )
    return passed(
        f"{params.setting}={fit.mode}, the sources and the address {fit.places[fit.environment].url} "
        f"fit environment {fit.environment}"
    )


Mistake = tuple[str, str]


def _mode(fit: Fit, params: Names) -> list[Mistake]:
    modes = [mode for mode in fit.modes_allowed if not (is_production(fit.environment) and words(mode) & DEVELOPMENT)]
    if fit.mode in modes:
        return []
    modes = modes or [fit.environment]
    found = "is not set" if fit.mode is None else f"is {shown(fit.mode)}"
    return [(f"{params.setting} {found}, allowed {' or '.join(modes)}", f"set {params.setting}={modes[0]}")]


def _files(fit: Fit) -> list[Mistake]:
    return [
        (
            f"settings come from {file}, a file named for {word}",
            f"Under environments.{fit.environment}.settings_from name a file of {fit.environment} itself.",
        )
        for file in fit.files[fit.environment]
        for word in sorted((words(_meaningful(file)) & _foreign(fit)) - _of_this_machine(file, fit))[:1]
    ]


def _of_this_machine(file: str, fit: Fit) -> set[str]:
    """`.env.production.local` is production's, as Vite names the file that git does not take."""
    own = words(PurePath(file).name) & (PRODUCTION | words(fit.environment))
    return {"local"} if own else set()


def _commands(fit: Fit) -> list[Mistake]:
    """The arguments are not shown: one may be a token."""
    foreign = _foreign(fit) & (_IN_COMMANDS | {name.lower() for name in fit.places})
    return [
        (
            f"settings come from a command ({PurePath(command[0]).name}) whose arguments name {word}",
            f"Under environments.{fit.environment}.settings_from let the command read what is {fit.environment}'s own.",
        )
        for command in fit.commands
        for word in sorted(words(" ".join(command[1:])) & foreign)[:1]
    ]


def _url(fit: Fit) -> list[Mistake]:
    url = fit.places[fit.environment].url
    fix = f"Set environments.{fit.environment}.url to the address customers of {fit.environment} use."
    if url == "sandbox":
        return [("its url is the sandbox", fix)] if is_production(fit.environment) else []
    host = urlsplit(url).hostname or ""
    if _private(host):
        return [(f"its url {url} is an address of this machine or a private network", fix)]
    return [(f"its url {url} is named for {word}", fix) for word in sorted(words(_chosen(host)) & _foreign(fit))[:1]]


def _shared(fit: Fit) -> list[Mistake]:
    """Two environments at one place: a deploy to the one would change the other."""
    here = fit.places[fit.environment]
    others = [(name, place) for name, place in sorted(fit.places.items()) if name != fit.environment]
    fix = "Give every environment in pipeline.yaml a url and a target of its own."
    return [
        *(
            (f"environment {name} has the same url {here.url}", fix)
            for name, p in others
            if p.url.lower() == here.url.lower()
        ),
        *((f"environment {name} has the same target {p.target}", fix) for name, p in others if p.target == here.target),
        *(
            (
                f"environment {name} reads the same settings file {file}",
                "Give every environment a settings file of its own: a shared one gives both the same credentials.",
            )
            for name, _ in others
            for file in fit.files[fit.environment]
            if file in fit.files[name]
        ),
    ]


def _foreign(fit: Fit) -> set[str]:
    others = {name.lower() for name in fit.places if name != fit.environment}
    foreign = others | DEVELOPMENT if is_production(fit.environment) else others
    return foreign - {fit.environment.lower()} - words(fit.environment)


def _meaningful(file: str) -> str:
    """An absolute path lies where the machine's owner put it; only its last part was named by the team."""
    return PurePath(file).name if file.startswith("/") else file


def _chosen(host: str) -> str:
    """The part of a host that names an environment, not the company: `app` of app.test-prep.co.za."""
    labels = host.split(".")
    company = 3 if len(labels) > 2 and labels[-2] in ("co", "com", "org", "net", "ac", "gov") else 2
    return ".".join(labels if labels[-company:][0] == "example" else labels[:-company])


def _private(host: str) -> bool:
    host = host.rstrip(".")
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".test", ".invalid"))


CHECK = Check(
    name="settings.names_fit_environment",
    promise="Mode, sources, address and target carry the names of the environment that is deployed to.",
    rows=("G2", "T2", "T3", "T14"),
    gather=gather,
    judge=judge,
    params=Names,
    why="Most wrong deployments are the right thing done to the wrong environment.",
    looks_at="The mode setting, and the url, target and sources of every environment in pipeline.yaml: words in their "
    "names that belong to another environment, and places that two environments share.",
    fix="Give every environment an address, a target and sources of its own, named for it.",
    see_it_fail="Let `settings_from` of production name `.env.staging`, then `./inv validate --env production`.",
)
