"""The settings of an environment, resolved from its declared sources, each value judged by its type.

Nothing here raises for what an operator wrote: every mistake is in `Settings.mistakes`, and no mistake holds a secret.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pipeline import dotenv_file
from pipeline.errors import CommandFailed, TollgateError
from pipeline.names import nearest
from pipeline.notice_addresses import FORM, wrong_with
from pipeline.secrets import Secret
from pipeline.setting_types import SANDBOX, allowed_text, as_text, fits
from pipeline.settings import SettingMistake, Settings, SettingValue
from pipeline.spec import FromCommand, FromDotenv, Setting
from pipeline.yaml_strict import shown

if TYPE_CHECKING:
    from pipeline.spec import Environment, Source, Spec

Run = Callable[[Sequence[str], float], Awaitable[str]]
"""Runs an argv list with a time limit in s and returns what it printed. Raises TollgateError or OSError."""

_ADDRESS = Setting(type="secret")
"""How the address of a notice is looked for."""
_NEAR = 0.85
"""How alike an unknown name is to a known one that nobody set, to be taken for a slip of the pen."""


async def resolve(
    spec: Spec,
    environment_name: str,
    *,
    root: Path,
    process_environment: Mapping[str, str],
    gateway_address: str | None,
    run: Run | None,
) -> Settings:
    """Reads every declared source in its order; the first that has a value for a name wins, then the default.

    An empty value is no value: the next source is asked, and the value's `source` (or the mistake) tells of it. So does
    it of a later source that has another value. A name that says it holds a secret is kept as one, whatever its type.
    `gateway_address` is what `sandbox` means among the allowed values, None where there is no sandbox. `run` runs
    the commands of `settings_from`; with None they are not run, which is a mistake where one is declared.
    """
    environment = spec.environments[environment_name]
    sources = [await _read(source, root, process_environment, run) for source in environment.settings_from]
    values: dict[str, SettingValue] = {}
    mistakes = [mistake for source in sources for mistake in source.mistakes]
    for name, setting in spec.settings.items():
        value = _find(name, setting, sources)
        if value is not None:
            values[name] = value
        elif setting.required:
            mistakes.append(_missing(name, setting, environment, sources))
    mistakes += _open_secrets(spec.settings, values)
    mistakes += _slips(spec.settings, values, sources)
    secrets = [value.value.reveal() for value in values.values() if isinstance(value.value, Secret)]
    for name, value in values.items():
        mistake = _judged(spec.settings[name], value, environment, environment_name, gateway_address, secrets)
        if mistake is not None:
            mistakes.append(mistake)
    addresses = {
        notice.address_from: found
        for notice in environment.notices
        if (found := _find(notice.address_from, _ADDRESS, sources)) is not None
    }
    mistakes += _unaddressed(environment, environment_name, addresses, sources)
    return Settings(values, tuple(mistakes), tuple(source.told for source in sources), addresses)


# ---- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """One source after reading. `values`: name -> text and where it stands. `state`: why it gave nothing, or ''."""

    kind: Literal["environment", "dotenv", "command"]
    name: str
    values: Mapping[str, tuple[str, str]]
    mistakes: tuple[SettingMistake, ...] = ()
    state: str = ""

    @property
    def told(self) -> str:
        return f"{self.name} ({self.state})" if self.state else self.name


async def _read(source: Source, root: Path, process_environment: Mapping[str, str], run: Run | None) -> _Read:
    if isinstance(source, FromDotenv):
        told = f"dotenv {source.dotenv}"
        lines = dotenv_file.read(root / source.dotenv, source.dotenv)
        return _Read("dotenv", told, *_placed(lines, told), state="missing" if lines.missing else "")
    if isinstance(source, FromCommand):
        return await _command(source, run)
    return _Read(
        "environment", "environment", {name: (text, "environment") for name, text in process_environment.items()}
    )


def _placed(lines: dotenv_file.Lines, told: str) -> tuple[dict[str, tuple[str, str]], tuple[SettingMistake, ...]]:
    return {name: (line.value, f"{told}:{line.number}") for name, line in lines.values.items()}, lines.mistakes


async def _command(source: FromCommand, run: Run | None) -> _Read:
    """What the command prints, as dotenv lines. What it says when it fails is not shown: it may hold a secret."""
    told = f"command {shown(shlex.join(source.command), 80)}"

    def failed(found: str, allowed: str, remedy: str) -> _Read:
        return _Read("command", told, {}, (SettingMistake("", told, found, allowed, remedy),), "failed")

    by_hand = "run it by hand; its output is not shown here, for it may hold secrets"
    if run is None:
        return failed(
            "not run: commands are not run here", "the environment or a dotenv file", "validate without --offline"
        )
    try:
        async with asyncio.timeout(source.timeout + 1):  # `run` keeps the limit; this one is for a `run` that does not
            output = await run(source.command, source.timeout)
    except TimeoutError:
        return failed("no end in time", f"an end within {source.timeout:g} s", by_hand)
    except CommandFailed as error:
        if error.returncode is None:
            return failed("no end in time", f"an end within {source.timeout:g} s", by_hand)
        return failed(f"exit code {error.returncode}", "exit code 0", by_hand)
    except TollgateError:
        return failed("it failed", "exit code 0", by_hand)
    except OSError as error:
        return failed(f"not run: {error.strerror or type(error).__name__}", "a command that can be run", by_hand)
    lines = dotenv_file.parse(output.encode("utf-8", "surrogatepass"), told)
    return _Read("command", told, *_placed(lines, told))


def _find(name: str, setting: Setting, sources: Sequence[_Read]) -> SettingValue | None:
    named = setting.type == "secret" or _says_secret(name, setting)
    empty: list[str] = []
    found: list[tuple[str, str]] = []
    for source in sources:
        if name not in source.values:
            continue
        text, where = source.values[name]
        if text.strip():
            found.append((text.strip() if named else text, where))
        elif not found:
            empty.append(where)
    if found:
        text, where = found[0]
        over = tuple(place for other, place in found[1:] if other != text)
        secret = named or _holds_password(text)
        return SettingValue(name, Secret(text) if secret else text, _told_of(where, empty, over), over)
    if setting.default is not None:
        default = as_text(setting.default)
        return SettingValue(name, Secret(default) if named else default, _told_of("default", empty))
    return None


def _told_of(where: str, empty: Sequence[str], over: Sequence[str] = ()) -> str:
    notes = [
        *([f"empty in {', '.join(empty)}"] if empty else []),
        *([f"another value in {', '.join(over)} is not used"] if over else []),
    ]
    return f"{where} ({'; '.join(notes)})" if notes else where


# ---- judging ------------------------------------------------------------------------------------------------

_TEST_MODE = "_TEST_MODE"
_API_KEY = "_API_KEY"
_TEST_MODE_OFF = "Test mode must be disabled in production"
_KEY_BAD = "API key invalid or missing"
"""The words of the troubleshooting guide; operators search for them."""


_SECRETIVE = (
    *("_SECRET", "_SECRET_KEY", "_SECRET_ACCESS_KEY", "_PRIVATE_KEY", "_SIGNING_KEY", "_ENCRYPTION_KEY"),
    *("_PASSWORD", "_PASSWD", "_PASSPHRASE", "_ACCESS_TOKEN", "_AUTH_TOKEN", "_API_TOKEN", "_BEARER_TOKEN"),
)
"""Ends of names that say the value is a secret. Not `_KEY` or `_TOKEN` alone: a browser's map key is public."""
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]*:[^\s/?#]+@")


def _says_secret(name: str, setting: Setting) -> bool:
    return setting.type == "text" and f"_{name.upper()}".endswith(_SECRETIVE)


def _holds_password(text: str) -> bool:
    """Whether it is an address with a password in it, as of a database."""
    return _PASSWORD.match(text.strip()) is not None


def _unaddressed(
    environment: Environment, environment_name: str, addresses: Mapping[str, SettingValue], sources: Sequence[_Read]
) -> list[SettingMistake]:
    """Those who are to be told and cannot be."""
    mistakes = []
    for notice in environment.notices:
        name, value = notice.address_from, addresses.get(notice.address_from)
        first = "the environment" if sources[0].kind == "environment" else sources[0].name
        where, found = ", ".join(source.told for source in sources), "no value in any source"
        remedy = f"set {name} in {first}, or take {notice.to} out of environments.{environment_name}.notices"
        if value is not None and isinstance(value.value, Secret):
            where, found = value.source, wrong_with(value.value)
            remedy = f"correct {name} in {value.source}; docs/notices.md has examples"
        if found:
            mistakes.append(
                SettingMistake(name, where, found, f"an address for notices to {notice.to}: {FORM}", remedy)
            )
    return mistakes


def _open_secrets(settings: Mapping[str, Setting], values: Mapping[str, SettingValue]) -> list[SettingMistake]:
    """Settings whose name or value says secret and whose type does not: they would be shown and kept in the open."""
    passwords = [
        SettingMistake(
            name=name,
            where=value.source,
            found="an address with a password in it, which is not shown",
            allowed="type: secret, for an address with a password",
            remedy=f"declare {name} with `type: secret`: then it is redacted everywhere and searched for in the build",
        )
        for name, value in values.items()
        if settings[name].type == "text" and not _says_secret(name, settings[name]) and isinstance(value.value, Secret)
    ]
    return passwords + [
        SettingMistake(
            name=name,
            where="settings of pipeline.yaml",
            found="type: text",
            allowed="type: secret, for what its name says it holds",
            remedy=f"declare {name} with `type: secret`: then it is redacted everywhere and searched for in the build",
        )
        for name, setting in settings.items()
        if _says_secret(name, setting)
    ]


def _missing(name: str, setting: Setting, environment: Environment, sources: Sequence[_Read]) -> SettingMistake:
    empty = [source.values[name][1] for source in sources if name in source.values]
    found = f"an empty value in {', '.join(empty)}" if empty else "no value in any source"
    listed = [value for value in environment.allowed.get(name, ()) if value != SANDBOX]
    assignment = f"{name}={listed[0]}" if listed else f"{name} ({setting.about})" if setting.about else name
    first = "the environment" if sources[0].kind == "environment" else sources[0].name
    remedy = f"set {assignment} in {first}"
    if environment.url == SANDBOX and any(source.state == "missing" for source in sources):
        remedy = "start the sandbox, which writes its settings: ./inv sandbox.up"
    return SettingMistake(
        name=name,
        where=", ".join(source.told for source in sources),
        found=f"{_KEY_BAD}: {found}" if name.endswith(_API_KEY) else found,
        allowed=" or ".join(listed) if listed else allowed_text(setting),
        remedy=remedy,
    )


def _slips(
    settings: Mapping[str, Setting], values: Mapping[str, SettingValue], sources: Sequence[_Read]
) -> list[SettingMistake]:
    """Names that are no setting but look like one that no source has: the value meant for it would be lost."""
    unset = [name for name in settings if name not in values or values[name].source.startswith("default")]
    mistakes = []
    for source in sources:
        for name, (_text, where) in source.values.items():
            meant = _meant(name, unset) if name not in settings else ""
            if meant:
                found = f"{shown(name)}, which is no setting of the spec"
                remedy = f"did you mean {meant}? rename it, or set {meant} as well"
                mistakes.append(SettingMistake(shown(name), where, found, meant, remedy))
    return mistakes


def _meant(name: str, unset: Sequence[str]) -> str:
    """The setting that `name` is most like; capitals and what stands between words do not count."""
    plain = {re.sub(r"[^A-Z0-9]+", "_", known.upper()): known for known in unset}
    return plain.get(nearest(re.sub(r"[^A-Z0-9]+", "_", name[:200].upper()), plain, _NEAR), "")


def _judged(
    setting: Setting,
    value: SettingValue,
    environment: Environment,
    environment_name: str,
    gateway_address: str | None,
    secrets: Sequence[str],
) -> SettingMistake | None:
    name = value.name
    text = value.value.reveal() if isinstance(value.value, Secret) else value.value
    found = _shown(name, setting, text, secrets)
    listed = environment.allowed.get(name)
    if name.endswith(_TEST_MODE) and listed == ("false",) and text != "false":
        allowed = f"false in {environment_name}: {_TEST_MODE_OFF}"
        return SettingMistake(name, value.source, found, allowed, f"set {name}=false")
    if not fits(setting, text):
        found = f"{_KEY_BAD}: {found}" if name.endswith(_API_KEY) else found
        return SettingMistake(name, value.source, found, allowed_text(setting), f"correct {name} in {value.source}")
    if listed is None:
        return None
    if setting.type == "url" and SANDBOX in listed and gateway_address is None and text not in listed:
        allowed = "the sandbox gateway's address, which is not known: the sandbox does not run"
        return SettingMistake(name, value.source, found, allowed, "start it: ./inv sandbox.up")
    meant = [gateway_address if v == SANDBOX and setting.type == "url" and gateway_address else v for v in listed]
    if text in meant:
        return None
    allowed = f"{' or '.join(meant)} in {environment_name}"
    return SettingMistake(name, value.source, found, allowed, f"set {name}={meant[0]}")


def _shown(name: str, setting: Setting, text: str, secrets: Sequence[str]) -> str:
    """A value for a mistake's text. Not shown: secrets, and what may be one that was put under another name."""
    length = f"{len(text)} characters, which are not shown"
    told = setting.type == "secret" or _says_secret(name, setting) or _holds_password(text)
    if told or any(_share(text, secret) for secret in secrets):
        return length
    if setting.type == "url":
        return f"'{shown(text)}'" if _is_harmless_address(text) else f"an address of {length}"
    return f"'{shown(text)}'" if len(text) <= 16 else length


def _share(text: str, secret: str) -> bool:
    return (len(secret) > 3 and secret in text) or (len(text) > 7 and text in secret)


def _is_harmless_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme and parts.hostname) and "@" not in text and not parts.query and not parts.fragment
