"""The settings of a run: names, values, where each came from, and every mistake in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.notice_addresses import secrets_in
from pipeline.secrets import Secret


@dataclass(frozen=True)
class SettingValue:
    """One resolved setting. `value` is what the service gets; `source` e.g. `dotenv .env.production:4` or `default`.

    `over`: the places, in sources that are looked at later, where another value stands for it.
    """

    name: str
    value: str | Secret
    source: str
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class SettingMistake:
    """One thing wrong with one setting: where, what was found, what is allowed, what to do. Never holds a secret."""

    name: str
    where: str
    found: str
    allowed: str
    remedy: str


@dataclass(frozen=True)
class Settings:
    """All settings of one environment as a run sees them. `mistakes` is empty when they are valid."""

    values: Mapping[str, SettingValue]
    mistakes: tuple[SettingMistake, ...]
    sources: tuple[str, ...]
    """The declared sources, in their order, as printed to the operator."""
    addresses: Mapping[str, SettingValue] = field(default_factory=dict)
    """Where notices go, by the variable's name. They are the pipeline's own: no service is started or staged with them.
    """

    def text(self, name: str) -> str:
        """The value itself, revealed; '' when unset. For signing and for the service's process only."""
        found = self.values.get(name)
        if found is None:
            return ""
        return found.value.reveal() if isinstance(found.value, Secret) else found.value

    def secrets(self) -> tuple[Secret, ...]:
        """Of the settings, and what is secret in the addresses of notices."""
        of_settings = [v.value for v in self.values.values() if isinstance(v.value, Secret)]
        addresses = [v.value for v in self.addresses.values() if isinstance(v.value, Secret)]
        return (*of_settings, *(secret for address in addresses for secret in secrets_in(address)))
