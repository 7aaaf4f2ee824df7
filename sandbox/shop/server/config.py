"""What the shop runs on, read once at start from the environment of its process; every mistake at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from . import standard_webhooks as standard

ARTIFACT = Path(__file__).resolve().parent.parent
"""The release's folder: `shop/`, `public/`, `courses.json`, `faults.json`."""

WEBHOOK_PATH = "/api/webhooks/ikhokha"
SMOKE_PREFIX = "smoke-"
IKHOKHA, STANDARD_WEBHOOKS = "ikhokha", "standard-webhooks"
REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ConfigInvalid(Exception):
    """The process cannot start with these settings. `mistakes` holds one sentence each, and no value of a secret."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Course:
    """A course and its only price, in cents of ZAR. `listed` courses are offered on the index page."""

    id: str
    title: str
    cents: int
    listed: bool


@dataclass(frozen=True)
class Config:
    """Valid settings. Times are seconds; secrets are left out of the repr."""

    release: str
    node_env: str
    test_mode: bool
    public_url: str
    data_dir: Path
    shared_dir: Path
    gateway_url: str
    app_id: str = field(repr=False)
    api_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    timeout_s: float
    retry_attempts: int
    retry_delay_s: float
    ca_file: str | None
    tls_cert: str | None
    tls_key: str | None
    webhook_sources: tuple[IPv4Network | IPv6Network, ...] = ()
    """Webhooks are taken from these alone; from anywhere when there are none."""
    webhook_scheme: str = IKHOKHA
    webhook_tolerance_s: float = 300.0
    """How far the time stamp of a webhook may be from now, where the scheme has one."""

    def takes_webhooks_from(self, address: str) -> bool:
        if not self.webhook_sources:
            return True
        try:
            return any(ip_address(address) in network for network in self.webhook_sources)
        except ValueError:
            return False


def read_config(env: Mapping[str, str]) -> Config:
    """Raises ConfigInvalid with all mistakes."""
    reader = _Reader(env)
    config = Config(
        release=reader.text("RELEASE_ID"),
        node_env=reader.one_of("VITE_NODE_ENV", ("production", "staging", "development")),
        test_mode=reader.one_of("VITE_IKHOKHA_TEST_MODE", ("true", "false")) == "true",
        public_url=reader.https("PUBLIC_URL"),
        data_dir=Path(reader.text("DATA_DIR")),
        shared_dir=Path(reader.text("SHARED_DIR")),
        gateway_url=reader.https("VITE_IKHOKHA_API_URL"),
        app_id=reader.key("VITE_IKHOKHA_API_KEY"),
        api_secret=reader.key("VITE_IKHOKHA_API_SECRET"),
        webhook_secret=reader.key("VITE_IKHOKHA_WEBHOOK_SECRET"),
        timeout_s=reader.whole("VITE_IKHOKHA_TIMEOUT", 1000, 120_000) / 1000,
        retry_attempts=reader.whole("VITE_IKHOKHA_RETRY_ATTEMPTS", 0, 10),
        retry_delay_s=reader.whole("VITE_IKHOKHA_RETRY_DELAY", 100, 60_000) / 1000,
        ca_file=reader.file("CA_FILE"),
        tls_cert=reader.file("TLS_CERT"),
        tls_key=reader.file("TLS_KEY"),
        webhook_sources=reader.networks("WEBHOOK_SOURCES"),
        webhook_scheme=reader.one_of("WEBHOOK_SCHEME", (IKHOKHA, STANDARD_WEBHOOKS), IKHOKHA),
        webhook_tolerance_s=reader.whole("WEBHOOK_TOLERANCE", 1, 86_400, "300"),
    )
    if config.webhook_scheme == STANDARD_WEBHOOKS and config.webhook_secret:
        try:
            standard.keys(config.webhook_secret)
        except ValueError as error:
            reader.mistakes.append(f"VITE_IKHOKHA_WEBHOOK_SECRET: {error}")
    if (config.tls_cert is None) != (config.tls_key is None):
        reader.mistakes.append("TLS_CERT and TLS_KEY: one is set without the other; set both or neither")
    if config.node_env == "production" and config.test_mode:
        reader.mistakes.append("Test mode must be disabled in production: set VITE_IKHOKHA_TEST_MODE=false")
    if reader.mistakes:
        raise ConfigInvalid(reader.mistakes)
    return config


def read_courses(path: Path) -> Mapping[str, Course]:
    """The catalogue of this release, by id. Raises ConfigInvalid."""
    try:
        courses = [Course(**row) for row in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigInvalid([f"{path.name}: cannot be read as a catalogue ({type(error).__name__})"]) from error
    if any(type(course.cents) is not int or course.cents < 1 for course in courses):
        raise ConfigInvalid([f"{path.name}: a price that is not a whole number of cents above 0"])
    return {course.id: course for course in courses}


def _is_https(address: str) -> bool:
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    return parts.scheme == "https" and named and not (parts.query or parts.fragment)


class _Reader:
    """Takes variables and collects mistakes. What it returns for a mistake is never used."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.mistakes: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        value = self._env.get(name, "").strip() or default  # pasted keys carry white space
        if not value:
            self.mistakes.append(f"{name}: not set; set it in the environment of the service's process")
        return value

    def key(self, name: str) -> str:
        """A credential. Its value is never part of a mistake."""
        value = self.text(name)
        if not (value.isascii() and value.isprintable()):
            self.mistakes.append(f"{name}: has characters that no credential has; printable ASCII is allowed")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...], default: str = "") -> str:
        value = self.text(name, default)
        if value and value not in allowed:
            self.mistakes.append(f"{name}: found {value[:40]!r}; allowed is {', '.join(allowed)}")
        return value

    def https(self, name: str) -> str:
        value = self.text(name).rstrip("/")
        if value and not _is_https(value):
            self.mistakes.append(f"{name}: found {value[:80]!r}; an https address is allowed")
        return value

    def whole(self, name: str, least: int, most: int, default: str = "") -> int:
        value = self.text(name, default)
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            if value:
                self.mistakes.append(f"{name}: found {value[:40]!r}; a whole number from {least} to {most} is allowed")
            return least
        return int(value)

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        found = []
        for text in self._env.get(name, "").replace(",", " ").split():
            try:
                found.append(ip_network(text))
            except ValueError:
                self.mistakes.append(f"{name}: found {text[:40]!r}; addresses and networks are allowed")
        return tuple(found)

    def file(self, name: str) -> str | None:
        value = self._env.get(name, "").strip() or None
        if value is not None and not Path(value).is_file():
            self.mistakes.append(f"{name}: there is no file {value}")
        return value
