"""Signatures of people, made and verified by OpenSSH's own `ssh-keygen -Y`; nothing of the cryptography is ours."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pipeline import command
from pipeline.contracts import Completed
from pipeline.errors import CommandFailed, Refused
from pipeline.secrets import Redactor

NAMESPACE = "tollgate-attestation"
"""A signature for another purpose (a commit, a file) is none here."""

_LIMIT_S = 15.0
_TYPING_LIMIT_S = 180.0
_PUBLIC_KEY = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+ ([A-Za-z0-9+/]+=*)(?: .*)?")


class Judged(StrEnum):
    GENUINE = "genuine"
    FOREIGN = "foreign"
    """By a key that is not, or no longer, in the list of signers, or by another person's."""
    ALTERED = "altered"
    """By a listed key, but not over these bytes for this purpose."""
    UNKNOWN = "unknown"
    """It could not be verified here."""


@dataclass(frozen=True)
class Signature:
    judged: Judged
    why: str = ""


async def verify(data: bytes, signature: Path, signers: Path, principal: str, at: datetime) -> Signature:
    """Whether `principal` signed exactly `data`, with a key that the file `signers` allows at the instant `at`."""
    files = ("-s", str(signature), "-f", str(signers))
    when = f"verify-time={at.astimezone(UTC):%Y%m%d%H%M%S}"
    try:
        found = await _ssh_keygen("-Y", "find-principals", "-O", when, *files)
        listed = found.stdout.split() if found.returncode == 0 else []
        if not listed:
            return Signature(Judged.FOREIGN, f"its key is not, or no longer, in {signers.name}")
        checked = await _ssh_keygen("-Y", "verify", "-O", when, "-n", NAMESPACE, "-I", principal, *files, stdin=data)
    except CommandFailed as error:
        return Signature(Judged.UNKNOWN, f"ssh-keygen did not verify it: {error}")
    if checked.returncode == 0:
        return Signature(Judged.GENUINE)
    if principal not in listed and not any(set("*?!") & set(one) for one in listed):
        return Signature(Judged.FOREIGN, f"its key is {listed[0]}'s, and the record says {principal}")
    return Signature(Judged.ALTERED, "the signature is not over these bytes, or not for this purpose")


async def _ssh_keygen(*args: str, stdin: bytes = b"") -> Completed:
    """OpenSSH reads `verify-time` in the local zone; older versions know no other, so the zone is made UTC."""
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    return await command.run(
        ("ssh-keygen", *args), timeout=_LIMIT_S, redactor=Redactor([]), env=environment, stdin=stdin
    )


# ---- signing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """A person's key. `file` is the private key, or a public one whose private half an agent holds."""

    file: Path
    public: str

    @property
    def blob(self) -> str:
        """The base64 of the public key: what `allowed_signers` lists."""
        found = _PUBLIC_KEY.fullmatch(self.public)
        return found[1] if found else ""

    @property
    def line(self) -> str:
        """The public key without its comment."""
        return " ".join(self.public.split()[:2])


def read_key(file: Path) -> Key:
    """The key in `file`. Raises Refused when there is none, or when its public half cannot be told."""
    if not file.is_file():
        raise Refused(f"there is no key {file}", "Name one with --key, or make one: ssh-keygen -t ed25519")
    beside = file if file.suffix == ".pub" else file.with_name(file.name + ".pub")
    if beside.is_file():
        text = beside.read_bytes()[:65_536].decode("utf-8", "replace").strip()
    else:
        text = _spoken(["ssh-keygen", "-y", "-P", "", "-f", str(file)]).stdout.decode("utf-8", "replace").strip()
    key = Key(file, text)
    if not key.blob:
        raise Refused(
            f"the public half of {file} cannot be read",
            f"Write it beside the key: ssh-keygen -y -f {file} > {beside}",
        )
    return key


def sign(data: bytes, key: Key, *, typing: bool) -> bytes:
    """The signature over `data` as OpenSSH armours it.

    `typing`: somebody is at the keyboard, and ssh-keygen may ask for a passphrase. Raises Refused when it cannot sign.
    """
    done = _spoken(["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key.file)], data, typing=typing)
    if done.returncode == 0 and done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        return done.stdout
    said = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
    if "passphrase" in " ".join(said) and not typing:
        raise Refused(
            f"the key {key.file} has a passphrase, and nobody is at the keyboard to type it",
            "Load it into an agent first (ssh-add), or run the command in a terminal.",
        )
    raise Refused(
        f"the key {key.file} did not sign: {said[-1] if said else 'see what ssh-keygen said'}",
        "Try it by hand: ssh-keygen -Y sign -n test -f KEY, or load the key with ssh-add.",
    )


def _spoken(argv: Sequence[str], stdin: bytes = b"", *, typing: bool = False) -> subprocess.CompletedProcess[bytes]:
    """Runs ssh-keygen. Only while somebody is typing does it share our terminal, through which it asks."""
    environment = {**os.environ, "LC_ALL": "C", **({} if typing else {"SSH_ASKPASS_REQUIRE": "never"})}
    limit = _TYPING_LIMIT_S if typing else _LIMIT_S
    try:
        return subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=None if typing else subprocess.PIPE,
            env=environment,
            timeout=limit,
            check=False,
            start_new_session=not typing,
        )
    except FileNotFoundError:
        raise Refused("there is no ssh-keygen on this machine", "Install openssh-client.") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"ssh-keygen did not end within {limit:g} s", "See what it waits for, then try again.") from None


def principals(signers: str, key: Key) -> tuple[str, ...]:
    """Whom a text in OpenSSH's allowed-signers format lists with this key; patterns as they stand there. Total."""
    found: list[str] = []
    for line in signers.splitlines():
        words = line.split()
        if len(words) >= 3 and not line.lstrip().startswith("#") and key.blob in words[1:]:
            found += words[0].strip('"').split(",")
    return tuple(dict.fromkeys(one for one in found if one))


async def trial(data: bytes, signature: bytes, signers: Path, principal: str, at: datetime) -> Signature:
    """`verify` for a signature that is not in a file yet."""
    with tempfile.TemporaryDirectory(prefix="tollgate-") as folder:
        file = Path(folder) / "signature"
        await asyncio.to_thread(file.write_bytes, signature)
        return await verify(data, file, signers, principal, at)
