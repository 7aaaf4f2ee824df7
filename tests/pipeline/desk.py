"""A desk at which people sign: a git repository with a list of signers, and keys made for the test."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import attesting, ssh_signatures
from pipeline.attestations import Item, Record, Shelf
from pipeline.ssh_signatures import NAMESPACE, Key, read_key

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of openssh-client")

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
THANDI, SIPHO = "thandi@example.com", "sipho@example.com"
DAY = 86_400.0
ITEM = Item("pci-dss", "sign-off", "The questionnaire is filled in", 90 * DAY)


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=T", "-c", f"user.email={THANDI}", *args], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_key(folder: Path, name: str, passphrase: str = "") -> Key:
    file = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", file], check=True)
    return read_key(file)


def signers(keys: Mapping[str, Key], options: str = f'namespaces="{NAMESPACE}"') -> str:
    return "".join(f"{who} {options} {key.line}\n" for who, key in keys.items())


@dataclass(frozen=True)
class Desk:
    """`root` is a checkout whose first commit allows Thandi's key."""

    root: Path
    thandi: Key
    sipho: Key

    def shelf(self, now: datetime = NOW, **changed: Any) -> Shelf:
        return replace(Shelf(self.root, "shop", "production", "ab" * 32, now), **changed)

    def commit(self, message: str = "more") -> str:
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "--allow-empty", "-m", message)
        return git(self.root, "rev-parse", "HEAD")

    def allow(self, text: str) -> None:
        (self.root / "attestations").mkdir(exist_ok=True)
        (self.root / "attestations" / "allowed_signers").write_text(text, "utf-8")
        self.commit("signers")

    def write(self, item: Item = ITEM, key: Key | None = None, shelf: Shelf | None = None, **changed: Any) -> Record:
        """Signs for an item, whatever would speak against it, and puts both files in place."""
        shelf = shelf or self.shelf()
        made = attesting.record(
            shelf,
            item,
            by=changed.pop("by", THANDI),
            revision=changed.pop("revision", git(self.root, "rev-parse", "HEAD")),
            shown=attesting.evidence(self.root, changed.pop("evidence", "seen on Monday")),
            lasts=changed.pop("lasts", item.valid_for),
        ).model_copy(update=changed)
        attesting.keep(shelf, made, ssh_signatures.sign(made.as_bytes(), key or self.thandi, typing=False))
        return made


def desk(root: Path, keys: Sequence[Key]) -> Desk:
    git(root, "init", "-q", "-b", "main")
    made = Desk(root, *keys)
    made.allow(signers({THANDI: made.thandi}))
    return made


def wait(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
